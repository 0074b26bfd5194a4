"""A schedule file is read whole, and every mistake in it is named with its line."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from pipeline.schedules.reading import Schedule, read_schedules
from schemas.errors import ConfigError

DEFINITION = "name: toy\nparameters: {steps: 20, rate: 0.5, note: none}\nsteps: {read: {uses: project_steps.Read}}\n"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pipeline.yaml").write_text(DEFINITION)
    return tmp_path


def read(text: str) -> dict[str, Schedule]:
    Path("schedule.yaml").write_text(text)
    return read_schedules(Path("schedule.yaml"))


def problems(text: str) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        read(text)
    return caught.value.problems


@pytest.mark.usefixtures("here")
def test_what_is_left_out_is_as_documented() -> None:
    (schedule,) = read('schedules: {daily: {pipeline: pipeline.yaml, cron: "0 3 * * *"}}').values()

    assert (schedule.name, schedule.pipeline, schedule.cron.timezone) == ("daily", "pipeline.yaml", "UTC")
    assert (schedule.if_new_data, schedule.missed, schedule.grace_s, schedule.paused) == (False, "once", 300, False)
    assert (schedule.kubeflow.catch_up, schedule.kubeflow.concurrency) == (False, 1)


@pytest.mark.usefixtures("here")
def test_a_schedules_own_time_zone_wins_over_the_files() -> None:
    found = read(
        "timezone: Europe/Berlin\nschedules:\n"
        '  a: {pipeline: pipeline.yaml, cron: "0 3 * * *"}\n'
        '  b: {pipeline: pipeline.yaml, cron: "0 3 * * *", timezone: Asia/Tokyo}\n'
    )

    assert {name: schedule.cron.timezone for name, schedule in found.items()} == {
        "a": "Europe/Berlin",
        "b": "Asia/Tokyo",
    }


@pytest.mark.usefixtures("here")
def test_parameters_are_given_as_set_reads_them() -> None:
    (schedule,) = read(
        "schedules: {daily: {pipeline: pipeline.yaml, cron: '0 3 * * *',"
        ' parameters: {steps: 7, rate: 1.0e-9, note: "no: \\"ü\\" \\U0001F600 #"}}}'
    ).values()

    given = dict(override.split("=", 1) for override in schedule.overrides())
    assert {name: YAML(typ="safe").load(value) for name, value in given.items()} == {
        "parameters.steps": 7,
        "parameters.rate": 1e-9,
        "parameters.note": 'no: "ü" 😀 #',
    }


@pytest.mark.usefixtures("here")
def test_every_mistake_is_reported_at_once_with_its_line() -> None:
    found = problems(
        "timezone: Europe/Berln\n"
        "schedules:\n"
        "  daily:\n"
        "    pipeline: pipelin.yaml\n"
        '    cron: "0 0 3 * * *"\n'
        "  hourly:\n"
        "    pipeline: pipeline.yaml\n"
        '    cron: "61 25 * * *"\n'
        "    timezone: Asia/Tokio\n"
        "    parameters: {step: 3, rate: fast}\n"
    )

    assert [problem.partition(": ")[0] for problem in found] == [
        f"schedule.yaml:{line}" for line in (1, 4, 5, 10, 10, 9, 8, 8)
    ]
    assert "timezone: 'Europe/Berln' is no time zone. Did you mean 'Europe/Berlin'?" in found[0]
    assert "schedules.daily.pipeline: pipelin.yaml: there is no such file in " in found[1]
    assert "schedules.daily.cron: '0 0 3 * * *' has six fields" in found[2]
    assert "schedules.hourly.parameters.step: pipeline.yaml has no parameter 'step'. Did you mean 'steps'?" in found[3]
    assert "'fast' is of type str, and parameter 'rate' of pipeline.yaml of type float (default 0.5)" in found[4]
    assert "schedules.hourly.timezone: 'Asia/Tokio' is no time zone. Did you mean 'Asia/Tokyo'?" in found[5]


@pytest.mark.usefixtures("here")
def test_a_shape_that_is_wrong_is_named_with_what_there_is() -> None:
    found = problems(
        "schedules:\n"
        "  Daily: {pipeline: pipeline.yaml, cron: '0 3 * * *'}\n"
        "  b: {pipeline: pipeline.yaml, corn: '0 3 * * *'}\n"
        "  c: {pipeline: pipeline.yaml, cron: '0 3 * * *', missed: twice, grace: soon, kubeflow: {concurrency: 11}}\n"
        "  d: {pipeline: pipeline.yaml, cron: '0 3 * * *', kubeflow: {start: tomorrow}}\n"
    )

    text = "\n".join(found)
    assert (
        "schedule.yaml:2: schedules.Daily: 'Daily' is not valid here: expected lower-case letters, digits and hyphens"
        in text
    )
    assert "schedule.yaml:3: schedules.b.corn: no such setting. Did you mean 'cron'?" in text
    assert "schedule.yaml:3: schedules.b.cron: missing" in text
    assert "schedule.yaml:4: schedules.c.missed: 'twice' is not valid here: input should be 'once' or 'skip'" in text
    assert "schedules.c.grace: 'soon' is no length of time" in text
    assert "schedules.c.kubeflow.concurrency: 11 is not valid here: input should be less than or equal to 10" in text
    assert "schedules.d.kubeflow.start: 'tomorrow' is no moment: write it as 2026-08-01" in text


@pytest.mark.usefixtures("here")
def test_two_schedules_of_one_name_are_named_with_the_line() -> None:
    (found,) = problems(
        "schedules:\n  a: {pipeline: pipeline.yaml, cron: '@daily'}\n  a: {pipeline: pipeline.yaml, cron: '@daily'}\n"
    )

    assert found == "schedule.yaml:3: 'a' stands here twice; rename or remove one"


@pytest.mark.usefixtures("here")
def test_a_file_that_is_not_there_is_named_with_those_that_are() -> None:
    Path("nightly-schedule.yaml").write_text("")

    with pytest.raises(
        ConfigError, match=r"^other.yaml: there is no such file. Schedules here: nightly-schedule.yaml$"
    ):
        read_schedules(Path("other.yaml"))


def test_a_definition_beside_the_file_is_asked_for_from_the_working_directory(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "schedule.yaml").write_text("schedules: {a: {pipeline: pipeline.yaml, cron: '@daily'}}")
    (here / "elsewhere").mkdir()
    monkeypatch.chdir(here / "elsewhere")

    with pytest.raises(ConfigError, match="Paths are from the working directory: write ../pipeline.yaml?"):
        read_schedules(Path("../schedule.yaml"))


@pytest.mark.usefixtures("here")
def test_a_definition_that_cannot_be_read_is_named_in_both_files() -> None:
    Path("pipeline.yaml").write_text("steps: [")

    (found,) = problems("schedules:\n  a: {pipeline: pipeline.yaml, cron: '@daily'}\n")

    assert found.startswith("schedule.yaml:2: schedules.a.pipeline: pipeline.yaml:1:")


def test_a_definition_in_python_is_not_imported(here: Path) -> None:
    (here / "mine.py").write_text("raise RuntimeError")

    found = read("schedules: {a: {pipeline: 'mine:pipeline', cron: '@daily', parameters: {x: 1}}}")

    assert found["a"].pipeline == "mine:pipeline"
    assert "mine" not in sys.modules
