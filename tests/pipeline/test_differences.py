"""What differs between two values of a setting is shown whole where that is short, and else named by its place."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pipeline.differences import changed_values

SLICES = [{"feature_keys": ["trip_start_hour"]}, {"feature_keys": ["company"]}]


def config(least: float, *slices: dict[str, Any], **options: Any) -> str:
    """An EvalConfig as TFX's Evaluator keeps it."""
    threshold = {"value_threshold": {"lower_bound": least}}
    metric = {"class_name": "AUC", "config": json.dumps(options), "threshold": threshold}
    return json.dumps({"slicing_specs": list(slices or SLICES), "metrics_specs": [{"metrics": [metric]}]})


def test_a_short_value_is_shown_whole() -> None:
    assert changed_values({"steps": 10, "slices": [[]]}, {"steps": 20, "slices": [["hour"]], "seed": 1}) == [
        "seed none -> 1",
        "slices [[]] -> [['hour']]",
        "steps 10 -> 20",
    ]


@pytest.mark.parametrize(
    ("now", "said"),
    [
        (config(0.7), ["eval_config.metrics_specs[0].metrics[0].threshold.value_threshold.lower_bound 0.6 -> 0.7"]),
        (config(0.6, *SLICES[:1]), ["eval_config.slicing_specs[1] is gone"]),
        (config(0.6, *SLICES, {}), ["eval_config.slicing_specs[2] is new: {}"]),
        (config(0.6, num_thresholds=7), ["eval_config.metrics_specs[0].metrics[0].config.num_thresholds is new: 7"]),
    ],
)
def test_a_place_inside_of_a_message_that_is_kept_as_JSON_is_named(now: str, said: list[str]) -> None:
    assert changed_values({"eval_config": config(0.6)}, {"eval_config": now}) == said


def test_many_places_are_counted() -> None:
    before = {"thresholds": {f"metric_{at}": {"min": 0.5} for at in range(6)}}
    now = {"thresholds": {f"metric_{at}": {"min": 0.6} for at in range(6)}}

    assert changed_values(before, now) == [
        *(f"thresholds.metric_{at}.min 0.5 -> 0.6" for at in range(3)),
        "thresholds in 3 more places",
    ]


def test_of_long_texts_that_begin_alike_the_part_that_differs_is_shown() -> None:
    begins = "/a/very/long/path/to/where/all/the/data/lies/"

    (said,) = changed_values({"input_base": f"{begins}one"}, {"input_base": f"{begins}two"})

    assert said == "input_base ...e/all/the/data/lies/one -> ...e/all/the/data/lies/two"
