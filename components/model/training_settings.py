"""What is wrong with settings that Trainer and Tuner share."""

from __future__ import annotations

from typing import Any

OF_BUILD_MODEL = (
    "label",
    "sample_weight",
    "class_weights",
    "learning_rate",
    "early_stopping",
    "mixed_precision",
    "strategy",
    "workers",
    "parameter_servers",
    "jit",
    "initial_weights",
    "profile",
)  # settings of a training that is done here, which a user's own function would not hear of


def problems_of_code(settings: Any, theirs: str) -> list[str]:
    """What is wrong with a Trainer's or Tuner's choice between `build_model` and TFX's function, the setting `theirs`."""
    code = getattr(settings, theirs)
    problems = []
    if (settings.build_model is None) == (code is None):
        found = "neither is set" if settings.build_model is None else "both are set"
        problems.append(f"build_model: set either build_model or {theirs}; {found}")
    if settings.build_model is not None and settings.build_model.endswith(".py"):
        problems.append(
            f"build_model: {settings.build_model} is a file. Give a dotted path, such as my_project.model.build_model; only "
            f"{theirs} may be a module file"
        )
    if code is None and (settings.steps is None) == (settings.epochs is None):
        found = "neither is set" if settings.steps is None else "both are set"
        problems.append(f"steps: set either steps or epochs; {found}")
    if code is not None and settings.epochs is not None:
        problems.append(f"epochs: {theirs} is only told of steps; set steps, or have it read custom_config")
    for name in OF_BUILD_MODEL if code is not None else ():
        if getattr(settings, name, None):
            problems.append(f"{name}: {theirs} chooses it itself; leave {name} out, or put it into custom_config")
    return problems


def problems_of_counts(settings: Any, *names: str) -> list[str]:
    """Which of these settings of a Trainer or Tuner are below 1; None is none."""
    values = ((name, getattr(settings, name)) for name in names)
    return [f"{name}: {value} is not at least 1" for name, value in values if value is not None and value < 1]
