"""`pipeline dag`: the steps and what flows between them, for a terminal, a README or Graphviz."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pipeline.graph import Graph
from pipeline.loading import load
from schemas.errors import ConfigError, did_you_mean


def draw(target: str, form: str = "text", *, overrides: Iterable[str] = ()) -> str:
    """The graph of a definition as `text`, `mermaid`, `dot` or `json`. Raises ConfigError for another form."""
    if form not in FORMS:
        raise ConfigError(
            f"--as {form}: there is no such form.{did_you_mean(form, FORMS) or ' Forms: ' + ', '.join(FORMS)}"
        )
    return FORMS[form](load(target, overrides).graph)


def graph_json(target: str, *, overrides: Iterable[str] = ()) -> dict[str, Any]:
    """Everything the graph's digest covers, and the digest."""
    return _data(load(target, overrides).graph)


def as_text(graph: Graph) -> str:
    """One line per step: its component, where each input comes from, and what decides whether it runs."""
    width = max(len(step.id) for step in graph.steps)
    kinds = max(len(_kind(step.component)) for step in graph.steps)
    lines = []
    for step in graph.steps:
        taken = [str(wire) if wire.output == port else f"{wire} as {port}" for port, wire in step.inputs.items()]
        wires = ", ".join([*taken, *(f"when {wire}" for wire in step.asked)])
        line = f"{step.id:<{width}}  {_kind(step.component):<{kinds}}"
        lines.append(f"{line}  <- {wires}" if wires else line.rstrip())
    return "\n".join(lines)


def as_mermaid(graph: Graph) -> str:
    """A Mermaid flowchart, which GitHub and GitLab draw in Markdown."""
    lines = ["flowchart LR"]
    lines += [f'    {step.id}["{step.id}<br/><small>{_kind(step.component)}</small>"]' for step in graph.steps]
    for step in graph.steps:
        lines += [f"    {wire.step} -- {wire.output} --> {step.id}" for wire in step.inputs.values()]
        lines += [f"    {wire.step} -. {wire.output} .-> {step.id}" for wire in step.asked]
    return "\n".join(lines)


def as_dot(graph: Graph) -> str:
    """Graphviz."""
    lines = [f'digraph "{graph.name}" {{', "  rankdir=LR;", "  node [shape=box];"]
    lines += [f'  {step.id} [label="{step.id}\\n{_kind(step.component)}"];' for step in graph.steps]
    for step in graph.steps:
        lines += [f'  {wire.step} -> {step.id} [label="{wire.output}"];' for wire in step.inputs.values()]
        lines += [f'  {wire.step} -> {step.id} [label="{wire.output}" style=dashed];' for wire in step.asked]
    return "\n".join([*lines, "}"])


def as_json(graph: Graph) -> str:
    """`graph_json` as text."""
    return json.dumps(_data(graph), indent=1)


def _data(graph: Graph) -> dict[str, Any]:
    return graph.as_json() | {"digest": graph.digest}


def _kind(component: str) -> str:
    return component.rpartition(".")[2]


FORMS: Mapping[str, Callable[[Graph], str]] = {"text": as_text, "mermaid": as_mermaid, "dot": as_dot, "json": as_json}
