"""When Kubeflow starts a schedule's next runs is what is said, also where summer time begins and ends."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from kfp_server import fires

from pipeline.cron import Cron
from pipeline.runners.kubeflow.wanted import next_firings, same_timezone


@pytest.mark.parametrize(
    "cron",
    [
        "30 2 * * *",
        "*/20 * * * *",
        "* * * * *",
        "15 1-3 * * 7",
        "0 3 29 2 *",
        "0 0 13 * fri",
        "59 23 31 12 *",
        "5 */5 * * *",
    ],
)
@pytest.mark.parametrize(
    "timezone", ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu"]
)
@pytest.mark.parametrize(
    "after",
    [
        "2026-03-28T20:00:00",
        "2026-03-29T00:59:30",
        "2026-10-25T00:10:00",
        "2026-10-25T01:10:00",
        "2026-11-01T05:30:00",
        "2026-10-03T15:00:00",
        "2026-06-01T12:00:00",
    ],
)
def test_what_is_said_to_come_is_when_kubeflows_controller_fires(cron: str, timezone: str, after: str) -> None:
    now = datetime.fromisoformat(after).replace(tzinfo=UTC)
    schedule = Cron.parse(cron, timezone)

    expected = fires(schedule.six_fields(), now.astimezone(ZoneInfo(timezone)), 5)

    assert [each.isoformat() for each in next_firings(schedule, now, 5)] == [each.isoformat() for each in expected]


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        ("2026-03-28T12:00:00", ["2026-03-30T02:30:00+02:00", "2026-03-31T02:30:00+02:00"]),
        ("2026-10-24T12:00:00", ["2026-10-25T02:30:00+02:00", "2026-10-25T02:30:00+01:00"]),
    ],
    ids=["none where the hour is left out", "two where it comes twice"],
)
def test_half_past_two_in_berlin(after: str, expected: list[str]) -> None:
    now = datetime.fromisoformat(after).replace(tzinfo=UTC)

    found = next_firings(Cron.parse("30 2 * * *", "Europe/Berlin"), now, 2)

    assert [each.isoformat() for each in found] == expected


def test_a_window_bounds_what_fires() -> None:
    now = datetime(2026, 6, 1, tzinfo=UTC)
    cron = Cron.parse("0 3 * * *")

    found = next_firings(cron, now, 3, start="2026-06-10T02:59:59+00:00", end="2026-06-11T03:00:00+00:00")

    assert [f"{each:%d %H:%M}" for each in found] == ["10 03:00", "11 03:00"]
    assert next_firings(cron, now, 3, end="2026-01-01T00:00:00+00:00") == []


def test_utc_has_many_names() -> None:
    assert same_timezone("Etc/UTC", "UTC")
    assert same_timezone("Europe/Berlin", "Europe/Berlin")
    assert not same_timezone("Europe/London", "UTC")
