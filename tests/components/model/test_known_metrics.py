"""Metrics from sums over whole batches are TFMA's own, also on awkward examples; what is no sum goes to TFMA."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from components.io import tfrecord
from components.model import known_metrics
from components.model.evaluator import Evaluator
from schemas.artifacts import Blessing, Evaluation, Examples, Model
from schemas.component import Baseline, BeamOptions, Progress

ROWS = 120
NO_SUM = "CosineSimilarity"  # takes the whole evaluation through TFMA's own pipeline
BINARY = (
    *("AUC", "AUCPrecisionRecall", "BinaryAccuracy", "BinaryCrossentropy", "Precision", "Recall", "Calibration"),
    *("MeanLabel", "MeanPrediction", "F1Score", "Specificity", "BalancedAccuracy", "TN", "FalsePositives"),
    *("MatthewsCorrelationCoefficient", "CoefficientOfDiscrimination", "RelativeCoefficientOfDiscrimination"),
    *("Hinge", "SquaredHinge", "MaxRecall", "DiagnosticOddsRatio", "MeanSquaredError"),
    {"name": "AUC", "config": {"name": "coarse_auc", "num_thresholds": 20}},
    {"name": "AUC", "config": {"name": "chosen_auc", "thresholds": [0.1, 0.5, 0.7]}},
    {"name": "Precision", "config": {"name": "sure_precision", "thresholds": 0.9}},
    {"name": "RecallAtPrecision", "config": {"precision": 0.6}},
    {"name": "SensitivityAtSpecificity", "config": {"specificity": 0.5}},
    {"name": "BinaryCrossEntropy", "config": {"name": "entropy_of_logits", "from_logits": True}},
    {"name": "BinaryCrossentropy", "config": {"name": "smoothed", "label_smoothing": 0.1}},
)
REGRESSION = (
    *("MeanSquaredError", "MeanAbsoluteError", "MeanAbsolutePercentageError", "MeanSquaredLogarithmicError"),
    *("SquaredPearsonCorrelation", "LogCoshError", "Poisson", "MeanLabel", "MeanPrediction", "Calibration"),
)
SLICES: tuple[tuple[Any, ...], ...] = (
    (),
    ("word",),  # missing in some, not ASCII or over two lines in some
    ("big",),  # integers that differ where doubles do not
    ("few",),  # none, one or several values, some of them twice
    ("amount",),  # floats
    ("late",),  # in no example of the first batches
    ("few", "word"),
    ("few", {"word": "ja"}),
    ({"few": 2},),  # also computed by ("few",)
    ({"amount": "2.5"},),
    ({"word": "nobody"},),
    ("pair",),  # two values per example, from the model
    ("padded",),  # of varying length, from the model
    ("one_class",),
)


@dataclass(frozen=True)
class Result:
    evaluation: Evaluation
    blessing: Blessing

    @property
    def sums(self) -> bool:
        return bool(self.evaluation.properties["computed_by"] == "sums over batches")


def feature(values: Sequence[Any]) -> Any:
    import tensorflow as tf

    if values and isinstance(values[0], bytes):
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=values))
    if values and isinstance(values[0], float):
        return tf.train.Feature(float_list=tf.train.FloatList(value=values))
    return tf.train.Feature(int64_list=tf.train.Int64List(value=values)) if values else tf.train.Feature()


def write(path: Path, rows: Sequence[Mapping[str, Sequence[Any]]]) -> Examples:
    """One split, `eval`, in four shards: one of them of a single row, one of none."""
    import tensorflow as tf

    examples = Examples(path)
    examples.split_path("eval").mkdir(parents=True)
    for shard, part in enumerate((rows[:80], rows[80:81], [], rows[81:])):
        records = [
            tf.train.Example(
                features=tf.train.Features(feature={name: feature(values) for name, values in row.items()})
            ).SerializeToString(deterministic=True)
            for row in part
        ]
        tfrecord.write(examples.split_path("eval") / f"data_tfrecord-0000{shard}-of-00004.gz", records)
    return examples


def make_rows() -> list[dict[str, Sequence[Any]]]:
    random = np.random.default_rng(5)
    edges = (0.0, 1.0, 0.5, 0.1, 0.7, -0.2, 1.3, 1e-8, 0.9)
    rows: list[dict[str, Sequence[Any]]] = []
    for number in range(ROWS):
        score = edges[number] if number < len(edges) else float(random.random())
        label = float(random.random() < score)
        rows.append(
            {
                "score": [score],
                "label": [label],
                "one_class": [int(label)],
                "seen": [int(random.random() < 0.5)],
                "value": [float(max(score, 0) * 3 + random.random()) if number % 11 else 0.0],
                "word": [[b"ja"], [b'said "no"\nand left'], ["čau".encode()], []][number % 4],
                "big": [2**53 + number % 3],
                "never": [],
                "few": [[1], [2], [1, 2, 2], [], [3, 3]][number % 5],
                "amount": [[0.1], [2.5], [2.0], []][(number // 3) % 4],
                "late": [number % 3] if number > 90 else [],
                "fraction": [0.5 if number == 100 else float(number % 2)],
                "wrong": [math.nan if number == 100 else score],
                "mixed": [number % 2 if number < 81 else number / 4],
                "sparse": [number % 2] if number != 100 else [],
            }
        )
    return rows


def save_model(path: Path, *, scores: str = "score", classes: int = 1, shift: float = 0.0) -> Model:
    """A model that answers with a feature of the example, and gives some features to slice by."""
    import tensorflow as tf

    module = tf.Module()
    module.shift = tf.Variable(shift)
    spec = {
        scores: tf.io.FixedLenFeature([1], tf.float32),
        "few": tf.io.VarLenFeature(tf.int64),
        "word": tf.io.VarLenFeature(tf.string),
    }

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="examples")])
    def serve(examples: Any) -> dict[str, Any]:
        answer = tf.io.parse_example(examples, spec)[scores] + module.shift
        return {"outputs": tf.concat([answer * part for part in range(1, classes + 1)], axis=1)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="examples")])
    def transform_features(examples: Any) -> dict[str, Any]:
        raw = tf.io.parse_example(examples, spec)
        length = tf.strings.length(tf.sparse.to_dense(raw["word"]))[:, :1]
        return {"pair": tf.concat([length, length % 2], axis=1), "padded": raw["few"]}

    model = Model(path)
    tf.saved_model.save(
        module, str(model.serving), signatures={"serving_default": serve, "transform_features": transform_features}
    )
    return model


@pytest.fixture(scope="module")
def awkward(tmp_path_factory: pytest.TempPathFactory) -> Examples:
    return write(tmp_path_factory.mktemp("awkward") / "examples", make_rows())


@pytest.fixture(scope="module")
def echo(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return save_model(tmp_path_factory.mktemp("echo"))


def evaluate(
    directory: Path, evaluator: Evaluator, examples: Examples, model: Model, baseline: Model | None = None
) -> Result:
    result = Result(Evaluation(directory / "evaluation"), Blessing(directory / "blessing"))
    for artifact in (result.evaluation, result.blessing):
        artifact.path.mkdir(parents=True)
    served = Baseline(path=baseline.serving, digest="sha256:x", version=1) if baseline else Baseline()
    evaluator.run(examples, model, served, BeamOptions(), Progress(), result.evaluation, result.blessing)
    return result


def both(
    directory: Path, settings: Mapping[str, Any], examples: Examples, model: Model, baseline: Model | None = None
) -> tuple[Result, Result]:
    """The same evaluation by sums and by TFMA's pipeline."""
    ours = evaluate(directory / "ours", Evaluator(**settings), examples, model, baseline)
    more = {**settings, "metrics": (*settings["metrics"], NO_SUM)}
    theirs = evaluate(directory / "theirs", Evaluator(**more), examples, model, baseline)
    assert ours.sums
    assert not theirs.sums
    return ours, theirs


def numbers(result: Result) -> dict[Any, dict[Any, float]]:
    import tensorflow_model_analysis as tfma

    return {
        of_slice.slice_key.SerializeToString(deterministic=True): {
            item.key.SerializeToString(deterministic=True): item.value.double_value.value
            for item in of_slice.metric_keys_and_values
            if item.key.name != "cosine_similarity"
        }
        for of_slice in tfma.load_metrics(str(result.evaluation.path))
    }


def assert_equal(ours: Result, theirs: Result) -> None:
    """Equal slices, metrics and values; those that Keras computes in 32 bits to their precision."""
    mine, other = numbers(ours), numbers(theirs)
    assert set(mine) == set(other)
    for key, values in other.items():
        assert set(mine[key]) == set(values)
        for metric, value in values.items():
            close = pytest.approx(value, rel=2e-6, abs=1e-7, nan_ok=True)
            assert mine[key][metric] == close, f"{metric!r} of {key!r}"


@pytest.fixture(scope="module")
def binary(awkward: Examples, echo: Model, tmp_path_factory: pytest.TempPathFactory) -> tuple[Result, Result]:
    settings = {"label": "label", "slices": SLICES, "metrics": BINARY, "batch_size": 25}
    return both(tmp_path_factory.mktemp("binary"), settings, awkward, echo)


def test_awkward_slices_and_metrics_of_two_classes_are_tfmas(binary: tuple[Result, Result]) -> None:
    assert_equal(*binary)
    assert len(numbers(binary[0])) > 30


def test_the_files_are_tfmas(binary: tuple[Result, Result]) -> None:
    ours, theirs = binary
    files = {file.name for file in theirs.evaluation.path.iterdir()}

    assert {file.name for file in ours.evaluation.path.iterdir()} == files
    for name in ("plots-00000-of-00001.tfrecord", "attributions-00000-of-00001.tfrecord"):
        assert (ours.evaluation.path / name).read_bytes() == (theirs.evaluation.path / name).read_bytes()


def test_a_slice_of_one_class_is_computed(binary: tuple[Result, Result]) -> None:
    import tensorflow_model_analysis as tfma

    metrics = tfma.load_eval_result(str(binary[0].evaluation.path)).get_metrics_for_slice((("one_class", 1),))

    assert metrics["mean_label"]["doubleValue"] == 1
    assert math.isnan(float(metrics["specificity"]["doubleValue"]))


@pytest.mark.parametrize(
    "thresholds",
    [[0.5], [0.0], [1.0], [2.0], [0.0, 0.3, 1.0], [-0.5, 0.2, 1.5], [0.1, 0.1, 0.99995], [-1e-7, 0.4, 1 + 1e-7]],
)
def test_confusion_matrices_from_a_histogram_are_tfmas(thresholds: list[float]) -> None:
    from tensorflow_model_analysis.metrics import binary_confusion_matrices
    from tensorflow_model_analysis.metrics.calibration_histogram import Bucket

    theirs = binary_confusion_matrices.binary_confusion_matrices(thresholds=thresholds, use_histogram=True)[-1]
    ours = known_metrics._quick(theirs)
    given = ours.given
    random = np.random.default_rng(3)
    for size in (0, 1, 5, 400):
        ids = sorted({*random.integers(0, 10002, size).tolist(), *([0, 1, 5001, 10000, 10001] if size == 5 else [])})
        buckets = []
        for number in ids:
            positive, negative = random.integers(0, 4, 2).tolist()
            buckets.append(Bucket(number, float(positive), 0.0, float(positive + negative)))

        assert ours.result({given: buckets}) == theirs.result({given: buckets})


@pytest.mark.slow
def test_metrics_of_numbers_are_tfmas(awkward: Examples, echo: Model, tmp_path: Path) -> None:
    settings = {"label": "value", "slices": SLICES[:4], "metrics": REGRESSION, "batch_size": 35}

    assert_equal(*both(tmp_path, settings, awkward, echo))


@pytest.mark.slow
def test_differences_and_verdicts_are_tfmas(awkward: Examples, echo: Model, tmp_path: Path) -> None:
    import tensorflow_model_analysis as tfma

    settings = {
        "label": "seen",  # an integer
        "slices": (("few",), ("pair",)),
        "metrics": ("AUC", "MeanPrediction", "BinaryCrossentropy"),
        "thresholds": {
            "auc": {"min": 0.9, "max_change": -0.01, "slices": [{"slice": ["few"], "min": 0.5}]},
            "mean_prediction": {"min_change": 0.0, "min_relative_change": 0.1},
            "binary_crossentropy": {"slices": [{"slice": [{"word": "nobody"}], "max": 1}]},
        },
    }

    ours, theirs = both(tmp_path, settings, awkward, echo, save_model(tmp_path / "before", shift=0.1))

    assert_equal(ours, theirs)
    assert ours.blessing.reasons == theirs.blessing.reasons
    assert len(ours.blessing.reasons) > 4
    verdicts = [tfma.load_validation_result(str(result.evaluation.path)) for result in (ours, theirs)]
    assert verdicts[0].validation_details == verdicts[1].validation_details
    assert verdicts[0].missing_slices == verdicts[1].missing_slices


@pytest.mark.slow
@pytest.mark.parametrize(
    ("label", "metrics", "model", "reason", "slices"),
    [
        ("label", ("AUC", "CalibrationPlot"), {}, "the plot 'calibration_plot'", ()),
        ("fraction", ("AUC",), {}, "the label 'fraction', which is not always 0 or 1", ()),
        ("sparse", ("ExampleCount",), {}, "the label 'sparse', which is not one number in every example", ()),
        (
            "label",
            ("MeanPrediction",),
            {"scores": "wrong"},
            "the prediction 'outputs', which is not a number in some",
            (),
        ),
        ("seen", ("SparseCategoricalAccuracy",), {"classes": 3}, "the metric 'sparse_categorical_accuracy'", ()),
        ("seen", ("ExampleCount",), {"classes": 3}, "the prediction 'outputs', which is 3 float32 per example", ()),
        ("label", ("AUC",), {}, "the feature 'mixed', which has several types", (("mixed",),)),
        ("label", ("AUC",), {}, "a feature to slice by whose values include NaN", (("wrong",),)),
    ],
)
def test_what_is_no_known_sum_is_computed_by_tfma_and_said(
    label: str,
    metrics: tuple[Any, ...],
    model: Mapping[str, Any],
    reason: str,
    slices: tuple[Any, ...],
    awkward: Examples,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked = save_model(tmp_path / "model", **model)

    result = evaluate(tmp_path, Evaluator(label=label, metrics=metrics, slices=slices), awkward, asked)

    assert result.evaluation.properties["computed_by"].startswith(f"TFMA's pipeline, because of {reason}")
    assert reason in capsys.readouterr().err
    assert result.evaluation.properties["examples"] == ROWS
    assert not (result.evaluation.path / "sums").exists()
