"""FnArgs as TFX's own executors make them from the same artifacts, for TFX's components and for ours."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from components.io import tfx as tfx_io
from schemas.artifact import Artifact
from schemas.artifacts import Hyperparameters, Model
from schemas.component import Baseline
from schemas.errors import UnknownSplit

TELLING = """
import json
import os

import keras_tuner
import tensorflow as tf
import telling_beside
from tfx import v1 as tfx


def run_fn(fn_args):
    telling_beside.tell(fn_args, fn_args.model_run_dir)
    tf.saved_model.save(tf.Module(), fn_args.serving_model_dir)


class Once(keras_tuner.RandomSearch):
    def run_trial(self, trial, **given):
        return trial.hyperparameters.Int("units", 1, 3)


def tuner_fn(fn_args: tfx.components.FnArgs) -> tfx.components.TunerFnResult:
    telling_beside.tell(fn_args, fn_args.working_dir)
    tuner = Once(max_trials=1, directory=fn_args.working_dir, project_name="once")
    return tfx.components.TunerFnResult(tuner=tuner, fit_kwargs={})
"""

BESIDE = """
import json
import os

import tensorflow as tf
import tensorflow_transform as tft
from tensorflow_metadata.proto.v0 import schema_pb2
from tfx.utils import io_utils
from tfx_bsl.tfxio import dataset_options


def tell(fn_args, place):
    if fn_args.transform_graph_path:
        schema = tft.TFTransformOutput(fn_args.transform_graph_path).transformed_metadata.schema
    else:
        schema = io_utils.parse_pbtxt_file(fn_args.schema_path, schema_pb2.Schema())
    datasets = dataset_options.TensorFlowDatasetOptions(batch_size=7, num_epochs=1, shuffle=False)
    batches = dataset_options.RecordBatchesOptions(batch_size=7, num_epochs=1)
    said = {name: value for name, value in vars(fn_args).items() if name != "data_accessor"}
    for split, files in (("train", fn_args.train_files), ("eval", fn_args.eval_files)):
        for tensors in fn_args.data_accessor.tf_dataset_factory(files, datasets, schema).take(1):
            said[f"tensors of {split}"] = {name: plain(tensor) for name, tensor in tensors.items()}
        found = list(fn_args.data_accessor.record_batch_factory(files, batches, schema))
        said[f"batches of {split}"] = sorted(batch.num_rows for batch in found)
        rows = [json.dumps(row, default=text, sort_keys=True) for batch in found for row in batch.to_pylist()]
        said[f"records of {split}"] = sorted(rows)  # they come shuffled
    said["decodes"] = fn_args.data_accessor.data_view_decode_fn
    os.makedirs(place, exist_ok=True)
    with open(os.path.join(place, "said.json"), "w") as out:
        json.dump(said, out, default=text)


def text(value):
    return value.decode("latin1")


def plain(tensor):
    if isinstance(tensor, tf.SparseTensor):
        return [tensor.indices.numpy().tolist(), tensor.values.numpy().tolist()]
    return tensor.numpy().tolist()
"""

PATHS_AND_VALUES = (
    *("train_files", "eval_files", "train_steps", "eval_steps", "schema_path", "schema_file", "transform_graph_path"),
    *("transform_output", "serving_model_dir", "eval_model_dir", "model_run_dir", "base_model", "hyperparameters"),
    "custom_config",
)


def fn_args(tmp_path: Path, examples: Any, graph: Any, schema: Any, **changes: Any) -> Any:
    settings: dict[str, Any] = {
        "train_splits": ("train",),
        "eval_splits": ("eval",),
        "train_steps": 5,
        "eval_steps": None,
        "custom_config": {"a": {"b": [1, None]}},
        "working_dir": tmp_path / "work",
        "model": Model(tmp_path / "model"),
        "model_run_dir": tmp_path / "run",
        "hyperparameters": {"space": [], "values": {"units": 3}},
        **changes,
    }
    return tfx_io.fn_args(examples=examples, transform_graph=graph, schema=schema, **settings)


def test_every_field_is_what_TFX_s_executor_makes(tmp_path, xf_transformed, xf_graph, xf_schema):
    from tfx.components.trainer.executor import GenericExecutor
    from tfx.types import standard_artifacts

    def artifact(kind: str, path: Path) -> Any:
        found = getattr(standard_artifacts, kind)()
        found.uri = str(path)
        return [found]

    tuned = tmp_path / "tuned"
    tuned.mkdir()
    (tuned / "best_hyperparameters.txt").write_text(json.dumps({"space": [], "values": {"units": 3}}))
    expected = GenericExecutor()._GetFnArgs(
        {
            "examples": [tfx_io.tfx_examples(xf_transformed)],
            "transform_graph": artifact("TransformGraph", xf_graph.path),
            "schema": artifact("Schema", xf_schema.path),
            "hyperparameters": artifact("HyperParameters", tuned),
        },
        {"model": artifact("Model", tmp_path / "model"), "model_run": artifact("ModelRun", tmp_path / "run")},
        {
            "train_args": json.dumps({"num_steps": 5}),
            "eval_args": "{}",
            "custom_config": json.dumps({"a": {"b": [1, None]}}),
        },
    )

    found = fn_args(tmp_path, xf_transformed, xf_graph, xf_schema)

    assert type(found) is type(expected)
    assert {n: getattr(found, n) for n in PATHS_AND_VALUES} == {n: getattr(expected, n) for n in PATHS_AND_VALUES}
    assert set(vars(found)) == {*PATHS_AND_VALUES, "working_dir", "data_accessor"}  # TFX has no other field
    assert found.data_accessor._fields == expected.data_accessor._fields
    assert found.working_dir == str(tmp_path / "work")


def test_what_is_not_there_is_none(tmp_path, xf_transformed):
    found = fn_args(tmp_path, xf_transformed, None, None, model=None, model_run_dir=None, hyperparameters=None)

    absent = (
        "transform_output",
        "schema_path",
        "serving_model_dir",
        "eval_model_dir",
        "model_run_dir",
        "hyperparameters",
    )
    assert {name: getattr(found, name) for name in absent} == dict.fromkeys(absent)


def test_a_split_that_is_not_there_is_refused(tmp_path, xf_transformed):
    with pytest.raises(UnknownSplit, match=r"Did you mean 'eval'\?"):
        fn_args(tmp_path, xf_transformed, None, None, eval_splits=("evil",))


@pytest.fixture(scope="module")
def telling(module_files: Callable[..., str]) -> str:
    """A module file of TFX's with a helper beside it; its functions write down what they are told and read."""
    return module_files(telling_module=TELLING, telling_beside=BESIDE)


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Hyperparameters:
    """Hyperparameters as our Tuner writes them, with its own files beside TFX's."""
    found = Hyperparameters(tmp_path_factory.mktemp("tuned"))
    space = {"class_name": "Int", "config": {"name": "units", "default": None, "conditions": []}}
    space["config"] |= {"min_value": 1, "max_value": 3, "step": 1, "sampling": "linear"}
    found.file.write_text(json.dumps({"space": [space], "values": {"units": 3}}))
    for other in (found.trials_file, found.table_file):
        other.write_text("[]")
    return found


@pytest.fixture(scope="module")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A model to go on from."""
    import tensorflow as tf

    model = Model(tmp_path_factory.mktemp("earlier"))
    tf.saved_model.save(tf.Module(), str(model.serving))
    return model


def theirs(kind: str, artifact: Artifact) -> list[Any]:
    """The artifact as TFX has it."""
    from tfx.types import standard_artifacts

    if kind == "Examples":
        return [tfx_io.tfx_examples(artifact)]  # type: ignore[arg-type]
    found = getattr(standard_artifacts, kind)()
    found.uri = str(artifact.path)
    return [found]


def said(place: Path) -> dict[str, Any]:
    """What the module was told, with where outputs lie as the last two parts of it."""
    (file,) = place.rglob("said.json")
    told: dict[str, Any] = json.loads(file.read_text())
    for name in ("serving_model_dir", "eval_model_dir", "model_run_dir"):
        if told[name] is not None:
            told[name] = "/".join(Path(told[name]).parts[-(1 if name == "model_run_dir" else 2) :])
    return told


@pytest.fixture(params=["raw", "transformed"])
def data(request: pytest.FixtureRequest, xf_examples: Any, xf_transformed: Any, xf_graph: Any) -> dict[str, Any]:
    """Inputs of ours: raw examples without a transform graph, and transformed ones with theirs."""
    if request.param == "raw":
        return {"examples": xf_examples}
    return {"examples": xf_transformed, "transform_graph": xf_graph}


CUSTOM = {"a": {"b": [1, None]}, "rate": 0.5}
KINDS = {
    "examples": "Examples",
    "transform_graph": "TransformGraph",
    "schema": "Schema",
    "hyperparameters": "HyperParameters",
}


def test_a_run_fn_is_told_and_reads_the_same_in_TFX_s_executor_in_TFX_s_Trainer_as_a_step_and_in_ours(
    tmp_path: Path,
    run_in: Callable[..., Any],
    telling: str,
    data: dict[str, Any],
    xf_schema: Any,
    tuned: Hyperparameters,
    earlier: Model,
) -> None:
    from tfx.components.trainer.executor import GenericExecutor

    inputs = {**data, "schema": xf_schema}
    alone = Hyperparameters(tmp_path / "alone")  # TFX expects a single file
    alone.path.mkdir()
    alone.file.write_text(tuned.file.read_text())
    args = {"train_args": '{"splits": ["train"], "num_steps": 5}', "eval_args": '{"splits": ["eval"], "num_steps": 2}'}

    settings = {"module_file": telling, "custom_config": CUSTOM}
    settings |= {name: json.loads(value) for name, value in args.items()}
    run_in(
        tmp_path / "step", "tfx.v1.components.Trainer", settings, **inputs, hyperparameters=tuned, base_model=earlier
    )
    run_in(
        tmp_path / "ours",
        "components.model.trainer.Trainer",
        {"run_fn": telling, "steps": 5, "eval_steps": 2, "custom_config": CUSTOM, "warm_start": True},
        **inputs,
        hyperparameters=tuned,
        baseline=Baseline(earlier.serving),
    )

    GenericExecutor().Do(
        {name: theirs(KINDS[name], one) for name, one in {**inputs, "hyperparameters": alone}.items()}
        | {"base_model": theirs("Model", earlier)},
        {
            "model": theirs("Model", Model(tmp_path / "executor/model")),
            "model_run": theirs("ModelRun", Model(tmp_path / "executor/model_run")),
        },
        {**args, "module_file": telling, "custom_config": json.dumps(CUSTOM)},
    )
    expected = said(tmp_path / "executor")

    assert said(tmp_path / "step/outputs") == expected
    ours = said(tmp_path / "ours/outputs")
    assert ours.pop("working_dir") == str(tmp_path / "ours/scratch")  # TFX tells a run_fn of none
    assert expected.pop("working_dir") is None
    assert ours == expected
    assert (expected["train_steps"], expected["eval_steps"]) == (5, 2)
    assert expected["custom_config"] == CUSTOM
    assert expected["hyperparameters"]["values"] == {"units": 3}
    assert expected["base_model"] == str(earlier.serving)
    assert (expected["serving_model_dir"], expected["model_run_dir"]) == ("model/Format-Serving", "model_run")
    assert expected["transform_output"] == expected["transform_graph_path"]
    assert len(expected["records of train"]) == data["examples"].properties["records"]["train"] > 100
    assert expected["tensors of train"].keys() == json.loads(expected["records of train"][0]).keys()
    assert expected["decodes"] is None


def test_a_tuner_fn_is_told_and_reads_the_same_in_TFX_s_executor_in_TFX_s_Tuner_as_a_step_and_in_ours(
    tmp_path: Path, run_in: Callable[..., Any], telling: str, data: dict[str, Any], xf_schema: Any
) -> None:
    from tfx.components.tuner.executor import Executor

    inputs = {**data, "schema": xf_schema}
    args = {"train_args": '{"num_steps": 5}', "eval_args": "{}"}
    for name in ("best", "results"):
        (tmp_path / "executor" / name).mkdir(parents=True)
    context = Executor.Context(tmp_dir=str(tmp_path / "executor"), unique_id="tmp")

    settings = {"module_file": telling, "custom_config": CUSTOM}
    settings |= {name: json.loads(value) for name, value in args.items()}
    step = run_in(tmp_path / "step", "tfx.v1.components.Tuner", settings, **inputs)
    ours = run_in(
        tmp_path / "ours",
        "components.model.tuner.Tuner",
        {"tuner_fn": telling, "steps": 5, "custom_config": CUSTOM},
        **inputs,
    )

    Executor(context=context).Do(
        {name: theirs(KINDS[name], one) for name, one in inputs.items()},
        {
            "best_hyperparameters": theirs("HyperParameters", Artifact(tmp_path / "executor/best")),
            "tuner_results": theirs("TunerResults", Artifact(tmp_path / "executor/results")),
        },
        {**args, "module_file": telling, "custom_config": json.dumps(CUSTOM)},
    )
    expected = said(tmp_path / "executor")

    for place in ("executor", "step/scratch", "ours/scratch"):
        told = said(tmp_path / place)
        working = Path(told.pop("working_dir"))
        assert working.is_relative_to(tmp_path / place)
        if place.startswith("ours"):  # the older names of two fields too, which TFX gives a run_fn alone
            assert (told.pop("schema_file"), told["schema_path"]) == (str(xf_schema.file),) * 2
            assert told.pop("transform_output") == told["transform_graph_path"]
            told |= {"schema_file": None, "transform_output": None}
        assert told == {name: value for name, value in expected.items() if name != "working_dir"}
    assert (expected["train_steps"], expected["eval_steps"]) == (5, None)
    found = [
        json.loads(made["best_hyperparameters" if made is step else "hyperparameters"].file.read_text())
        for made in (step, ours)
    ]
    assert [sorted(one) for one in found] == [["space", "values"]] * 2
    assert all(1 <= one["values"]["units"] <= 3 for one in found)
