"""Slices: parts of the evaluated examples, named by features and values of theirs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, order=True)
class Slice:
    """Which examples belong together: one slice per combination of values of `features`, of those with `values` only.

    Without either it is every example. Values are kept as text, which is how TFMA compares them.
    """

    features: tuple[str, ...] = ()  # sorted
    values: tuple[tuple[str, str], ...] = ()  # (feature, its value), sorted

    @property
    def named(self) -> tuple[str, ...]:
        """Every feature that is needed to tell which examples belong to the slice."""
        return tuple(sorted((*self.features, *(feature for feature, _ in self.values))))

    def __str__(self) -> str:
        parts = sorted((*self.features, *(f"{feature}:{value}" for feature, value in self.values)))
        return ", ".join(parts) or "overall"

    def to_json(self) -> dict[str, Any]:
        """TFMA's SlicingSpec, as protobuf's JSON has it."""
        spec: dict[str, Any] = {}
        if self.features:
            spec["featureKeys"] = list(self.features)
        if self.values:
            spec["featureValues"] = dict(self.values)
        return spec


OVERALL = Slice()


@dataclass(frozen=True)
class CrossSlice:
    """One slice compared with others: the metrics of `baseline` less those of each of `slices`, of all others without."""

    baseline: Slice
    slices: tuple[Slice, ...] = ()

    def __str__(self) -> str:
        return f"{self.baseline} less {' and '.join(map(str, self.slices)) or 'every other slice'}"


def parse(where: str, setting: Any) -> tuple[Slice | None, list[str]]:
    """The slice that one setting describes, or None and what is wrong with it.

    `[]` is every example, `[hour]` one slice per hour, `[hour, {company: Acme}]` one per hour among Acme's trips.
    `where` opens each problem: `slices.1`.
    """
    if isinstance(setting, str) or not isinstance(setting, list | tuple):
        return None, [f"{where}: {setting!r} is not a list of features. Write [{setting}], or [] for all examples"]
    features: list[str] = []
    values: list[tuple[str, str]] = []
    problems: list[str] = []
    for item in setting:
        if isinstance(item, str) and item:
            features.append(item)
        elif isinstance(item, dict) and item and all(isinstance(feature, str) and feature for feature in item):
            for feature, value in item.items():
                if isinstance(value, str | int | float) and not isinstance(value, bool):
                    values.append((feature, str(value)))
                else:
                    problems.append(f"{where}.{feature}: {value!r} is not a feature's value. Write a number or a text")
        else:
            problems.append(f"{where}: {item!r} is neither a feature's name nor a mapping of names to values")
    named = [*features, *(feature for feature, _ in values)]
    problems += [
        f"{where}: the feature '{feature}' is named {named.count(feature)} times. Name it once"
        for feature in dict.fromkeys(named)
        if named.count(feature) > 1
    ]
    return (None, problems) if problems else (Slice(tuple(sorted(features)), tuple(sorted(values))), [])


def key_name(parts: Iterable[tuple[str, Any]]) -> str:
    """How one computed slice is called: `trip_start_hour:3`, `company:Acme, trip_start_hour:3`, or `overall`.

    `parts` are the (feature, value) pairs of its key; texts may be bytes.
    """
    names = (f"{feature}:{_text(value)}" for feature, value in parts)
    return ", ".join(sorted(names)) or "overall"


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return repr(value).removesuffix(".0") if isinstance(value, float) else str(value)
