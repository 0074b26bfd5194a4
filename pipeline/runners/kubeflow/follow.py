"""A run on Kubeflow Pipelines, followed until it ends: what each task does, as it changes."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pipeline import log
from pipeline.ledger import RunRecord, StepRecord
from pipeline.ledger.run_files import RunFiles
from pipeline.log import duration
from pipeline.runners.kubeflow.api import Api, NotThere
from pipeline.runners.kubeflow.package_file import Layout, Task, layout_of
from pipeline.runners.kubeflow.pods import pods_of
from pipeline.store import Store
from schemas.errors import ConfigError, Interrupted, KubeflowError, PenstockError, Unreachable

State = Literal[
    "waiting", "starting", "running", "done", "reused", "refused", "no need", "failed", "skipped", "not reached"
]
Outcome = Literal["done", "failed", "refused", "skipped", "stopped", "running"]

_ENDED: Mapping[str, Outcome] = {"SUCCEEDED": "done", "SKIPPED": "done", "FAILED": "failed", "CANCELED": "stopped"}
_STATES: Mapping[str, State] = {
    "PENDING": "starting",
    "RUNNING": "running",
    "PAUSED": "running",
    "CANCELING": "running",
    "SUCCEEDED": "done",
    "SKIPPED": "skipped",
    "FAILED": "failed",
    "CANCELED": "failed",
}


def outcome_of(state: str | None) -> Outcome:
    """How a run of Kubeflow's `state` ended; what a gate refused is done here, since Kubeflow does not know of it."""
    return _ENDED.get(state or "", "running")


@dataclass(frozen=True)
class TaskView:
    """What a task does now."""

    task: Task
    state: State
    began: datetime | None = None
    ended: datetime | None = None
    note: str = ""

    @property
    def seconds(self) -> float | None:
        """How long it took, or has taken."""
        if self.began is None:
            return None
        return max(((self.ended or datetime.now(UTC)) - self.began).total_seconds(), 0.0)


@dataclass(frozen=True)
class RunView:
    """A run as Kubeflow's API shows it at one moment."""

    id: str
    name: str
    state: str  # KFP's: PENDING, RUNNING, SUCCEEDED, SKIPPED, FAILED, CANCELING, CANCELED, PAUSED
    tasks: tuple[TaskView, ...]
    refused_by: tuple[str, ...] = ()  # names of the tasks whose verdict kept others from running
    began: datetime | None = None
    ended: datetime | None = None
    skipped_by: tuple[str, ...] = ()  # of those that found no need to go on, as only the store says

    @property
    def outcome(self) -> Outcome:
        """How it ended. A gate has refused when all went well and what waits for its blessing did not run."""
        outcome = outcome_of(self.state)
        if outcome != "done":
            return outcome
        return "refused" if self.refused_by else "skipped" if self.skipped_by else outcome

    @property
    def seconds(self) -> float:
        """How long it took, or has taken."""
        if self.began is None:
            return 0.0
        return max(((self.ended or datetime.now(UTC)) - self.began).total_seconds(), 0.0)

    @property
    def exit_code(self) -> int:
        """0 done or skipped, 1 failed or stopped, 3 refused by a gate."""
        return {"failed": 1, "stopped": 1, "refused": 3}.get(self.outcome, 0)

    def as_json(self) -> dict[str, Any]:
        """What `--json` prints."""
        return {
            "outcome": self.outcome,
            "run": self.id,
            "name": self.name,
            "state": self.state,
            "seconds": round(self.seconds, 3),
            "refused_by": list(self.refused_by),
            "skipped_by": list(self.skipped_by),
            "tasks": {
                view.task.name: {
                    "state": view.state,
                    "began_at": view.began.isoformat() if view.began else None,
                    "seconds": round(view.seconds, 3) if view.seconds is not None else None,
                    "message": view.note,
                }
                for view in self.tasks
            },
        }


def view_of(run: Any, layout: Layout) -> RunView:
    """What the API's answer says of each task of the layout. Its task details are Argo's nodes, pods of Kubeflow's own included."""
    details: dict[str, Any] = {}
    for detail in (run.run_details.task_details or ()) if run.run_details else ():
        details.setdefault(detail.display_name, detail)
    ended = run.state in _ENDED
    skipped = {key for key in layout.groups if key in details and details[key].state == "SKIPPED"}
    refusing = [group.blessing for key, group in layout.groups.items() if key in skipped and group.blessing]
    names = {task.key: task.name for task in layout.tasks}
    tasks = tuple(_task_view(task, details, layout, skipped, ended) for task in layout.tasks)
    return RunView(
        id=run.run_id,
        name=run.display_name or "",
        state=run.state or "PENDING",
        tasks=tasks,
        refused_by=tuple(dict.fromkeys(names.get(key, key) for key in refusing)),
        began=_moment(run.created_at),
        ended=_moment(run.finished_at),
    )


def _task_view(task: Task, details: Mapping[str, Any], layout: Layout, skipped: set[str], ended: bool) -> TaskView:
    detail, driver = details.get(task.key), details.get(f"{task.key}-driver")
    began = _moment(driver.start_time) if driver else None
    if detail:
        began = began or _moment(detail.start_time)
        state = _STATES.get(detail.state)
        if state == "skipped":
            return TaskView(task, state, note="its condition was false")
        if state:
            return TaskView(task, state, began, _moment(detail.end_time))
        # Argo's 'Omitted', which the API does not know: what it depends on did not succeed.
    if driver and driver.state == "FAILED":
        return TaskView(
            task, "failed", began, _moment(driver.end_time), "Kubeflow could not prepare it: its driver failed"
        )
    gate = next((layout.groups[key] for key in task.within if key in skipped), None)
    if gate:
        names = {other.key: other.name for other in layout.tasks}
        why = (
            f"no blessing from {names.get(gate.blessing, gate.blessing)}"
            if gate.blessing
            else "its condition was false"
        )
        return TaskView(task, "skipped", note=why)
    if ended or detail:
        return TaskView(task, "not reached", note="what it needs did not succeed" if detail else "the run ended before")
    return TaskView(task, "starting" if driver else "waiting", began)


@dataclass
class Follower:
    """Follows one run. `tell` hears of each change; network failures of up to `patience_s` are waited out."""

    api: Api
    run: str
    tell: Callable[[log.Event], None]
    root: Path | None = (
        None  # the store, where it is mounted here: there steps say why they refused, and what they reused
    )
    poll_s: float = 3.0
    patience_s: float = 600.0
    pod_looks_s: float = 15.0  # between looks at what pods wait for
    sleep: Callable[[float], None] = time.sleep
    _states: dict[str, str] = field(default_factory=dict)
    _told: set[tuple[str, str]] = field(default_factory=set)
    _whys: dict[str, str] = field(default_factory=dict)  # by task: why it failed
    _failed_pods: int = 0
    _looked: float = 0.0

    def follow(self, timeout_s: float | None = None) -> RunView:
        """Wait until the run ends. It goes on in Kubeflow whatever happens here.

        Raises Interrupted on Ctrl-C, PenstockError when `timeout_s` have passed, KubeflowError when Kubeflow does not answer.
        """
        started = time.monotonic()
        again = f"The run goes on; `pipeline kubeflow wait {self.run}` follows it again"
        try:
            answer = self._answer()
            layout = layout_of_run(self.api, answer)
            view = view_of(answer, layout)
            names = tuple(view.task.name for view in view.tasks)
            self.tell(log.RunStarted(view.name, view.id, names))
            while True:
                view = self._recorded(self._explained(answer, view))
                self._tell(view)
                if view.outcome != "running":
                    return view
                left_s = math.inf if timeout_s is None else timeout_s - (time.monotonic() - started)
                if timeout_s is not None and left_s <= 0:
                    doing = ", ".join(view.task.name for view in view.tasks if view.state in ("starting", "running"))
                    raise PenstockError(
                        f"run {self.run} has not ended in {duration(timeout_s)} ({doing or 'nothing'} at work). {again}"
                    )
                self.sleep(min(self.poll_s, left_s))
                answer = self._answer()
                view = view_of(answer, layout)
        except KeyboardInterrupt:
            raise Interrupted(f"no longer watching. {again}") from None

    def _answer(self) -> Any:
        """The run, however often it takes to be told."""
        since, wait = time.monotonic(), self.poll_s
        lost = False
        while True:
            try:
                answer = self.api.runs.get(self.run)
                if lost:
                    self.tell(log.StepNote("kubeflow", "it answers again"))
                return answer
            except Unreachable as error:
                if time.monotonic() - since >= self.patience_s:
                    raise
                if not lost:
                    self.tell(log.StepNote("kubeflow", f"{error}. Asking again"))
                lost = True
                self.sleep(wait)
                wait = min(wait * 2, 30.0)

    def _explained(self, answer: Any, view: RunView) -> RunView:
        """The view with what Kubernetes says of pods that failed or cannot start, which only Argo's record has."""
        details = (answer.run_details.task_details or ()) if answer.run_details else ()
        failed = sum(detail.state == "FAILED" for detail in details)
        waits = any(view.state == "running" for view in view.tasks)
        due = time.monotonic() - self._looked >= self.pod_looks_s
        if failed == self._failed_pods and not (waits and due):
            return self._with_whys(view)
        try:
            workflow = self.api.runs.workflow(self.run)
        except KubeflowError:
            return self._with_whys(view)  # nothing depends on it
        self._failed_pods, self._looked = failed, time.monotonic()
        for shown in view.tasks:
            pods = pods_of(workflow, shown.task)
            last = pods[-1] if pods else None
            for pod in pods:
                if pod.failed and shown.state == "running":
                    self._once(shown, f"attempt {pod.attempt} failed: {pod.why}. Kubeflow tries again")
            if last and last.phase == "Pending" and last.message and shown.state == "running":
                self._once(shown, last.message, waiting=True)
            if last and shown.state == "failed":
                tries = f", attempt {last.attempt}" if last.attempt > 1 else ""
                self._whys[shown.task.key] = f"{shown.note}: {last.why}" if shown.note else f"{last.why}{tries}"
        return self._with_whys(view)

    def _with_whys(self, view: RunView) -> RunView:
        tasks = tuple(
            replace(shown, note=self._whys.get(shown.task.key, shown.note)) if shown.state == "failed" else shown
            for shown in view.tasks
        )
        return replace(view, tasks=tasks)

    def _recorded(self, view: RunView) -> RunView:
        """The view with what the steps themselves have put into the store, where that can be read."""
        if self.root is None:
            return view
        try:
            record = RunFiles(Store(self.root)).find(view.id)
        except PenstockError:
            return view  # it is being written, or on a volume that is away
        return with_record(view, record) if record else view

    def _once(self, shown: TaskView, message: str, *, waiting: bool = False) -> None:
        if (shown.task.key, message) not in self._told:
            self._told.add((shown.task.key, message))
            event = log.StepWaiting if waiting else log.StepNote
            self.tell(event(shown.task.name, message))

    def _tell(self, view: RunView) -> None:
        for shown in view.tasks:
            if self._states.get(shown.task.key) == shown.state:
                continue
            before = self._states.get(shown.task.key)
            self._states[shown.task.key] = shown.state
            name, seconds = shown.task.name, shown.seconds or 0.0
            match shown.state:
                case "starting" | "running" if before not in ("starting", "running"):
                    self.tell(log.StepStarted(name))
                case "done":
                    self.tell(log.StepFinished(name, "run", seconds))
                case "reused":
                    self.tell(log.StepFinished(name, "reuse"))
                case "refused":
                    self.tell(log.StepRefused(name, shown.note, seconds))
                case "no need":
                    self.tell(log.StepFoundNoNeed(name, shown.note, seconds))
                case "skipped" | "not reached":
                    self.tell(log.StepFinished(name, "skipped", reason=shown.note))
                case "failed":
                    logs = f"pipeline kubeflow logs {self.run} {name}"
                    self.tell(log.StepFailed(name, shown.note or "its pod failed", log=logs, seconds=seconds))


def with_record(view: RunView, record: RunRecord) -> RunView:
    """The view with how each step of the store's record ended: Kubeflow sees a refusal, and a reuse, as success."""
    said = {step.step: step for step in record.steps}
    tasks = tuple(_with_step(shown, said.get(shown.task.name)) for shown in view.tasks)
    names: dict[State, list[str]] = {}
    for shown in tasks:
        names.setdefault(shown.state, []).append(shown.task.name)
    # A step that was skipped judged nothing: that no blessing came from it has its reason elsewhere.
    judged = tuple(name for name in view.refused_by if name not in names.get("skipped", ()))
    skipped_by = tuple(names.get("no need", ()))
    return replace(view, tasks=tasks, refused_by=tuple(names.get("refused", ())) or judged, skipped_by=skipped_by)


def _with_step(shown: TaskView, step: StepRecord | None) -> TaskView:
    if step is None or shown.state not in ("done", "failed"):
        return shown
    match step.action:
        case "reuse":
            return replace(shown, state="reused", note=step.reason)
        case "refused":
            return replace(shown, state="refused", note=step.message)
        case "no need":
            return replace(shown, state="no need", note=step.message)
        case "skipped":
            return replace(shown, state="skipped", note=step.reason)
        case "failed":
            return replace(shown, note=step.message or shown.note)
    return shown


def find_run(api: Api, run: str) -> Any:
    """The run of this id, or of this name if only one has it. Raises ConfigError when there is none, or several."""
    try:
        return api.runs.get(run)
    except NotThere:
        pass
    named = api.runs.named(run)
    if len(named) == 1:
        return api.runs.get(named[0]["run_id"])
    if named:
        listed = "\n".join(f"  {found['run_id']}  {found['state']}  {found['created_at']}" for found in named[:5])
        raise ConfigError(f"{api.endpoint}: {len(named)} runs are called '{run}'; give the id of one:\n{listed}")
    where = f" in the namespace {api.namespace}" if api.namespace else ""
    raise ConfigError(f"{api.endpoint}: there is no run '{run}'{where}; `pipeline kubeflow run` prints a run's id")


def layout_of_run(api: Api, run: Any) -> Layout:
    """The tasks of a run, by the package that it was started with."""
    if run.pipeline_spec:
        return layout_of(run.pipeline_spec)
    reference = run.pipeline_version_reference
    if reference and reference.pipeline_id and reference.pipeline_version_id:
        try:
            return layout_of(api.pipelines.specification(reference.pipeline_id, reference.pipeline_version_id))
        except NotThere:  # the version was deleted after the run had begun
            pass
    return Layout(_by_nodes(run), {})


def _by_nodes(run: Any) -> tuple[Task, ...]:
    """The tasks that Kubeflow's own pods give away, when nothing else is known of them."""
    names = [detail.display_name for detail in (run.run_details.task_details or ())] if run.run_details else []
    return tuple(Task(name, name) for name in dict.fromkeys(names) if f"{name}-driver" in names and name != "root")


def _moment(value: datetime | None) -> datetime | None:
    """A time of the API; those before 1971 stand for none."""
    return value if value is not None and value.year > 1970 else None
