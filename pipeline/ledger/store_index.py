"""No index at all: runs, artifacts and lineage are read from the store's own records and manifests."""

from __future__ import annotations

from pipeline import disk
from pipeline.ledger.records import ArtifactRow, Edge, RunRecord
from pipeline.ledger.run_files import recorded_runs
from pipeline.store import Execution, Store


class StoreIndex:
    """What `ledger: none` is. Every look reads the store, so that nothing can be missing or stale."""

    is_under_root = True

    def __init__(self, store: Store) -> None:
        self._store = store

    @property
    def name(self) -> str:
        """What to call it before people."""
        return str(self._store.root)

    def reach(self) -> None:
        """Nothing: the store says itself when it cannot be used."""

    def put(self, record: RunRecord, execution: Execution | None, *, new: bool) -> None:
        """Nothing: what is recorded is in the store already."""

    def runs(self, limit: int | None, pipeline: str | None) -> list[RunRecord]:
        """The newest runs first."""
        found = [record for record in recorded_runs(self._store) if pipeline in (None, record.pipeline)]
        return found[:limit]

    def ids(self, beginning: str, limit: int) -> list[str]:
        """Ids of runs that begin so, in their order."""
        names = {path.name for path in disk.directories(self._store.root / "runs") if path.name.startswith(beginning)}
        return sorted(record.id for record in recorded_runs(self._store, names))[:limit]

    def run(self, run: str) -> RunRecord | None:
        """The run of that very id."""
        return next(iter(recorded_runs(self._store, {run})), None)

    def artifacts(self, step: str, key: str) -> list[ArtifactRow]:
        """The outputs of an execution, by name."""
        return [row for found in self._executions(step, key) for row in artifact_rows(found)]

    def inputs_of(self, step: str, key: str) -> list[Edge]:
        """What an execution read, by port."""
        return [edge for found in self._executions(step, key) for edge in edges(found)]

    def readers_of(self, step: str, key: str) -> list[Edge]:
        """Which executions read an output of this one."""
        found = [edge for execution in self._store.executions() for edge in edges(execution)]
        ours = [edge for edge in found if (edge.from_step, edge.from_key) == (step, key)]
        return sorted(ours, key=lambda edge: (edge.step, edge.key, edge.port))

    def rebuild(self) -> tuple[int, int]:
        """How many runs and executions the store has; there is nothing to make."""
        return len(recorded_runs(self._store)), len(self._store.executions())

    def _executions(self, step: str, key: str) -> list[Execution]:
        return [execution for execution in self._store.executions_of(step) if execution.key == key]


def artifact_rows(execution: Execution) -> list[ArtifactRow]:
    """The outputs of an execution, by name."""
    manifest = execution.manifest
    return [
        ArtifactRow(
            manifest.step,
            manifest.key,
            output,
            artifact.type,
            artifact.digest,
            artifact.properties,
            execution.output(output),
            artifact.bytes,
        )
        for output, artifact in sorted(manifest.outputs.items())
    ]


def edges(execution: Execution) -> list[Edge]:
    """What an execution read, by port."""
    manifest = execution.manifest
    return [
        Edge(manifest.step, manifest.key, port, source.step, source.key, source.output, source.digest)
        for port, source in sorted(manifest.inputs.items())
    ]
