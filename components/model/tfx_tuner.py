"""TFX's Tuner with what it found: the best values, their score and the number of trials are said of the hyperparameters."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from schemas.artifact import Artifact
from schemas.artifacts import Hyperparameters
from schemas.component import BeamOptions, Lineage, Scratch

if TYPE_CHECKING:
    from components.io.tfx_components import TfxComponent as _Adapted
else:
    _Adapted = object

_RESULTS = "tuner_results.json"  # what TFX's executor writes: the completed trials, the best first


class TfxTuner(_Adapted):
    """What TFX's Tuner is beside its executor, which says nothing of its hyperparameters outside their file."""

    RUN_BY = (
        "components.model.tfx_tuner.TfxTuner",
        "components.io.tfx_components.TfxComponent",
        "tfx.dsl.components.base.base_component.BaseComponent",
    )

    def _execute(
        self,
        parameters: Mapping[str, Any],
        inputs: Mapping[str, Artifact],
        outputs: Mapping[str, Artifact],
        beam: BeamOptions,
        scratch: Scratch,
        lineage: Lineage,
    ) -> None:
        """Search, then read what was found. An executor of the user's may have written something else: that stays as it is."""
        super()._execute(parameters, inputs, outputs, beam, scratch, lineage)
        best = outputs["best_hyperparameters"]
        if not isinstance(best, Hyperparameters):
            raise TypeError(f"TFX's Tuner makes Hyperparameters, found {type(best).__name__}")
        found = _read(best.file)
        if isinstance(found, dict) and isinstance(found.get("values"), dict):
            best.properties["values"] = found["values"]
        trials = _read(outputs["tuner_results"].path / _RESULTS)
        if isinstance(trials, list) and trials and all(isinstance(trial, dict) for trial in trials):
            best.properties.update(trials=len(trials), score=trials[0].get("score"))


def _read(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
