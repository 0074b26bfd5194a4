"""What `pipeline schedule list` says: when each schedule fires next, and what its last run came to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from pipeline.cli.runs import as_columns
from pipeline.schedules.reading import Schedule, read_schedules
from pipeline.schedules.state import State, States
from schemas.owner import Owner

_SHOWN = 3  # firings


@dataclass(frozen=True)
class Listed:
    """One schedule, the moments at which it fires next, and what is known of it. None: no scheduler ever had it."""

    schedule: Schedule
    next: Sequence[datetime]
    state: State | None

    @property
    def runs(self) -> bool:
        """Whether a run of its goes on now."""
        return self.state is not None and self.state.process is not None and _is_alive(self.state.process)


@dataclass(frozen=True)
class Listing:
    """The schedules of one file, in its order."""

    file: Path
    states: States
    schedules: Sequence[Listed]
    scheduler: bool  # whether one is at work on them

    def as_json(self) -> dict[str, Any]:
        """What `--json` prints."""
        return {
            "outcome": "listed",
            "scheduler": self.scheduler,
            "state": str(self.states.directory),
            "schedules": [_as_json(listed) for listed in self.schedules],
        }

    def as_text(self) -> str:
        """A table, and what to do where no scheduler is at work."""
        rows = [("SCHEDULE", "PIPELINE", "CRON", "NEXT", "LAST")]
        for listed in self.schedules:
            schedule = listed.schedule
            moments = ["paused"] if schedule.paused else [f"{moment:%a %Y-%m-%d %H:%M %Z}" for moment in listed.next]
            cron = (schedule.cron.text, schedule.cron.timezone, "if there is new data" if schedule.if_new_data else "")
            last = _last(listed)
            for line in range(max(len(moments), len(last), sum(map(bool, cron)))):
                cells = (_at(cron, line), _at(moments, line), _at(last, line))
                rows.append((schedule.name, schedule.pipeline, *cells) if line == 0 else ("", "", *cells))
        said = "" if self.scheduler else f"\nno scheduler is at work; start one with: pipeline schedule run {self.file}"
        return as_columns(rows) + said


def list_schedules(file: Path, states: States, now: datetime) -> Listing:
    """The schedules of a file at a moment. Raises ConfigError for a file with mistakes, StoreError for a state that is none."""
    found = []
    for schedule in read_schedules(file).values():
        state = states.read(schedule.name)
        after = max(now, state.decided) if state else now
        found.append(Listed(schedule, [] if schedule.paused else schedule.cron.next(after, _SHOWN), state))
    return Listing(file, states, found, states.is_held())


def _as_json(listed: Listed) -> dict[str, Any]:
    schedule, state = listed.schedule, listed.state
    return {
        "name": schedule.name,
        "pipeline": schedule.pipeline,
        "cron": schedule.cron.text,
        "timezone": schedule.cron.timezone,
        "if_new_data": schedule.if_new_data,
        "parameters": dict(schedule.parameters),
        "missed": schedule.missed,
        "grace_s": schedule.grace_s,
        "paused": schedule.paused,
        "next": [moment.isoformat() for moment in listed.next],
        "running_since": state.began.isoformat() if state and state.began and listed.runs else None,
        "unfinished": state.unfinished.isoformat() if state and state.unfinished and not listed.runs else None,
        "last": state.last.to_json() if state and state.last else None,
    }


def _last(listed: Listed) -> list[str]:
    """How the last run ended, after what goes on now or is not at its end."""
    state, zone = listed.state, ZoneInfo(listed.schedule.cron.timezone)
    if state is None:
        return ["never"]
    lines = []
    if listed.runs and state.began:
        lines.append(f"runs since {state.began.astimezone(zone):%Y-%m-%d %H:%M}")
    elif state.unfinished:
        lines.append(f"not at its end: that for {state.unfinished.astimezone(zone):%Y-%m-%d %H:%M}")
    if state.last:
        lines.append(f"{state.last.outcome} {state.last.ended.astimezone(zone):%Y-%m-%d %H:%M}")
        lines += [f"run {state.last.run}"] if state.last.run else []
        lines += [f"log {state.last.log}"] if state.last.log and state.last.outcome == "failed" else []
    return lines or ["never"]


def _is_alive(process: Any) -> bool:
    try:
        return Owner.from_json(process).is_alive()
    except (KeyError, TypeError, ValueError):
        return False


def _at(cells: Sequence[str], line: int) -> str:
    return cells[line] if line < len(cells) else ""
