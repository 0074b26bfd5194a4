"""What a schedule has to do about the firings since it last looked."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from pipeline.cron import Cron
from pipeline.schedules.due import MANY, Due, due
from pipeline.schedules.reading import Schedule
from schemas.schedule import KubeflowScheduleConfig, Missed


def at(text: str) -> datetime:
    return datetime.fromisoformat(f"2026-08-{text}:00+00:00")


def schedule(missed: Missed = "once", cron: str = "0 3 * * *") -> Schedule:
    return Schedule("a", "a.yaml", Cron.parse(cron), False, {}, missed, 300, False, KubeflowScheduleConfig())


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        ("15T02:59", None),
        ("15T03:00", Due(at("15T03:00"), 0, True)),
        ("15T03:05", Due(at("15T03:00"), 0, True)),
        ("15T03:06", Due(at("15T03:00"), 1, True)),
        ("17T03:02", Due(at("17T03:00"), 2, True)),
        ("17T09:00", Due(at("17T03:00"), 3, True)),
    ],
)
def test_later_than_its_grace_a_firing_was_missed_and_the_newest_stands_for_all(now: str, expected: Due | None) -> None:
    assert due(schedule(), at("14T12:00"), at(now)) == expected


@pytest.mark.parametrize(
    ("now", "run"), [("15T03:05", True), ("15T03:06", False), ("17T03:02", True), ("17T09:00", False)]
)
def test_who_skips_runs_only_what_is_in_time(now: str, run: bool) -> None:
    found = due(schedule("skip"), at("14T12:00"), at(now))

    assert found is not None
    assert found.run == run


@pytest.mark.parametrize("missed", ["once", "skip"])
def test_what_came_during_its_own_run_was_missed_however_late_it_is(missed: Missed) -> None:
    often = schedule(missed, "*/10 * * * *")

    assert due(often, at("14T12:00"), at("14T12:21"), busy_until=at("14T12:21")) == Due(
        at("14T12:20"), 2, missed == "once"
    )
    assert due(often, at("14T12:20"), at("14T12:30"), busy_until=at("14T12:21")) == Due(at("14T12:30"), 0, True)


def test_what_was_decided_is_not_due_again_by_a_clock_that_was_set_back() -> None:
    assert due(schedule(), at("15T03:00"), at("15T02:00")) is None
    assert due(schedule(), at("15T03:00"), at("15T03:00")) is None


def test_many_that_were_missed_are_not_all_counted() -> None:
    found = due(schedule("skip", "* * * * *"), datetime(2016, 8, 14, tzinfo=UTC), at("14T12:00"), at("14T12:00"))

    assert found is not None
    assert found.newest == at("14T12:00")
    assert found.missed >= MANY
