"""A compiled package of Kubeflow Pipelines, as far as starting and following a run needs it: parameters and tasks."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from pipeline.runners.kubeflow.names import EXACT_BELOW
from schemas.errors import ConfigError, did_you_mean

_BLESSED = re.compile(r"\['pipelinechannel--(?P<output>[^']+)-blessed'\]")
_SCALARS: Mapping[str, tuple[type, ...]] = {
    "NUMBER_INTEGER": (int,),
    "NUMBER_DOUBLE": (int, float),
    "BOOLEAN": (bool,),
    "STRING": (str,),
    "LIST": (list,),
    "STRUCT": (dict,),
}
_WORDS = {
    "NUMBER_INTEGER": "a whole number",
    "NUMBER_DOUBLE": "a number",
    "BOOLEAN": "true or false",
    "STRING": "text",
    "LIST": "a list, as in [1, 2]",
    "STRUCT": "a mapping, as in {a: 1}",
}


@dataclass(frozen=True)
class Task:
    """A container task. `within` are the groups around it, outermost first; a group is a task as well, of another pod."""

    key: str
    name: str  # what the UI shows
    within: tuple[str, ...] = ()
    last: bool = False  # runs however the others ended


@dataclass(frozen=True)
class Group:
    """A condition or an exit handler around tasks. `blessing` is the task whose verdict it waits for, if that is its condition."""

    key: str
    within: tuple[str, ...] = ()
    blessing: str | None = None


@dataclass(frozen=True)
class Layout:
    """The tasks of a pipeline in the order data flows, and the groups they stand in."""

    tasks: tuple[Task, ...]
    groups: Mapping[str, Group]

    def find(self, step: str) -> Task | None:
        """The task of a step, by the step's id, the task's key, or the name that the UI shows."""
        for task in self.tasks:
            if step in (task.name, task.key) or _plain(step) == _plain(task.key):
                return task
        return None


@dataclass(frozen=True)
class PackageFile:
    """A package and the file it came from."""

    file: Path
    content: bytes = field(repr=False)
    spec: Mapping[str, Any] = field(repr=False)

    @property
    def name(self) -> str:
        """The pipeline's."""
        return str(self.spec["pipelineInfo"]["name"])

    @property
    def version(self) -> str:
        """What a pipeline's version made of exactly this content is called."""
        return f"{self.name}-{hashlib.sha256(self.content).hexdigest()[:12]}"

    @cached_property
    def layout(self) -> Layout:
        """Its tasks."""
        return layout_of(self.spec)

    @property
    def parameters(self) -> Mapping[str, Mapping[str, Any]]:
        """The definitions of the run's parameters by name: parameterType, defaultValue, isOptional."""
        found: Mapping[str, Mapping[str, Any]] = (
            self.spec.get("root", {}).get("inputDefinitions", {}).get("parameters", {})
        )
        return found

    def arguments(self, overrides: Iterable[str]) -> dict[str, Any]:
        """`parameters.x=value` for a run, each as the type that the package wants. Raises ConfigError with every problem."""
        problems: list[str] = []
        arguments: dict[str, Any] = {}
        for override in overrides:
            try:
                name, value = self._argument(override)
                arguments[name] = value
            except ConfigError as error:
                problems.extend(error.problems)
        named = {override.partition("=")[0].strip() for override in overrides}
        problems += [
            f"{self.file}: parameter '{name}' has no default: give --set parameters.{name}=VALUE"
            for name in self._without_default
            if f"parameters.{name}" not in named
        ]
        if problems:
            raise ConfigError(*problems)
        return arguments

    def checked(self, values: Mapping[str, Any], place: str) -> dict[str, Any]:
        """Values of parameters by name, each as the type that the package wants.

        Raises ConfigError with every problem, each beginning with `place` and the parameter.
        """
        problems: list[str] = []
        arguments: dict[str, Any] = {}
        for name, value in values.items():
            try:
                if name not in self.parameters:
                    raise ConfigError(f"{place}.{name}: {self._unknown(name)}")
                arguments[name] = _checked(value, _shown(value), self.parameters[name], f"{place}.{name}")
            except ConfigError as error:
                problems.extend(error.problems)
        problems += [
            f"{place}: the pipeline's parameter '{name}' has no default: give it"
            for name in self._without_default
            if name not in values
        ]
        if problems:
            raise ConfigError(*problems)
        return arguments

    @property
    def _without_default(self) -> list[str]:
        wanted = self.parameters.items()
        return [name for name, each in wanted if "defaultValue" not in each and not each.get("isOptional")]

    def _unknown(self, name: str) -> str:
        return f"the pipeline has no parameter '{name}'." + (
            did_you_mean(name, self.parameters) or f" It has: {', '.join(self.parameters) or 'none'}"
        )

    def _argument(self, override: str) -> tuple[str, Any]:
        path, equals, text = override.partition("=")
        place, name = f"--set {override}", path.strip().removeprefix("parameters.")
        if not equals or not name:
            raise ConfigError(f"{place}: expected parameters.NAME=VALUE, as in --set parameters.train_steps=20")
        if path.strip() == name:
            hint = f" Did you mean 'parameters.{name}'?" if name in self.parameters else ""
            raise ConfigError(
                f"{place}: of a compiled package only parameters can be set.{hint} Anything else: change the definition, "
                "build the image and compile again"
            )
        if name not in self.parameters:
            raise ConfigError(f"{place}: {self._unknown(name)}")
        return name, _typed(text, self.parameters[name], place)


def read_package(file: Path) -> PackageFile:
    """Read a compiled package. Raises ConfigError when `file` is none."""
    try:
        content = file.read_bytes()
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}") from error
    spec = next((document for document in _documents(file, content) if _is_package(document)), None)
    if spec is None:
        raise ConfigError(
            f"{file}: this is no package of Kubeflow Pipelines: it has no pipelineInfo. "
            "`pipeline kubeflow compile CONFIG -o FILE.yaml` makes one"
        )
    return PackageFile(file, content, spec)


def is_package(file: Path) -> bool:
    """Whether `file` looks like a compiled package rather than a definition. A file that cannot be read does not."""
    try:
        return re.search(rb"^pipelineInfo:", file.read_bytes(), re.MULTILINE) is not None
    except OSError:
        return False


def layout_of(spec: Mapping[str, Any]) -> Layout:
    """The tasks in a pipeline's specification, as a package or KFP's API holds it; none in one of another form."""
    spec = spec.get("pipeline_spec", spec)
    tasks: list[Task] = []
    groups: dict[str, Group] = {}
    for found in _walk(spec, spec.get("root", {}), ()):
        if isinstance(found, Task):
            tasks.append(found)
        else:
            groups[found.key] = found
    return Layout(tuple(sorted(tasks, key=lambda task: task.last)), groups)


def _walk(spec: Mapping[str, Any], component: Mapping[str, Any], within: tuple[str, ...]) -> Iterator[Task | Group]:
    tasks: Mapping[str, Mapping[str, Any]] = component.get("dag", {}).get("tasks", {})
    for key in _in_order(tasks):
        task = tasks[key]
        inner = spec.get("components", {}).get(task.get("componentRef", {}).get("name"), {})
        policy = task.get("triggerPolicy", {})
        last = policy.get("strategy") == "ALL_UPSTREAM_TASKS_COMPLETED"
        if "dag" in inner:
            verdict = _BLESSED.search(policy.get("condition", ""))
            yield Group(key, within, verdict["output"] if verdict else None)
            yield from _walk(spec, inner, (*within, key))
        else:
            yield Task(key, task.get("taskInfo", {}).get("name", key), within, last)


def _in_order(tasks: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The keys as data flows: each after all that it depends on, and those of one depth by name."""
    depths: dict[str, int] = {}

    def depth(key: str) -> int:
        if key not in depths:
            depths[key] = 0  # a package is no place for circles, but a hang would be a poor answer to one
            depths[key] = 1 + max(
                (depth(other) for other in tasks[key].get("dependentTasks", ()) if other in tasks), default=0
            )
        return depths[key]

    return sorted(tasks, key=lambda key: (depth(key), key))


def _documents(file: Path, content: bytes) -> list[Any]:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        return list(YAML(typ="safe").load_all(content.decode("utf-8-sig")))
    except (YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: not valid YAML: {str(error).splitlines()[0]}") from error


def _is_package(document: Any) -> bool:
    return isinstance(document, dict) and isinstance(document.get("pipelineInfo"), dict) and "root" in document


def _typed(text: str, wanted: Mapping[str, Any], place: str) -> Any:
    """The value of `text`, read as YAML, in the type that `wanted` names."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        value = YAML(typ="safe").load(text) if text.strip() else ""
    except YAMLError:
        value = text
    if wanted.get("parameterType") == "STRING":
        return value if isinstance(value, str) else text.strip()
    return _checked(value, text, wanted, place)


def _checked(value: Any, text: str, wanted: Mapping[str, Any], place: str) -> Any:
    """The value in the type that `wanted` names; `text` is how it was written."""
    kind = str(wanted.get("parameterType"))
    if isinstance(value, float) and kind == "NUMBER_INTEGER" and value.is_integer():
        value = int(value)
    types = _SCALARS.get(kind, ())
    if not isinstance(value, types) or (isinstance(value, bool) and kind != "BOOLEAN"):
        default = wanted.get("defaultValue")
        known = "" if default is None else f" (its default is {_shown(default)})"
        raise ConfigError(f"{place}: expected {_WORDS.get(kind, kind)}{known}, found {text.strip()!r}")
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(
            f"{place}: {text.strip()} is no number in JSON, in which KFP keeps parameters. Give a finite one"
        )
    if isinstance(value, int) and abs(value) >= EXACT_BELOW:
        raise ConfigError(f"{place}: {text.strip()} is not below 2**53, up to which KFP keeps integers exactly")
    return value


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else repr(value)


def _plain(name: str) -> str:
    return name.lower().replace("_", "-")
