"""What appears in an input while several steps take it at once: nobody is blamed for what another may have done."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from components.io.tfx_outside import Surroundings
from schemas.artifacts import Examples

OTHER = """
import sys
from pathlib import Path
from components.io.tfx_outside import Surroundings
from schemas.artifacts import Examples

around = Surroundings.of({"data": Examples(Path(sys.argv[1]))}, {})
print("begun", flush=True)
sys.stdin.read()
"""
DOUBT = "and at least one other that takes it, any of which may have done it"


@pytest.fixture
def examples(tmp_path: Path) -> Examples:
    directory = tmp_path / "examples"
    directory.mkdir()
    (directory / "data.gz").write_text("data")
    return Examples(directory)


def test_of_two_steps_that_take_an_input_neither_is_said_to_have_written_into_it(examples: Examples) -> None:
    around = Surroundings.of({"examples": examples}, {})
    command = [sys.executable, "-c", OTHER, str(examples.path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"begun\n"
        (examples.path / "cache").write_text("of whom?")

        (problem,) = around.restore()

        other.communicate()
    assert f"cache appeared in it while this one ran {DOUBT}; that was removed again" in problem
    assert not (examples.path / "cache").exists()


def test_of_two_steps_that_end_at_once_each_sees_the_other(examples: Examples) -> None:
    one, other = (Surroundings.of({"examples": examples}, {}) for _ in range(2))

    assert one._is_shared(examples.path)
    assert other._is_shared(examples.path)

    assert one.restore() == other.restore() == []


def test_the_other_one_passes_when_what_was_written_is_gone(examples: Examples) -> None:
    guilty, innocent = (Surroundings.of({"examples": examples}, {}) for _ in range(2))
    (examples.path / "cache").write_text("of the first")

    (problem,) = guilty.restore()

    assert DOUBT in problem
    assert innocent.restore() == []


def test_a_step_that_takes_an_input_alone_has_written_into_it(examples: Examples) -> None:
    before, around = (Surroundings.of({"examples": examples}, {}) for _ in range(2))
    assert before.restore() == []
    (examples.path / "cache").write_text("of this one")
    (examples.path / "data.gz").write_text("changed")

    appeared, changed = around.restore()

    assert "cache appeared in it while this one ran; that was removed again" in appeared
    assert "data.gz was changed or removed while this one ran, so that nobody can use it" in changed
