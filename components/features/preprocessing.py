"""The user's preprocessing_fn, with what goes in and what comes out checked."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from components.io.workers import UserFunction
from schemas.dotted_path import in_file
from schemas.errors import DataError, UserCodeError, did_you_mean


@dataclass(frozen=True)
class Preprocessing:
    """A user's preprocessing_fn with its inputs and outputs checked. It is pickled as its name, so that Beam can.

    `dotted` may be the module file that has it, which is loaded here.
    """

    dotted: str
    custom_config: Mapping[str, Any] = field(default_factory=dict)
    user: UserFunction = field(init=False)

    def __post_init__(self) -> None:
        file = Path(self.dotted).resolve() if self.dotted.endswith(".py") else None
        object.__setattr__(self, "user", UserFunction(in_file(self.dotted, "preprocessing_fn"), file=file))

    def load(self) -> Any:
        """The function, with custom_config bound when it has such a parameter, as TFX does."""
        function = self.user.load()
        if not callable(function):
            raise UserCodeError(f"{self.dotted} is a {type(function).__name__}, not a function of the raw features")
        if "custom_config" in inspect.signature(function).parameters:
            return lambda inputs: function(inputs, custom_config=dict(self.custom_config))
        return function

    def __call__(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """The transformed features by name. Raises DataError for a feature that is not there."""
        import tensorflow as tf

        outputs = self.load()(RawFeatures(inputs))
        wanted = "it must return a dict of transformed features by name, each a tf.Tensor, SparseTensor or RaggedTensor"
        if not isinstance(outputs, dict):
            raise UserCodeError(f"{self.dotted} returned {_shown(outputs)}: {wanted}")
        if not outputs:
            raise UserCodeError(f"{self.dotted} returned an empty dict: {wanted}")
        wrong = [
            f"'{name}' is {_shown(value)}" if isinstance(name, str) else f"the name {name!r} is not a string"
            for name, value in outputs.items()
            if not isinstance(name, str) or not isinstance(value, tf.Tensor | tf.SparseTensor | tf.RaggedTensor)
        ]
        if wrong:
            raise UserCodeError(f"{self.dotted}: {'; '.join(wrong)}: {wanted}")
        return outputs


class RawFeatures(dict[str, Any]):
    """What preprocessing_fn gets: the raw features by name, which says what there is when asked for what there is not."""

    def __missing__(self, name: str) -> Any:
        raise DataError(
            f"there is no raw feature '{name}'.{did_you_mean(str(name), self)} "
            f"The schema has: {', '.join(sorted(self)) or 'none'}"
        )


def _shown(value: Any) -> str:
    return "nothing" if value is None else f"a {type(value).__name__}"
