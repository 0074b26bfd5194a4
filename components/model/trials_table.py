"""The trials of a search -> the files of a Hyperparameters artifact."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from components.model.trial import Trained, means
from schemas.artifacts import Hyperparameters

if TYPE_CHECKING:
    import keras_tuner as kt


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One trial, as trials.json has it. `status` is KerasTuner's; `reason` says why it failed, and is empty for others.

    `metrics` are those of the model at its best epoch, the means over its trainings; none where a tuner_fn trained it.
    """

    id: str
    status: str
    score: float | None
    values: Mapping[str, Any]
    metrics: Mapping[str, float | None] = field(default_factory=dict)
    reason: str = ""


def trials_of(oracle: kt.Oracle, found: Mapping[str, Trained]) -> list[Trial]:
    """The oracle's trials in the order in which they began. `found` says how those ended that were trained here."""
    trials = []
    for name, trial in oracle.trials.items():
        ended = found.get(name)
        reason = ended.reason if ended is not None else ((trial.message or "").strip().splitlines() or [""])[-1]
        trials.append(
            Trial(
                id=name,
                status=trial.status,
                score=_number(trial.score),
                values=trial.hyperparameters.values,
                metrics={each: _number(value) for each, value in means(ended.executions).items()} if ended else {},
                reason="" if trial.status == "COMPLETED" else reason,
            )
        )
    return trials


def write(
    to: Hyperparameters, best: kt.HyperParameters, trials: Sequence[Trial] | None, objective: kt.Objective | None
) -> None:
    """The files, and the artifact's properties. `trials` are None where nobody knows them."""
    to.path.mkdir(parents=True, exist_ok=True)
    to.file.write_text(json.dumps(best.get_config()), encoding="utf-8")
    to.properties.update(values=dict(best.values))
    if trials is None:
        return
    completed = [trial for trial in trials if trial.status == "COMPLETED" and trial.score is not None]
    more = getattr(objective, "direction", "min") == "max"
    completed.sort(key=lambda trial: trial.score or 0.0, reverse=more)  # the first of equals stays the first
    to.properties.update(
        trials=len(completed),
        failed=len(trials) - len(completed),
        objective=getattr(objective, "name", None),
        score=completed[0].score if completed else None,
    )
    to.trials_file.write_text(json.dumps([asdict(trial) for trial in trials], indent=1) + "\n", encoding="utf-8")
    rest = [trial for trial in trials if trial not in completed]
    _write_table(to, [*completed, *rest])


def _write_table(to: Hyperparameters, trials: Sequence[Trial]) -> None:
    metrics = list(dict.fromkeys(name for trial in trials for name in trial.metrics))
    values = list(dict.fromkeys(name for trial in trials for name in trial.values))
    with to.table_file.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["trial", "status", "score", *metrics, *values, "reason"])
        for trial in trials:
            cells = [*(trial.metrics.get(name) for name in metrics), *(trial.values.get(name) for name in values)]
            rows.writerow([trial.id, trial.status, *map(_cell, [trial.score, *cells]), trial.reason])


def _cell(value: Any) -> Any:
    return f"{value:.6g}" if isinstance(value, float) else value


def _number(value: float | None) -> float | None:
    """A number as JSON has it: NaN and infinity are not JSON."""
    return float(value) if value is not None and math.isfinite(value) else None
