"""EndedRun: how a run ended, as the ledger, the UI and everybody who is notified are told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pipeline.ledger import StepRecord

RunOutcome = Literal["done", "nothing new", "skipped", "refused", "failed", "interrupted"]

_OUTCOMES = {"run": "done", "reuse": "reused", "running": "failed"}  # of a step, by what the ledger calls it


@dataclass(frozen=True, kw_only=True)
class EndedRun:
    """How a run ended. `run` is empty, and there are no steps, where it ended before it began."""

    pipeline: str
    run: str
    outcome: RunOutcome
    steps: tuple[StepRecord, ...] = ()
    metrics: Mapping[str, float | None] = field(default_factory=dict)
    paths: Mapping[str, str] = field(default_factory=dict)  # what was made and pushed
    reasons: tuple[str, ...] = ()  # why it was refused or skipped
    error: str = ""  # of the first step that failed
    warnings: tuple[str, ...] = ()
    seconds: float | None = None

    @property
    def outcomes(self) -> tuple[str, ...]:
        """How each of the steps ended, in the words of a task: done, reused, refused, no need, skipped or failed."""
        return tuple(_OUTCOMES.get(step.action, step.action) for step in self.steps)

    def as_json(self) -> dict[str, Any]:
        """What webhooks and commands are sent, the same from every runner.

        | name | |
        |---|---|
        | `pipeline`, `run` | the pipeline's name and the run's id; that is empty where a run ended before it began |
        | `outcome` | done, nothing new, skipped, refused, failed or interrupted |
        | `seconds` | how long it took; null where it is not known |
        | `steps` | of each step: `outcome` (done, reused, refused, no need, skipped, failed), `seconds`, `reason` (why it ran or did not), `message` (its error or refusal), `key` |
        | `metrics` | of the last evaluation, by name; null where one is not defined on the data, "nan" and "inf" as text |
        | `reasons` | why the run was refused or skipped |
        | `paths` | what was made, by step.output, and the version that was pushed, as `serving`: absolute |
        | `error` | the first failure; empty where there is none |
        """
        return {
            "pipeline": self.pipeline,
            "run": self.run,
            "outcome": self.outcome,
            "seconds": self.seconds,
            "steps": {
                step.step: {
                    "outcome": outcome,
                    "seconds": step.seconds,
                    "reason": step.reason,
                    "message": step.message,
                    "key": step.key,
                }
                for step, outcome in zip(self.steps, self.outcomes, strict=True)
            },
            "metrics": dict(self.metrics),
            "reasons": list(self.reasons),
            "paths": dict(self.paths),
            "error": self.error,
        }
