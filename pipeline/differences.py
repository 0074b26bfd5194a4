"""Two values of settings -> what differs, in words: 'steps 10 -> 20', or the place inside of one that is too long to show."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

_LONGEST = 40  # characters of a value that are shown
_LISTED = 3  # places that are named of one setting


class _Absent:
    """What is not there on one side; None may be."""


_ABSENT = _Absent()


def changed_values(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """A phrase for each name whose value differs, by name.

    Mappings and lists that are too long to show, also those that are kept as JSON text, are compared place by place:
    'eval_config.metrics_specs[0].metrics[1].threshold.value_threshold.lower_bound 0.6 -> 0.7'.
    """
    found: list[str] = []
    for name in sorted(set(old) | set(new)):
        before, now = old.get(name), new.get(name)
        if before == now:
            continue
        places = list(_places(name, _read(before), _read(now)))
        if not places or (_is_short(before) and _is_short(now)):
            found.append(f"{name} {short(before)} -> {short(now)}")
            continue
        found += places[:_LISTED]
        if len(places) > _LISTED:
            found.append(f"{name} in {len(places) - _LISTED} more places")
    return found


def short(value: Any) -> str:
    """A value as a reason shows it, cut where it is long."""
    text = _text(value)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."


def _places(path: str, old: Any, new: Any) -> Iterator[str]:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for name in [*old, *(name for name in new if name not in old)]:
            yield from _places(f"{path}.{name}", _read(old.get(name, _ABSENT)), _read(new.get(name, _ABSENT)))
    elif isinstance(old, list) and isinstance(new, list):
        for at in range(max(len(old), len(new))):
            before, now = (_read(side[at]) if at < len(side) else _ABSENT for side in (old, new))
            yield from _places(f"{path}[{at}]", before, now)
    elif isinstance(old, _Absent) or isinstance(new, _Absent):
        yield f"{path} is new: {short(new)}" if isinstance(old, _Absent) else f"{path} is gone"
    elif old != new:
        yield f"{path} {_around(old, new)}"


def _read(value: Any) -> Any:
    """The mapping or list that a text holds as JSON; everything else as it is."""
    if isinstance(value, str) and value[:1] in ("{", "["):
        try:
            return json.loads(value)
        except json.JSONDecodeError:
            return value
    return value


def _around(old: Any, new: Any) -> str:
    """Both values; of long texts that begin alike, what comes from shortly before the first difference."""
    before, now = _text(old), _text(new)
    if len(before) <= _LONGEST and len(now) <= _LONGEST:
        return f"{before} -> {now}"
    same = next((at for at, (one, other) in enumerate(zip(before, now, strict=False)) if one != other), None)
    start = max(0, (min(len(before), len(now)) if same is None else same) - _LONGEST // 2)
    opening = "..." if start else ""
    return f"{opening}{short(before[start:])} -> {opening}{short(now[start:])}"


def _is_short(value: Any) -> bool:
    return len(_text(value)) <= _LONGEST


def _text(value: Any) -> str:
    return "none" if value is None else str(value)
