"""`pipeline plan`: what a run would do, and why."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pipeline.definition import Definition
from pipeline.lint import raise_errors
from pipeline.loading import load
from pipeline.plan import Action, check_steps, make_plan, never_ran
from pipeline.store import Store


@dataclass(frozen=True)
class PlannedStep:
    """One step of the plan. `key` is None while a step before it is still to run; `fast` is what --fast made of a step of TFX's."""

    step: str
    action: Action
    reasons: tuple[str, ...]
    key: str | None
    fast: str | None = None

    def as_json(self) -> dict[str, Any]:
        """What `--json` prints."""
        found = {"step": self.step, "action": self.action, "reasons": list(self.reasons), "key": self.key}
        return found if self.fast is None else found | {"fast": self.fast}


def plan_pipeline(
    target: str,
    *,
    overrides: Iterable[str] = (),
    to: str | None = None,
    force: Iterable[str] = (),
    root: str | None = None,
) -> tuple[PlannedStep, ...]:
    """The plan of a run with the same arguments; writes nothing. Raises as `run_pipeline` does."""
    return plan_definition(load(target, overrides, root), to=to, force=force)


def plan_definition(
    definition: Definition, *, to: str | None = None, force: Iterable[str] = ()
) -> tuple[PlannedStep, ...]:
    """The plan of a definition that is loaded."""
    raise_errors(definition.graph, definition.source)
    forced = tuple(force)
    check_steps(definition.graph, [*forced, *([to] if to else [])])
    graph = definition.graph.upto(to) if to else definition.graph
    return tuple(
        PlannedStep(step.step, step.action, step.reasons, step.key, definition.fast.get(step.step))
        for step in make_plan(graph, Store(definition.root), forced)
    )


def first_notes(definition: Definition) -> tuple[str, ...]:
    """What of another framework's pipeline is not followed, as long as nothing of it ever ran; and always a --fast without effect."""
    first = definition.notes if definition.notes and never_ran(definition.graph, Store(definition.root)) else ()
    return (*first, *definition.idle_fast)


def plan_text(steps: Iterable[PlannedStep], first: Iterable[str] = ()) -> str:
    """The plan as lines: action, step, reason. `first` are notes for who plans the pipeline for the first time."""
    steps = tuple(steps)
    width = max(len(step.step) for step in steps)
    words = {"wait": "run?"}
    lines = [
        f"{words.get(step.action, step.action):<8}{step.step:<{width}}  {' '.join(', '.join(step.reasons).split())}"
        + (f"  ({step.fast})" if step.fast else "")
        for step in steps
    ]
    notes = []
    if any(step.action == "wait" for step in steps):
        notes.append("run?  decided when the steps before it have run: reused where what they make is unchanged")
    ends = [step for step in steps if step.action in ("refused", "no need") and step.key is not None]
    if ends:
        notes.append(f"{ends[0].action}  the run ends with {ends[0].step}: what has not begun by then does not begin")
    notes += [f"note: {note}" for note in first]
    lines += ["", *notes] if notes else []
    return "\n".join(lines)
