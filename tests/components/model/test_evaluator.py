"""Evaluator: the same numbers as TFX's, the verdict in sentences, and clear errors before TFMA starts."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from components.io import tfrecord
from components.model.evaluator import Evaluator
from pipeline.contract import read_contract
from schemas.artifacts import Blessing, Evaluation, Examples, Model
from schemas.component import Baseline, BeamOptions, Progress
from schemas.errors import ArtifactError, ConfigError, DataError, UnknownSplit

HOURS: tuple[Any, ...] = ((), ("trip_start_hour",))


class Counted(Progress):
    """Remembers the last report."""

    def __init__(self) -> None:
        self.last: tuple[int, str] = (0, "")

    def __call__(self, done: int, total: int | None = None, unit: str = "rows") -> None:
        self.last = (done, unit)


@dataclass
class Result:
    evaluation: Evaluation
    blessing: Blessing
    progress: Counted


def evaluate(
    directory: Path, evaluator: Evaluator, examples: Examples, model: Model, baseline: Baseline | None = None
) -> Result:
    """Run one evaluation as the framework does."""
    result = Result(Evaluation(directory / "evaluation"), Blessing(directory / "blessing"), Counted())
    for artifact in (result.evaluation, result.blessing):
        artifact.path.mkdir(parents=True)
    evaluator.run(
        examples, model, baseline or Baseline(), BeamOptions(), result.progress, result.evaluation, result.blessing
    )
    return result


def served(model: Model) -> Baseline:
    return Baseline(path=model.serving, digest="sha256:served", version=7)


def numbers(directory: Path) -> dict[Any, dict[Any, float]]:
    """Every number that was written, by slice and by metric."""
    import tensorflow_model_analysis as tfma

    found: dict[Any, dict[Any, float]] = {}
    for of_slice in tfma.load_metrics(str(directory)):
        values = found.setdefault(of_slice.slice_key.SerializeToString(deterministic=True), {})
        for item in of_slice.metric_keys_and_values:
            assert item.value.WhichOneof("type") == "double_value"
            values[item.key.SerializeToString(deterministic=True)] = item.value.double_value.value
    return found


def failures(directory: Path) -> dict[bytes, list[bytes]]:
    """What was missed, by slice."""
    import tensorflow_model_analysis as tfma

    verdict = tfma.load_validation_result(str(directory))
    return {
        of_slice.slice_key.SerializeToString(deterministic=True): sorted(
            failure.SerializeToString(deterministic=True) for failure in of_slice.failures
        )
        for of_slice in verdict.metric_validations_per_slice
    }


def tfx_evaluates(
    pipeline: Callable[[], Any],
    directory: Path,
    config: Path,
    examples: Path,
    split: str,
    model: Path,
    baseline: Path | None = None,
) -> Path:
    """Run TFX's own Evaluator executor with the EvalConfig in `config`; gives the directory of its two outputs."""
    from google.protobuf import json_format
    from tfx.components.evaluator.executor import Executor
    from tfx.types import artifact_utils, standard_artifacts
    from tfx.utils import json_utils

    given = {"examples": [standard_artifacts.Examples()], "model": [standard_artifacts.Model()]}
    given["examples"][0].uri = str(examples)
    given["examples"][0].split_names = artifact_utils.encode_split_names([split])
    given["model"][0].uri = str(model)
    if baseline is not None:
        given["baseline_model"] = [standard_artifacts.Model()]
        given["baseline_model"][0].uri = str(baseline)
    made = {"evaluation": [standard_artifacts.ModelEvaluation()], "blessing": [standard_artifacts.ModelBlessing()]}
    for name, (artifact,) in made.items():
        artifact.uri = str(directory / name)
    from tensorflow_model_analysis.proto import config_pb2

    asked = json_format.Parse(config.read_text(), config_pb2.EvalRun()).eval_config
    beam = Executor.Context(make_beam_pipeline_fn=pipeline, tmp_dir=str(directory / "tmp"), unique_id="1")
    Executor(beam).Do(
        given,
        made,
        {"eval_config": json_format.MessageToJson(asked), "example_splits": json_utils.dumps([split])},
    )
    return directory


@pytest.fixture(scope="module")
def compared(
    trips: Examples, good: Model, poor: Model, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Result, Path]:
    """A poor candidate against a good baseline, with thresholds of every kind: ours, and where it was written."""
    directory = tmp_path_factory.mktemp("compared")
    evaluator = Evaluator(
        label="big_tip",
        slices=(*HOURS, ("payment_type", {"trip_start_hour": 20})),
        thresholds={
            "auc": {
                "min": 0.9,
                "min_change": -0.01,
                "min_relative_change": -0.02,
                "slices": [{"slice": [{"trip_start_hour": 20}], "min": 0.7}, {"slice": ["company"], "max_change": 1}],
            },
            "binary_accuracy": {"min": 0.5},
            "binary_crossentropy": {"max_change": 0.001},
        },
    )
    return evaluate(directory, evaluator, trips, poor, served(good)), directory


@pytest.fixture(scope="module")
def alone(trips: Examples, good: Model, tmp_path_factory: pytest.TempPathFactory) -> tuple[Result, Path]:
    """A good candidate and nothing to compare it with."""
    directory = tmp_path_factory.mktemp("alone")
    evaluator = Evaluator(
        label="big_tip", slices=HOURS, thresholds={"auc": {"min": 0.7, "min_change": 0.0}}, batch_size=64
    )
    return evaluate(directory, evaluator, trips, good), directory


def test_a_model_that_keeps_every_threshold_is_blessed(alone: tuple[Result, Path]) -> None:
    result, _ = alone

    assert result.blessing.blessed
    assert result.blessing.reasons == ()
    assert result.blessing.properties["blessed"] is True


def test_the_properties_are_the_overall_metrics(alone: tuple[Result, Path]) -> None:
    result, _ = alone
    properties = result.evaluation.properties

    assert set(properties["metrics"]) == {
        "auc",
        "auc_precision_recall",
        "binary_accuracy",
        "binary_crossentropy",
        "mean_label",
        "precision",
        "recall",
    }
    assert properties["metrics"]["auc"] == pytest.approx(0.93, abs=0.01)
    assert properties["examples"] == 300
    assert properties["slices"] == 25  # overall and 24 hours
    assert "baseline_metrics" not in properties
    assert json.loads(json.dumps(properties, allow_nan=False)) == properties
    assert "auc 0.93" in result.evaluation.describe()


def test_metrics_are_what_keras_computes_on_the_models_answers(
    alone: tuple[Result, Path], trips: Examples, good: Model
) -> None:
    import numpy as np
    import tensorflow as tf

    records = [record for file in trips.files("eval") for record in tfrecord.read(file)]
    signatures = tf.saved_model.load(str(good.serving)).signatures
    answers = signatures["serving_default"](tf.constant(records))["outputs"].numpy()
    labels = signatures["transform_features"](tf.constant(records))["big_tip"].numpy()
    metrics = alone[0].evaluation.properties["metrics"]

    assert metrics["mean_label"] == pytest.approx(float(labels.mean()))
    assert metrics["binary_accuracy"] == pytest.approx(float(((answers > 0.5) == labels).mean()))
    assert metrics["recall"] == pytest.approx(float((answers[labels == 1] > 0.5).mean()))
    assert metrics["precision"] == pytest.approx(float(labels[answers > 0.5].mean()))
    loss = tf.keras.metrics.BinaryCrossentropy()
    loss.update_state(labels, answers)
    assert metrics["binary_crossentropy"] == pytest.approx(float(loss.result()), rel=1e-5)
    ahead = answers[labels == 1][:, None] - answers[labels == 0][None, :]
    assert metrics["auc"] == pytest.approx(float(np.mean((ahead > 0) + 0.5 * (ahead == 0))), abs=1e-3)


def test_progress_counts_the_examples(alone: tuple[Result, Path]) -> None:
    assert alone[0].progress.last == (300, "examples")


def test_the_first_model_is_not_held_to_bounds_on_change(alone: tuple[Result, Path]) -> None:
    properties = alone[0].blessing.properties

    assert properties["not_applied"] == [
        "min_change 0 of auc: there is no baseline to compare with",
    ]
    assert properties["thresholds"] == [{"metric": "auc", "slice": "overall", "bound": "min", "limit": 0.7}]
    assert properties["baseline"] is None


def test_tfmas_notebooks_open_the_evaluation(alone: tuple[Result, Path]) -> None:
    import tensorflow_model_analysis as tfma

    result = tfma.load_eval_result(str(alone[0].evaluation.path))

    assert len(result.slicing_metrics) == 25
    assert result.get_metrics_for_slice()["auc"]["doubleValue"] == alone[0].evaluation.properties["metrics"]["auc"]
    assert result.config.model_specs[0].label_key == "big_tip"


EVALUATE = """
import sys
from pathlib import Path
from components.model.evaluator import Evaluator
from schemas.artifacts import Blessing, Evaluation, Examples, Model
from schemas.component import Baseline, BeamOptions, Progress
examples, model, out = map(Path, sys.argv[1:4])
metrics = sys.argv[4]
Evaluator(
    label="big_tip",
    metrics=tuple(metrics.split()),
    slices=(("payment_type",), ("company", "payment_type")),
    confidence_intervals=None if "Plot" in metrics else "jackknife",  # TFMA's own draw by chance
    thresholds={"auc": {"min": 0.99, "slices": [{"slice": ["payment_type"], "min": 0.99}]}},
).run(
    Examples(examples), Model(model), Baseline(), BeamOptions(), Progress(),
    Evaluation(out / "evaluation"), Blessing(out / "blessing"),
)
"""


@pytest.mark.slow
@pytest.mark.parametrize("metrics", ["AUC MeanPrediction BinaryCrossentropy", "AUC CalibrationPlot"])  # sums, TFMA
def test_the_same_evaluation_is_the_same_bytes_in_every_process(
    metrics: str, trips: Examples, good: Model, tmp_path: Path
) -> None:
    contents = []
    for seed in ("1", "2"):  # Python orders texts in sets by it
        out = tmp_path / seed
        (out / "evaluation").mkdir(parents=True)
        subprocess.run(
            [sys.executable, "-c", EVALUATE, str(trips.path), str(good.path), str(out), metrics],
            check=True,
            capture_output=True,
            cwd=Path(__file__).parents[3],
            env=os.environ | {"PYTHONHASHSEED": seed},
        )
        contents.append({str(file.relative_to(out)): file.read_bytes() for file in out.rglob("*") if file.is_file()})

    assert len(contents[0]) == 6
    assert contents[0] == contents[1]


def test_every_missed_threshold_is_told_with_slice_value_and_count(compared: tuple[Result, Path]) -> None:
    result, _ = compared
    assert not result.blessing.blessed
    auc = result.evaluation.properties["metrics"]["auc"]
    before = result.evaluation.properties["baseline_metrics"]["auc"]

    reasons = result.blessing.reasons

    assert reasons[:3] == (
        f"auc {auc:.4g} overall (300 examples) changed by {auc - before:+.4g} from the baseline's {before:.4g}; "
        f"the least allowed is -0.01",
        f"auc {auc:.4g} overall (300 examples) changed by {100 * (auc - before) / before:+.4g} % from the baseline's "
        f"{before:.4g}; the least allowed is -2 %",
        f"auc {auc:.4g} overall (300 examples) is below 0.9",
    )
    assert reasons[3].startswith("binary_crossentropy ")
    assert "changed by +" in reasons[3]
    assert "the most allowed is +0.001" in reasons[3]
    assert reasons[4].startswith("auc ")
    assert "on trip_start_hour:20 (29 examples) is below 0.7" in reasons[4]
    assert len(reasons) == 5
    assert result.blessing.properties["baseline"] == {"version": 7, "digest": "sha256:served"}


def test_a_slice_that_only_a_threshold_names_is_computed(compared: tuple[Result, Path]) -> None:
    import tensorflow_model_analysis as tfma

    result = tfma.load_eval_result(str(compared[0].evaluation.path), model_name="candidate")
    features = {tuple(part[0] for part in key) for key, _ in result.slicing_metrics}

    assert features == {(), ("trip_start_hour",), ("payment_type", "trip_start_hour"), ("company",)}


def test_a_better_model_than_the_served_one_is_blessed(
    trips: Examples, good: Model, poor: Model, tmp_path: Path
) -> None:
    evaluator = Evaluator(label="big_tip", thresholds={"AUC": {"min_change": 0.1}}, metrics=("MeanLabel",))

    result = evaluate(tmp_path, evaluator, trips, good, served(poor))

    assert result.blessing.blessed
    assert (
        result.evaluation.properties["metrics"]["auc"] > 0.1 + result.evaluation.properties["baseline_metrics"]["auc"]
    )


def test_nothing_is_blessed_without_thresholds(trips: Examples, good: Model, tmp_path: Path) -> None:
    result = evaluate(tmp_path, Evaluator(label="big_tip", metrics=("AUC",)), trips, good)

    assert not result.blessing.blessed
    assert len(result.blessing.reasons) == 1
    assert result.blessing.reasons[0].startswith("no thresholds are set")


def test_a_first_model_with_bounds_on_change_only_is_blessed(trips: Examples, poor: Model, tmp_path: Path) -> None:
    evaluator = Evaluator(label="big_tip", metrics=("AUC",), thresholds={"auc": {"min_change": 0}})

    result = evaluate(tmp_path, evaluator, trips, poor)

    assert result.blessing.blessed
    assert len(result.blessing.properties["not_applied"]) == 1


def test_a_threshold_on_a_slice_that_has_no_example_is_missed(trips: Examples, good: Model, tmp_path: Path) -> None:
    evaluator = Evaluator(
        label="big_tip",
        metrics=("AUC",),
        thresholds={"auc": {"slices": [{"slice": [{"payment_type": "Gold"}], "min": 0}]}},
    )

    result = evaluate(tmp_path, evaluator, trips, good)

    assert not result.blessing.blessed
    assert result.blessing.reasons[0].startswith("auc was not computed on payment_type:Gold (0 examples)")


def test_the_label_may_be_a_raw_feature(
    trips: Examples, make_model: Callable[..., Model], good: Model, tmp_path: Path
) -> None:
    model = make_model(2.0, 0.05, -1.0, transforms=False)

    result = evaluate(tmp_path / "raw", Evaluator(label="tipped", metrics=("AUC", "MeanLabel")), trips, model)

    transformed = evaluate(tmp_path / "xf", Evaluator(label="big_tip", metrics=("AUC", "MeanLabel")), trips, good)
    assert result.evaluation.properties == transformed.evaluation.properties


@pytest.mark.slow
def test_tfxs_executor_computes_the_same_on_our_artifacts(
    compared: tuple[Result, Path], trips: Examples, good: Model, poor: Model, beam_in_memory: Any, tmp_path: Path
) -> None:
    result, _ = compared
    assert result.evaluation.properties["computed_by"] == "sums over batches"

    theirs = tfx_evaluates(
        beam_in_memory, tmp_path, result.evaluation.path / "eval_config.json", trips.path, "eval", poor.path, good.path
    )

    assert {file.name for file in (theirs / "evaluation").iterdir()} == {
        file.name for file in result.evaluation.path.iterdir()
    }
    ours, other = numbers(result.evaluation.path), numbers(theirs / "evaluation")
    assert set(ours) == set(other)
    for key, values in other.items():
        assert set(ours[key]) == set(values)
        for metric, value in values.items():
            assert ours[key][metric] == pytest.approx(value, rel=1e-5, abs=1e-7, nan_ok=True)
    assert set(failures(result.evaluation.path)) == set(failures(theirs / "evaluation"))
    assert [file.name for file in (theirs / "blessing").iterdir()] == ["NOT_BLESSED"]
    assert [file.name for file in result.blessing.path.iterdir()] == ["NOT_BLESSED"]


@pytest.mark.slow
def test_we_compute_the_same_as_tfx_on_its_own_examples_and_model(
    taxi_csv: Path, beam_in_memory: Any, tmp_path: Path
) -> None:
    testdata = taxi_csv.parents[4] / "components" / "testdata"
    examples, model = Examples(testdata / "penguin" / "data"), Model(testdata / "trainer" / "keras")
    evaluator = Evaluator(
        label="species",
        metrics=("SparseCategoricalAccuracy", "SparseCategoricalCrossentropy"),
        slices=((), ("species",)),
        thresholds={"sparse_categorical_accuracy": {"min": 0.3}},
    )

    ours = evaluate(tmp_path / "ours", evaluator, examples, model)
    theirs = tfx_evaluates(
        beam_in_memory,
        tmp_path / "theirs",
        ours.evaluation.path / "eval_config.json",
        examples.path,
        "eval",
        model.path,
    )

    assert ours.evaluation.properties["examples"] == 100
    expected = numbers(theirs / "evaluation")
    found = numbers(ours.evaluation.path)
    assert len(found) == 4
    assert set(found) == set(expected)
    for key, values in expected.items():
        assert found[key] == pytest.approx(values, rel=1e-6)
    assert [file.name for file in (theirs / "blessing").iterdir()] == [
        file.name for file in ours.blessing.path.iterdir()
    ]


def test_an_Evaluator_that_compares_with_nothing_is_given_no_baseline() -> None:
    contract = read_contract(Evaluator)

    assert contract.takes_baseline({"compare": True})
    assert not contract.takes_baseline({"compare": False})


def test_metrics_inside_of_a_Keras_model_are_asked_for_with_an_EvalConfig_alone() -> None:
    with pytest.raises(ConfigError, match="keras_metrics: goes with eval_config alone"):
        Evaluator(label="big_tip", keras_metrics=True)


def bounds(lower: float, change: float) -> dict[str, Any]:
    """A metric's threshold, as TFMA's MetricThreshold."""
    direction = {"direction": "HIGHER_IS_BETTER", "absolute": change}
    return {"value_threshold": {"lower_bound": lower}, "change_threshold": direction}


@pytest.mark.slow
@pytest.mark.parametrize("compiled", [False, True])
def test_in_the_place_of_TFX_s_it_computes_and_blesses_the_same(
    compiled: bool, trips: Examples, make_model: Callable[..., Model], both_ways: Callable[..., Any], tmp_path: Path
) -> None:
    good, poor = make_model(2.0, 0.05, -1.0, compiled=compiled), make_model(0.0, 0.05, -1.0, compiled=compiled)
    per_slice = {"slicing_specs": [{"feature_keys": ["trip_start_hour"]}], "threshold": bounds(0.4, -1)}
    metrics = [
        {"class_name": "AUC", "threshold": bounds(0.5, -0.01), "per_slice_thresholds": [per_slice]},
        {"class_name": "BinaryAccuracy", "threshold": bounds(0.1, -1)},
    ]
    asked = {"signature_name": "serving_default", "preprocessing_function_names": ["transform_features"]}
    config = {
        "model_specs": [{**asked, "label_key": "big_tip"}],
        "slicing_specs": [{}, {"feature_keys": ["trip_start_hour"]}],
        "metrics_specs": [{"metrics": metrics}],
    }
    step = {
        "uses": "tfx.v1.components.Evaluator",
        "with": {"eval_config": config},
        "inputs": {"examples": "example_gen.examples", "model": "train.model", "baseline_model": "latest.model"},
    }
    latest = {"uses": "components.io.tfx_nodes.LatestBlessedModel", "inputs": {"candidate": "train.model"}}
    wires = {"example_gen.examples": trips, "train.model": poor, "latest.model": good}

    ours, theirs = both_ways(tmp_path, step, wires, served(good), latest=latest)

    found, expected = numbers(ours["evaluation"].path), numbers(theirs["evaluation"].path)
    assert set(found) == set(expected)
    for key, values in expected.items():
        for metric, value in values.items():
            assert found[key][metric] == pytest.approx(value, rel=1e-5, abs=1e-7, nan_ok=True)
    inside = [any(b"mae" in name for name in of[b""]) for of in (found, expected)]
    assert inside == [compiled, compiled]  # what a model was compiled with
    assert failures(ours["evaluation"].path) == failures(theirs["evaluation"].path)
    assert [file.name for file in ours["blessing"].path.iterdir()] == ["NOT_BLESSED"]
    assert [file.name for file in theirs["blessing"].path.iterdir()] == ["NOT_BLESSED"]


def test_the_blessing_has_tfxs_file_names(alone: tuple[Result, Path], compared: tuple[Result, Path]) -> None:
    from tfx.components.evaluator import constants

    assert [file.name for file in alone[0].blessing.path.iterdir()] == [constants.BLESSED_FILE_NAME]
    assert [file.name for file in compared[0].blessing.path.iterdir()] == [constants.NOT_BLESSED_FILE_NAME]


def refusal(kind: type[Exception], directory: Path, evaluator: Evaluator, examples: Examples, model: Model) -> str:
    """The message of the error that an evaluation ends with."""
    with pytest.raises(kind) as caught:
        evaluate(directory, evaluator, examples, model)
    return str(caught.value)


def test_a_label_that_does_not_exist_is_a_data_error(trips: Examples, good: Model, tmp_path: Path) -> None:
    message = refusal(DataError, tmp_path, Evaluator(label="big_tipp"), trips, good)

    assert message.startswith("label 'big_tipp' is not in split 'eval'")
    assert "Did you mean 'big_tip'?" in message
    assert "trip_start_hour" in message


def test_a_served_model_that_does_not_know_the_label_cannot_be_the_baseline(
    trips: Examples, good: Model, make_model: Callable[..., Model], tmp_path: Path
) -> None:
    before = make_model(1.0, transforms=False)

    with pytest.raises(DataError, match="the model served now, .*, does not give it .* remove that version"):
        evaluate(tmp_path, Evaluator(label="big_tip"), trips, good, served(before))


def test_a_label_of_a_single_class_is_a_data_error(trips: Examples, good: Model, tmp_path: Path) -> None:
    message = refusal(DataError, tmp_path, Evaluator(label="big_tip", split="untipped"), trips, good)

    count = trips.properties["records"]["untipped"]
    assert message.startswith(f"label 'big_tip' is 0 in all of the {count} examples of split 'untipped'")


def test_a_label_that_is_text_is_a_data_error(trips: Examples, good: Model, tmp_path: Path) -> None:
    message = refusal(DataError, tmp_path, Evaluator(label="payment_type"), trips, good)

    assert message.startswith("label 'payment_type' is text (such as b'C")


def test_slices_by_features_that_do_not_exist_are_a_data_error(trips: Examples, good: Model, tmp_path: Path) -> None:
    evaluator = Evaluator(label="big_tip", slices=(("trip_start_hours",), ("comapny", {"fare": 1})))

    message = refusal(DataError, tmp_path, evaluator, trips, good)

    assert "no example of split 'eval' has the feature 'trip_start_hours'. Did you mean 'trip_start_hour'?" in message
    assert "the feature 'comapny'. Did you mean 'company'?" in message


def test_an_empty_split_is_a_data_error(trips: Examples, good: Model, tmp_path: Path) -> None:
    message = refusal(DataError, tmp_path, Evaluator(label="big_tip", split="empty"), trips, good)

    assert message.startswith("split 'empty' has no examples")


def test_an_unknown_split_is_named(trips: Examples, good: Model, tmp_path: Path) -> None:
    message = refusal(UnknownSplit, tmp_path, Evaluator(label="big_tip", split="evl"), trips, good)

    assert "no split 'evl'" in message
    assert "Did you mean 'eval'?" in message


def test_examples_that_are_not_the_raw_ones_are_a_data_error(trips: Examples, good: Model, tmp_path: Path) -> None:
    import tensorflow as tf

    transformed = Examples(tmp_path / "transformed")
    transformed.split_path("eval").mkdir(parents=True)
    feature = tf.train.Feature(int64_list=tf.train.Int64List(value=[1]))  # payment_type is text to the model
    record = tf.train.Example(features=tf.train.Features(feature={"payment_type": feature})).SerializeToString()
    tfrecord.write(transformed.split_path("eval") / "transformed_examples-00000-of-00001.gz", [record])

    message = refusal(DataError, tmp_path, Evaluator(label="big_tip"), transformed, good)

    assert "cannot read the examples of split 'eval'" in message
    assert "Evaluator takes the raw examples" in message


def test_a_signature_that_the_model_lacks_is_named(trips: Examples, good: Model, tmp_path: Path) -> None:
    message = refusal(ArtifactError, tmp_path, Evaluator(label="big_tip", signature="serving_defualt"), trips, good)

    assert "no signature 'serving_defualt'. Did you mean 'serving_default'?" in message


def test_a_prediction_that_the_model_does_not_give_is_a_config_error(
    trips: Examples, good: Model, tmp_path: Path
) -> None:
    message = refusal(ConfigError, tmp_path, Evaluator(label="big_tip", prediction="output"), trips, good)

    assert message.startswith("prediction: the signature 'serving_default'")
    assert "Did you mean 'outputs'?" in message


def test_a_label_that_must_be_transformed_and_is_not_is_a_data_error(
    trips: Examples, good: Model, tmp_path: Path
) -> None:
    message = refusal(DataError, tmp_path, Evaluator(label="tipped", label_from="transformed"), trips, good)

    assert message.startswith("label 'tipped' is not among the transformed features")


def test_a_label_that_must_be_raw_is_not_looked_for_in_what_preprocessing_gives(
    trips: Examples, good: Model, tmp_path: Path
) -> None:
    message = refusal(DataError, tmp_path, Evaluator(label="big_tip", label_from="raw"), trips, good)

    assert message.startswith("label 'big_tip' is not in split 'eval'")


def test_a_metric_that_lacks_an_argument_is_a_config_error(trips: Examples, good: Model, tmp_path: Path) -> None:
    message = refusal(ConfigError, tmp_path, Evaluator(label="big_tip", metrics=("PrecisionAtRecall",)), trips, good)

    assert message.startswith("metrics: PrecisionAtRecall cannot be made")
    assert "'recall'" in message


def test_a_label_of_numbers_is_not_judged_by_the_metrics_for_two_classes(
    trips: Examples, good: Model, tmp_path: Path
) -> None:
    message = refusal(ConfigError, tmp_path, Evaluator(label="fare"), trips, good)

    assert message.startswith("metrics: left out, those for a label of 0 and 1 are computed, and label 'fare' is ")
    assert "[MeanSquaredError, MeanAbsoluteError] for numbers" in message


def test_a_baseline_that_is_no_model_any_more_is_an_artifact_error(
    trips: Examples, good: Model, tmp_path: Path
) -> None:
    shutil.copytree(good.serving, tmp_path / "7")
    (tmp_path / "7" / "saved_model.pb").unlink()

    with pytest.raises(ArtifactError, match=r"7 has no saved_model\.pb"):
        evaluate(tmp_path, Evaluator(label="big_tip"), trips, good, Baseline(tmp_path / "7", "sha256:x", 7))


def test_every_wrong_setting_is_reported_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        Evaluator(
            label="",
            split="",
            batch_size=0,
            label_from="features",  # type: ignore[arg-type]
            metrics=("AUCC",),
            slices=("hour",),  # type: ignore[arg-type]
            thresholds={"auc": {"mim": 0.7}},
        )

    fields = [problem.split(":")[0].split(".")[0] for problem in caught.value.problems]
    assert fields == ["split", "label_from", "batch_size", "label", "metrics", "thresholds", "slices"]


def test_a_metric_of_an_output_without_a_label_is_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        Evaluator(label={"price": "price", "sold": "sold"}, metrics=({"name": "AUC", "output_names": ["sould"]},))

    assert caught.value.problems == (
        "metrics: auc is of the output 'sould', which has no label. Did you mean 'sold'? There are labels for price, sold",
    )


def test_a_metric_that_is_not_a_number_is_none_in_the_properties(trips: Examples, good: Model, tmp_path: Path) -> None:
    evaluator = Evaluator(
        label="big_tip",
        metrics=("AUC", {"name": "Precision", "config": {"thresholds": 2.0}}),  # no answer is that sure
        thresholds={"precision": {"min": 0.1}},
    )

    result = evaluate(tmp_path, evaluator, trips, good)

    assert result.evaluation.properties["metrics"]["precision"] is None
    assert not math.isnan(result.evaluation.properties["metrics"]["auc"])
    assert result.blessing.reasons[0].startswith("precision is not a number overall (300 examples)")
