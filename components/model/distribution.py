"""A strategy's name -> the tf.distribute strategy, and this process' place in the cluster that it may need."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from schemas.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    import tensorflow as tf

MIRRORED, MULTI_WORKER, PARAMETER_SERVER = "mirrored", "multi_worker_mirrored", "parameter_server"
STRATEGIES = (MIRRORED, MULTI_WORKER, PARAMETER_SERVER)
KINDS = {
    MULTI_WORKER: ("worker",),
    PARAMETER_SERVER: ("chief", "worker", "ps"),
}  # of which a cluster needs some of each
TF_CONFIG = "TF_CONFIG"  # TensorFlow's own description of a cluster and of a process' place in it
CONNECT_S = 300.0  # how long the processes of a cluster wait for one another to start
ANSWER_S = 5.0
POLL_S = 0.2
SILENT_POLLS = 10  # after which a process that answered is taken to have ended


@dataclass(frozen=True)
class Place:
    """What TF_CONFIG says: the addresses of the cluster by kind of task, and which task this process is."""

    cluster: Mapping[str, list[str]]
    kind: str  # chief, worker, ps or evaluator
    index: int


def problems_of_strategy(strategy: str | None, workers: int | None, parameter_servers: int | None = None) -> list[str]:
    """What is wrong with the settings `strategy`, `workers` and `parameter_servers` on their own."""
    problems = []
    if strategy not in (None, *STRATEGIES):
        problems.append(
            f"strategy: there is no '{strategy}'.{did_you_mean(str(strategy), STRATEGIES)} There are: {', '.join(STRATEGIES)}"
        )
    if workers is not None and strategy not in KINDS:
        problems.append(f"workers: only strategies {' and '.join(KINDS)} have workers; leave workers out")
    if workers is not None and workers < 2:
        problems.append(f"workers: {workers} is not at least 2; leave strategy and workers out to train in one process")
    if parameter_servers is not None and strategy != PARAMETER_SERVER:
        problems.append(f"parameter_servers: only strategy {PARAMETER_SERVER} has them; leave parameter_servers out")
    elif parameter_servers is not None and workers is None:
        problems.append(
            f"parameter_servers: without workers {TF_CONFIG} names all processes; set workers too, or leave both out"
        )
    if parameter_servers is not None and parameter_servers < 1:
        problems.append(f"parameter_servers: {parameter_servers} is not at least 1")
    return problems


def make_strategy(name: str) -> tf.distribute.Strategy:
    """The strategy of this process, over the accelerators it has, or its processors where it has none.

    Raises ConfigError when there is no cluster to form: TF_CONFIG is not set, does not say which task this is, or names a
    process that does not answer.
    """
    import tensorflow as tf

    if name == MIRRORED:
        return tf.distribute.MirroredStrategy()
    place = read_place(name, os.environ.get(TF_CONFIG))
    try:
        if name == MULTI_WORKER:
            return tf.distribute.MultiWorkerMirroredStrategy()
        for kind in ("worker", "ps"):
            for index in range(len(place.cluster[kind])):
                wait_for(place, kind, index)
        return tf.distribute.ParameterServerStrategy(
            tf.distribute.cluster_resolver.TFConfigClusterResolver(rpc_layer="grpc")
        )
    except (RuntimeError, ValueError, tf.errors.OpError) as error:
        raise ConfigError(f"strategy: {name} cannot be formed: {error}") from error


def read_place(strategy: str, config: str | None) -> Place:
    """What `config`, the value of TF_CONFIG, says. Raises ConfigError unless it is a place in a cluster of `strategy`."""
    kinds = KINDS[strategy]
    if not config:
        raise ConfigError(
            f"strategy: {strategy} needs a cluster. Set workers, to start that many processes on this machine, or have "
            f"whatever starts this process on each machine set {TF_CONFIG}"
        )
    try:
        found = json.loads(config)
        place = Place(dict(found["cluster"]), found["task"]["type"], found["task"]["index"])
        if place.kind != "evaluator":  # which has no address, since nobody calls it
            place.cluster[place.kind][place.index]
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        addresses = ", ".join(f'"{kind}": ["host:port", ...]' for kind in kinds)
        raise ConfigError(
            f"strategy: {TF_CONFIG} is not a cluster and a task in it ({type(error).__name__}: {error}). Expected "
            f'{{"cluster": {{{addresses}}}, "task": {{"type": "worker", "index": 0}}}}; found {config}'
        ) from error
    workers = [*place.cluster.get("chief", []), *place.cluster.get("worker", [])]
    if strategy == MULTI_WORKER and (place.kind not in ("chief", "worker") or len(workers) < 2):
        raise ConfigError(
            f"strategy: {TF_CONFIG} has {len(workers)} workers and this process as {place.kind}; {strategy} is of two or more, "
            f"and of nothing else"
        )
    missing = [kind for kind in kinds if not place.cluster.get(kind)] if strategy == PARAMETER_SERVER else []
    if missing:
        raise ConfigError(
            *(
                f"strategy: {TF_CONFIG} has no cluster.{kind}; {strategy} is of a chief, of workers and of parameter servers "
                f"(ps). Give the addresses, host:port, of those that run as {kind}"
                for kind in missing
            )
        )
    return place


def is_chief(strategy: tf.distribute.Strategy | None) -> bool:
    """Whether this process is the one that writes for all: the only one, the chief, or worker 0 where there is no chief."""
    resolver = strategy.cluster_resolver if strategy is not None else None
    if resolver is None or resolver.task_type is None:
        return True
    return resolver.task_type == "chief" or (
        resolver.task_type == "worker" and resolver.task_id == 0 and not resolver.cluster_spec().as_dict().get("chief")
    )


def serve(place: Place) -> None:
    """Be a worker or parameter server until the chief, which says what to compute, has ended.

    Raises ConfigError when the chief does not start.
    """
    import tensorflow as tf

    cluster = tf.train.ClusterSpec(place.cluster)
    server = tf.distribute.Server(cluster, job_name=place.kind, task_index=place.index, protocol="grpc")
    wait_for(place, "chief", 0)
    silent = 0
    while silent < SILENT_POLLS:
        time.sleep(POLL_S)
        silent = 0 if _answers(place.cluster["chief"][0]) else silent + 1
    del server  # which it keeps alive until here


def wait_for(place: Place, kind: str, index: int, within_s: float = CONNECT_S) -> None:
    """Wait until another process of the cluster answers. Raises ConfigError, with its place in TF_CONFIG, when it does not."""
    address = place.cluster[kind][index]
    until = time.monotonic() + within_s
    while not _answers(address):
        if time.monotonic() > until:
            raise ConfigError(
                f"strategy: cluster.{kind}[{index}] of {TF_CONFIG}, {address}, has not answered for {within_s:.0f} s. Start "
                f"it, or correct its address"
            )
        time.sleep(POLL_S)


def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER_S).close()
    except (OSError, ValueError):
        return False
    return True
