"""The last task of a run on Kubeflow: ends the run's record, marks what was killed, and tells who wants to know.

It runs however the run went, so it takes what it says from the store, where every task has recorded itself.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace

from pipeline import log
from pipeline.conditions import kept_from_its_end
from pipeline.contract import read_contract
from pipeline.definition import Definition
from pipeline.graph import Graph
from pipeline.ledger import Ledger, RunRecord, StepRecord, resolve_ledger_url
from pipeline.ledger.records import NEVER_REPORTED
from pipeline.ledger.run_files import RunFiles
from pipeline.notifications import webhook
from pipeline.notifications.ended_run import EndedRun, RunOutcome
from pipeline.runners.kubeflow import executor_output, names, pictures
from pipeline.runners.kubeflow.executor_input import ExecutorInput
from pipeline.runners.kubeflow.gates import gated
from pipeline.runners.kubeflow.on_cluster import NO_LEDGER
from pipeline.runners.kubeflow.task import definition_of_task
from pipeline.runners.local import summary as made_by
from pipeline.store import Execution, Store
from schemas.artifacts import Verdict
from schemas.dotted_path import resolve
from schemas.errors import ArtifactError, ConfigError, StoreError
from schemas.location import parse

NEVER_BEGAN = "it never began: its pod could not start, or the run was stopped before"
_NO_BLESSING = "did not bless the model"
_WHY = {  # a step did not begin, by what one before it did
    "refused": "refused",
    "failed": "failed",
    "skipped": "was skipped",
    "no need": "found no need to go on",
}


def end_run(
    target: str,
    *,
    root: str,
    executor_input: str,
    expect: str | None = None,
    overrides: Iterable[str] = (),
    environ: Mapping[str, str] | None = None,
    listener: Callable[[log.Event], None] | None = None,
) -> EndedRun:
    """End a run on Kubeflow whose other tasks have ended, and tell the webhook, if there is one.

    Raises ConfigError where `{{$}}` names no run, or one that nobody has recorded while the image's definition cannot be
    read; StoreError when the record cannot be written, after telling the webhook. An image that differs from the package is a warning: the
    run has ended either way. So are a webhook that cannot be told, and an index that cannot be reached: the store has the record.
    """
    environ = os.environ if environ is None else environ
    tell = listener or log.PlainDisplay(sys.stdout)
    given = ExecutorInput.from_json(executor_input)
    run = given.text(names.RUN)
    definition, warnings = _definition(target, given, root, expect, tuple(overrides))
    store = Store(root).open()
    ledger = Ledger(store, resolve_ledger_url(definition.ledger if definition else NO_LEDGER, environ))
    if definition is not None:
        graph = definition.graph
        record = ledger.join_run(graph.name, graph.digest, definition.parameters, run=run, names=definition.names)
    else:
        try:
            record = ledger.run(run)
        except ConfigError as error:
            raise ConfigError(*warnings, *error.problems) from error
    ended = _how_it_ended(record, definition.graph if definition else None, store, warnings)
    unwritten: StoreError | None = None
    changes: list[Callable[[], object]] = [
        functools.partial(ledger.record_step, run, step) for step in ended.steps if record.step(step.step) is None
    ]
    changes.append(functools.partial(ledger.end_run, run, ended.outcome))
    for change in changes:
        try:
            change()
        except StoreError as error:
            unwritten = error
    ending = RunFiles(store).find(run)
    if ending is not None and ending.outcome is not None:
        warnings = (f"{unwritten} The store has the run's record, whole",) if unwritten else ()
        ended = replace(ended, seconds=ending.seconds, warnings=(*ended.warnings, *warnings))
        unwritten = None
    for warning in ended.warnings:
        tell(log.StepNote("ended", warning))
    tell(log.RunFinished(ended.outcome, ended.seconds or 0.0, ended.metrics, ended.paths))
    notify = definition.kubeflow.notify if definition and definition.kubeflow else None
    address = webhook.address_from(environ, notify.webhook if notify else None)
    problem = webhook.notify(address, ended.as_json(), webhook.token_from(environ)) if address else None
    if problem:
        tell(log.StepNote("ended", f"warning: {problem}"))
    if unwritten is not None:
        raise unwritten
    _tell_kubeflow(given, ended)
    return ended


def _definition(
    target: str, given: ExecutorInput, root: str, expect: str | None, overrides: tuple[str, ...]
) -> tuple[Definition | None, tuple[str, ...]]:
    """The definition in the image, if that can be read, and what is wrong with it."""
    try:
        return definition_of_task(target, given, root=root, expect=expect, step=None, overrides=overrides), ()
    except ConfigError as error:
        warnings = error.problems
    try:
        return definition_of_task(target, given, root=root, expect=None, step=None, overrides=overrides), warnings
    except ConfigError:
        return None, warnings


def _how_it_ended(record: RunRecord, graph: Graph | None, store: Store, warnings: tuple[str, ...]) -> EndedRun:
    recorded = tuple(_settled(step) for step in record.steps)
    executions = dict(_executions(recorded, store))
    unblessed = dict(_unblessed(graph, executions)) if graph else {}
    steps = recorded + (tuple(_never_recorded(graph, recorded, unblessed)) if graph else ())
    failed = [step for step in steps if step.action == "failed"]
    refused = [step for step in steps if step.action == "refused"]
    enough = [step for step in steps if step.action == "no need"]
    left_out = [step for step in steps if step.action == "skipped"]
    held_back = any(step.reason.endswith(_NO_BLESSING) for step in left_out)
    done = [step.step for step in steps if step.action in ("run", "reuse")]
    outcome: RunOutcome = "done"
    error = ""
    if failed:
        outcome, error = "failed", f"{failed[0].step}: {failed[0].message}"
    elif refused or (unblessed and held_back):
        outcome = "refused"
    elif enough or (graph is not None and kept_from_its_end(graph, done, [step.step for step in left_out])):
        outcome = "skipped"
    elif graph is None:
        outcome, error = "failed", warnings[0]  # what else there was to do, nobody knows
    ending = [*enough, *(step for step in left_out if step.message)] if outcome == "skipped" else refused
    reasons = [step.message for step in ending]
    for of_step in unblessed.values() if outcome == "refused" else ():
        reasons += [reason for reason in of_step if reason not in "\n".join(reasons)]
    metrics, paths = made_by(graph, executions) if graph else ({}, {})
    return EndedRun(
        pipeline=record.pipeline,
        run=record.id,
        outcome=outcome,
        steps=steps,
        metrics=metrics,
        paths={name: str(parse(path).absolute()) for name, path in paths.items()},
        reasons=tuple(reasons),
        error=error,
        warnings=warnings,
    )


def _settled(step: StepRecord) -> StepRecord:
    """The record as the end of the run leaves it: who is running still has been killed."""
    if step.action != "running":
        return step
    return StepRecord(step=step.step, key=step.key, action="failed", reason=step.reason, message=NEVER_REPORTED)


def _executions(steps: tuple[StepRecord, ...], store: Store) -> Iterator[tuple[str, Execution]]:
    for step in steps:
        if step.action in ("run", "reuse") and step.key:
            try:
                found = store.find(step.step, step.key)
            except ArtifactError:
                continue  # who reads it next will say so
            if found is not None:
                yield step.step, found


def _unblessed(graph: Graph, executions: Mapping[str, Execution]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Every step whose verdict is no blessing, with its reasons."""
    for step in graph.steps:
        for output, kind in read_contract(resolve(step.component)).outputs.items():
            if issubclass(kind, Verdict) and step.id in executions:
                properties = executions[step.id].manifest.outputs[output].properties
                if not properties.get("blessed"):
                    yield step.id, tuple(properties.get("reasons") or ())


def _never_recorded(
    graph: Graph, recorded: tuple[StepRecord, ...], unblessed: Mapping[str, tuple[str, ...]]
) -> Iterator[StepRecord]:
    """A record for every step that has none: left out because of one before it, or never begun."""
    actions = {step.step: step.action for step in recorded}
    waits = gated(graph)
    for step in graph.steps:
        if step.id in actions:
            continue
        before = graph.ancestors(step.id)
        why = [f"{other} {_NO_BLESSING}" for other in waits.get(step.id, ()) if other in unblessed]
        # Only then: what a condition kept from running before it kept nothing else.
        why += [
            f"{other.id} {_WHY[actions[other.id]]}"
            for other in graph.steps
            if other.id in before and actions.get(other.id) in _WHY
        ]
        if why:
            yield StepRecord(step=step.id, action="skipped", reason=why[0])
        else:
            actions[step.id] = "failed"
            yield StepRecord(step=step.id, action="failed", message=NEVER_BEGAN)


def _tell_kubeflow(given: ExecutorInput, ended: EndedRun) -> None:
    """The page of the run in the UI, where the package has one."""
    page = given.outputs.get(names.SUMMARY)
    if page is not None and page.path is not None:
        executor_output.put(page.path, pictures.run_summary(ended))
    metadata = {names.SUMMARY: {"outcome": ended.outcome, "run": ended.run}}
    executor_output.write(given, {names.OUTCOME: ended.outcome}, metadata)
