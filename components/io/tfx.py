"""Artifacts and settings -> what TFX hands to a user's run_fn or tuner_fn, made by TFX's own code."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from schemas.artifacts import Examples, FeatureSchema, Model, TransformGraph

if TYPE_CHECKING:
    from tfx.components.trainer.fn_args_utils import FnArgs


def fn_args(
    *,
    examples: Examples,
    transform_graph: TransformGraph | None,
    schema: FeatureSchema | None,
    train_splits: tuple[str, ...],
    eval_splits: tuple[str, ...],
    train_steps: int | None,
    eval_steps: int | None,
    custom_config: Mapping[str, Any],
    working_dir: Path,
    model: Model | None = None,
    model_run_dir: Path | None = None,
    base_model: Path | None = None,
    hyperparameters: Mapping[str, Any] | None = None,
) -> FnArgs:
    """FnArgs with every field as TFX's executors fill it.

    `data_accessor` reads the examples through tfx_bsl, as datasets or Arrow record batches. `model` is None for a
    tuner_fn, which writes none. `working_dir` and `model_run_dir` survive a killed run; TFX tells a run_fn of no `working_dir`, and
    a tuner_fn of no `transform_output` and `schema_file`. Steps of None mean that the function decides. `base_model` is the
    SavedModel to start from. Raises UnknownSplit.
    """
    from tfx.components.trainer import fn_args_utils
    from tfx.types import standard_component_specs as names
    from tfx.utils import path_utils

    for split in (*train_splits, *eval_splits):
        examples.split(split)
    inputs = {names.EXAMPLES_KEY: [tfx_examples(examples)]}
    if transform_graph is not None:
        inputs[names.TRANSFORM_GRAPH_KEY] = [_artifact("TransformGraph", transform_graph.path)]
    if schema is not None:
        inputs[names.SCHEMA_KEY] = [_artifact("Schema", schema.path)]
    args: Any = fn_args_utils.get_common_fn_args(
        inputs,
        {
            names.TRAIN_ARGS_KEY: json.dumps({"splits": list(train_splits), "num_steps": train_steps or 0}),
            names.EVAL_ARGS_KEY: json.dumps({"splits": list(eval_splits), "num_steps": eval_steps or 0}),
            names.CUSTOM_CONFIG_KEY: json.dumps(dict(custom_config)),
        },
        working_dir=str(working_dir),
    )
    args.transform_output = args.transform_graph_path  # the older names of two fields, which modules still use
    args.schema_file = args.schema_path
    args.model_run_dir = str(model_run_dir) if model_run_dir is not None else None
    args.hyperparameters = dict(hyperparameters) if hyperparameters is not None else None
    if base_model is not None:
        args.base_model = str(base_model)
    if model is not None:
        args.serving_model_dir = path_utils.serving_model_dir(str(model.path))
        args.eval_model_dir = path_utils.eval_model_dir(str(model.path))
    return args


def tfx_examples(examples: Examples) -> Any:
    """TFX's artifact of the same directory, with the properties that its readers look at."""
    from tfx.components.util import examples_utils
    from tfx.proto import example_gen_pb2
    from tfx.types import artifact_utils

    found = _artifact("Examples", examples.path)
    found.split_names = artifact_utils.encode_split_names(list(examples.splits))
    examples_utils.set_payload_format(found, example_gen_pb2.FORMAT_TF_EXAMPLE)  # type: ignore[attr-defined]
    examples_utils.set_file_format(found, "tfrecords_gzip")
    return found


def _artifact(kind: str, path: Path) -> Any:
    from tfx.types import standard_artifacts

    found = getattr(standard_artifacts, kind)()
    found.uri = str(path)
    return found
