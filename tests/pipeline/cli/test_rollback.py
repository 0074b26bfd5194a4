"""`pipeline rollback`: what it says, and its exit codes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

Command = Callable[..., Any]


def newest(serving: Path) -> int:
    return max(int(child.name) for child in serving.iterdir() if child.name.isdigit())


def test_says_what_serves_and_how_to_undo_it(command: Command, serving: Path) -> None:
    said = command("rollback", str(serving))

    assert said.code == 0
    assert said.out == (
        f"{serving / str(newest(serving))} serves the model of version 1 again, in place of version 2\n"
        f"which is not pushed again; to undo this: pipeline rollback {serving} --to 2\n"
    )
    undone = command("rollback", str(serving), "--to", "2", "--json")
    assert undone.data == {
        "outcome": "done",
        "destination": str(serving),
        "version": newest(serving),
        "to": 2,
        "previous": newest(serving) - 1,
    }


def test_to_what_serves_already_does_nothing(command: Command, serving: Path) -> None:
    said = command("rollback", str(serving), "--to", "2", "--json")

    assert (said.code, said.data["outcome"]) == (0, "nothing new")
    assert newest(serving) == 2


def test_to_a_version_that_does_not_exist_is_wrong_usage(command: Command, serving: Path) -> None:
    said = command("rollback", str(serving), "--to", "3")

    assert said.code == 2
    assert "--to 3:" in said.err
    assert "There are: 1, 2" in said.err
