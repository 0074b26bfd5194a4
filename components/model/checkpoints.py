"""Checkpoints: all that a training needs to go on as if nothing had happened, on disk and whole."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.io.keras import random_generators

if TYPE_CHECKING:
    import tf_keras

WEIGHTS = "weights"  # the model's variables in their order, beside the layers that they belong to
CHECKPOINT_S = 60.0  # a run that is killed loses no more than this, nor more than every_steps or an epoch


class Checkpoint:
    """Model, optimizer, metrics, the layers' random generators, the step and `state`, in a directory.

    Each one is whole, or not there. The model is built, and has computed its metrics once. `state` is JSON data of the
    caller's. What a user's own code draws from tf.random has no state that could be kept.

    What metrics have added up is kept as the sum over all replicas, and saving gives each replica its equal part of that: a
    training that goes on and one that is taken up again round alike.
    """

    def __init__(self, model: tf_keras.Model, directory: Path, every_steps: int, *, shadow: Path | None = None) -> None:
        """`shadow` is where a worker that is not the chief writes what its part in a checkpoint is, for nobody to read."""
        import tensorflow as tf

        optimizer = model.optimizer
        if hasattr(optimizer, "build"):
            with model.distribute_strategy.scope():
                optimizer.build(model.trainable_variables)  # else its slots only exist after a first step
        self.step = tf.Variable(0, dtype=tf.int64, trainable=False)
        self._state = tf.Variable("{}", dtype=tf.string, trainable=False)
        self._sums = [
            (variable, tf.Variable(variable.numpy(), trainable=False))
            for metric in model.metrics
            for variable in metric.variables
        ]
        self._checkpoint = tf.train.Checkpoint(
            model=model,
            optimizer=optimizer,
            metrics=[kept for _, kept in self._sums],
            generators=random_generators(model),
            step=self.step,
            state=self._state,
            **{WEIGHTS: list(model.variables)},
        )
        self._directory = directory
        self._manager = tf.train.CheckpointManager(self._checkpoint, str(shadow or directory), max_to_keep=2)
        # Several workers write a checkpoint together, and their clocks differ.
        self._every_s = CHECKPOINT_S if model.distribute_strategy.num_replicas_in_sync == 1 else math.inf
        self._every_steps = every_steps
        self._saved_step = 0
        self._saved_at = time.monotonic()

    @property
    def state(self) -> dict[str, Any]:
        """What the caller kept beside the model, as of the last save or restore."""
        found: dict[str, Any] = json.loads(self._state.numpy())
        return found

    def restore(self) -> int:
        """Take up the last checkpoint; gives the steps done, 0 when there is none."""
        import tensorflow as tf

        latest = tf.train.latest_checkpoint(str(self._directory))
        if latest is not None:
            self._checkpoint.restore(latest).assert_existing_objects_matched()
        self._saved_step = int(self.step.numpy())
        return self._saved_step

    def restore_metrics(self) -> None:
        """Have the metrics go on from what they had added up when the checkpoint was written."""
        for variable, kept in self._sums:
            variable.assign(kept.numpy())

    def save(self, step: int, state: dict[str, Any] | None = None) -> None:
        """Write a checkpoint of what there is after `step` steps, with `state` or the state as it was."""
        self.step.assign(step)
        if state is not None:
            self._state.assign(json.dumps(state))
        for variable, kept in self._sums:
            kept.assign(variable.numpy())
        self.restore_metrics()
        self._manager.save(checkpoint_number=step)
        self._saved_step, self._saved_at = step, time.monotonic()

    def save_when_due(self, step: int) -> bool:
        """Write one when enough steps or enough time have passed since the last; gives whether it did."""
        due = step - self._saved_step >= self._every_steps or time.monotonic() - self._saved_at > self._every_s
        if due:
            self.save(step)
        return due

    def last_finite(self) -> Path | None:
        """The newest checkpoint whose weights are all finite, None when there is none."""
        import numpy as np
        import tensorflow as tf

        for path in reversed(self._manager.checkpoints):
            reader = tf.train.load_checkpoint(path)
            kinds = reader.get_variable_to_dtype_map()
            weights = (name for name, kind in kinds.items() if name.startswith(f"{WEIGHTS}/") and kind.is_floating)
            if all(np.isfinite(reader.get_tensor(name)).all() for name in weights):
                return Path(path)
        return None


class BestWeights:
    """The weights of the best validation so far, beside the checkpoints."""

    def __init__(self, model: tf_keras.Model, directory: Path, *, shadow: Path | None = None) -> None:
        import tensorflow as tf

        self._checkpoint = tf.train.Checkpoint(model=model)
        self._directory = directory
        self._writes_to = shadow or directory

    def save(self, step: int) -> None:
        """Keep the model as it is after `step` steps; earlier ones are kept until `drop_others`."""
        self._checkpoint.write(str(self._writes_to / f"best-{step}"))

    def drop_others(self, step: int) -> None:
        """Remove what was kept of other steps, once nothing refers to it."""
        for file in self._writes_to.glob("best-*"):
            if file.name.split(".")[0] != f"best-{step}":
                file.unlink()

    def restore(self, step: int) -> None:
        """Give the model the weights it had after `step` steps."""
        self._checkpoint.read(str(self._directory / f"best-{step}")).expect_partial()
