"""Weights to start a training from: those of a served model, or of an earlier training's checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.io import saved_model
from components.model.checkpoints import WEIGHTS
from components.model.signatures import VARIABLES
from schemas.errors import ConfigError
from schemas.input_files import expand

if TYPE_CHECKING:
    import tf_keras

SHOWN = 5  # weights that differ, in one message


def start_from_served(model: tf_keras.Model, served: Path) -> None:
    """Give `model` the weights of the SavedModel in `served`, in the order of its layers; its optimizer starts anew.

    Raises ConfigError when the SavedModel is not one that build_model's model was saved as, or another model's.
    """
    if not saved_model.exists(served):
        raise ConfigError(f"warm_start: {served} is no SavedModel. Set warm_start to false to start from scratch")
    _assign(model, served / "variables" / "variables", VARIABLES, "warm_start")


def start_from_checkpoint(model: tf_keras.Model, files: str) -> None:
    """Give `model` the weights in the files of one checkpoint, such as `.../checkpoints/ckpt-10.*`.

    Raises DataError when there are none, ConfigError when they are another model's.
    """
    prefixes = sorted({file.with_suffix("") for file in expand(files)})
    if len(prefixes) != 1:
        names = ", ".join(str(prefix) for prefix in prefixes)
        raise ConfigError(f"initial_weights: {files} are several checkpoints: {names}. Name the files of one")
    _assign(model, prefixes[0], WEIGHTS, "initial_weights")


def _assign(model: tf_keras.Model, prefix: Path, listed_as: str, setting: str) -> None:
    import tensorflow as tf

    try:
        reader = tf.train.load_checkpoint(str(prefix))
    except (tf.errors.OpError, ValueError) as error:
        raise ConfigError(f"{setting}: {prefix} cannot be read as a checkpoint: {error}") from error
    found: list[Any] = []
    while reader.has_tensor(key := f"{listed_as}/{len(found)}/.ATTRIBUTES/VARIABLE_VALUE"):
        found.append(reader.get_tensor(key))
    if not found:
        raise ConfigError(
            f"{setting}: {prefix} has no weights of a model of build_model's (a run_fn's has its own form)"
        )
    here = [(variable.name.removesuffix(":0"), tuple(variable.shape)) for variable in model.variables]
    different = [
        f"{name} is {list(shape)} here and {list(array.shape)} there"
        for (name, shape), array in zip(here, found, strict=False)
        if shape != array.shape
    ]
    if len(here) != len(found):
        different.append(f"build_model's model has {len(here)} weights and that one {len(found)}")
    if different:
        more = f" and {len(different) - SHOWN} more" if len(different) > SHOWN else ""
        raise ConfigError(
            f"{setting}: {prefix} is of another model: {'; '.join(different[:SHOWN])}{more}. Build the model as it was, or "
            f"leave {setting} out to start from scratch"
        )
    for variable, array in zip(model.variables, found, strict=True):
        variable.assign(array)
