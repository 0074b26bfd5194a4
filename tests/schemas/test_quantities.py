"""Amounts as Kubernetes and KFP write them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from schemas.errors import ConfigError
from schemas.quantities import parse_bytes, parse_cores, parse_duration


@pytest.mark.parametrize("written", [2, 0.5, "2", "500m"])
def test_cores_are_read_as_they_were_written(written: Any) -> None:
    assert parse_cores(written) == str(written)


@pytest.mark.parametrize("written", ["8Gi", "512Mi", "16G", 1000, "2Ti"])
def test_bytes_are_read_as_they_were_written(written: Any) -> None:
    assert parse_bytes(written) == str(written)


@pytest.mark.parametrize(
    ("written", "seconds"),
    [("90s", 90), ("30m", 1800), ("2h", 7200), ("1h30m", 5400), ("1d", 86_400), (45, 45), ("45", 45)],
    ids=str,
)
def test_a_length_of_time_is_read_in_seconds(written: Any, seconds: int) -> None:
    assert parse_duration(written) == seconds


@pytest.mark.parametrize(
    ("parse", "written"),
    [
        (parse_cores, "lots"),
        (parse_cores, "0.5m"),
        (parse_cores, -1),
        (parse_cores, 0),
        (parse_cores, ""),
        (parse_bytes, "8GB"),
        (parse_bytes, "8gi"),
        (parse_bytes, "1.5Gi"),
        (parse_bytes, "0Gi"),
        (parse_bytes, True),
        (parse_duration, "2 hours"),
        (parse_duration, "30m2h"),
        (parse_duration, "0s"),
        (parse_duration, ""),
        (parse_duration, "-5"),
    ],
    ids=lambda value: getattr(value, "__name__", repr(value)),
)
def test_anything_else_is_refused(parse: Callable[[Any], Any], written: Any) -> None:
    with pytest.raises(ConfigError, match=f"'{written}' is no"):
        parse(written)
