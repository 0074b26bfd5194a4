"""One task of a run on Kubeflow: a step of the definition in the image, from what `{{$}}` gives to the outputs that KFP reads.

The truth lies in the store: a task that is tried again after it was killed finds there what the attempt before it left, and
one whose outputs are there says so once more.
"""

from __future__ import annotations

import contextlib
import json
import re
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pipeline import log
from pipeline.conditions import needs_of, with_what_is_there, without
from pipeline.contract import Contract, read_contract
from pipeline.definition import Definition
from pipeline.execute import open_output, run_order
from pipeline.graph import Graph, Step
from pipeline.interrupts import KeptBack
from pipeline.ledger import Action, Ledger, RunRecord, StepRecord, resolve_ledger_url
from pipeline.order import git_commit, make_order
from pipeline.plan import NEVER_RAN, NOTHING_CHANGED, StepPlan, decide
from pipeline.progress import SpacedProgress
from pipeline.runners.kubeflow import executor_output, names, pictures
from pipeline.runners.kubeflow.executor_input import ExecutorInput
from pipeline.runners.kubeflow.expectation import Expectation, problems
from pipeline.runners.kubeflow.on_cluster import load_on_cluster
from pipeline.runners.kubeflow.pod_log import copied_to
from pipeline.store import Execution, Store
from pipeline.temporary_files import own_directory
from schemas.artifacts import Verdict
from schemas.dotted_path import resolve
from schemas.errors import ConfigError, PenstockError, StepFailed, StoreError

Outcome = Literal["done", "reused", "refused", "no need", "skipped", "failed"]

_KEY = re.compile(r"[0-9a-f]{64}")
_PROGRESS_S = 1.0  # at most one report of progress in this time


@dataclass(frozen=True, kw_only=True)
class TaskResult:
    """How a task ended, as KFP, the ledger and the person at the log are told."""

    step: str
    outcome: Outcome
    run: str
    message: str = ""  # the error or refusal, why there is no need to go on, or why the step was skipped
    reason: str = ""  # why it ran or was reused
    seconds: float = 0.0
    key: str = ""
    execution: Execution | None = None
    notes: tuple[str, ...] = ()  # what else is worth knowing: an attempt that was killed

    @property
    def exit_code(self) -> int:
        """1 for a step that failed, which KFP then tries again; 0 for everything else, a refusal too: that is an outcome."""
        return 1 if self.outcome == "failed" else 0

    def as_json(self) -> dict[str, Any]:
        """What `--json` prints."""
        outputs = self.execution.manifest.outputs if self.execution else {}
        return {
            "step": self.step,
            "run": self.run,
            "outcome": self.outcome,
            "message": self.message,
            "reason": self.reason,
            "seconds": round(self.seconds, 3),
            "key": self.key,
            "outputs": {name: str(self.execution.output(name)) for name in outputs} if self.execution else {},
        }


@dataclass(kw_only=True)
class _Task:
    """What one attempt at a task knows."""

    definition: Definition
    step: Step
    contract: Contract
    given: ExecutorInput
    run: str
    store: Store
    ledger: Ledger
    listener: Callable[[log.Event], None]
    signals: KeptBack
    held: contextlib.ExitStack
    notes: list[str] = field(default_factory=list)
    key: str = ""
    begun: bool = False  # whether the ledger has the step as running
    aside: bool = False  # whether a condition keeps the step from running, and not what ends the run
    enough: bool = False  # whether a step before this one has found no need to go on, and none has refused

    @property
    def graph(self) -> Graph:
        return self.definition.graph


def run_task(
    target: str,
    step: str,
    *,
    root: str,
    executor_input: str,
    expect: str | None = None,
    overrides: Iterable[str] = (),
    listener: Callable[[log.Event], None] | None = None,
) -> TaskResult:
    """Run one step of the definition that `target` names, as a task of a run on Kubeflow, in this process.

    `executor_input` is what the launcher puts in the place of `{{$}}`, and all that is asked of Kubeflow; `expect` is what
    the package says that the image holds, `overrides` what it was compiled with. What this process prints goes to the step's log in the store too. What goes wrong
    in the step is in the result, and nothing is said to KFP then. Raises ConfigError for an image or package that do not fit, StoreError for
    a volume that cannot be written, and KeyboardInterrupt for a pod that is stopped, after removing what it had staged.
    """
    given = ExecutorInput.from_json(executor_input)
    # TFX's components import KerasTuner when the definition is loaded, in the process that the step then runs in.
    resolve("components.io.keras.arrange")()
    definition = definition_of_task(target, given, root=root, expect=expect, step=step, overrides=overrides)
    run = given.text(names.RUN)
    store = Store(definition.root).open()
    with KeptBack() as signals, contextlib.ExitStack() as held:
        held.enter_context(copied_to(store.log_path(run, step)))
        task = _Task(
            definition=definition,
            step=definition.graph[step],
            contract=read_contract(resolve(definition.graph[step].component)),
            given=given,
            run=run,
            store=store,
            ledger=Ledger(store, resolve_ledger_url(definition.ledger)),
            listener=listener or log.PlainDisplay(sys.stdout),
            signals=signals,
            held=held,
        )
        return _attempt(task)


def definition_of_task(
    target: str,
    given: ExecutorInput,
    *,
    root: str,
    expect: str | None,
    step: str | None,
    overrides: Iterable[str] = (),
) -> Definition:
    """The definition in the image, with the run's parameters. Raises ConfigError where package and image differ."""
    overrides = tuple(overrides)
    packaged = load_on_cluster(target, root=root, overrides=overrides)
    if step is not None:
        packaged.graph[step]  # raises where there is none
    if expect is not None:
        differing = problems(Expectation.from_json(expect), packaged, step)
        if differing:
            raise ConfigError(*differing)
    changed = given.changed(packaged.parameters)
    return load_on_cluster(target, changed, root=root, overrides=overrides) if changed else packaged


def _attempt(task: _Task) -> TaskResult:
    """From joining the run to telling KFP; how it ended is recorded, whatever happens."""
    started = time.monotonic()
    record = task.ledger.join_run(
        task.graph.name, task.graph.digest, task.definition.parameters, run=task.run, names=task.definition.names
    )
    _clear_up_after_earlier_attempts(task, record)
    task.enough = _found_no_need(record, task.step)
    try:
        result = _result(task, record, started)
    except KeyboardInterrupt:
        message = "its pod was stopped; what it had staged is removed, and the next attempt goes on from its scratch"
        _record(task, _ended(task, "failed", started, message=message))
        raise
    except PenstockError as error:
        if isinstance(error, ConfigError):
            _record(task, _ended(task, "failed", started, message=str(error)))
            raise
        result = _ended(task, "failed", started, message=str(error))
    _record(task, result)
    _show(task, result)
    if result.outcome != "failed":
        _tell_kubeflow(task, result)
    return result


def _clear_up_after_earlier_attempts(task: _Task, record: RunRecord) -> None:
    """Say that an attempt before this one was killed, and remove what it had staged.

    KFP starts an attempt when the one before has ended, so nothing else is at work on this step of this run, whatever host
    it was on. A process whose lock can be seen to be held is left alone nevertheless.
    """
    before = record.step(task.step.id)
    if before is not None and before.action == "running":
        who = f" ({before.owner})" if before.owner else ""
        task.notes.append(
            f"an attempt before this one{who} ended without a word: it was killed or evicted. What it left in scratch is used"
        )
        task.listener(log.StepNote(task.step.id, task.notes[-1]))
    with contextlib.suppress(StoreError):  # what cannot be removed now is garbage for later
        task.store.remove_dead_staging((task.run, task.step.id))


def _result(task: _Task, record: RunRecord, started: float) -> TaskResult:
    step = task.step
    keys = _keys_before(task)
    aside = _set_aside(record, step)
    missing = [parent for parent in step.parents if parent not in keys and parent not in aside]
    if missing:
        verb = "was" if len(missing) == 1 else "were"
        return _ended(task, "skipped", started, message=f"{', '.join(missing)} {verb} not done")
    refused = [
        other.step for other in record.steps if other.action == "refused" and other.key and other.step != step.id
    ]
    if refused:
        return _ended(task, "skipped", started, message=f"{', '.join(refused)} refused, and the run ends with that")
    enough = [other.step for other in record.steps if other.action == "no need" and other.step != step.id]
    if enough:
        found_no = f"{', '.join(enough)} found no need to go on, and the run ends with that"
        return _ended(task, "skipped", started, message=found_no)
    needed = needs_of(step, aside)
    if needed:
        task.aside = True
        return _ended(task, "skipped", started, message=without(needed))
    step = with_what_is_there(step, aside)
    executions = _executions_before(task, keys)
    with task.signals.allowed():  # input files may take long to read
        plan = decide(task.graph, step, executions, task.store, run=task.run)
    if plan.set_aside:
        task.aside = True
        (why,) = plan.reasons
        how: Outcome = "refused" if plan.action == "refused" else "skipped"
        return _ended(task, how, started, message=why, reason=why if how == "skipped" else "")
    assert plan.key is not None
    task.key = plan.key
    task.held.enter_context(task.store.in_use(step.id, plan.key))
    found = task.store.find(step.id, plan.key) if plan.action != "run" or _is_ours(task, plan) else None
    if plan.action != "run" and found and (said := found.manifest.refusal):
        return _ended(task, said.action, started, message=said.message, reason=_reason(plan), execution=found)
    if found is not None:
        return _reused(task, found, plan, started)
    return _run(task, step, plan, executions, started)


def _found_no_need(record: RunRecord, step: Step) -> bool:
    """Whether a run without this step ends for want of a need, and not with a refusal."""
    actions = {other.action for other in record.steps if other.step != step.id}
    return "no need" in actions and "refused" not in actions


def _set_aside(record: RunRecord, step: Step) -> set[str]:
    """The parents of `step` that conditions keep from running, unless what a step found ends the run."""
    others = [other for other in record.steps if other.step != step.id]
    if any(other.action == "no need" or (other.action == "refused" and other.key) for other in others):
        return set()
    return {other.step for other in others if other.step in step.parents and other.action in ("refused", "skipped")}


def _run(task: _Task, step: Step, plan: StepPlan, executions: Mapping[str, Execution], started: float) -> TaskResult:
    """The work of the task's step, with the inputs that are there, in this process."""
    reason = _reason(plan)
    task.ledger.begin_step(task.run, step.id, task.key, ", ".join(plan.reasons))
    task.begun = True
    order = make_order(
        task.graph,
        step,
        plan,
        executions,
        run=task.run,
        store=task.store,
        beam=task.definition.beam,
        commit=git_commit(Path.cwd()),
    )
    order.write(task.store.order_path(task.run, step.id))
    task.listener(log.StepStarted(step.id))
    with own_directory(), task.signals.allowed():
        outcome = run_order(
            order,
            SpacedProgress(lambda *how: task.listener(log.StepProgress(step.id, *how)), _PROGRESS_S),
            on_wait=lambda who: task.listener(log.StepWaiting(step.id, who)),
        )
    if outcome.action == "failed":
        return _ended(task, "failed", started, message=outcome.message, reason=reason)
    execution = task.store.find(step.id, task.key) if outcome.published else None
    if outcome.action == "refused" or outcome.action == "no need":
        return _ended(task, outcome.action, started, message=outcome.message, reason=reason, execution=execution)
    if execution is None:
        raise StepFailed("its outputs were removed right after they were published")
    if outcome.action == "reuse":
        return _reused(task, execution, plan, started)
    return _ended(task, "done", started, reason=reason, execution=execution)


def _is_ours(task: _Task, plan: StepPlan) -> bool:
    """Whether a step that runs whatever the store has, has run in this very run: an attempt before this one finished it."""
    return task.step.cache is False and plan.execution is not None and plan.execution.manifest.run == task.run


def _reused(task: _Task, found: Execution, plan: StepPlan, started: float) -> TaskResult:
    if (said := found.manifest.refusal) is not None:  # another run has found out meanwhile
        return _ended(task, said.action, started, message=said.message, execution=found)
    if found.manifest.run == task.run:
        reason = "an earlier attempt of this run made it"
        return _ended(task, "done", started, reason=reason, execution=found)
    reason = f"made by run {found.manifest.run}"
    return _ended(task, "reused", started, reason=reason, execution=found)


def _ended(
    task: _Task,
    outcome: Outcome,
    started: float,
    *,
    message: str = "",
    reason: str = "",
    execution: Execution | None = None,
) -> TaskResult:
    return TaskResult(
        step=task.step.id,
        outcome=outcome,
        run=task.run,
        message=message,
        reason=reason,
        seconds=time.monotonic() - started,
        key=task.key,
        execution=execution,
        notes=tuple(task.notes),
    )


def _reason(plan: StepPlan) -> str:
    return ", ".join(plan.reasons)


# What came before


def _keys_before(task: _Task) -> dict[str, str]:
    """The key of every step before this one that is done, as the tasks of its parents say."""
    before = task.graph.ancestors(task.step.id)
    keys: dict[str, str] = {}
    for parent in task.step.parents:
        name = names.came_from(parent)
        text = task.given.text(name)
        try:
            told = json.loads(text or "{}")
            sound = {step: key for step, key in told.items() if step in before and _KEY.fullmatch(key)}
        except (ValueError, TypeError, AttributeError) as error:
            raise ConfigError(
                f"parameter '{name}': {text!r} is not what the task of {parent} says of its executions ({error})"
            ) from error
        if len(sound) != len(told):
            raise ConfigError(
                f"parameter '{name}': {text!r} names steps that do not come before {task.step.id} in the definition in the "
                f"image, or no keys. Build the image from the files that the package is compiled from"
            )
        keys |= sound
    return keys


def _executions_before(task: _Task, keys: Mapping[str, str]) -> dict[str, Execution]:
    """What those keys lead to, kept from `pipeline gc` until this task ends. Raises StoreError for what is gone."""
    executions = {}
    for step, key in keys.items():
        task.held.enter_context(task.store.in_use(step, key))
        found = task.store.find(step, key)
        if found is None:
            raise StoreError(
                f"{task.store.directory(step, key)} is gone, which {step} made or reused earlier in this run. Is the "
                f"volume of the other pods mounted at {task.store.root}? If it is, run the pipeline again to remake it"
            )
        executions[step] = found
    return executions


# What is said of the end


def _tell_kubeflow(task: _Task, result: TaskResult) -> None:
    """Write what KFP reads: parameters, artifacts' metadata, and the pages behind the artifacts that the UI draws."""
    found, contract, given = result.execution, task.contract, task.given
    keys = _keys_before(task)
    if found is not None and result.outcome in ("done", "reused"):
        keys[task.step.id] = found.key
    parameters: dict[str, Any] = {
        names.OUTCOME: result.outcome,
        names.EXECUTIONS: json.dumps(keys, sort_keys=True),
    }
    if contract.blesses:
        # Who waits for the verdict of a step that does not run goes on without, as on one machine. It is skipped by itself where the
        # run ends for want of a need: kept from beginning, it would look refused to who cannot read the store.
        parameters[names.BLESSED] = (
            task.aside
            or result.outcome == "no need"
            or (result.outcome == "skipped" and task.enough)
            or (result.outcome in ("done", "reused") and _is_blessed(found, contract))
        )
    metadata: dict[str, dict[str, Any]] = {names.SUMMARY: {"outcome": result.outcome, "run": task.run}}
    pages: dict[str, str] = {
        names.SUMMARY: pictures.summary(
            task.step.id,
            result.outcome,
            run=task.run,
            reason=result.reason,
            message=result.message,
            seconds=result.seconds,
            notes=result.notes,
            execution=found,
            contract=contract,
        )
    }
    if found is not None:
        for output in found.manifest.outputs:
            metadata[output] = pictures.artifact_metadata(found, output, contract)
            pages[output] = json.dumps(metadata[output], indent=1, sort_keys=True) + "\n"
        metadata[names.METRICS] = dict(pictures.metrics(found, contract))
        metadata[names.ROC] = _curves(task, found) if names.ROC in given.outputs else {}
    for name, text in pages.items():
        path = given.outputs[name].path if name in given.outputs else None
        if path is not None:
            try:
                executor_output.put(path, text)
            except StoreError as error:  # a page that is missing in the UI is no reason to do the work again
                task.listener(log.StepNote(task.step.id, str(error)))
    executor_output.write(given, parameters, metadata)


def _curves(task: _Task, found: Execution) -> dict[str, Any]:
    try:
        return pictures.curves(found, task.contract)
    except Exception as error:  # noqa: BLE001 whatever it is, a picture is no reason to do the work again
        task.listener(log.StepNote(task.step.id, f"its curves cannot be drawn: {type(error).__name__}: {error}"))
        return {}


def _is_blessed(execution: Execution | None, contract: Contract) -> bool:
    """Whether every verdict of a step blesses the model."""
    return execution is not None and all(
        bool(execution.manifest.outputs[output].properties.get("blessed"))
        for output, kind in contract.outputs.items()
        if issubclass(kind, Verdict)
    )


_ACTIONS: Mapping[Outcome, Action] = {
    "done": "run",
    "reused": "reuse",
    "refused": "refused",
    "no need": "no need",
    "skipped": "skipped",
    "failed": "failed",
}


def _record(task: _Task, result: TaskResult) -> None:
    """Put the end into the ledger. That it cannot be reached then is said and no failure: the store has what counts."""
    record = StepRecord(
        step=result.step,
        key=result.key,
        action=_ACTIONS[result.outcome],
        reason=result.reason or (result.message if result.outcome == "skipped" else ""),
        seconds=round(result.seconds, 3),
        message="" if result.outcome == "skipped" and not result.reason else result.message,
    )
    execution = result.execution if result.outcome in ("done", "reused") else None
    try:
        task.ledger.record_step(task.run, record, execution)
    except PenstockError as error:
        task.listener(log.StepNote(task.step.id, f"how it ended is not in the ledger: {error}"))


def _show(task: _Task, result: TaskResult) -> None:
    """Say how the step ended in the pod's log."""
    match result.outcome:
        case "failed":
            task.listener(log.StepFailed(result.step, result.message, seconds=result.seconds))
        case "refused":
            task.listener(log.StepRefused(result.step, result.message, result.seconds, reused=not task.begun))
        case "no need":
            task.listener(log.StepFoundNoNeed(result.step, result.message, result.seconds, reused=not task.begun))
        case "skipped":
            task.listener(log.StepFinished(result.step, "skipped", reason=result.message))
        case _:
            assert result.execution is not None
            outputs = [
                (name, kind.__name__, open_output(result.execution, name, kind).describe())
                for name, kind in task.contract.outputs.items()
            ]
            reason = "" if result.reason in (NEVER_RAN, NOTHING_CHANGED) else result.reason
            action: Literal["run", "reuse"] = "run" if result.outcome == "done" else "reuse"
            task.listener(log.StepFinished(result.step, action, result.seconds, outputs, reason))
