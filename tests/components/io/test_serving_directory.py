"""Numbered directories as TensorFlow Serving reads them."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.io import serving_directory


@pytest.mark.parametrize("name", ["v1", "0.1", "", "1e3", "-5", "1_000", "tmp", ".7", "٣", str(2**63)])
def test_names_that_tensorflow_serving_passes_over_are_no_versions(name: str) -> None:
    assert serving_directory.number(name) is None


@pytest.mark.parametrize(("name", "value"), [("1", 1), ("01", 1), ("+1", 1), (" 1", 1), (str(2**63 - 1), 2**63 - 1)])
def test_names_that_tensorflow_serving_reads_as_numbers_are(name: str, value: int) -> None:
    assert serving_directory.number(name) == value


def test_versions_are_the_numbered_directories_smallest_first(tmp_path: Path) -> None:
    for name in ("10", "9", "v11", ".penstock-staged", "007"):
        (tmp_path / name).mkdir()
    (tmp_path / "12").touch()

    found = serving_directory.versions(tmp_path)

    assert list(found.items()) == [(7, tmp_path / "007"), (9, tmp_path / "9"), (10, tmp_path / "10")]


def test_of_two_names_for_one_number_the_one_without_zeros_counts(tmp_path: Path) -> None:
    for name in ("01", "1", "001"):
        (tmp_path / name).mkdir()

    assert serving_directory.versions(tmp_path) == {1: tmp_path / "1"}


def test_a_directory_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        serving_directory.versions(tmp_path / "nothing")
