"""A definition, or the package it was compiled into -> what is submitted to Kubeflow Pipelines."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.runners.kubeflow.package_file import PackageFile, is_package, read_package
from schemas.config import KubeflowConfig
from schemas.errors import ConfigError

Warn = Callable[[str], None]
_OPTIONS = {"kubeflow.image": "--image", "tfx.fast": "--fast"}  # by the setting that each stands for


@dataclass(frozen=True)
class Prepared:
    """A package to run, and what the definition's `kubeflow` section says of where and as whom; nothing for a package alone."""

    package: PackageFile
    section: KubeflowConfig | None = None
    service_account: str | None = None
    fast: Mapping[str, str] = field(
        default_factory=dict
    )  # what --fast made of each step of TFX's; of a package nobody knows


@contextlib.contextmanager
def prepared(target: str, warn: Warn, overrides: Iterable[str] = ()) -> Iterator[Prepared]:
    """The package that `target` is or is compiled into, with `overrides` (each `a.b=value`); its file is there while the context lasts.

    `warn` hears what the compiler warns of. Raises ConfigError with every problem.
    """
    given = tuple(overrides)
    if names_package(target):
        if given:
            asked = _OPTIONS.get(setting := given[0].partition("=")[0], setting)
            raise ConfigError(
                f"{target}: is compiled, with the image that it names and the steps that it has. Name the definition, or leave {asked} out"
            )
        yield Prepared(read_package(Path(target)))
        return
    from pipeline.loading import load
    from pipeline.runners.kubeflow.compile import compile_package

    compiled = compile_package(target, given)
    for warning in compiled.warnings:
        warn(warning)
    with tempfile.TemporaryDirectory() as directory:
        written = Path(directory) / f"{compiled.name}.yaml"
        written.write_text(compiled.text, encoding="utf-8")
        yield Prepared(read_package(written), load(target, given).kubeflow, compiled.service_account, compiled.fast)


def section_of(target: str) -> KubeflowConfig | None:
    """The definition's `kubeflow` section, without compiling it; None of a package. Raises ConfigError."""
    if names_package(target):
        return None
    from pipeline.loading import load

    return load(target).kubeflow


def names_package(target: str) -> bool:
    """Whether `target` is a compiled package rather than a definition."""
    file = Path(target)
    return file.suffix in (".yaml", ".yml") and is_package(file)
