"""A strategy's name -> the tf.distribute strategy, and the processes on this machine that it may need."""

from __future__ import annotations

import json
import multiprocessing
import os
import socket
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from multiprocessing.connection import wait
from typing import TYPE_CHECKING, Any

from components.model.isolated import Call, ProcessDied
from schemas.component import Progress
from schemas.errors import ConfigError, StepFailed, did_you_mean

if TYPE_CHECKING:
    import tensorflow as tf

MIRRORED, MULTI_WORKER = "mirrored", "multi_worker_mirrored"
STRATEGIES = (MIRRORED, MULTI_WORKER)
TF_CONFIG = "TF_CONFIG"  # TensorFlow's own description of a cluster and of a process' place in it
POLL_S = 0.2


def problems_of_strategy(strategy: str | None, workers: int | None) -> list[str]:
    """What is wrong with the settings `strategy` and `workers` on their own."""
    problems = []
    if strategy not in (None, *STRATEGIES):
        problems.append(
            f"strategy: there is no '{strategy}'.{did_you_mean(str(strategy), STRATEGIES)} There are: {', '.join(STRATEGIES)}"
        )
    if workers is not None and strategy != MULTI_WORKER:
        problems.append(f"workers: only strategy {MULTI_WORKER} has workers; leave workers out")
    if workers is not None and workers < 2:
        problems.append(f"workers: {workers} is not at least 2; leave strategy and workers out to train in one process")
    return problems


def make_strategy(name: str) -> tf.distribute.Strategy:
    """The strategy of this process, over the accelerators it has, or its processors where it has none.

    Raises ConfigError when there is no cluster to form: TF_CONFIG is not set, or does not say which worker this is.
    """
    import tensorflow as tf

    if name == MIRRORED:
        return tf.distribute.MirroredStrategy()
    check_cluster(os.environ.get(TF_CONFIG))
    try:
        return tf.distribute.MultiWorkerMirroredStrategy()
    except (RuntimeError, ValueError, tf.errors.OpError) as error:
        raise ConfigError(f"strategy: {name} cannot be formed: {error}") from error


def check_cluster(config: str | None) -> None:
    """Raise ConfigError unless `config`, the value of TF_CONFIG, describes workers and which of them this is."""
    if not config:
        raise ConfigError(
            f"strategy: {MULTI_WORKER} needs a cluster. Set workers, to start that many processes on this machine, or have "
            f"whatever starts this process on each machine set {TF_CONFIG}"
        )
    try:
        found = json.loads(config)
        workers = [*found["cluster"].get("chief", []), *found["cluster"].get("worker", [])]
        kind, index = found["task"]["type"], found["task"]["index"]
        found["cluster"][kind][index]
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"strategy: {TF_CONFIG} is not a cluster and a task in it ({type(error).__name__}: {error}). Expected "
            f'{{"cluster": {{"worker": ["host:port", ...]}}, "task": {{"type": "worker", "index": 0}}}}; found {config}'
        ) from error
    if kind not in ("chief", "worker") or len(workers) < 2:
        raise ConfigError(
            f"strategy: {TF_CONFIG} has {len(workers)} workers and this process as {kind}; {MULTI_WORKER} is of two or more, "
            f"and of nothing else"
        )


def is_chief(strategy: tf.distribute.Strategy | None) -> bool:
    """Whether this process is the one that writes for all: the only one, the chief, or worker 0 where there is no chief."""
    resolver = strategy.cluster_resolver if strategy is not None else None
    if resolver is None or resolver.task_type is None:
        return True
    return resolver.task_type == "chief" or (
        resolver.task_type == "worker" and resolver.task_id == 0 and not resolver.cluster_spec().as_dict().get("chief")
    )


def train_locally(work: Callable[..., Any], workers: int, progress: Progress) -> Any:
    """What `work(progress)` gives in the first of `workers` processes on this machine, all of which do it at once.

    Each has its own TF_CONFIG; `work` can be pickled. When one of them fails the others are ended. Raises what it raises, and
    StepFailed when it dies.
    """
    addresses = _free_addresses(workers)
    told = multiprocessing.get_context("spawn").Array("q", 2)
    calls = [
        Call(_as_worker, {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}, work, told)
        for index in range(workers)
    ]
    results: dict[int, Any] = {}
    try:
        while len(results) < workers:
            running = {call.connection: index for index, call in enumerate(calls) if index not in results}
            for ended in wait(list(running), POLL_S):
                index = running[ended]
                try:
                    results[index] = calls[index].result()
                except ProcessDied as error:
                    results[index] = None
                    raise StepFailed(f"worker {index} of {workers}: {error}") from error
                except BaseException:
                    results[index] = None
                    raise
            if told[1]:
                progress(told[0], told[1], "steps")
    finally:
        for index, call in enumerate(calls):
            if index not in results:
                call.kill()
    return results[0]


class _Told(Progress):
    """Progress into memory that another process reads."""

    def __init__(self, told: Any) -> None:
        self._told = told

    def __call__(self, done: int, total: int | None = None, unit: str = "rows") -> None:
        self._told[0], self._told[1] = done, total or 0


def _as_worker(config: Mapping[str, Any], work: Callable[..., Any], told: Any) -> Any:
    os.environ[TF_CONFIG] = json.dumps(config)
    return work(_Told(told) if config["task"]["index"] == 0 else Progress())


def _free_addresses(count: int) -> list[str]:
    """Addresses on the loopback interface that nobody listens on; held until all are known, so that they differ."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [f"127.0.0.1:{one.getsockname()[1]}" for one in sockets]
