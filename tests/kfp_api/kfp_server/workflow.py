"""What Argo makes of a run."""

from __future__ import annotations

import re
import uuid
from datetime import UTC, datetime, timedelta

from kfp_server.calls import Json


class Workflow:
    """What Argo makes of a run: a node for every pod and group, named and numbered as Argo does."""

    def __init__(self, name: str, spec: Json, namespace: str) -> None:
        self.name = name
        self.namespace = namespace
        self.nodes: dict[str, Json] = {}
        self.phase = ""
        self._paths = {"root": f"{name}.root", **_paths(spec, spec.get("root", {}), f"{name}.root")}
        self._retried = _retried(spec)
        self._clock = datetime.now(UTC).replace(microsecond=0)

    def start(self) -> None:
        """The run begins."""
        self.phase = "Running"
        self._node(self.name, "DAG", "Running", "entrypoint")
        self._node(f"{self.name}.root-driver", "Pod", "Succeeded", "system-dag-driver")
        self._node(f"{self.name}.root", "DAG", "Running", "root")

    def prepare(self, task: str, phase: str = "Running", message: str = "") -> None:
        """A task's or a group's driver runs."""
        self._node(f"{self._paths[task]}-driver", "Pod", phase, "system-container-driver", message)

    def run(self, task: str, message: str = "") -> None:
        """A task's container runs, or with a message waits to."""
        self.prepare(task, "Succeeded")
        self._node(self._paths[task], "DAG", "Running", "system-container-executor")
        if task in self._retried:
            self._node(f"{self._paths[task]}.executor", "Retry", "Running", "retry-system-container-impl")
        self._attempt(task, len(self.attempts(task)), "Pending" if message else "Running", message)

    def finish(self, task: str, phase: str = "Succeeded", message: str = "") -> None:
        """A task's container has ended; begun too if it had not."""
        if not self.attempts(task):
            self.run(task)
        attempts = self.attempts(task)
        self._attempt(task, len(attempts) - 1, phase, message)
        if task in self._retried:
            self._node(f"{self._paths[task]}.executor", "Retry", phase, "retry-system-container-impl", message)
        self._node(self._paths[task], "DAG", phase, "system-container-executor")

    def fail(self, task: str, message: str = "Error (exit code 1)") -> None:
        """A task's last attempt has failed."""
        self.finish(task, "Failed", message)

    def retry(self, task: str, message: str) -> None:
        """A task's attempt has failed and another is made."""
        self._attempt(task, len(self.attempts(task)) - 1, "Failed", message)
        self._attempt(task, len(self.attempts(task)), "Running", "")

    def enter(self, group: str) -> None:
        """A group's condition was true."""
        self.prepare(group, "Succeeded")
        self._node(self._paths[group], "DAG", "Running", f"comp-{group}")

    def leave(self, group: str, phase: str = "Succeeded") -> None:
        """All of a group has ended."""
        self._node(self._paths[group], "DAG", phase, f"comp-{group}")

    def skip(self, group: str) -> None:
        """A group's condition was false."""
        self.prepare(group, "Succeeded")
        self._node(self._paths[group], "Skipped", "Skipped", f"comp-{group}", "when 'false != false' evaluated false")

    def omit(self, task: str) -> None:
        """What a task depends on has not succeeded."""
        self._node(
            self._paths[task], "Skipped", "Omitted", "system-container-executor", "omitted: depends condition not met"
        )

    def end(self, phase: str = "Succeeded") -> None:
        """The run has ended."""
        self.phase = phase
        self._node(f"{self.name}.root", "DAG", phase, "root")
        self._node(self.name, "DAG", phase, "entrypoint")

    def attempts(self, task: str) -> list[str]:
        """The names of a task's pods."""
        path = re.escape(self._paths[task])
        return [
            self.pod_name(node) for node in self.nodes.values() if re.fullmatch(rf"{path}\.executor(\(\d+\))?", node["name"])
            and node["type"] == "Pod"
        ]  # fmt: skip

    def pod_name(self, node: Json) -> str:
        """As Argo names them since 3.4."""
        return f"{self.name}-{node['templateName']}-{node['id'].rpartition('-')[2]}"

    def manifest(self) -> Json:
        """The workflow."""
        return {
            "apiVersion": "argoproj.io/v1alpha1",
            "kind": "Workflow",
            "metadata": {
                "name": self.name,
                "namespace": self.namespace,
                "creationTimestamp": stamp(self._clock),
                "annotations": {"workflows.argoproj.io/pod-name-format": "v2"},
            },
            "status": {"phase": self.phase, "nodes": self.nodes},
        }

    def details(self, run: str) -> list[Json]:
        """`task_details` of v2beta1: every node, without its own id; an unknown phase, as 'Omitted', is unspecified."""
        states = ("PENDING", "RUNNING", "SUCCEEDED", "SKIPPED", "FAILED")
        return [
            {
                "run_id": run,
                "task_id": str(uuid.uuid5(uuid.NAMESPACE_URL, node["id"])),
                "display_name": node["displayName"],
                "create_time": stamp(self._clock),
                "start_time": node["startedAt"],
                "end_time": node.get("finishedAt") or "0001-01-01T00:00:00Z",
                "state": node["phase"].upper() if node["phase"].upper() in states else "RUNTIME_STATE_UNSPECIFIED",
                "child_tasks": [{"pod_name": child} for child in node["children"]],
            }
            for node in sorted(self.nodes.values(), key=lambda node: node["id"])
        ]

    def _attempt(self, task: str, number: int, phase: str, message: str) -> None:
        path = f"{self._paths[task]}.executor"
        if task in self._retried:
            self._node(f"{path}({number})", "Pod", phase, "retry-system-container-impl", message)
        else:
            self._node(path, "Pod", phase, "system-container-impl", message)

    def _node(self, name: str, kind: str, phase: str, template: str, message: str = "") -> None:
        self._clock += timedelta(seconds=1)  # each change takes a second
        node_id = self.name if name == self.name else f"{self.name}-{fnv1a(name)}"
        node = self.nodes.setdefault(
            node_id,
            {
                "id": node_id,
                "name": name,
                "displayName": name.removeprefix(f"{self.name}.").rpartition(".")[2],
                "type": kind,
                "templateName": template,
                "startedAt": stamp(self._clock),
                "children": [],
            },
        )
        parent = self.nodes.get(f"{self.name}-{fnv1a(name.rpartition('.')[0])}")
        if parent and node_id not in parent["children"]:
            parent["children"].append(node_id)
        node.update(phase=phase, message=message, type=kind)
        if phase in ("Succeeded", "Failed", "Error", "Skipped", "Omitted"):
            node["finishedAt"] = stamp(self._clock)


def _paths(spec: Json, component: Json, at: str) -> dict[str, str]:
    """Argo's names of a pipeline's tasks and groups; those of an exit task lie under a hook of what it waits for."""
    found = {}
    for key, task in component.get("dag", {}).get("tasks", {}).items():
        last = task.get("triggerPolicy", {}).get("strategy") == "ALL_UPSTREAM_TASKS_COMPLETED"
        place = f"{at}.{task['dependentTasks'][0]}.onExit" if last and task.get("dependentTasks") else at
        found[key] = f"{place}.{key}"
        inner = spec.get("components", {}).get(task["componentRef"]["name"], {})
        found.update(_paths(spec, inner, found[key]))
    return found


def _retried(spec: Json) -> set[str]:
    components = [spec.get("root", {}), *spec.get("components", {}).values()]
    tasks = [item for component in components for item in component.get("dag", {}).get("tasks", {}).items()]
    return {key for key, task in tasks if "retryPolicy" in task}


def fnv1a(text: str) -> int:
    value = 0x811C9DC5
    for byte in text.encode():
        value = (value ^ byte) * 0x01000193 % 2**32
    return value


def stamp(moment: datetime) -> str:
    """As the API writes it."""
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"
