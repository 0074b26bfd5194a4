"""TFX's Tuner with what it found: the best values, their score and the number of trials are said of the hyperparameters."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from components.io.tfx_components import TfxComponent, Work
from schemas.artifacts import Hyperparameters

_RESULTS = "tuner_results.json"  # what TFX's executor writes: the completed trials, the best first


class TfxTuner(TfxComponent):
    """What TFX's Tuner is beside its executor, which says nothing of its hyperparameters outside their file."""

    RUN_BY = ("components.model.tfx_tuner.TfxTuner", *TfxComponent.RUN_BY)

    def _execute(self, work: Work) -> None:
        """Search, then read what was found. An executor of the user's may have written something else: that stays as it is."""
        super()._execute(work)
        best = work.outputs["best_hyperparameters"]
        if not isinstance(best, Hyperparameters):
            raise TypeError(f"TFX's Tuner makes Hyperparameters, found {type(best).__name__}")
        found = _read(best.file)
        if isinstance(found, dict) and isinstance(found.get("values"), dict):
            best.properties["values"] = found["values"]
        trials = _read(work.outputs["tuner_results"].path / _RESULTS)
        if isinstance(trials, list) and trials and all(isinstance(trial, dict) for trial in trials):
            best.properties.update(trials=len(trials), score=trials[0].get("score"))


def _read(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
