"""Answers beside answers: what counts as the same."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from components.release.parity import Compared, Tolerance, compare


def of(*values: Any, name: str = "y") -> dict[str, Any]:
    return {name: np.array([values])}


def compared(served: Any, own: Any, tolerance: Tolerance | None = None) -> Compared:
    return compare([(7, served, own)], tolerance or Tolerance(absolute=0.1, relative=0.01))


@pytest.mark.parametrize(
    ("served", "own"),
    [
        (of(1.0, 100.9), of(1.1, 100.0)),  # 0.1 + 0.01 * 100 is allowed there
        (of(math.nan, math.inf), of(math.nan, math.inf)),
        (of(b"a", b"b"), of(b"a", b"b")),
        (of(3), of(3)),
        (of(), of()),
    ],
)
def test_within_the_tolerance_answers_are_the_same(served: Any, own: Any) -> None:
    assert compared(served, own).differ == 0


@pytest.mark.parametrize(
    ("served", "own", "words"),
    [
        (of(1.0, 2.5), of(1.0, 2.0), "row 7: y 2.5 served, 2 in process"),
        (of(1.0), of(math.nan), "row 7: y 1 served, nan in process"),
        (of(1.0), of(math.inf), "row 7: y 1 served, inf in process"),
        (of(3), of(4), "row 7: y 3 served, 4 in process"),
        (of(b"a"), of(b"b"), "row 7: y b'a' served, b'b' in process"),
        (of(1.0, 2.0), of(1.0), "row 7: y of shape [1, 2] served, [1] in process"),
        (of(1.0), of(1.0, name="z"), "row 7: y served, z in process"),
        ("INTERNAL: no", of(1.0), "row 7: not answered by the server (INTERNAL: no)"),
        (of(1.0), "ValueError: no", "row 7: answered by the server, in process ValueError: no"),
    ],
)
def test_what_differs_is_said_with_both_values(served: Any, own: Any, words: str) -> None:
    found = compared(served, own)

    assert (found.rows, found.differ, found.worst) == (1, 1, words.replace("[1] in", "[1, 1] in"))


def test_the_row_that_is_farthest_off_is_the_worst() -> None:
    rows = [(row, of(served), of(0.0)) for row, served in enumerate((0.2, 5.0, 0.05, 0.3))]

    found = compare(rows, Tolerance(absolute=0.1, relative=0))

    assert (found.rows, found.differ, found.largest) == (4, 3, 5.0)
    assert found.worst == "row 1: y 5 served, 0 in process"


def test_a_row_that_neither_answers_does_not_count() -> None:
    assert compare([(0, "INVALID_ARGUMENT: x", "OpError: x"), (1, of(1.0), of(1.0))], Tolerance()).rows == 1


def test_numbers_of_half_the_precision_are_compared_as_numbers() -> None:
    from ml_dtypes import bfloat16

    def half(value: float) -> dict[str, Any]:
        return {"y": np.array([[value]], bfloat16)}

    assert compared(half(1.0), half(1.0078125)).differ == 0
    assert compared(half(1.0), half(2.0)).differ == 1
