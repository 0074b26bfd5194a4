"""The ledger: an index of runs, executions, artifacts and their lineage, which can be made again from the store."""

from pipeline.ledger.ledger import Ledger
from pipeline.ledger.records import Action, ArtifactRow, Edge, RunRecord, StepRecord
from pipeline.ledger.run_files import RunFiles, recorded_runs
from pipeline.ledger.url import resolve_ledger_url

__all__ = [
    "Action",
    "ArtifactRow",
    "Edge",
    "Ledger",
    "RunFiles",
    "RunRecord",
    "StepRecord",
    "recorded_runs",
    "resolve_ledger_url",
]
