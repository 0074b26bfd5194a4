"""Runs a TFX executor on our artifacts, as TFX's launcher runs it: `input_dict`, `output_dict`, `exec_properties` are spoken here."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from components.io.beam_options import IN_MEMORY, check, parsed
from components.io.keras import spare_libraries_autograph
from components.io.links import link
from components.io.tfx_artifacts import empty_tfx, finish, location, to_tfx
from components.io.tfx_nodes import link_tree
from components.io.tfx_outside import Surroundings, is_tfx_s, raise_together
from schemas.artifact import ABSENT, Artifact
from schemas.artifacts import ModelRun
from schemas.component import BeamOptions, Scratch
from schemas.errors import ArtifactError, DataError, StepFailed


def execute(
    kind: type[Any],
    executor: str,
    parameters: Mapping[str, Any],
    inputs: Mapping[str, Artifact],
    outputs: Mapping[str, Artifact],
    beam: BeamOptions,
    scratch: Scratch,
) -> None:
    """Run the executor class of the dotted path `executor` as TFX's launcher runs it for a component of class `kind`.

    `parameters` are its execution parameters, messages as JSON text, as they were written or as `driven` gave them. The directories of `outputs` are filled in place but for
    ModelRun, which is where checkpoints are written: that lies in `scratch`, so that a killed training goes on, until the
    executor is done. Raises what the executor raises, and ArtifactError when an output is elsewhere or nowhere, and for what is
    written beside the outputs or into an input.
    """
    from tfx.utils import import_utils

    spec = kind.SPEC_CLASS
    for value in parameters.values():
        if isinstance(value, str) and value.endswith(".py"):
            directory = str(Path(value).resolve().parent)
            if directory not in sys.path:  # last, as in the package that TFX makes of all modules beside a module file
                sys.path.append(directory)
    custom: dict[str, Any] = {}
    if _has_own_driver(kind) and "span" not in parameters:
        parameters = driven(kind, parameters)
    exec_properties = {
        name: _parameter(spec.PARAMETERS[name], value) if name in spec.PARAMETERS else value
        for name, value in parameters.items()
    }
    if _has_own_driver(kind):
        custom = {name: exec_properties[name] for name in ("span", "version") if exec_properties.get(name) is not None}
        if exec_properties.get("input_fingerprint"):
            custom["input_fingerprint"] = exec_properties["input_fingerprint"]
    input_dict = {name: [to_tfx(spec.INPUTS[name].type, found, scratch.path)] for name, found in inputs.items()}
    places = {name: _place(name, found, scratch) for name, found in outputs.items()}
    output_dict = {name: [empty_tfx(spec.OUTPUTS[name].type, place, {}, custom)] for name, place in places.items()}
    executor_class = import_utils.import_class_by_path(executor)
    spare_libraries_autograph()
    around = Surroundings.of(inputs, outputs)
    try:
        answer = executor_class(context=_context(executor_class, beam, scratch)).Do(
            input_dict, output_dict, exec_properties
        )
    except BaseException:
        around.restore()
        raise
    raise_together([*around.restore(), *around.strays()])
    if answer is not None:
        _take_in(answer, output_dict)
    made: dict[str, tuple[Artifact, Any]] = {}
    for name, found in outputs.items():
        said = output_dict.get(name, [])
        if len(said) > 1:
            raise ArtifactError(_several(name, len(said)))
        if not said:  # its executor took it out: there is none this time
            found.properties[ABSENT] = True
            continue
        artifact = said[0]
        expected = location(spec.OUTPUTS[name].type, places[name])
        if any(artifact.uri == one.uri for several in input_dict.values() for one in several):
            _hand_on(artifact, expected)
        _check_place(name, artifact, expected)
        made[name] = found, artifact
        if places[name] != found.path:
            shutil.copytree(places[name], found.path, dirs_exist_ok=True)
        finish(found, artifact)
    if not is_tfx_s(executor_class):
        raise_together(around.empty(made))


def driven(kind: type[Any], parameters: Mapping[str, Any]) -> dict[str, Any]:
    """`parameters` as the driver of an ExampleGen resolves them now: with `span`, `version` and patterns that name one span.

    Raises DataError when there are no such files.
    """
    from tfx.orchestration.data_types import ComponentInfo, PipelineInfo

    nobody = PipelineInfo("", "")
    try:
        found: dict[str, Any] = kind.DRIVER_CLASS(None).resolve_exec_properties(
            dict(parameters), nobody, ComponentInfo("", "", nobody)
        )
    except (ValueError, NotImplementedError) as error:
        raise DataError(f"{parameters.get('input_base', kind.__name__)}: {error}") from error
    return found


def _has_own_driver(kind: type[Any]) -> bool:
    from tfx.dsl.components.base.base_driver import BaseDriver

    return kind.DRIVER_CLASS is not BaseDriver


def _parameter(declared: Any, value: Any) -> Any:
    """A parameter as an executor gets it: a message where it asks for one, else its JSON text."""
    from google.protobuf import json_format, message

    wants_message = isinstance(declared.type, type) and issubclass(declared.type, message.Message)
    if wants_message and declared.use_proto and isinstance(value, str):
        return json_format.Parse(value, declared.type())
    return value


def _place(name: str, found: Artifact, scratch: Scratch) -> Path:
    if not isinstance(found, ModelRun):
        return found.path
    place = scratch.path / name
    place.mkdir(parents=True, exist_ok=True)
    return place


def _context(executor_class: type[Any], beam: BeamOptions, scratch: Scratch) -> Any:
    """What TFX tells an executor of where it runs."""
    from tfx.dsl.components.base.base_beam_executor import BaseBeamExecutor
    from tfx.dsl.components.base.base_executor import BaseExecutor

    working = scratch.path / "working"
    working.mkdir(parents=True, exist_ok=True)
    common: dict[str, Any] = {
        "tmp_dir": str(scratch.path),
        "unique_id": "tmp",
        "executor_output_uri": str(scratch.path / "executor_output.pb"),
        "stateful_working_dir": str(working),
    }
    if issubclass(executor_class, BaseBeamExecutor):
        return BaseBeamExecutor.Context(make_beam_pipeline_fn=_pipelines(beam), **common)
    return BaseExecutor.Context(**common)


def _pipelines(beam: BeamOptions) -> Callable[[], Any]:
    """What makes the Beam pipelines of an executor, where the step's Beam runs."""

    def pipeline() -> Any:
        import apache_beam
        from apache_beam.runners.portability.fn_api_runner.fn_runner import FnApiRunner

        given = parsed(beam)
        check(beam, given)
        # Named outright: DirectRunner first tries to download the Prism binary.
        return apache_beam.Pipeline(runner=FnApiRunner() if beam.runner == IN_MEMORY else beam.runner, options=given)

    return pipeline


def _take_in(answer: Any, output_dict: Mapping[str, Any]) -> None:
    """What an executor says in an ExecutorOutput instead of in the artifacts it was given. Raises StepFailed."""
    if answer.execution_result.code:
        raise StepFailed(
            f"its executor ended with code {answer.execution_result.code}: {answer.execution_result.result_message}"
        )
    for name, found in answer.output_artifacts.items():
        if len(found.artifacts) > 1:
            raise ArtifactError(_several(name, len(found.artifacts)))
        for said in found.artifacts if output_dict.get(name) else ():
            artifact = output_dict[name][0]
            for key, value in said.properties.items():
                artifact.mlmd_artifact.properties[key].CopyFrom(value)
            for key, value in said.custom_properties.items():
                artifact.mlmd_artifact.custom_properties[key].CopyFrom(value)
            if said.uri:
                artifact.uri = said.uri


def _several(name: str, number: int) -> str:
    return (
        f"output '{name}' is {number} artifacts, and a step makes one of each output. Write them into directories of one "
        f"artifact, or make an output of each"
    )


def _hand_on(artifact: Any, to: Path) -> None:
    """Give files of an input, which an executor hands on under other properties, as DataViewBinder does, a second name in the output."""
    source = Path(artifact.uri)
    if source.is_dir():
        link_tree(source, to)
    else:
        link(source, to)
    artifact.uri = str(to)


def _check_place(name: str, artifact: Any, expected: Path) -> None:
    if Path(artifact.uri) != expected:
        raise ArtifactError(
            f"output '{name}' was written to {artifact.uri}, outside the step's own directory, where nobody keeps it. Have "
            f"the executor write below the uri that its output artifact comes with"
        )
