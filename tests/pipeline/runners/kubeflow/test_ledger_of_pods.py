"""Pods that have the ledger's URL from a secret record in PostgreSQL, several at once, and leave the password nowhere."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.ledger import Ledger, recorded_runs
from pipeline.store import Store

Cluster = Any  # of conftest.py, which cannot be imported

pytestmark = pytest.mark.postgres


def test_a_run_of_pods_is_in_the_database_and_in_the_store_alike(cluster: Cluster, postgresql: Any) -> None:
    url = postgresql.empty()
    cluster.secrets["PENSTOCK_LEDGER"] = url
    ended = [cluster.pod("read")]

    at_once = {step: cluster.start(step) for step in ("count", "apply")}
    ended += [cluster.ended(step, "job-1", *started) for step, started in at_once.items()]

    assert [task.code for task in ended] == [0, 0, 0], "".join(task.log for task in ended)
    ledger = Ledger(Store(cluster.root), url)
    record = ledger.run("job-1")
    assert {step.step: step.action for step in record.steps} == {"read": "run", "count": "run", "apply": "run"}
    assert [record] == recorded_runs(ledger.store)
    (examples,) = ledger.artifacts("read", next(step.key for step in record.steps if step.step == "read"))
    assert examples.path.is_dir()
    assert {edge.step for edge in ledger.readers_of("read", examples.key)} == {"count", "apply"}
    assert not (cluster.root / "ledger.sqlite").exists()
    written = [*(task.log for task in ended), *(file.read_text() for file in cluster.root.rglob("*.json"))]
    assert not any("sesame" in text for text in written)


def test_a_database_that_lets_nobody_in_fails_the_pod_before_it_works(cluster: Cluster, postgresql: Any) -> None:
    cluster.secrets["PENSTOCK_LEDGER"] = postgresql.url("postgres", password="wrong")

    ended = cluster.pod("read")

    assert ended.code == 1
    assert "password authentication failed" in ended.log
    assert "Look at user and password of the URL" in ended.log
    assert Store(cluster.root).executions() == []
