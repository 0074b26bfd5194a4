"""The part of CEL that kfp's compiler writes into `triggerPolicy.condition` (backend/src/v2/expression/expression.go)."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from typing import Any

from kfp_backend.rules import reject

TOKENS = re.compile(r"""\s*(?:
    (?P<parameter>inputs\.parameter_values\['(?P<name>[^']+)'\])
  | (?P<number>-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?)
  | (?P<text>'[^']*'|"[^"]*")
  | (?P<word>true|false|int|double|string)\b
  | (?P<sign>&&|\|\||[=!<>]=|[!<>()])
)""", re.VERBOSE)  # fmt: skip

COMPARISONS: Mapping[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
CASTS: Mapping[str, Callable[[Any], Any]] = {"int": int, "double": float, "string": str}


def condition_holds(condition: str, parameters: Mapping[str, Any]) -> bool:
    """Whether a task runs. Raises Rejected for an expression, or values, that the driver cannot evaluate.

    backend/src/v2/expression/expression.go, Condition: the fields of ExecutorInput are the variables, numbers are doubles, and
    what does not give true or false is an error.
    """
    parser = _Parser(condition, parameters)
    value = parser.either()
    if parser.left or not isinstance(value, bool):
        raise parser.wrong("is no condition")
    return value


class _Parser:
    def __init__(self, text: str, parameters: Mapping[str, Any]) -> None:
        self.text = text
        self.parameters = parameters
        self.left: list[re.Match[str]] = []
        at = 0
        while text[at:].strip():
            match = TOKENS.match(text, at)
            if match is None:
                raise self.wrong(f"cannot be read at {text[at:]!r}")
            self.left.append(match)
            at = match.end()

    def wrong(self, message: str) -> Exception:
        return reject("condition_holds", f"{self.text!r} {message}")

    def take(self, *wanted: str) -> str | None:
        if self.left and (found := self.left[0].group().strip()) in wanted:
            self.left.pop(0)
            return found
        return None

    def either(self) -> Any:
        value = self.both()
        while self.take("||"):
            other = self.both()
            value = value or other
        return value

    def both(self) -> Any:
        value = self.comparison()
        while self.take("&&"):
            other = self.comparison()
            value = value and other
        return value

    def comparison(self) -> Any:
        value = self.primary()
        sign = self.take(*COMPARISONS)
        if sign is None:
            return value
        other = self.primary()
        kinds = {float if isinstance(v, int | float) and not isinstance(v, bool) else type(v) for v in (value, other)}
        if len(kinds) != 1:
            raise self.wrong(f"compares {value!r} with {other!r}: no such overload")
        return COMPARISONS[sign](value, other)

    def primary(self) -> Any:
        if self.take("!"):
            value = self.primary()
            if not isinstance(value, bool):
                raise self.wrong(f"negates {value!r}")
            return not value
        if self.take("("):
            value = self.either()
            if not self.take(")"):
                raise self.wrong("lacks a )")
            return value
        if not self.left:
            raise self.wrong("ends too early")
        token = self.left.pop(0)
        if token["parameter"]:
            if token["name"] not in self.parameters:
                raise self.wrong(f"has no such key: {token['name']}")
            return self.parameters[token["name"]]
        if token["number"]:
            return float(token["number"])
        if token["text"]:
            return token["text"][1:-1]
        if token["word"] in ("true", "false"):
            return token["word"] == "true"
        if token["word"] and self.take("("):
            value = CASTS[token["word"]](self.either())
            if not self.take(")"):
                raise self.wrong("lacks a )")
            return value
        raise self.wrong(f"has {token.group().strip()!r} where a value belongs")
