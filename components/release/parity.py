"""A server's answers beside a model's own: how far they are apart, row by row."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    Outputs = Mapping[str, np.ndarray[Any, Any]]


@dataclass(frozen=True)
class Tolerance:
    """A floating-point number may be `absolute` + `relative` * |own| away from the model's own; everything else is equal."""

    absolute: float = 1e-5
    relative: float = 1e-4


@dataclass(frozen=True)
class Compared:
    """The rows of one signature. `largest` is the largest difference of two numbers, `worst` the row it is in, in words."""

    rows: int
    differ: int  # rows beyond the tolerance
    largest: float
    worst: str

    def against(self, signature: str, split: str, own: str, tolerance: Tolerance) -> str | None:
        """What is wrong with the answers of `signature`, None where nothing is. `own` says whose the others are."""
        if not self.rows:
            return (
                f"parity of {signature}: no row of split '{split}' is answered. Give the model examples that it takes"
            )
        if not self.differ:
            return None
        return (
            f"parity of {signature}: {self.differ} of {self.rows} rows of split '{split}' differ from {own} by more than absolute "
            f"{tolerance.absolute:g} + relative {tolerance.relative:g}, most of all {self.worst}. Export the model that was "
            f"trained, or raise parity"
        )


def compare(pairs: Iterable[tuple[int, Outputs | str, Outputs | str]], tolerance: Tolerance) -> Compared:
    """Compare (row, served, own) of each row; a text stands for an error that came instead of an answer.

    A row that neither answers is not counted. Two NaNs are equal.
    """
    rows = differ = 0
    largest, farthest, worst = 0.0, -1.0, ""
    for row, served, own in pairs:
        if isinstance(served, str) and isinstance(own, str):
            continue
        rows += 1
        difference = _between(served, own, tolerance)
        largest = max(largest, difference.largest)
        if difference.beyond:
            differ += 1
            if difference.largest > farthest:
                farthest, worst = difference.largest, f"row {row}: {difference.words}"
    return Compared(rows, differ, largest, worst)


@dataclass(frozen=True)
class _Difference:
    beyond: bool
    largest: float = 0.0
    words: str = ""


def _between(served: Outputs | str, own: Outputs | str, tolerance: Tolerance) -> _Difference:
    if isinstance(served, str):
        return _Difference(True, words=f"not answered by the server ({served})")
    if isinstance(own, str):
        return _Difference(True, words=f"answered by the server, in process {own}")
    if served.keys() != own.keys():
        return _Difference(True, words=f"{_listed(served)} served, {_listed(own)} in process")
    found = [_of_output(name, served[name], own[name], tolerance) for name in sorted(served)]
    return max(found, key=lambda one: (one.beyond, one.largest), default=_Difference(False))


def _of_output(name: str, served: np.ndarray[Any, Any], own: np.ndarray[Any, Any], tolerance: Tolerance) -> _Difference:
    import numpy as np

    if served.shape != own.shape:
        return _Difference(True, words=f"{name} of shape {list(served.shape)} served, {list(own.shape)} in process")
    if served.dtype.kind in "iubOSU":
        wrong = np.flatnonzero(served != own)
        at = int(wrong[0]) if wrong.size else 0
        return _Difference(bool(wrong.size), words=_values(name, served, own, at) if wrong.size else "")
    ours, theirs = served.astype(np.float64).ravel(), own.astype(np.float64).ravel()
    with np.errstate(invalid="ignore"):
        equal = (ours == theirs) | (np.isnan(ours) & np.isnan(theirs))
        distance = np.where(equal, 0.0, np.abs(ours - theirs))
    distance = np.where(np.isfinite(distance), distance, np.finfo(np.float64).max)  # a number beside NaN or infinity
    allowed = tolerance.absolute + tolerance.relative * np.where(np.isfinite(theirs), np.abs(theirs), 0.0)
    beyond = distance > allowed
    if not distance.size:
        return _Difference(False)
    at = int(np.argmax(np.where(beyond, distance, -1.0)) if beyond.any() else np.argmax(distance))
    return _Difference(bool(beyond.any()), float(distance.max()), _values(name, served, own, at))


def _values(name: str, served: np.ndarray[Any, Any], own: np.ndarray[Any, Any], at: int) -> str:
    return f"{name} {_shown(served.ravel()[at])} served, {_shown(own.ravel()[at])} in process"


def _shown(value: Any) -> str:
    return f"{value!r}" if isinstance(value, bytes | str) else f"{float(value):.7g}"


def _listed(outputs: Outputs) -> str:
    return ", ".join(sorted(outputs)) or "no output"
