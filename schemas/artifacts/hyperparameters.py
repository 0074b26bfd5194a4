"""Hyperparameters: the best trial's values, as KerasTuner writes them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from schemas.artifact import Artifact


@dataclass(frozen=True)
class Hyperparameters(Artifact):
    """
    ```
    best_hyperparameters.txt    JSON of keras_tuner.HyperParameters.get_config(), as TFX's Tuner writes it
    trials.json                 every trial: id, status, score, values (absent where a tuner_fn has no oracle)
    ```
    Properties: `values`, the best values; `score`; `objective`; `trials`, how many were completed.
    """

    TYPE_NAME: ClassVar[str] = "HyperParameters"

    @property
    def file(self) -> Path:
        return self.path / "best_hyperparameters.txt"

    @property
    def trials_file(self) -> Path:
        return self.path / "trials.json"

    def describe(self) -> str:
        values = self.properties.get("values", {})
        shown = ", ".join(
            f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}" for name, value in values.items()
        )
        trials = self.properties.get("trials")
        return f"best of {trials}: {shown}" if trials is not None else shown
