"""A cluster of processes on this machine: each with its own TF_CONFIG, and none that outlives the others."""

from __future__ import annotations

import json
import multiprocessing
import os
import socket
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from multiprocessing.connection import wait
from typing import Any

from components.model.distribution import POLL_S, TF_CONFIG
from components.model.isolated import Call, ProcessDied
from schemas.component import Progress
from schemas.errors import StepFailed

NAMES = {"chief": "chief", "worker": "worker", "ps": "parameter server"}


def train_locally(work: Callable[..., Any], sizes: Mapping[str, int], progress: Progress) -> Any:
    """What `work(progress)` gives in the first of a cluster's processes on this machine, all of which do it at once.

    `sizes` are the numbers of processes by their kind in TF_CONFIG, as in {"worker": 2}; `work` can be pickled. With a chief,
    the first kind, all end with it; else each ends by itself. When one of them fails the others are ended. Raises what it
    raises, and StepFailed when it dies.
    """
    tasks = [(kind, index) for kind, size in sizes.items() for index in range(size)]
    addresses = iter(_free_addresses(len(tasks)))
    cluster = {kind: [next(addresses) for _ in range(size)] for kind, size in sizes.items()}
    told = multiprocessing.get_context("spawn").Array("q", 2)
    calls = {
        (kind, index): Call(
            _as_task,
            {"cluster": cluster, "task": {"type": kind, "index": index}},
            work,
            told if (kind, index) == tasks[0] else None,
        )
        for kind, index in tasks
    }
    awaited = tasks[:1] if "chief" in sizes else tasks
    results: dict[tuple[str, int], Any] = {}
    try:
        while not all(task in results for task in awaited):
            running = {call.connection: task for task, call in calls.items() if task not in results}
            for ended in wait(list(running), POLL_S):
                kind, index = task = running[ended]
                results[task] = None
                try:
                    results[task] = calls[task].result()
                except ProcessDied as error:
                    raise StepFailed(f"{NAMES[kind]} {index} of {sizes[kind]}: {error}") from error
            if told[1]:
                progress(told[0], told[1], "steps")
    finally:
        for task, call in calls.items():
            if task not in results:
                call.kill()
    return results[tasks[0]]


class _Told(Progress):
    """Progress into memory that another process reads."""

    def __init__(self, told: Any) -> None:
        self._told = told

    def __call__(self, done: int, total: int | None = None, unit: str = "rows") -> None:
        self._told[0], self._told[1] = done, total or 0


def _as_task(config: Mapping[str, Any], work: Callable[..., Any], told: Any) -> Any:
    os.environ[TF_CONFIG] = json.dumps(config)
    return work(_Told(told) if told is not None else Progress())


def _free_addresses(count: int) -> list[str]:
    """Addresses on the loopback interface that nobody listens on; held until all are known, so that they differ."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [f"127.0.0.1:{one.getsockname()[1]}" for one in sockets]
