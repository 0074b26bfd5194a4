"""What is wrong with a graph although its shape is right: one small function per rule."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pipeline.contract import build_component, read_contract
from pipeline.fingerprint import code_closure, find_module, is_file
from pipeline.graph import Graph
from schemas.artifact import Artifact
from schemas.artifacts import Hyperparameters
from schemas.dotted_path import resolve
from schemas.errors import ConfigError, DataError, did_you_mean
from schemas.input_files import expand
from schemas.memory import in_gb

if TYPE_CHECKING:
    from pipeline.config import Source


@dataclass(frozen=True)
class Finding:
    """One thing a rule found. An error keeps the pipeline from running, a warning does not."""

    level: Literal["error", "warning"]
    step: str
    message: str
    setting: str | None = None
    place: str = ""  # where it was written, with its line; empty for a pipeline in Python

    def __str__(self) -> str:
        return f"{self.place or '.'.join(filter(None, ('steps', self.step, self.setting)))}: {self.message}"


def lint(graph: Graph, source: Source | None = None) -> tuple[Finding, ...]:
    """Every finding of every rule, errors first. `source` knows the lines of the file that the graph was read from."""
    found = [_placed(finding, source) for rule in RULES for finding in rule(graph)]
    return tuple(sorted(found, key=lambda finding: finding.level))


def _placed(finding: Finding, source: Source | None) -> Finding:
    if source is None:
        return finding
    return replace(
        finding, place=source.at(("steps", finding.step, *(("with", finding.setting) if finding.setting else ())))
    )


def raise_errors(graph: Graph, source: Source | None = None) -> None:
    """Raise one ConfigError with every error that the rules find; warnings pass."""
    errors = [str(finding) for finding in lint(graph, source) if finding.level == "error"]
    if errors:
        raise ConfigError(*errors)


def user_code_exists(graph: Graph) -> Iterator[Finding]:
    """A setting names a function of the user's that is not there. The module is read, not run."""
    for step in graph.steps:
        contract = read_contract(resolve(step.component))
        for setting in contract.user_code:
            for path in contract.paths(step.settings, [setting]):
                problem = _missing(path, setting)
                if problem:
                    yield Finding("error", step.id, problem, setting)


def _missing(dotted: str, setting: str) -> str | None:
    if is_file(dotted):
        try:
            code_closure([dotted])
        except ConfigError as error:
            return str(error)
        defined = set(_defined_names(ast.parse(Path(dotted).read_bytes())))
        if not setting.endswith("_fn") or setting in defined or "*" in defined or "__getattr__" in defined:
            return None
        return f"{dotted} has no '{setting}'.{did_you_mean(setting, defined)}"
    module, _, name = dotted.replace(":", ".").rpartition(".")
    if not module:
        return f"'{dotted}' is not a dotted path: expected package.module.name"
    file = find_module(module)
    if file is None:
        parent = module
        while parent and find_module(parent) is None:
            parent = parent.rpartition(".")[0]
        looked = (
            f"in {find_module(parent)}"
            if parent
            else "in the directory the command is run in and the installed packages"
        )
        return f"'{dotted}' does not import: there is no module '{module}' {looked}"
    if file.suffix != ".py":
        return None
    try:
        code_closure([dotted])  # it and every module of the user's that it imports
        names = set(_defined_names(ast.parse(file.read_bytes())))
    except ConfigError as error:
        return f"'{dotted}' does not import: {error}"
    if name == "__name__" or name in names or "*" in names or "__getattr__" in names:
        return None
    return f"'{dotted}' does not import: {module} has no '{name}'.{did_you_mean(name, names)}"


def _defined_names(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield node.name
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            yield from ((alias.asname or alias.name).partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id


def input_files_exist(graph: Graph) -> Iterator[Finding]:
    """A setting names files and none is there."""
    for step in graph.steps:
        contract = read_contract(resolve(step.component))
        if contract.selects_files:
            try:
                contract.files(step.settings)
            except DataError as error:
                yield Finding("error", step.id, str(error), contract.input_files[0])
            continue
        for setting in contract.input_files:
            for path in contract.paths(step.settings, [setting]):
                try:
                    expand(path)
                except DataError as error:
                    yield Finding("error", step.id, str(error), setting)


def one_publisher_per_destination(graph: Graph) -> Iterator[Finding]:
    """Two steps push to one serving directory: which model serves would be chance."""
    seen: dict[str, str] = {}
    for step in graph.steps:
        contract = read_contract(resolve(step.component))
        if not contract.publishes:
            continue
        try:
            destination = getattr(build_component(contract.component, step.settings), "destination", None)
        except ConfigError as error:
            yield Finding("error", step.id, str(error))
            continue
        if isinstance(destination, str):
            if destination in seen:
                yield Finding(
                    "error",
                    step.id,
                    f"'{destination}' is where '{seen[destination]}' pushes too; give each its own directory",
                    "destination",
                )
            seen.setdefault(destination, step.id)


def blessing_needs_thresholds(graph: Graph) -> Iterator[Finding]:
    """An evaluation without thresholds blesses nothing, so nothing would be pushed."""
    for step in graph.steps:
        whole = any(step.settings.get(name) for name in ("eval_config", "eval_config_file"))  # says it all
        without = not whole and step.settings.get("thresholds", "its own") in ({}, [], None)
        if "ModelBlessing" in step.outputs.values() and without:
            yield Finding(
                "warning",
                step.id,
                "none are set, so no model will be blessed; set thresholds: {auc: {min: 0.7}}",
                "thresholds",
            )


def an_input_left_out_was_a_choice(graph: Graph) -> Iterator[Finding]:
    """An input that is taken where only one step makes it is left out, because several do."""
    made: list[tuple[str, type[Artifact]]] = []
    for step in graph.steps:
        contract = read_contract(resolve(step.component))
        for port, wanted in contract.inputs.items():
            fitting = [wire for wire, kind in made if wanted.accepts(kind)]
            if wanted.if_only_one and port not in (*step.inputs, *step.unwired) and fitting:
                yield Finding(
                    "warning",
                    step.id,
                    f"input '{port}' could be {' or '.join(fitting)}, and stays empty. Say which, as in inputs: "
                    f"{{{port}: {fitting[0]}}}",
                )
        made += [(f"{step.id}.{output}", kind) for output, kind in contract.outputs.items()]


def memory_is_enough(graph: Graph) -> Iterator[Finding]:
    """A step is given less memory than its libraries and buffers take whatever the data."""
    for step in graph.steps:
        least = getattr(resolve(step.component), "LEAST_MEMORY", 0)
        if step.memory is not None and step.memory < least:
            yield Finding(
                "error",
                step.id,
                f"resources.memory is {in_gb(step.memory)}, and {step.component.rpartition('.')[2]} takes {in_gb(least)} "
                f"whatever the data. Give it that or more",
            )


def the_latest_is_of_hyperparameters(graph: Graph) -> Iterator[Finding]:
    """A step would take what it made of other data, which does not fit what the steps beside it make of this."""
    for step in graph.steps:
        if step.cache == "latest" and set(step.outputs.values()) != {Hyperparameters.TYPE_NAME}:
            yield Finding(
                "error",
                step.id,
                f"cache: latest is for steps that make hyperparameters alone, and this one makes "
                f"{', '.join(step.outputs.values())}. Leave cache out: what is unchanged is reused",
            )


RULES: tuple[Callable[[Graph], Iterator[Finding]], ...] = (
    user_code_exists,
    input_files_exist,
    one_publisher_per_destination,
    blessing_needs_thresholds,
    an_input_left_out_was_a_choice,
    memory_is_enough,
    the_latest_is_of_hyperparameters,
)
