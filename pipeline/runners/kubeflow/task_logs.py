"""The logs of a run's tasks: from the store where it can be reached, else from their pods."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipeline.runners.kubeflow.api import Api, NotThere
from pipeline.runners.kubeflow.follow import find_run, layout_of_run, view_of
from pipeline.runners.kubeflow.package_file import Layout, Task
from pipeline.runners.kubeflow.pods import Pod, pods_of
from schemas.errors import ConfigError, Interrupted, did_you_mean


@dataclass(frozen=True)
class TaskLog:
    """What a task wrote, and where that was read; or why it cannot be read."""

    task: str
    text: str = ""
    source: str = ""  # a file of the store, or a pod
    gone: str = ""

    def as_json(self) -> dict[str, Any]:
        """What `--json` prints of it."""
        return {"text": self.text, "source": self.source, "gone": self.gone or None}


@dataclass(frozen=True)
class RunLogs:
    """The logs of the tasks that were asked for."""

    run: str
    logs: tuple[TaskLog, ...]

    @property
    def exit_code(self) -> int:
        """1 when none could be read."""
        return 0 if any(not found.gone for found in self.logs) else 1

    def as_json(self) -> dict[str, Any]:
        """What `--json` prints."""
        return {
            "outcome": "gone" if self.exit_code else "read",
            "run": self.run,
            "logs": {found.task: found.as_json() for found in self.logs},
        }

    def as_text(self) -> str:
        """Each log under its task's name; alone when there is one."""
        if len(self.logs) == 1:
            return self.logs[0].gone or self.logs[0].text.rstrip("\n")
        return "\n".join(f"==> {found.task} <==\n{found.gone or found.text.rstrip()}\n" for found in self.logs).rstrip()


def read_logs(api: Api, run: str, step: str | None = None, root: Path | None = None) -> RunLogs:
    """The logs of a run's tasks, or of one. Raises ConfigError for a run or a step that is not there, and KubeflowError."""
    answer = find_run(api, run)
    layout = layout_of_run(api, answer)
    tasks = [_task(layout, answer, step)] if step else list(layout.tasks)
    workflow: dict[str, Any] | None = None
    logs = []
    for task in tasks:
        found = _stored(root, answer.run_id, task)
        if found is None:
            workflow = api.runs.workflow(answer.run_id) if workflow is None else workflow
            found = _of_pods(api, answer, layout, task, pods_of(workflow, task), root)
        logs.append(found)
    return RunLogs(answer.run_id, tuple(logs))


def follow_log(
    api: Api,
    run: str,
    step: str,
    write: Callable[[str], None],
    root: Path | None = None,
    *,
    poll_s: float = 2.0,
    sleep: Callable[[float], None] = time.sleep,
) -> RunLogs:
    """Write a task's log as it grows until the task has ended; KFP's API server does not stream, so it is read again and again.

    Raises as `read_logs` does, and Interrupted on Ctrl-C.
    """
    answer = find_run(api, run)
    layout = layout_of_run(api, answer)
    task = _task(layout, answer, step)
    written, source = "", ""
    try:
        while True:
            ended = _has_ended(answer, layout, task)
            found = read_logs(api, answer.run_id, task.key, root).logs[0]
            if found.source != source:
                written, source = "", found.source  # the next attempt has a log of its own
            if not found.gone:
                write(found.text[len(written) :] if found.text.startswith(written) else found.text)
                written = found.text
            if ended:
                return RunLogs(answer.run_id, (replace(found, text="") if written else found,))
            sleep(poll_s)
            answer = api.runs.get(answer.run_id)
    except KeyboardInterrupt:
        raise Interrupted(
            f"no longer reading; the run goes on, and `pipeline kubeflow logs {run} {step}` reads again"
        ) from None


def _task(layout: Layout, run: Any, step: str) -> Task:
    found = layout.find(step)
    if found is None:
        names = [task.name for task in layout.tasks]
        raise ConfigError(
            f"run {run.run_id} ('{run.display_name}') has no step '{step}'."
            + (did_you_mean(step, names) or f" It has: {', '.join(names) or 'none yet'}")
        )
    return found


def _has_ended(run: Any, layout: Layout, task: Task) -> bool:
    view = view_of(run, layout)
    return view.outcome != "running" or any(
        shown.state not in ("waiting", "starting", "running") for shown in view.tasks if shown.task == task
    )


def _stored(root: Path | None, run: str, task: Task) -> TaskLog | None:
    """What the step wrote into the store; None where that is not to be had."""
    if root is None:
        return None
    for step in dict.fromkeys((task.name, task.key, task.key.replace("-", "_"))):
        file = root / "runs" / run / f"{step}.log"
        if file.is_file():
            return TaskLog(task.name, file.read_text(encoding="utf-8", errors="replace"), str(file))
    return None


def _of_pods(api: Api, run: Any, layout: Layout, task: Task, pods: Sequence[Pod], root: Path | None) -> TaskLog:
    """The last attempt whose log is still there, the driver's when that is as far as it came."""
    lost = []
    for pod in reversed(pods):
        try:
            text = api.runs.pod_log(run.run_id, pod.name, pod.namespace, pod.created)
        except NotThere as error:
            if pod.phase in ("Pending", "Running") and not pod.ended and "is waiting to start" in str(error):
                return TaskLog(task.name, gone=f"{task.name} has not started: {pod.message or 'its pod is being made'}")
            lost.append(pod.name)
            continue
        return TaskLog(task.name, "".join(_headed(pod, len(pods), text)), f"pod {pod.name}")
    if not pods:
        shown = next(view for view in view_of(run, layout).tasks if view.task == task)
        if shown.state in ("waiting", "starting"):
            return TaskLog(task.name, gone=f"{task.name} has not started")
        if shown.state in ("skipped", "not reached"):
            return TaskLog(task.name, gone=f"{task.name} did not run: {shown.note or 'the run ended before'}")
        return TaskLog(
            task.name, gone=f"{task.name}: Kubeflow does not say which pod ran it: it keeps no record of the run's pods"
        )
    instead = "" if root else "; where the store can be reached, --root DIR reads the log that the step wrote there"
    return TaskLog(
        task.name,
        gone=f"the log of {task.name} is gone: {' and '.join(lost)} {'is' if len(lost) == 1 else 'are'} no longer there, "
        f"and this Kubeflow keeps no archive of logs{instead}",
    )


def _headed(pod: Pod, attempts: int, text: str) -> Iterator[str]:
    if pod.driver:
        yield "(what follows is of Kubeflow's own pod, which prepares the task)\n"
    elif attempts > 1:
        yield f"(attempt {pod.attempt} of {attempts})\n"
    yield text
