"""A run that is started once for what it would be made of, however often and from wherever it is asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pipeline.runners.kubeflow.api import Access, Api, NotThere, connect
from pipeline.runners.kubeflow.follow import outcome_of
from pipeline.runners.kubeflow.prepared import Warn, prepared, section_of
from pipeline.runners.kubeflow.submit import start

State = Literal["started", "busy", "skipped"]
_OF = "Penstock's run of data "


@dataclass(frozen=True)
class Once:
    """What became of asking for a run: it was started, one goes on already (busy), or there was one and it is not to be had again."""

    state: State
    reason: str
    run: str | None  # the one that was started, goes on, or ended last
    url: str = ""  # where the UI shows it; empty where nobody knows

    @property
    def started(self) -> bool:
        """Whether this call started it."""
        return self.state == "started"


def start_once(
    target: str,
    *,
    name: str,
    overrides: Sequence[str] = (),
    attempts: int = 3,
    digest: str | None = None,
    endpoint: str | None = None,
    namespace: str | None = None,
    experiment: str | None = None,
    service_account: str | None = None,
    warn: Warn = lambda _: None,
) -> Once:
    """Start a run of the definition or package `target` called `name`, unless there is one that makes it needless.

    None is started while one of that name goes on, after one has succeeded, or when `attempts` of them failed or were stopped.
    `digest` says what the run is made of: ended runs of the same name and another digest do not count. Of two calls at the same
    time one run is left; the other is ended and its call says busy.

    Raises ConfigError with every problem, and KubeflowError.
    """
    api = connect(Access.found(endpoint, namespace, section=section_of(target)), warn)
    there = _needless(api, api.runs.named(name), name, attempts, digest)
    if there:
        return there
    with prepared(target, warn) as ready:
        started = start(
            api,
            ready.package,
            ready.package.arguments(tuple(overrides)),
            name=name,
            experiment=experiment or (ready.section.experiment if ready.section else None),
            service_account=service_account or ready.service_account,
            description=f"{_OF}{digest}" if digest else "",
        )
    first = _only_the_first(api, name)
    if first not in (None, started.run):
        return Once("busy", f"'{name}' was started from somewhere else at the same time", first, _page(api, first))
    return Once("started", f"'{name}' was started", started.run, started.page or "")


def _needless(api: Api, runs: Sequence[Mapping[str, Any]], name: str, attempts: int, digest: str | None) -> Once | None:
    """Why no run is to be started; `runs` are all of that name, newest first."""
    going = [run for run in runs if outcome_of(run.get("state")) == "running"]
    if going:
        return _because(api, going[0], "busy", f"'{name}' goes on in Kubeflow")
    same = [run for run in runs if _is_of(run, digest)]
    done = [run for run in same if outcome_of(run.get("state")) == "done"]
    if done:
        return _because(api, done[0], "skipped", f"'{name}' has run in Kubeflow already")
    if len(same) >= attempts:
        why = f"'{name}' has failed {len(same)} times in Kubeflow: look why, and start it with `pipeline kubeflow run`"
        return _because(api, same[0], "skipped", why)
    return None


def _is_of(run: Mapping[str, Any], digest: str | None) -> bool:
    """Whether a run is of this data; one that does not say of which, as a person starts it, is taken for it."""
    said = str(run.get("description") or "")
    return digest is None or not said.startswith(_OF) or said == f"{_OF}{digest}"


def _only_the_first(api: Api, name: str) -> str | None:
    """The oldest run of this name that goes on; those that others have started since are ended.

    Whoever creates a run last sees all of them, and all choose the same one, so that one is left whoever is quicker.
    """
    going = [run for run in api.runs.named(name) if outcome_of(run.get("state")) == "running"]
    ids = [
        str(run["run_id"]) for run in sorted(going, key=lambda run: (str(run.get("created_at")), str(run["run_id"])))
    ]
    for other in ids[1:]:
        try:
            api.runs.terminate(other)
        except NotThere:
            continue
    return ids[0] if ids else None


def _because(api: Api, run: Mapping[str, Any], state: State, reason: str) -> Once:
    return Once(state, reason, str(run["run_id"]), _page(api, str(run["run_id"])))


def _page(api: Api, run: str | None) -> str:
    return (api.runs.page_of(run) if run else None) or ""
