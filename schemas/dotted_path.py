"""Dotted paths: how definitions name components and users' functions."""

from __future__ import annotations

import importlib
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
