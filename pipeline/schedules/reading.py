"""A schedule file -> Schedules: every mistake at once, each with its line, what was found and a suggestion."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.config import KeyPath, Source, check_shape, read_yaml
from pipeline.cron import Cron, check_timezone
from schemas.component import JsonScalar
from schemas.errors import ConfigError, did_you_mean
from schemas.quantities import parse_duration
from schemas.schedule import KubeflowScheduleConfig, Missed, ScheduleConfig, ScheduleFile


@dataclass(frozen=True)
class Schedule:
    """When one definition runs, and what is given to it. The time zone is the cron expression's."""

    name: str
    pipeline: str  # a file, from the working directory; or module:object
    cron: Cron
    if_new_data: bool
    parameters: Mapping[str, JsonScalar]
    missed: Missed
    grace_s: int
    paused: bool
    kubeflow: KubeflowScheduleConfig

    def overrides(self) -> list[str]:
        """The parameters as `--set` takes them."""
        return [f"parameters.{name}={_as_yaml(value)}" for name, value in self.parameters.items()]


def read_schedules(file: Path) -> dict[str, Schedule]:
    """The schedules in `file` by name, in its order.

    Of a definition only the file and its parameters are looked at: no component is loaded. Raises ConfigError with every
    problem.
    """
    raw, lines = read_yaml(file, "a mapping with schedules", _schedule_files_near)
    source = Source(str(file), lines)
    problems: list[str] = []
    config = check_shape(ScheduleFile, raw, source.at, problems)
    if config is None:
        raise ConfigError(*problems)
    schedules = {}
    timezone = _timezone(config.timezone, ("timezone",), source, problems)
    for name, written in config.schedules.items():
        at = ("schedules", name)
        _check_definition(written, at, source, problems)
        own = _timezone(written.timezone, (*at, "timezone"), source, problems) if written.timezone else timezone
        try:
            cron = Cron.parse(written.cron, own)
        except ConfigError as error:
            problems.extend(f"{source.at((*at, 'cron'))}: {problem}" for problem in error.problems)
        else:
            schedules[name] = _schedule(name, written, cron)
    if problems:
        raise ConfigError(*problems)
    return schedules


def _timezone(name: str, at: KeyPath, source: Source, problems: list[str]) -> str:
    try:
        return check_timezone(name)
    except ConfigError as error:
        problems.append(f"{source.at(at)}: {error}")
        return "UTC"  # what else is wrong can be found in any


def _schedule(name: str, written: ScheduleConfig, cron: Cron) -> Schedule:
    return Schedule(
        name=name,
        pipeline=written.pipeline,
        cron=cron,
        if_new_data=written.if_new_data,
        parameters=written.parameters,
        missed=written.missed,
        grace_s=parse_duration(written.grace),
        paused=written.paused,
        kubeflow=written.kubeflow,
    )


def _check_definition(written: ScheduleConfig, at: KeyPath, source: Source, problems: list[str]) -> None:
    if ":" in written.pipeline and not written.pipeline.endswith((".yaml", ".yml")):
        return  # one in Python: to look at it, the user's modules would have to be imported
    place = source.at((*at, "pipeline"))
    file = Path(written.pipeline)
    if not file.is_file():
        beside = Path(source.file).parent / file
        hint = f" Paths are from the working directory: write {beside}?" if beside.is_file() else ""
        problems.append(f"{place}: {file}: there is no such file in {Path.cwd()}.{hint}")
        return
    try:
        raw, _ = read_yaml(file, "a mapping with name and steps")
    except ConfigError as error:
        problems.extend(f"{place}: {problem}" for problem in error.problems)
        return
    declared: Any = raw.get("parameters")
    known = declared if isinstance(declared, dict) else {}
    for name, value in written.parameters.items():
        here = source.at((*at, "parameters", name))
        if name not in known:
            hint = did_you_mean(name, known) or f" It has: {', '.join(known) or 'none'}"
            problems.append(f"{here}: {file} has no parameter '{name}'.{hint}")
        elif not _fits(known[name], value):
            problems.append(
                f"{here}: {value!r} is of type {type(value).__name__}, and parameter '{name}' of {file} "
                f"of type {type(known[name]).__name__} (default {known[name]!r})"
            )


def _fits(declared: Any, value: Any) -> bool:
    same = declared is None or value is None or type(value) is type(declared)
    return same or (isinstance(declared, float) and type(value) is int)


def _as_yaml(value: JsonScalar) -> str:
    if isinstance(value, float) and not math.isfinite(value):
        return ".nan" if math.isnan(value) else ".inf" if value > 0 else "-.inf"
    return json.dumps(value, ensure_ascii=False)  # YAML reads it alike


def _schedule_files_near() -> str:
    near = sorted(
        {str(path) for pattern in ("*schedule*.yaml", "configs/**/*schedule*.yaml") for path in Path().glob(pattern)}
    )
    return f". Schedules here: {', '.join(near)}" if near else ""
