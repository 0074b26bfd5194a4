"""One run of a package: groups and tasks in their order, conditions, retries, exit tasks, each container in a pod of its own."""

from __future__ import annotations

import itertools
import threading
import uuid
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kfp.pipeline_spec.pipeline_spec_pb2 import ComponentSpec, DagSpec, PipelineTaskSpec

from kfp_backend.conditions import condition_holds
from kfp_backend.driver import PIPELINE_ROOT, Execution, Run, executor_input, local_path, resolve_inputs
from kfp_backend.launcher import command_line, read_outputs, with_defaults
from kfp_backend.node import Node
from kfp_backend.package import EXIT, NEWEST, ROOT, Package, dependencies, read_package, run_parameters
from kfp_backend.pods import Image, Mount, Pod, namespaces
from kfp_backend.rules import Rejected, reject

SUCCEEDED, FAILED, SKIPPED, OMITTED = "succeeded", "failed", "skipped", "omitted"


@dataclass
class Task:
    """How a container task, or a group of tasks, ended in a run."""

    name: str
    state: str = OMITTED
    exit_codes: list[int] = field(default_factory=list)  # one for each attempt
    logs: list[str] = field(default_factory=list)
    input: dict[str, Any] = field(default_factory=dict)  # the ExecutorInput of the last attempt
    outputs: dict[str, Any] = field(default_factory=dict)
    artifacts: dict[str, dict[str, Any]] = field(default_factory=dict)
    files: dict[str, Path] = field(default_factory=dict)  # what it wrote at the local path of an artifact
    broke: Rejected | None = None  # the rule that the task's inputs or outputs broke


@dataclass
class Finished:
    """A run at its end."""

    run: Run
    state: str
    tasks: dict[str, Task]

    def states(self) -> dict[str, str]:
        """How each task ended."""
        return {name: task.state for name, task in self.tasks.items()}

    def outcomes(self, tasks: Iterable[str]) -> dict[str, str]:
        """What each of these tasks said of itself; of one that said nothing, its state, or that it never started."""
        return {
            name: str(self.tasks[name].outputs.get("outcome", self.tasks[name].state))
            if name in self.tasks
            else "never started"
            for name in tasks
        }

    def report(self) -> str:
        """What a person wants to read when a test fails."""
        lines = [f"run {self.state}"]
        for task in self.tasks.values():
            lines.append(f"--- {task.name}: {task.state} {task.exit_codes} {task.broke or ''} {task.outputs}")
            lines += [log[-3000:] for log in task.logs if task.state == FAILED or len(task.logs) > 1]
        return "\n".join(lines)


@dataclass
class Cluster:
    """Kubeflow Pipelines without Kubernetes: images, claims and secrets by their names."""

    directory: Path
    images: Mapping[str, Image]
    claims: Mapping[str, Path] = field(default_factory=dict)
    secrets: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    backend: tuple[int, int] = NEWEST
    parallel: int = 2  # pods at a time
    isolated: bool = field(default_factory=namespaces)  # see pods.py
    node: Node | None = None  # what forks the pods' processes; without one each is started

    def __post_init__(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        self._pods = itertools.count(1)
        self._free = threading.Semaphore(self.parallel)

    def run(
        self,
        text: str,
        parameters: Mapping[str, Any] | None = None,
        kill: Mapping[str, Callable[[], bool]] | None = None,
    ) -> Finished:
        """Upload a package and run it. Raises Rejected when the API server or the compiler refuses it or its parameters.

        `kill`: by a task's name, when the pod of its first attempt is to be killed.
        """
        package = read_package(text, self.backend)
        given = run_parameters(package, parameters or {})
        run_id = str(uuid.uuid4())
        run = Run(
            run_id, f"{package.spec.pipeline_info.name}-{run_id[:5]}", f"Run of {package.spec.pipeline_info.name}"
        )
        walk = _Walk(self, package, run, dict(kill or {}))
        root = Execution(ROOT, parameters=given)
        state = walk.dag(package.spec.root.dag, root, None, {}, at_root=True)
        return Finished(run, state, walk.tasks)


class _Walk:
    """One run on its way."""

    def __init__(self, cluster: Cluster, package: Package, run: Run, kill: dict[str, Callable[[], bool]]) -> None:
        self.cluster = cluster
        self.package = package
        self.run = run
        self.kill = kill
        self.tasks: dict[str, Task] = {}
        self.parents: dict[int, Execution] = {}
        self.lock = threading.RLock()

    def dag(
        self,
        dag: DagSpec,
        execution: Execution,
        retry: PipelineTaskSpec.RetryPolicy | None,
        states: dict[str, str],
        at_root: bool = False,
    ) -> str:
        """Run the tasks of a group; how the group ended.

        v2/compiler/argocompiler/dag.go, depends: a task runs when all before it have Succeeded; behind one that was skipped it
        is omitted. Argo starts nothing more in a DAG once a task failed, and a skipped or omitted task is no failure. An exit
        task is a hook on the task that it depends on, and runs however that ended.
        """
        waiting = {name: task for name, task in dag.tasks.items() if task.trigger_policy.strategy != EXIT}
        hooks = {name: task for name, task in dag.tasks.items() if task.trigger_policy.strategy == EXIT}
        running: dict[Future[str], str] = {}
        with ThreadPoolExecutor(max_workers=max(1, len(dag.tasks))) as pool:
            while waiting or running:
                for name in sorted(waiting):
                    before = dependencies(waiting[name])
                    if not all(producer in states for producer in before):
                        continue
                    task = waiting.pop(name)
                    if FAILED in states.values() or any(states[producer] != SUCCEEDED for producer in before):
                        self.record(Task(name, OMITTED))
                        states[name] = OMITTED
                    else:
                        future = pool.submit(self.task, name, task, execution, retry, at_root)
                        running[future] = name
                    break
                else:
                    done, _ = wait(running, return_when=FIRST_COMPLETED)
                    for future in done:
                        name = running.pop(future)
                        states[name] = future.result()
                        for hook, task in sorted(hooks.items()):
                            if name in task.dependent_tasks:
                                states[hook] = self.task(hook, task, execution, retry, at_root)
        return FAILED if FAILED in states.values() else SUCCEEDED

    def task(
        self,
        name: str,
        task: PipelineTaskSpec,
        parent: Execution,
        retry: PipelineTaskSpec.RetryPolicy | None,
        at_root: bool,
    ) -> str:
        """Run one task of a group, which may be a group itself; how it ended."""
        component = self.package.component(task)
        found = Task(name)
        execution = Execution(name, task, component=component)
        try:
            parameters, artifacts = resolve_inputs(self.package, name, task, parent, self.run)
            condition = task.trigger_policy.condition
            wanted = condition_holds(condition, parameters) if condition else True
        except Rejected as error:
            found.state, found.broke = FAILED, error
            self.record(found)
            return FAILED
        with self.lock:
            execution.parameters, execution.artifacts = parameters, artifacts
            execution.state = (
                "RUNNING" if wanted else "CANCELED"
            )  # v2/metadata/client.go, CreateExecution: NotTriggered
            parent.children[name] = execution
            self.parents[id(execution)] = parent
        # v2/compiler/visitor.go, dfs: a group's retries are those of its tasks. At 2.5.0 only tasks of the root were retried.
        policy = task.retry_policy if task.HasField("retry_policy") else retry
        if not wanted:
            found.state = SKIPPED
        elif component.WhichOneof("implementation") == "dag":
            self.record(found)
            found.state = self.dag(component.dag, execution, policy, {})
        else:
            if self.cluster.backend < (2, 14) and not at_root:
                policy = None
            with self.cluster._free:
                self.container(found, component, execution, policy.max_retry_count if policy else 0)
        self.record(found)
        return found.state

    def record(self, task: Task) -> None:
        """Keep how a task ended; what is behind a group that was not entered is not there."""
        with self.lock:
            self.tasks[task.name] = task

    def container(self, found: Task, component: ComponentSpec, execution: Execution, retries: int) -> None:
        """Run a container in a new pod for each attempt.

        v2/compiler/argocompiler/container.go, getTaskRetryStrategyFromInput: every attempt is given the same ExecutorInput; the
        launcher publishes what happened, unless it was killed too.
        """
        root = f"{PIPELINE_ROOT}/{self.package.spec.pipeline_info.name}/{self.run.id}"
        data = executor_input(
            component, found.name, execution.parameters, execution.artifacts, root, self.cluster.backend
        )
        for attempt in range(retries + 1):
            reported = self.attempt(found, component, execution, data, attempt)
            with self.lock:
                if reported:
                    execution.state = "COMPLETE" if found.state == SUCCEEDED else "FAILED"
                    self.update_state(self.parents[id(execution)])
            if found.state == SUCCEEDED:
                return

    def attempt(
        self, found: Task, component: ComponentSpec, execution: Execution, data: dict[str, Any], attempt: int
    ) -> bool:
        """One pod. Whether its launcher lived to tell how it ended."""
        container = self.package.deployment.executors[component.executor_label].container
        config = self.package.kubernetes.get(component.executor_label)
        number = next(self.cluster._pods)
        name = f"{self.run.name}-{number}"
        found.state = FAILED
        try:
            image = self.cluster.images.get(container.image)
            if image is None:
                raise reject("images_can_be_pulled", f"{container.image}: ImagePullBackOff")
            mounts, environment = self.platform(config, self.cluster.directory / name)
            pod = Pod(name, self.cluster.directory / name, image, mounts, self.cluster.isolated, self.cluster.node)
            found.input = with_defaults(pod.localised(data), component)
            words = command_line([*container.command, *container.args], found.input)
            outputs = data["outputs"]
            files = {key: pod.outside(given["outputFile"]) for key, given in outputs.get("parameters", {}).items()}
            # v2/component/launcher_v2.go, prepareOutputFolders: of output parameters and artifacts, not of the output file.
            for path in files.values():
                path.parent.mkdir(parents=True, exist_ok=True)
            found.files = {}
            for key, given in outputs.get("artifacts", {}).items():
                found.files[key] = pod.outside(local_path(given["artifacts"][0]["uri"]))
                found.files[key].parent.mkdir(parents=True, exist_ok=True)
            environment |= {variable.name: variable.value for variable in container.env}
            environment |= {"KFP_POD_NAME": name, "KFP_POD_UID": str(uuid.uuid4()), "KFP_RETRY_INDEX": str(attempt)}
            deadline = config.active_deadline_seconds if config is not None else 0
            kill_when = self.kill.get(found.name) if attempt == 0 else None
            code = pod.run(words, environment, deadline or None, kill_when)
            found.exit_codes.append(code)
            found.logs.append(pod.log.read_text(encoding="utf-8", errors="replace"))
            if code == -9:
                return False
            if code:
                return True
            found.outputs, found.artifacts = read_outputs(
                pod.outside(outputs["outputFile"]), files, data, component, number
            )
        except Rejected as error:
            found.broke = error
            return True
        found.state = SUCCEEDED
        execution.outputs, execution.output_artifacts = found.outputs, found.artifacts
        return True

    def platform(self, config: Any, directory: Path) -> tuple[list[Mount], dict[str, str]]:
        """Volumes and variables of the platform document. v2/driver/k8s.go, extendPodSpecPatch. Raises Rejected."""
        mounts: list[Mount] = []
        environment: dict[str, str] = {}
        if config is None:
            return mounts, environment
        for mount in config.pvc_mount:
            claim = mount.pvc_name_parameter.runtime_value.constant.string_value or mount.constant
            if claim not in self.cluster.claims:
                raise reject("claims_can_be_mounted", f"persistentvolumeclaim {claim!r} not found")
            mounts.append(Mount(self.cluster.claims[claim], mount.mount_path))
        for empty in config.empty_dir_mounts:
            source = directory / "empty" / empty.volume_name
            source.mkdir(parents=True)
            mounts.append(Mount(source, empty.mount_path))
        for secret in config.secret_as_env:
            name = secret.secret_name_parameter.runtime_value.constant.string_value or secret.secret_name
            for pair in secret.key_to_env:
                held = self.cluster.secrets.get(name, {})
                if pair.secret_key in held:
                    environment[pair.env_var] = held[pair.secret_key]
                elif not secret.optional:
                    raise reject("secrets_are_there", f"secret {name!r} has no key {pair.secret_key!r}")
        return mounts, environment

    def update_state(self, dag: Execution) -> None:
        """A group's state, as a launcher that ends works it out; nobody does when a pod was killed or a group is skipped.

        v2/metadata/client.go, UpdateDAGExecutionsState.
        """
        if dag.component is None:
            return
        states = [child.state for child in dag.children.values()]
        if sum(state in ("COMPLETE", "CANCELED") for state in states) == len(dag.component.dag.tasks):
            dag.state = "COMPLETE"
        elif "FAILED" in states:
            dag.state = "FAILED"
        else:
            return
        self.update_state(self.parents[id(dag)])
