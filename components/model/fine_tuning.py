"""A network that is being made smaller, training data -> the same network trained on, stage by stage and resumably."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from components.model.checkpoints import Checkpoint
from components.model.computing import make_reproducible
from components.model.training_data import TrainingData
from schemas.component import Progress, Scratch
from schemas.errors import UserCodeError

if TYPE_CHECKING:
    import tf_keras


@dataclass(kw_only=True)
class FineTuning:
    """What all stages have in common, and how many steps are done of the `total`. Each stage has its own checkpoints."""

    data: TrainingData
    original: tf_keras.Model  # what is compiled as every stage is
    learning_rate: float | None
    seed: int
    checkpoint_steps: int
    scratch: Scratch
    progress: Progress
    total: int
    done: int = 0

    def begin(self) -> None:
        """Have the next stage draw the same random numbers whatever was done before it in this process."""
        make_reproducible(self.seed + self.done)

    def train(self, stage: str, network: tf_keras.Model, steps: int, callbacks: Sequence[Any] = ()) -> None:
        """Train for `steps` batches, from the stage's last checkpoint on."""
        compiled_as(network, self.original, self.learning_rate)
        checkpoint = Checkpoint(network, self.scratch.path / "checkpoints" / stage, self.checkpoint_steps)
        step = checkpoint.restore()
        self.progress(self.done + step, self.total, "steps")
        if step < steps:
            batches = self.data.train.shuffled(self.seed, self.done + step, steps - step)
            watch = self._watch(checkpoint, stage, step, steps)
            network.fit(batches, steps_per_epoch=steps - step, callbacks=[*callbacks, watch], verbose=0)
        checkpoint.save(steps)
        self.done += steps

    def _watch(self, checkpoint: Checkpoint, stage: str, first: int, steps: int) -> Any:
        import tf_keras

        tuning = self

        class Watch(tf_keras.callbacks.Callback):
            def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
                step = first + batch + 1
                if not math.isfinite((logs or {}).get("loss", 0.0)):
                    raise UserCodeError(
                        f"{stage}: the loss is not a number at step {step}, though it was while the model was trained. "
                        f"Set a lower learning_rate"
                    )
                tuning.progress(tuning.done + step, tuning.total, "steps")
                if step < steps:
                    checkpoint.save_when_due(step)

        return Watch()


def compiled_as(network: tf_keras.Model, original: tf_keras.Model, learning_rate: float | None = None) -> None:
    """Compile with the optimizer, loss and metrics of `original`, each made anew."""
    config = original.get_compile_config()
    if learning_rate is not None:
        config["optimizer"] = _with_learning_rate(config["optimizer"], learning_rate)
    network.compile_from_config(config)


def _with_learning_rate(optimizer: Mapping[str, Any], learning_rate: float) -> dict[str, Any]:
    config = dict(optimizer["config"])
    if "inner_optimizer" in config:  # mixed precision scales the loss of another one
        return {
            **optimizer,
            "config": {**config, "inner_optimizer": _with_learning_rate(config["inner_optimizer"], learning_rate)},
        }
    return {**optimizer, "config": {**config, "learning_rate": learning_rate}}
