"""The `pipeline` command: one verb per file, each imported when it is called for."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from schemas.errors import ConfigError, Interrupted, PenstockError

app = typer.Typer(
    name="pipeline",
    help="Machine-learning pipelines from files to a served model. Runs what is new, reuses the rest, says why.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Target = Annotated[str, typer.Argument(metavar="CONFIG", help="A pipeline.yaml, or module:object for one in Python.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="A.B=VALUE", help="Replace one value: parameters.steps=20, or trainer.steps=20."),
]
Root = Annotated[
    str | None, typer.Option("--root", metavar="DIR", help="Where artifacts are, instead of the definition's root.")
]
Json = Annotated[bool, typer.Option("--json", help="Print data instead of text.")]
To = Annotated[str | None, typer.Option("--to", metavar="STEP", help="Only this step and what it needs.")]
Force = Annotated[
    list[str] | None,
    typer.Option("--force", metavar="STEP", help="Run this step whatever is in the store; may be repeated."),
]


@app.command()
def run(
    config: Target,
    overrides: Overrides = None,
    to: To = None,
    force: Force = None,
    root: Root = None,
    json: Json = False,
) -> None:
    """Run what is new, reuse the rest. Exit code 3: a gate refused."""
    from pipeline import log
    from pipeline.cli.run import run_pipeline

    with log.SilentDisplay() if json else log.display() as display:
        result = run_pipeline(config, overrides=overrides or (), to=to, force=force or (), root=root, listener=display)
    if json:
        _print_json(result.as_json())
    raise typer.Exit(result.exit_code)


@app.command()
def plan(
    config: Target,
    overrides: Overrides = None,
    to: To = None,
    force: Force = None,
    root: Root = None,
    json: Json = False,
) -> None:
    """Say which steps would run and which would be reused, and why."""
    from pipeline.cli.plan import plan_pipeline, plan_text

    steps = plan_pipeline(config, overrides=overrides or (), to=to, force=force or (), root=root)
    if json:
        _print_json({"outcome": "planned", "steps": [step.as_json() for step in steps]})
    else:
        typer.echo(plan_text(steps))


@app.command()
def check(config: Target, overrides: Overrides = None, json: Json = False) -> None:
    """Find every mistake in a definition without running anything."""
    from pipeline.cli.check import check_pipeline

    result = check_pipeline(config, overrides=overrides or ())
    if json:
        _print_json({"outcome": "ok" if result.ok else "wrong", **result.as_json()})
    else:
        typer.echo(result.as_text())
    raise typer.Exit(0 if result.ok else ConfigError.exit_code)


@app.command()
def dag(
    config: Target,
    overrides: Overrides = None,
    form: Annotated[str, typer.Option("--as", metavar="FORM", help="text, mermaid, dot or json.")] = "text",
) -> None:
    """Show the steps and what flows between them."""
    from pipeline.cli.dag import draw

    typer.echo(draw(config, form, overrides=overrides or ()))


@app.command()
def runs(
    root: Annotated[str, typer.Option("--root", metavar="DIR", help="Where artifacts are.")] = ".penstock",
    ledger: Annotated[str | None, typer.Option(metavar="URL", help="The ledger, when it is not in the root.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many, newest first.")] = 20,
    json: Json = False,
) -> None:
    """List the runs, newest first."""
    from pipeline.cli.runs import list_runs, runs_text

    found = list_runs(root, ledger=ledger, limit=limit)
    if json:
        _print_json({"runs": [record.to_json() | {"state": record.state} for record in found]})
    else:
        typer.echo(runs_text(found))


@app.command()
def show(
    run: Annotated[str, typer.Argument(help="A run's id, its beginning, or 'latest'.")] = "latest",
    step: Annotated[str | None, typer.Argument(help="One step of it, in detail.")] = None,
    root: Annotated[str, typer.Option("--root", metavar="DIR", help="Where artifacts are.")] = ".penstock",
    ledger: Annotated[str | None, typer.Option(metavar="URL", help="The ledger, when it is not in the root.")] = None,
    json: Json = False,
) -> None:
    """Show what a run did, or one of its steps: settings, inputs, outputs, log."""
    from pipeline.cli.show import show_run, show_step

    shown = show_step(root, run, step, ledger=ledger) if step else show_run(root, run, ledger=ledger)
    if json:
        _print_json(shown.as_json())
    else:
        typer.echo(shown.as_text())


@app.command()
def step(
    order: Annotated[Path, typer.Argument(metavar="ORDER", help="A step's order, runs/<run>/<step>.order.json.")],
    force: Annotated[bool, typer.Option("--force", help="Run it although its outputs are in the store.")] = False,
    json: Json = False,
) -> None:
    """Run one step from its order, in this process. What a container's task calls."""
    from pipeline.cli.step import run_step
    from pipeline.execute import exit_now

    result = run_step(order, force=force)
    if json:
        _print_json(result.as_json())
    else:
        typer.echo(result.as_text(), err=result.exit_code != 0)
    exit_now(result.exit_code)


@app.command()
def gc(
    root: Annotated[str, typer.Option("--root", metavar="DIR", help="Where artifacts are.")] = ".penstock",
    ledger: Annotated[str | None, typer.Option(metavar="URL", help="The ledger, when it is not in the root.")] = None,
    keep_runs: Annotated[int, typer.Option(min=0, help="How many of each pipeline's newest runs to keep.")] = 5,
    yes: Annotated[
        bool, typer.Option("--yes", help="Remove it; without this, only say what would be removed.")
    ] = False,
    json: Json = False,
) -> None:
    """Remove what no kept run and no pushed model's passport needs."""
    from pipeline.cli.gc import collect_garbage

    result = collect_garbage(root, ledger=ledger, keep_runs=keep_runs, remove=yes)
    if json:
        _print_json(result.as_json())
    else:
        typer.echo(result.as_text())


def main(arguments: list[str] | None = None) -> None:
    """Run the command and exit: 0 done, 1 failed, 2 wrong usage or definition, 3 refused by a gate, 130 interrupted."""
    arguments = sys.argv[1:] if arguments is None else arguments
    sys.exit(_guarded(lambda: app(arguments, standalone_mode=False), as_json="--json" in arguments))


def _guarded(command: Callable[[], Any], as_json: bool) -> int:
    try:
        code = command()
        return code if isinstance(code, int) else 0
    except (KeyboardInterrupt, typer.Abort):
        return _fail(Interrupted("stopped; what had finished is kept, and the next run goes on from there"), as_json)
    except PenstockError as error:
        return _fail(error, as_json)
    except BrokenPipeError:
        return 0  # the reader (head, less) had enough
    except _WRONG_USAGE as error:
        error.show()
        return ConfigError.exit_code


# Typer carries its own copy of click and names only its subclasses: this is click's ClickException.
_WRONG_USAGE: Any = next(cls for cls in typer.BadParameter.__mro__ if cls.__name__ == "ClickException")


def _fail(error: PenstockError, as_json: bool) -> int:
    problems = error.problems if isinstance(error, ConfigError) else (str(error),)
    if as_json:
        _print_json({"outcome": "error", "error": type(error).__name__, "problems": list(problems)})
    for problem in problems:
        typer.secho("error: ", fg="red", bold=True, nl=False, err=True)
        typer.echo(problem, err=True)
    return error.exit_code


def _print_json(data: Any) -> None:
    typer.echo(json.dumps(data, indent=1, default=str))


if __name__ == "__main__":
    main()
