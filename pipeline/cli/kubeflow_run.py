"""`pipeline kubeflow run`, `wait` and `logs`: a definition or its package run on Kubeflow Pipelines, and watched."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from pipeline import log
from pipeline.cli.answer import overridden
from pipeline.cli.kubeflow_options import with_image
from pipeline.cli.runs import as_columns
from pipeline.log import duration
from pipeline.runners.kubeflow.api import Access, Api, connect
from pipeline.runners.kubeflow.follow import Follower, RunView, find_run
from pipeline.runners.kubeflow.prepared import Warn, prepared
from pipeline.runners.kubeflow.submit import Started, start
from pipeline.runners.kubeflow.task_logs import RunLogs, follow_log, read_logs
from schemas.errors import ConfigError
from schemas.quantities import parse_duration


def run_on_kubeflow(
    target: str,
    *,
    image: str | None = None,
    overrides: Iterable[str] = (),
    fast: bool = False,
    endpoint: str | None = None,
    namespace: str | None = None,
    experiment: str | None = None,
    name: str | None = None,
    service_account: str | None = None,
    warn: Warn = lambda _: None,
) -> tuple[Api, Started]:
    """Have the definition or package uploaded, and start a run of it with parameters as in `parameters.x=value`.

    With `image` the definition is compiled for that, with `overrides`, which may be of the section `kubeflow` as well; with `fast` it
    is compiled as by `compile --fast`. Nothing is asked of Kubeflow before the package and the parameters are known to be right.
    Raises ConfigError with every problem, and KubeflowError.
    """
    given = tuple(overrides)
    compiled_with = () if image is None else with_image(image, given)
    with prepared(target, warn, overridden(compiled_with, fast)) as ready:
        arguments = ready.package.arguments(() if compiled_with else given)
        api = connect(Access.found(endpoint, namespace, section=ready.section), warn)
        started = start(
            api,
            ready.package,
            arguments,
            name=name,
            experiment=experiment or (ready.section.experiment if ready.section else None),
            service_account=service_account or ready.service_account,
        )
    return api, replace(started, fast=ready.fast)


def wait_for(
    run: str,
    *,
    timeout: str | None = None,
    root: str | None = None,
    endpoint: str | None = None,
    namespace: str | None = None,
    listener: Callable[[log.Event], None] | None = None,
    warn: Warn = lambda _: None,
) -> RunView:
    """Follow a run, by id or name, until it ends; `listener` hears of each change of a task.

    With `root`, the store where it is mounted here, the steps' own words are told too.

    Raises ConfigError for a run that is not there, Interrupted on Ctrl-C, and PenstockError after `timeout`.
    """
    timeout_s, store = _seconds(timeout), store_here(root)
    api = connect(Access.found(endpoint, namespace), warn)
    return Follower(api, find_run(api, run).run_id, listener or log.SilentDisplay(), store).follow(timeout_s)


def view_text(view: RunView) -> str:
    """A line for the run and one per task."""
    rows = [("TASK", "STATE", "TOOK", "")]
    for shown in view.tasks:
        took = duration(shown.seconds) if shown.seconds is not None and shown.state != "skipped" else ""
        rows.append((shown.task.name, shown.state, took, shown.note.splitlines()[0] if shown.note else ""))
    by = view.refused_by or view.skipped_by
    because = f" by {' and '.join(by)}" if by else ""
    return f"run {view.id}  {view.outcome}{because}, {duration(view.seconds)}\n\n{as_columns(rows)}"


def store_here(root: str | None) -> Path | None:
    """Where --root says that the cluster's store is mounted on this machine. Raises ConfigError when it is not."""
    if root is not None and not Path(root).is_dir():
        raise ConfigError(f"--root {root}: there is no such directory here; leave it out when the store is not mounted")
    return Path(root) if root is not None else None


def _seconds(timeout: str | None) -> float | None:
    try:
        return parse_duration(timeout) if timeout is not None else None
    except ConfigError as error:
        raise ConfigError(f"--timeout: {error}") from error


def logs_of(
    run: str,
    step: str | None = None,
    *,
    follow: bool = False,
    root: str | None = None,
    endpoint: str | None = None,
    namespace: str | None = None,
    write: Callable[[str], None] = lambda _: None,
    warn: Warn = lambda _: None,
) -> RunLogs:
    """The logs of a run's steps, or of one; with `follow` one step's is given to `write` as it grows.

    Raises ConfigError for a run or a step that is not there, and KubeflowError.
    """
    if follow and step is None:
        raise ConfigError("--follow: say the log of which step, as in `pipeline kubeflow logs RUN trainer --follow`")
    store = store_here(root)
    api = connect(Access.found(endpoint, namespace), warn)
    if follow and step is not None:
        return follow_log(api, run, step, write, store)
    return read_logs(api, run, step, store)
