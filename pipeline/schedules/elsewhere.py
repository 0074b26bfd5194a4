"""Schedules -> a crontab, or systemd's units: for those who have a scheduler already."""

from __future__ import annotations

import re
import shlex
import sys
import sysconfig
from collections.abc import Iterable, Mapping
from pathlib import Path

from pipeline import disk
from pipeline.schedules.launch import trigger_arguments
from pipeline.schedules.reading import Schedule, read_schedules
from schemas.errors import ConfigError, did_you_mean

_PLAIN = re.compile(r"[A-Za-z0-9_@:,./=+-]+")


def print_schedules(file: Path, form: str, directory: Path, output: Path | None) -> tuple[str, dict[str, str]]:
    """What to print, and each file by name: one crontab, or the units, which are written when there is an `output`.

    `form` is cron or systemd; the runs work in `directory`. Raises ConfigError for another form, a file with mistakes, and
    what the form cannot hold.
    """
    if form not in ("cron", "systemd"):
        raise ConfigError(f"--as {form}: there is cron and systemd.{did_you_mean(form, ('cron', 'systemd'))}")
    if output is not None and form == "cron":
        raise ConfigError("-o: a crontab is one file; write it with > crontab.txt")
    schedules = read_schedules(file)
    if form == "cron":
        text = crontab(schedules, file, directory)
        return text, {"crontab": text}
    found = units(schedules, file, directory)
    if output is None:
        return units_text(found, schedules.values()), found
    with disk.writing(output):
        output.mkdir(parents=True, exist_ok=True)
        for name, text in found.items():
            (output / name).write_text(text, encoding="utf-8")
    return "\n".join(str(output / name) for name in found), found


def crontab(schedules: Mapping[str, Schedule], file: Path, directory: Path) -> str:
    """Lines for a crontab that run each schedule in `directory`. Raises ConfigError for what a crontab cannot hold."""
    problems: list[str] = []
    lines = [
        f"# The schedules of {file}. `crontab -e` is where these lines go, after those that are there.",
        "# CRON_TZ is the time zone of the lines after it. cronie (Fedora, Red Hat, SUSE, Arch) knows it; Debian's, Ubuntu's and",
        "# BusyBox's cron do not, and take the times for those of the machine's own zone.",
        "# What is missed while the machine is off, nobody makes up for.",
    ]
    zone = None
    for schedule in schedules.values():
        if schedule.cron.timezone != zone:
            zone = schedule.cron.timezone
            lines += ["", f"CRON_TZ={zone}"]
        command = (
            f"cd {shlex.quote(str(directory))} && {shlex.join([*pipeline_command(), *trigger_arguments(schedule)])}"
        )
        if "\\" in command or "\n" in command:
            problems.append(
                f"{schedule.name}: a crontab cannot hold a backslash, a quotation mark inside a text, or a line break. "
                "Put the parameter into the definition, or use --as systemd"
            )
        escaped = command.replace("%", r"\%")  # a plain one would end the command, and begin what it reads
        lines += [f"# {schedule.name}{', paused' if schedule.paused else ''}"]
        lines += [f"{'#' if schedule.paused else ''}{schedule.cron.five_fields()} {escaped}"]
    if problems:
        raise ConfigError(*problems)
    return "\n".join(lines)


def units(schedules: Mapping[str, Schedule], file: Path, directory: Path) -> dict[str, str]:
    """systemd's units, by file name: a service and a timer for each schedule that is not paused, run in `directory`."""
    found = {}
    for schedule in schedules.values():
        if schedule.paused:
            continue
        name = f"penstock-{schedule.name}"
        found[f"{name}.service"] = _service(schedule, file, directory)
        found[f"{name}.timer"] = _timer(schedule, file)
    return found


def units_text(found: Mapping[str, str], schedules: Iterable[Schedule]) -> str:
    """All units after one another, each with its file's name, and how they are put in place."""
    timers = " ".join(name for name in found if name.endswith(".timer"))
    paused = [schedule.name for schedule in schedules if schedule.paused]
    lines = [
        "# `-o DIR` writes these files: into ~/.config/systemd/user for timers of your own, which run while you are logged in",
        "# (always after `loginctl enable-linger`), or into /etc/systemd/system, with User= in each service. Then:",
        f"#   systemctl --user daemon-reload && systemctl --user enable --now {timers}",
        "# without --user for the system's. What fires while its own run goes on is left out. An hour that summer time leaves out",
        "# is left out, and in one that comes twice each time fires once.",
        *(f"# {name} is paused: it has no units" for name in paused),
    ]
    for name, text in found.items():
        lines += ["", f"# {name}", text.rstrip("\n")]
    return "\n".join(lines)


def pipeline_command() -> list[str]:
    """How the `pipeline` of this installation is called from anywhere."""
    script = Path(sysconfig.get_path("scripts")) / "pipeline"
    return [str(script)] if script.is_file() else [sys.executable, "-P", "-m", "pipeline.cli.main"]


def _service(schedule: Schedule, file: Path, directory: Path) -> str:
    command = " ".join(_quoted(word) for word in [*pipeline_command(), *trigger_arguments(schedule)])
    return f"""[Unit]
Description=Penstock: {schedule.name} of {_specifiers(str(file))}

[Service]
Type=oneshot
WorkingDirectory={_specifiers(str(directory))}
ExecStart={command}
# A gate that refuses is an outcome, no failure.
SuccessExitStatus=3
# The run alone is asked to stop; it stops its steps.
KillMode=mixed
"""


def _timer(schedule: Schedule, file: Path) -> str:
    calendars = "\n".join(f"OnCalendar={calendar}" for calendar in schedule.cron.on_calendar())
    persistent = "true" if schedule.missed == "once" else "false"
    return f"""[Unit]
Description=Penstock: when {schedule.name} of {_specifiers(str(file))} runs

[Timer]
# {schedule.cron.text} ({schedule.cron.timezone})
{calendars}
# Whether one run makes up for what was missed while the machine was off.
Persistent={persistent}
AccuracySec=1s

[Install]
WantedBy=timers.target
"""


def _quoted(word: str) -> str:
    """A word as systemd reads it in ExecStart=."""
    escaped = _specifiers(word).replace("$", "$$")
    if _PLAIN.fullmatch(word):
        return escaped
    escaped = escaped.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def _specifiers(text: str) -> str:
    return text.replace("%", "%%")
