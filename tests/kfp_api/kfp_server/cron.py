"""When KFP's controller starts a recurring run: expressions as robfig/cron 1.2 reads them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from kfp_server.calls import INVALID_ARGUMENT, Refusal

CRON_FIELDS = (
    ("second", 0, 59, ()),
    ("minute", 0, 59, ()),
    ("hour", 0, 23, ()),
    ("day", 1, 31, ()),
    ("month", 1, 12, ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")),
    ("weekday", 0, 6, ("sun", "mon", "tue", "wed", "thu", "fri", "sat")),
)


def parse_cron(text: str) -> list[set[int]]:
    """The seconds, minutes, hours, days, months and weekdays of an expression; 0 is Sunday, and -1 marks a star.

    As robfig/cron 1.2 reads it, with which KFP is built: of five fields the first is the seconds, and the last is a star.
    """
    refused = "Schedule cron is not a supported format(https://godoc.org/github.com/robfig/cron). Error: "
    fields = text.split()
    if not 5 <= len(fields) <= 6:
        raise Refusal(INVALID_ARGUMENT, f"{refused}Expected 5 to 6 fields, found {len(fields)}: {text}")
    found = []
    for (_, least, most, names), written in zip(CRON_FIELDS, [*fields, "*"], strict=False):
        values: set[int] = set()
        for part in written.lower().split(","):
            spread, _, step = part.partition("/")
            low, _, high = spread.partition("-")
            try:
                if low in ("*", "?"):
                    values.add(-1)
                    first, last = least, most
                else:
                    first = names.index(low) + least if low in names else int(low)
                    last = (names.index(high) + least if high in names else int(high)) if high else first
                    last = most if step and not high else last
                every = int(step) if step else 1
            except ValueError:
                raise Refusal(INVALID_ARGUMENT, f"{refused}Failed to parse int from {part}") from None
            if first < least or last > most or first > last or every < 1:
                raise Refusal(INVALID_ARGUMENT, f"{refused}{part} is not between {least} and {most}")
            values.update(range(first, last + 1, every))
        found.append(values)
    return found


def fires(text: str, after: datetime, count: int) -> list[datetime]:
    """When KFP's controller starts a run for an expression: the next `count` times, in the zone of `after`, which is the controller's."""
    fields = parse_cron(text)
    found: list[datetime] = []
    while len(found) < count:
        found.append(_next_firing(fields, found[-1] if found else after))
    return found


def _next_firing(fields: list[set[int]], after: datetime) -> datetime:
    """As robfig's SpecSchedule.Next: hours and less go on as time does, so that summer time leaves out and repeats hours."""
    seconds, minutes, hours, days, months, weekdays = fields
    zone = after.tzinfo

    def later(moment: datetime, **by: int) -> datetime:
        return (moment.astimezone(UTC) + timedelta(**by)).astimezone(zone)

    def day_fits(moment: datetime) -> bool:
        by_day, by_weekday = moment.day in days, moment.isoweekday() % 7 in weekdays
        return (by_day and by_weekday) if -1 in days or -1 in weekdays else (by_day or by_weekday)

    moment = later(after.replace(microsecond=0), seconds=1)
    while True:
        if moment.month not in months or not day_fits(moment):
            moment = moment.replace(hour=0, minute=0, second=0, fold=0) + timedelta(days=1)  # on the wall
        elif moment.hour not in hours:
            moment = later(moment.replace(minute=0, second=0), hours=1)
        elif moment.minute not in minutes:
            moment = later(moment.replace(second=0), minutes=1)
        elif moment.second not in seconds:
            moment = later(moment, seconds=1)
        else:
            return moment
