"""Evaluation: TFMA's output, which its notebooks and views read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from schemas.artifact import Artifact


@dataclass(frozen=True)
class Evaluation(Artifact):
    """
    ```
    eval_config.json                      what was asked
    metrics-00000-of-00001.tfrecord       MetricsForSlice, one record per slice
    plots-00000-of-00001.tfrecord
    attributions-00000-of-00001.tfrecord
    validations.tfrecord                  the verdict on the thresholds
    ```
    `tfma.load_eval_result(path)` opens the directory.

    Properties: `metrics`, the overall value of each metric of the candidate, None where it is not a finite number;
    `intervals`, [low, high] of each metric's 95 % confidence interval where some were computed; `baseline_metrics`, the
    values of the baseline where there was one; `examples`, how many were evaluated; `slices`, how many slices were
    computed; `plots`, how many plots over all slices, where there are some; `computed_by`, whether whole batches were added up, or why TFMA's own pipeline computed.
    """

    TYPE_NAME: ClassVar[str] = "ModelEvaluation"

    def describe(self) -> str:
        metrics, intervals = self.properties.get("metrics", {}), self.properties.get("intervals", {})
        within = {name: f" [{low:.4g}, {high:.4g}]" for name, (low, high) in intervals.items()}
        return ", ".join(
            f"{name} {value:.4g}{within.get(name, '')}" for name, value in metrics.items() if value is not None
        )
