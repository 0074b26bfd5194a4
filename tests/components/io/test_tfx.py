"""FnArgs as TFX's own GenericExecutor makes them from the same artifacts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from components.io import tfx as tfx_io
from schemas.artifacts import Model
from schemas.errors import UnknownSplit

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
