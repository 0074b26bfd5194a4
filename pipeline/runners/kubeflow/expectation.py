"""What a package was compiled from, which the pod's image has to hold too: version, graph, a step's code and files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path, PurePosixPath

from pipeline.contract import read_contract
from pipeline.definition import Definition
from pipeline.fingerprint import (
    OURS,
    code_closure,
    file_digest,
    find_module,
    fingerprint_module,
    is_file,
    is_ours,
    shown,
)
from pipeline.graph import canonical_json
from schemas.dotted_path import resolve
from schemas.errors import ConfigError
from schemas.input_files import expand

_SHOWN = 8  # hexadecimal digits of a digest: enough to tell an edit by, and a package holds them for every step


@dataclass(frozen=True, kw_only=True)
class Expectation:
    """What a task of a compiled package expects to find in its image."""

    penstock: str  # version
    graph: str  # digest of the graph, with the parameters' defaults of the package
    ours: str = ""  # digest of Penstock's own modules behind the step: a version has many states while it is worked on
    code: Mapping[str, str] = field(default_factory=dict)  # the user's modules behind the step, with the digest of each
    files: Mapping[str, str] = field(default_factory=dict)  # the step's input files in the image, likewise

    def to_json(self) -> str:
        """The text after `--expect`: one for equal expectations."""
        return canonical_json(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Expectation:
        """The expectation in such a text. Raises ConfigError for any other text."""
        try:
            found = json.loads(text)
            expectation = cls(**{name: found[name] for name in cls.__dataclass_fields__})
            if set(found) != set(asdict(expectation)):
                raise ValueError("it has other keys")
            if not isinstance(expectation.code, dict) or not isinstance(expectation.files, dict):
                raise TypeError("code and files are mappings")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ConfigError(
                f"--expect {text}: not what `pipeline kubeflow compile` writes ({error}). Compile the package again, "
                f"with the version of Penstock that is in the image: {version('penstock')}"
            ) from error
        return expectation


def expected(definition: Definition, step: str | None = None) -> Expectation:
    """What the package expects of the image that runs `step` of a definition; of any image without a step.

    `definition` has the package's parameters (load_on_cluster). Raises ConfigError for code that does not exist.
    """
    return Expectation(
        penstock=version("penstock"),
        graph=definition.graph.digest,
        code={
            name: module.digest[:_SHOWN]
            for name, module in sorted(code_closure(_user_code(definition, step)).modules.items())
            if not is_ours(name)
        },
        ours=_ours(definition, step),
        files={path: file_digest(Path(path)).removeprefix("sha256:")[:_SHOWN] for path in _files(definition, step)},
    )


def _ours(definition: Definition, step: str | None) -> str:
    if step is None:
        return ""
    found = definition.graph[step]
    conditions = [condition.component for condition in found.when]
    modules = code_closure([found.component, *read_contract(resolve(found.component)).run_by, *conditions]).modules
    ours = {name: module.digest for name, module in modules.items() if is_ours(name)}
    return hashlib.sha256(canonical_json(ours).encode()).hexdigest()[:_SHOWN]


def _files(definition: Definition, step: str | None) -> list[str]:
    """The input files of a step that lie in the image: those below the working directory."""
    if step is None:
        return []
    found = definition.graph[step]
    contract = read_contract(resolve(found.component))
    paths = [
        shown(Path(path)) if path[:1] == "/" else path for path in contract.paths(found.settings, contract.input_files)
    ]
    relative = [
        path for path in paths if "://" not in path and not PurePosixPath(path).is_absolute() and path[:1] != "~"
    ]
    if relative and contract.selects_files:
        chosen = [Path(shown(file.path)) for files in contract.files(found.settings).values() for file in files]
        return sorted(str(file) for file in chosen if not file.is_absolute())
    return sorted({str(file) for path in relative if path.strip() for file in expand(path)})


def _user_code(definition: Definition, step: str | None) -> list[str]:
    """Dotted paths of the user's functions in a step's settings, and of the component and conditions that are the user's own."""
    if step is None:
        return []
    found = definition.graph[step]
    contract = read_contract(resolve(found.component))
    paths = contract.paths(found.settings, contract.user_code)
    classes = [found.component, *(condition.component for condition in found.when)]
    return [*paths, *(path for path in classes if path.partition(".")[0] not in OURS)]


def _file_of(module: str, user_code: Iterable[str]) -> Path | None:
    """The file in this image of a module in the closure of `user_code`; None where there is none."""
    files = [Path(path) for path in user_code if is_file(path)]
    if is_file(module):
        return next((file for file in files if file.name == module and file.is_file()), None)
    return find_module(module, [str(file.resolve().parent) for file in files])


def problems(expectation: Expectation, definition: Definition, step: str | None = None) -> tuple[str, ...]:
    """Where the package and the image that this runs in differ, both sides named; nothing when the image is the right one.

    `definition` is the image's, loaded with the package's parameters (load_on_cluster without any).
    """
    return tuple(_differences(expectation, definition, step))


def _differences(expectation: Expectation, definition: Definition, step: str | None) -> Iterator[str]:
    what = f"{definition.target}{f', step {step}' if step else ''}"
    if expectation.penstock != version("penstock"):
        yield (
            f"{what}: the package was compiled by Penstock {expectation.penstock}, and the image holds Penstock "
            f"{version('penstock')}. Compile and build with the same version"
        )
    if expectation.graph != definition.graph.digest:
        yield (
            f"{what}: the package was compiled from the graph {_short(expectation.graph)}, and the definition in the image gives "
            f"{_short(definition.graph.digest)}. Build the image from the files that the package is compiled from, or compile it again"
        )
    if step is not None and expectation.ours != (here := _ours(definition, step)):
        yield (
            f"{what}: Penstock's own modules behind it are {expectation.ours} in the package and {here} in the image, though both "
            f"are of version {version('penstock')}. Compile and build from the same sources"
        )
    for path, digest in expectation.files.items():
        here = file_digest(Path(path)).removeprefix("sha256:")[:_SHOWN] if Path(path).is_file() else "not there"
        if here != digest:
            yield (
                f"{what}: {path} is {digest} in the package and {here} in the image: build the image from the same files as "
                f"the package, or compile the package again"
            )
    for module, digest in expectation.code.items():
        file = _file_of(module, _user_code(definition, step))
        if file is None or file.suffix != ".py":
            yield (
                f"{what}: {module} is not in the image, and the package expects it ({digest}): build the image from the "
                f"same files as the package"
            )
            continue
        here = fingerprint_module(file, module).digest[:_SHOWN]
        if here != digest:
            yield (
                f"{what}: {module} is {digest} in the package and {here} in the image ({file}): build the image from the "
                f"same files as the package, or compile the package again"
            )


def _short(digest: str) -> str:
    return digest[: len("sha256:") + 12]
