"""An exit code says how a process ended."""

from __future__ import annotations

import subprocess
import sys

import pytest

from schemas.exit_code import how_it_ended, how_its_process_died


def code_of(source: str) -> int:
    return subprocess.run([sys.executable, "-c", f"import os, signal; {source}"], check=False).returncode


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("os._exit(3)", "ended with exit code 3"),
        ("os.kill(os.getpid(), signal.SIGTERM)", "was killed by SIGTERM"),
        ("os.kill(os.getpid(), signal.SIGRTMIN + 2)", "was killed by signal 36"),
    ],
)
def test_a_process_was_killed_or_ended_by_itself(source: str, said: str) -> None:
    assert how_it_ended(code_of(source)) == said


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (-9, "its process was killed by SIGKILL (out of memory is the usual cause)"),
        (-15, "its process was killed by SIGTERM"),
        (0, "its process ended with exit code 0 before it had an outcome"),
        (None, "its process ended with exit code None before it had an outcome"),
    ],
)
def test_what_a_process_owes_is_said_where_it_ended_without(code: int | None, said: str) -> None:
    assert how_its_process_died(code, "an outcome") == said
