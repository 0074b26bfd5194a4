"""A compiled package: its text, what it says of itself, and its file."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from schemas.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Package:
    """A pipeline of Kubeflow Pipelines, as text that the API server takes."""

    text: str
    target: str  # the definition it was compiled from
    name: str
    image: str
    root: str
    tasks: tuple[str, ...]
    parameters: Mapping[str, Any]  # with their defaults on the cluster
    service_account: str | None  # that a run is to be started with; no package can hold it
    warnings: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()  # steps of a shared resources file that this definition lacks
    fast: Mapping[str, str] = field(default_factory=dict)  # what --fast made of each step of TFX's, in words

    def as_json(self) -> dict[str, Any]:
        """What `--json` prints."""
        return {
            "pipeline": self.name,
            "image": self.image,
            "root": self.root,
            "tasks": list(self.tasks),
            "parameters": dict(self.parameters),
            "service_account": self.service_account,
            "warnings": list(self.warnings),
            "unused": list(self.unused),
            **({"fast": dict(self.fast)} if self.fast else {}),
        }

    def as_text(self) -> str:
        """What there is in the package, for the terminal."""
        parameters = ", ".join(f"{name}={value}" for name, value in self.parameters.items())
        said = {
            "image": self.image,
            "root": self.root,
            "tasks": ", ".join(self.tasks),
            "parameters": parameters or "none",
            "unused": self.unused and f"resources of {', '.join(self.unused)}: there are no such steps here",
            "account": self.service_account and f"{self.service_account}, when a run is started",
        }
        lines = [f"  {name:<10}  {value}" for name, value in said.items() if value]
        lines += [f"  {step}: {what}" for step, what in self.fast.items()]
        return "\n".join([*(f"warning: {warning}" for warning in self.warnings), *lines])


def write(package: Package, file: Path) -> None:
    """Put the package where `file` says, whole or not at all. Raises ConfigError when that cannot be written."""
    if file.suffix not in (".yaml", ".yml"):
        raise ConfigError(
            f"-o {file}: KFP takes packages whose names end in .yaml. Name it {file.stem or 'package'}.yaml"
        )
    if not file.parent.is_dir():
        raise ConfigError(f"-o {file}: there is no directory {file.parent}. Make it first")
    staged: Path | None = None
    try:
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", dir=file.parent, prefix=f".{file.name}.", delete=False
        ) as text:
            staged = Path(text.name)
            text.write(package.text)
        staged.chmod(0o666 & ~_umask())
        staged.replace(file)
    except OSError as error:
        raise ConfigError(f"-o {file}: cannot be written: {error.strerror}") from error
    finally:
        if staged is not None:
            with contextlib.suppress(OSError):
                staged.unlink()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
