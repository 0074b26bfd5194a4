"""Schedules -> recurring runs: what has to change in Kubeflow for them to be as they are written, and the changing.

The newest recurring run of a name is the one that counts. A new one is there, and fires, before the old one is turned off: a process
that is killed in between leaves two for a while, which do the same work once, and never none. An old one of which a run goes on is
turned off and stays, since Kubernetes would end that run with it; a later `apply` removes it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from pipeline.runners.kubeflow.api import Api
from pipeline.runners.kubeflow.recurring import Mark, Recurring, Spec, goes_on, recurring_runs, retire
from pipeline.runners.kubeflow.submit import have_experiment, upload
from pipeline.runners.kubeflow.wanted import Wanted
from schemas.errors import ConfigError, KubeflowError

Action = Literal["create", "replace", "resume", "pause", "clean up", "unchanged", "delete"]


@dataclass(frozen=True)
class Change:
    """What is to be done for one name."""

    name: str
    action: Action
    wanted: Wanted | None = None  # None: it is to go
    keep: Recurring | None = None  # that is as it is to be
    old: tuple[Recurring, ...] = ()  # that are to go
    because: tuple[str, ...] = ()  # what is other than it was
    waiting: tuple[str, ...] = ()  # ids of runs that go on, of old ones, which therefore stay for now

    @property
    def changes_nothing(self) -> bool:
        """Whether Kubeflow is as it is to be."""
        return self.action == "unchanged"


@dataclass(frozen=True)
class Applied:
    """What was done."""

    change: Change
    recurring: str | None  # the id of the one that counts now
    waiting: tuple[str, ...] = ()  # ids of runs that go on, of old ones that are off and stay until those have ended


def plan_changes(api: Api, wanted: Sequence[Wanted], scope: str, *, prune: bool) -> list[Change]:
    """What `apply_changes` would do, in order; reads and changes nothing. With `prune`, those of `scope` that are not wanted go.

    Raises ConfigError when a name is taken by a recurring run of somebody else's, and KubeflowError.
    """
    found = recurring_runs(api)
    names = {each.spec.name for each in wanted}
    taken = [_taken(each, scope) for each in found if each.name in names and not _is_ours(each, scope)]
    if taken:
        raise ConfigError(*dict.fromkeys(taken))
    ours = [each for each in found if _is_ours(each, scope)]
    changes = [_change(api, each, [old for old in ours if old.name == each.spec.name]) for each in wanted]
    for name in sorted({each.name for each in ours} - names) if prune else ():
        old = tuple(each for each in ours if each.name == name)
        changes.append(Change(name, "delete", old=old, waiting=_waiting(api, old)))
    return changes


def apply_changes(api: Api, changes: Iterable[Change], scope: str, tell: Callable[[Applied], None]) -> None:
    """Make the changes; `tell` hears of each when it is done. Killed or failed at any moment, it may be done again.

    Raises KubeflowError, which says what is done and what is not.
    """
    done: list[str] = []
    for change in changes:
        try:
            applied = _apply(api, change, scope)
        except KubeflowError as error:
            ready = f"Done: {', '.join(done)}. " if done else ""
            raise type(error)(
                f"{error}. {ready}'{change.name}' may be half done: repeat the command, which goes on from there"
            ) from error
        done.append(change.name)
        tell(applied)


def _change(api: Api, wanted: Wanted, ours: Sequence[Recurring]) -> Change:
    """`ours` are those of its name and scope, oldest first."""
    name = wanted.spec.name
    if not ours:
        return Change(name, "create", wanted)
    *old, newest = ours
    because = _differences(api, wanted, newest)
    if because:
        return Change(name, "replace", wanted, old=tuple(ours), because=because, waiting=_waiting(api, ours))
    waiting = _waiting(api, old)
    action: Action = "unchanged"
    if newest.on == wanted.paused:
        action = "pause" if wanted.paused else "resume"
    elif any(each.on for each in old) or len(waiting) < len(old):
        action = "clean up"
    return Change(name, action, wanted, newest, tuple(old), waiting=waiting)


def _differences(api: Api, wanted: Wanted, found: Recurring) -> tuple[str, ...]:
    """What of a recurring run of ours is not as it is to be, in words; nothing of one that is."""
    spec = wanted.spec
    pipeline = api.pipelines.find(wanted.package.name)
    version = api.pipelines.find_version(pipeline, spec.version) if pipeline else None
    other = []
    if version is None or found.version != version:
        other.append("another package")
    if found.experiment != api.experiments.find(spec.experiment):
        other.append(f"experiment '{spec.experiment}'")
    if found.mark is not None and found.mark.digest != spec.digest:
        other += _settings(spec, found)
        return tuple(other) or ("another service account or time",)  # Kubeflow has defaults for these
    return tuple(other)


def _settings(spec: Spec, found: Recurring) -> list[str]:
    """Those that can be compared with what Kubeflow says of them."""
    zone = found.mark.timezone if found.mark else ""
    given = ", ".join(f"{name}={value}" for name, value in spec.arguments.items()) or "none"
    other = {
        f"cron {spec.cron.partition(' ')[2]} {spec.timezone}": (found.cron, zone) != (spec.cron, spec.timezone),
        f"parameters {given}": dict(found.arguments) != dict(spec.arguments),
        f"concurrency {spec.concurrency}": found.concurrency != spec.concurrency,
        f"catch_up {str(spec.catch_up).lower()}": found.catch_up != spec.catch_up,
    }
    return [what for what, is_other in other.items() if is_other]


def _waiting(api: Api, old: Iterable[Recurring]) -> tuple[str, ...]:
    return tuple(run for each in old if (run := goes_on(api, each)))


def _apply(api: Api, change: Change, scope: str) -> Applied:
    old, kept = list(change.old), change.keep.id if change.keep else None
    if change.wanted and change.action in ("create", "replace"):
        made = _create(api, change.wanted, scope)
        # Somebody else may have done the same meanwhile. All see the newest as the one that counts, whoever comes last.
        known = {each.id for each in old}
        late = [each for each in recurring_runs(api, change.name) if each.id not in known and _is_ours(each, scope)]
        kept = late[-1].id if late else made
        old += late[:-1]
    elif change.keep and change.action in ("pause", "resume"):
        api.recurring_runs.switch(change.keep.id, on=change.action == "resume")
    return Applied(change, kept, tuple(retire(api, old).values()))


def _create(api: Api, wanted: Wanted, scope: str) -> str:
    spec = wanted.spec
    uploaded = upload(api, wanted.package)
    return api.recurring_runs.create(
        spec.name,
        description=Mark(spec.digest, scope, spec.timezone).as_text(),
        pipeline=uploaded.pipeline,
        version=uploaded.version,
        experiment=have_experiment(api, spec.experiment),
        arguments=spec.arguments,
        service_account=spec.service_account,
        cron=spec.cron,
        concurrency=spec.concurrency,
        catch_up=spec.catch_up,
        start=spec.start,
        end=spec.end,
        enabled=not wanted.paused,
    )


def _is_ours(found: Recurring, scope: str) -> bool:
    return found.mark is not None and found.mark.scope == scope


def _taken(found: Recurring, scope: str) -> str:
    if found.mark:
        return (
            f"'{found.name}' is a schedule of {found.mark.scope}, not of {scope}: choose another name, or give "
            f"--scope {found.mark.scope} if that is the same file under its old name"
        )
    return (
        f"'{found.name}' is the name of a recurring run that Penstock did not make ({found.id}), and which is left alone: "
        "choose another name for the schedule, or delete that one in Kubeflow's UI"
    )
