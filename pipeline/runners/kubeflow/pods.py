"""Argo's record of a run -> the pods of each task: their names, how they ended, what they wait for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.runners.kubeflow.package_file import Task

_ENDED = ("Succeeded", "Failed", "Error", "Skipped", "Omitted")


@dataclass(frozen=True)
class Pod:
    """One attempt at a task. A driver is Kubeflow's own pod, which prepares the task's."""

    name: str
    namespace: str
    phase: str  # Argo's: Pending, Running, Succeeded, Failed, Error
    message: str  # Kubernetes' words: 'OOMKilled (exit code 137)', 'Unschedulable: 0/4 nodes are available'
    attempt: int  # from 1
    driver: bool
    created: str  # day of the run

    @property
    def ended(self) -> bool:
        """Whether nothing more will come of it."""
        return self.phase in _ENDED

    @property
    def failed(self) -> bool:
        """Whether it ended without success."""
        return self.phase in ("Failed", "Error")

    @property
    def why(self) -> str:
        """How it failed, in a few words."""
        return self.message or "its pod failed and says no more"


def pods_of(workflow: Mapping[str, Any], task: Task) -> list[Pod]:
    """The attempts at a task in their order; its driver's pod when that is all there is."""
    ours: dict[int, Pod] = {}
    driver: Pod | None = None
    end = re.compile(rf"\.{re.escape(task.key)}\.executor(?:\((\d+)\))?$")
    for node in workflow.get("status", {}).get("nodes", {}).values():
        if node.get("type") != "Pod":
            continue
        name = str(node.get("name", ""))
        found = end.search(name)
        if found:
            attempt = int(found[1] or 0) + 1
            ours[attempt] = _pod(workflow, node, attempt, driver=False)
        elif name.endswith(f".{task.key}-driver"):
            driver = _pod(workflow, node, 1, driver=True)
    attempts = [ours[attempt] for attempt in sorted(ours)]
    return attempts or ([driver] if driver else [])


def _pod(workflow: Mapping[str, Any], node: Mapping[str, Any], attempt: int, *, driver: bool) -> Pod:
    metadata = workflow.get("metadata", {})
    return Pod(
        name=_name(workflow, node),
        namespace=str(metadata.get("namespace", "")),
        phase=str(node.get("phase", "")),
        message=str(node.get("message", "")),
        attempt=attempt,
        driver=driver,
        created=str(metadata.get("creationTimestamp") or "")[:10],
    )


def _name(workflow: Mapping[str, Any], node: Mapping[str, Any]) -> str:
    """A node's pod is named workflow-template-hash since Argo 3.4, and like the node where the old way is set."""
    metadata = workflow.get("metadata", {})
    run, node_id = str(metadata.get("name", "")), str(node.get("id", ""))
    if metadata.get("annotations", {}).get("workflows.argoproj.io/pod-name-format") == "v1" or node.get("name") == run:
        return node_id
    template = str(node.get("templateName", ""))
    prefix = run if ".inline" in str(node.get("name", "")) or not template else f"{run}-{template}"
    return f"{prefix[:242]}-{node_id.rpartition('-')[2]}"
