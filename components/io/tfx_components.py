"""A TFX component class -> a component of ours, with its inputs, outputs and execution parameters, that runs its executor."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from components.io import tfx_executor, tfx_modules
from components.io.tfx_artifacts import artifact_of, out, told_properties
from components.io.tfx_classes import is_file_based, is_tfx, is_told_files, names_file, parameters_of, problems_of
from components.io.tfx_settings import constructed, settings_of_node
from schemas.artifact import ABSENT, Artifact
from schemas.artifacts import TransformAnomalies, TransformedExamples, TransformSchema, TransformStatistics
from schemas.component import BeamOptions, InputFile, InputFiles, LeavesOut, Lineage, PlannedFiles, Scratch, UserCode
from schemas.dotted_path import dotted_path_of, resolve
from schemas.errors import ArtifactError, ConfigError, StepFailed
from schemas.input_files import FoundFile, expand

BEAM, SCRATCH, LINEAGE, PLANNED = (
    "asked_beam",
    "asked_scratch",
    "asked_lineage",
    "asked_files",
)  # no input or output is called that

_OWN_OUTPUTS: Mapping[str, Mapping[str, type[Artifact]]] = {
    "tfx.components.transform.component.Transform": {
        "transformed_examples": TransformedExamples,
        "pre_transform_stats": TransformStatistics,
        "post_transform_stats": TransformStatistics,
        "pre_transform_schema": TransformSchema,
        "post_transform_schema": TransformSchema,
        "post_transform_anomalies": TransformAnomalies,
    }
}
"""Outputs that ours know more exactly than TFX: a wire that is left out then means the data, not what Transform says of it."""

_ADAPTED: Mapping[str, str] = {
    "tfx.components.evaluator.component.Evaluator": "components.model.tfx_evaluator.TfxEvaluator",
    "tfx.components.example_validator.component.ExampleValidator": (
        "components.data.tfx_example_validator.TfxExampleValidator"
    ),
    "tfx.components.infra_validator.component.InfraValidator": (
        "components.release.tfx_infra_validator.TfxInfraValidator"
    ),
    "tfx.components.pusher.component.Pusher": "components.release.tfx_pusher.TfxPusher",
    "tfx.components.tuner.component.Tuner": "components.model.tfx_tuner.TfxTuner",
}
"""Components that are more than their executor to us."""


@dataclasses.dataclass(frozen=True)
class Work:
    """What an executor is run on: its execution parameters, the step's inputs and outputs by TFX's names, and what the step asked for."""

    parameters: Mapping[str, Any]
    inputs: Mapping[str, Artifact]
    outputs: Mapping[str, Artifact]
    beam: BeamOptions
    scratch: Scratch
    lineage: Lineage  # for those that tell others where a model came from


class TfxComponent:
    """What every adapted class has: its fields are TFX's execution parameters as JSON data, and three more.

    `executor` is the dotted path of the executor's class, `user_code` the user's functions and module files that it will load,
    `left_out` the outputs that this instance does not make. A component of the user's that is told the names of files has
    `named_files` besides, of which those count that are there when a run is planned.
    """

    KIND: ClassVar[type[Any]]
    RUN_BY: ClassVar[tuple[str, ...]] = (
        "components.io.tfx_components.TfxComponent",
        "tfx.dsl.components.base.base_component.BaseComponent",
    )  # what runs it, part of the key
    EXPLICIT_INPUTS: ClassVar[bool] = True  # as in TFX, an optional input takes nothing that it is not wired to

    executor: str
    user_code: tuple[str, ...]
    left_out: tuple[str, ...]

    @classmethod
    def read_settings(cls, written: Mapping[str, Any]) -> dict[str, Any]:
        """The settings to keep: the execution parameters that TFX's own constructor makes of what a user writes.

        What this gave before stays as it is. Raises ConfigError, each problem beginning with the setting's name where there is one.
        """
        if written.keys() >= {"executor", "user_code", "left_out"}:
            return dict(written)
        return settings_of_node(constructed(cls.KIND, written))

    @classmethod
    def read_object(cls, node: Any) -> tuple[dict[str, Any], dict[str, tuple[Any, str]]]:
        """(the settings to keep, of each input that it was given an output for that one's component and name) of TFX's object.

        Raises ConfigError for what cannot be kept.
        """
        from tfx.types.channel import OutputChannel

        if getattr(node.executor_spec, "beam_pipeline_args", ()):
            raise ConfigError("beam_pipeline_args: are of a TFX pipeline. Give the step beam=BeamOptions(...)")
        channels = {
            name: (channel.producer_component, str(channel.output_key))
            for name, channel in node.inputs.items()
            if isinstance(channel, OutputChannel)
        }
        return settings_of_node(node), channels

    @classmethod
    def properties_read(cls, port: str, properties: Mapping[str, Any]) -> Mapping[str, Any]:
        """What an executor is told of an input artifact, but for what TFX notes of where and when it was made."""
        return told_properties(cls.KIND.SPEC_CLASS.INPUTS[port].type, properties)

    def hold_user_code(self) -> Collection[str]:
        """Have what the user edits from here on be for the next run. A file that is named to a component of the user's is not loaded."""
        loads_files = is_tfx(self.KIND)
        return tfx_modules.hold(path for path in self.user_code if loads_files or not path.endswith(".py"))

    def run(self, **given: Any) -> None:
        """Run TFX's executor: the parameters are TFX's inputs and outputs by name, and what is asked of the framework."""
        self._run(self._parameters(), given)

    def _run(self, parameters: Mapping[str, Any], given: Mapping[str, Any]) -> None:
        spec = self.KIND.SPEC_CLASS
        inputs = {name: given[name] for name in spec.INPUTS if given.get(name) is not None}
        for name, found in list(inputs.items()):
            if found.properties.get(ABSENT):
                if not spec.INPUTS[name].allow_empty:
                    raise ArtifactError(f"input '{name}' needs an artifact, and {found.path} is none: nobody made one")
                del inputs[name]
        outputs = {name: given[name] for name in spec.OUTPUTS}
        for name in self.left_out:
            outputs.pop(name).properties[ABSENT] = True
        self._execute(Work(parameters, inputs, outputs, given[BEAM], given[SCRATCH], given[LINEAGE]))

    def _execute(self, work: Work) -> None:
        """Have TFX's executor make the outputs."""
        tfx_executor.execute(
            self.KIND, self.executor, work.parameters, work.inputs, work.outputs, work.beam, work.scratch
        )

    def _parameters(self) -> dict[str, Any]:
        """The execution parameters by name, without those that are None: TFX leaves them out as well."""
        values = {name: getattr(self, name) for name in parameters_of(self.KIND)}
        return {name: value for name, value in values.items() if value is not None}


class FileBased(TfxComponent):
    """An ExampleGen that reads files, whose driver finds the span and version."""

    def run(self, **given: Any) -> None:
        """Run TFX's executor on the span that was planned. It looks for its files itself: raises StepFailed where they are others.

        Files that appear outside the patterns that it is told are left for the next run.
        """
        planned = given[PLANNED].by_setting.get("input_base", ())  # none: called from Python, where nobody planned
        told = tfx_executor.driven(self.KIND, self._parameters() | self._only(planned))
        self._check_files(told, planned)
        self._run(told, given)
        self._check_files(told, planned)

    def _only(self, planned: Sequence[InputFile]) -> dict[str, str]:
        """The parameter that has TFX's driver find the span of the planned files; none where there are no spans."""
        if not planned or planned[0].span is None or "range_config" not in parameters_of(self.KIND):
            return {}
        span = {"start_span_number": planned[0].span, "end_span_number": planned[0].span}
        return {"range_config": json.dumps({"static_range": span})}

    def _check_files(self, told: Mapping[str, Any], planned: Sequence[InputFile]) -> None:
        appeared = set(self._matching(told)) - {file.path for file in planned} if planned else ()
        if appeared:
            raise StepFailed(
                f"{', '.join(sorted(map(str, appeared)))} appeared after this step was planned, and TFX's executor reads it too. "
                f"Nothing was published: run again"
            )

    @staticmethod
    def _matching(told: Mapping[str, Any]) -> Iterator[Path]:
        """What an executor with these resolved parameters reads, which is hidden files as well. Raises DataError."""
        for split in json.loads(told["input_config"])["splits"]:
            yield from expand(str(Path(told["input_base"]) / split["pattern"]), hidden=True)

    def select_files(self) -> Mapping[str, Sequence[FoundFile]]:
        """The files of the newest span, or of all there are, split by split. Raises DataError."""
        parameters = self._parameters()
        written = json.loads(parameters["input_config"]).get("splits", [])
        spans = any("{" in split.get("pattern", "") for split in written)
        resolved = tfx_executor.driven(self.KIND, parameters)
        span, version = (resolved["span"], resolved["version"]) if spans else (None, None)
        base = Path(parameters["input_base"]).expanduser()
        found = [
            # A file that goes over to another split, which is another directory, is another input.
            FoundFile(file, span, version, None if span is None else str(span), str(_below(base, file)))
            for file in self._matching(resolved)
        ]
        return {"input_base": found} | _those_there(getattr(self, "named_files", ()))


def _below(base: Path, file: Path) -> Path:
    return file.relative_to(base) if file.is_relative_to(base) else Path(file.name)


class ToldFiles(TfxComponent):
    """A component of the user's with parameters that may be names of files, to be read or to be written."""

    named_files: tuple[str, ...]

    def select_files(self) -> Mapping[str, Sequence[FoundFile]]:
        """Those that are there. Raises DataError for one that cannot be read."""
        return _those_there(self.named_files)


def _those_there(paths: Iterable[str]) -> dict[str, list[FoundFile]]:
    found = [FoundFile(file) for path in paths if Path(path).is_file() for file in expand(path)]
    return {"named_files": found} if found else {}


@functools.cache
def component_of(kind: type[Any]) -> type[Any]:
    """The component of ours for TFX's `kind`, under the same dotted path: one and the same class each time.

    Raises ConfigError for one that cannot run here, with what to do instead.
    """
    problems = problems_of(kind)
    if problems:
        raise ConfigError(*problems)
    spec = kind.SPEC_CLASS
    fields: list[tuple[str, Any, Any]] = [
        (name, _annotation(kind, name), dataclasses.field(default=None)) for name in parameters_of(kind)
    ]
    fields += [
        ("executor", str, dataclasses.field(default="")),
        ("user_code", tuple[UserCode, ...], dataclasses.field(default=())),
        ("left_out", LeavesOut, dataclasses.field(default=())),
    ]
    if is_told_files(kind):
        fields.append(("named_files", tuple[InputFiles, ...], dataclasses.field(default=())))
    base = FileBased if is_file_based(kind) else ToldFiles if is_told_files(kind) else TfxComponent
    own = next((_ADAPTED[name] for name in map(dotted_path_of, kind.__mro__) if name in _ADAPTED), None)
    bases = (resolve(own), base) if own else (base,)
    own_fields = {"executor", "user_code", "left_out", "named_files"}
    reserved = [name for name in parameters_of(kind) if name in own_fields or any(hasattr(one, name) for one in bases)]
    if reserved:
        raise ConfigError(
            f"{dotted_path_of(kind)} has an execution parameter called '{reserved[0]}', which every step has for itself. Give it "
            f"another name"
        )

    def run(self: Any, **given: Any) -> None:
        base.run(self, **given)

    outputs: Mapping[str, Any] = next(
        (_OWN_OUTPUTS[name] for name in map(dotted_path_of, kind.__mro__) if name in _OWN_OUTPUTS), {}
    )
    run.__annotations__ = {
        **{
            name: artifact_of(port.type) | None if port.optional else artifact_of(port.type)
            for name, port in spec.INPUTS.items()
        },
        **{name: out(outputs.get(name) or artifact_of(port.type)) for name, port in spec.OUTPUTS.items()},
        BEAM: BeamOptions,
        SCRATCH: Scratch,
        LINEAGE: Lineage,
        **({PLANNED: PlannedFiles} if base is FileBased else {}),
    }
    made = dataclasses.make_dataclass(
        kind.__name__,
        fields,
        bases=bases,
        frozen=True,
        kw_only=True,
        namespace={"run": run, "KIND": kind, "__doc__": kind.__doc__},
    )
    made.__module__, made.__qualname__ = kind.__module__, kind.__qualname__
    return made


def _annotation(kind: type[Any], name: str) -> Any:
    """The type of a field: what it holds is TFX's to check, but files that TFX reads count by their content."""
    is_files = (name == "input_base" and is_file_based(kind)) or (is_tfx(kind) and names_file(name))
    return InputFiles | None if is_files else Any
