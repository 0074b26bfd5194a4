"""`pipeline kubeflow`: a definition as a package of Kubeflow Pipelines, and what goes with it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline.cli.answer import Answer, Json, Target

app = typer.Typer(
    name="kubeflow",
    help="The same definition on open-source Kubeflow Pipelines.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.command()
def compile(  # noqa: A001 the verb
    config: Target,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE.yaml", help="Where to write the package.")],
    json: Json = False,
) -> Answer:
    """Write the package that KFP runs: one container task per step."""
    from pipeline.runners.kubeflow.compile import compile_package
    from pipeline.runners.kubeflow.package import write

    package = compile_package(config)
    write(package, output)
    data: dict[str, Any] = {"outcome": "compiled", "file": str(output), **package.as_json()}
    return Answer(data, f"{output}: {package.name}, {len(package.tasks)} tasks\n{package.as_text()}")


@app.command()
def ended(
    config: Target,
    root: Annotated[str, typer.Option("--root", metavar="DIR", help="Where artifacts are.")],
    executor_input: Annotated[str, typer.Option(metavar="JSON", help="What Kubeflow puts in the place of {{$}}.")],
    expect: Annotated[
        str | None, typer.Option(metavar="JSON", help="What the package says that the image holds.")
    ] = None,
    json: Json = False,
) -> Answer:
    """End the record of a run whose tasks have ended, and tell the webhook: a package's last task."""
    from pipeline.runners.kubeflow.ended import end_run

    result = end_run(config, root=root, executor_input=executor_input, expect=expect)
    return Answer(result.as_json(), None)
