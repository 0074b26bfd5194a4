"""Version numbers of a serving directory."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.release import versions
from schemas.errors import StoreError

NUMBERS = st.integers(min_value=0, max_value=versions.LARGEST - 1)


@given(st.lists(NUMBERS, max_size=5), NUMBERS, NUMBERS)
def test_the_next_version_is_above_all_there_ever_were(used: list[int], high_water: int, now: int) -> None:
    version = versions.next_version([str(value) for value in used], high_water, now)

    assert version > high_water
    assert all(version > value for value in used)
    assert version >= now


def test_the_next_version_is_the_time_when_that_is_larger() -> None:
    assert versions.next_version(["17", "export"], 18, 1_732_205_000) == 1_732_205_000


def test_a_name_we_would_not_write_still_takes_its_number() -> None:
    assert versions.next_version(["0099"], 0, 50) == 100


def test_the_numbers_end_with_int64() -> None:
    with pytest.raises(StoreError, match="no version number is left"):
        versions.next_version([str(versions.LARGEST)], 0, 1)


def test_the_largest_number_with_a_model_is_served(tmp_path: Path) -> None:
    for name in ("9", "10", "007", "export-99"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "saved_model.pb").touch()
    (tmp_path / "11").mkdir()  # somebody's half copy

    assert versions.served(tmp_path) == tmp_path / "10"


def test_nothing_is_served_from_a_directory_that_does_not_exist(tmp_path: Path) -> None:
    assert versions.served(tmp_path / "serving") is None


def test_the_high_water_mark_is_remembered(tmp_path: Path) -> None:
    assert versions.read_high_water(tmp_path) == 0

    versions.write_high_water(tmp_path, 41)

    assert versions.read_high_water(tmp_path) == 41


def test_a_high_water_mark_that_is_no_number_is_reported_not_guessed(tmp_path: Path) -> None:
    (tmp_path / versions.HIGH_WATER).write_text("twelve")

    with pytest.raises(StoreError, match="holds 'twelve'"):
        versions.read_high_water(tmp_path)
