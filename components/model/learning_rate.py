"""Learning rates by the name of Keras' schedule, with a warm-up before any of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from components.io.keras import warm_up_class
from schemas.errors import did_you_mean

if TYPE_CHECKING:
    import tf_keras

WARM_UP = "warmup_steps"


@dataclass(frozen=True)
class Kind:
    """A schedule of Keras' own: its class, and what it takes. `steps` is the argument that is left to the training's length."""

    keras: str
    required: tuple[str, ...]
    optional: tuple[str, ...] = ()
    steps: str | None = None


SCHEDULES = {
    "constant": Kind("", ("initial_learning_rate",)),
    "cosine": Kind("CosineDecay", ("initial_learning_rate",), ("decay_steps", "alpha"), "decay_steps"),
    "exponential": Kind("ExponentialDecay", ("initial_learning_rate", "decay_steps", "decay_rate"), ("staircase",)),
    "piecewise": Kind("PiecewiseConstantDecay", ("boundaries", "values")),
    "polynomial": Kind(
        "PolynomialDecay",
        ("initial_learning_rate",),
        ("decay_steps", "end_learning_rate", "power", "cycle"),
        "decay_steps",
    ),
}


def problems_of_learning_rate(setting: float | Mapping[str, Any] | None) -> list[str]:
    """What is wrong with the setting `learning_rate`: a number, or {schedule: <name>, <argument>: ...}."""
    if setting is None:
        return []
    if not isinstance(setting, Mapping):
        return [] if 0 < setting < math.inf else [f"learning_rate: {setting} is not a number above 0"]
    name = setting.get("schedule")
    if name not in SCHEDULES:
        found = "is not set" if name is None else f"there is no '{name}'.{did_you_mean(str(name), SCHEDULES)}"
        return [f"learning_rate.schedule: {found}. There are: {', '.join(SCHEDULES)}"]
    kind, given = SCHEDULES[name], [key for key in setting if key not in ("schedule", WARM_UP)]
    known = (*kind.required, *kind.optional)
    problems = [
        f"learning_rate.{key}: '{name}' takes no such argument.{did_you_mean(key, known)} It takes: {', '.join(known)}"
        for key in given
        if key not in known
    ]
    problems += [f"learning_rate.{key}: missing, '{name}' needs it" for key in kind.required if key not in setting]
    for key in ("initial_learning_rate", "decay_steps", "decay_rate"):
        value = setting.get(key, 1)
        if type(value) not in (int, float) or not 0 < value < math.inf:
            problems.append(f"learning_rate.{key}: {value!r} is not a number above 0")
    warm_up = setting.get(WARM_UP, 0)
    if type(warm_up) is not int or warm_up < 0:
        problems.append(f"learning_rate.{WARM_UP}: {warm_up!r} is not a number of steps")
    if name == "piecewise" and not problems:
        problems += _problems_of_pieces(setting["boundaries"], setting["values"])
    return problems


def _problems_of_pieces(boundaries: Any, values: Any) -> list[str]:
    if not isinstance(boundaries, list | tuple) or not all(type(step) is int for step in boundaries):
        return [f"learning_rate.boundaries: {boundaries!r} is not a list of steps, such as [500, 800]"]
    if not isinstance(values, list | tuple) or not all(type(rate) in (int, float) for rate in values):
        return [f"learning_rate.values: {values!r} is not a list of learning rates, such as [0.01, 0.001]"]
    if len(values) != len(boundaries) + 1:
        return [
            f"learning_rate.values: has {len(values)} for {len(boundaries)} boundaries; there is one more piece than "
            f"boundaries between them"
        ]
    if list(boundaries) != sorted(set(boundaries)):
        return [f"learning_rate.boundaries: {list(boundaries)} do not grow"]
    return []


def use_learning_rate(model: tf_keras.Model, setting: float | Mapping[str, Any], total: int) -> None:
    """Give a compiled model's optimizer this learning rate in place of its own, before it has trained.

    The optimizer is made anew from its configuration. `total` are the steps to be trained, after the warm-up of which a
    schedule ends where no `decay_steps` say otherwise.
    """
    import tf_keras

    optimizer = model.optimizer
    inner = getattr(optimizer, "inner_optimizer", optimizer)  # mixed_float16 has one around the user's
    new = type(inner).from_config({**inner.get_config(), "learning_rate": make_learning_rate(setting, total)})
    if type(model).compile is tf_keras.Model.compile:
        # Compiled anew, since what is saved is what compile was called with.
        model.compile(**{**model._compile_config.config, "optimizer": new})
    else:  # what a compile of the user's own takes is not known
        model.optimizer = tf_keras.mixed_precision.LossScaleOptimizer(new) if inner is not optimizer else new


def make_learning_rate(setting: float | Mapping[str, Any], total: int) -> Any:
    """The number or Keras schedule that a checked setting stands for; see `use_learning_rate`."""
    import tf_keras

    if not isinstance(setting, Mapping):
        return float(setting)
    arguments = dict(setting)
    kind, warm_up = SCHEDULES[arguments.pop("schedule")], arguments.pop(WARM_UP, 0)
    if kind.steps is not None:
        arguments.setdefault(kind.steps, max(total - warm_up, 1))
    if not kind.keras:
        after: Any = arguments["initial_learning_rate"]
    else:
        after = getattr(tf_keras.optimizers.schedules, kind.keras)(**arguments)
    return warm_up_class()(warm_up, after) if warm_up else after
