"""Whether a step runs at all: its conditions, and what is left of it where a step before it does not run."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from pipeline.contract import build_component, read_contract
from pipeline.graph import Graph, Step
from pipeline.raised import raised
from pipeline.store import Execution
from schemas.component import Condition
from schemas.dotted_path import resolve
from schemas.errors import PenstockError, Refused, UserCodeError


def unmet(graph: Graph, step: Step, executions: Mapping[str, Execution]) -> Refused | None:
    """What the first condition of `step` that does not hold says; None where the step runs.

    `executions` holds what the conditions read. Raises PenstockError, naming the step, where one cannot say whether it holds.
    """
    for condition in step.when:
        read = {}
        for wire in condition.reads:
            kind = read_contract(resolve(graph[wire.step].component)).outputs[wire.output]
            execution = executions[wire.step]
            read[str(wire)] = kind(
                execution.output(wire.output), dict(execution.manifest.outputs[wire.output].properties)
            )
        asked: Condition = build_component(resolve(condition.component), condition.settings)
        try:
            asked.check(read)
        except Refused as said:
            return said
        except PenstockError as error:
            raise type(error)(f"{step.id}: {error}") from error
        except Exception as error:  # whatever the user's code raises: what runs beside it is nobody's fault
            raise UserCodeError(
                f"{raised(error)}, when {condition.component} was asked whether {step.id} runs"
            ) from error
    return None


def needs_of(step: Step, aside: Collection[str]) -> tuple[str, ...]:
    """Those of the steps set `aside` without which `step` cannot run: it takes what it needs from them, or asks them."""
    ports = read_contract(resolve(step.component)).inputs
    needed = [wire for port, wire in step.inputs.items() if not ports[port].optional]
    return tuple(dict.fromkeys(wire.step for wire in (*needed, *step.asked) if wire.step in aside))


def with_what_is_there(step: Step, aside: Collection[str]) -> Step:
    """`step` without the inputs that it can do without and that steps set `aside` would have made."""
    inputs = {port: wire for port, wire in step.inputs.items() if wire.step not in aside}
    return step if len(inputs) == len(step.inputs) else replace(step, inputs=inputs)


def without(missing: Sequence[str]) -> str:
    """Why a step is skipped that needs what those would have made."""
    return f"{', '.join(missing)} did not run"


def kept_from_its_end(graph: Graph, done: Collection[str], aside: Collection[str]) -> bool:
    """Whether conditions kept a run from all it is for: from every step that publishes or, where none does, that comes last."""
    if not aside:
        return False
    publishing = [step.id for step in graph.steps if read_contract(resolve(step.component)).publishes]
    taken = {wire.step for step in graph.steps for wire in (*step.inputs.values(), *step.asked)}
    last = publishing or [step.id for step in graph.steps if step.id not in taken]
    return not any(step in done for step in last)
