"""Paths of a definition that a pod would look for: on a mounted volume, in the image, in an object store, or nowhere."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from pipeline.contract import Contract, read_contract
from pipeline.definition import Definition
from pipeline.graph import Step
from pipeline.plan import publishing_below
from pipeline.runners.kubeflow.resources import Resources
from schemas.dotted_path import resolve
from schemas.input_files import SCHEME

IN_THE_IMAGE = ("configs", "schemas")  # below the image's working directory; and the definition's own top folder


def path_problems(definition: Definition, resources: Resources) -> Iterator[str]:
    """Every path that pods cannot see: whose setting it is, and what to write instead."""
    yield from _root_problems(definition, resources)
    for step in definition.graph.steps:
        contract = read_contract(resolve(step.component))
        mounts = _mounts(resources, step.id)
        for setting in contract.input_files:
            for path in contract.paths(step.settings, [setting]):
                problem = _input_problem(path, mounts, _in_the_image(definition))
                if problem:
                    yield f"{definition.place('steps', step.id, 'with', setting)}: {problem}"
        for setting, path in _written_or_read_beside(step, contract):
            problem = _output_problem(path, mounts)
            if problem:
                yield f"{definition.place('steps', step.id, 'with', setting)}: {problem}"
        if contract.takes_baseline(step.settings):
            yield from _baseline_problems(definition, resources, step)


def is_seen_here(path: str, definition: Definition) -> bool:
    """Whether an input file that pods have is one that this machine has too: in an installed package, or among the image's own."""
    if path.startswith(SCHEME):
        package = path.removeprefix(SCHEME).partition("/")[0]
        return not package.isidentifier() or importlib.util.find_spec(package) is not None
    return PurePosixPath(path).parts[:1] in [(name,) for name in _in_the_image(definition)]


def _root_problems(definition: Definition, resources: Resources) -> Iterator[str]:
    root = str(definition.root)
    place = definition.place("kubeflow", "root")
    if not PurePosixPath(root).is_absolute():
        yield f"{place}: {root} is relative, and pods share no working directory. Give the store's path on the volume, as /mnt/penstock/.penstock"
        return
    without = [step.id for step in definition.graph.steps if not _is_below(root, _mounts(resources, step.id))]
    if not _is_below(root, _mounts(resources, None)) or without:
        whose = f"the pods of {', '.join(without)} mount" if without else "the last task's pod mounts"
        everybody = len(without) == len(definition.graph.steps)
        yield (
            f"{place}: {root} is on no volume that {'the pods mount' if everybody else whose}, so what they make would be lost with them. "
            f"Add one, as kubeflow.defaults.volumes: [{{claim: penstock, path: {_first_two(root)}}}]"
        )


def _first_two(path: str) -> str:
    parts = PurePosixPath(path).parts
    return str(PurePosixPath(*parts[:3])) if len(parts) > 3 else str(PurePosixPath(*parts[:2]))


def _input_problem(path: str, mounts: Iterable[str], in_the_image: Iterable[str]) -> str | None:
    if path.startswith(SCHEME) or not path.strip():
        return None
    if "://" in path:
        where = f"{path} is in an object store, and inputs are files"
    elif path.startswith("/"):
        if _is_below(path, mounts):
            return None
        where = f"{path} lies on this machine, on no volume that the step's pod mounts ({_shown(mounts)})"
    elif path.startswith("~"):
        where = f"{path} is in a home directory of this machine, and pods have another"
    else:
        inside = PurePosixPath(path).parts
        if inside[0] in in_the_image and ".." not in inside:
            return None
        where = f"{path} is relative, and the image has no such file: below its working directory lie {', '.join(in_the_image)}"
    return (
        f"{where}. Put the files on a mounted volume and give their path there, or in a package as {SCHEME}package/path; where the "
        f"path is another one on this machine, make it a parameter and set kubeflow.parameters"
    )


def _written_or_read_beside(step: Step, contract: Contract) -> Iterator[tuple[str, str]]:
    """Settings of a step that publishes which hold a location outside the store."""
    if contract.publishes:
        for setting in ("destination", "models_config"):
            value = step.settings.get(setting)
            if isinstance(value, str) and value.strip():
                yield setting, value


def _baseline_problems(definition: Definition, resources: Resources, step: Step) -> Iterator[str]:
    """A pod that is given the model that serves has to see it: one that sees none finds nothing to be worse than."""
    publishing = publishing_below(definition.graph, step)
    if publishing is None:
        return
    for setting, path in _written_or_read_beside(publishing, read_contract(resolve(publishing.component))):
        mounts = _mounts(resources, step.id)
        theirs = _output_problem(path, _mounts(resources, publishing.id))
        if setting == "destination" and theirs is None and _output_problem(path, mounts) is not None:
            yield (
                f"{definition.place('steps', step.id)}: is given the model that is served from {path}, which is on no volume that its "
                f"pod mounts ({_shown(mounts)}), and would take it that none is served. Give it the volume that "
                f"{publishing.id} has, as kubeflow.steps.{step.id}.volumes"
            )


def _output_problem(path: str, mounts: Iterable[str]) -> str | None:
    scheme, found, _ = path.partition("://")
    if (found and scheme.lower() not in ("file", "local")) or (path.startswith("/") and _is_below(path, mounts)):
        return None
    where = (
        f"{path} is on no volume that the step's pod mounts ({_shown(mounts)})"
        if path.startswith("/")
        else f"{path} is relative, and what a pod writes there is lost with it"
    )
    return (
        f"{where}. Give a path on a mounted volume, or an address such as gs://bucket/models or s3://bucket/models; where the path is "
        f"another one on this machine, make it a parameter and set kubeflow.parameters"
    )


def _in_the_image(definition: Definition) -> tuple[str, ...]:
    target = definition.target
    own = target.partition(":")[0].partition(".")[0] if ":" in target else Path(target).parts[0]
    return tuple(
        dict.fromkeys(
            [*IN_THE_IMAGE, *([own] if own not in ("/", "..") and not own.endswith((".yaml", ".yml")) else [])]
        )
    )


def _mounts(resources: Resources, step: str | None) -> list[str]:
    return [volume.path for volume in resources.of(step).volumes]


def _is_below(path: str, directories: Iterable[str]) -> bool:
    pure = PurePosixPath(path)
    return ".." not in pure.parts and any(pure.is_relative_to(directory) for directory in directories)


def _shown(mounts: Iterable[str]) -> str:
    return ", ".join(mounts) or "it mounts none"
