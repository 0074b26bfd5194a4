"""Model: a SavedModel to serve, with the trainable form beside it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from schemas.artifact import Artifact


@dataclass(frozen=True)
class Model(Artifact):
    """
    ```
    Format-Serving/saved_model.pb, variables/, assets/    what is evaluated and pushed
    Format-Keras/                                         tf_keras model without the signatures; absent when run_fn made the model
    curves.csv                                            a row per validation; absent when run_fn made the model
    ```
    The columns of curves.csv are `step` (batches trained on), `epoch` (passes over the train split, from 1, the one in
    progress included), `learning_rate` (of the last step), each metric as the mean over the epoch's batches while they were trained on, and
    each metric of the eval split as `val_<name>`. A validation ends every epoch and the training.

    Properties: `metrics`, the last value of each training and validation metric; `steps`, how many were trained; `label`, the
    transformed feature, or {output: feature}; `sample_weight`, the one that weighed the records, where one did; `hyperparameters`,
    the values that build_model asked for, `unused_hyperparameters`, tuned ones that it did not, and `untuned_hyperparameters`,
    defaults that it was given beside tuned ones; `best_step`, where the model is that of an earlier validation; `started_from`, the
    served version whose weights it began with; `optimization`, what Optimizer made of it: `techniques` with their settings,
    layers `left_alone` and why, sparsity and different values `reached` by each tensor, figures `before` and `after`.
    """

    TYPE_NAME: ClassVar[str] = "Model"

    @property
    def serving(self) -> Path:
        """The SavedModel, with the tag `serve`."""
        return self.path / "Format-Serving"

    @property
    def keras(self) -> Path:
        """The trainable form."""
        return self.path / "Format-Keras"

    @property
    def curves(self) -> Path:
        """The learning curves."""
        return self.path / "curves.csv"

    def describe(self) -> str:
        steps, metrics = self.properties.get("steps"), self.properties.get("metrics", {})
        parts = [f"{steps:,} steps"] if steps is not None else []
        untuned = self.properties.get("untuned_hyperparameters")
        if untuned:
            parts.append(f"{', '.join(untuned)} not tuned")
        made = self.properties.get("optimization")
        if made:
            before, after = (made[when]["bytes"]["weights"] / 1000 for when in ("before", "after"))
            parts.append(
                f"{', '.join(name for name in ('prune', 'cluster', 'quantize') if name in made['techniques'])}: weights {after:,.1f} kB compressed, {before:,.1f} before"
            )
        return ", ".join(parts + [f"{name} {value:.4g}" for name, value in metrics.items()])
