"""`pipeline kubeflow schedule apply`: Kubeflow's recurring runs are made what a schedule file says."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipeline.cli.firings import controller_zone, next_text
from pipeline.runners.kubeflow.api import Access, connect
from pipeline.runners.kubeflow.prepared import Warn
from pipeline.runners.kubeflow.recurring import LONGEST_SCOPE
from pipeline.runners.kubeflow.schedules import Action, Applied, Change, apply_changes, plan_changes
from pipeline.runners.kubeflow.wanted import next_firings, wanted_schedules, where_all_are
from schemas.errors import ConfigError

_DONE: Mapping[Action, str] = {
    "create": "created",
    "replace": "replaced",
    "resume": "resumed",
    "pause": "paused",
    "clean up": "cleaned up",
    "delete": "deleted",
    "unchanged": "unchanged",
}


@dataclass(frozen=True)
class AppliedFile:
    """What was done for a schedule file, or would be."""

    scope: str
    endpoint: str
    applied: tuple[Applied, ...]
    dry_run: bool
    now: datetime

    def as_json(self) -> dict[str, Any]:
        """What `--json` prints."""
        return {
            "outcome": "planned" if self.dry_run else "applied",
            "scope": self.scope,
            "endpoint": self.endpoint,
            "schedules": [_as_json(each, self.now) for each in self.applied],
        }

    @property
    def summary(self) -> str:
        """One line for all of them."""
        words = Counter(
            f"to {each.change.action}"
            if self.dry_run and not each.change.changes_nothing
            else _DONE[each.change.action]
            for each in self.applied
        )
        counted = ", ".join(f"{count} {word}" for word, count in words.items()) or "nothing to do"
        return f"{self.scope} at {self.endpoint}: {counted}{'; nothing was changed' if self.dry_run else ''}"


def apply_schedules(
    file: Path,
    *,
    prune: bool = False,
    dry_run: bool = False,
    scope: str | None = None,
    controller_timezone: str | None = None,
    endpoint: str | None = None,
    namespace: str | None = None,
    tell: Callable[[str], None] = lambda _: None,
    warn: Warn = lambda _: None,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> AppliedFile:
    """Make Kubeflow's recurring runs what the schedule file says; `tell` hears of each schedule when it is done.

    `scope` tells the file's recurring runs from those of other files; by default it is the file's path from the working
    directory. May be repeated at any time, and after a failure has to be: it goes on from there.

    Raises ConfigError with every problem of the file and for names that are taken, and KubeflowError.
    """
    scope = _scope(file, scope)
    given = Access.found(endpoint, namespace)
    with wanted_schedules(file, controller_zone(controller_timezone), warn) as wanted:
        section = where_all_are(wanted, {"endpoint": given.endpoint, "namespace": given.namespace})
        api = connect(Access.found(endpoint, namespace, section=section), warn)
        changes = plan_changes(api, wanted, scope, prune=prune)
        moment, applied = now(), []

        def done(each: Applied) -> None:
            applied.append(each)
            tell(_as_text(each, moment, dry_run=dry_run))

        if dry_run:
            for change in changes:
                done(Applied(change, change.keep.id if change.keep else None, change.waiting))
        else:
            apply_changes(api, changes, scope, done)
    return AppliedFile(scope, api.endpoint, tuple(applied), dry_run, moment)


def _scope(file: Path, scope: str | None) -> str:
    if scope is None:
        scope = Path(os.path.relpath(file)).as_posix()
    if not scope.strip() or len(scope) > LONGEST_SCOPE or "\n" in scope:
        raise ConfigError(
            f"--scope {scope}: give a name of at most {LONGEST_SCOPE} characters for what is in {file.name}"
        )
    return scope


def _as_json(applied: Applied, now: datetime) -> dict[str, Any]:
    change = applied.change
    spec = change.wanted.spec if change.wanted else None
    return {
        "name": change.name,
        "action": change.action,
        "because": list(change.because),
        "recurring_run": applied.recurring,
        "old": [old.id for old in change.old],
        "waiting_for_runs": list(applied.waiting),
        **(
            {}
            if spec is None or change.wanted is None
            else {
                "paused": change.wanted.paused,
                "pipeline": change.wanted.package.name,
                "version": spec.version,
                "cron": change.wanted.cron.text,
                "kubeflow_cron": spec.cron,
                "timezone": spec.timezone,
                "parameters": dict(spec.arguments),
                "experiment": spec.experiment,
                "next": [moment.isoformat() for moment in _next(change, now)],
            }
        ),
    }


def _next(change: Change, now: datetime) -> list[datetime]:
    if change.wanted is None or change.wanted.paused:
        return []
    spec = change.wanted.spec
    return next_firings(change.wanted.cron, now, start=spec.start, end=spec.end)


def _as_text(applied: Applied, now: datetime, *, dry_run: bool) -> str:
    change, wanted = applied.change, applied.change.wanted
    word = change.action if dry_run else _DONE[change.action]
    if change.action == "delete" and applied.waiting and not dry_run:
        word = "turned off"
    lines = [f"{change.name}  {word}{': ' if change.because else ''}{'; '.join(change.because)}"]
    if wanted:
        lines.append(
            f"  {wanted.cron.text} {wanted.spec.timezone}, in Kubeflow {wanted.spec.cron}: {wanted.spec.version}"
        )
        lines.append(f"  {next_text(_next(change, now), wanted.spec.timezone, paused=wanted.paused)}")
    lines += [f"  {_waiting_text(run)}" for run in applied.waiting]
    return "\n".join(lines)


def _waiting_text(run: str) -> str:
    return f"the old one stays, turned off, until its run {run} has ended: then `apply` or `delete` removes it"
