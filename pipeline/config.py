"""pipeline.yaml -> PipelineConfig: every mistake at once, each with its line, path and a suggestion."""

from __future__ import annotations

import contextlib
import datetime
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_args

from schemas.config import PipelineConfig, StepConfig
from schemas.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from pydantic import BaseModel

KeyPath = tuple[str | int, ...]
ModelT = TypeVar("ModelT", bound="BaseModel")
_PARTS_OF_A_STEP = ((), *((info.alias or name,) for name, info in StepConfig.model_fields.items()))
_DEFAULT_ROOT: str = PipelineConfig.model_fields["root"].default
_TFX_PIPELINE = ("tfx", "pipeline")
_PARAMETER = re.compile(r"\$\{([^}]*)\}")


@dataclass(frozen=True)
class Source:
    """Where each value of a definition was written, for messages."""

    file: str
    lines: Mapping[KeyPath, int] = field(default_factory=dict)  # 1-based
    overridden: frozenset[KeyPath] = frozenset()

    def at(self, path: KeyPath) -> str:
        """'pipeline.yaml:12: steps.trainer.with.stps', or with the nearest parent's line where the value itself has none."""
        dotted = ".".join(map(str, path))
        if path and path not in self.lines and any(written[: len(path)] == path for written in self.overridden):
            return f"--set {dotted}"  # a section that only an override has
        of_tfx = path[:1] == ("steps",) and path[:2] not in self.lines and _TFX_PIPELINE in self.lines
        for length in range(len(path), -1, -1):
            if length < 2 and of_tfx:
                return f"{self.file}:{self.lines[_TFX_PIPELINE]}: {dotted}"  # which brings the step
            if path[:length] in self.overridden:
                return f"--set {dotted}"
            if path[:length] in self.lines:
                place = f"{self.file}:{self.lines[path[:length]]}"
                return f"{place}: {dotted}" if dotted else place
        return f"{self.file}: {dotted}" if dotted else self.file


def read_config(file: Path, overrides: Iterable[str] = ()) -> tuple[PipelineConfig, Source]:
    """The definition in `file` with `overrides` (each `a.b=value`, the value read as YAML) put in and parameters filled.

    Raises ConfigError with every problem of the shape; settings of components are checked when the graph is built.
    """
    raw, lines = read_yaml(file, "a mapping with name and steps", _definitions_near)
    problems: list[str] = []
    overridden: set[KeyPath] = set()
    for override in overrides:
        try:
            overridden.add(_apply_override(raw, override))
        except ConfigError as error:
            problems.extend(error.problems)
    source = Source(str(file), lines, frozenset(overridden))
    filled = _fill_parameters(raw, raw.get("parameters"), (), source, problems)
    config = _check_shape(filled, source, problems)
    if problems or config is None:
        raise ConfigError(*problems)
    return config, source


def read_section(
    model: type[ModelT], file: Path, overrides: Iterable[str], section: str
) -> tuple[str, str, ModelT | None]:
    """(the pipeline's name, its root, one section) of a definition that need not be right in anything else.

    A name that cannot be read is the file's own, a root the default; a section that cannot be read is None.
    """
    try:
        raw, lines = read_yaml(file, "a mapping")
    except ConfigError:
        return str(file), _DEFAULT_ROOT, None
    for override in overrides:
        with contextlib.suppress(ConfigError):
            _apply_override(raw, override)
    ignored: list[str] = []
    filled = _fill_parameters(raw, raw.get("parameters"), (), Source(str(file), lines), ignored)
    name, root, found = filled.get("name"), filled.get("root"), filled.get(section)
    return (
        name if isinstance(name, str) else str(file),
        root if isinstance(root, str) else _DEFAULT_ROOT,
        check_shape(model, found, str, ignored) if found is not None else None,
    )


def override_section(model: type[ModelT], section: str, given: BaseModel | None, overrides: Iterable[str]) -> ModelT:
    """One section of a definition in Python, `given` or none, with `overrides` (each `section.a.b=value`) put in.

    Raises ConfigError with every problem.
    """
    raw: dict[str, Any] = {section: given.model_dump(exclude_unset=True) if given is not None else {}}
    problems: list[str] = []
    for override in overrides:
        try:
            _apply_override(raw, override)
        except ConfigError as error:
            problems.extend(error.problems)
    found = check_shape(model, raw[section], lambda path: f"--set {'.'.join(map(str, (section, *path)))}", problems)
    if problems or found is None:
        raise ConfigError(*problems)
    return found


def _definitions_near() -> str:
    near = sorted(str(p) for p in Path().glob("configs/*/pipeline.yaml"))
    return f". Definitions here: {', '.join(near)}" if near else ""


def read_yaml(
    file: Path, expected: str, instead: Callable[[], str] = lambda: ""
) -> tuple[dict[str, Any], dict[KeyPath, int]]:
    """What a file holds, and the line of every key and item.

    Raises ConfigError when it is not `expected` (a mapping with ...), and when there is no file, saying what there is `instead`.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.constructor import DuplicateKeyError
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    try:
        text = file.read_bytes().decode("utf-8-sig")  # editors on Windows put a byte order mark first
    except FileNotFoundError:
        raise ConfigError(f"{file}: there is no such file{instead()}") from None
    except UnicodeDecodeError as error:
        before = error.object[: error.start].count(b"\n")
        byte = error.object[error.start]
        raise ConfigError(
            f"{file}:{before + 1}: the byte 0x{byte:02x} is no UTF-8: save it in that encoding"
        ) from error
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}") from error
    try:
        loaded = YAML(typ="rt").load(text)
    except DuplicateKeyError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else "?"
        found = re.search(r'duplicate key "?([^" ]+)"?', str(error.problem))
        name = found.group(1) if found else "a key"
        raise ConfigError(f"{file}:{line}: '{name}' stands here twice; rename or remove one") from error
    except MarkedYAMLError as error:
        mark = error.problem_mark
        place = f"{file}:{mark.line + 1}:{mark.column + 1}" if mark else str(file)
        raise ConfigError(f"{place}: not valid YAML: {error.problem or error.context}") from error
    except YAMLError as error:
        raise ConfigError(f"{file}: not valid YAML: {error}") from error
    if loaded is None:
        raise ConfigError(f"{file}: there is nothing in it; expected {expected}")
    if not isinstance(loaded, dict):
        raise ConfigError(f"{file}: expected {expected}, found {type(loaded).__name__}")
    lines: dict[KeyPath, int] = {(): 1}
    return _plain(loaded, (), lines), lines


def _plain(node: Any, path: KeyPath, lines: dict[KeyPath, int]) -> Any:
    """ruamel's round-trip types as plain ones, noting the line of every key and item."""
    if isinstance(node, dict):
        for key in node:
            if (position := node.lc.data.get(key) if hasattr(node, "lc") and node.lc.data else None) is not None:
                lines[(*path, str(key))] = position[0] + 1
        return {str(key): _plain(value, (*path, str(key)), lines) for key, value in node.items()}
    if isinstance(node, list):
        for index in range(len(node)):
            if (position := node.lc.data.get(index) if hasattr(node, "lc") and node.lc.data else None) is not None:
                lines[(*path, index)] = position[0] + 1
        return [_plain(value, (*path, index), lines) for index, value in enumerate(node)]
    if isinstance(node, bool) or node is None:
        return node
    if isinstance(node, (datetime.date, datetime.datetime)):
        return node.isoformat()
    for plain in (int, float, str):
        if isinstance(node, plain):
            return plain(node)
    return node


def _apply_override(raw: dict[str, Any], override: str) -> KeyPath:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    dotted, equals, text = override.partition("=")
    path = tuple(dotted.strip().split("."))
    if not equals or not all(path):
        raise ConfigError(f"--set {override}: expected path=value, as in --set parameters.train_steps=20")
    steps = raw.get("steps")
    if isinstance(steps, dict) and path[0] in steps and path[0] not in PipelineConfig.model_fields:
        # A step's own name is a short way to it, and to its settings: trainer.steps=20.
        inside = path[1:] if path[1:2] in _PARTS_OF_A_STEP else ("with", *path[1:])
        path = ("steps", path[0], *inside)
    try:
        value = _plain(YAML(typ="rt").load(text), (), {}) if text.strip() else None
    except YAMLError as error:
        raise ConfigError(f"--set {override}: the value is not valid YAML") from error
    if path[0] == "parameters" and len(path) == 2:
        declared = raw.get("parameters")
        if not isinstance(declared, dict) or path[1] not in declared:
            known = declared if isinstance(declared, dict) else {}
            raise ConfigError(
                f"--set {override}: the definition has no parameter '{path[1]}'."
                + (did_you_mean(path[1], known) or f" It has: {', '.join(known) or 'none'}")
            )
        _check_parameter_type(path[1], declared[path[1]], value, override)
        if isinstance(declared[path[1]], float) and type(value) is int:
            value = float(value)  # Kubeflow is told a parameter's type by its value
    node: Any = raw
    for part in path[:-1]:
        child = node.setdefault(part, {}) if isinstance(node, dict) else None
        if child is None:
            child = node[part] = {}
        if not isinstance(child, dict):
            raise ConfigError(f"--set {override}: '{part}' is {child!r}, not a section")
        node = child
    node[path[-1]] = value
    return path


def _check_parameter_type(name: str, declared: Any, value: Any, override: str) -> None:
    same = declared is None or value is None or type(value) is type(declared)
    if not same and not (isinstance(declared, float) and type(value) is int):
        raise ConfigError(
            f"--set {override}: parameter '{name}' is of type {type(declared).__name__} (default {declared!r})"
        )


def _fill_parameters(node: Any, parameters: Any, path: KeyPath, source: Source, problems: list[str]) -> Any:
    """`${parameters.x}` replaced: by the typed value where it is the whole string, by its text inside a longer one."""
    if path == ("parameters",):
        return node
    if isinstance(node, dict):
        return {key: _fill_parameters(value, parameters, (*path, key), source, problems) for key, value in node.items()}
    if isinstance(node, list):
        return [_fill_parameters(value, parameters, (*path, i), source, problems) for i, value in enumerate(node)]
    if not isinstance(node, str):
        return node
    known = parameters if isinstance(parameters, dict) else {}

    def value_of(reference: str) -> Any:
        scope, _, name = reference.strip().partition(".")
        if scope != "parameters" or name not in known:
            hint = did_you_mean(name, known) or f" Parameters: {', '.join(known) or 'none'}"
            problems.append(f"{source.at(path)}: '${{{reference}}}' names no parameter.{hint}")
            return None
        return known[name]

    whole = _PARAMETER.fullmatch(node)
    if whole:
        return value_of(whole.group(1))
    return _PARAMETER.sub(lambda match: str(value_of(match.group(1))), node)


def _check_shape(raw: Any, source: Source, problems: list[str]) -> PipelineConfig | None:
    return check_shape(PipelineConfig, raw, source.at, problems)


def check_shape(model: type[ModelT], raw: Any, place: Callable[[KeyPath], str], problems: list[str]) -> ModelT | None:
    """`raw` as the model, or None and what is wrong with it in `problems`, each with its `place`."""
    from pydantic import ValidationError

    try:
        return model.model_validate(raw)
    except ValidationError as error:
        seen: dict[KeyPath, str] = {}
        for item in error.errors(include_url=False):
            loc = tuple(part for part in item["loc"] if not (isinstance(part, str) and _ARM.fullmatch(part)))
            seen.setdefault(
                loc, f"{place(loc)}: {_explain(item['type'], item, loc, model)}"
            )  # of the arms of a union, one
        problems.extend(seen.values())
        return None


_ARM = re.compile(
    r"\[key\]|bool|int|float|str|function-after\[.*"
)  # what pydantic adds for a key, an arm of a union, a check


def _explain(kind: str, item: Any, loc: KeyPath, model: type[BaseModel]) -> str:
    if kind == "extra_forbidden":
        known = [info.alias or name for name, info in _section(model, loc[:-1]).model_fields.items()]
        return "no such setting." + (did_you_mean(str(loc[-1]), known) or f" There are: {', '.join(known)}")
    if kind == "missing":
        return "missing"
    if kind == "value_error":
        return str(item["ctx"]["error"])
    if kind == "string_pattern_mismatch":
        # An address may be a secret: it is not repeated.
        found = "what stands here" if loc[-1] == "webhook" else repr(item["input"])
        return f"{found} is not valid here: expected {_wanted(loc)}"
    message = item["msg"][:1].lower() + item["msg"][1:]
    return f"{item['input']!r} is not valid here: {message}"


def _wanted(loc: KeyPath) -> str:
    """What a text of a certain form is to look like."""
    if "inputs" in loc:
        return "step.output, as in example_gen.examples"
    if loc[-1] == "path":
        return "an absolute path in the pod, as /mnt/penstock"
    if loc == ("tfx", "pipeline"):
        return "module:object, as my_module:create_pipeline"
    if loc[-1] == "image":
        return "an image's name, as registry.example.com/team/taxi:1.4"
    if loc[-1] == "webhook":
        return "an address that begins with https:// or http://"
    if "labels" in loc or "annotations" in loc or "node_selector" in loc:
        return "what Kubernetes takes for a label: letters and digits, inside them hyphens, dots and underscores, at most 63"
    if loc[-2:-1] == ("env",):
        return "the name of an environment variable: letters, digits and underscores"
    if loc[-1] in ("claim", "service_account") or "secret" in loc or "secrets" in loc or "image_pull_secrets" in loc:
        return "a name that Kubernetes takes: lower-case letters, digits, hyphens and dots"
    allowed = "digits and hyphens" if loc == ("name",) or loc[:1] == ("schedules",) else "digits and underscores"
    return f"lower-case letters, {allowed}, beginning with a letter"


def _section(model: type[BaseModel], path: KeyPath) -> type[BaseModel]:
    """The model of the section at a path, through sections that may be missing, mappings and lists."""
    from pydantic import BaseModel

    for part in path:
        fields = {info.alias or name: info.annotation for name, info in model.model_fields.items()}
        if (
            part in fields
        ):  # anything else is a name in a mapping or a position in a list, of the model that was just found
            waiting: list[Any] = [fields[str(part)]]
            while waiting:
                hint = waiting.pop()
                if isinstance(hint, type) and issubclass(hint, BaseModel):
                    model = hint
                waiting.extend(get_args(hint))
    return model
