"""The `pipeline` command: one verb per file, each imported when it is called for."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli import kubeflow, schedule
from pipeline.cli.answer import Answer, Fast, Json, Target, overridden
from pipeline.cli.ending import answer_of, say, stdout_kept_for_the_answer
from pipeline.interrupts import like_ctrl_c
from schemas.errors import ConfigError
from schemas.location import parse

app = typer.Typer(
    name="pipeline",
    help="Machine-learning pipelines from files to a served model. Runs what is new, reuses the rest, says why.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.add_typer(kubeflow.app)
app.add_typer(schedule.app)

SERVING = "A serving directory, or s3://bucket/models/taxi, or one version of it."

Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="A.B=VALUE", help="Replace one value: parameters.steps=20, or trainer.steps=20."),
]
Root = Annotated[
    str | None, typer.Option("--root", metavar="DIR", help="Where artifacts are, instead of the definition's root.")
]
LedgerUrl = Annotated[
    str | None,
    typer.Option(
        "--ledger",
        metavar="URL",
        help="The ledger: a database's URL, or none for the store alone. Else PENSTOCK_LEDGER, else the definition's.",
    ),
]
LedgerOfRoot = Annotated[
    str | None,
    typer.Option(
        "--ledger",
        metavar="URL",
        help="The ledger when it is not in the root: a database's URL, or none for the store alone. Else PENSTOCK_LEDGER.",
    ),
]
To = Annotated[str | None, typer.Option("--to", metavar="STEP", help="Only this step and what it needs.")]
Force = Annotated[
    list[str] | None,
    typer.Option("--force", metavar="STEP", help="Run this step whatever is in the store; may be repeated."),
]
BlessAnyway = Annotated[
    str | None,
    typer.Option(metavar="REASON", help="Bless the model whatever the gates say; who, when and why is recorded."),
]


@app.callback()
def pipeline(
    version: Annotated[
        bool,
        typer.Option(
            "--version", is_eager=True, callback=lambda asked: _version(asked), help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """Machine-learning pipelines from files to a served model. Runs what is new, reuses the rest, says why."""


@app.command()
def run(
    config: Target,
    overrides: Overrides = None,
    fast: Fast = False,
    to: To = None,
    force: Force = None,
    root: Root = None,
    ledger: LedgerUrl = None,
    bless_anyway: BlessAnyway = None,
    json: Json = False,
) -> Answer:
    """Run what is new, reuse the rest. Exit code 3: a gate refused."""
    from pipeline import log
    from pipeline.cli.run import run_pipeline

    with log.SilentDisplay() if json else log.display() as display:
        result = run_pipeline(
            config,
            overrides=overridden(overrides, fast),
            to=to,
            force=force or (),
            root=root,
            ledger=ledger,
            bless_anyway=bless_anyway,
            listener=display,
        )
    return Answer(result.as_json(), None, result.exit_code)


@app.command()
def trigger(
    config: Target,
    if_new_data: Annotated[
        bool,
        typer.Option("--if-new-data", help="Only when the input has what the served model was not trained on."),
    ] = False,
    overrides: Overrides = None,
    fast: Fast = False,
    root: Root = None,
    ledger: LedgerUrl = None,
    attempts: Annotated[
        int, typer.Option(min=1, help="How often the same is tried that fails; an interrupted run does not count.")
    ] = 3,
    settle: Annotated[
        float,
        typer.Option(min=0, metavar="SECONDS", help="Wait until no input file was written to for so long."),
    ] = 0.0,
    on_kubeflow: Annotated[
        bool, typer.Option("--kubeflow", help="Start the run on Kubeflow, if none is of the same data.")
    ] = False,
    json: Json = False,
) -> Answer:
    """Run, unless another trigger does: on new data alone with --if-new-data, which may be called every minute."""
    from pipeline import log
    from pipeline.cli.trigger import trigger_pipeline
    from pipeline.new_data import unsettled

    with log.SilentDisplay() if json else log.display() as display:
        result = trigger_pipeline(
            config,
            if_new_data=if_new_data,
            overrides=overridden(overrides, fast),
            root=root,
            ledger=ledger,
            attempts=attempts,
            still_written=lambda graph: unsettled(graph, settle),
            kubeflow=on_kubeflow,
            listener=display,
        )
    return Answer(result.as_json(), result.as_text(), result.exit_code)


@app.command()
def backfill(
    config: Target,
    spans: Annotated[str, typer.Option(metavar="SPANS", help="As 30..37, or 30,32,35..37, or 2026-07-01..2026-07-31.")],
    only: Annotated[
        list[str] | None,
        typer.Option("--step", metavar="STEP", help="Whose spans they are; else every step's whose source has some."),
    ] = None,
    to: To = None,
    again: Annotated[bool, typer.Option("--again", help="Run spans that an earlier call has done, too.")] = False,
    keep_going: Annotated[bool, typer.Option("--keep-going", help="Go on after a span that fails.")] = False,
    overrides: Overrides = None,
    fast: Fast = False,
    root: Root = None,
    ledger: LedgerUrl = None,
    json: Json = False,
) -> Answer:
    """Run for each of some spans, in order; the same command goes on where it was stopped."""
    from pipeline import log
    from pipeline.cli.backfill import backfill_pipeline

    result = backfill_pipeline(
        config,
        spans,
        only=only or (),
        to=to,
        again=again,
        keep_going=keep_going,
        overrides=overridden(overrides, fast),
        root=root,
        ledger=ledger,
        display=log.SilentDisplay if json else log.display,
    )
    return Answer(result.as_json(), result.as_text(), result.exit_code)


@app.command()
def plan(
    config: Target,
    overrides: Overrides = None,
    fast: Fast = False,
    to: To = None,
    force: Force = None,
    root: Root = None,
    json: Json = False,
) -> Answer:
    """Say which steps would run and which would be reused, and why."""
    from pipeline.cli.plan import first_notes, plan_definition, plan_text
    from pipeline.loading import load

    definition = load(config, overridden(overrides, fast), root)
    steps, notes = plan_definition(definition, to=to, force=force or ()), first_notes(definition)
    planned = {"outcome": "planned", "steps": [step.as_json() for step in steps]}
    return Answer(planned | ({"notes": list(notes)} if notes else {}), plan_text(steps, notes))


@app.command()
def check(config: Target, overrides: Overrides = None, fast: Fast = False, json: Json = False) -> Answer:
    """Find every mistake in a definition without running anything."""
    from pipeline.cli.check import check_pipeline

    result = check_pipeline(config, overrides=overridden(overrides, fast))
    return Answer(result.as_json(), result.as_text(), 0 if result.ok else ConfigError.exit_code)


@app.command()
def dag(
    config: Target,
    overrides: Overrides = None,
    fast: Fast = False,
    form: Annotated[str, typer.Option("--as", metavar="FORM", help="text, mermaid, dot or json.")] = "text",
    json: Json = False,
) -> Answer:
    """Show the steps and what flows between them."""
    from pipeline.cli.dag import draw, graph_json

    if json:
        return Answer({"outcome": "drawn", **graph_json(config, overrides=overridden(overrides, fast))})
    return Answer({}, draw(config, form, overrides=overridden(overrides, fast)))


@app.command()
def runs(
    root: Annotated[str, typer.Option("--root", metavar="DIR", help="Where artifacts are.")] = ".penstock",
    ledger: LedgerOfRoot = None,
    limit: Annotated[int, typer.Option(min=1, help="How many, newest first.")] = 20,
    json: Json = False,
) -> Answer:
    """List the runs, newest first."""
    from pipeline.cli.runs import list_runs, runs_text

    found = list_runs(root, ledger=ledger, limit=limit)
    return Answer(
        {"outcome": "listed", "runs": [record.to_json() | {"state": record.state} for record in found]},
        runs_text(found),
    )


@app.command()
def show(
    run: Annotated[str, typer.Argument(help="A run's id, its beginning, or 'latest'.")] = "latest",
    step: Annotated[str | None, typer.Argument(help="One step of it, in detail.")] = None,
    root: Annotated[str, typer.Option("--root", metavar="DIR", help="Where artifacts are.")] = ".penstock",
    ledger: LedgerOfRoot = None,
    json: Json = False,
) -> Answer:
    """Show what a run did, or one of its steps: settings, inputs, outputs, log."""
    from pipeline.cli.show import show_run, show_step

    shown = show_step(root, run, step, ledger=ledger) if step else show_run(root, run, ledger=ledger)
    return Answer(shown.as_json(), shown.as_text())


@app.command("export-mlmd")
def export_mlmd(
    file: Annotated[str, typer.Argument(metavar="FILE", help="Made, or added to when it is an ML Metadata database.")],
    run: Annotated[
        str | None,
        typer.Argument(metavar="[RUN]", help="A run's id, its beginning, or 'latest', which is the default."),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Every run under the root, whatever its pipeline.")] = False,
    root: Annotated[str, typer.Option("--root", metavar="DIR", help="Where artifacts are.")] = ".penstock",
    ledger: LedgerOfRoot = None,
    json: Json = False,
) -> Answer:
    """Write a run's lineage to an ML Metadata SQLite file, which TFX's notebooks and MLMD's client read."""
    from pipeline.cli.export_mlmd import export_runs

    result = export_runs(Path(file), run, every=every, root=root, ledger=ledger)
    return Answer(result.as_json(), result.as_text())


@app.command()
def step(
    order: Annotated[
        str,
        typer.Argument(metavar="ORDER|CONFIG", help="A step's order, runs/<run>/<step>.order.json; or a definition."),
    ],
    name: Annotated[
        str | None, typer.Argument(metavar="STEP", help="A step of the definition, as a task of Kubeflow's.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Run it although its outputs are in the store.")] = False,
    root: Annotated[str | None, typer.Option("--root", metavar="DIR", help="Of a task: where artifacts are.")] = None,
    expect: Annotated[
        str | None, typer.Option(metavar="JSON", help="Of a task: what the package says that the image holds.")
    ] = None,
    executor_input: Annotated[
        str | None, typer.Option(metavar="JSON", help="Of a task: what Kubeflow puts in the place of {{$}}.")
    ] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="A.B=VALUE", help="Of a task: what was set for the package.")
    ] = None,
    json: Json = False,
) -> Answer:
    """Run one step from its order, in this process; or as a task of Kubeflow's, which `pipeline kubeflow compile` writes."""
    from pipeline.cli.step import run_step, run_step_as_task

    if name is None:
        result = run_step(Path(order), force=force)
        return Answer(result.as_json(), result.as_text(), result.exit_code)
    task = run_step_as_task(
        order,
        name,
        root=root,
        expect=expect,
        executor_input=executor_input,
        overrides=overrides or (),
        force=force,
    )
    return Answer(task.as_json(), None, task.exit_code)


@app.command()
def rollback(
    directory: Annotated[str, typer.Argument(metavar="DIR", help="A serving directory, or s3://bucket/models/taxi.")],
    to: Annotated[
        int | None, typer.Option("--to", metavar="VERSION", help="Not to the model before, but to this.")
    ] = None,
    json: Json = False,
) -> Answer:
    """Have an earlier model served again, as a new version."""
    from pipeline.cli.rollback import roll_back

    result = roll_back(parse(directory), to)
    return Answer(result.as_json(), result.as_text())


@app.command()
def why(
    path: Annotated[str, typer.Argument(metavar="DIR[/VERSION]", help=SERVING)],
    json: Json = False,
) -> Answer:
    """Say what a served model was made of and why it was blessed, from its own directory alone."""
    from pipeline.cli.why import explain_version

    result = explain_version(parse(path))
    return Answer(result.as_json(), result.as_text())


@app.command()
def verify(
    path: Annotated[str, typer.Argument(metavar="DIR[/VERSION]", help=SERVING)],
    json: Json = False,
) -> Answer:
    """Check every file of what was pushed against its digest. Exit code 1: one differs, or there is nothing to check by."""
    from pipeline.cli.verify import verify_versions

    result = verify_versions(parse(path))
    return Answer(result.as_json(), result.as_text(), result.exit_code)


@app.command()
def gc(
    root: Annotated[str, typer.Option("--root", metavar="DIR", help="Where artifacts are.")] = ".penstock",
    ledger: LedgerOfRoot = None,
    keep_runs: Annotated[int, typer.Option(min=0, help="How many of each pipeline's newest runs to keep.")] = 5,
    lost_after: Annotated[
        float,
        typer.Option(
            min=0,
            metavar="DAYS",
            help="A run on a cluster or another machine that never ended is taken for lost when nothing was heard of it so long.",
        ),
    ] = 7.0,
    yes: Annotated[
        bool, typer.Option("--yes", help="Remove it; without this, only say what would be removed.")
    ] = False,
    json: Json = False,
) -> Answer:
    """Remove what no kept run and no pushed model's passport needs."""
    from pipeline.cli.gc import collect_garbage

    result = collect_garbage(root, ledger=ledger, keep_runs=keep_runs, lost_after_days=lost_after, remove=yes)
    return Answer(result.as_json(), result.as_text())


@app.command()
def serve(
    directories: Annotated[
        list[str] | None,
        typer.Argument(metavar="[DIR|NAME=DIR]...", help="Serving directories, each with a name or called as it is."),
    ] = None,
    models_config: Annotated[
        str | None, typer.Option(metavar="FILE", help="TensorFlow Serving's models.config, instead of directories.")
    ] = None,
    host: Annotated[str, typer.Option(help="Who can ask: 0.0.0.0 is every machine.")] = "127.0.0.1",
    rest_port: Annotated[int, typer.Option(help="0 is any that is free.")] = 8501,
    grpc_port: Annotated[int, typer.Option(help="0 is any that is free.")] = 8500,
    poll_wait_s: Annotated[float, typer.Option(metavar="SECONDS", help="Between looks for new versions.")] = 1.0,
    request_timeout_s: Annotated[float, typer.Option(metavar="SECONDS", help="Of a REST request.")] = 30.0,
    max_request_mb: Annotated[int, typer.Option(metavar="MB", help="A larger request is refused.")] = 256,
    max_batch_size: Annotated[
        int, typer.Option(metavar="ROWS", help="Of concurrent requests that may share a call; 1: none do.")
    ] = 1,
    batch_timeout_micros: Annotated[
        int, typer.Option(metavar="MICROSECONDS", help="How long a request may wait for others to share a call with.")
    ] = 0,
    threads: Annotated[int, typer.Option(help="Calls at the same time; 0 is half the cores.")] = 0,
    max_queued: Annotated[int, typer.Option(metavar="REQUESTS", help="That may wait; more are refused.")] = 1000,
    json: Json = False,
) -> Answer:
    """Answer requests to pushed models over REST and gRPC, as TensorFlow Serving does."""
    from pipeline.cli.serve import serve_models

    serve_models(
        directories or (),
        say=lambda line: print(line, flush=True),
        models_config=models_config,
        host=host,
        rest_port=rest_port,
        grpc_port=grpc_port,
        poll_wait_s=poll_wait_s,
        request_timeout_s=request_timeout_s,
        max_request_mb=max_request_mb,
        max_batch_size=max_batch_size,
        batch_timeout_micros=batch_timeout_micros,
        threads=threads,
        max_queued=max_queued,
    )
    return Answer({"outcome": "stopped"}, "stopped")


def main(arguments: list[str] | None = None) -> None:
    """Run the command and exit: 0 done, 1 failed, 2 wrong usage or definition, 3 refused by a gate, 130 interrupted.

    With --json, standard output is one JSON document with `outcome`, whatever happens, and everything else is on stderr.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    as_json = "--json" in arguments
    with stdout_kept_for_the_answer() if as_json else contextlib.nullcontext(), like_ctrl_c():
        answer = answer_of(lambda: app(arguments, standalone_mode=False))
    code = say(answer, as_json)
    is_task = arguments[:1] == ["step"] and any(option.startswith("--executor-input") for option in arguments)
    if is_task or (arguments[:1] == ["step"] and not {"tensorflow", "apache_beam"}.isdisjoint(sys.modules)):
        from pipeline.execute import exit_now

        exit_now(code)
    sys.exit(code)


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        print(f"penstock {version('penstock')}")
        raise typer.Exit


if __name__ == "__main__":
    main()
