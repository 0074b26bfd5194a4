"""What a user writes of a TFX component, or the component as TFX made it -> the settings to keep, which are JSON data."""

from __future__ import annotations

import importlib.machinery
import inspect
import json
import sysconfig
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from components.io.tfx_classes import executor_problems, is_tfx, is_told_files, names_file, parameters_of
from schemas.dotted_path import dotted_path_of, resolve
from schemas.errors import ConfigError, did_you_mean


def settings_of_node(node: Any, runtime: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The settings to keep of a component that TFX's constructor made. `runtime` are the values of its RuntimeParameters.

    Raises ConfigError for a value that cannot be kept, each problem beginning with the parameter's name.
    """
    kind = type(node)
    problems: list[str] = []
    settings: dict[str, Any] = {}
    for name in parameters_of(kind):
        try:
            settings[name] = stored(node.exec_properties.get(name), runtime or {})
        except ConfigError as error:
            problems.extend(f"{name}: {problem}" for problem in error.problems)
    executor = getattr(node.executor_spec, "executor_class", None)
    problems.extend(executor_problems(dotted_path_of(kind), node.executor_spec))
    if inspect.isabstract(executor):
        problems.append(
            f"{dotted_path_of(kind)} has no executor that does the work. Name one: custom_executor_spec: my_module.Executor"
        )
    if settings.get("tune_args") is not None and is_tfx(kind):
        problems.append(
            "tune_args: TFX's Tuner refuses them when it runs, as it tries one after another. Leave tune_args out, or have our "
            "Tuner try several at once: parallel_trials"
        )
    if problems or executor is None:
        raise ConfigError(*problems)
    code = _user_code(settings, own=not is_tfx(kind))
    if executor.__module__ != kind.__module__ and not is_tfx(executor):
        code.append(dotted_path_of(executor))
    named = [value for name, value in settings.items() if names_file(name) and _may_be_there(value)]
    return {
        **settings,
        "executor": dotted_path_of(executor),
        "user_code": code,
        "left_out": [name for name in kind.SPEC_CLASS.OUTPUTS if name not in node.outputs],
        **({"named_files": named} if is_told_files(kind) else {}),
    }


def _user_code(settings: Mapping[str, Any], own: bool) -> list[str]:
    """The user's functions and Python files that parameters name: `module_file`, and any `..._fn` or `..._func` that is a dotted path.

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
        if name.endswith(("_fn", "_func")) and "." in value and not files and (not own or _is_users(value))
    ]
    # A module has no function that is always there, but always its name.
    modules = [f"{texts['module_path']}.__name__"] if texts.get("module_path") and not own else []
    return [*files, *functions, *modules]


def _is_there(value: Any) -> bool:
    return isinstance(value, str) and Path(value).is_file()


def _may_be_there(value: Any) -> bool:
    """Whether a text names a file that is there, or one of a place that another machine may have and this one not."""
    return _is_there(value) or (isinstance(value, str) and Path(value).is_absolute())


def _is_users(function: str) -> bool:
    """Whether a dotted path begins with a module that is there and not an installed one."""
    found = importlib.machinery.PathFinder.find_spec(function.partition(".")[0])
    places = [] if found is None else [found.origin, *(found.submodule_search_locations or ())]
    libraries = [Path(sysconfig.get_path(kind)) for kind in ("purelib", "platlib", "stdlib")]
    return any(place and not any(Path(place).is_relative_to(library) for library in libraries) for place in places)


def constructed(kind: type[Any], written: Mapping[str, Any]) -> Any:
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


_MADE_OF = (
    "tensorflow_data_validation",
)  # libraries of which constructors take an object: StatisticsGen's stats_options


def _as_proto(parameter: Any, value: Any) -> Any:
    from google.protobuf import json_format, message

    if not (isinstance(parameter.type, type) and issubclass(parameter.type, message.Message)):
        return value
    if isinstance(value, str):
        return json_format.Parse(value, parameter.type())
    return json_format.ParseDict(value, parameter.type()) if isinstance(value, Mapping) else value


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
