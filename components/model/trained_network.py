"""A Model artifact -> the network inside it, as it was when training ended, or who made one without it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from components.io.keras import KERAS_FILE, load_keras
from schemas.artifacts import Model
from schemas.component import Lineage
from schemas.dotted_path import resolve
from schemas.errors import ArtifactError, ConfigError

if TYPE_CHECKING:
    import tf_keras


def load_trained(model: Model, port: str, lineage: Lineage) -> tf_keras.Model:
    """The trainable form of the `model` at input `port`, compiled. To be called inside `known`.

    Raises ArtifactError, with the step and the setting that made the model, when there is none, and ConfigError when it has
    classes of the user's own that are not known.
    """
    if not (model.keras / KERAS_FILE).is_file():
        step = lineage.inputs.get(port, {}).get("step", "")
        settings: Mapping[str, Any] = lineage.steps.get(step, {}).get("settings", {})
        maker = f"step '{step}' made it" if step else f"{model.path} was made"
        run_fn = f" with run_fn: {settings['run_fn']}" if settings.get("run_fn") else " by a run_fn of the user's"
        raise ArtifactError(
            f"{port}: the model has no trainable form (Format-Keras), since {maker}{run_fn}, which saves a SavedModel only. "
            f"Train it with build_model instead"
        )
    try:
        return load_keras(model)
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"custom_objects: Keras cannot load the model at {model.keras}: {str(error).strip().splitlines()[0]} "
            f"Name the layers, losses and metrics of your own here, by dotted path: custom_objects: [my.module.MyLayer]"
        ) from error


@contextlib.contextmanager
def known(custom_objects: tuple[str, ...]) -> Iterator[None]:
    """Where Keras finds the user's own classes and functions, which are given by dotted path."""
    import tf_keras

    found = {}
    for dotted in custom_objects:
        made = resolve(dotted)
        found[made.__name__] = made
    with tf_keras.utils.custom_object_scope(found):
        yield
