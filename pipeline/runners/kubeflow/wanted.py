"""Schedule file -> the recurring runs that are to be: definitions compiled, and what Kubeflow cannot do refused."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from pipeline.cron import Cron
from pipeline.runners.kubeflow.package_file import PackageFile
from pipeline.runners.kubeflow.prepared import Prepared, Warn, prepared
from pipeline.runners.kubeflow.recurring import Spec
from pipeline.schedules.reading import Schedule, read_schedules
from schemas.config import KubeflowConfig
from schemas.errors import ConfigError

_UTC = {"UTC", "Etc/UTC", "UCT", "Etc/UCT", "Universal", "Etc/Universal", "Zulu", "Etc/Zulu", "GMT", "Etc/GMT"}

_TWICE = timedelta(hours=2)  # no clock is put back by more, so that the same hour comes twice


@dataclass(frozen=True)
class Wanted:
    """A schedule as it is to be in Kubeflow."""

    spec: Spec
    package: PackageFile
    cron: Cron
    paused: bool
    section: KubeflowConfig | None = None  # of its definition


@contextlib.contextmanager
def wanted_schedules(file: Path, controller_timezone: str, warn: Warn) -> Iterator[list[Wanted]]:
    """What the schedules in `file` are to be, in its order; their packages are there while the context lasts.

    `controller_timezone` is the one in which Kubeflow's controller counts. `warn` hears what Kubeflow does otherwise than the
    file says, and what the compiler warns of. Raises ConfigError with every problem.
    """
    schedules = read_schedules(file)
    problems = [
        f"{file}: schedules.{name}{problem}"
        for name, schedule in schedules.items()
        for problem in _impossible(schedule, controller_timezone)
    ]
    with contextlib.ExitStack() as packages:
        compiled: dict[str, Prepared | None] = {}  # None: it cannot be compiled
        wanted = []
        for name, schedule in schedules.items():
            place = f"{file}: schedules.{name}"
            try:
                if schedule.pipeline not in compiled:
                    compiled[schedule.pipeline] = None
                    compiled[schedule.pipeline] = packages.enter_context(prepared(schedule.pipeline, warn))
                if (ready := compiled[schedule.pipeline]) is not None:
                    wanted.append(_wanted(schedule, ready, place))
            except ConfigError as error:
                problems.extend(
                    problem if problem.startswith(place) else f"{place}: {problem}" for problem in error.problems
                )
            if schedule.missed == "skip":
                warn(
                    f"{place}.missed: skip is not to be had on Kubeflow: of the firings that were missed, it starts the latest"
                )
        if problems:
            raise ConfigError(*problems)
        yield wanted


def where_all_are(wanted: list[Wanted], given: Mapping[str, str | None]) -> KubeflowConfig | None:
    """A definition's section that says where Kubeflow is, and as whom, for all of them; `given` is what was said otherwise.

    Raises ConfigError when they do not agree.
    """
    sections = {each.spec.name: each.section for each in wanted if each.section is not None}
    problems = []
    for setting, other in given.items():
        said = {str(getattr(section, setting)): name for name, section in sections.items()}
        if other is None and len(said) > 1:
            these = " and ".join(f"{value} ({name})" for value, name in said.items())
            problems.append(f"the schedules' definitions name more than one {setting}: {these}. Give --{setting}")
    if problems:
        raise ConfigError(*problems)
    return next(iter(sections.values()), None)


def same_timezone(one: str, other: str) -> bool:
    """Whether two zones are one under perhaps two names, of which UTC has many."""
    return one == other or {one, other} <= _UTC


def next_firings(
    cron: Cron, after: datetime, count: int = 3, start: str | None = None, end: str | None = None
) -> list[datetime]:
    """The next `count` moments at which Kubeflow starts a run, fewer when `end` comes before; `start` and `end` are ISO in UTC.

    Kubeflow goes by what the clock shows: where summer time begins nothing fires in the hour that is left out, and where it
    ends what is in the hour that comes twice fires twice.
    """
    begin = max(after, datetime.fromisoformat(start)) if start else after
    last = datetime.fromisoformat(end) if end else None
    zone, on_the_wall = ZoneInfo(cron.timezone), Cron.parse(cron.text)
    wall = begin.astimezone(zone).replace(tzinfo=UTC) - _TWICE
    found: dict[datetime, None] = {}
    enough: datetime | None = None  # on the wall: from here on nothing comes before what was found
    while enough is None or wall < enough:
        (wall,) = on_the_wall.next(wall)
        for fold in (0, 1):
            moment = wall.replace(tzinfo=zone, fold=fold).astimezone(UTC)
            exists = moment.astimezone(zone).replace(tzinfo=UTC) == wall.replace(fold=0)
            if exists and moment > begin:
                found[moment] = None
        if enough is None and len(found) >= count:
            enough = wall + _TWICE
    moments = sorted(found)[:count]
    return [moment.astimezone(zone) for moment in moments if last is None or moment <= last]


def _impossible(schedule: Schedule, controller_timezone: str) -> Iterator[str]:
    """What Kubeflow's recurring runs cannot do, each from the setting on."""
    zone = schedule.cron.timezone
    if schedule.if_new_data:
        yield (
            ".if_new_data: a recurring run of Kubeflow starts at every firing and cannot ask first. Leave it out, since a run "
            "without anything new reuses every step and pushes nothing; or use the CronJob in kubeflow/trigger, which asks"
        )
    if not same_timezone(zone, controller_timezone):
        yield (
            f".timezone: {zone}, and Kubeflow's controller has one zone for all schedules, here {controller_timezone}. If "
            f"CRON_SCHEDULE_TIMEZONE of ml-pipeline-scheduledworkflow is {zone}, say so with --controller-timezone {zone}; else "
            f"write the schedule in {controller_timezone}"
        )
    start, end = (_moment(each, zone) for each in (schedule.kubeflow.start, schedule.kubeflow.end))
    if start and end and start >= end:
        yield f".kubeflow.end: {schedule.kubeflow.end} is not after start, {schedule.kubeflow.start}: nothing would ever fire"


def _wanted(schedule: Schedule, ready: Prepared, place: str) -> Wanted:
    section, own = ready.section, schedule.kubeflow
    start = _moment(own.start, schedule.cron.timezone)
    end = _moment(own.end, schedule.cron.timezone)
    spec = Spec(
        name=schedule.name,
        version=ready.package.version,
        cron=schedule.cron.six_fields(),
        timezone=schedule.cron.timezone,
        arguments=ready.package.checked(schedule.parameters, f"{place}.parameters"),
        concurrency=own.concurrency,
        catch_up=own.catch_up,
        experiment=own.experiment or (section.experiment if section else None) or ready.package.name,
        service_account=own.service_account or ready.service_account,
        # Kubeflow's first firing is after its start, never at it.
        start=(start - timedelta(seconds=1)).isoformat() if start else None,
        end=end.isoformat() if end else None,
    )
    return Wanted(spec, ready.package, schedule.cron, schedule.paused, section)


def _moment(written: str | None, timezone: str) -> datetime | None:
    """In UTC; without an offset it was written in `timezone`."""
    if written is None:
        return None
    moment = datetime.fromisoformat(written)
    return (moment if moment.tzinfo else moment.replace(tzinfo=ZoneInfo(timezone))).astimezone(UTC)
