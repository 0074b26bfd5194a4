"""`pipeline verify`: what it says, and its exit codes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Command = Callable[..., Any]


def test_versions_as_they_were_pushed_are_whole(
    command: Command, serving: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(serving.parent)

    said = command("verify", "serving")

    assert said.code == 0
    assert said.out == "serving/2  served, whole, files: 1\nserving/1  whole, files: 1\n"


def test_a_file_that_differs_is_named_with_exit_code_1(command: Command, serving: Path) -> None:
    (serving / "1" / "saved_model.pb").write_text("other")

    said = command("verify", str(serving), "--json")

    assert (said.code, said.data["outcome"]) == (1, "differs")
    served, first = said.data["versions"]
    assert (served["path"], served["outcome"], served["served"]) == (str(serving / "2"), "whole", True)
    assert (first["outcome"], first["served"], first["files"]) == ("differs", False, 1)
    assert first["differences"][0].startswith("saved_model.pb differs: its sha256 is ")
    assert command("verify", str(serving / "2")).code == 0
    assert "differs from what was pushed:\n  saved_model.pb differs" in command("verify", str(serving / "1")).err


def test_what_has_no_passport_is_not_called_whole(command: Command, serving: Path) -> None:
    (serving / "3").mkdir()
    (serving / "3" / "saved_model.pb").touch()

    assert command("verify", str(serving)).code == 0  # the others are
    said = command("verify", str(serving / "3"))
    assert said.code == 1
    assert "has no passport: another tool pushed it" in said.err


def test_what_is_no_serving_directory_is_wrong_usage(command: Command, tmp_path: Path) -> None:
    said = command("verify", str(tmp_path / "gone"))

    assert said.code == 2
    assert "there is no such directory" in said.err
