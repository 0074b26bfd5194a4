"""Work that travels to Beam's workers: looked at on arrival, before any of it is unpickled there."""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.metadata
import importlib.util
import os
import socket
import sys
import sysconfig
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from components.io.keras import arrange
from schemas.dotted_path import in_file, resolve
from schemas.errors import ConfigError

MEND = (
    "Put it into the image (the SDK container) that the workers run, or its folder on PYTHONPATH of the worker pool; Beam's own "
    "containers also take a package from --setup_file or --extra_package in beam.args"
)
"""What to do about a module that a worker lacks, or has in another version."""

_OURS = ("components", "schemas")
_PROCESS = uuid.uuid4().hex  # tells the step's own process from every other
_LIBRARIES = (
    "apache-beam",
    "numpy",
    "pyarrow",
    "tensorflow",
    "tensorflow-data-validation",
    "tensorflow-model-analysis",
    "tensorflow-transform",
    "tfx-bsl",
)

# What goes along with all work that is pickled now; None while it stays in this process. Plain data, so that a worker with
# another version of this module can read it.
_luggage: ContextVar[dict[str, Any] | None] = ContextVar("luggage", default=None)


@contextmanager
def travelling(paths: Iterable[Path]) -> Iterator[None]:
    """While the block lasts, work is pickled for workers elsewhere, which have to see `paths` where this machine does."""
    modules = [name for name in sys.modules if name.partition(".")[0] in _OURS]
    before = _luggage.set(
        {
            "process": _PROCESS,
            "modules": {name: digest for name in sorted(modules) if (digest := _digest_of_loaded(name)) is not None},
            "libraries": _versions(_LIBRARIES),
            "paths": [str(path.absolute()) for path in paths],
        }
    )
    try:
        yield
    finally:
        _luggage.reset(before)


class Packed:
    """A function for a Beam transform; it is unpickled in a worker only once the worker is known to be fit for it.

    The worker gets what a step's process has before TensorFlow is imported. Raises ConfigError there when the worker's Penstock
    or libraries are of another version, or it does not see a path that it needs.
    """

    def __init__(self, work: Callable[..., Any]) -> None:
        self.work = work

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        return self.work(*arguments, **named)

    def __reduce__(self) -> tuple[Any, ...]:
        luggage = _luggage.get()
        if luggage is None:
            return Packed, (self.work,)
        from apache_beam.internal import pickler

        return _unpack, (luggage, pickler.dumps(self.work))


def _unpack(luggage: Mapping[str, Any], work: bytes) -> Packed:
    if luggage["process"] != _PROCESS:
        os.environ["TF_USE_LEGACY_KERAS"] = "1"
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")
        arrange()
        _check_worker(luggage)
    from apache_beam.internal import pickler

    return Packed(pickler.loads(work))


class UserFunction:
    """A user's function by its dotted path, or the module file that has it. A worker imports its own copy, which has to be the same as the step's.

    The same is: equal but for comments and formatting, the modules of the user's that the function's module imports included.
    """

    def __init__(self, dotted: str, modules: Mapping[str, str] | None = None, file: Path | None = None) -> None:
        """`modules` are the digests, by name, of the modules where it was pickled; none in the step's process.

        `file` is the module file, absolute, of a function that `in_file` found. A worker that does not see it looks for the dotted path.
        """
        self.dotted = dotted
        self._modules = modules or {}
        self._file = file

    def load(self) -> Any:
        """The function. In the step's process it raises what `resolve` does.

        In a worker it raises ConfigError for a module that is not there, or differs from the step's.
        """
        dotted = self.dotted
        if self._file is not None and self._file.is_file():
            dotted = in_file(
                str(self._file), dotted.rpartition(".")[2]
            )  # a worker process has loaded nothing of it yet
        if not self._modules:
            return resolve(dotted)
        for name, digest in self._modules.items():
            found = _digest_of(name)
            if found is None:
                raise missing_module(name)
            if found != digest:
                raise ConfigError(
                    f"beam: the workers' module '{name}' is not the step's: {_place(name)} differs from the file on this "
                    f"machine. {_this_worker()} {MEND}"
                )
        try:
            return resolve(dotted)
        except ModuleNotFoundError as error:
            raise missing_module(error.name or dotted) from error

    def __reduce__(self) -> tuple[Any, ...]:
        if _luggage.get() is None:
            return UserFunction, (self.dotted, self._modules, self._file)
        return UserFunction, (self.dotted, self._modules or _own_modules(self.dotted), self._file)


def missing_module(name: str, worker: str | None = None) -> ConfigError:
    """The error for a module that a worker does not have; `worker` describes it, where that is not this process."""
    return ConfigError(f"beam: the workers have no module '{name}'. {worker or _this_worker()} {MEND}")


@functools.cache
def _check_paths(paths: tuple[str, ...]) -> None:
    unseen = [path for path in paths if not Path(path).exists()]
    if unseen:
        raise ConfigError(
            f"beam: a worker does not see {', '.join(unseen)}. {_this_worker()} Every worker needs the pipeline's root and its "
            f"input files under the same paths as here: keep them on storage that all machines mount"
        )


def _check_worker(luggage: Mapping[str, Any]) -> None:
    modules = {name: _digest_of(name) for name in luggage["modules"]}
    missing = [name for name, digest in modules.items() if digest is None]
    if missing:
        raise missing_module(missing[0])
    differing = [name for name, digest in modules.items() if digest != luggage["modules"][name]]
    if differing:
        others = f" and {len(differing) - 1} more" if len(differing) > 1 else ""
        raise ConfigError(
            f"beam: the workers have another version of Penstock: {_place(differing[0])}{others} differs from the file on "
            f"this machine. {_this_worker()} {MEND}"
        )
    here = _versions(luggage["libraries"])
    for library, version in luggage["libraries"].items():
        if here.get(library) != version:
            raise ConfigError(
                f"beam: the workers have {library} {here.get(library, '(none)')}, this machine has {version}, and the step's "
                f"result is kept under that. {_this_worker()} {MEND}"
            )
    _check_paths(tuple(luggage["paths"]))


def _versions(libraries: Iterable[str]) -> dict[str, str]:
    found = {}
    for library in libraries:
        try:
            found[library] = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _this_worker() -> str:
    """'The worker is process 7 of host-a (/usr/bin/python3), and looks in /app.'"""
    installed = [Path(path) for path in sysconfig.get_paths().values()]
    looked = [
        entry or "." for entry in sys.path if not any(Path(entry or ".").is_relative_to(path) for path in installed)
    ]
    places = ", ".join(str(Path(entry).absolute()) for entry in looked if Path(entry).is_dir())
    return (
        f"The worker, process {os.getpid()} on {socket.gethostname()} ({sys.executable}), looks in "
        f"{places + ' and ' if places else ''}its installed packages."
    )


def _own_modules(dotted: str) -> dict[str, str]:
    """Digests by name of the module of the function at `dotted`, and of those that it imports, that are not installed.

    As far as they are loaded here: what the function has not imported when it is traced, it does not need.
    """
    first = dotted.replace(":", ".").rpartition(".")[0]
    found: dict[str, str] = {}
    waiting = [first]
    while waiting:
        name = waiting.pop()
        file = _file_of_loaded(name)
        if name in found or name.partition(".")[0] in _OURS or file is None or (name != first and _is_installed(file)):
            continue
        found[name] = _digest(file, file.stat().st_mtime_ns)
        waiting += _imported(ast.parse(file.read_bytes()), name, is_package=file.name == "__init__.py")
    return found


def _imported(tree: ast.Module, module: str, *, is_package: bool) -> Iterator[str]:
    package = module if is_package else module.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parents, *([base] if base else [])])
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def _is_installed(file: Path) -> bool:
    paths = sysconfig.get_paths()
    return any(file.is_relative_to(paths[kind]) for kind in ("stdlib", "platstdlib", "purelib", "platlib"))


def _file_of_loaded(name: str) -> Path | None:
    file = getattr(sys.modules.get(name), "__file__", None)
    return Path(file) if file is not None and file.endswith(".py") else None


def _digest_of_loaded(name: str) -> str | None:
    file = _file_of_loaded(name)
    return None if file is None else _digest(file, file.stat().st_mtime_ns)


def _digest_of(name: str) -> str | None:
    """The digest of a module that can be imported here, None when there is none."""
    file = _place(name)
    return None if file is None else _digest(file, file.stat().st_mtime_ns)


def _place(name: str) -> Path | None:
    try:
        spec = importlib.util.find_spec(name)
    except ModuleNotFoundError:
        return None  # a package above it is not there
    return Path(spec.origin) if spec is not None and spec.origin is not None else None


@functools.cache
def _digest(file: Path, mtime_ns: int) -> str:
    """Of what the source means: comments and formatting do not count."""
    return hashlib.sha256(ast.dump(ast.parse(file.read_bytes(), filename=str(file))).encode()).hexdigest()
