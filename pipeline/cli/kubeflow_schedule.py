"""`pipeline kubeflow schedule`: a schedule file as recurring runs of Kubeflow Pipelines."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.answer import Answer, Json
from pipeline.cli.kubeflow_options import Endpoint, Namespace, warn

Name = Annotated[str, typer.Argument(metavar="NAME", help="A schedule's name.")]
ControllerTimezone = Annotated[
    str | None,
    typer.Option(
        "--controller-timezone",
        metavar="ZONE",
        help="In which Kubeflow's controller counts: its CRON_SCHEDULE_TIMEZONE, as that variable here. Else UTC.",
    ),
]

app = typer.Typer(
    name="schedule",
    help="Recurring runs of Kubeflow Pipelines, as a schedule file has them.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.command()
def apply(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A schedule file.")],
    prune: Annotated[bool, typer.Option("--prune", help="Delete those of this file that are no longer in it.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and change nothing.")] = False,
    scope: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Whose schedules these are, where several projects share a namespace; else FILE."
        ),
    ] = None,
    controller_timezone: ControllerTimezone = None,
    endpoint: Endpoint = None,
    namespace: Namespace = None,
    json: Json = False,
) -> Answer:
    """Make Kubeflow's schedules what FILE says: new ones created, changed ones replaced, the rest left alone."""
    from pipeline.cli.kubeflow_apply import apply_schedules

    said = apply_schedules(
        file,
        prune=prune,
        dry_run=dry_run,
        scope=scope,
        controller_timezone=controller_timezone,
        endpoint=endpoint,
        namespace=namespace,
        tell=(lambda _: None) if json else lambda text: print(text, flush=True),
        warn=warn,
    )
    return Answer(said.as_json(), said.summary)


@app.command(name="list")
def list_(
    controller_timezone: ControllerTimezone = None,
    endpoint: Endpoint = None,
    namespace: Namespace = None,
    json: Json = False,
) -> Answer:
    """List all recurring runs, and which of them are a schedule file's."""
    from pipeline.cli.kubeflow_schedules import list_schedules

    found = list_schedules(controller_timezone=controller_timezone, endpoint=endpoint, namespace=namespace, warn=warn)
    return Answer(found.as_json(), found.as_text())


@app.command()
def show(
    name: Name,
    endpoint: Endpoint = None,
    namespace: Namespace = None,
    json: Json = False,
) -> Answer:
    """Show a schedule: what it runs, when next, and how its last runs ended."""
    from pipeline.cli.kubeflow_schedules import show_schedule

    found = show_schedule(name, endpoint=endpoint, namespace=namespace, warn=warn)
    return Answer(found.as_json(), found.as_text())


@app.command()
def pause(name: Name, endpoint: Endpoint = None, namespace: Namespace = None, json: Json = False) -> Answer:
    """Let a schedule start no runs until `resume`, or until an `apply` of a file that does not say paused."""
    from pipeline.cli.kubeflow_schedules import pause_schedule

    said = pause_schedule(name, endpoint=endpoint, namespace=namespace, warn=warn)
    return Answer(said.as_json(), said.as_text())


@app.command()
def resume(name: Name, endpoint: Endpoint = None, namespace: Namespace = None, json: Json = False) -> Answer:
    """Let a schedule start runs again. Kubeflow makes up for the latest firing that was missed, at once."""
    from pipeline.cli.kubeflow_schedules import resume_schedule

    said = resume_schedule(name, endpoint=endpoint, namespace=namespace, warn=warn)
    return Answer(said.as_json(), said.as_text())


@app.command()
def delete(name: Name, endpoint: Endpoint = None, namespace: Namespace = None, json: Json = False) -> Answer:
    """Delete a schedule of ours. While a run of it goes on it is only turned off: Kubernetes would end that run."""
    from pipeline.cli.kubeflow_schedules import delete_schedule

    said = delete_schedule(name, endpoint=endpoint, namespace=namespace, warn=warn)
    return Answer(said.as_json(), said.as_text())
