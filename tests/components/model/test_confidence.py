"""Confidence intervals: what they are, who computes them, and what thresholds make of them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from components.io import tfrecord
from components.model import verdict
from components.model.evaluator import Evaluator
from components.model.jackknife import BUCKETS, dealer
from components.model.thresholds import Threshold
from components.model.verdict import Interval, Number, Results
from schemas.artifacts import Blessing, Evaluation, Examples, Model
from schemas.component import Baseline, BeamOptions, Progress
from schemas.errors import ConfigError


def evaluate(
    directory: Path, examples: Examples, model: Model, baseline: Model | None = None, **settings: Any
) -> tuple[Evaluation, Blessing]:
    evaluation, blessing = Evaluation(directory / "evaluation"), Blessing(directory / "blessing")
    for artifact in (evaluation, blessing):
        artifact.path.mkdir(parents=True)
    served = Baseline(baseline.serving, "sha256:served", 7) if baseline else Baseline()
    settings = {"label": "big_tip", "metrics": ("AUC", "MeanLabel", "BinaryCrossentropy"), **settings}
    Evaluator(**settings).run(examples, model, served, BeamOptions(), Progress(), evaluation, blessing)
    return evaluation, blessing


def written(evaluation: Evaluation, candidate: str = "") -> Results:
    return Results.read(evaluation.path, candidate=candidate)


@pytest.fixture(scope="module")
def compared(
    trips: Examples, good: Model, poor: Model, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Evaluation, Blessing]:
    """A poor model against a good one, with intervals from sums and thresholds on whole intervals."""
    return evaluate(
        tmp_path_factory.mktemp("compared"),
        trips,
        poor,
        good,
        confidence_intervals="jackknife",
        slices=((), ("company",)),
        thresholds={
            "auc": {"min": 0.4, "min_change": -0.9, "confidence": 0.95, "slices": [{"slice": [], "min": 0.9}]},
            "binary_crossentropy": {
                "max": 0.9,
                "slices": [{"slice": ["company"], "max": 9, "confidence": 0.9}],
            },
            "mean_label": {"min": 0.12, "confidence": 0.999},
        },
    )


def labels(trips: Examples, model: Model) -> list[Any]:
    """The labels of each shard."""
    import tensorflow as tf

    from components.io import tfrecord

    transform = tf.saved_model.load(str(model.serving)).signatures["transform_features"]
    shards = [tf.constant(list(tfrecord.read(file))) for file in trips.files("eval")]
    return [transform(examples=records)["big_tip"].numpy().ravel() for records in shards]


def test_an_interval_is_that_of_the_jackknife_over_the_buckets(
    compared: tuple[Evaluation, Blessing], trips: Examples, good: Model
) -> None:
    import numpy as np
    from scipy import stats

    values = labels(trips, good)
    buckets = np.concatenate([dealer(part)(len(of_shard)) for part, of_shard in enumerate(values)])
    every = np.concatenate(values)
    without = np.array([every[buckets != bucket].mean() for bucket in range(BUCKETS)])
    pseudo = BUCKETS * every.mean() - (BUCKETS - 1) * without
    error = pseudo.std(ddof=1) / math.sqrt(BUCKETS)
    reach = stats.t.ppf(0.975, BUCKETS - 1) * error

    number = written(compared[0], "candidate").number((), "candidate", "mean_label")

    assert number is not None
    assert number.value == pytest.approx(every.mean())
    assert number.interval == Interval(
        pytest.approx(without.mean() - reach), pytest.approx(without.mean() + reach), pytest.approx(error), BUCKETS - 1
    )
    assert error == pytest.approx(math.sqrt(every.mean() * (1 - every.mean()) / len(every)), rel=0.5)


def test_intervals_are_in_the_properties_and_the_description(compared: tuple[Evaluation, Blessing]) -> None:
    evaluation, _ = compared
    low, high = evaluation.properties["intervals"]["auc"]

    assert evaluation.properties["computed_by"] == "sums over batches"
    assert low < evaluation.properties["metrics"]["auc"] < high
    assert f"auc {evaluation.properties['metrics']['auc']:.4g} [{low:.4g}, {high:.4g}]" in evaluation.describe()
    assert "example_count" not in evaluation.properties["intervals"]


def test_a_bound_with_confidence_is_about_the_whole_interval(compared: tuple[Evaluation, Blessing]) -> None:
    evaluation, blessing = compared
    results = written(evaluation, "candidate")
    auc = results.number((), "candidate", "auc")
    assert auc is not None
    assert auc.interval is not None
    mean = results.number((), "candidate", "mean_label")
    assert mean is not None
    assert mean.interval is not None
    low, high = mean.interval.at(0.999)

    reasons = blessing.reasons

    # TFMA's verdict on the values first, then what is kept, but not surely enough.
    assert reasons[0] == (
        f"auc {auc.value:.4g} [{auc.interval.low:.4g}, {auc.interval.high:.4g}] overall (300 examples) is below 0.9"
    )
    assert reasons[1] == (
        f"mean_label {mean.value:.4g} overall (300 examples) keeps min 0.12, but not surely enough: its 99.9 % confidence "
        f"interval [{low:.4g}, {high:.4g}] reaches {low:.4g}, below the bound"
    )
    assert reasons[2].startswith("binary_crossentropy ")
    assert "has no confidence interval, so max 9 is not kept with confidence: too few examples?" in reasons[2]
    assert not any("min_change" in reason or "min 0.4" in reason for reason in reasons)
    assert {"metric": "mean_label", "slice": "overall", "bound": "min", "limit": 0.12, "confidence": 0.999} in (
        blessing.properties["thresholds"]
    )


def test_a_slice_of_few_examples_has_no_interval(compared: tuple[Evaluation, Blessing]) -> None:
    results = written(compared[0], "candidate")
    few = min(results.values, key=lambda key: results.examples(key) or 0)

    assert results.examples(few) == 1
    assert results.number(few, "candidate", "mean_label") is not None
    assert results.number(few, "candidate", "mean_label").interval is None  # type: ignore[union-attr]


def test_the_values_are_those_without_intervals(
    compared: tuple[Evaluation, Blessing], trips: Examples, good: Model, poor: Model, tmp_path: Path
) -> None:
    plain, _ = evaluate(tmp_path, trips, poor, good, slices=((), ("company",)))

    expected = written(plain, "candidate").values
    found = written(compared[0], "candidate").values
    assert found.keys() == expected.keys()
    for key, numbers in expected.items():
        assert {name: number.value for name, number in found[key].items()} == pytest.approx(
            {name: number.value for name, number in numbers.items()}, nan_ok=True
        )


@pytest.mark.slow
@pytest.mark.parametrize("method", ["jackknife", "poisson_bootstrap"])
def test_tfmas_own_intervals_are_about_as_wide(method: str, trips: Examples, good: Model, tmp_path: Path) -> None:
    import tensorflow_model_analysis as tfma

    # A plot sends the jackknife through TFMA's pipeline as well.
    theirs, _ = evaluate(
        tmp_path / "theirs", trips, good, confidence_intervals=method, metrics=("MeanLabel", "CalibrationPlot")
    )
    ours, _ = evaluate(tmp_path / "ours", trips, good, confidence_intervals="jackknife", metrics=("MeanLabel",))

    assert theirs.properties["computed_by"].startswith("TFMA's pipeline")
    assert ours.properties["metrics"]["mean_label"] == pytest.approx(theirs.properties["metrics"]["mean_label"])
    for which in (0, 1):  # by chance on both sides: of twenty values a standard deviation is known to about a sixth
        at = ours.properties["metrics"]["mean_label"]
        reach = abs(ours.properties["intervals"]["mean_label"][which] - at)
        assert abs(theirs.properties["intervals"]["mean_label"][which] - at) == pytest.approx(reach, rel=1.0)
    method_of = tfma.load_eval_result(str(theirs.path)).config.options.confidence_intervals.method
    assert tfma.ConfidenceIntervalOptions.ConfidenceIntervalMethod.Name(method_of) == method.upper()


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        (
            {"thresholds": {"auc": {"min": 0.5, "confidence": 0.9}}},
            "thresholds: 'confidence' needs confidence intervals. Set confidence_intervals: jackknife as well",
        ),
        ({"confidence_intervals": "bootstrap"}, "confidence_intervals: 'bootstrap' is none of jackknife"),
        (
            {"confidence_intervals": "jackknife", "thresholds": {"auc": {"min": 0.5, "confidence": 95}}},
            "thresholds.auc.confidence: 95 is not between 0 and 1",
        ),
        (
            {
                "confidence_intervals": "jackknife",
                "thresholds": {"auc": {"min_relative_change": 0, "confidence": 0.9}},
            },
            "thresholds.auc.min_relative_change: a relative change has no confidence interval. Bound min_change",
        ),
    ],
)
def test_a_wrong_setting_says_what_to_do(settings: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Evaluator(label="big_tip", **settings)

    assert len(caught.value.problems) == 1
    assert caught.value.problems[0].startswith(problem)


def test_an_interval_at_another_level_has_the_same_middle() -> None:
    interval = Interval(0.4, 0.6, standard_error=0.1 / 2.0930240544082634, degrees_of_freedom=19)

    assert interval.at(0.95) == (0.4, 0.6)
    low, high = interval.at(0.5)
    assert (low + high) / 2 == pytest.approx(0.5)
    assert high - low == pytest.approx(2 * 0.6876214629 * 0.1 / 2.0930240544)


def test_confidence_is_asked_of_every_output_and_class(tmp_path: Path) -> None:
    from tensorflow_model_analysis.proto.validation_result_pb2 import ValidationResult

    tfrecord.write(tmp_path / "validations.tfrecord", [ValidationResult(validation_ok=True).SerializeToString()])
    wide, narrow = Interval(0.6, 0.9, 0.08, 19), Interval(0.74, 0.76, 0.005, 19)
    found = {"auc (sold)": wide, "auc (bought)": narrow, "auc (kind, class_id:1)": wide, "auc_of_another": wide}
    results = Results(
        {(): {("", metric, False): Number(0.75, interval) for metric, interval in found.items()}}, candidate=""
    )

    def unsure(metric: str) -> list[str]:
        threshold = Threshold(metric, "min", 0.7, confidence=0.95)
        reasons = verdict.reasons(results, (threshold,), [threshold], tmp_path)
        return [reason.split(" 0.75 ")[0] for reason in reasons]

    assert unsure("auc") == ["auc (kind, class_id:1)", "auc (sold)"]
    assert unsure("auc (sold)") == ["auc (sold)"]
    assert unsure("auc (bought)") == []
