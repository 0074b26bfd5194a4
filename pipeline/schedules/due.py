"""What a schedule has to do now about the firings since it last looked: run one, or say that it missed some."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from pipeline.schedules.reading import Schedule

MANY = 1000  # firings that were missed are counted as far as this


@dataclass(frozen=True)
class Due:
    """Firings that are to be decided on.

    `newest` is the last of them; `missed` how many were missed (MANY: or more), itself among them when it is too late for
    it. `run` is whether a run begins now, for it or in the place of all that were missed.
    """

    newest: datetime
    missed: int
    run: bool


def due(schedule: Schedule, decided: datetime, now: datetime, busy_until: datetime | None = None) -> Due | None:
    """The firings after `decided` and not after `now`; None when there are none.

    One that is later than the schedule's grace was missed, and so was one not after `busy_until`, when its own earlier run
    ended. Of several the newest stands for all.
    """
    first = schedule.cron.next(decided)
    if not first or first[0] > now:
        return None
    newest = schedule.cron.last(decided, now) or first[0]
    too_late = now - newest > timedelta(seconds=schedule.grace_s)
    missed_itself = too_late or (busy_until is not None and newest <= busy_until)
    count = schedule.cron.count(decided, newest, MANY + 1)
    missed = count if missed_itself else count - 1
    return Due(newest, missed, not missed_itself or schedule.missed == "once")
