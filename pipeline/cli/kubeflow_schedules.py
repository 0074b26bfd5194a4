"""`pipeline kubeflow schedule list`, `show`, `pause`, `resume` and `delete`: recurring runs that are there."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from pipeline.cli.firings import controller_zone, next_text
from pipeline.cli.runs import as_columns
from pipeline.cron import Cron
from pipeline.runners.kubeflow.api import Access, Api, NotThere, connect
from pipeline.runners.kubeflow.follow import outcome_of
from pipeline.runners.kubeflow.prepared import Warn
from pipeline.runners.kubeflow.recurring import Recurring, recurring_runs, retire
from pipeline.runners.kubeflow.wanted import next_firings
from schemas.errors import ConfigError, did_you_mean

_RUNS_SHOWN = 5


@dataclass(frozen=True)
class Listed:
    """All recurring runs of a namespace."""

    rows: tuple[Row, ...]

    def as_json(self) -> dict[str, Any]:
        """What `--json` prints."""
        return {"outcome": "done", "schedules": [row.as_json() for row in self.rows]}

    def as_text(self) -> str:
        """One line each."""
        if not self.rows:
            return "no schedules"
        head = ("NAME", "STATE", "CRON", "TIMEZONE", "NEXT, UTC", "OF")
        lines = [
            (
                row.found.name,
                row.state,
                row.cron,
                row.timezone,
                f"{row.next[0].astimezone(UTC):%Y-%m-%d %H:%M}" if row.next else "",
                row.whose or "not Penstock's",
            )
            for row in self.rows
        ]
        unfinished = any(row.state == "old" for row in self.rows)
        note = (
            "\n\nold: a newer one of the name counts; `apply` removes it once no run of it goes on"
            if unfinished
            else ""
        )
        return as_columns([head, *lines]) + note


@dataclass(frozen=True)
class Row:
    """A recurring run, and what can be said of it without asking more."""

    found: Recurring
    state: Literal["on", "paused", "old"]
    timezone: str
    next: tuple[datetime, ...]

    @property
    def whose(self) -> str | None:
        """The scope of ours."""
        return self.found.mark.scope if self.found.mark else None

    @property
    def cron(self) -> str:
        """Five fields where it is of six and fires once a minute at most; else as Kubeflow has it."""
        written = self.found.cron
        if written is None:
            periodic = (self.found.said.get("trigger") or {}).get("periodic_schedule") or {}
            return f"every {periodic.get('interval_second', '?')} s"
        return _five_fields(written) or f"{written} (seconds first)"

    def as_json(self) -> dict[str, Any]:
        """What `--json` prints."""
        return {
            "name": self.found.name,
            "recurring_run": self.found.id,
            "of": self.whose,
            "state": self.state,
            "kubeflow_cron": self.found.cron,
            "timezone": self.timezone,
            "next": [moment.isoformat() for moment in self.next],
        }


def list_schedules(
    *,
    controller_timezone: str | None = None,
    endpoint: str | None = None,
    namespace: str | None = None,
    warn: Warn = lambda _: None,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Listed:
    """All recurring runs of the namespace, by name, those of others among them. Raises KubeflowError."""
    timezone = controller_zone(controller_timezone)
    found = recurring_runs(connect(Access.found(endpoint, namespace), warn))
    rows = _rows(found, timezone, now())
    return Listed(tuple(sorted(rows, key=lambda row: (row.found.name, row.found.age))))


def _rows(found: Sequence[Recurring], timezone: str, now: datetime) -> list[Row]:
    newest = {(each.name, each.mark.scope): each.id for each in found if each.mark}  # they are oldest first
    rows = []
    for each in found:
        counts = each.mark is None or newest[each.name, each.mark.scope] == each.id
        state: Literal["on", "paused", "old"] = "old" if not counts else "on" if each.on else "paused"
        zone = each.mark.timezone if each.mark else timezone
        rows.append(Row(each, state, zone, tuple(_next_of(each, zone, now)) if each.on else ()))
    return rows


def _next_of(found: Recurring, timezone: str, now: datetime) -> list[datetime]:
    """When a recurring run fires next; nothing of an expression that only Kubeflow understands."""
    five = _five_fields(found.cron or "")
    if five is None:
        return []
    try:
        return next_firings(Cron.parse(five, timezone), now, start=found.start, end=found.end)
    except ConfigError:
        return []


def _five_fields(six: str) -> str | None:
    """Of Kubeflow's six fields those that a crontab has; None where it fires at other seconds than 0, or there are not six."""
    fields = six.split()
    return " ".join(fields[1:]) if len(fields) == 6 and fields[0] == "0" else None


@dataclass(frozen=True)
class Shown:
    """A schedule, and its last runs."""

    row: Row
    version: str | None
    runs: tuple[Mapping[str, Any], ...]  # newest first, as the API writes them
    old: tuple[Recurring, ...]

    def as_json(self) -> dict[str, Any]:
        """What `--json` prints."""
        found = self.row.found
        return {
            "outcome": "done",
            **self.row.as_json(),
            "version": self.version,
            "parameters": dict(found.arguments),
            "concurrency": found.concurrency,
            "catch_up": found.catch_up,
            "service_account": found.said.get("service_account"),
            "old": [old.id for old in self.old],
            "runs": [
                {
                    "run": run["run_id"],
                    "name": run.get("display_name"),
                    "outcome": outcome_of(run.get("state")),
                    "created_at": run.get("created_at"),
                    "finished_at": None if outcome_of(run.get("state")) == "running" else run.get("finished_at"),
                }
                for run in self.runs
            ],
        }

    def as_text(self) -> str:
        """What it runs, when next, and its last runs."""
        row, found = self.row, self.row.found
        parameters = ", ".join(f"{name}={value}" for name, value in found.arguments.items())
        said = {
            "of": row.whose or "not Penstock's",
            "state": row.state,
            "cron": f"{row.cron} {row.timezone}, in Kubeflow {found.cron}",
            "": next_text(row.next, row.timezone, paused=not found.on),
            "runs": self.version or "a package of its own",
            "parameters": parameters or "none",
            "at once": f"{found.concurrency} run{'s' if found.concurrency != 1 else ''}",
            "missed": "one run for each firing" if found.catch_up else "one run for the latest",
            "account": found.said.get("service_account") or "",
        }
        lines = [f"{found.name}  {found.id}", *(f"  {name:<10}  {value}" for name, value in said.items() if value)]
        lines += [f"  {'old':<10}  {old.id}, {'on' if old.on else 'off'}: `apply` removes it" for old in self.old]
        rows = [
            (str(run["run_id"]), str(run.get("created_at", ""))[:16].replace("T", " "), outcome_of(run.get("state")))
            for run in self.runs
        ]
        runs = as_columns([("RUN", "CREATED, UTC", "OUTCOME"), *rows]) if rows else "no runs yet"
        return "\n".join([*lines, "", runs])


def show_schedule(
    name: str,
    *,
    endpoint: str | None = None,
    namespace: str | None = None,
    warn: Warn = lambda _: None,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Shown:
    """A schedule of ours, or else somebody's recurring run of that name, with its newest runs.

    Raises ConfigError when there is none, and KubeflowError.
    """
    api = connect(Access.found(endpoint, namespace), warn)
    found = recurring_runs(api, name)
    if not found:
        raise _no_such(api, name)
    ours = [each for each in found if each.mark]
    *old, newest = ours or found[-1:]
    (row,) = _rows([newest], controller_zone(None), now())
    reference = newest.said.get("pipeline_version_reference") or {}
    version = None
    if reference:
        try:
            version = api.pipelines.version_name(
                reference.get("pipeline_id", ""), reference.get("pipeline_version_id", "")
            )
        except NotThere:
            version = f"{newest.version}, which was deleted: no run can start. `apply` puts another there"
    runs = tuple(itertools.islice(api.runs.of_recurring(newest.id), _RUNS_SHOWN))
    return Shown(row, version, runs, tuple(old))


@dataclass(frozen=True)
class Switched:
    """What was done to a schedule."""

    name: str
    outcome: Literal["paused", "resumed", "deleted", "turned off"]
    recurring: tuple[str, ...]
    note: str = ""
    waiting: tuple[str, ...] = ()  # ids of runs that go on

    def as_json(self) -> dict[str, Any]:
        """What `--json` prints."""
        return {
            "outcome": self.outcome,
            "name": self.name,
            "recurring_runs": list(self.recurring),
            "waiting_for_runs": list(self.waiting),
        }

    def as_text(self) -> str:
        """A line, and what to know."""
        return "\n".join([f"{self.name}  {self.outcome}", *([f"  {self.note}"] if self.note else ())])


def pause_schedule(
    name: str, *, endpoint: str | None = None, namespace: str | None = None, warn: Warn = lambda _: None
) -> Switched:
    """Turn a schedule of ours off; a run that goes on is left alone. Raises ConfigError when it is not ours, and KubeflowError."""
    api = connect(Access.found(endpoint, namespace), warn)
    found = _ours(api, name)
    for each in found:
        if each.on:
            api.recurring_runs.switch(each.id, on=False)
    return Switched(name, "paused", (found[-1].id,), "`apply` turns it on again, unless its file says paused: true")


def resume_schedule(
    name: str, *, endpoint: str | None = None, namespace: str | None = None, warn: Warn = lambda _: None
) -> Switched:
    """Turn a schedule of ours on. Raises ConfigError when it is not ours, and KubeflowError."""
    api = connect(Access.found(endpoint, namespace), warn)
    newest = _ours(api, name)[-1]
    if not newest.on:
        api.recurring_runs.switch(newest.id, on=True)
    missed = "all firings that were" if newest.catch_up else "the latest firing, if one was"
    return Switched(name, "resumed", (newest.id,), f"Kubeflow makes up for {missed} missed while it was off, at once")


def delete_schedule(
    name: str, *, endpoint: str | None = None, namespace: str | None = None, warn: Warn = lambda _: None
) -> Switched:
    """Remove a schedule of ours, all that an unfinished `apply` has left of it included; while a run goes on it is turned off.

    Raises ConfigError when it is not ours, and KubeflowError.
    """
    api = connect(Access.found(endpoint, namespace), warn)
    found = _ours(api, name)
    kept = retire(api, found)
    ids = tuple(each.id for each in found)
    if kept:
        runs = tuple(kept.values())
        note = f"it stays until its run {', '.join(runs)} has ended, which Kubernetes would end with it: delete it again then"
        return Switched(name, "turned off", ids, note, runs)
    return Switched(name, "deleted", ids)


def _ours(api: Api, name: str) -> list[Recurring]:
    """Those of this name that are ours, oldest first: at least one."""
    found = recurring_runs(api, name)
    ours = [each for each in found if each.mark]
    if ours:
        return ours
    if found:
        raise ConfigError(
            f"'{name}' is a recurring run that Penstock did not make ({found[-1].id}), and which is left alone: change it in "
            "Kubeflow's UI"
        )
    raise _no_such(api, name)


def _no_such(api: Api, name: str) -> ConfigError:
    names = sorted({each.name for each in recurring_runs(api)})
    hint = did_you_mean(name, names) or f" There are: {', '.join(names[:20]) or 'none'}"
    return ConfigError(f"{api.endpoint}: there is no schedule '{name}'.{hint}")
