"""What triggers have tried is kept whole, however a write of it ends, and forgotten from the oldest on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.attempts import Attempt, Attempts, tell_once
from schemas.errors import StoreError


def attempt(run: str = "1", outcome: str = "done") -> Attempt:
    return Attempt(outcome=outcome, run=run, at="2026-07-31T03:00:00+00:00", newest="span 41", served={"push": 7})


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "triggers/taxi.json"
    known = Attempts().with_attempt("a", attempt()).with_attempt("b", attempt("2", "refused"))

    known.write(file)

    assert Attempts.read(file) == known


def test_nothing_is_known_where_there_is_no_file(tmp_path: Path) -> None:
    assert Attempts.read(tmp_path / "taxi.json") == Attempts()


def test_an_attempt_takes_the_place_of_an_earlier_one_at_the_same_and_is_the_newest() -> None:
    known = Attempts().with_attempt("a", attempt("1")).with_attempt("b", attempt("2")).with_attempt("a", attempt("3"))

    assert [(digest, one.run) for digest, one in known.by_digest.items()] == [("b", "2"), ("a", "3")]


def test_the_oldest_are_forgotten() -> None:
    known = Attempts()
    for number in range(250):
        known = known.with_attempt(str(number), attempt(str(number)))

    assert list(known.by_digest) == [str(number) for number in range(50, 250)]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"format": 2, "attempts": []}',
        '{"format": 1, "attempts": [["a", {"x": 1}]]}',
        '{"format": 1, "attempts": {"a": 1}}',
        '{"attempts": []}',
    ],
)
def test_a_file_that_is_something_else_is_an_error_that_says_what_to_do(tmp_path: Path, text: str) -> None:
    file = tmp_path / "taxi.json"
    file.write_text(text)

    with pytest.raises(StoreError, match="taxi.json: cannot be read: .*remove it, and that is tried again"):
        Attempts.read(file)


def test_killed_at_any_moment_it_is_what_it_was_or_what_it_was_to_be(tmp_path: Path, children: Any) -> None:
    file = tmp_path / "triggers/taxi.json"
    before = Attempts().with_attempt("a", attempt())
    after = before.with_attempt("b", attempt("2"))
    before.write(file)
    found = []

    for _ in children.killed_before_each_call(lambda: after.write(file)):
        found.append(Attempts.read(file))

    assert set(map(str, found)) == {str(before), str(after)}
    assert found[0] == before
    assert found[-1] == after


def test_an_error_is_told_once_until_it_is_another(tmp_path: Path) -> None:
    file = tmp_path / "triggers/taxi.told.json"

    assert [tell_once(file, error) for error in ("no disk", "no disk", "no file", "no disk")] == [
        True, False, True, True
    ]  # fmt: skip
    assert "no disk" not in file.read_text()
    file.write_text(json.dumps(["another thing"]))
    assert tell_once(file, "no disk")
