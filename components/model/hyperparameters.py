"""Hyperparameters, tuned and set by hand -> the model that a user's build_model makes of them."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from components.io.keras import keras_tuner
from schemas.artifacts import Hyperparameters, TransformGraph
from schemas.dotted_path import resolve
from schemas.errors import ArtifactError, ConfigError, UserCodeError, did_you_mean

if TYPE_CHECKING:
    import tf_keras


def read(tuned: Hyperparameters | None, overrides: Mapping[str, Any]) -> Any:
    """keras_tuner.HyperParameters with the tuned values, where there are any, and `overrides` in place of them."""
    kt = keras_tuner()
    if tuned is None:
        found = kt.HyperParameters()
    else:
        try:
            found = kt.HyperParameters.from_config(json.loads(tuned.file.read_text(encoding="utf-8")))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ArtifactError(
                f"{tuned.file} does not hold KerasTuner's hyperparameters ({error}). Run the tuner again"
            ) from error
    found.values.update(overrides)
    return found


def build(dotted: str, values: Any, graph: TransformGraph) -> tf_keras.Model:
    """The compiled model that the user's function at `dotted` makes of the hyperparameters.

    A function with a second parameter also gets the tft.TFTransformOutput of `graph`. Its own exceptions pass through;
    UserCodeError when it gives something else than a compiled tf_keras model.
    """
    import tf_keras

    function = resolve(dotted)
    if not callable(function):
        raise UserCodeError(f"{dotted} is a {type(function).__name__}, not a function of hyperparameters")
    model = function(values, _transform_output(graph)) if _takes_two(function) else function(values)
    if not isinstance(model, tf_keras.Model):
        kind = type(model)
        raise UserCodeError(
            f"{dotted} returned {'nothing' if model is None else f'a {kind.__module__}.{kind.__name__}'}: it must return "
            f"a compiled tf_keras.Model"
            + (" (Keras 3 is installed as 'keras'; import tf_keras)" if kind.__module__.startswith("keras.") else "")
        )
    if model.optimizer is None or getattr(model, "loss", None) is None:
        raise UserCodeError(f"{dotted} returned a model that is not compiled: call model.compile(optimizer, loss, ...)")
    return model


def check_used(overrides: Mapping[str, Any], values: Any) -> None:
    """Raise ConfigError for each override that build_model never asked for; to be called once it has run."""
    known = {parameter.name for parameter in values.space}
    unknown = [name for name in overrides if name not in known]
    if unknown:
        raise ConfigError(
            *(
                f"hyperparameters.{name}: build_model asks for no such hyperparameter.{did_you_mean(name, known)} "
                f"It asks for: {', '.join(sorted(known)) or 'none'}"
                for name in unknown
            )
        )


def _takes_two(function: Any) -> bool:
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(p.kind in positional for p in inspect.signature(function).parameters.values()) >= 2


def _transform_output(graph: TransformGraph) -> Any:
    import tensorflow_transform as tft

    return tft.TFTransformOutput(str(graph.path))
