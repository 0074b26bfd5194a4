"""TFX's Cond -> conditions of steps: its predicate, kept as TFX encodes it and evaluated by TFX's own code when the run is there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from components.io.tfx_artifacts import to_tfx
from schemas.artifact import ABSENT, Artifact
from schemas.artifacts import Verdict
from schemas.dotted_path import resolve
from schemas.errors import ArtifactError, ConfigError, NotBlessed, NotNeeded

_USES = "components.io.tfx_conditions.Predicate"
_BLESSED = "blessed"  # TFX's property of a blessing


@dataclass(frozen=True, kw_only=True)
class Predicate:
    """Artifacts -> whether a step runs, as TFX's `Cond` says it."""

    predicate: dict[str, Any]  # TFX's PlaceholderExpression as JSON, whose inputs are called as their wires
    types: dict[str, str]  # wire: the dotted path of TFX's class

    def check(self, read: Mapping[str, Artifact]) -> None:
        """Evaluate the predicate.

        Raises NotBlessed where it does not hold for want of a blessing, with the reasons against the model and what else does
        not hold; NotNeeded where it does not hold for anything else, with what was found; ArtifactError where it cannot be
        evaluated.
        """
        from google.protobuf import json_format
        from tfx.proto.orchestration import placeholder_pb2

        absent = [wire for wire, artifact in read.items() if artifact.properties.get(ABSENT)]
        if absent:
            raise NotNeeded(f"{absent[0]}, on which it depends whether this step runs, was not made")
        expression = json_format.ParseDict(self.predicate, placeholder_pb2.PlaceholderExpression())  # type: ignore[attr-defined]
        reading = _Reading(read, self.types)
        if reading.holds(expression):
            return
        failing = list(_failing(expression, True, reading))
        unblessed: dict[str, Artifact] = {}
        others: list[str] = []
        for one, wanted in failing:
            asked = {wire: read[wire] for wire in _asked_to_bless(one, wanted, read)}
            unblessed |= asked
            others += [] if asked else [_words(one, wanted, reading)]
        said = "; ".join(dict.fromkeys(others))
        if unblessed:
            raise NotBlessed(_refusal(unblessed, said))
        raise NotNeeded(f"its condition does not hold: {said}")


def when(predicate: Any, wire_of: Callable[[Any], str]) -> dict[str, Any]:
    """The condition, as a definition has it, of a Cond's predicate. `wire_of` gives a channel's 'step.output'.

    Raises ConfigError for one that cannot be evaluated here, and what `wire_of` raises.
    """
    from google.protobuf import json_format
    from tfx.dsl.placeholder.placeholder_base import Predicate as TfxPredicate

    if not isinstance(predicate, TfxPredicate):
        raise ConfigError(
            f"stands under a Cond on {type(predicate).__name__}, which is no comparison. Compare it: Cond(... == 1)"
        )
    expression, types = _encoded(predicate, wire_of)
    problems = list(dict.fromkeys(_problems(expression, types)))
    if not types and not problems:
        problems = ["reads no output"]
    if problems:
        raise ConfigError(
            *(
                f"stands under a Cond whose predicate {problem}. Compare a property or the value of an output: "
                f"component.outputs['...'].future()[0].value"
                for problem in problems
            )
        )
    data = json_format.MessageToDict(expression, preserving_proto_field_name=True)
    return {"uses": _USES, "with": {"predicate": data, "types": types}, "reads": list(types)}


def _encoded(predicate: Any, wire_of: Callable[[Any], str]) -> tuple[Any, dict[str, str]]:
    """(a predicate as TFX encodes it, with each channel called as its wire; the dotted path of each one's type)."""
    from tfx.types.channel import ChannelWrappedPlaceholder

    reading = [found for found in predicate.traverse() if isinstance(found, ChannelWrappedPlaceholder)]
    keys = [found.key for found in reading]
    wires = [wire_of(found.channel) for found in reading]
    kinds = [found.channel.type for found in reading]
    try:
        for found, wire in zip(reading, wires, strict=True):
            found.set_key(None)  # it begins with one of TFX's
            found.set_key(wire)
        expression = predicate.encode()
    finally:
        for found, before in zip(reading, keys, strict=True):
            found.set_key(None)
            found.set_key(before)
    return expression, {wire: f"{kind.__module__}.{kind.__qualname__}" for wire, kind in zip(wires, kinds, strict=True)}


def _problems(expression: Any, types: Mapping[str, str]) -> Iterator[str]:
    """What of an expression is known only to TFX's own runners, or not to be compared."""
    from tfx.proto.orchestration.placeholder_pb2 import Placeholder  # type: ignore[attr-defined]

    kind = expression.WhichOneof("expression_type")
    if kind == "placeholder":
        found = expression.placeholder
        if found.type != Placeholder.INPUT_ARTIFACT or found.key not in types:
            name = Placeholder.Type.Name(found.type).lower()
            yield f"reads {name}('{found.key}'), which is no output of a component"
    if kind != "operator":
        return
    operator = expression.operator.WhichOneof("operator_type")
    if operator == "index_op" and expression.operator.index_op.index > 0 and _reads(expression):
        yield f"reads artifact {expression.operator.index_op.index} of an output, and a step makes one of each, [0]"
    if operator == "artifact_uri_op":
        yield "reads where an artifact is, which says nothing of what it is"
    for inner in _inside(getattr(expression.operator, operator)):
        yield from _problems(inner, types)


def _inside(message: Any) -> Iterator[Any]:
    """The expressions right below an operator."""
    from google.protobuf.message import Message
    from tfx.proto.orchestration.placeholder_pb2 import PlaceholderExpression  # type: ignore[attr-defined]

    for field, value in message.ListFields():
        several = value if field.label == field.LABEL_REPEATED else [value]
        if hasattr(several, "values"):  # a mapping's messages
            several = several.values()
        for one in several:
            if isinstance(one, PlaceholderExpression):
                yield one
            elif isinstance(one, Message):
                yield from _inside(one)


def _reads(expression: Any) -> bool:
    """Whether an index is one into an output, not into a list inside of a value."""
    return bool(expression.operator.index_op.expression.WhichOneof("expression_type") == "placeholder")


class _Reading:
    """What an expression comes to with the artifacts that a run made."""

    def __init__(self, read: Mapping[str, Artifact], types: Mapping[str, str]) -> None:
        from tfx.dsl.compiler import placeholder_utils
        from tfx.orchestration.portable.data_types import ExecutionInfo

        artifacts = {wire: [to_tfx(resolve(types[wire]), artifact)] for wire, artifact in read.items()}
        self._context = placeholder_utils.ResolutionContext(exec_info=ExecutionInfo(input_dict=artifacts))

    def value(self, expression: Any) -> Any:
        """Raises ArtifactError for what cannot be evaluated."""
        from tfx.dsl.compiler import placeholder_utils

        try:
            return placeholder_utils.resolve_placeholder_expression(expression, self._context)
        except ValueError as error:
            raise ArtifactError(
                f"its condition {_text(expression)} cannot be evaluated: {error.__cause__ or error}. Compare what is there, "
                f"with a value of its type"
            ) from error

    def holds(self, expression: Any) -> bool:
        """Raises ArtifactError for what cannot be evaluated, or is neither true nor false."""
        found = self.value(expression)
        if not isinstance(found, bool):
            raise ArtifactError(f"its condition {_text(expression)} is {found!r}, which is neither true nor false")
        return found


def _failing(expression: Any, wanted: bool, reading: _Reading) -> Iterator[tuple[Any, bool]]:
    """The comparisons for which an expression is not what is wanted, and what was wanted of each."""
    operator = expression.operator.WhichOneof("operator_type")
    if operator == "unary_logical_op":
        yield from _failing(expression.operator.unary_logical_op.expression, not wanted, reading)
    elif operator == "binary_logical_op":
        both = expression.operator.binary_logical_op
        for side in (both.lhs, both.rhs):
            if reading.holds(side) != wanted:
                yield from _failing(side, wanted, reading)
    else:
        yield expression, wanted


def _asked_to_bless(comparison: Any, wanted: bool, read: Mapping[str, Artifact]) -> Iterator[str]:
    """The verdicts that a failing comparison wanted to bless, and that do not."""
    for found in _expressions(comparison):
        if found.operator.WhichOneof("operator_type") != "artifact_property_op":
            continue
        asked = found.operator.artifact_property_op
        wires = [one.placeholder.key for one in _expressions(found) if one.HasField("placeholder")]
        for wire in wires if asked.key == _BLESSED else ():
            artifact = read[wire]
            if isinstance(artifact, Verdict) and not artifact.blessed:
                yield wire


def _expressions(expression: Any) -> Iterator[Any]:
    yield expression
    operator = expression.operator.WhichOneof("operator_type")
    for inner in _inside(getattr(expression.operator, operator)) if operator else ():
        yield from _expressions(inner)


def _refusal(verdicts: Mapping[str, Artifact], others: str) -> str:
    """The reasons against the model, then what else of the condition does not hold, if anything."""
    lines = []
    for wire, verdict in sorted(verdicts.items()):
        assert isinstance(verdict, Verdict)
        lines.append(f"{wire} does not bless the model, and this step runs only where it does:")
        lines += [f"  {reason}" for reason in verdict.reasons or ("whoever judged it left no reason",)]
    if others:
        lines.append(f"Nor does the rest of its condition hold: {others}")
    return "\n".join([*lines, "Improve the model, or change the thresholds it misses."])


_OPERATORS = {1: ("==", "!="), 2: ("<", ">="), 3: (">", "<=")}  # of TFX's ComparisonOperator, and their opposites


def _words(comparison: Any, wanted: bool, reading: _Reading) -> str:
    """'metrics.accuracy[0].value > 0.9, and it is 0.83'."""
    if comparison.operator.WhichOneof("operator_type") != "compare_op":
        return f"{_text(comparison)} is {reading.value(comparison)!r}"
    asked = comparison.operator.compare_op
    operator = _OPERATORS[asked.op][0 if wanted else 1]
    found = [reading.value(side) for side in (asked.lhs, asked.rhs) if not side.HasField("value")]
    return f"{_text(asked.lhs)} {operator} {_text(asked.rhs)}, and it is {' and '.join(map(repr, found))}"


def _text(expression: Any) -> str:
    from tfx.dsl.compiler import placeholder_utils

    if expression.HasField("value"):
        return repr(getattr(expression.value, expression.value.WhichOneof("value")))
    text = placeholder_utils.debug_str(expression)
    for wire in {one.placeholder.key for one in _expressions(expression) if one.HasField("placeholder")}:
        text = text.replace(f'input("{wire}")', wire)
    return text
