"""The `release:` section -> the settings that it stands for, each of the step that checks it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from schemas.config import PipelineConfig

GATES: Mapping[str, tuple[str, str]] = {
    "metrics": ("Evaluator", "thresholds"),
    "confidence_intervals": ("Evaluator", "confidence_intervals"),
    "anomalies": ("ExampleValidator", "on_anomaly"),
    "drift": ("ExampleValidator", "on_drift"),
    "latency": ("InfraValidator", "latency"),
    "parity": ("InfraValidator", "parity"),
    "max_size_mb": ("Pusher", "max_size_mb"),
}
"""What a release may ask: (the component that checks it, by its short name; the component's setting)."""


def gate_settings(
    config: PipelineConfig, components: Mapping[str, str]
) -> tuple[dict[str, dict[str, tuple[str, Any]]], dict[str, str]]:
    """(step: {setting: (the gate's name, its value)}, gate: what is wrong with it).

    `components` maps short names to dotted paths. A gate goes to the only step whose component checks it.
    """
    found: dict[str, dict[str, tuple[str, Any]]] = {}
    problems: dict[str, str] = {}
    for gate, (kind, setting) in GATES.items():
        value = getattr(config.release, gate)
        if value is None:
            continue
        steps = [
            name for name, step in config.steps.items() if components.get(step.uses, step.uses) == components[kind]
        ]
        if not steps:
            problems[gate] = f"no step uses {kind}, which checks it. Add one, or remove this"
        elif len(steps) > 1:
            problems[gate] = f"{', '.join(steps)} all use {kind}. Say in each of them what it asks, as '{setting}'"
        elif setting in config.steps[steps[0]].with_:
            problems[gate] = f"steps.{steps[0]}.with.{setting} asks the same. Keep one of the two"
        else:
            found.setdefault(steps[0], {})[setting] = (gate, value)
    return found, problems
