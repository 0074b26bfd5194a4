"""`pipeline run`: run what is new, reuse the rest."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pipeline import log, temporary_files
from pipeline.conditions import kept_from_its_end
from pipeline.contract import read_contract
from pipeline.definition import Definition
from pipeline.graph import Graph
from pipeline.ledger import Action, Ledger, resolve_ledger_url
from pipeline.lint import raise_errors
from pipeline.loading import load
from pipeline.notifications.ended_run import RunOutcome
from pipeline.notifications.notification import Notification, ended_run, read_asked, tell_of_failure
from pipeline.people import who
from pipeline.plan import check_steps, never_ran, reach_destinations
from pipeline.store import Store
from schemas.dotted_path import resolve
from schemas.errors import ConfigError, PenstockError


@dataclass(frozen=True)
class StepResult:
    """How one step ended. `outputs` maps each output to its directory; empty for a step that has none."""

    action: Action
    message: str
    outputs: Mapping[str, Path]


@dataclass(frozen=True)
class RunResult:
    """How a run ended. `nothing new`: every step was reused. `skipped`: a step found that what comes after is not needed.

    Steps that a condition keeps from running count for neither, unless they are all that the run is for: then it is skipped.
    """

    run: str
    outcome: RunOutcome
    seconds: float
    steps: Mapping[str, StepResult]
    metrics: Mapping[str, float | None]  # None: not defined on this data
    paths: Mapping[str, str]
    warnings: tuple[str, ...] = ()  # what was to be told somebody and could not
    reasons: tuple[str, ...] = ()  # why it was refused or skipped
    fast: Mapping[str, str] = field(default_factory=dict)  # what --fast made of each step of TFX's
    notes: tuple[str, ...] = ()  # what of another framework's pipeline is not followed, in its first run

    @property
    def exit_code(self) -> int:
        """0 done or skipped, 1 failed, 3 refused by a gate, 130 interrupted."""
        return {"failed": 1, "refused": 3, "interrupted": 130}.get(self.outcome, 0)

    def as_json(self) -> dict[str, Any]:
        """What `--json` prints."""
        return {
            "run": self.run,
            "outcome": self.outcome,
            "seconds": round(self.seconds, 3),
            "metrics": dict(self.metrics),
            "paths": dict(self.paths),
            "warnings": list(self.warnings),
            "reasons": list(self.reasons),
            **({"notes": list(self.notes)} if self.notes else {}),
            "steps": {
                name: {
                    "action": step.action,
                    "message": step.message,
                    "outputs": {output: str(path) for output, path in step.outputs.items()},
                }
                for name, step in self.steps.items()
            },
            **({"fast": dict(self.fast)} if self.fast else {}),
        }


def run_pipeline(
    target: str,
    *,
    overrides: Iterable[str] = (),
    to: str | None = None,
    force: Iterable[str] = (),
    root: str | None = None,
    ledger: str | None = None,
    bless_anyway: str | None = None,
    listener: Callable[[log.Event], None] | None = None,
) -> RunResult:
    """Run the pipeline that `target` names on this machine: `load`, then `run_definition`.

    Whom the definition's `notify` names is also told when it does not load.
    """
    try:
        definition = load(target, overrides, root)
    except PenstockError as error:
        name, _, asked = read_asked(target, overrides)
        tell_of_failure(name, asked, error, listener or log.SilentDisplay())
        raise
    return run_definition(definition, to=to, force=force, ledger=ledger, bless_anyway=bless_anyway, listener=listener)


def run_definition(
    definition: Definition,
    *,
    to: str | None = None,
    force: Iterable[str] = (),
    ledger: str | None = None,
    bless_anyway: str | None = None,
    listener: Callable[[log.Event], None] | None = None,
) -> RunResult:
    """Run every step whose key is not in the store, up to and including step `to`.

    `force` names steps that run whatever the store holds. `ledger` is a URL that goes before PENSTOCK_LEDGER and the
    definition's own. `bless_anyway` is the reason why models are blessed whatever the
    gates say; it is recorded, with who says so and when, in the blessing and in the passport. `listener` is told what happens, as it happens. What goes wrong in
    a step is in the result. Raises ConfigError for a definition that cannot run, StoreError for a root that cannot be
    written or a destination that cannot be reached, ArtifactError for a corrupt artifact, and KeyboardInterrupt after stopping cleanly; the run is recorded as
    failed or interrupted then. However the run ends, whom the definition's `notify` names is told; who cannot be is a warning.
    """
    tell = listener or log.SilentDisplay()
    with Notification(definition.graph.name, definition.notify, tell) as notification:
        result = _run(definition, to, tuple(force), ledger, bless_anyway, tell, notification)
    return replace(result, warnings=notification.warnings)


def _run(
    definition: Definition,
    to: str | None,
    forced: tuple[str, ...],
    ledger: str | None,
    bless_anyway: str | None,
    tell: Callable[[log.Event], None],
    notification: Notification,
) -> RunResult:
    from pipeline.runners.local import LocalRun, summary

    started = time.monotonic()
    raise_errors(definition.graph, definition.source)
    check_steps(definition.graph, [*forced, *([to] if to else [])])
    graph = definition.graph.upto(to) if to else definition.graph
    anyway = _anyway(graph, bless_anyway) if bless_anyway is not None else None
    reach_destinations(graph)
    store = Store(definition.root).open()
    store.remove_dead_staging()
    temporary_files.remove_dead()
    first = definition.notes if definition.notes and never_ran(graph, store) else ()
    notes = (*first, *definition.idle_fast)
    index = Ledger(store, resolve_ledger_url(definition.ledger, asked=ledger))
    record = index.start_run(graph.name, definition.graph.digest, definition.parameters, names=definition.names)
    notification.record = record
    try:
        notification.output = store.run_directory(record.id) / "notify.log"
        tell(log.RunStarted(graph.name, record.id, tuple(step.id for step in graph.steps), notes))
        for name, what in definition.fast.items():
            tell(log.StepNote(name, what))
        local = LocalRun(
            graph=graph,
            store=store,
            ledger=index,
            run=record.id,
            listener=tell,
            beam=definition.beam,
            parallel=definition.parallel,
            force=forced,
            anyway=anyway,
        )
        local.execute()
    except BaseException as error:
        how: Literal["interrupted", "failed"] = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
        with contextlib.suppress(PenstockError):  # why the run ended matters more than that this cannot be written
            notification.record = index.end_run(record.id, how)
        if how == "interrupted":
            tell(log.RunFinished(how, time.monotonic() - started, {}, {}))
        raise
    ended = _outcome(graph, local.actions, local.aside)
    record = index.end_run(record.id, ended)
    metrics, paths = summary(graph, local.executions)
    seconds = time.monotonic() - started
    tell(log.RunFinished(ended, seconds, metrics, paths))
    others = {action for name, action in local.actions.items() if name not in local.aside}
    outcome: RunOutcome = "nothing new" if ended == "done" and others == {"reuse"} else ended
    notification.ended = ended_run(record, outcome, metrics=metrics, paths=paths)
    steps = {
        name: StepResult(
            action,
            local.messages[name],
            {port: local.executions[name].output(port) for port in local.executions[name].manifest.outputs}
            if name in local.executions
            else {},
        )
        for name, action in local.actions.items()
    }
    return RunResult(
        record.id,
        outcome,
        seconds,
        steps,
        metrics,
        paths,
        reasons=notification.ended.reasons,
        fast=definition.fast,
        notes=notes,
    )


def _outcome(
    graph: Graph, actions: Mapping[str, Action], aside: Collection[str]
) -> Literal["done", "skipped", "failed", "refused"]:
    """What a run comes to whose steps did these. The worst of them counts; those set `aside` where they are all it is for."""
    if "failed" in actions.values():
        return "failed"
    if "refused" in actions.values():
        return "refused"
    enough = any(action == "no need" and name not in aside for name, action in actions.items())
    done = [name for name, action in actions.items() if action in ("run", "reuse")]
    return "skipped" if enough or kept_from_its_end(graph, done, aside) else "done"


def _anyway(graph: Graph, reason: str) -> dict[str, str]:
    """Who has models blessed whatever the gates say, when and why. Raises ConfigError for no reason, and no step that blesses."""
    problems = []
    if not reason.strip():
        problems.append('--bless-anyway: say why, as in --bless-anyway "the demo on Monday needs it"')
    if not any(read_contract(resolve(step.component)).blesses for step in graph.steps):
        problems.append(f"--bless-anyway: no step of {graph.name} blesses models")
    if problems:
        raise ConfigError(*problems)
    return {"by": who(), "at": datetime.now(UTC).isoformat(timespec="seconds"), "reason": reason.strip()}
