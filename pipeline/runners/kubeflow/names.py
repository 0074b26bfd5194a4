"""What things are called in a package: Kubeflow's spelling of a step's name, the names that are taken, and what KFP refuses."""

from __future__ import annotations

import keyword
import re
from collections.abc import Iterator

from pipeline.contract import read_contract
from pipeline.definition import Definition
from pipeline.runners.kubeflow.resources import has_password
from schemas.config import KubeflowConfig
from schemas.dotted_path import resolve

RUN = "penstock_run"
FROM = "penstock_from_"
RESERVED = "penstock_"  # beginning of the inputs that are ours

OUTCOME = "outcome"
EXECUTIONS = "executions"
BLESSED = "blessed"
SUMMARY = "summary"
METRICS = "metrics"
ROC = "roc"
TAKEN = (OUTCOME, EXECUTIONS, BLESSED, SUMMARY, METRICS, ROC)
"""Outputs of a task besides the component's own."""

EXIT_TASK = "ended"

EXACT_BELOW = 2**53  # numbers travel as doubles: from here on, a whole one may arrive as another

_INPUT = re.compile(r"[A-Za-z][A-Za-z0-9_]*")  # what KFP takes for an input, and Python for an argument
_GROUP = re.compile(
    r"((condition|condition-branches|exit-handler|for-loop)-\d+|root)(-driver)?"
)  # what KFP calls groups of tasks
_DRIVER = "-driver"  # KFP runs a pod of this name before each task


def kebab(name: str) -> str:
    """The name of a step's task and component in the package: 'example_gen' is 'example-gen'."""
    return "-".join(part for part in name.split("_") if part)


def came_from(parent: str) -> str:
    """The input of a task by which a parent's executions come."""
    return FROM + parent


def name_problems(definition: Definition, kubeflow: KubeflowConfig) -> Iterator[str]:
    """Names of steps, ports and parameters that a package cannot have, each with its place and what to do."""
    yield from _step_problems(definition, kubeflow)
    yield from _port_problems(definition)
    yield from _parameter_problems(definition)


def _step_problems(definition: Definition, kubeflow: KubeflowConfig) -> Iterator[str]:
    seen: dict[str, str] = {EXIT_TASK: "the last task"} if kubeflow.exit_handler else {}
    tasks = {kebab(step.id): step.id for step in definition.graph.steps}
    for step in definition.graph.steps:
        place, task = definition.place("steps", step.id), kebab(step.id)
        if task in seen:
            yield f"{place}: its task would be called '{task}', as that of {seen[task]} is. Rename the step"
        elif _GROUP.fullmatch(task):
            yield f"{place}: '{task}' is what KFP calls a group of tasks. Rename the step"
        elif task.removesuffix(_DRIVER) != task and task.removesuffix(_DRIVER) in {*tasks, *seen}:
            yield (
                f"{place}: '{task}' is what KFP calls a pod of its own, which prepares '{task.removesuffix(_DRIVER)}'. "
                f"Rename the step"
            )
        seen.setdefault(task, f"'{step.id}'")


def _port_problems(definition: Definition) -> Iterator[str]:
    for step in definition.graph.steps:
        contract = read_contract(resolve(step.component))
        component = step.component.rpartition(".")[2]
        for port in (*step.inputs, *contract.outputs):
            place = definition.place("steps", step.id)
            if port in TAKEN:
                yield (
                    f"{place}: '{port}' of {component} is what a task says of every step on Kubeflow ({', '.join(TAKEN)}). "
                    f"Call it otherwise in its `run`"
                )
            elif port.startswith(RESERVED) or not _INPUT.fullmatch(port):
                yield f"{place}: KFP takes no '{port}' of {component}. Call it otherwise in its `run`: {_RULE}"


_RULE = f"letters, digits and underscores, beginning with a letter, and not with {RESERVED}"


def _parameter_problems(definition: Definition) -> Iterator[str]:
    ports: dict[str, str] = {}
    for step in definition.graph.steps:
        outputs = read_contract(resolve(step.component)).outputs
        for port in (*outputs, *step.inputs):
            ports.setdefault(port, step.id)
    for name, value in definition.parameters.items():
        place = definition.place("parameters", name)
        if name.startswith(RESERVED):
            yield f"{place}: names that begin with {RESERVED} are Penstock's own on Kubeflow. Rename the parameter"
        elif not _INPUT.fullmatch(name) or keyword.iskeyword(name) or name == "self":
            yield f"{place}: KFP takes no parameter '{name}'. Rename it: {_RULE}, and no word of Python's own"
        elif name in TAKEN:
            yield f"{place}: '{name}' is what a task says of every step on Kubeflow ({', '.join(TAKEN)}). Rename the parameter"
        elif name in ports:
            yield f"{place}: '{name}' is also an artifact of '{ports[name]}', and a task of KFP has one of each name. Rename the parameter"
        yield from _value_problems(place, name, value)


def _value_problems(place: str, name: str, value: object) -> Iterator[str]:
    if value is None:
        yield (
            f"{place}: null has no type, and KFP wants one of '{name}'. Give it a default of the type it is to have, here or in "
            f"kubeflow.parameters"
        )
    elif not isinstance(value, bool | int | float | str):
        yield f"{place}: {value!r} is of type {type(value).__name__}. KFP's parameters of a run are text, numbers and booleans"
    elif isinstance(value, float) and (value != value or value in (float("inf"), -float("inf"))):
        yield f"{place}: {value} is no number in JSON, in which KFP keeps parameters. Give a finite one"
    elif isinstance(value, int) and abs(value) >= EXACT_BELOW:
        yield f"{place}: {value} is not below 2**53, up to which KFP keeps integers exactly. Give it as text"
    elif isinstance(value, str) and not value.isprintable():
        yield f"{place}: {value!r} has line breaks or other characters that do not print, which KFP's compiler cannot write as a default"
    elif isinstance(value, str) and has_password(value):  # which is not repeated here
        yield (
            f"{place}: has a password in it, which anybody could read in the package and in the UI. Give it to the pods from a secret, "
            f"as kubeflow.defaults.secrets: [{{name: penstock, env: {{VARIABLE: key}}}}]"
        )
    elif isinstance(value, str) and "{{" in value:
        yield f"{place}: '{value}' has '{{{{' in it, which KFP takes for the beginning of a placeholder. Write it otherwise"
