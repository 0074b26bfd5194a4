"""ModelRun: what a training leaves beside its model, for TensorBoard."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from schemas.artifact import Artifact


@dataclass(frozen=True)
class ModelRun(Artifact):
    """
    ```
    train/, validation/    event files: a scalar per metric and the learning rate, by step
    plugins/profile/       TensorFlow's profile, where some steps were profiled
    ```
    `tensorboard --logdir` takes the directory. What a run_fn writes into fn_args.model_run_dir is here as it is. Event files
    have times in them, so this artifact differs with every training of the same model.
    Properties: `examples_per_s`, of training alone; absent when nothing was measured.
    """

    TYPE_NAME: ClassVar[str] = "ModelRun"

    def describe(self) -> str:
        speed = self.properties.get("examples_per_s")
        return f"{speed:,.0f} examples/s" if speed is not None else ""
