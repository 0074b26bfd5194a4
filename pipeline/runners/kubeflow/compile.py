"""Definition -> package: a pipeline of Kubeflow Pipelines with one container task per step."""

from __future__ import annotations

import inspect
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.contract import Contract, read_contract
from pipeline.definition import Definition
from pipeline.graph import Graph, Step, Wire
from pipeline.runners.kubeflow.checks import check_on_cluster
from pipeline.runners.kubeflow.expectation import expected
from pipeline.runners.kubeflow.gates import gated
from pipeline.runners.kubeflow.names import (
    BLESSED,
    EXECUTIONS,
    EXIT_TASK,
    METRICS,
    OUTCOME,
    ROC,
    RUN,
    SUMMARY,
    came_from,
    kebab,
)
from pipeline.runners.kubeflow.on_cluster import kubeflow_of
from pipeline.runners.kubeflow.package import Package
from pipeline.runners.kubeflow.resources import Resources, apply, apply_notification
from schemas.artifact import Artifact
from schemas.artifacts import (
    Evaluation,
    Examples,
    ExportedModels,
    Model,
    PushedModel,
    Statistics,
    TransformStatistics,
)
from schemas.component import Earlier
from schemas.config import KubeflowConfig
from schemas.dotted_path import resolve
from schemas.errors import ConfigError

if TYPE_CHECKING:
    from kfp.dsl import PipelineTask

_EMPTY = inspect.Parameter.empty


def compile_package(target: str, overrides: Iterable[str] = ()) -> Package:
    """The package of the definition that `target` names. Raises ConfigError with every problem.

    With `overrides` (each `a.b=value`), which its pods are told as well: what they say of parameters are the package's defaults.
    """
    given = tuple(overrides)
    checked = check_on_cluster(target, given)
    if checked.errors:
        raise ConfigError(*checked.errors)
    definition = checked.definition
    text = _text(_pipeline(_Compilation(definition, kubeflow_of(definition), checked.resources, given)))
    return Package(
        text=text,
        target=definition.target,
        name=definition.graph.name,
        image=kubeflow_of(definition).image,
        root=str(definition.root),
        tasks=tuple(kebab(step.id) for step in definition.graph.steps),
        parameters=dict(definition.parameters),
        service_account=checked.resources.service_account,
        warnings=checked.warnings,
        unused=checked.resources.unused,
        fast=definition.fast,
    )


def _text(pipeline: Any) -> str:
    """The package as YAML. KFP's compiler writes files only."""
    from kfp import compiler

    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "package.yaml"
        compiler.Compiler().compile(pipeline, str(file))
        return file.read_text(encoding="utf-8")


@dataclass(frozen=True)
class _Compilation:
    """A definition on its way through KFP's DSL."""

    definition: Definition
    kubeflow: KubeflowConfig
    resources: Resources
    overrides: tuple[str, ...] = ()
    tasks: dict[str, PipelineTask] = field(default_factory=dict)  # step: its task, of those that are made so far

    @property
    def graph(self) -> Graph:
        return self.definition.graph

    def contract(self, step: str) -> Contract:
        return read_contract(resolve(self.graph[step].component))


def _pipeline(it: _Compilation) -> Any:
    """The pipeline, made when KFP calls its function."""
    from kfp import dsl

    def build(parameters: Mapping[str, Any]) -> None:
        if not it.kubeflow.exit_handler:
            _add_steps(it, parameters)
            return
        last = _exit_component(it)(**parameters, **{RUN: dsl.PIPELINE_JOB_ID_PLACEHOLDER})
        _arrange(it, last, None)
        apply_notification(it.kubeflow, last)
        with dsl.ExitHandler(last, name=it.graph.name):
            _add_steps(it, parameters)

    defaults = {name: (type(value), value) for name, value in it.definition.parameters.items()}
    return dsl.pipeline(name=it.graph.name)(_function(it.graph.name.replace("-", "_"), build, defaults))


def _add_steps(it: _Compilation, parameters: Mapping[str, Any]) -> None:
    """A task for every step: first those that always run, then those that wait for blessings, in groups."""
    from kfp import dsl

    waits = gated(it.graph) if it.kubeflow.gate else {}

    def add(conditions: tuple[str, ...] | None) -> None:
        for step in it.graph.steps:
            if waits.get(step.id) == conditions:
                _add_step(it, step, parameters)

    def within(asked: list[str], then: Callable[[], None]) -> None:
        if not asked:
            then()
            return
        blessed = it.tasks[asked[0]].outputs[BLESSED]
        with dsl.If(blessed == True, name=f"{kebab(asked[0])}-blessed"):  # noqa: E712 KFP's operator
            within(asked[1:], then)

    def add_group(number: int, outer: tuple[str, ...]) -> None:
        if number == len(groups):
            return
        conditions = groups[number]

        def then() -> None:
            add(conditions)
            add_group(number + 1, conditions)

        within([verdict for verdict in conditions if verdict not in outer], then)

    # Whoever publishes waits for all that stands before it, so of two groups the one asks for all that the other asks for.
    groups = sorted(set(waits.values()), key=len)
    add(None)
    add_group(0, ())
    for step in it.graph.steps:
        for other in _looked_at(it, step):
            if waits.get(other) in (None, waits.get(step.id)):  # what is in another group cannot be waited for
                it.tasks[step.id].after(it.tasks[other])


def _looked_at(it: _Compilation, step: Step) -> list[str]:
    """The steps with input files, which a step that looks back asks what they have found: its pod may see none of those.

    Not those below one that looks back: each could come to wait for the other.
    """
    if it.contract(step.id).ask(Earlier) is None:
        return []
    looking = [one.id for one in it.graph.steps if it.contract(one.id).ask(Earlier)]
    below = set(looking).union(*(it.graph.descendants(one) for one in looking))
    return [one.id for one in it.graph.steps if one.id not in below and it.contract(one.id).input_files]


def _add_step(it: _Compilation, step: Step, parameters: Mapping[str, Any]) -> None:
    from kfp import dsl

    executions = {came_from(parent): it.tasks[parent].outputs[EXECUTIONS] for parent in step.parents}
    artifacts = {port: it.tasks[wire.step].outputs[wire.output] for port, wire in step.inputs.items()}
    run = {RUN: dsl.PIPELINE_JOB_ID_PLACEHOLDER}
    task = _component(it, step)(**parameters, **run, **executions, **artifacts)
    _arrange(it, task, step.id)
    it.tasks[step.id] = task


def _arrange(it: _Compilation, task: PipelineTask, step: str | None) -> None:
    """What has nothing to do with what a task works on."""
    task.set_caching_options(enable_caching=False)  # KFP's cache looks at no data; ours does
    task.set_display_name(step or EXIT_TASK)
    apply(it.resources.of(step), task)


def _component(it: _Compilation, step: Step) -> Any:
    from kfp import dsl

    contract = it.contract(step.id)
    takes: dict[str, Any] = {came_from(parent): str for parent in step.parents}
    takes |= {port: dsl.Input[_ui_type(_kind(it, wire))] for port, wire in step.inputs.items()}
    takes |= {OUTCOME: dsl.OutputPath(str), EXECUTIONS: dsl.OutputPath(str)}
    if contract.blesses:
        takes[BLESSED] = dsl.OutputPath(bool)
    takes |= {output: dsl.Output[_ui_type(kind)] for output, kind in contract.outputs.items()}
    takes[SUMMARY] = dsl.Output[dsl.Markdown]
    if any(issubclass(kind, Evaluation | Model) for kind in contract.outputs.values()):
        takes[METRICS] = dsl.Output[dsl.Metrics]
    if any(issubclass(kind, Evaluation) for kind in contract.outputs.values()):
        takes[ROC] = dsl.Output[dsl.ClassificationMetrics]
    return _container(
        it, step.id, ["step"], [it.definition.target, step.id], expected(it.definition, step.id).to_json(), takes
    )


def _exit_component(it: _Compilation) -> Any:
    """The last task. It takes no final status: the backend 2.5 cannot give one, and the run's record in the store says more."""
    from kfp import dsl

    takes = {SUMMARY: dsl.Output[dsl.Markdown]}
    return _container(
        it, EXIT_TASK, ["kubeflow", EXIT_TASK], [it.definition.target], expected(it.definition).to_json(), takes
    )


def _container(
    it: _Compilation, name: str, verb: list[str], arguments: list[str], expectation: str, takes: Mapping[str, Any]
) -> Any:
    from kfp import dsl

    rest = [word for override in it.overrides for word in ("--set", override)]
    rest += ["--root", str(it.definition.root), "--expect", expectation]
    spec = dsl.ContainerSpec(
        image=it.kubeflow.image,
        command=["pipeline", *verb],
        args=[*arguments, *rest, "--executor-input", dsl.PIPELINE_TASK_EXECUTOR_INPUT_PLACEHOLDER],
    )
    given = {parameter: type(value) for parameter, value in it.definition.parameters.items()}
    signature = {taken: (kind, _EMPTY) for taken, kind in {**given, RUN: str, **takes}.items()}
    return dsl.container_component(_function(name, lambda _: spec, signature))


def _function(name: str, body: Callable[[Mapping[str, Any]], Any], takes: Mapping[str, tuple[Any, Any]]) -> Any:
    """A function with a made-up signature, which is how KFP's DSL is told what a component or a pipeline takes.

    `takes` has the type and the default of each argument.
    """
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    signature = inspect.Signature(
        [inspect.Parameter(taken, kind, annotation=hint, default=default) for taken, (hint, default) in takes.items()]
    )

    def function(*args: Any, **kwargs: Any) -> Any:
        return body(signature.bind(*args, **kwargs).arguments)

    function.__name__ = function.__qualname__ = name
    function.__signature__ = signature  # type: ignore[attr-defined]
    return function


def _kind(it: _Compilation, wire: Wire) -> type[Artifact]:
    return it.contract(wire.step).outputs[wire.output]


def _ui_type(kind: type[Artifact]) -> Any:
    """What the UI takes an artifact for."""
    from kfp import dsl

    if issubclass(kind, Model | PushedModel | ExportedModels):
        return dsl.Model
    if issubclass(kind, Examples | Statistics | TransformStatistics):
        return dsl.Dataset
    return dsl.Artifact
