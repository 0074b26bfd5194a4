"""Five cron fields and a time zone -> the moments at which they fire, and the same for crontabs, Kubeflow and systemd."""

from __future__ import annotations

import heapq
import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from schemas.errors import ConfigError, did_you_mean

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_LONGEST_MONTHS = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_MACROS = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_ITEM = re.compile(r"(?P<first>\*|\w+)(?:-(?P<last>\w+))?(?:/(?P<step>\d+))?", re.ASCII)
_FAR = timedelta(hours=26)  # no zone has ever moved its clocks by more than a day


@dataclass(frozen=True)
class _Kind:
    """What one of the five fields may hold."""

    name: str
    low: int
    high: int
    names: tuple[str, ...] = ()  # of low, low + 1, ...


_KINDS = (
    _Kind("minute", 0, 59),
    _Kind("hour", 0, 23),
    _Kind("day of month", 1, 31),
    _Kind("month", 1, 12, _MONTHS),
    _Kind("day of week", 0, 7, _DAYS),  # 0 and 7 are Sunday
)


@dataclass(frozen=True)
class _Item:
    """One of a field's list: every `step`th value from `first` to `last`."""

    first: int
    last: int
    step: int = 1
    star: bool = False

    def values(self) -> range:
        return range(self.first, self.last + 1, self.step)


@dataclass(frozen=True)
class _Field:
    """One of the five. One that begins with `*` does not restrict the day, as in Vixie's cron, also with a step."""

    kind: _Kind
    items: tuple[_Item, ...]

    @property
    def star(self) -> bool:
        return self.items[0].star

    @cached_property
    def values(self) -> tuple[int, ...]:
        """Ascending; a Sunday is 0."""
        found = {value for item in self.items for value in item.values()}
        return tuple(sorted({value % 7 for value in found} if self.kind.high == 7 else found))

    @property
    def every(self) -> bool:
        """Whether it leaves nothing out."""
        return len(self.values) == (7 if self.kind.high == 7 else self.kind.high - self.kind.low + 1)

    def as_cron(self) -> str:
        """In numbers, and in a form that every cron reads alike: Sundays are 0, a `*` stands first or not at all."""
        if self.kind.high == 7 and any(item.last == 7 and not item.star for item in self.items):
            return ",".join(map(str, self.values))
        return ",".join(
            ("*" if item.star and position == 0 else _span(str(item.first), "-", str(item.last))) + _step(item)
            for position, item in enumerate(self.items)
        )

    def as_calendar(self) -> str:
        """As systemd has it within dates and times."""
        if self.every:
            return "*"
        return ",".join(
            (f"{item.first:02}" if item.star else _span(f"{item.first:02}", "..", f"{item.last:02}")) + _step(item)
            for item in self.items
        )


def _span(first: str, to: str, last: str) -> str:
    return first if first == last else f"{first}{to}{last}"


def _step(item: _Item) -> str:
    return f"/{item.step}" if item.step > 1 else ""


@dataclass(frozen=True)
class Cron:
    """A cron expression of five fields: minute, hour, day of month, month, day of week.

    Means what Vixie's cron means by it: lists, ranges, steps, names of months and days, Sunday as 0 or 7, `@daily` and its
    kin; where day of month and day of week are both restricted, either will do.

    Where summer time begins or ends, as Debian's cron: an expression whose minutes or hours begin with `*` follows the hours
    as they pass, none in the hour that is left out and all in both hours of the same name. One at fixed times fires once a
    day: in the first of two such hours, and at a time that is left out as much later as the clock was put forward (02:30 is
    at 03:30 then).
    """

    text: str  # as it was written
    timezone: str
    _fields: tuple[_Field, ...]

    @classmethod
    def parse(cls, text: str, timezone: str = "UTC") -> Cron:
        """Read an expression. Raises ConfigError with everything that is wrong with it, and for an unknown time zone."""
        problems: list[str] = []
        if (unknown := _zone_problem(timezone)) is not None:
            problems.append(unknown)
        fields = _read(text, problems)
        if problems:
            raise ConfigError(*problems)
        return cls(text.strip(), timezone, fields)

    def next(self, after: datetime, count: int = 1) -> list[datetime]:
        """The `count` moments after `after` (which has a time zone) at which it fires, ascending, in its own time zone."""
        zone = ZoneInfo(self.timezone)
        return [moment.astimezone(zone) for moment in itertools.islice(self._after(after), count)]

    def last(self, after: datetime, until: datetime) -> datetime | None:
        """The newest moment after `after` and not after `until` at which it fires, in its own time zone."""
        back = timedelta(minutes=1)
        while True:
            begin = max(after, until - back)
            found = list(itertools.takewhile(lambda moment: moment <= until, self._after(begin)))
            if found:
                return found[-1].astimezone(ZoneInfo(self.timezone))
            if begin == after:
                return None
            back *= 2

    def count(self, after: datetime, until: datetime, at_most: int) -> int:
        """How many moments after `after` and not after `until` there are; it does not look further than `at_most`."""
        moments = itertools.takewhile(lambda moment: moment <= until, self._after(after))
        return sum(1 for _ in itertools.islice(moments, at_most))

    def five_fields(self) -> str:
        """For a crontab: in numbers, with a Sunday as 0."""
        return " ".join(field.as_cron() for field in self._fields)

    def six_fields(self) -> str:
        """For Kubeflow's schedules, which have seconds before the five (the Go library robfig/cron, version 1)."""
        return f"0 {self.five_fields()}"

    def on_calendar(self) -> list[str]:
        """For systemd's `OnCalendar=`: two, of which either will do, where day of month and day of week are both restricted."""
        minute, hour, day, month, weekday = self._fields
        date = f"*-{month.as_calendar()}-{{}} {hour.as_calendar()}:{minute.as_calendar()}:00 {self.timezone}"
        named = "" if weekday.every else f"{_weekdays(weekday.values)} "
        if self._either:
            return [date.format(day.as_calendar()), named + date.format("*")]
        return [named + date.format(day.as_calendar())]

    @property
    def _either(self) -> bool:
        """Whether day of month and day of week are alternatives."""
        return not self._fields[2].star and not self._fields[4].star

    def _after(self, after: datetime) -> Iterator[datetime]:
        """Moments in UTC. Times of the clock on the wall come in their order; moments that they stand for need not."""
        zone = ZoneInfo(self.timezone)
        begin = after.astimezone(UTC)
        hour_by_hour = self._fields[0].star or self._fields[1].star
        offsets = _offsets(begin, zone)
        wall = (begin + offsets[1]).replace(tzinfo=None) - (max(offsets) - min(offsets))
        waiting: list[datetime] = []
        while (found := self._next_on_the_wall(wall)) is not None:
            wall = found
            earliest = wall.replace(tzinfo=UTC) - max(_offsets(wall.replace(tzinfo=zone), zone))
            while waiting and waiting[0] < earliest:
                yield heapq.heappop(waiting)
            for moment in _moments(wall, zone, hour_by_hour):
                if moment > begin and moment not in waiting:
                    heapq.heappush(waiting, moment)
        yield from sorted(waiting)

    def _next_on_the_wall(self, after: datetime) -> datetime | None:
        """The next time without a time zone. None: the calendar ends before."""
        try:
            found = self._trigger(None, after.replace(second=0, microsecond=0, tzinfo=UTC) + timedelta(minutes=1))
        except (OverflowError, ValueError):  # after the year 9999
            return None
        return found.replace(tzinfo=None) if found else None

    @cached_property
    def _trigger(self) -> Callable[[datetime | None, datetime], datetime | None]:
        from apscheduler.triggers.combining import OrTrigger  # not needed to read a schedule
        from apscheduler.triggers.cron import CronTrigger

        minute, hour, day, month, weekday = self._fields

        def trigger(**days: str) -> CronTrigger:
            given = {"minute": _listed(minute), "hour": _listed(hour), "month": _listed(month), **days}
            return CronTrigger(**given, timezone=UTC)

        # Its own day 0 is a Monday.
        named = "*" if weekday.every else ",".join(_DAYS[value] for value in weekday.values)
        either = (trigger(day=_listed(day)), trigger(day_of_week=named))
        found = OrTrigger(either) if self._either else trigger(day=_listed(day), day_of_week=named)
        fire: Callable[[datetime | None, datetime], datetime | None] = found.get_next_fire_time
        return fire


def check_timezone(name: str) -> str:
    """The name, where there is such a time zone. Raises ConfigError."""
    if (unknown := _zone_problem(name)) is not None:
        raise ConfigError(unknown)
    return name


def _zone_problem(name: str) -> str | None:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        known = available_timezones()
        same = [zone for zone in known if zone.lower() == name.lower().replace(" ", "_")]
        hint = f" Did you mean '{same[0]}'?" if same else did_you_mean(name, sorted(known))
        return f"'{name}' is no time zone.{hint or ' Write it as UTC or Europe/Berlin'}"
    return None


def _read(text: str, problems: list[str]) -> tuple[_Field, ...]:
    """The five fields, as far as they can be read."""
    written = text.strip()
    if written.startswith("@"):
        if written.lower() not in _MACROS:
            hint = did_you_mean(written, _MACROS) or f" There are: {', '.join(_MACROS)}"
            problems.append(f"'{written}' is no time that five fields can say.{hint}")
            return ()
        written = _MACROS[written.lower()]
    parts = written.split()
    if len(parts) != len(_KINDS):
        problems.append(f"'{text}' has {_COUNTS.get(len(parts), str(len(parts)))} fields; {_instead(parts)}")
        return ()
    before = len(problems)
    fields = tuple(_read_field(kind, part, problems) for kind, part in zip(_KINDS, parts, strict=True))
    if len(problems) > before:
        problems[before:] = [f"'{text}': {problem}" for problem in problems[before:]]
        return ()
    day, month, weekday = fields[2:]
    if weekday.star and not any(day.values[0] <= _LONGEST_MONTHS[value - 1] for value in month.values):
        names = " or ".join(_MONTHS[value - 1].capitalize() for value in month.values)
        problems.append(
            f"'{text}' never fires: no {names} has a day {day.values[0]}; the last is {_LONGEST_MONTHS[month.values[0] - 1]}"
        )
    return fields


_COUNTS = {0: "no", 1: "one", 2: "two", 3: "three", 4: "four", 6: "six", 7: "seven"}


def _instead(parts: Sequence[str]) -> str:
    if len(parts) > len(_KINDS):
        five = " ".join(parts[1:6])
        if parts[0] == "0":
            return f"write five, without the seconds that come first: '{five}'"
        return f"write five, minute first and no seconds, for cron fires at most once a minute: perhaps '{five}'"
    return "write five: minute, hour, day of month, month, day of week, as in '0 3 * * *', every day at 03:00"


def _read_field(kind: _Kind, text: str, problems: list[str]) -> _Field:
    items: list[_Item] = []
    for part in text.split(","):
        try:
            items.append(_read_item(kind, part))
        except ConfigError as error:
            problems.extend(f"{kind.name}: {problem}" for problem in error.problems)
    return _Field(kind, tuple(items))


def _read_item(kind: _Kind, text: str) -> _Item:
    found = _ITEM.fullmatch(text)
    if found is None or (found["first"] == "*" and found["last"]):
        instead = " Write * for any" if text == "?" else f" Write {_allowed(kind)}, a range as {_range(kind)}, * or */2"
        raise ConfigError(f"'{text}' is nothing that cron knows.{instead}")
    step = int(found["step"] or 1)
    if found["first"] == "*":
        return _Item(kind.low, kind.high, _checked_step(kind, text, step, kind.low, kind.high), star=True)
    first = _value(kind, found["first"])
    if found["last"] is None:
        if found["step"]:
            raise ConfigError(
                f"'{text}': a step needs a range, for not every cron takes this alike: write {first}-{kind.high}/{step}"
            )
        return _Item(first, first)
    last = _value(kind, found["last"])
    if kind.high == 7 and last == 0 < first:
        last = 7  # as in FRI-SUN
    if first > last:
        raise ConfigError(f"'{text}' ends before it begins: write {_wrapped(kind, first, last)}")
    return _Item(first, last, _checked_step(kind, text, step, first, last))


def _value(kind: _Kind, text: str) -> int:
    if text.isdecimal():
        value = int(text)
        if not kind.low <= value <= kind.high:
            midnight = "; midnight is 0" if kind.name == "hour" and value == 24 else ""
            raise ConfigError(f"{text} is not in {kind.low} to {kind.high}{midnight}")
        return value
    if text.lower() in kind.names:
        return kind.names.index(text.lower()) + kind.low
    names = [name.upper() for name in kind.names]
    hint = did_you_mean(text.upper(), names) if names else ""
    raise ConfigError(f"'{text}' is no {kind.name}: write {_allowed(kind)}.{hint}")


def _checked_step(kind: _Kind, text: str, step: int, first: int, last: int) -> int:
    if step == 0:
        raise ConfigError(f"'{text}': a step is 1 or more")
    if step > 1 and first + step > last:
        raise ConfigError(
            f"'{text}': a step of {step} from {first} is past {last}, so this is {first} alone; "
            f"cron begins anew with each {_CONTAINING[kind.name]}"
        )
    return step


_CONTAINING = {"minute": "hour", "hour": "day", "day of month": "month", "month": "year", "day of week": "week"}


def _allowed(kind: _Kind) -> str:
    names = f" or {kind.names[0].upper()} to {kind.names[-1].upper()}" if kind.names else ""
    return f"{kind.low} to {kind.high}{names}"


def _range(kind: _Kind) -> str:
    return f"{kind.low + 1}-{kind.low + 4}"


def _wrapped(kind: _Kind, first: int, last: int) -> str:
    high = 6 if kind.high == 7 else kind.high
    return ",".join(
        str(low) if low == end else f"{low}-{end}" for low, end in ((first, high), (kind.low, last)) if low <= end
    )


def _listed(field: _Field) -> str:
    return "*" if field.every else ",".join(map(str, field.values))


def _weekdays(values: Sequence[int]) -> str:
    """As systemd has them: Mon..Fri, or Mon,Wed."""
    from_monday = sorted((value - 1) % 7 for value in values)
    runs: list[list[int]] = []
    for day in from_monday:
        if runs and day == runs[-1][-1] + 1:
            runs[-1].append(day)
        else:
            runs.append([day])
    names = [_DAYS[(day + 1) % 7].capitalize() for day in range(7)]
    return ",".join(
        f"{names[run[0]]}..{names[run[-1]]}" if len(run) > 2 else ",".join(names[day] for day in run) for run in runs
    )


def _offsets(moment: datetime, zone: ZoneInfo) -> tuple[timedelta, ...]:
    """Between UTC and the clock on the wall: a good day before, at that moment, and a good day after."""
    found = []
    for near in (moment - _FAR, moment, moment + _FAR):
        offset = near.astimezone(UTC).astimezone(zone).utcoffset()
        assert offset is not None
        found.append(offset)
    return tuple(found)


def _moments(wall: datetime, zone: ZoneInfo, hour_by_hour: bool) -> tuple[datetime, ...]:
    """The moments in UTC that a time on the wall stands for, as `Cron` says."""
    first, second = (wall.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1))
    if first == second:
        return (first,)
    if first < second:  # the clock was put back
        return (first, second) if hour_by_hour else (first,)
    return () if hour_by_hour else (first,)  # the clock was put forward
