"""Paths of a definition that a pod would look for: on a mounted volume, in the image, in an object store, or nowhere."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from pipeline.contract import Contract, build_component, read_contract
from pipeline.definition import Definition
from pipeline.fingerprint import is_file, shown
from pipeline.graph import Step
from pipeline.plan import publishing_below
from pipeline.runners.kubeflow.resources import Resources
from schemas.dotted_path import resolve
from schemas.errors import ConfigError
from schemas.input_files import SCHEME

IN_THE_IMAGE = ("configs", "schemas")  # below the image's working directory; and the definition's own top folder


def path_problems(definition: Definition, resources: Resources) -> Iterator[str]:
    """Every path that pods cannot see: whose setting it is, and what to write instead."""
    yield from _root_problems(definition, resources)
    yield from _argument_problems(definition, resources)
    for step in definition.graph.steps:
        contract = read_contract(resolve(step.component))
        mounts = _mounts(resources, step.id)
        for setting in contract.input_files:
            for path in contract.paths(step.settings, [setting]):
                problem = _input_problem(path, mounts, _in_the_image(definition))
                if problem:
                    yield f"{_place(definition, step, setting, path)}: {problem}"
        for setting in contract.user_code:
            for path in filter(is_file, contract.paths(step.settings, [setting])):
                problem = _module_problem(path, mounts)
                if problem:
                    yield f"{_place(definition, step, setting, path)}: {problem}"
        for setting, path in _written_or_read_beside(step, contract):
            problem = _output_problem(path, mounts)
            if problem:
                yield f"{_place(definition, step, setting, path)}: {problem}"
        if contract.takes_baseline(step.settings):
            yield from _baseline_problems(definition, resources, step)


def is_seen_here(path: str, definition: Definition) -> bool:
    """Whether an input file that pods have is one that this machine has too: in an installed package, or among the image's own."""
    if path.startswith(SCHEME):
        package = path.removeprefix(SCHEME).partition("/")[0]
        return not package.isidentifier() or importlib.util.find_spec(package) is not None
    return PurePosixPath(shown(Path(path))).parts[:1] in [(name,) for name in _in_the_image(definition)]


def _place(definition: Definition, step: Step, setting: str, path: str) -> str:
    """Where a step's path was written, which may be in another setting than the one that it is kept or read in."""
    settings = step.settings
    candidates = [name for name in (setting, *settings) if settings.get(name) == path]
    candidates += [name for name in (setting, *settings) if path in str(settings.get(name, ""))]
    return definition.place("steps", step.id, "with", candidates[0] if candidates else setting)


def _texts(value: Any) -> Iterator[str]:
    """Every text in JSON data."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for one in value.values():
            yield from _texts(one)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _texts(one)


def _argument_problems(definition: Definition, resources: Resources) -> Iterator[str]:
    """Arguments of a TFX pipeline that are paths of this checkout: the image is given them as they are, and lies elsewhere."""
    mounts = _mounts(resources, None)
    for name, value in definition.tfx.arguments.items() if definition.tfx else ():
        for path in _texts(value):
            here = shown(Path(path))
            if path.startswith("/") and here != path and not _is_below(path, mounts):
                place = definition.place("tfx", "arguments", name) if definition.source else f"parameters.{name}"
                yield (
                    f"{place}: {path} is in the working directory of this machine, which is another one in the image. Write "
                    f"{here}, for a file that the image has as well; else a path on a mounted volume"
                )


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


def _module_problem(path: str, mounts: Iterable[str]) -> str | None:
    """What keeps a pod from a module file: the image has those below the working directory."""
    here = PurePosixPath(path if _is_below(path, mounts) else shown(Path(path)))
    if "://" not in path and ".." not in here.parts and (not here.is_absolute() or _is_below(path, mounts)):
        return None
    return (
        f"{path} lies outside the working directory, below which the image has the same files. Put it below, beside what it imports, "
        f"and name it from there, as features.py or by a path made of __file__"
    )


def _input_problem(path: str, mounts: Iterable[str], in_the_image: Iterable[str]) -> str | None:
    if path.startswith(SCHEME) or not path.strip():
        return None
    if not _is_below(path, mounts):
        path = shown(Path(path)) if path.startswith("/") else path
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
        try:
            component = build_component(contract.component, step.settings)
            found = {setting: getattr(component, setting, None) for setting in ("destination", "models_config")}
        except ConfigError:  # lint says it
            return
        for setting, value in found.items():
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
    """The first parts of the paths that the image has: of the definition, of the module that makes it, and of module files."""
    targets = [definition.target, *([definition.tfx.pipeline] if definition.tfx and definition.tfx.pipeline else [])]
    own = [_top_of_module(target) if ":" in target else Path(target).parts[0] for target in targets]
    for step in definition.graph.steps:
        contract = read_contract(resolve(step.component))
        files = filter(is_file, contract.paths(step.settings, contract.user_code))
        own += [PurePosixPath(shown(Path(file))).parts[0] for file in files]
    names = [name for name in own if name not in ("/", "..") and not name.endswith((".yaml", ".yml", ".py"))]
    return tuple(dict.fromkeys([*IN_THE_IMAGE, *names]))


def _top_of_module(target: str) -> str:
    """The folder that a module's package lies in; a module that is in none is its file."""
    top = target.partition(":")[0].partition(".")[0]
    return f"{top}.py" if Path(f"{top}.py").is_file() else top


def _mounts(resources: Resources, step: str | None) -> list[str]:
    return [volume.path for volume in resources.of(step).volumes]


def _is_below(path: str, directories: Iterable[str]) -> bool:
    pure = PurePosixPath(path)
    return ".." not in pure.parts and any(pure.is_relative_to(directory) for directory in directories)


def _shown(mounts: Iterable[str]) -> str:
    return ", ".join(mounts) or "it mounts none"
