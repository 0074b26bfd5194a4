"""A TFX component class -> a component of ours, with its inputs, outputs and execution parameters, that runs its executor."""

from __future__ import annotations

import dataclasses
import functools
import importlib.machinery
import importlib.metadata
import inspect
import json
import sysconfig
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, get_args

from components.io import tfx_executor, tfx_modules
from components.io.tfx_artifacts import artifact_of, out, told_properties
from schemas.artifact import ABSENT, Artifact
from schemas.artifacts import TransformAnomalies, TransformedExamples, TransformSchema, TransformStatistics
from schemas.component import BeamOptions, InputFile, InputFiles, LeavesOut, Lineage, PlannedFiles, Scratch, UserCode
from schemas.dotted_path import resolve
from schemas.errors import ArtifactError, ConfigError, StepFailed, did_you_mean
from schemas.input_files import FoundFile, expand

VERSION = "1.16"  # of TFX: what is adapted here are its own interfaces, which change
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
        return settings_of_node(_construct(cls.KIND, written))

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
        loads_files = _is_tfx(self.KIND.__module__)
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
        values = {name: getattr(self, name) for name in _parameters(self.KIND)}
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
        if not planned or planned[0].span is None or "range_config" not in _parameters(self.KIND):
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


class ToldFiles(TfxComponent):
    """A component of the user's with parameters that may be names of files, to be read or to be written."""

    named_files: tuple[str, ...]

    def select_files(self) -> Mapping[str, Sequence[FoundFile]]:
        """Those that are there. Raises DataError for one that cannot be read."""
        return _those_there(self.named_files)


@functools.cache
def component_of(kind: type[Any]) -> type[Any]:
    """The component of ours for TFX's `kind`, under the same dotted path: one and the same class each time.

    Raises ConfigError for one that cannot run here, with what to do instead.
    """
    problems = _problems(kind)
    if problems:
        raise ConfigError(*problems)
    spec = kind.SPEC_CLASS
    fields: list[tuple[str, Any, Any]] = [
        (name, _annotation(kind, name), dataclasses.field(default=None)) for name in _parameters(kind)
    ]
    fields += [
        ("executor", str, dataclasses.field(default="")),
        ("user_code", tuple[UserCode, ...], dataclasses.field(default=())),
        ("left_out", LeavesOut, dataclasses.field(default=())),
    ]
    if _is_told_files(kind):
        fields.append(("named_files", tuple[InputFiles, ...], dataclasses.field(default=())))
    base = FileBased if _is_file_based(kind) else ToldFiles if _is_told_files(kind) else TfxComponent
    own = next((_ADAPTED[name] for name in map(_dotted, kind.__mro__) if name in _ADAPTED), None)
    bases = (resolve(own), base) if own else (base,)
    own_fields = {"executor", "user_code", "left_out", "named_files"}
    reserved = [name for name in _parameters(kind) if name in own_fields or any(hasattr(one, name) for one in bases)]
    if reserved:
        raise ConfigError(
            f"{_dotted(kind)} has an execution parameter called '{reserved[0]}', which every step has for itself. Give it "
            f"another name"
        )

    def run(self: Any, **given: Any) -> None:
        base.run(self, **given)

    outputs: Mapping[str, Any] = next(
        (_OWN_OUTPUTS[name] for name in map(_dotted, kind.__mro__) if name in _OWN_OUTPUTS), {}
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


def settings_of_node(node: Any, runtime: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The settings to keep of a component that TFX's constructor made. `runtime` are the values of its RuntimeParameters.

    Raises ConfigError for a value that cannot be kept, each problem beginning with the parameter's name.
    """
    kind = type(node)
    problems: list[str] = []
    settings: dict[str, Any] = {}
    for name in _parameters(kind):
        try:
            settings[name] = stored(node.exec_properties.get(name), runtime or {})
        except ConfigError as error:
            problems.extend(f"{name}: {problem}" for problem in error.problems)
    executor = getattr(node.executor_spec, "executor_class", None)
    problems.extend(_executor_problems(_dotted(kind), node.executor_spec))
    if inspect.isabstract(executor):
        problems.append(
            f"{_dotted(kind)} has no executor that does the work. Name one: custom_executor_spec: my_module.Executor"
        )
    if settings.get("tune_args") is not None and _is_tfx(kind.__module__):
        problems.append(
            "tune_args: TFX's Tuner refuses them when it runs, as it tries one after another. Leave tune_args out, or have our "
            "Tuner try several at once: parallel_trials"
        )
    if problems or executor is None:
        raise ConfigError(*problems)
    code = _user_code(settings, own=not _is_tfx(kind.__module__))
    if executor.__module__ != kind.__module__ and not _is_tfx(executor.__module__):
        code.append(_dotted(executor))
    named = [value for name, value in settings.items() if _names_file(name) and _may_be_there(value)]
    return {
        **settings,
        "executor": _dotted(executor),
        "user_code": code,
        "left_out": [name for name in kind.SPEC_CLASS.OUTPUTS if name not in node.outputs],
        **({"named_files": named} if _is_told_files(kind) else {}),
    }


def _dotted(kind: type[Any]) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _is_tfx(module: str) -> bool:
    return module == "tfx" or module.startswith("tfx.")


def _parameters(kind: type[Any]) -> list[str]:
    """The execution parameters of a component class, but for the Beam pipeline that TFX passes among them."""
    import apache_beam

    return [name for name, one in kind.SPEC_CLASS.PARAMETERS.items() if one.type is not apache_beam.Pipeline]


def _annotation(kind: type[Any], name: str) -> Any:
    """The type of a field: what it holds is TFX's to check, but files that TFX reads count by their content."""
    is_files = (name == "input_base" and _is_file_based(kind)) or (_is_tfx(kind.__module__) and _names_file(name))
    return InputFiles | None if is_files else Any


def _is_told_files(kind: type[Any]) -> bool:
    """Whether a component of the user's has parameters that may be names of files: some are of files yet to be written."""
    return not _is_tfx(kind.__module__) and any(map(_names_file, _parameters(kind)))


def _names_file(parameter: str) -> bool:
    return parameter.endswith("_file") and parameter != "module_file"


def _below(base: Path, file: Path) -> Path:
    return file.relative_to(base) if file.is_relative_to(base) else Path(file.name)


def _is_file_based(kind: type[Any]) -> bool:
    from tfx.components.example_gen.driver import FileBasedDriver

    return issubclass(kind.DRIVER_CLASS, FileBasedDriver)


def _problems(kind: type[Any]) -> list[str]:
    from tfx.components.example_gen.driver import Driver
    from tfx.dsl.components.base.base_driver import BaseDriver
    from tfx.types import ComponentSpec

    where = _dotted(kind)
    version = importlib.metadata.version("tfx")
    if not version.startswith(f"{VERSION}."):
        return [
            f"{where}: TFX {version} is installed, and its components run here with TFX {VERSION}. Install what the lock says: uv sync"
        ]
    if not (isinstance(kind.SPEC_CLASS, type) and issubclass(kind.SPEC_CLASS, ComponentSpec)):
        return [f"{where} has no SPEC_CLASS, so its inputs and outputs are unknown. Name a component, not a base class"]
    problems = _executor_problems(where, kind.EXECUTOR_SPEC)
    if kind.DRIVER_CLASS is not BaseDriver and not issubclass(kind.DRIVER_CLASS, Driver):
        problems.append(
            f"{where} has a driver of its own, {_dotted(kind.DRIVER_CLASS)}, which asks ML Metadata, and there is none here. Do "
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


def _executor_problems(where: str, spec: Any) -> list[str]:
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
            return [f"{where} has its work done by a cloud service ({_dotted(executor)}). {instead}"]
    if executor is EmptyExecutor:
        return [f"{where} has an executor that does nothing. Set EXECUTOR_SPEC to what does its work"]
    return []


def _construct(kind: type[Any], written: Mapping[str, Any]) -> Any:
    """An instance as TFX's own constructor makes it from `written`, with a channel for each input."""
    spec = kind.SPEC_CLASS
    taken = inspect.signature(kind.__init__).parameters
    any_name = any(one.kind is inspect.Parameter.VAR_KEYWORD for one in taken.values())
    known = [name for name in (spec.PARAMETERS if any_name else taken) if name not in ("self", "args", "kwargs")]
    channels = _channels(kind, known)
    known = [name for name in known if name not in channels and name not in spec.INPUTS and name not in spec.OUTPUTS]
    problems = [
        f"{name}: no such setting.{did_you_mean(name, known) or f' {kind.__name__} has: ' + (', '.join(known) or 'none')}"
        for name in written
        if name not in known
    ]
    values: dict[str, Any] = {}
    for name, value in written.items():
        try:
            declared = spec.PARAMETERS.get(name)
            values[name] = _as_asked(taken.get(name), value) if declared is None else _as_proto(declared, value)
        except Exception as error:  # noqa: BLE001 protobuf's parsers raise what they like
            problems.append(f"{name}: {value!r} is not valid here: {error}")
    if problems:
        raise ConfigError(*problems)
    needed = {name: channel for name, (channel, port) in channels.items() if not port.optional}
    every = {name: channel for name, (channel, port) in channels.items() if any_name or name in taken}
    first: Exception | None = None
    for inputs in (needed, every):  # some ask for one of several optional inputs
        try:
            return kind(**inputs, **values)
        except (ValueError, TypeError, KeyError, RuntimeError, AttributeError) as error:
            first = first or error
    raise ConfigError(f"{kind.__name__} refuses its settings: {first}") from first


def _channels(kind: type[Any], arguments: Sequence[str]) -> dict[str, tuple[Any, Any]]:
    """A channel for each input by the argument that takes it, with what is declared of the input.

    Where the constructor calls it otherwise, as ExampleDiff does, its arguments for channels stand in the inputs' order.
    """
    from tfx.types import Channel
    from tfx.types.channel import BaseChannel

    spec = kind.SPEC_CLASS
    hints = {
        name: str(one.annotation) if isinstance(one.annotation, str) else one.annotation
        for name, one in inspect.signature(kind.__init__).parameters.items()
    }
    inputs = [name for name in spec.INPUTS if name not in hints]
    others = [name for name in arguments if name not in spec.INPUTS and hints.get(name) is BaseChannel]
    called = {name: name for name in spec.INPUTS} | dict(zip(inputs, others, strict=False))
    return {called[name]: (Channel(port.type), port) for name, port in spec.INPUTS.items()}


def _as_asked(argument: inspect.Parameter | None, value: Any) -> Any:
    """`value` for an argument that is no execution parameter itself, as the constructor wants it.

    That is the spec of the executor class at a dotted path; for another class the object made of a mapping, or of its JSON.
    """
    from tfx.dsl.components.base.base_beam_executor import BaseBeamExecutor
    from tfx.dsl.components.base.executor_spec import BeamExecutorSpec, ExecutorClassSpec, ExecutorSpec

    hints = [] if argument is None else [argument.annotation, *get_args(argument.annotation)]
    for kind in (hint for hint in hints if isinstance(hint, type)):
        if kind is ExecutorSpec and isinstance(value, str):
            executor = resolve(value)
            return (BeamExecutorSpec if issubclass(executor, BaseBeamExecutor) else ExecutorClassSpec)(executor)
        if isinstance(value, Mapping) and not isinstance(value, kind) and kind.__module__.partition(".")[0] in _MADE_OF:
            return kind(**value)
    return value


def _as_proto(parameter: Any, value: Any) -> Any:
    from google.protobuf import json_format, message

    if not (isinstance(parameter.type, type) and issubclass(parameter.type, message.Message)):
        return value
    if isinstance(value, str):
        return json_format.Parse(value, parameter.type())
    return json_format.ParseDict(value, parameter.type()) if isinstance(value, Mapping) else value


_MADE_OF = (
    "tensorflow_data_validation",
)  # libraries of which constructors take an object: StatisticsGen's stats_options


def runtime_parameters(value: Any) -> Iterator[Any]:
    """The RuntimeParameters in an execution parameter: that it is, or that its lists, mappings and JSON text hold."""
    found: list[Any] = []
    _with_values(value, lambda parameter: found.append(parameter))
    yield from found


def _with_values(value: Any, value_of: Callable[[Any], Any]) -> Any:
    """`value` with what `value_of` gives in the place of each RuntimeParameter."""
    from tfx.orchestration.data_types import RuntimeParameter
    from tfx.utils import json_utils

    if isinstance(value, RuntimeParameter):
        return value_of(value)
    if isinstance(value, str) and _NESTED in value:  # TFX's own constructors make text of mappings
        return json.dumps(_with_values(json.loads(value), value_of), sort_keys=True)
    if isinstance(value, Mapping):
        if value.get("__class__") == RuntimeParameter.__name__ and "__tfx_object_type__" in value:
            return value_of(json_utils.loads(json.dumps(value)))
        return {name: _with_values(one, value_of) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_with_values(one, value_of) for one in value]
    return value


_NESTED = '"__class__": "RuntimeParameter"'


def _runtime_value(parameter: Any, runtime: Mapping[str, Any]) -> Any:
    """The value that a run gives a RuntimeParameter, or its default. Raises ConfigError for none, or one of another type."""
    value = runtime.get(parameter.name, parameter.default)
    setting = f"--set parameters.{parameter.name}"
    if value is None:
        raise ConfigError(
            f"is the RuntimeParameter '{parameter.name}', which has no default. Give it: {setting}=value, or "
            f"tfx.arguments.{parameter.name} in a pipeline.yaml"
        )
    if isinstance(value, Mapping | list) and parameter.ptype in (str, None):
        return json.dumps(value)  # how a message is given
    if parameter.ptype is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if parameter.ptype is not None and (not isinstance(value, parameter.ptype) or isinstance(value, bool)):
        quoted = f": {setting}='\"{value}\"'" if parameter.ptype is str else ""
        raise ConfigError(
            f"is the RuntimeParameter '{parameter.name}', which is {parameter.ptype.__name__}, and {value!r} is none{quoted}"
        )
    return value


def stored(value: Any, runtime: Mapping[str, Any]) -> Any:
    """An execution parameter as JSON data. Raises ConfigError for one that is none."""
    from google.protobuf import message
    from tfx.dsl.placeholder.placeholder_base import Placeholder
    from tfx.utils import proto_utils

    value = _with_values(value, lambda parameter: _runtime_value(parameter, runtime))
    constant = getattr(value, "_base_message", None)
    if isinstance(value, Placeholder) and constant is not None and not getattr(value, "_kwargs", None):
        value = constant
    if isinstance(value, Placeholder):
        raise ConfigError(
            "is a placeholder, whose value is known only while the pipeline runs. Wire the output as an input of the component, "
            "and have its executor read the value"
        )
    if isinstance(value, message.Message):
        return proto_utils.proto_to_json(value)
    try:
        return json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"{type(value).__name__} cannot be stored ({error}). Give numbers, text, booleans, lists and mappings of them, or "
            f"a protobuf message; name functions by their dotted path"
        ) from error


def _user_code(settings: Mapping[str, Any], own: bool) -> list[str]:
    """The user's functions and Python files that parameters name: `module_file`, and any `..._fn` that is a dotted path.

    In a component of the user's `own` these may be names of something else: there, what is not found is none.
    """
    texts = {name: value for name, value in settings.items() if isinstance(value, str)}
    files = [
        value
        for name, value in texts.items()
        if value.endswith(".py") and (not own or name == "module_file" or _is_there(value))
    ]
    functions = [
        value
        for name, value in texts.items()
        if name.endswith("_fn") and "." in value and not files and (not own or _is_users(value))
    ]
    # A module has no function that is always there, but always its name.
    modules = [f"{texts['module_path']}.__name__"] if texts.get("module_path") and not own else []
    return [*files, *functions, *modules]


def _is_there(value: Any) -> bool:
    return isinstance(value, str) and Path(value).is_file()


def _may_be_there(value: Any) -> bool:
    """Whether a text names a file that is there, or one of a place that another machine may have and this one not."""
    return _is_there(value) or (isinstance(value, str) and Path(value).is_absolute())


def _those_there(paths: Iterable[str]) -> dict[str, list[FoundFile]]:
    found = [FoundFile(file) for path in paths if _is_there(path) for file in expand(path)]
    return {"named_files": found} if found else {}


def _is_users(function: str) -> bool:
    """Whether a dotted path begins with a module that is there and not an installed one."""
    found = importlib.machinery.PathFinder.find_spec(function.partition(".")[0])
    places = [] if found is None else [found.origin, *(found.submodule_search_locations or ())]
    libraries = [Path(sysconfig.get_path(kind)) for kind in ("purelib", "platlib", "stdlib")]
    return any(place and not any(Path(place).is_relative_to(library) for library in libraries) for place in places)
