"""`pipeline schedule`: definitions that run by the clock, on this machine."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.answer import Answer, Json

File = Annotated[Path, typer.Argument(metavar="FILE", help="A schedule file: which definition runs when.")]
StateDirectory = Annotated[
    Path | None,
    typer.Option(
        "--state", metavar="DIR", help="Where it is kept what ran; else .penstock/schedules/, named for FILE."
    ),
]

app = typer.Typer(
    name="schedule",
    help="Run definitions by the clock, on this machine.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.command()
def run(
    file: File,
    state: StateDirectory = None,
    stop_within: Annotated[
        str, typer.Option(metavar="TIME", help="How long runs may take to stop on SIGTERM or Ctrl-C, as 30s or 2m.")
    ] = "30s",
    json: Json = False,
) -> Answer:
    """Run each schedule's definition when its time comes, until SIGTERM or Ctrl-C."""
    from pipeline.interrupts import stopping
    from pipeline.log import Unbreakable
    from pipeline.schedules.clock import SystemClock
    from pipeline.schedules.launch import ProcessLauncher
    from pipeline.schedules.scheduler import Scheduler
    from pipeline.schedules.state import States
    from schemas.errors import Interrupted
    from schemas.quantities import parse_duration

    states = States(state) if state else States.of(file)
    out = Unbreakable(sys.stdout)  # nobody reads it any more: no reason to end
    scheduler = Scheduler(
        file,
        states=states,
        clock=SystemClock(),
        launcher=ProcessLauncher(),
        tell=lambda line: print(line, file=out, flush=True),
        stop_s=parse_duration(stop_within),
    )
    with states.held(file), stopping(scheduler.stop) as asked:
        scheduler.run()
    if asked.signal in (signal.SIGINT, signal.SIGHUP):  # a person at a terminal, and not a service's ordinary end
        return Answer({"outcome": "interrupted"}, None, Interrupted.exit_code)
    return Answer({"outcome": "stopped"})


@app.command("list")
def list_(file: File, state: StateDirectory = None, json: Json = False) -> Answer:
    """Say when each schedule fires next, and what its last run came to."""
    from datetime import UTC, datetime

    from pipeline.schedules.listing import list_schedules
    from pipeline.schedules.state import States

    states = States(state) if state else States.of(file)
    listing = list_schedules(file, states, datetime.now(UTC))
    return Answer(listing.as_json(), listing.as_text())


@app.command("print")
def print_(
    file: File,
    form: Annotated[str, typer.Option("--as", metavar="FORM", help="cron or systemd.")],
    directory: Annotated[
        Path, typer.Option("--directory", metavar="DIR", help="Where the runs work: paths in FILE are from there.")
    ] = Path(),
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="DIR", help="Write systemd's units there.")
    ] = None,
    json: Json = False,
) -> Answer:
    """Print the schedules as a crontab, or as systemd's units: for those who prefer these."""
    from pipeline.schedules.elsewhere import print_schedules

    text, files = print_schedules(file, form, directory.absolute(), output)
    return Answer({"outcome": "printed", "files": files}, text)
