"""Ten nights of a schedule: spans come, one late, one in a new version, one corrupt, one that drifted; on the sixth all is killed."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from schemas.passport import Passport

REPOSITORY = Path(__file__).parents[2]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


@dataclass(frozen=True)
class Played:
    """What is left of the ten days."""

    directory: Path
    codes: tuple[int, int]  # of the scheduler that was killed, and of the one after it
    lines: tuple[str, ...]

    def of_day(self, day: int) -> list[str]:
        """What was said on a day, without its time."""
        found = [re.match(r"2026-06-(\d\d) \S+ (.*)", line) for line in self.lines]
        return [match[2] for match in found if match and int(match[1]) == day]

    @property
    def told(self) -> list[dict[str, Any]]:
        """What the command that is told of runs was given."""

        def documents(text: str) -> Iterator[dict[str, Any]]:
            while text := text.lstrip():
                found, end = json.JSONDecoder().raw_decode(text)
                yield found
                text = text[end:]

        return list(documents((self.directory / "told.jsonl").read_text()))

    @property
    def served(self) -> list[list[tuple[int, int]]]:
        """The (span, version)s that each served model was trained on, the oldest model first."""
        versions = sorted(int(path.name) for path in (self.directory / "serving").iterdir() if path.name.isdigit())
        passports = [Passport.read(self.directory / "serving" / str(version)) for version in versions]
        return [
            [(file["span"], file["version"]) for file in passport.steps["example_gen"]["files"]]
            for passport in passports
            if passport is not None
        ]


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Played:
    directory = tmp_path_factory.mktemp("ten_days")
    shutil.copytree(Path(__file__).parent / "daily", directory / "daily", ignore=shutil.ignore_patterns("__pycache__"))
    (directory / "clock").write_text("2026-05-31T12:00:00+02:00")
    command = [sys.executable, "-m", "daily.play"]
    codes, lines = [], []
    for _ in range(2):
        done = subprocess.run(
            command,
            cwd=directory,
            env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
            capture_output=True,
            text=True,
            timeout=900,
        )
        codes.append(done.returncode)
        lines += done.stdout.splitlines()
        assert not done.stderr
    return Played(directory, (codes[0], codes[1]), tuple(lines))


def test_the_serving_directory_ends_with_a_model_for_each_day_that_brought_good_data(played: Played) -> None:
    assert played.served == [
        [(1, 1)],
        [(1, 1), (2, 1)],
        [(2, 1), (3, 1), (4, 1)],  # span 3 came a day late
        [(4, 1), (5, 2), (6, 1)],  # span 5 came again, whole
        [(6, 1), (7, 1), (8, 1)],
        [(6, 1), (7, 1), (8, 2)],
    ]


def test_each_run_ends_as_expected_and_is_told_of(played: Played) -> None:
    told = [(run["outcome"], run["reasons"], run["error"]) for run in played.told]

    assert [outcome for outcome, _, _ in told] == [
        *("done", "done", "done", "failed", "done", "refused", "done", "done")
    ]
    assert "data/5/v1/trips.csv, line 101" in told[3][2]
    (reason,) = told[5][1]
    assert "payment" in reason


def test_a_day_without_data_says_what_is_served(played: Played) -> None:
    assert [line for line in played.of_day(3) if "nothing new" in line] == [
        "trips-daily: nothing new since span 2; next 2026-06-04 03:00 CEST"
    ]
    assert any("nothing new since span 8" in line for line in played.of_day(9))


def test_killed_on_the_sixth_day_it_goes_on_from_there(played: Played) -> None:
    assert played.codes == (-signal.SIGKILL, 0)

    records = [
        json.loads(file.read_text()) for file in sorted((played.directory / ".penstock/runs").glob("*/run.json"))
    ]
    killed = next(index for index, record in enumerate(records) if record["outcome"] is None)
    after = {step["step"]: step["action"] for step in records[killed + 1]["steps"]}

    assert records[killed + 1]["outcome"] == "done"
    assert after["example_gen"] == after["statistics_gen"] == after["transform"] == "reuse"
    assert after["trainer"] == "run"


def test_no_firing_is_lost_and_none_happens_twice(played: Played) -> None:
    begun = [match[1] for line in played.lines if (match := re.search(r"(?:runs|the run) for (\S+)", line))]

    assert begun == [f"2026-06-{day:02}" for day in (1, 2, 3, 4, 5, 6, 6, 7, 8, 9, 10)]
