"""`pipeline kubeflow`: a definition as a package of Kubeflow Pipelines, and what goes with it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline.cli import kubeflow_schedule
from pipeline.cli.answer import Answer, Fast, Json, Target, overridden
from pipeline.cli.kubeflow_options import Endpoint, Image, Namespace, warn, with_image

Mounted = Annotated[
    str | None,
    typer.Option("--root", metavar="DIR", help="The cluster's store, where it is mounted here: it outlives pods."),
]
Run = Annotated[str, typer.Argument(metavar="RUN", help="A run's id, or its name.")]

app = typer.Typer(
    name="kubeflow",
    help="The same definition on open-source Kubeflow Pipelines.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.add_typer(kubeflow_schedule.app)


@app.command()
def compile(  # noqa: A001 the verb
    config: Target,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE.yaml", help="Where to write the package.")],
    image: Image = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="A.B=VALUE", help="Another value in the package; may be repeated."),
    ] = None,
    fast: Fast = False,
    json: Json = False,
) -> Answer:
    """Write the package that KFP runs: one container task per step."""
    from pipeline.runners.kubeflow.compile import compile_package
    from pipeline.runners.kubeflow.package import write

    package = compile_package(config, with_image(image, overridden(overrides, fast)))
    write(package, output)
    data: dict[str, Any] = {"outcome": "compiled", "file": str(output), **package.as_json()}
    return Answer(data, f"{output}: {package.name}, {len(package.tasks)} tasks\n{package.as_text()}")


@app.command()
def run(
    config: Annotated[
        str, typer.Argument(metavar="CONFIG|PACKAGE.yaml", help="A definition, or what `compile` wrote.")
    ],
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="parameters.X=VALUE", help="Another value for this run; may be repeated."),
    ] = None,
    fast: Fast = False,
    endpoint: Endpoint = None,
    namespace: Namespace = None,
    image: Image = None,
    experiment: Annotated[
        str | None, typer.Option(metavar="NAME", help="Among which runs it is listed; else the pipeline's name.")
    ] = None,
    name: Annotated[
        str | None, typer.Option(metavar="RUN", help="What the run is called; else the pipeline and the time.")
    ] = None,
    service_account: Annotated[
        str | None, typer.Option("--service-account", metavar="SA", help="Whose rights the pods have.")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Follow it until it ends, as `wait` does.")] = False,
    root: Mounted = None,
    json: Json = False,
) -> Answer:
    """Upload the package if it is not there, and run it."""
    from pipeline import log
    from pipeline.cli.kubeflow_run import run_on_kubeflow, store_here, view_text
    from pipeline.runners.kubeflow.follow import Follower

    store = store_here(root)
    api, started = run_on_kubeflow(
        config,
        image=image,
        overrides=overrides or (),
        fast=fast,
        endpoint=endpoint,
        namespace=namespace,
        experiment=experiment,
        name=name,
        service_account=service_account,
        warn=warn,
    )
    if not wait:
        return Answer({"outcome": "started", **started.as_json()}, started.as_text())
    if not json:
        print(started.as_text(), flush=True)
    with log.SilentDisplay() if json else log.display() as display:
        view = Follower(api, started.run, display, store).follow()
    return Answer({**started.as_json(), **view.as_json()}, "\n" + view_text(view), view.exit_code)


@app.command()
def wait(
    run: Run,
    timeout: Annotated[
        str | None, typer.Option(metavar="TIME", help="Give up after this, as 90s, 30m or 2h; the run goes on.")
    ] = None,
    root: Mounted = None,
    endpoint: Endpoint = None,
    namespace: Namespace = None,
    json: Json = False,
) -> Answer:
    """Follow a run until it ends. Exit code 1: it failed, or the time is up; 3: a gate refused."""
    from pipeline import log
    from pipeline.cli.kubeflow_run import view_text, wait_for

    with log.SilentDisplay() if json else log.display() as display:
        view = wait_for(
            run, timeout=timeout, root=root, endpoint=endpoint, namespace=namespace, listener=display, warn=warn
        )
    return Answer(view.as_json(), "\n" + view_text(view), view.exit_code)


@app.command()
def logs(
    run: Run,
    step: Annotated[str | None, typer.Argument(metavar="STEP", help="One step's; else all of them.")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the step has ended.")] = False,
    root: Mounted = None,
    endpoint: Endpoint = None,
    namespace: Namespace = None,
    json: Json = False,
) -> Answer:
    """Print what a run's steps wrote. Exit code 1: no log is left."""
    from pipeline.cli.kubeflow_run import logs_of

    def write(text: str) -> None:
        if not json:
            print(text, end="", flush=True)

    found = logs_of(
        run,
        step,
        follow=follow,
        root=root,
        endpoint=endpoint,
        namespace=namespace,
        write=write,
        warn=warn,
    )
    said_already = follow and not found.exit_code
    return Answer(found.as_json(), None if said_already else found.as_text(), found.exit_code)


@app.command()
def ended(
    config: Target,
    root: Annotated[str, typer.Option("--root", metavar="DIR", help="Where artifacts are.")],
    executor_input: Annotated[str, typer.Option(metavar="JSON", help="What Kubeflow puts in the place of {{$}}.")],
    expect: Annotated[
        str | None, typer.Option(metavar="JSON", help="What the package says that the image holds.")
    ] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="A.B=VALUE", help="What was set for the package.")
    ] = None,
    json: Json = False,
) -> Answer:
    """End the record of a run whose tasks have ended, and tell the webhook: a package's last task."""
    from pipeline.runners.kubeflow.ended import end_run

    result = end_run(config, root=root, executor_input=executor_input, expect=expect, overrides=overrides or ())
    return Answer(result.as_json(), None)
