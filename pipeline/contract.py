"""The contract of a component, read from the annotations of its fields and of `run`."""

from __future__ import annotations

import dataclasses
import json
import types
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from schemas.artifact import Artifact
from schemas.artifacts import Verdict
from schemas.component import (
    Baseline,
    BeamOptions,
    ChoosesFilesMarker,
    Earlier,
    IfOnlyOneMarker,
    InputFilesMarker,
    LeavesOutMarker,
    Lineage,
    Makes,
    MayEndRunMarker,
    OutputMarker,
    PartCache,
    PlannedFiles,
    Progress,
    Publisher,
    ReadsProperties,
    Scratch,
    Seed,
    SelectsFiles,
    UserCodeMarker,
    WantsBaselineMarker,
)
from schemas.dotted_path import dotted_path_of, resolve
from schemas.errors import ConfigError, did_you_mean
from schemas.input_files import FoundFile, expand

T = TypeVar("T")

ASKS = (BeamOptions, Scratch, Seed, Baseline, Progress, Lineage, PlannedFiles, PartCache, Earlier)


@dataclass(frozen=True)
class InputPort:
    """An input of a step: `types` in order of preference."""

    name: str
    types: tuple[type[Artifact], ...]
    optional: bool
    if_only_one: bool = False  # optional also where several earlier steps make one
    explicit: bool = False  # an optional input that takes nothing it is not wired to, whatever its types say

    def accepts(self, artifact: type[Artifact]) -> bool:
        return issubclass(artifact, self.types)


@dataclass(frozen=True)
class Contract:
    """What a component takes, makes and asks for."""

    component: type[Any]
    inputs: Mapping[str, InputPort]
    outputs: Mapping[str, type[Artifact]]
    asks: Mapping[str, type[Any]]  # parameter of run: one of ASKS
    user_code: tuple[str, ...]  # settings that hold a dotted path of the user's
    input_files: tuple[str, ...]  # settings that hold a path, glob or pkg:// address
    chooses_files: tuple[str, ...]  # settings that choose among the files of those
    makes: Mapping[str, str]  # output: the setting that decides whether it is made
    leaves_out: tuple[str, ...]  # settings that name outputs that are not made; others always are
    wants_baseline: Mapping[
        str, WantsBaselineMarker
    ]  # settings of which one has to want it for the step to be given one
    ends_run: Mapping[str, MayEndRunMarker]  # settings of which one may have the step end the run
    run_by: tuple[str, ...] = ()  # dotted paths of what runs a component that is not written for us: part of its key

    @property
    def publishes(self) -> bool:
        """Whether the step publishes outside the store."""
        return isinstance(self.component, type) and all(
            callable(getattr(self.component, name, None)) for name in _PUBLISHER_METHODS
        )

    @property
    def blesses(self) -> bool:
        """Whether the step says if a model may be pushed."""
        return any(issubclass(kind, Verdict) for kind in self.outputs.values())

    def paths(self, settings: Mapping[str, Any], names: Iterable[str]) -> list[str]:
        """The paths in some of the settings, each of which may hold one, several, several by name, or none."""
        found: list[str] = []
        for name in names:
            value = settings.get(name)
            found += (
                [value] if isinstance(value, str) else value.values() if isinstance(value, Mapping) else value or ()
            )
        return found

    @property
    def selects_files(self) -> bool:
        """Whether the step reads the files that were planned, and only those, so that others may appear meanwhile."""
        return bool(self.input_files) and issubclass(self.component, SelectsFiles)

    def files(self, settings: Mapping[str, Any]) -> dict[str, list[FoundFile]]:
        """The input files that a run begun now would read, by setting. Raises DataError when there are none."""
        if self.selects_files:
            selected = build_component(self.component, settings).select_files()
            return {name: list(found) for name, found in selected.items()}
        return {
            name: [FoundFile(file) for path in self.paths(settings, [name]) for file in expand(path)]
            for name in self.input_files
        }

    def left_empty(self, output: str, settings: Mapping[str, Any]) -> str | None:
        """The setting for which a step of these settings does not make `output`; None when it does."""
        named = next((name for name in self.leaves_out if output in settings.get(name, ())), None)
        if named is not None:
            return named
        decides = self.makes.get(output)
        return decides if decides is not None and not settings.get(decides, True) else None

    def takes_baseline(self, settings: Mapping[str, Any]) -> bool:
        """Whether a step of these settings is given the model that serves, which then is part of its key."""
        wants = [marker.wants(settings.get(name)) for name, marker in self.wants_baseline.items()]
        wanted = not wants or any(wants)
        return self.ask(Baseline) is not None and wanted

    def may_end_run(self, settings: Mapping[str, Any]) -> bool:
        """Whether a step of these settings may find that the steps below it are not needed."""
        return any(settings.get(name) in marker.when for name, marker in self.ends_run.items())

    def properties_read(self, properties: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        """Of the properties of input artifacts, by port, those that count for the key beside the files; ports with none are left out."""
        if not issubclass(self.component, ReadsProperties):
            return {}
        read = {port: dict(self.component.properties_read(port, found)) for port, found in properties.items()}
        return {port: found for port, found in read.items() if found}

    def ask(self, kind: type[Any]) -> str | None:
        """The parameter of `run` that asks for `kind`, None when it does not."""
        return next((name for name, asked in self.asks.items() if asked is kind), None)


_PUBLISHER_METHODS = tuple(name for name in vars(Publisher) if not name.startswith("_"))


_ADAPTERS = {
    "tfx.dsl.components.base.base_component.BaseComponent": "components.io.tfx_components.component_of",
    "tfx.types.artifact.Artifact": "components.io.tfx_nodes.importer_of",
}
"""What makes a component of ours of a class that is not written for us, by a class that it is derived from."""

_ARTIFACT_ADAPTERS = {"tfx.types.artifact.Artifact": "components.io.tfx_artifacts.artifact_of"}


def adapted(component: Any, adapters: Mapping[str, str] = _ADAPTERS) -> Any:
    """`component`, or the component of ours that stands for it. Nothing is imported unless there is one."""
    for base in getattr(component, "__mro__", ()):
        adapter = adapters.get(dotted_path_of(base))
        if adapter:
            return resolve(adapter)(component)
    return component


def artifact_class(dotted: str) -> type[Artifact]:
    """The artifact class at a dotted path, which may be another framework's."""
    found: type[Artifact] = adapted(resolve(dotted), _ARTIFACT_ADAPTERS)
    return found


def read_contract(component: type[Any]) -> Contract:
    """The contract of `component`. Raises ConfigError naming every annotation that is not part of schemas/component.py's table."""
    component = adapted(component)
    where = dotted_path_of(component)
    if not dataclasses.is_dataclass(component) or not callable(getattr(component, "run", None)):
        raise ConfigError(f"{where} is not a component: expected a dataclass with a method named run")
    inputs: dict[str, InputPort] = {}
    outputs: dict[str, type[Artifact]] = {}
    asks: dict[str, type[Any]] = {}
    problems: list[str] = []
    for name, hint in _run_hints(getattr(component, "run"), where).items():  # noqa: B009 mypy knows no run here
        port = _input_port(name, hint, getattr(component, "EXPLICIT_INPUTS", False))
        output = _output(hint)
        if output is not None:
            outputs[name] = output
        elif hint in ASKS:
            asks[name] = hint
        elif port is not None:
            inputs[name] = port
        else:
            problems.append(
                f"{where}.run: parameter '{name}' is annotated {hint!r}, which is neither an artifact, Out[artifact] nor "
                f"one of {', '.join(ask.__name__ for ask in ASKS)}"
            )
    if problems:
        raise ConfigError(*problems)
    hints = get_type_hints(component, include_extras=True)
    fields = [field.name for field in dataclasses.fields(component)]
    return Contract(
        component=component,
        inputs=inputs,
        outputs=outputs,
        asks=asks,
        user_code=tuple(name for name in fields if _marked(hints[name], UserCodeMarker)),
        input_files=tuple(name for name in fields if _marked(hints[name], InputFilesMarker)),
        chooses_files=tuple(name for name in fields if _marked(hints[name], ChoosesFilesMarker)),
        makes={marker.output: name for name in fields for marker in _markers(hints[name], Makes)},
        leaves_out=tuple(name for name in fields if _marked(hints[name], LeavesOutMarker)),
        ends_run={name: marker for name in fields for marker in _markers(hints[name], MayEndRunMarker)},
        wants_baseline={name: marker for name in fields for marker in _markers(hints[name], WantsBaselineMarker)},
        run_by=getattr(component, "RUN_BY", ()),
    )


def _run_hints(run: Callable[..., Any], where: str) -> dict[str, Any]:
    try:
        hints = get_type_hints(run, include_extras=True)
    except NameError as error:
        raise ConfigError(
            f"{where}.run: an annotation cannot be read ({error}). Import its type at module level"
        ) from error
    hints.pop("return", None)
    return hints


def _output(hint: Any) -> type[Artifact] | None:
    """The artifact that `Out[artifact]`, or that `| None`, makes; None for everything else."""
    alternatives = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    (first, *others) = [one for one in alternatives if one is not type(None)]
    if others or not any(isinstance(m, OutputMarker) for m in getattr(first, "__metadata__", ())):
        return None
    artifact: type[Artifact] = get_args(first)[0]
    return artifact


def _input_port(name: str, hint: Any, explicit: bool) -> InputPort | None:
    if_only_one = any(isinstance(marker, IfOnlyOneMarker) for marker in getattr(hint, "__metadata__", ()))
    if if_only_one:
        hint = get_args(hint)[0]
    alternatives = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    artifacts = tuple(t for t in alternatives if isinstance(t, type) and issubclass(t, Artifact))
    optional = type(None) in alternatives
    if not artifacts or len(artifacts) + optional != len(alternatives):
        return None
    explicit = optional and (explicit or all(kind.EXPLICIT for kind in artifacts))
    return InputPort(name=name, types=artifacts, optional=optional, if_only_one=if_only_one, explicit=explicit)


def _marked(hint: Any, marker: type[Any]) -> bool:
    return bool(_markers(hint, marker))


def _markers(hint: Any, marker: type[T]) -> list[T]:
    """Those with which `hint` is `Annotated[..., marker]`, also as `... | None` or as the item of a tuple."""
    found = [one for one in getattr(hint, "__metadata__", ()) if isinstance(one, marker)]
    inside = [argument for argument in get_args(hint) if not isinstance(argument, (str, marker))]
    return found or [one for argument in inside for one in _markers(argument, marker)]


def settings_of(component: Any) -> dict[str, Any]:
    """Every setting of a component object, defaults included, as JSON data in the order of the fields."""
    settings: dict[str, Any] = json.loads(
        json.dumps({f.name: getattr(component, f.name) for f in dataclasses.fields(component)})
    )
    return settings


def build_component(component: type[Any], settings: Mapping[str, Any]) -> Any:
    """The component with `settings` (JSON data, as YAML gives it) checked against its fields.

    Raises ConfigError with one problem per wrong setting, each beginning with the setting's name.
    """
    from pydantic import TypeAdapter, ValidationError

    component = adapted(component)
    read_settings = getattr(component, "read_settings", None)
    settings = settings if read_settings is None else read_settings(settings)
    hints = get_type_hints(component, include_extras=True)
    fields = {field.name: field for field in dataclasses.fields(component)}
    problems: list[str] = []
    values: dict[str, Any] = {}
    for name, value in settings.items():
        if name not in fields:
            known = ", ".join(fields) or "none"
            problems.append(
                f"{name}: no such setting.{did_you_mean(name, fields) or f' {component.__name__} has: {known}'}"
            )
            continue
        try:
            # JSON mode: a list may become a tuple and an int a float, while "5" never becomes 5.
            values[name] = TypeAdapter(hints[name]).validate_json(json.dumps(value), strict=True)
        except ValidationError as error:
            problems.extend(_setting_problems(name, hints[name], error))
    required = [
        f.name for f in fields.values() if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    ]
    problems.extend(f"{name}: missing, and it has no default" for name in required if name not in settings)
    if all(name in values for name in required):
        try:
            built = component(**values)
        except ConfigError as error:
            problems.extend(error.problems)
    if problems:
        raise ConfigError(*problems)
    return built


def _setting_problems(name: str, hint: Any, error: Any) -> list[str]:
    # A value may fail each arm of a union; the first complaint per place says enough.
    seen: dict[str, str] = {}
    for item in error.errors(include_url=False):
        arms = [
            part for part in item["loc"] if isinstance(part, int) or (isinstance(part, str) and part.isidentifier())
        ]
        inner = [part for part in arms if part not in ("str", "int", "float", "bool", "none", "tuple", "dict", "list")]
        place = ".".join([name, *map(str, inner)])
        seen.setdefault(place, f"{place}: {item['input']!r} is not valid here: {_lower_first(item['msg'])}")
    return list(seen.values())


def _lower_first(text: str) -> str:
    return text[:1].lower() + text[1:]
