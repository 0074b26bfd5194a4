"""A TFX component class -> what is known of it before one is made: why it cannot run here, its parameters, which of them name files."""

from __future__ import annotations

import importlib.metadata
from typing import Any

from schemas.dotted_path import dotted_path_of

VERSION = "1.16"  # of TFX: what is adapted here are its own interfaces, which change


def problems_of(kind: type[Any]) -> list[str]:
    """Why a component of this class cannot run here, each with what to do instead; empty where it can."""
    from tfx.components.example_gen.driver import Driver
    from tfx.dsl.components.base.base_driver import BaseDriver
    from tfx.types import ComponentSpec

    where = dotted_path_of(kind)
    version = importlib.metadata.version("tfx")
    if not version.startswith(f"{VERSION}."):
        return [
            f"{where}: TFX {version} is installed, and its components run here with TFX {VERSION}. Install what the lock says: uv sync"
        ]
    if not (isinstance(kind.SPEC_CLASS, type) and issubclass(kind.SPEC_CLASS, ComponentSpec)):
        return [f"{where} has no SPEC_CLASS, so its inputs and outputs are unknown. Name a component, not a base class"]
    problems = executor_problems(where, kind.EXECUTOR_SPEC)
    if kind.DRIVER_CLASS is not BaseDriver and not issubclass(kind.DRIVER_CLASS, Driver):
        problems.append(
            f"{where} has a driver of its own, {dotted_path_of(kind.DRIVER_CLASS)}, which asks ML Metadata, and there is none here. Do "
            f"what it does in the executor, or in a step before, and leave DRIVER_CLASS out"
        )
    for hook in ("PRE_EXECUTABLE_SPEC", "POST_EXECUTABLE_SPEC"):
        if getattr(kind, hook, None) is not None:
            problems.append(f"{where} has {hook}, which is not run here. Do in the executor what it does")
    return problems


_CLOUD = ("tfx.extensions.google_cloud_ai_platform", "tfx.extensions.google_cloud_big_query")
_INSTEAD = {
    "trainer": "Use tfx.v1.components.Trainer, and run the pipeline on Kubeflow for its machines",
    "tuner": "Use tfx.v1.components.Tuner",
    "pusher": "Use tfx.v1.components.Pusher with a directory, or our Pusher, whose destination may be gs://bucket/path",
    "bulk_inferrer": "Use tfx.v1.components.BulkInferrer",
    "example_gen": "Export the table to Parquet or CSV files, and read those with ExampleGen",
}


def executor_problems(where: str, spec: Any) -> list[str]:
    """Why the component at `where` cannot have its work done by the executor of `spec`, which may be another than its class has."""
    from tfx.dsl.components.base.base_executor import EmptyExecutor
    from tfx.dsl.components.base.executor_spec import ExecutorClassSpec

    if not isinstance(spec, ExecutorClassSpec):
        image = f" (image {spec.image})" if getattr(spec, "image", None) else ""
        return [
            f"{where} runs in a container of its own{image}, which nobody starts here. Have a function component or an "
            f"executor class do its work: on Kubeflow the step's image is the pipeline's"
        ]
    executor = spec.executor_class
    for base in executor.__mro__:
        if base.__module__.startswith(_CLOUD):
            instead = next(
                (todo for name, todo in _INSTEAD.items() if f".{name}" in base.__module__), "Use a local one"
            )
            return [f"{where} has its work done by a cloud service ({dotted_path_of(executor)}). {instead}"]
    if executor is EmptyExecutor:
        return [f"{where} has an executor that does nothing. Set EXECUTOR_SPEC to what does its work"]
    return []


def parameters_of(kind: type[Any]) -> list[str]:
    """The execution parameters of a component class, but for the Beam pipeline that TFX passes among them."""
    import apache_beam

    return [name for name, one in kind.SPEC_CLASS.PARAMETERS.items() if one.type is not apache_beam.Pipeline]


def is_tfx(kind: type[Any]) -> bool:
    """Whether a class is TFX's, and not one that a user wrote."""
    return kind.__module__ == "tfx" or kind.__module__.startswith("tfx.")


def names_file(parameter: str) -> bool:
    """Whether a parameter of this name may be the name of a file of data."""
    return parameter.endswith("_file") and parameter != "module_file"


def is_told_files(kind: type[Any]) -> bool:
    """Whether a component of the user's has parameters that may be names of files: some are of files yet to be written."""
    return not is_tfx(kind) and any(map(names_file, parameters_of(kind)))


def is_file_based(kind: type[Any]) -> bool:
    """Whether it is an ExampleGen that reads files, whose driver finds the span and version."""
    from tfx.components.example_gen.driver import FileBasedDriver

    return issubclass(kind.DRIVER_CLASS, FileBasedDriver)
