"""`pipeline why`: what a directory says of the model in it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from schemas.passport import Passport

Command = Callable[..., Any]


@pytest.fixture
def told(serving: Path) -> Path:
    """Version 2 with a passport that has everything."""
    Passport(
        pipeline="chicago-taxi",
        run="20261121-1",
        git_commit="c0ffee",
        pushed_at="2026-11-21T12:00:00+00:00",
        version=2,
        model_digest="sha256:candidate",
        files={"saved_model.pb": "00"},
        baseline={"version": 1, "digest": "sha256:before"},
        metrics={"auc": 0.91234, "recall": None},
        slices=({"slice": "hour:3", "examples": 1200, "metrics": {"auc": 0.8, "recall": 0.5}},),
        gates=(
            {"gate": "validator", "blessed": False, "reasons": ["eval: 2 with anomalies"]},
            {
                "gate": "evaluator",
                "blessed": True,
                "reasons": ["auc 0.9123 overall (4,992 examples) is below 0.95"],
                "anyway": {"by": "ada@host", "at": "2026-11-21T11:00:00+00:00", "reason": "the demo"},
                "thresholds": [
                    {"metric": "auc", "slice": "overall", "bound": "min", "limit": 0.95},
                    {"metric": "auc", "slice": "hour", "bound": "min", "limit": 0.6},
                ],
                "not_applied": ["min_change 0 of auc: there is no baseline to compare with"],
            },
            {
                "gate": "infra_validator",
                "blessed": True,
                "reasons": [],
                "server": "pipeline serve",
                "parity": {
                    "absolute": 1e-5,
                    "relative": 1e-4,
                    "compared_with": "the trained Keras model's in process",
                    "signatures": {"serving_default": {"rows": 100, "differ": 0, "largest_difference": 8.94e-8}},
                },
                "latency": {
                    "p50_ms": 0.8123,
                    "p99_ms": 1.25,
                    "requests": 300,
                    "signature": "serving_default",
                    "max_p99_ms": 20.0,
                },
            },
            {
                "gate": "other_server",
                "blessed": True,
                "reasons": [],
                "server": "image",
                "asked": "nothing: no examples",
            },
            {"gate": "size", "blessed": True, "reasons": [], "size_bytes": 1234567, "max_size_mb": 2.0},
        ),
        steps={
            "example_gen": {
                "key": "1" * 64,
                "component": "components.data.example_gen.ExampleGen",
                "settings": {"source": "trips.csv", "columns": None},
                "files": [{"path": "trips.csv", "digest": "sha256:trips", "bytes": 2048}],
                "outputs": {"examples": {"type": "Examples", "properties": {"records": {"train": 2000, "eval": 1000}}}},
            },
            "tuner": {
                "key": "2" * 64,
                "component": "components.model.tuner.Tuner",
                "code": {"my.model": {"file": "my/model.py", "digest": "3" * 64}},
                "outputs": {"hyperparameters": {"type": "HyperParameters", "properties": {"values": {"units": 16}}}},
            },
        },
        libraries={"tensorflow": "2.16.2"},
        warmup_requests=20,
        rollback={"to": 1, "from": 3, "by": "ada@host", "withdrawn": ["sha256:bad"]},
    ).write(serving / "2")
    return serving


def test_answers_each_question_from_the_directory_alone(command: Command, told: Path) -> None:
    said = command("why", str(told))

    assert said.code == 0
    expected = f"""\
{told / "2"}
pushed      2026-11-21T12:00:00+00:00, version 2
            a rollback by ada@host from version 3 to 1, whose passport this is
            made by run 20261121-1 of chicago-taxi
            model sha256:candidate, files: 1, warm-up requests: 20
blessed     validator: no, and the run went on
              against it: eval: 2 with anomalies
            evaluator: anyway, by ada@host on 2026-11-21T11:00:00+00:00: the demo
              against it: auc 0.9123 overall (4,992 examples) is below 0.95
              auc 0.9123: min 0.95
              auc on hour: min 0.6
              not applied: min_change 0 of auc: there is no baseline to compare with
            infra_validator: yes
              asked pipeline serve
              parity of serving_default on 100 rows: at most 8.94e-08 from the trained Keras model's in process \
(absolute 1e-05 + relative 0.0001)
              latency p50 0.812 ms, p99 1.25 ms (at most 20), of 300 one-row requests of serving_default
            other_server: yes
              asked image: nothing: no examples
            size: yes
              size 1,234,567 bytes, at most 2 MB
            compared with version 1 (sha256:before)
metrics     auc 0.9123, recall None
            slice   examples  auc
            hour:3  1,200     0.8
data        example_gen: trips.csv, 2,048 bytes, sha256:trips
              train 2,000, eval 1,000 examples
code        git c0ffee
            example_gen: components.data.example_gen.ExampleGen, key 111111111111
            tuner: components.model.tuner.Tuner, key 222222222222
              my/model.py, 333333333333
settings    example_gen: source trips.csv
            tuner:
              hyperparameters: units 16
libraries   tensorflow 2.16.2
"""
    assert said.out == expected


def test_gives_the_whole_passport_as_data(command: Command, told: Path) -> None:
    said = command("why", str(told / "2"), "--json")

    assert (said.code, said.data["outcome"], said.data["path"]) == (0, "found", str(told / "2"))
    assert said.data["passport"]["slices"] == [
        {"slice": "hour:3", "examples": 1200, "metrics": {"auc": 0.8, "recall": 0.5}}
    ]
    assert said.data["passport"]["rollback"]["withdrawn"] == ["sha256:bad"]


def test_says_which_spans_the_model_was_trained_on(command: Command, serving: Path) -> None:
    spans = [{"span": n, "version": None, "label": str(n), "shards": [n, n + 1]} for n in (35, 36, 37, 40)]
    examples = {"type": "Examples", "properties": {"records": {"train": 10001, "eval": 5001}, "spans": spans}}
    step = {
        "key": "1" * 64,
        "component": "components.data.example_gen.ExampleGen",
        "files": [
            {"path": "d/35/a.csv", "digest": "sha256:a", "bytes": 12, "span": 35, "version": None, "label": "35"},
            {"path": "d/40/b.csv", "digest": "sha256:b", "bytes": 12, "span": 40, "version": 2, "label": "40"},
        ],
        "outputs": {"examples": examples},
    }
    Passport(
        pipeline="", run="", pushed_at="", version=2, model_digest="", files={}, steps={"example_gen": step}
    ).write(serving / "2")

    lines = command("why", str(serving)).out.splitlines()

    begin = lines.index("data        spans 35 to 37, 40, 15,002 records")
    assert lines[begin + 1 : begin + 3] == [
        "            example_gen: d/35/a.csv, span 35, 12 bytes, sha256:a",
        "            example_gen: d/40/b.csv, span 40 version 2, 12 bytes, sha256:b",
    ]


def test_says_how_far_the_data_was_from_what_it_had_been(command: Command, serving: Path) -> None:
    distances = [
        {"split": "train", "feature": name, "against": "served", "measure": "infinity_norm", "value": value, "threshold": 0.1,
         "over": value > 0.1}
        for name, value in (("fare", 0.02), ("payment", 0.4))
    ]  # fmt: skip
    drift = {
        "on_drift": "retrain", "newest_span": "41", "served_version": 1, "distances": distances,
        "over": ["train: payment: L-infinity distance 0.4 is above 0.1"], "notes": ["eval: version 1 keeps no statistics"],
    }  # fmt: skip
    gate = {"gate": "validator", "blessed": True, "reasons": [], "drift": drift}
    Passport(pipeline="", run="", pushed_at="", version=2, model_digest="", files={}, gates=(gate,)).write(
        serving / "2"
    )

    lines = command("why", str(serving)).out.splitlines()

    begin = lines.index("blessed     validator: yes")
    assert [line.strip() for line in lines[begin + 1 : begin + 4]] == [
        "drift: 1 of 2 distances within their thresholds",
        "drifted: train: payment: L-infinity distance 0.4 is above 0.1",
        "not compared: eval: version 1 keeps no statistics",
    ]


def test_of_many_slices_the_text_shows_the_first(command: Command, serving: Path) -> None:
    slices = tuple({"slice": f"hour:{n}", "examples": n, "metrics": {"auc": None}} for n in range(30))
    Passport(
        pipeline="", run="", pushed_at="", version=2, model_digest="", files={}, slices=slices, metrics={"auc": 1.0}
    ).write(serving / "2")

    lines = command("why", str(serving)).out.splitlines()

    assert sum("hour:" in line for line in lines) == 20
    assert "            and 10 more slices, with --json" in lines


def test_what_another_tool_pushed_says_nothing_of_itself(command: Command, serving: Path) -> None:
    (serving / "3").mkdir()
    (serving / "3" / "saved_model.pb").touch()

    said = command("why", str(serving))

    assert said.code == 2
    assert "another tool pushed it" in said.err
