"""Ledgers of every kind, and what they index."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.ledger import Ledger
from pipeline.manifest import InputRecord
from pipeline.store import Execution, Store

Server = Any  # of tests/postgresql_server.py

KEY = "ab" * 32
OTHER_KEY = "cd" * 32


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "root")


@pytest.fixture(
    params=[
        pytest.param(None, id="sqlite"),
        pytest.param("none", id="none"),
        pytest.param("postgresql", id="postgresql", marks=pytest.mark.postgres),
    ]
)
def url(request: pytest.FixtureRequest) -> str | None:
    """Every kind of ledger, as its URL."""
    if request.param != "postgresql":
        return request.param
    server: Server = request.getfixturevalue("server")
    return server.empty()


@pytest.fixture
def ledger(store: Store, url: str | None) -> Ledger:
    return Ledger(store, url)


@pytest.fixture
def publish() -> Callable[..., Execution]:
    """`publish(store, run, step=..., key=..., auc=...)`: a trainer's execution."""

    def make(store: Store, run: str, *, step: str = "trainer", key: str = KEY, auc: float = 0.75) -> Execution:
        with store.stage(step, key) as staging:
            (staging.output("model") / "saved_model.pb").write_text("graph")
            return staging.publish(
                component="components.model.trainer.Trainer",
                pipeline="taxi",
                run=run,
                seconds=1.5,
                key_parts={},
                inputs={"examples": InputRecord("transform", OTHER_KEY, "examples", "Examples", "sha256:0")},
                outputs={"model": ("Model", {"metrics": {"auc": auc}})},
            )

    return make


@pytest.fixture
def server(postgresql: Server) -> Iterator[Server]:
    """A PostgreSQL server that runs, whatever the test before did with it."""
    if postgresql.process is None:
        postgresql.start()
    yield postgresql
    if postgresql.process is None:
        postgresql.start()
