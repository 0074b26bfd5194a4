"""Hyperparameters, tuned and set by hand -> the model that a user's build_model makes of them."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from components.io.keras import keras_tuner
from schemas.artifacts import Hyperparameters, TransformGraph
from schemas.dotted_path import resolve
from schemas.errors import ArtifactError, ConfigError, UserCodeError, did_you_mean

if TYPE_CHECKING:
    import tf_keras

OF_THE_SEARCH = "tuner/"  # Hyperband's notes on its own course, among the values


def read(tuned: Hyperparameters | None, overrides: Mapping[str, Any]) -> Any:
    """keras_tuner.HyperParameters with the tuned values, where there are any, and `overrides` in place of them.

    They note what they are `asked` for, and have the values that were `tuned`.
    """
    kind = _noting()
    if tuned is None:
        found = kind()
    else:
        try:
            found = kind.from_config(json.loads(tuned.file.read_text(encoding="utf-8")))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ArtifactError(
                f"{tuned.file} does not hold KerasTuner's hyperparameters ({error}). Run the tuner again"
            ) from error
    found.tuned = {name: value for name, value in found.values.items() if not name.startswith(OF_THE_SEARCH)}
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
    known = values.asked
    unknown = [name for name in overrides if name not in known]
    if unknown:
        raise ConfigError(
            *(
                f"hyperparameters.{name}: build_model asks for no such hyperparameter.{did_you_mean(name, known)} "
                f"It asks for: {', '.join(sorted(known)) or 'none'}"
                for name in unknown
            )
        )


def used(values: Any) -> dict[str, Any]:
    """The values that build_model asked for, by name; to be called once it has run."""
    return {name: value for name, value in values.values.items() if name in values.asked}


def unused(values: Any) -> dict[str, Any]:
    """The tuned values that build_model did not ask for: it has changed, or asks for them beside other values only."""
    return {name: value for name, value in values.tuned.items() if name not in values.asked}


def untuned(values: Any, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """The defaults that build_model was given beside tuned values, for what no search has seen; {} where nothing was tuned."""
    asked = used(values) if values.tuned else {}
    return {name: value for name, value in asked.items() if name not in values.tuned and name not in overrides}


def departures(dotted: str, overrides: Mapping[str, Any], values: Any) -> list[str]:
    """What is to be said where build_model asks for other values than were tuned, a line each; to be called once it has run.

    Neither is an error: a winner has values for layers that it does not have itself, as in
    `for i in range(hp.Int("layers", 1, 3)): hp.Int(f"units_{i}", 4, 16)`; and what a changed build_model still asks for is worth
    keeping, which is what `cache: latest` is for. A name that is new tells of a change for certain.
    """
    gone, new = unused(values), untuned(values, overrides)
    lines = []
    if gone:
        lines.append(f"{dotted} does not ask for these tuned values, which are not used: {_listed(gone)}")
    if new:
        lines.append(
            f"{dotted} asks for what was not tuned, and gets its defaults: {_listed(new)}. Search again, or set them in "
            f"hyperparameters"
        )
    return lines


def _listed(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())


@cache
def _noting() -> Any:
    """A keras_tuner.HyperParameters that notes what it is asked for; made here since KerasTuner is imported late.

    The space does not tell: with tuned values it has all that was tuned, whether the build_model of today asks for it or not.
    """

    class Noting(keras_tuner().HyperParameters):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.asked: set[str] = set()
            self.tuned: dict[str, Any] = {}

        def get(self, name: str) -> Any:
            self.asked.add(self._get_name(name))
            return super().get(name)

        def _retrieve(self, hp: Any) -> Any:  # Choice, Int, Float, Boolean and Fixed all end here
            self.asked.add(hp.name)
            return super()._retrieve(hp)

    return Noting


def _takes_two(function: Any) -> bool:
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(p.kind in positional for p in inspect.signature(function).parameters.values()) >= 2


def _transform_output(graph: TransformGraph) -> Any:
    import tensorflow_transform as tft

    return tft.TFTransformOutput(str(graph.path))
