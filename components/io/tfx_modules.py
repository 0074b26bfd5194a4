"""A user's modules, which TFX reads anew for each function that it wants of them -> as they were when the step began."""

from __future__ import annotations

import contextlib
import importlib.abc
import importlib.machinery
import importlib.util
import linecache
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any


def hold(paths: Iterable[str]) -> frozenset[str]:
    """Load module files, and keep what they and the modules of dotted paths, which are loaded, say in this process from now on.

    So are the modules beside a module file that nobody has imported yet, as a function may do while it runs, but they are not
    loaded. Gives the names that keys know them by: a file's own, a module's dotted one. What a user edits after this is neither read by
    a reload nor by who looks up a function's source, as AutoGraph does when it first traces it. Exceptions of a module that
    is loaded pass through unchanged.
    """
    names: set[str] = set()
    _HELD.forget_beside()
    for path in dict.fromkeys(paths):
        if path.endswith(".py"):
            data = Path(path).read_bytes()
            _HELD.renew(path, data)
            module = _load(path)
            names |= {Path(path).name, *_keep_beside(Path(path).resolve())}
        else:
            module = path.replace(":", ".").rpartition(".")[0]
            file = getattr(getattr(sys.modules.get(module), "__spec__", None), "origin", None)
            if file is None or not file.endswith(".py"):
                continue
            data = Path(file).read_bytes()
            names.add(module)
        _HELD.keep(sys.modules[module].__spec__, data)
    return frozenset(names)


def _load(path: str) -> str:
    """The name under which TFX knows the module of a file, which it loads here as it will do again."""
    from tfx.utils import import_utils

    directory = str(Path(path).resolve().parent)
    if directory not in sys.path:  # last, as in the package that TFX makes of all modules beside a module file
        sys.path.append(directory)
    name: Any = import_utils.import_func_from_source(path, "__name__")
    return str(name)


def _keep_beside(file: Path) -> Iterator[str]:
    """The names of the modules beside a module file that are not imported yet: they are kept as they are now."""
    for other in sorted(file.parent.glob("*.py")):
        spec = None if other.stem in sys.modules else importlib.machinery.PathFinder.find_spec(other.stem)
        if other != file and spec is not None and spec.origin == str(other):
            with contextlib.suppress(
                OSError, SyntaxError, UnicodeDecodeError
            ):  # whoever imports it is told what is wrong with it
                _HELD.keep(spec, other.read_bytes(), beside=True)
                yield other.stem


class _Held(importlib.abc.MetaPathFinder):
    """Finds the modules that are held, before anybody looks at their files."""

    def __init__(self) -> None:
        self._loaders: dict[str, _AsRead] = {}
        self._places: dict[str, list[str] | None] = {}
        self._beside: set[str] = set()

    def keep(self, spec: Any, data: bytes, *, beside: bool = False) -> None:
        file = str(spec.origin)
        lines = importlib.util.decode_source(data).splitlines(keepends=True)
        self._loaders[spec.name] = _AsRead(spec.name, file, data)
        self._places[spec.name] = spec.submodule_search_locations
        if beside:
            self._beside.add(spec.name)
        linecache.cache[file] = (len(data), None, lines, file)  # without a time of change it is not looked at again
        if self not in sys.meta_path:
            sys.meta_path.insert(0, self)

    def forget_beside(self) -> None:
        """Have what was kept beside module files for an earlier step of this process be found where it is."""
        for name in self._beside:
            linecache.cache.pop(self._loaders.pop(name).path, None)
        self._beside.clear()

    def renew(self, file: str, data: bytes) -> None:
        """Have a file that is held for an earlier step of this process be what it says now."""
        for loader in self._loaders.values():
            if loader.path == file:
                loader.data = data

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        loader = self._loaders.get(fullname)
        if loader is None:
            return None
        places = self._places[fullname]
        return importlib.util.spec_from_file_location(
            fullname, loader.path, loader=loader, submodule_search_locations=places
        )


class _AsRead(importlib.machinery.SourceFileLoader):
    """A file's module as it was when it was read."""

    def __init__(self, fullname: str, path: str, data: bytes) -> None:
        super().__init__(fullname, path)
        self.data = data

    def get_code(self, fullname: str) -> CodeType:
        # Not by way of a .pyc, which may be of what the file says now.
        code: CodeType = self.source_to_code(self.data, self.path)
        return code


_HELD = _Held()
