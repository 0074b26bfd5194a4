"""A compiled model on parameter servers, TrainingData -> the model trained: by workers that do not wait for one another."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from components.model.fitting import Fitted, Fitting, evaluate, not_a_number
from schemas.errors import StepFailed

if TYPE_CHECKING:
    import tensorflow as tf
    import tf_keras


@dataclass(kw_only=True)
class AsynchronousFitting(Fitting):
    """One training under ParameterServerStrategy, in the chief's process.

    A step is a batch on whichever worker is free, and its gradients are of weights that other workers may have changed in the
    meantime: two trainings end in different weights, whatever the seed. Workers read the split's files themselves, each its
    part of every epoch's batches; one that is faster than the others goes on to its part of the next epoch's, and of theirs as
    many are left out. The chief knows of nothing between the epochs: Keras runs no callbacks there, so a checkpoint, and a look
    at the loss, come with each epoch's end alone.
    """

    twin: tf_keras.Model  # the same model without the strategy, in which the chief validates
    workers: int
    _timed: list[tuple[int, float]] = field(default_factory=list, init=False)  # records and seconds of each epoch

    def run(self) -> Fitted:
        """Train. Raises as Fitting does, and StepFailed where a parameter server is gone."""
        import tensorflow as tf

        try:
            return super().run()
        except tf.errors.UnavailableError as error:
            first = next(iter(str(error).strip().splitlines()), "")
            raise StepFailed(
                f"a worker or parameter server was lost after step {self.done}: {first}. Run again to go on from the last "
                f"checkpoint"
            ) from error

    @property
    def examples_per_s(self) -> float | None:
        """Records trained on per second, the first epoch left out; None when there is no other."""
        examples, seconds = (sum(column) for column in zip((0, 0.0), *self._timed[1:], strict=True))
        return examples / seconds if seconds else None

    def _prepare(self) -> None:
        self.model.evaluate(self._batches(0, 1), steps=1, verbose=0)

    def _train(self) -> None:
        started = time.monotonic()
        steps = min(self.data.train.steps - self.done % self.data.train.steps, self.total - self.done)
        history = self.model.fit(self._batches(self.done, steps), steps_per_epoch=steps, verbose=0)
        examples = min(steps * self.data.train.batch_size, self.data.train.rows)
        self._timed.append((examples, time.monotonic() - started))
        self.done += steps
        metrics = {name: float(values[-1]) for name, values in history.history.items()}
        if not math.isfinite(metrics.get("loss", 0.0)):
            raise not_a_number(self.done, self.data, self._checkpoint, sooner="")
        self.progress(self.done, self.total, "steps")
        self._epoch_ended(metrics)

    def _evaluate(self, *, train: bool = True, validation: bool = True) -> dict[str, float]:
        self.twin.set_weights(self.model.get_weights())
        return evaluate(self.twin, self.data, self.eval_steps, train=train, validation=validation)

    def _batches(self, first: int, steps: int) -> Any:
        """What makes the batches in each worker: one of several there, as many as the worker may come to need."""
        import tensorflow as tf
        import tf_keras

        # Tensors kept here would have to be sent to each worker.
        train = replace(self.data.train, kept=None)

        def of_this_worker(context: tf.distribute.InputContext) -> tf.data.Dataset:
            index = tf.distribute.coordinator.experimental_get_current_worker_index()
            return train.shuffled(self.seed, first, steps * self.workers).shard(self.workers, index)

        return tf_keras.utils.experimental.DatasetCreator(of_this_worker)
