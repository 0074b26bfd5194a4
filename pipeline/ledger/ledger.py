"""The ledger: what a run records, and how runs, what they made and from what are found again."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Protocol

from pipeline.ledger.database_index import DatabaseIndex
from pipeline.ledger.records import ArtifactRow, Edge, RunRecord, StepRecord, now
from pipeline.ledger.run_files import RunFiles
from pipeline.ledger.store_index import StoreIndex
from pipeline.ledger.url import is_none
from pipeline.store import Execution, Store
from schemas.errors import ConfigError, did_you_mean
from schemas.owner import Owner

_SUGGESTED = 200  # of the newest runs, of which one may be meant


class Index(Protocol):
    """Where runs and executions are looked up."""

    @property
    def name(self) -> str:
        """What to call it before people."""

    @property
    def is_under_root(self) -> bool:
        """Whether it is where the store is: without a root there is no index either."""

    def reach(self) -> None:
        """Raise what keeps it from being used, if anything does."""

    def put(self, record: RunRecord, execution: Execution | None, *, new: bool) -> None: ...
    def runs(self, limit: int | None, pipeline: str | None) -> list[RunRecord]: ...
    def ids(self, beginning: str, limit: int) -> list[str]: ...
    def run(self, run: str) -> RunRecord | None: ...
    def artifacts(self, step: str, key: str) -> list[ArtifactRow]: ...
    def inputs_of(self, step: str, key: str) -> list[Edge]: ...
    def readers_of(self, step: str, key: str) -> list[Edge]: ...
    def rebuild(self) -> tuple[int, int]: ...


class Ledger:
    """Runs are recorded twice: in the store, which is the truth, and in an index, where they can be searched.

    `url` is SQLAlchemy's; None is `ledger.sqlite` under the store's root, and "none" no index: the store is searched. An index
    that is not there, or was deleted, is made from the store when it is first needed. Any number of processes on any
    number of hosts may record at once. Methods raise StoreError when store or database cannot be reached, and ConfigError
    for a URL that is none.
    """

    def __init__(self, store: Store, url: str | None = None, *, patience_s: float = 60.0) -> None:
        """`patience_s` is how long a database that had answered may be away, as while its server restarts."""
        self.store = store
        self._files = RunFiles(store)
        self._index: Index = StoreIndex(store) if is_none(url) else DatabaseIndex(store, url, patience_s)

    # Recording

    def start_run(
        self,
        pipeline: str,
        graph_digest: str,
        parameters: Mapping[str, Any] | None = None,
        *,
        run: str | None = None,
        names: Mapping[str, str] | None = None,
    ) -> RunRecord:
        """Record that this process starts a run. `run` is its id, by default a new one that sorts by time.

        `names` are what another framework, whose pipeline it is, calls the steps, and under '' the pipeline.
        """
        self._index.reach()  # first: a run that cannot be recorded is none
        id_ = run or f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
        record = self._new(id_, pipeline, graph_digest, parameters, Owner.current(), names)
        with self._files.locked(id_, make=True):
            self._record(record, new=True)
        return record

    def join_run(
        self,
        pipeline: str,
        graph_digest: str,
        parameters: Mapping[str, Any] | None = None,
        *,
        run: str,
        names: Mapping[str, str] | None = None,
    ) -> RunRecord:
        """Take part in run `run`, which is made when it is not recorded yet: each process of a cluster's run does so.

        Such a run has no process of its own: it goes on until `end_run`. One that had ended goes on again, as when Kubeflow
        retries a run. Raises ConfigError when the id is another pipeline's.
        """
        with self._files.locked(run, make=True):
            record = self._files.find(run)
            new = record is None
            if record is None:
                record = self._new(run, pipeline, graph_digest, parameters, None, names)
            elif record.pipeline != pipeline:
                raise ConfigError(
                    f"run {run} is one of pipeline {record.pipeline} and cannot be one of {pipeline} too; give another id"
                )
            elif record.outcome is None:
                return record
            else:
                record = replace(record, outcome=None, ended_at=None)
            self._record(record, new=new)
            return record

    def begin_step(self, run: str, step: str, key: str, reason: str) -> StepRecord | None:
        """Record that this process is at work on a step; gives the record of an earlier attempt that never said how it ended.

        That attempt's process need not be dead: its `owner` may tell.
        """
        beginning = StepRecord(
            step=step, key=key, action="running", reason=reason, started_at=now(), owner=Owner.current()
        )
        with self._files.locked(run):
            record = self._files.read(run)
            before = record.step(step)
            self._record(record.with_step(beginning))
        return before if before is not None and before.action == "running" else None

    def record_step(self, run: str, step: StepRecord, execution: Execution | None = None) -> None:
        """Record what became of a step; again for the same step replaces it. `execution` is what was made or reused."""
        self._change(run, lambda record: record.with_step(step), execution)

    def end_run(self, run: str, outcome: str) -> RunRecord:
        """Record how a run ended: `done`, `skipped`, `failed`, `refused` or `interrupted`.

        A step that is recorded as running failed then: nobody is at work any more.
        """
        return self._change(run, lambda record: record.ended(outcome))

    # Reading

    def runs(self, limit: int | None = 20, *, pipeline: str | None = None) -> list[RunRecord]:
        """The newest runs first, at most `limit` of them; only those of one pipeline if asked."""
        return [] if self._is_nowhere() else self._index.runs(limit, pipeline)

    def run(self, run: str) -> RunRecord:
        """The run whose id is or begins with `run`, or the newest for "latest". ConfigError for none and for several."""
        if run == "latest":
            newest = self.runs(1)
            if not newest:
                raise ConfigError(f"there is no run in {self._index.name} yet. `pipeline run` makes one.")
            return newest[0]
        if self._is_nowhere():
            raise ConfigError(f"there is no run '{run}': {self.store.root} does not exist. `pipeline run` makes it.")
        ids = self._index.ids(run, 11)
        if len(ids) > 1 and run not in ids:
            listed = ", ".join(ids[:10]) + (", ..." if len(ids) > 10 else "")
            raise ConfigError(f"'{run}' is the beginning of several runs: {listed}. Give more of the id.")
        found = self._index.run(run if run in ids else ids[0]) if ids else None
        if found is None:
            known = [record.id for record in self._index.runs(_SUGGESTED, None)]
            raise ConfigError(
                f"there is no run '{run}' in {self._index.name}.{did_you_mean(run, known)} `pipeline runs` lists them."
            )
        return found

    def artifacts(self, step: str, key: str) -> list[ArtifactRow]:
        """The outputs of an execution, by name; none when the ledger does not know it."""
        return self._index.artifacts(step, key)

    def inputs_of(self, step: str, key: str) -> list[Edge]:
        """What an execution read."""
        return self._index.inputs_of(step, key)

    def readers_of(self, step: str, key: str) -> list[Edge]:
        """Which executions read an output of this one."""
        return self._index.readers_of(step, key)

    def rebuild(self) -> tuple[int, int]:
        """Make the index again from the store; gives how many runs and executions it has. Other roots' rows are kept."""
        return self._index.rebuild()

    # How

    def _new(
        self,
        run: str,
        pipeline: str,
        graph_digest: str,
        parameters: Mapping[str, Any] | None,
        owner: Owner | None,
        names: Mapping[str, str] | None,
    ) -> RunRecord:
        return RunRecord(
            id=run,
            pipeline=pipeline,
            graph_digest=graph_digest,
            started_at=now(),
            parameters=dict(parameters or {}),
            root=str(self.store.root),
            owner=owner,
            names=dict(names or {}),
        )

    def _change(
        self, run: str, change: Callable[[RunRecord], RunRecord], execution: Execution | None = None
    ) -> RunRecord:
        with self._files.locked(run):
            record = change(self._files.read(run))
            self._record(record, execution)
            return record

    def _record(self, record: RunRecord, execution: Execution | None = None, *, new: bool = False) -> None:
        """Write the record, whose lock is held, so that the index gets the changes of a run in the order the file does."""
        self._files.write(record)
        self._index.put(record, execution, new=new)

    def _is_nowhere(self) -> bool:
        """Whether there is no root yet: only looking does not make one."""
        return self._index.is_under_root and not self.store.root.is_dir()
