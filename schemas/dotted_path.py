"""Dotted paths: how definitions name components and users' functions."""

from __future__ import annotations

import hashlib
import importlib
import importlib.machinery
import importlib.util
import re
import sys
from pathlib import Path
from typing import Any

from schemas.errors import ConfigError, did_you_mean


def resolve(dotted: str) -> Any:
    """The object at `package.module.name` (or `package.module:name`).

    Importing runs the module, so an exception in it is the module's own and passes through unchanged. Raises ConfigError
    when there is no such module or the module has no such name; the message says which part is missing.
    """
    module_name, _, name = dotted.replace(":", ".").rpartition(".")
    if not module_name or not all(part.isidentifier() for part in dotted.replace(":", ".").split(".")):
        raise ConfigError(f"'{dotted}' is not a dotted path: expected package.module.name")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        missing = error.name or module_name
        if module_name != missing and not module_name.startswith(missing + "."):
            raise  # the module exists and imports something that does not: its own error says more
        raise ConfigError(
            f"'{dotted}' does not import: there is no module '{missing}'. Modules are looked for in the directory the "
            f"command is run in and in the installed packages; a folder between them needs an __init__.py"
        ) from error
    if not hasattr(module, name):
        raise ConfigError(
            f"'{dotted}' does not import: {module_name} has no '{name}'." + did_you_mean(name, dir(module))
        )
    return getattr(module, name)


def dotted_path_of(named: Any) -> str:
    """The dotted path of a class or function at the top of its module: `resolve` finds it there."""
    return f"{named.__module__}.{named.__qualname__}"


def in_file(code: str, name: str) -> str:
    """The dotted path under which `resolve` finds the function that `code` names: `code` itself, unless it is a Python file.

    A file, `path/to/module.py`, is a module file of TFX's: `name` is the function that is meant, and what lies beside it can be
    imported, after all else. Its module has the file's name, or where another module has that or no module can, one of its own. Loading runs the
    module, whose exceptions pass through unchanged. Raises ConfigError where there is no such file.
    """
    if not code.endswith(".py"):
        return code
    file = Path(code).resolve()
    if not file.is_file():
        raise ConfigError(f"{code}: there is no such file, and its '{name}' is asked for")
    if str(file.parent) not in sys.path:
        sys.path.append(str(file.parent))
    importlib.invalidate_caches()  # in a notebook, it may have been written since
    module = file.stem
    loaded = sys.modules.get(module)
    spec = importlib.machinery.PathFinder.find_spec(module) if loaded is None else loaded.__spec__
    if not module.isidentifier() or spec is None or spec.origin is None or Path(spec.origin).resolve() != file:
        called = re.sub(r"\W|^(?=\d)", "_", module)  # 2024-taxi.py is a file as good as any to TFX
        module = f"{called}_{hashlib.sha256(str(file).encode()).hexdigest()[:8]}"
        if module not in sys.modules:
            _load(module, file)
    return f"{module}.{name}"


def _load(module: str, file: Path) -> None:
    spec = importlib.util.spec_from_file_location(module, file)
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    sys.modules[module] = made
    try:
        spec.loader.exec_module(made)
    except BaseException:
        del sys.modules[module]
        raise


def make_importable(directory: Path) -> None:
    """Let modules in `directory` be imported, after everything installed: a user's folder never hides ours."""
    if str(directory) not in sys.path:
        sys.path.append(str(directory))
