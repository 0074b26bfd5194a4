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
    trials.json                 every trial in the order in which they began: id, status, score, values, metrics, reason
    trials.csv                  the same as a table, the best first
    ```
    The last two are absent where a tuner_fn has no oracle, and where the values were imported.

    Properties: `values`, the best values; `score`; `objective`; `trials` and `failed`, how many were completed and how many
    were not; `origin`, the file that imported ones are from.
    """

    TYPE_NAME: ClassVar[str] = "HyperParameters"

    @property
    def file(self) -> Path:
        return self.path / "best_hyperparameters.txt"

    @property
    def trials_file(self) -> Path:
        return self.path / "trials.json"

    @property
    def table_file(self) -> Path:
        return self.path / "trials.csv"

    def describe(self) -> str:
        shown = ", ".join(
            f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}"
            for name, value in self.properties.get("values", {}).items()
            if not name.startswith("tuner/")  # Hyperband's notes on its own course
        )
        return ": ".join(filter(None, (self.provenance(), shown)))

    def provenance(self) -> str:
        """'best of 12', 'best of 11 (1 failed)' or the file's name; empty when nobody knows."""
        trials, failed = self.properties.get("trials"), self.properties.get("failed")
        if trials is None:
            return str(self.properties.get("origin", ""))
        return f"best of {trials}" + (f" ({failed} failed)" if failed else "")
