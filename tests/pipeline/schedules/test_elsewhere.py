"""Schedules as others run them: what is printed is read by sh and by systemd themselves."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from pipeline.schedules.elsewhere import pipeline_command, print_schedules
from schemas.errors import ConfigError

FILE = """\
timezone: Europe/Berlin
schedules:
  daily:
    pipeline: "a b 100%.yaml"
    cron: "0 3 * * *"
    if_new_data: true
    parameters: {note: "it's 5% of $HOME", rate: 0.5}
  either:
    pipeline: "a b 100%.yaml"
    cron: "0 3 13 * FRI-SUN"
    timezone: UTC
    missed: skip
  weekly:
    pipeline: "a b 100%.yaml"
    cron: "@weekly"
    timezone: UTC
    paused: true
"""
WORDS = [
    "trigger",
    "a b 100%.yaml",
    "--if-new-data",
    "--set",
    'parameters.note="it\'s 5% of $HOME"',
    "--set",
    "parameters.rate=0.5",
]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a space and a percent sign in its name."""
    directory = tmp_path / "my 5% project"
    directory.mkdir()
    monkeypatch.chdir(directory)
    (directory / "a b 100%.yaml").write_text('name: toy\nparameters: {note: "", rate: 1.0}\nsteps: {read: {uses: R}}\n')
    (directory / "schedule.yaml").write_text(FILE)
    return directory


def printed(form: str, directory: Path, output: Path | None = None) -> tuple[str, dict[str, str]]:
    return print_schedules(Path("schedule.yaml"), form, directory, output)


def test_a_crontab_has_a_line_for_each_schedule_under_its_time_zone(here: Path) -> None:
    text, _ = printed("cron", here)

    lines = [re.sub(" cd .*", "", line) for line in text.splitlines() if not line.startswith("# ")]
    assert lines == ["", "CRON_TZ=Europe/Berlin", "0 3 * * *", "", "CRON_TZ=UTC", "0 3 13 * 0,5,6", "#0 0 * * 0"]
    assert "# weekly, paused" in text


def test_what_cron_makes_of_a_line_runs_the_pipeline_with_those_words(here: Path) -> None:
    text, _ = printed("cron", here)
    (line,) = (line for line in text.splitlines() if line.startswith("0 3 * * * "))
    command = line.removeprefix("0 3 * * * ")
    assert not re.search(r"(?<!\\)%", command)  # which would end it

    shown = command.replace("\\%", "%").replace(" ".join(pipeline_command()), r"pwd && printf '%s\n'")
    said = subprocess.run(["/bin/sh", "-c", shown], capture_output=True, text=True, check=True, cwd="/").stdout

    assert said.splitlines() == [str(here), *WORDS]


@pytest.mark.parametrize("value", ['say "so"', "two\\nlines", "back\\\\slash"], ids=["quotes", "lines", "backslash"])
def test_what_a_crontab_cannot_hold_is_refused(here: Path, value: str) -> None:
    (here / "schedule.yaml").write_text(
        FILE.replace('"it\'s 5% of $HOME"', "'" + value + "'" if '"' in value else f'"{value}"')
    )

    with pytest.raises(ConfigError, match="daily: a crontab cannot hold a backslash"):
        printed("cron", here)


def test_units_are_a_service_and_a_timer_for_each_schedule_that_is_not_paused(here: Path) -> None:
    text, found = printed("systemd", here)

    assert list(found) == [
        "penstock-daily.service",
        "penstock-daily.timer",
        "penstock-either.service",
        "penstock-either.timer",
    ]
    assert all(f"# {name}\n{unit}" in f"{text}\n" for name, unit in found.items())
    assert "# weekly is paused" in text
    assert "OnCalendar=*-*-* 03:00:00 Europe/Berlin\n" in found["penstock-daily.timer"]
    assert "OnCalendar=*-*-13 03:00:00 UTC\nOnCalendar=Fri..Sun *-*-* 03:00:00 UTC\n" in found["penstock-either.timer"]


def test_systemd_makes_up_for_what_was_missed_where_the_schedule_says_once(here: Path) -> None:
    _, found = printed("systemd", here)

    assert "Persistent=true" in found["penstock-daily.timer"]
    assert "Persistent=false" in found["penstock-either.timer"]


def test_words_are_quoted_as_systemd_reads_them(here: Path) -> None:
    _, found = printed("systemd", here / "100%")

    words = (
        'trigger "a b 100%%.yaml" --if-new-data --set "parameters.note=\\"it\'s 5%% of $$HOME\\"" '
        "--set parameters.rate=0.5"
    )
    assert f"ExecStart={' '.join(pipeline_command())} {words}\n" in found["penstock-daily.service"]
    assert f"WorkingDirectory={here.parent}/my 5%% project/100%%\n" in found["penstock-daily.service"]


@pytest.mark.systemd
@pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed (Debian: systemd)"
)
def test_systemd_finds_nothing_wrong_with_the_units(here: Path, tmp_path: Path) -> None:
    text, found = printed("systemd", here, tmp_path / "units")

    assert text.splitlines() == [str(tmp_path / "units" / name) for name in found]
    said = subprocess.run(
        ["systemd-analyze", "verify", *text.splitlines()], capture_output=True, text=True, env={"PATH": "/usr/bin:/bin"}
    )
    about_ours = [line for line in said.stderr.splitlines() if "penstock" in line]
    assert about_ours == []


@pytest.mark.parametrize(
    ("form", "output", "message"),
    [("crn", None, "there is cron and systemd. Did you mean 'cron'?"), ("cron", Path("x"), "a crontab is one file")],
    ids=["another form", "a directory for a crontab"],
)
def test_what_it_cannot_print_is_refused(here: Path, form: str, output: Path | None, message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        printed(form, here, output)
