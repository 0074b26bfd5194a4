"""Thresholds: read from settings, handed to TFMA, explained in sentences."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from components.model import metrics, thresholds
from components.model.slices import OVERALL, Slice
from components.model.thresholds import BOUNDS, Threshold

COMPUTED, _ = metrics.parse(metrics.DEFAULT)
HOUR = Slice(("trip_start_hour",))
NUMBERS = st.floats(min_value=-1e6, max_value=1e6, allow_nan=False)


def test_bounds_are_for_all_examples_and_for_the_slices_named() -> None:
    found, added, problems = thresholds.parse(
        {
            "auc": {
                "min": 0.7,
                "min_change": -0.01,
                "slices": [{"slice": ["trip_start_hour"], "min": 0.6, "max_relative_change": 1}],
            },
            "BinaryAccuracy": {"max": 1},
        },
        COMPUTED,
    )

    assert problems == []
    assert added == []
    assert found == [
        Threshold("auc", "min", 0.7, OVERALL),
        Threshold("auc", "min_change", -0.01, OVERALL),
        Threshold("auc", "min", 0.6, HOUR),
        Threshold("auc", "max_relative_change", 1.0, HOUR),
        Threshold("binary_accuracy", "max", 1.0, OVERALL),
    ]
    assert [threshold.compares for threshold in found] == [False, True, False, True, False]


def test_a_metric_that_only_a_threshold_names_is_computed_too() -> None:
    found, added, problems = thresholds.parse(
        {"MeanPrediction": {"max": 0.5}, "mean_prediction": {"min": 0.1}}, COMPUTED
    )

    assert problems == []
    assert [metric.class_name for metric in added] == ["MeanPrediction"]
    assert {threshold.metric for threshold in found} == {"mean_prediction"}


def test_a_metric_of_a_name_of_its_own_goes_by_that_name() -> None:
    computed, _ = metrics.parse(["AUC", {"name": "AUC", "config": {"name": "auc_pr", "curve": "PR"}}])

    found, _, problems = thresholds.parse({"AUC_PR": {"min": 0.5}}, computed)

    assert problems == []
    assert found[0].metric == "auc_pr"


def test_a_metric_of_one_output_is_called_as_results_call_it() -> None:
    computed, _ = metrics.parse(["AUC", {"name": "BinaryAccuracy", "output_names": ["sold"]}])
    limit = {"min": 0.5}

    found, added, problems = thresholds.parse(
        {"auc": limit, "AUC (sold)": limit, "binary_accuracy (price)": limit, "recall (sold)": limit},
        computed,
        ("price", "sold"),
    )

    assert problems == []
    assert [one.metric for one in found] == ["auc", "auc (sold)", "binary_accuracy (price)", "recall (sold)"]
    assert [(one.class_name, one.outputs) for one in added] == [("BinaryAccuracy", ("price",)), ("Recall", ("sold",))]


def test_an_output_without_a_label_is_told_with_the_nearest() -> None:
    _, _, problems = thresholds.parse({"auc (sould)": {"min": 0.5}}, COMPUTED, ("price", "sold"))

    assert problems == [
        "thresholds.auc (sould): no output 'sould' has a label. Did you mean 'sold'? There are price, sold"
    ]


@pytest.mark.parametrize(
    ("setting", "problem"),
    [
        (
            {"acu": {"min": 1}},
            "thresholds.acu: neither a metric of this step nor one that TFMA or Keras has. Did you mean 'auc'?",
        ),
        ({"auc": {"mim": 0.7}}, "thresholds.auc.mim: no such bound. Did you mean 'min'?"),
        ({"auc": {"min": "high"}}, "thresholds.auc.min: 'high' is not a finite number"),
        ({"auc": {"min": True}}, "thresholds.auc.min: True is not a finite number"),
        ({"auc": {"min": math.nan}}, "thresholds.auc.min: nan is not a finite number"),
        ({"auc": 0.7}, "thresholds.auc: 0.7 is not a mapping of bounds"),
        ({"auc": {}}, "thresholds.auc: sets no bound"),
        ({"auc": {"min": 0.9, "max": 0.7}}, "thresholds.auc: min 0.9 is above max 0.7"),
        ({"auc": {"slices": 3}}, "thresholds.auc.slices: 3 is not a list"),
        ({"auc": {"slices": [{"min": 0.6}]}}, "thresholds.auc.slices.0: {'min': 0.6} does not say which slice"),
        ({"auc": {"slices": [{"slice": ["hour"]}]}}, "thresholds.auc.slices.0: sets no bound"),
        ({"auc": {"slices": [{"slice": "hour", "min": 0.6}]}}, "thresholds.auc.slices.0.slice: 'hour' is not a list"),
    ],
)
def test_what_is_no_threshold_is_refused_with_its_place(setting: Any, problem: str) -> None:
    _, _, problems = thresholds.parse(setting, COMPUTED)

    assert len(problems) == 1
    assert problems[0].startswith(problem)


def test_every_mistake_is_reported() -> None:
    _, _, problems = thresholds.parse({"acu": {"min": 1}, "auc": {"mim": 1, "max": "x"}}, COMPUTED)

    assert len(problems) == 3


@given(st.sampled_from(BOUNDS), NUMBERS, NUMBERS, NUMBERS)
def test_tfma_holds_a_threshold_exactly_when_the_bound_is_kept(
    bound: str, limit: float, value: float, baseline: float
) -> None:
    import tensorflow_model_analysis as tfma
    from google.protobuf import json_format
    from tensorflow_model_analysis.evaluators import metrics_validator
    from tensorflow_model_analysis.metrics import metric_types

    assume("relative" not in bound or not math.isclose(baseline, 0.0))
    config = json_format.ParseDict(
        {
            "modelSpecs": [{"name": "candidate"}, {"name": "baseline", "isBaseline": True}],
            "metricsSpecs": [
                {
                    "modelNames": ["candidate", "baseline"],
                    "metrics": [
                        {
                            **metrics.Metric("AUC", "auc").to_json(),
                            "perSliceThresholds": [Threshold("auc", bound, limit).to_json()],
                        }
                    ],
                }
            ],
        },
        tfma.EvalConfig(),
    )
    change = value - baseline
    key = metric_types.MetricKey("auc", model_name="candidate")
    computed = {key: value, key.make_diff_key(): change, metric_types.MetricKey("auc", model_name="baseline"): baseline}

    verdict = metrics_validator.validate_metrics(((), computed), config)

    judged = {"": value, "_change": change, "_relative_change": change / baseline if baseline else math.nan}[bound[3:]]
    kept = judged >= limit if bound.startswith("min") else judged <= limit
    assert verdict.validation_ok == kept


def test_a_missed_threshold_is_told_in_one_sentence() -> None:
    assert (
        thresholds.sentence(
            Threshold("auc", "min", 0.7, HOUR), slice_name="trip_start_hour:3", examples=214, value=0.61
        )
        == "auc 0.61 on trip_start_hour:3 (214 examples) is below 0.7"
    )
    assert (
        thresholds.sentence(Threshold("loss", "max", 0.5), slice_name="overall", examples=5004, value=0.512345)
        == "loss 0.5123 overall (5,004 examples) is above 0.5"
    )


def test_a_missed_change_is_told_with_both_values() -> None:
    told = {"slice_name": "overall", "examples": 98, "value": 0.61, "change": -0.05, "baseline": 0.66}

    assert (
        thresholds.sentence(Threshold("auc", "min_change", -0.01), **told)  # type: ignore[arg-type]
        == "auc 0.61 overall (98 examples) changed by -0.05 from the baseline's 0.66; the least allowed is -0.01"
    )
    assert (
        thresholds.sentence(Threshold("auc", "min_relative_change", -0.02), **told)  # type: ignore[arg-type]
        == "auc 0.61 overall (98 examples) changed by -7.576 % from the baseline's 0.66; the least allowed is -2 %"
    )
    assert thresholds.sentence(Threshold("loss", "max_change", 0.0), **(told | {"change": 0.25})).endswith(  # type: ignore[arg-type]
        "changed by +0.25 from the baseline's 0.66; the most allowed is 0"
    )


def test_a_value_that_does_not_exist_is_said_to_be_missing() -> None:
    limit = Threshold("auc", "min", 0.7)

    assert thresholds.sentence(limit, slice_name="hour:3", examples=1, value=math.nan).startswith(
        "auc is not a number on hour:3 (1 example), so min 0.7 is not kept"
    )
    assert thresholds.sentence(limit, slice_name="hour:3", examples=0, value=None).startswith("auc was not computed on")


def test_a_relative_change_from_zero_suggests_the_absolute_one() -> None:
    text = thresholds.sentence(
        Threshold("auc", "min_relative_change", 0.1),
        slice_name="overall",
        examples=3,
        value=0.5,
        change=0.5,
        baseline=0.0,
    )

    assert text.endswith("cannot be compared with the baseline's 0 by a fraction of it; use min_change")


@given(st.sampled_from(["min", "max"]), NUMBERS, NUMBERS)
def test_the_numbers_in_a_sentence_show_that_the_bound_is_missed(bound: str, limit: float, value: float) -> None:
    assume(value < limit if bound == "min" else value > limit)

    text = thresholds.sentence(Threshold("auc", bound, limit), slice_name="overall", examples=10, value=value)

    found = re.fullmatch(r"auc (\S+) overall \(10 examples\) is (?:below|above) (\S+)", text)
    assert found is not None
    shown, against = map(float, found.groups())
    assert shown < against if bound == "min" else shown > against
