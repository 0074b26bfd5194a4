"""`pipeline runs`: what was run, newest first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime

from pipeline.ledger import Ledger, RunRecord, resolve_ledger_url
from pipeline.log import duration
from pipeline.store import Store
from schemas.errors import ConfigError


def list_runs(root: str, *, ledger: str | None = None, limit: int = 20) -> list[RunRecord]:
    """The newest `limit` runs under `root`. Raises ConfigError when nothing was ever run there."""
    store = Store(root)
    if not store.root.is_dir():
        raise ConfigError(f"{root}: there is no such directory; `pipeline run` makes it, or give the right --root")
    return Ledger(store, resolve_ledger_url(None, asked=ledger)).runs(limit)


def runs_text(records: Sequence[RunRecord]) -> str:
    """One line per run: id, when it started, pipeline, how it ended, how long it took, what its steps did."""
    if not records:
        return "no runs yet"
    rows = [("RUN", "STARTED", "PIPELINE", "OUTCOME", "TOOK", "STEPS")]
    for record in records:
        started = datetime.fromisoformat(record.started_at).astimezone()
        actions = Counter(step.action for step in record.steps)
        rows.append(
            (
                record.id,
                f"{started:%Y-%m-%d %H:%M:%S}",
                record.pipeline,
                record.state,
                duration(record.seconds) if record.seconds is not None else "",
                ", ".join(f"{count} {action}" for action, count in actions.items()),
            )
        )
    return as_columns(rows)


def as_columns(rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells as aligned text."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )
