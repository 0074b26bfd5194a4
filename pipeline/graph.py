"""Graph: the steps of a pipeline and the wires between them, as pure data that knows no runner."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.contract import Contract
from schemas.artifact import Artifact
from schemas.component import BeamOptions
from schemas.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from schemas.config import Cache  # what it imports takes longer than everything else a step's process needs


@dataclass(frozen=True)
class Wire:
    """One output of one step."""

    step: str
    output: str

    def __str__(self) -> str:
        return f"{self.step}.{self.output}"


@dataclass(frozen=True)
class Condition:
    """What decides whether a step runs: the dotted path of a schemas.component.Condition, its settings, and what it reads."""

    component: str
    settings: Mapping[str, Any]
    reads: tuple[Wire, ...]

    def as_json(self) -> dict[str, Any]:
        """As JSON data, for the graph's digest."""
        return {
            "component": self.component,
            "settings": dict(self.settings),
            "reads": [str(wire) for wire in self.reads],
        }


@dataclass(frozen=True)
class Declared:
    """A step as its author wrote it: wires may be missing. `settings` is JSON data with every default filled in.

    `unwired` are optional inputs that take nothing, whatever would fit.
    """

    id: str
    component: str  # module.Class, the class's own, so that a short name and a dotted path mean the same
    settings: Mapping[str, Any]
    contract: Contract
    inputs: Mapping[str, Wire] = field(default_factory=dict)
    cache: Cache = True
    beam: BeamOptions | None = None
    memory: int | None = None
    unwired: tuple[str, ...] = ()
    when: tuple[Condition, ...] = ()


@dataclass(frozen=True)
class Step:
    """A step with all its wires. `after` are steps that must have ended well before it starts although nothing flows.

    `when` are conditions, without any of which it does not run. To those that wait `after` it, it has ended well then.
    `beam` is where its Beam pipeline runs, None for where the others' do; `memory` is in bytes.
    """

    id: str
    component: str
    settings: Mapping[str, Any]
    inputs: Mapping[str, Wire]
    outputs: Mapping[str, str]  # output: the artifact's type name
    cache: Cache = True
    after: tuple[str, ...] = ()
    beam: BeamOptions | None = None
    memory: int | None = None
    unwired: tuple[str, ...] = ()  # inputs that were said to take nothing
    when: tuple[Condition, ...] = ()

    @property
    def asked(self) -> tuple[Wire, ...]:
        """What its conditions read."""
        return tuple(dict.fromkeys(wire for condition in self.when for wire in condition.reads))

    @property
    def parents(self) -> tuple[str, ...]:
        """Steps this one waits for, each once, in the order of its wires."""
        wires = (*self.inputs.values(), *self.asked)
        return tuple(dict.fromkeys([*(wire.step for wire in wires), *self.after]))


@dataclass(frozen=True)
class Graph:
    """Steps in an order in which each comes after those it takes from. `whole` is the graph that this one was cut from."""

    name: str
    seed: int | None
    steps: tuple[Step, ...]
    whole: Graph | None = None

    def __getitem__(self, step: str) -> Step:
        for candidate in self.steps:
            if candidate.id == step:
                return candidate
        known = [s.id for s in self.steps]
        raise ConfigError(
            f"there is no step '{step}' in {self.name}." + (did_you_mean(step, known) or f" Steps: {', '.join(known)}")
        )

    @property
    def digest(self) -> str:
        """sha256 of the canonical JSON of name, seed, steps and wires: equal for the same pipeline in YAML and in Python.

        It is the same in every checkout and image: see `as_anywhere`.
        """
        return "sha256:" + hashlib.sha256(canonical_json(as_anywhere(self.as_json())).encode()).hexdigest()

    def as_json(self) -> dict[str, Any]:
        """The graph as JSON data, what `digest` covers."""
        return {
            "name": self.name,
            "seed": self.seed,
            "steps": [
                {
                    "id": step.id,
                    "component": step.component,
                    "settings": dict(step.settings),
                    "inputs": {port: str(wire) for port, wire in sorted(step.inputs.items())},
                    **({"when": [condition.as_json() for condition in step.when]} if step.when else {}),
                }
                for step in self.steps
            ],
        }

    def upto(self, last: str) -> Graph:
        """The graph cut down to `last` and what it needs."""
        wanted = self.ancestors(last) | {last}
        return Graph(self.name, self.seed, tuple(s for s in self.steps if s.id in wanted), self.whole or self)

    def ancestors(self, step: str) -> set[str]:
        """Every step whose outputs, directly or not, `step` waits for."""
        found: set[str] = set()
        waiting = list(self[step].parents)
        while waiting:
            parent = waiting.pop()
            if parent not in found:
                found.add(parent)
                waiting.extend(self[parent].parents)
        return found

    def descendants(self, step: str) -> set[str]:
        """Every step that, directly or not, takes from `step`."""
        return {s.id for s in self.steps if step in self.ancestors(s.id)}


def canonical_json(data: Any) -> str:
    """One text for equal JSON data: sorted keys, no spaces."""
    return json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def as_anywhere(data: Any) -> Any:
    """JSON data with each path at or below the working directory relative to it, in text that is JSON itself as well.

    Pipelines for TFX name their files by absolute paths, beside their module's: another checkout has the same files elsewhere, and
    so has an image.
    """
    here = str(Path.cwd())
    return data if here == os.sep else _without(data, here)


def _without(data: Any, here: str) -> Any:
    if isinstance(data, Mapping):
        return {name: _without(value, here) for name, value in data.items()}
    if isinstance(data, list | tuple):
        return [_without(value, here) for value in data]
    if not isinstance(data, str):
        return data
    if data == here:
        return "."
    if data.startswith(here + os.sep):
        return data[len(here) + 1 :]
    if data[:1] in ("{", "["):
        for written in dict.fromkeys((f'"{here}', json.dumps(here)[:-1])):
            data = data.replace(f"{written}{os.sep}", '"').replace(f'{written}"', '"."')
    return data


def build_graph(
    name: str, seed: int | None, declared: Sequence[Declared], where: Mapping[str, str] | None = None
) -> Graph:
    """Wire the steps: explicit wires checked, left-out ones filled where exactly one earlier step makes what is needed.

    `where` maps `step` and `step.port` to the place in the user's file, for messages. Raises ConfigError with every
    problem: unknown steps and outputs, wrong types, missing and ambiguous wires, cycles.
    """
    places = where or {}
    problems: list[str] = []
    by_id = {step.id: step for step in declared}
    position = {step.id: index for index, step in enumerate(declared)}
    wired: dict[str, dict[str, Wire]] = {}
    for step in declared:
        earlier = declared[: position[step.id]]
        wires: dict[str, Wire] = {}
        for port, wire in step.inputs.items():
            problem = _wire_problem(step, port, wire, by_id)
            if problem:
                problems.append(f"{_place(step, port, places)}: {problem}")
            else:
                wires[port] = wire
        problems.extend(
            f"{_place(step, port, places)}: {problem}"
            for port in step.unwired
            if (problem := _unwired_problem(step, port)) is not None
        )
        for needed in step.contract.inputs:
            if needed not in step.inputs and needed not in step.unwired:
                found, wire_problem = _find_wire(step, needed, earlier)
                if wire_problem:
                    problems.append(f"{places.get(step.id, f'steps.{step.id}')}: {wire_problem}")
                if found:
                    wires[needed] = found
        wired[step.id] = {port: wires[port] for port in step.contract.inputs if port in wires}
        problems.extend(
            f"{places.get(f'{step.id}.when', f'steps.{step.id}.when')}: {problem}"
            for problem in _condition_problems(step, by_id)
        )
    waits = {
        step.id: {**wired[step.id], **{f"when: {wire}": wire for wire in _asked(step) if wire.step in by_id}}
        for step in declared
    }
    problems.extend(_order_problems(declared, waits, position, places))
    if problems:
        raise ConfigError(*problems)
    return Graph(
        name,
        seed,
        tuple(
            Step(
                id=step.id,
                component=step.component,
                settings=step.settings,
                inputs=wired[step.id],
                outputs={output: kind.TYPE_NAME for output, kind in step.contract.outputs.items()},
                cache=step.cache,
                # What leaves the store waits for every earlier step: a gate beside the data's path counts too.
                after=tuple(
                    s.id
                    for s in declared[: position[step.id]]
                    if step.contract.publishes or s.contract.may_end_run(s.settings)
                ),
                beam=step.beam,
                memory=step.memory,
                unwired=step.unwired,
                when=step.when,
            )
            for step in declared
        ),
    )


def _asked(step: Declared) -> list[Wire]:
    return [wire for condition in step.when for wire in condition.reads]


def _condition_problems(step: Declared, by_id: Mapping[str, Declared]) -> Iterator[str]:
    for wire in _asked(step):
        problem = _no_such_output(wire, by_id)
        if problem:
            yield problem


def check_wires(
    declared: Sequence[Declared], unknown: Collection[str], where: Mapping[str, str] | None = None
) -> list[str]:
    """What is wrong with the explicit wires, while nobody knows what the steps in `unknown` make."""
    by_id = {step.id: step for step in declared}
    found = [
        (step, port, _wire_problem(step, port, wire, by_id))
        for step in declared
        for port, wire in step.inputs.items()
        if wire.step not in unknown
    ]
    return [f"{_place(step, port, where or {})}: {problem}" for step, port, problem in found if problem]


def _no_such_output(wire: Wire, by_id: Mapping[str, Declared]) -> str | None:
    if wire.step not in by_id:
        return f"there is no step '{wire.step}'.{did_you_mean(wire.step, by_id)}"
    outputs = by_id[wire.step].contract.outputs
    if wire.output not in outputs:
        known = ", ".join(outputs) or "none"
        return f"'{wire.step}' has no output '{wire.output}'.{did_you_mean(wire.output, outputs) or f' Its outputs: {known}'}"
    return None


def _place(step: Declared, port: str, places: Mapping[str, str]) -> str:
    return places.get(f"{step.id}.{port}", places.get(step.id, f"steps.{step.id}"))


def _no_input(step: Declared, port: str) -> str | None:
    if port in step.contract.inputs:
        return None
    known = ", ".join(step.contract.inputs) or "none"
    return f"{step.component.rpartition('.')[2]} has no input '{port}'.{did_you_mean(port, step.contract.inputs) or f' Its inputs: {known}'}"


def _unwired_problem(step: Declared, port: str) -> str | None:
    if port in step.contract.inputs and not step.contract.inputs[port].optional:
        return f"{step.component.rpartition('.')[2]} needs '{port}'. Wire it, or leave the line out to have it wired"
    return _no_input(step, port)


def _wire_problem(step: Declared, port: str, wire: Wire, by_id: Mapping[str, Declared]) -> str | None:
    contract = step.contract
    problem = _no_input(step, port) or _no_such_output(wire, by_id)
    if problem:
        return problem
    outputs = by_id[wire.step].contract.outputs
    making = by_id[wire.step]
    setting = making.contract.left_empty(wire.output, making.settings)
    if setting is not None:
        why = f"while {wire.step}'s {setting} is false. Set that to true"
        if setting in making.contract.leaves_out:
            why = f"with the settings that {wire.step} has. Change them"
        return f"{wire} is not made {why}, or wire '{port}' to something else"
    if not contract.inputs[port].accepts(outputs[wire.output]):
        wanted = " or ".join(t.__name__ for t in contract.inputs[port].types)
        return f"{wire} is {outputs[wire.output].__name__}, but '{port}' takes {wanted}"
    return None


def _find_wire(step: Declared, port: str, earlier: Iterable[Declared]) -> tuple[Wire | None, str | None]:
    """(the only wire that fits, None), (None, a problem), or (None, None) for an optional input that stays unwired."""
    wanted = step.contract.inputs[port]
    if wanted.explicit:
        return None, None
    made: list[tuple[Wire, type[Artifact]]] = [
        (Wire(other.id, output), kind)
        for other in earlier
        for output, kind in other.contract.outputs.items()
        if other.contract.left_empty(output, other.settings) is None
    ]
    for preferred in wanted.types:
        # The very type before those that are also one: who takes Examples means the raw ones.
        fitting = [wire for wire, kind in made if kind is preferred]
        fitting = fitting or [wire for wire, kind in made if issubclass(kind, preferred)]
        if len(fitting) == 1:
            return fitting[0], None
        if len(fitting) > 1 and wanted.if_only_one:
            return None, None
        if len(fitting) > 1:
            choices = " or ".join(map(str, fitting))
            return None, f"input '{port}' could be {choices}: say which, as in inputs: {{{port}: {fitting[0]}}}"
    if wanted.optional:
        return None, None
    kinds = " or ".join(t.__name__ for t in wanted.types)
    return None, f"input '{port}' needs {kinds}, and no earlier step makes one"


def _order_problems(
    declared: Sequence[Declared],
    wired: Mapping[str, Mapping[str, Wire]],
    position: Mapping[str, int],
    places: Mapping[str, str],
) -> list[str]:
    """A cycle once, named in full; a wire from below that is no cycle as such."""
    problems: list[str] = []
    in_cycle: set[str] = set()
    for step in declared:
        cycle = _cycle_through(step.id, wired)
        if cycle and step.id not in in_cycle:
            in_cycle.update(cycle)
            shown = " -> ".join([*cycle, cycle[0]])
            problems.append(f"{places.get(step.id, f'steps.{step.id}')}: the steps form a cycle: {shown}")
    for step in declared:
        for port, wire in wired[step.id].items():
            if position[wire.step] >= position[step.id] and not {step.id, wire.step} <= in_cycle:
                setting, _, asked = port.partition(": ")  # of a condition
                default = f"steps.{step.id}.{setting if asked else f'inputs.{setting}'}"
                place = places.get(f"{step.id}.{setting}", default)
                problems.append(f"{place}: '{wire.step}' stands below '{step.id}'; list steps in the order data flows")
    return problems


def _cycle_through(start: str, wired: Mapping[str, Mapping[str, Wire]]) -> list[str]:
    """A shortest way from `start` back to itself in the direction data flows, empty when there is none."""
    takers: dict[str, list[str]] = {}
    for step, wires in wired.items():
        for wire in wires.values():
            takers.setdefault(wire.step, []).append(step)
    ways = [[start]]
    seen = {start}
    while ways:
        way = ways.pop(0)
        for taker in takers.get(way[-1], []):
            if taker == start:
                return way
            if taker not in seen:
                seen.add(taker)
                ways.append([*way, taker])
    return []
