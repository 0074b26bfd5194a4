"""Definition -> package: a pipeline of Kubeflow Pipelines with one container task per step."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.contract import read_contract
from pipeline.definition import Definition
from pipeline.graph import Step
from pipeline.runners.kubeflow.expectation import expected
from pipeline.runners.kubeflow.names import (
    BLESSED,
    EXECUTIONS,
    METRICS,
    OUTCOME,
    ROC,
    RUN,
    STATUS,
    SUMMARY,
    came_from,
    kebab,
)
from pipeline.runners.kubeflow.on_cluster import kubeflow_of, load_on_cluster
from schemas.artifact import Artifact
from schemas.artifacts import (
    Evaluation,
    Examples,
    Model,
    PushedModel,
)
from schemas.dotted_path import resolve

EXIT_TASK = "ended"


@dataclass(frozen=True)
class Package:
    """A compiled pipeline: its text, and what it says of itself."""

    text: str
    name: str
    image: str
    tasks: tuple[str, ...]
    parameters: Mapping[str, Any]  # with their defaults on the cluster


@dataclass(frozen=True)
class Written:
    """A package in a file."""

    package: Package
    file: Path

    def as_json(self) -> dict[str, Any]:
        """What `--json` prints."""
        return {
            "file": str(self.file),
            "pipeline": self.package.name,
            "image": self.package.image,
            "tasks": list(self.package.tasks),
            "parameters": dict(self.package.parameters),
        }

    def as_text(self) -> str:
        """What there is in the package, for the terminal."""
        parameters = ", ".join(f"{name}={value}" for name, value in self.package.parameters.items())
        return "\n".join(
            [
                f"{self.file}: {self.package.name}, {len(self.package.tasks)} tasks",
                f"  image       {self.package.image}",
                f"  tasks       {', '.join(self.package.tasks)}",
                f"  parameters  {parameters or 'none'}",
            ]
        )


def write_package(target: str, file: Path) -> Written:
    """Compile the definition that `target` names into `file`. Raises ConfigError with every problem; then nothing is written."""
    package = compile_package(load_on_cluster(target))
    file.write_text(package.text, encoding="utf-8")
    return Written(package, file)


def compile_package(definition: Definition) -> Package:
    """The package of a definition as it is on the cluster (load_on_cluster). Raises ConfigError with every problem."""
    kubeflow = kubeflow_of(definition)
    pipeline = _pipeline(definition)
    return Package(
        text=_text(pipeline),
        name=definition.graph.name,
        image=kubeflow.image,
        tasks=tuple(kebab(step.id) for step in definition.graph.steps),
        parameters=dict(definition.parameters),
    )


def _text(pipeline: Any) -> str:
    """The package as YAML. KFP's compiler writes files only."""
    import tempfile

    from kfp import compiler

    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "package.yaml"
        compiler.Compiler().compile(pipeline, str(file))
        return file.read_text(encoding="utf-8")


def _pipeline(definition: Definition) -> Any:
    from kfp import dsl

    parameters = definition.parameters
    build = _function(
        definition.graph.name,
        lambda given: _tasks(definition, given),
        {name: (type(value), value) for name, value in parameters.items()},
    )
    return dsl.pipeline(name=definition.graph.name)(build)


def _tasks(definition: Definition, parameters: Mapping[str, Any]) -> None:
    from kfp import dsl

    kubeflow = kubeflow_of(definition)
    graph = definition.graph
    made: dict[str, Any] = {}
    verdicts = {step.id for step in graph.steps if read_contract(resolve(step.component)).blesses}
    gated = _gated(definition) if kubeflow.gate else {}

    def add(step: Step) -> None:
        inputs = {port: made[wire.step].outputs[wire.output] for port, wire in step.inputs.items()}
        executions = {came_from(parent): made[parent].outputs[EXECUTIONS] for parent in step.parents}
        task = _component(definition, step)(
            **parameters, **{RUN: dsl.PIPELINE_JOB_ID_PLACEHOLDER}, **executions, **inputs
        )
        task.set_caching_options(enable_caching=False)
        task.set_display_name(step.id)
        made[step.id] = task

    def add_gated(conditions: tuple[str, ...]) -> None:
        for step in graph.steps:
            if gated.get(step.id) == conditions:
                add(step)
        deeper = [other for other in gated.values() if len(other) > len(conditions)]
        if deeper:
            following = min(deeper, key=len)
            enter([verdict for verdict in following if verdict not in conditions], following)

    def enter(verdicts_left: list[str], conditions: tuple[str, ...]) -> None:
        if not verdicts_left:
            add_gated(conditions)
            return
        first, *rest = verdicts_left
        with dsl.If(made[first].outputs[BLESSED] == True, name=f"{kebab(first)}-blessed"):  # noqa: E712 KFP's own operator
            enter(rest, conditions)

    def add_all() -> None:
        for step in graph.steps:
            if step.id not in gated:
                add(step)
        add_gated(())

    assert verdicts >= {verdict for conditions in gated.values() for verdict in conditions}
    if kubeflow.exit_handler:
        last = _exit_component(definition)(**parameters, **{RUN: dsl.PIPELINE_JOB_ID_PLACEHOLDER})
        last.set_caching_options(enable_caching=False)
        last.set_display_name(EXIT_TASK)
        with dsl.ExitHandler(last, name=graph.name):
            add_all()
    else:
        add_all()


def _gated(definition: Definition) -> dict[str, tuple[str, ...]]:
    """The steps that publish and those after them, each with the steps whose blessing it needs, in their order."""
    graph = definition.graph
    contracts = {step.id: read_contract(resolve(step.component)) for step in graph.steps}
    gated: dict[str, tuple[str, ...]] = {}
    for step in graph.steps:
        before = graph.ancestors(step.id)
        wanted = {verdict for other in before if other in gated for verdict in gated[other]}
        publishes = contracts[step.id].publishes
        if publishes:
            wanted |= {other for other in before if contracts[other].blesses}
        if publishes or any(other in gated for other in before):
            gated[step.id] = tuple(other.id for other in graph.steps if other.id in wanted)
    return gated


def _component(definition: Definition, step: Step) -> Any:
    from kfp import dsl

    contract = read_contract(resolve(step.component))
    ports = {
        port: dsl.Input[_ui_type(_made_by(definition, wire.step, wire.output))] for port, wire in step.inputs.items()
    }
    outputs: dict[str, Any] = {output: dsl.Output[_ui_type(kind)] for output, kind in contract.outputs.items()}
    outputs[SUMMARY] = dsl.Output[dsl.Markdown]
    kinds = tuple(contract.outputs.values())
    if any(issubclass(kind, (Evaluation, Model)) for kind in kinds):
        outputs[METRICS] = dsl.Output[dsl.Metrics]
    if any(issubclass(kind, Evaluation) for kind in kinds):
        outputs[ROC] = dsl.Output[dsl.ClassificationMetrics]
    said: dict[str, Any] = {OUTCOME: dsl.OutputPath(str), EXECUTIONS: dsl.OutputPath(str)}
    if contract.blesses:
        said[BLESSED] = dsl.OutputPath(bool)
    arguments = [
        "step", definition.target, step.id, "--root", str(definition.root), "--expect", expected(definition, step.id).to_json(),
        "--executor-input", dsl.PIPELINE_TASK_EXECUTOR_INPUT_PLACEHOLDER,
    ]  # fmt: skip
    taken: dict[str, Any] = {name: type(value) for name, value in definition.parameters.items()}
    taken |= {RUN: str, **{came_from(parent): str for parent in step.parents}, **ports, **said, **outputs}
    return _container(definition, step.id, arguments, taken)


def _exit_component(definition: Definition) -> Any:
    from kfp import dsl

    arguments = [
        "kubeflow", "ended", definition.target, "--root", str(definition.root), "--expect", expected(definition).to_json(),
        "--executor-input", dsl.PIPELINE_TASK_EXECUTOR_INPUT_PLACEHOLDER,
    ]  # fmt: skip
    taken: dict[str, Any] = {name: type(value) for name, value in definition.parameters.items()}
    taken |= {RUN: str, STATUS: dsl.PipelineTaskFinalStatus, SUMMARY: dsl.Output[dsl.Markdown]}
    return _container(definition, EXIT_TASK, arguments, taken)


def _container(definition: Definition, name: str, arguments: list[str], takes: Mapping[str, Any]) -> Any:
    from kfp import dsl

    image = kubeflow_of(definition).image
    spec = dsl.ContainerSpec(image=image, command=["pipeline"], args=arguments)
    empty = inspect.Parameter.empty
    return dsl.container_component(
        _function(name, lambda _: spec, {input_: (kind, empty) for input_, kind in takes.items()})
    )


def _function(
    name: str, body: Callable[[Mapping[str, Any]], Any], takes: Mapping[str, tuple[Any, Any]]
) -> Callable[..., Any]:
    """A function with a made-up signature, which is how KFP's DSL is told what a component or a pipeline takes."""

    signature = inspect.Signature(
        [
            inspect.Parameter(taken, inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=kind, default=default)
            for taken, (kind, default) in takes.items()
        ]
    )

    def function(*args: Any, **kwargs: Any) -> Any:
        return body(signature.bind(*args, **kwargs).arguments)

    function.__name__ = function.__qualname__ = name.replace("-", "_")
    function.__signature__ = signature  # type: ignore[attr-defined]
    return function


def _made_by(definition: Definition, step: str, output: str) -> type[Artifact]:
    return read_contract(resolve(definition.graph[step].component)).outputs[output]


def _ui_type(kind: type[Artifact]) -> Any:
    """What the UI takes an artifact for."""
    from kfp import dsl

    if issubclass(kind, (Model, PushedModel)):
        return dsl.Model
    if issubclass(kind, Examples):
        return dsl.Dataset
    return dsl.Artifact
