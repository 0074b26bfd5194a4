"""A definition as it is on the cluster: its store, its ledger, and its parameters' defaults there."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pipeline.definition import Definition
from pipeline.loading import load
from schemas.config import KubeflowConfig
from schemas.errors import ConfigError, did_you_mean

NO_LEDGER = "none"  # what `kubeflow.ledger` says when the store alone is the record


def load_on_cluster(
    target: str,
    parameters: Mapping[str, Any] | None = None,
    root: str | None = None,
    overrides: Iterable[str] = (),
) -> Definition:
    """The definition that `target` names, as a pod of the cluster has it.

    Its parameters are its own defaults, over them those of its `kubeflow` section, over them what the package was compiled with,
    which `overrides` are (each `a.b=value`), over them `parameters`. Its root is `root`, or that of the section, and its ledger what
    the section says; `none` where nothing does. Without `parameters` the graph is the package's. Raises ConfigError with every
    problem, and for a definition without a `kubeflow` section.
    """
    given = tuple(overrides)
    local = load(target, given)
    kubeflow = kubeflow_of(local)
    problems = tuple(parameter_problems(local, kubeflow))
    if problems:
        raise ConfigError(*problems)
    return _on_cluster(local, kubeflow.parameters, root, given, parameters or {})


def local_and_on_cluster(target: str, overrides: Iterable[str] = ()) -> tuple[Definition, Definition]:
    """A definition as it is here and as it is on the cluster, without those of the section's parameters that are wrong.

    An absolute path below the working directory is taken as the relative one: the image has the same files elsewhere.
    Raises as `load_on_cluster` does.
    """
    if ":" not in target or target.endswith((".yaml", ".yml")):
        file = Path(os.path.normpath(target))
        target = str(file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file)
    given = tuple(overrides)
    local = load(target, given)
    parameters = kubeflow_of(local).parameters
    fitting = {name: value for name, value in parameters.items() if _fits(local, name, value)}
    return local, _on_cluster(local, fitting, None, given)


def _on_cluster(
    local: Definition,
    section: Mapping[str, Any],
    root: str | None,
    overrides: Iterable[str] = (),
    parameters: Mapping[str, Any] = MappingProxyType({}),
) -> Definition:
    """`section` are the parameters of the definition's `kubeflow` section; `parameters` are a run's."""

    def written(given: Mapping[str, Any]) -> list[str]:
        return [f"parameters.{name}={_as_declared(local, name, value)}" for name, value in given.items()]

    kubeflow = kubeflow_of(local)
    every = [*written(section), *overrides, *written(parameters)]
    definition = load(local.target, every) if section or parameters else local
    if definition.tfx is not None and definition.source is None:  # arguments of a function: those left out are none
        there = {name: value for name, value in definition.parameters.items() if value is not None}
        definition = replace(definition, parameters=there)
    return replace(
        definition,
        root=Path(root or kubeflow.root),
        ledger=kubeflow.ledger or definition.ledger or NO_LEDGER,
    )


def _as_declared(local: Definition, name: str, value: Any) -> str:
    """The value as JSON, a whole one with its point where the parameter is a number: KFP is told a type by the default."""
    value = float(value) if type(value) is int and isinstance(local.parameters.get(name), float) else value
    return json.dumps(value, ensure_ascii=False)


def kubeflow_of(definition: Definition) -> KubeflowConfig:
    """The definition's `kubeflow` section. Raises ConfigError when it has none."""
    if definition.kubeflow is None and definition.source is None:
        raise ConfigError(
            f"{definition.target}: there is no section `kubeflow`, which says the image and the volume to run with. Give --image, and the "
            f"volume as --set 'kubeflow.defaults.volumes=[{{claim: penstock, path: /mnt/penstock}}]'"
            + (f"; or write a pipeline.yaml and name that:\n{_as_yaml(definition)}" if definition.tfx else "")
        )
    if definition.kubeflow is None:
        raise ConfigError(
            f"{definition.target}: there is no section `kubeflow`, which says the image and the volume to run with. "
            f"Add `kubeflow: {{image: registry.example.com/team/{definition.graph.name}:1}}`"
        )
    return definition.kubeflow


def _as_yaml(definition: Definition) -> str:
    """The definition in YAML of a TFX pipeline's function, with the arguments that it was given."""
    assert definition.tfx is not None
    arguments = json.dumps(definition.tfx.arguments, ensure_ascii=False)
    name = definition.graph.name
    return (
        f"name: {name}\n"
        f"tfx: {{pipeline: {definition.tfx.pipeline}, arguments: {arguments}}}\n"
        f"kubeflow:\n"
        f"  image: registry.example.com/team/{name}:1\n"
        f"  defaults: {{volumes: [{{claim: penstock, path: /mnt/penstock}}]}}"
    )


def parameter_problems(definition: Definition, kubeflow: KubeflowConfig) -> Iterator[str]:
    """What is wrong with the defaults that the section gives the definition's parameters."""
    for name, value in kubeflow.parameters.items():
        place = definition.place("kubeflow", "parameters", name)
        if name not in definition.parameters:
            known = ", ".join(definition.parameters) or "none"
            hint = did_you_mean(name, definition.parameters) or f" It has: {known}"
            yield f"{place}: the definition has no parameter '{name}'.{hint}"
        elif not _fits(definition, name, value):
            kind, other = type(definition.parameters[name]).__name__, type(value).__name__
            yield f"{place}: {value!r} is of type {other}, and the parameter '{name}' is of type {kind}"


def _fits(definition: Definition, name: str, value: Any) -> bool:
    """Whether there is a parameter of this name that may have this value."""
    if name not in definition.parameters:
        return False
    default = definition.parameters[name]
    return default is None or type(value) is type(default) or (isinstance(default, float) and type(value) is int)
