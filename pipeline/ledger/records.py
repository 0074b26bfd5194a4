"""What is recorded of a run: the run, its steps, their artifacts, and who read what of whom."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from schemas.owner import Owner

FORMAT = 1  # of runs/<run>/run.json

Action = Literal["run", "reuse", "refused", "no need", "failed", "skipped", "running"]

NEVER_REPORTED = "it never reported: its pod was killed or evicted"


def now() -> str:
    """The time as records have it: ISO 8601, UTC."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


@dataclass(frozen=True, kw_only=True)
class StepRecord:
    """What became of one step in one run; `running` until that is known, where the step's own process says so.

    `no need` is a step that found that what comes after is not needed; `skipped`, one that did not begin. One that a condition
    keeps from running is `skipped` too, or `refused` for want of a blessing: without a key, and others run all the same.
    """

    step: str
    key: str = ""  # empty when the run ended before the step's inputs were known, or a condition did not hold
    action: Action
    reason: str = ""  # why it ran, was reused or skipped
    seconds: float = 0.0
    message: str = ""  # the error or refusal, or why there was no need to go on
    started_at: str | None = None  # of a running step: ISO 8601, UTC
    owner: Owner | None = None  # of a running step: the process that is at work on it


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """One run, as `runs/<run>/run.json` has it."""

    id: str
    pipeline: str
    graph_digest: str
    started_at: str  # ISO 8601, UTC
    ended_at: str | None = None
    outcome: str | None = None  # None until the run ends
    parameters: Mapping[str, Any] = field(default_factory=dict)
    root: str
    owner: Owner | None  # None: of many processes, none of which is the run's own
    steps: tuple[StepRecord, ...] = ()  # in the order they ended, or began
    names: Mapping[str, str] = field(
        default_factory=dict
    )  # what another framework calls the steps, and '' the pipeline

    @property
    def state(self) -> str:
        """The outcome; `running` without one, `interrupted` when the run's process is provably dead."""
        if self.outcome is not None:
            return self.outcome
        return "interrupted" if self.owner is not None and self.owner.is_dead() else "running"

    @property
    def seconds(self) -> float | None:
        """How long the run took, None when it has not ended."""
        if self.ended_at is None:
            return None
        return (datetime.fromisoformat(self.ended_at) - datetime.fromisoformat(self.started_at)).total_seconds()

    def step(self, name: str) -> StepRecord | None:
        """What is recorded of one step."""
        return next((step for step in self.steps if step.step == name), None)

    def with_step(self, step: StepRecord) -> RunRecord:
        """The record with one more step; what was recorded of that step before is gone."""
        return replace(self, steps=(*(other for other in self.steps if other.step != step.step), step))

    def ended(self, outcome: str) -> RunRecord:
        """The record of the run at its end. A step that is running still never said how it ended: it failed."""
        steps = tuple(
            replace(step, action="failed", message=NEVER_REPORTED, started_at=None, owner=None)
            if step.action == "running"
            else step
            for step in self.steps
        )
        return replace(self, outcome=outcome, ended_at=now(), steps=steps)

    def to_json(self) -> dict[str, Any]:
        """As JSON data."""
        return asdict(self) | {"format": FORMAT, "steps": [asdict(step) for step in self.steps]}

    @classmethod
    def from_json(cls, found: Any) -> RunRecord:
        """Read back what `to_json` gave. Raises KeyError, TypeError or ValueError for anything else."""
        known = {name: found[name] for name in cls.__dataclass_fields__ if name in found}
        known["owner"] = _owner(found["owner"])
        known["steps"] = tuple(_step(step) for step in found.get("steps", ()))
        return cls(**known)


def _step(found: Mapping[str, Any]) -> StepRecord:
    known = {name: found[name] for name in StepRecord.__dataclass_fields__ if name in found}
    return StepRecord(**known | {"owner": _owner(found.get("owner"))})


def _owner(found: Mapping[str, Any] | None) -> Owner | None:
    return None if found is None else Owner.from_json(found)


@dataclass(frozen=True)
class ArtifactRow:
    """An output of an execution, as the ledger lists it."""

    step: str
    key: str
    output: str
    type: str
    digest: str
    properties: Mapping[str, Any]
    path: Path
    bytes: int


@dataclass(frozen=True)
class Edge:
    """Execution (`step`, `key`) read, through `port`, an output of execution (`from_step`, `from_key`)."""

    step: str
    key: str
    port: str
    from_step: str
    from_key: str
    from_output: str
    digest: str
