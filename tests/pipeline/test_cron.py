"""A cron expression fires when cron's own rules say so, in its time zone, and is the same thing in other schedulers' words."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipeline.cron import Cron
from schemas.errors import ConfigError

NOON = datetime(2026, 8, 14, 12, 0, tzinfo=UTC)  # a Friday


def fires(text: str, timezone: str = "UTC", after: datetime = NOON, count: int = 3) -> list[str]:
    return [f"{moment:%a %m-%d %H:%M %z}" for moment in Cron.parse(text, timezone).next(after, count)]


def problems(text: str, timezone: str = "UTC") -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        Cron.parse(text, timezone)
    return caught.value.problems


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0 3 * * *", ["Sat 08-15 03:00 +0000", "Sun 08-16 03:00 +0000", "Mon 08-17 03:00 +0000"]),
        ("*/20 * * * *", ["Fri 08-14 12:20 +0000", "Fri 08-14 12:40 +0000", "Fri 08-14 13:00 +0000"]),
        ("0 12 * * *", ["Sat 08-15 12:00 +0000", "Sun 08-16 12:00 +0000", "Mon 08-17 12:00 +0000"]),
        ("5 4 * * 0", ["Sun 08-16 04:05 +0000", "Sun 08-23 04:05 +0000", "Sun 08-30 04:05 +0000"]),
        ("5 4 * * 7", ["Sun 08-16 04:05 +0000", "Sun 08-23 04:05 +0000", "Sun 08-30 04:05 +0000"]),
        ("0 9 * * mon-FRI", ["Mon 08-17 09:00 +0000", "Tue 08-18 09:00 +0000", "Wed 08-19 09:00 +0000"]),
        ("0 9 * * FRI-SUN", ["Sat 08-15 09:00 +0000", "Sun 08-16 09:00 +0000", "Fri 08-21 09:00 +0000"]),
        ("0 0 1 JAN,jul *", ["Fri 01-01 00:00 +0000", "Thu 07-01 00:00 +0000", "Sat 01-01 00:00 +0000"]),
        ("0 0 29 2 *", ["Tue 02-29 00:00 +0000", "Sun 02-29 00:00 +0000", "Fri 02-29 00:00 +0000"]),
        ("0 0 30 2,3 *", ["Tue 03-30 00:00 +0000", "Thu 03-30 00:00 +0000", "Fri 03-30 00:00 +0000"]),
        ("10-50/20 1 * * *", ["Sat 08-15 01:10 +0000", "Sat 08-15 01:30 +0000", "Sat 08-15 01:50 +0000"]),
        ("@weekly", ["Sun 08-16 00:00 +0000", "Sun 08-23 00:00 +0000", "Sun 08-30 00:00 +0000"]),
        ("@HOURLY", ["Fri 08-14 13:00 +0000", "Fri 08-14 14:00 +0000", "Fri 08-14 15:00 +0000"]),
    ],
)
def test_it_fires_when_cron_would(text: str, expected: list[str]) -> None:
    assert fires(text) == expected


def test_where_both_days_are_restricted_either_will_do() -> None:
    assert fires("0 0 13 * FRI", count=4) == [
        "Fri 08-21 00:00 +0000",
        "Fri 08-28 00:00 +0000",
        "Fri 09-04 00:00 +0000",
        "Fri 09-11 00:00 +0000",
    ]
    assert "Sun 09-13 00:00 +0000" in fires("0 0 13 * FRI", count=5)


def test_a_day_that_begins_with_a_star_does_not_make_them_alternatives() -> None:
    assert fires("0 0 */2 * MON") == ["Mon 08-17 00:00 +0000", "Mon 08-31 00:00 +0000", "Mon 09-07 00:00 +0000"]


def test_a_moment_at_which_it_fires_is_not_after_itself() -> None:
    assert fires("0 12 14 8 *", after=NOON - timedelta(seconds=1), count=1) == ["Fri 08-14 12:00 +0000"]
    assert fires("0 12 14 8 *", after=NOON, count=1) == ["Sat 08-14 12:00 +0000"]


@pytest.mark.parametrize("text", ["*/7 * * * *", "0 3 * * *", "0 3 1 * *", "30 2 29 2 *"])
def test_the_newest_before_a_moment_is_the_last_of_all_since_another(text: str) -> None:
    cron = Cron.parse(text, "Europe/Berlin")
    since = datetime(2024, 2, 1, tzinfo=UTC)
    moments = [since, *cron.next(since, 40)]

    for number, moment in enumerate(moments[1:], 1):
        for until in (moment, moment + timedelta(seconds=59)):
            assert cron.last(since, until) == moment
            assert cron.last(moments[number - 1], until) == moment
            assert cron.count(since, until, 100) == number
        assert cron.last(moment, moment) is None
        assert cron.last(moment, moment - timedelta(hours=1)) is None
    assert cron.count(since, moments[-1], 7) == 7


BERLIN = ZoneInfo("Europe/Berlin")
SUMMER_BEGINS = datetime(2026, 3, 29, 0, 50, tzinfo=BERLIN)  # 02:00 to 03:00 is left out
SUMMER_ENDS = datetime(2026, 10, 25, 0, 50, tzinfo=BERLIN)  # 02:00 to 03:00 comes twice


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("30 2 * * *", ["Sun 03-29 03:30 +0200", "Mon 03-30 02:30 +0200"]),
        ("0,30 2 * * *", ["Sun 03-29 03:00 +0200", "Sun 03-29 03:30 +0200", "Mon 03-30 02:00 +0200"]),
        ("0,30 2,3 * * *", ["Sun 03-29 03:00 +0200", "Sun 03-29 03:30 +0200", "Mon 03-30 02:00 +0200"]),
        ("30 * * * *", ["Sun 03-29 01:30 +0100", "Sun 03-29 03:30 +0200", "Sun 03-29 04:30 +0200"]),
        ("*/30 2 * * *", ["Mon 03-30 02:00 +0200", "Mon 03-30 02:30 +0200"]),
        ("0 12 * * *", ["Sun 03-29 12:00 +0200", "Mon 03-30 12:00 +0200"]),
    ],
)
def test_in_the_hour_that_is_left_out_fixed_times_are_later_and_the_others_are_not(
    text: str, expected: list[str]
) -> None:
    assert fires(text, "Europe/Berlin", SUMMER_BEGINS, len(expected)) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("30 2 * * *", ["Sun 10-25 02:30 +0200", "Mon 10-26 02:30 +0100"]),
        ("0,30 2 * * *", ["Sun 10-25 02:00 +0200", "Sun 10-25 02:30 +0200", "Mon 10-26 02:00 +0100"]),
        (
            "*/30 2 * * *",
            ["Sun 10-25 02:00 +0200", "Sun 10-25 02:30 +0200", "Sun 10-25 02:00 +0100", "Sun 10-25 02:30 +0100"],
        ),
        ("30 * * * *", ["Sun 10-25 01:30 +0200", "Sun 10-25 02:30 +0200", "Sun 10-25 02:30 +0100"]),
    ],
)
def test_in_the_hour_that_comes_twice_fixed_times_fire_once_and_the_others_twice(
    text: str, expected: list[str]
) -> None:
    assert fires(text, "Europe/Berlin", SUMMER_ENDS, len(expected)) == expected


def test_from_between_the_two_hours_of_one_name_it_goes_on_with_the_second() -> None:
    between = datetime(2026, 10, 25, 2, 40, tzinfo=BERLIN)

    assert fires("30 * * * *", "Europe/Berlin", between, 1) == ["Sun 10-25 02:30 +0100"]
    assert fires("30 2 * * *", "Europe/Berlin", between, 1) == ["Mon 10-26 02:30 +0100"]


def rule(text: str) -> Callable[[datetime], bool]:
    """Cron's rules for one minute on the wall, read off the five fields once more and in another way."""
    fields = text.split()
    sets: list[set[int]] = []
    for field, bounds in zip(fields, [(0, 59), (0, 23), (1, 31), (1, 12), (0, 7)], strict=True):
        sets.append(set())
        for item in field.split(","):
            span, _, step = item.partition("/")
            low, high = bounds if span == "*" else (int(part) for part in (span.split("-") * 2)[:2])
            sets[-1].update(range(low, high + 1, int(step or 1)))
    both = fields[2].startswith("*") or fields[4].startswith("*")

    def fits(wall: datetime) -> bool:
        if wall.minute not in sets[0] or wall.hour not in sets[1] or wall.month not in sets[3]:
            return False
        of_month, of_week = wall.day in sets[2], not sets[4].isdisjoint({wall.isoweekday(), wall.isoweekday() % 7})
        return of_month and of_week if both else of_month or of_week

    return fits


def minute_by_minute(text: str, timezone: str, begin: datetime, end: datetime) -> list[datetime]:
    """The moments after `begin` and before `end`, by looking at each minute."""
    zone, fits = ZoneInfo(timezone), rule(text)
    fixed = not any(field.startswith("*") for field in text.split()[:2])
    found = set()
    before = begin.astimezone(zone).replace(tzinfo=None)
    for passed in range(1, int((end - begin).total_seconds() // 60)):
        moment = begin + timedelta(minutes=passed)
        wall = moment.astimezone(zone)
        if fits(wall) and not (fixed and wall.fold):
            found.add(moment)
        here = wall.replace(tzinfo=None)
        left_out = int((here - before).total_seconds() // 60) - 1
        if fixed and left_out > 0:  # the clock was put forward: what was left out comes as much later
            later = (minute for minute in range(left_out) if fits(before + timedelta(minutes=1 + minute)))
            found.update(moment + timedelta(minutes=minute) for minute in later)
        before = here
    return sorted(found)


def field(low: int, high: int) -> st.SearchStrategy[str]:
    numbers = st.integers(low, high)
    spans = st.tuples(numbers, numbers).map(sorted)

    def stepped(span: list[int]) -> st.SearchStrategy[str]:
        first, last = span
        plain = st.just(f"{first}-{last}" if first < last else f"{first}")
        if first == last:
            return plain
        return plain | st.integers(1, last - first).map(lambda step: f"{first}-{last}/{step}")

    item = numbers.map(str) | spans.flatmap(stepped)
    star = st.just("*") | st.integers(1, high - low).map(lambda step: f"*/{step}")
    return star | st.lists(item, min_size=1, max_size=3).map(",".join)


EXPRESSIONS = st.tuples(field(0, 59), field(0, 23), field(1, 31), field(1, 12), field(0, 7)).map(" ".join)


@settings(max_examples=30, deadline=None)
@given(EXPRESSIONS, st.datetimes(datetime(2024, 1, 1), datetime(2028, 1, 1)))
@example("0 0 13 * 5", datetime(2026, 1, 1))
@example("0 3 */2 * 1-5/2", datetime(2026, 2, 20))
def test_it_fires_at_the_minutes_that_the_rules_say_and_no_others(text: str, begin: datetime) -> None:
    begin = begin.replace(second=0, microsecond=0, tzinfo=UTC)
    end = begin + timedelta(days=7)
    expected = minute_by_minute(text, "UTC", begin, end)
    try:
        cron = Cron.parse(text)
    except ConfigError:
        assert not expected
        return

    assert [moment for moment in cron.next(begin, len(expected) + 1) if moment < end] == expected


@pytest.mark.parametrize("months", [(1, 4), (9, 12)], ids=["spring", "autumn"])
@pytest.mark.parametrize("text", ["0 0 13 * 5", "15 4 */10 * 1-5", "0 12 1,31 2-12/2 0", "*/45 6-8 * 3,10 *"])
def test_it_agrees_with_the_rules_over_months(text: str, months: tuple[int, int]) -> None:
    begin, end = (datetime(2026, month, 1, tzinfo=UTC) for month in months)

    expected = minute_by_minute(text, "UTC", begin, end)

    assert [moment for moment in Cron.parse(text).next(begin, len(expected) + 1) if moment < end] == expected


SHIFTS = [
    ("Europe/Berlin", datetime(2026, 3, 28, 22, 0)),
    ("Europe/Berlin", datetime(2026, 10, 24, 22, 0)),
    ("Australia/Lord_Howe", datetime(2026, 4, 4, 13, 0)),  # by half an hour
    ("Australia/Lord_Howe", datetime(2026, 10, 3, 13, 0)),
    ("America/Havana", datetime(2026, 3, 8, 3, 0)),  # at midnight
    ("America/Santiago", datetime(2026, 4, 5, 1, 0)),  # at midnight, back into the day before
]


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(SHIFTS), st.tuples(field(0, 59), field(0, 4)).map(" ".join), st.integers(0, 300))
def test_where_the_clock_is_put_forward_or_back_it_fires_as_documented(
    shift: tuple[str, datetime], times: str, minutes: int
) -> None:
    timezone, begin = shift[0], shift[1].replace(tzinfo=UTC)
    text, end, after = f"{times} * * *", begin + timedelta(hours=12), begin + timedelta(minutes=minutes)

    expected = [moment for moment in minute_by_minute(text, timezone, begin, end) if moment > after]

    found = Cron.parse(text, timezone).next(after, len(expected) + 1)
    assert [moment.astimezone(UTC) for moment in found if moment < end] == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0 0 3 * * *", "'0 0 3 * * *' has six fields; write five, without the seconds that come first: '0 3 * * *'"),
        ("30 0 3 * * *", "perhaps '0 3 * * *'"),
        ("0 3 * *", "'0 3 * *' has four fields; write five: minute, hour, day of month, month, day of week"),
        ("", "'' has no fields; write five"),
        ("61 3 * * *", "'61 3 * * *': minute: 61 is not in 0 to 59"),
        ("0 24 * * *", "hour: 24 is not in 0 to 23; midnight is 0"),
        ("0 3 0 * *", "day of month: 0 is not in 1 to 31"),
        ("0 3 * 13 *", "month: 13 is not in 1 to 12"),
        ("0 3 * * 8", "day of week: 8 is not in 0 to 7"),
        ("0 3 * * THR", "day of week: 'THR' is no day of week: write 0 to 7 or SUN to SAT. Did you mean 'THU'?"),
        ("0 3 * JUNE *", "month: 'JUNE' is no month: write 1 to 12 or JAN to DEC. Did you mean 'JUN'?"),
        ("0 3 ? * MON", "day of month: '?' is nothing that cron knows. Write * for any"),
        ("0 3 L * *", "day of month: 'L' is no day of month: write 1 to 31"),
        ("0 3 1,,2 * *", "day of month: '' is nothing that cron knows"),
        ("-5 3 * * *", "minute: '-5' is nothing that cron knows. Write 0 to 59, a range as 1-4, * or */2"),
        ("*/0 * * * *", "minute: '*/0': a step is 1 or more"),
        ("*/90 * * * *", "minute: '*/90': a step of 90 from 0 is past 59, so this is 0 alone; cron begins anew"),
        ("5/15 * * * *", "minute: '5/15': a step needs a range, for not every cron takes this alike: write 5-59/15"),
        ("0 22-2 * * *", "hour: '22-2' ends before it begins: write 22-23,0-2"),
        ("0 3 * * SAT-MON", "day of week: 'SAT-MON' ends before it begins: write 6,0-1"),
        ("0 3 30 2 *", "'0 3 30 2 *' never fires: no Feb has a day 30; the last is 29"),
        ("0 3 31 4,6 *", "'0 3 31 4,6 *' never fires: no Apr or Jun has a day 31; the last is 30"),
        ("@every 1h", "'@every 1h' is no time that five fields can say. There are: @yearly"),
        ("@dayly", "Did you mean '@daily'?"),
    ],
)
def test_what_cron_cannot_mean_is_refused_with_what_to_write(text: str, expected: str) -> None:
    (found,) = problems(text)

    assert expected in found


def test_every_wrong_field_is_named_and_the_time_zone_too() -> None:
    assert problems("60 25 * * *", "Europe/Berln") == (
        "'Europe/Berln' is no time zone. Did you mean 'Europe/Berlin'?",
        "'60 25 * * *': minute: 60 is not in 0 to 59",
        "'60 25 * * *': hour: 25 is not in 0 to 23",
    )


@pytest.mark.parametrize(
    ("timezone", "expected"),
    [
        ("europe/berlin", "Did you mean 'Europe/Berlin'?"),
        ("America/New York", "Did you mean 'America/New_York'?"),
        ("Europe", "'Europe' is no time zone."),
        ("", "Write it as UTC or Europe/Berlin"),
        ("../etc/passwd", "is no time zone"),
    ],
)
def test_a_time_zone_that_there_is_not_is_refused(timezone: str, expected: str) -> None:
    (found,) = problems("0 3 * * *", timezone)

    assert expected in found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0 3 * * *", "0 0 3 * * *"),
        ("*/15 8-18 * JAN-mar MON,Wed", "0 */15 8-18 * 1-3 1,3"),
        ("0 3 * * 5-7", "0 0 3 * * 0,5,6"),  # robfig/cron's days are 0 to 6
        ("0 3 * * 7", "0 0 3 * * 0"),
        ("0 3 1,*/10 * 1", "0 0 3 1,1-31/10 * 1"),  # there a star anywhere means that both days must fit
        ("0 3 */10 * 1", "0 0 3 */10 * 1"),
        ("@daily", "0 0 0 * * *"),
    ],
)
def test_kubeflow_gets_six_fields_that_mean_the_same(text: str, expected: str) -> None:
    assert Cron.parse(text).six_fields() == expected


@pytest.mark.parametrize(
    ("text", "timezone", "expected"),
    [
        ("0 3 * * *", "UTC", ["*-*-* 03:00:00 UTC"]),
        ("*/15 8-18 * 1-6/2 MON-FRI", "Europe/Berlin", ["Mon..Fri *-01..06/2-* 08..18:00/15:00 Europe/Berlin"]),
        ("5,35 */6 */2 * 0,6,3", "UTC", ["Wed,Sat,Sun *-*-01/2 00/6:05,35:00 UTC"]),
        ("0 0 13 * FRI", "UTC", ["*-*-13 00:00:00 UTC", "Fri *-*-* 00:00:00 UTC"]),
    ],
)
def test_systemd_gets_a_calendar_for_each_alternative(text: str, timezone: str, expected: list[str]) -> None:
    assert Cron.parse(text, timezone).on_calendar() == expected


@pytest.mark.systemd
@pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed (Debian: systemd)"
)
@pytest.mark.parametrize(
    "text",
    [
        "0 3 * * *",
        "*/20 8-18/2 * * MON-FRI",
        "5-50/15,59 */6 */10 * *",
        "0 0 13 * FRI",
        "30 4 1,15 1-6/2 0,3",
        "15 12 */2 */3 FRI-SUN",
        "0 0 29 2 *",
        "59 23 31 * *",
        "@weekly",
    ],
)
def test_systemd_itself_finds_the_same_moments(text: str) -> None:
    cron = Cron.parse(text)
    calendars = cron.on_calendar()
    found: set[str] = set()
    for calendar in calendars:
        said = subprocess.run(
            ["systemd-analyze", "calendar", "--iterations=4", "--base-time=2026-08-14 12:00:00 UTC", calendar],
            env={"TZ": "UTC", "LANG": "C", "PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        lines = (line.strip() for line in said.splitlines())
        found.update(line.split(": ", 1)[1] for line in lines if line.startswith(("Next elapse:", "Iter. #")))
    ours = [f"{moment:%a %Y-%m-%d %H:%M:%S UTC}" for moment in cron.next(NOON, 4)]
    assert set(ours) <= found if len(calendars) > 1 else set(ours) == found
