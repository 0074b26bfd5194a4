"""A compiled model, TrainingData -> the model trained, epoch by epoch, from wherever an earlier attempt was stopped."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.model.checkpoints import BestWeights, Checkpoint
from components.model.early_stopping import EarlyStopping, Stopping
from components.model.training_data import TrainingData
from components.model.training_logs import TrainingLogs
from schemas.component import Progress
from schemas.errors import DataError, StepFailed, UserCodeError

if TYPE_CHECKING:
    import tf_keras


@dataclass(frozen=True)
class Fitted:
    """How a training went. `curve` has a row per validation; `steps` were trained, and the model is that of `best_step`.

    `examples_per_s` is of this process' own steps, without validations, checkpoints and the first step of each epoch;
    None when there are none. `best_step` is `steps` where the weights are the last ones.
    """

    steps: int
    best_step: int
    curve: list[dict[str, float]]
    examples_per_s: float | None


@dataclass(kw_only=True)
class Fitting:
    """One training of `model` up to step `total`, with everything that interrupts it on disk.

    After every epoch, a pass over the train split, and at the end the model is validated on the eval split and a checkpoint
    is written; more of them between, at least every `checkpoint_steps` steps.
    """

    model: tf_keras.Model
    data: TrainingData
    total: int
    seed: int
    directory: Path  # survives a killed run
    progress: Progress
    logs: TrainingLogs
    checkpoint_steps: int = 200
    eval_steps: int | None = None
    early_stopping: EarlyStopping | None = None
    shadow: Path | None = None  # of a worker that is not the chief: where its part in checkpoints goes
    done: int = field(default=0, init=False)  # steps
    _watch: Any = field(default=None, init=False)

    def run(self) -> Fitted:
        """Train. Raises DataError or UserCodeError for a loss that is not a number, StepFailed where memory is too small."""
        import tensorflow as tf

        try:
            return self._run()
        except (tf.errors.ResourceExhaustedError, MemoryError) as error:
            raise _out_of_memory(self.done + 1, self.data.train.batch_size, error) from error

    def _run(self) -> Fitted:
        model, epoch_steps = self.model, self.data.train.steps
        self._prepare()
        checkpoint = Checkpoint(model, self.directory, self.checkpoint_steps, shadow=self.shadow)
        best = BestWeights(model, self.directory / "best", shadow=self.shadow)
        self.done = step = checkpoint.restore()
        curve: list[dict[str, float]] = checkpoint.state.get("curve", [])
        stopping = Stopping(**checkpoint.state.get("stopping", {}))
        self.progress(step, self.total, "steps")
        while step < self.total and not stopping.stopped:
            epoch = step // epoch_steps + 1
            end = min(self.total, epoch * epoch_steps)
            metrics = self._fit(step, end - step, checkpoint)
            row = {"step": end, "epoch": epoch, "learning_rate": _learning_rate(model), **metrics}
            if self.data.evaluation is not None:
                row |= self._evaluate(train=False)
            step = end
            curve.append(row)
            self.logs.validated(step, {name: value for name, value in row.items() if name not in ("step", "epoch")})
            if self.early_stopping is not None and stopping.see(
                self.early_stopping.value(_metrics(row)), step, self.early_stopping
            ):
                best.save(step)
            checkpoint.save(step, {"curve": curve, "stopping": vars(stopping)})
            best.drop_others(stopping.best_step)
        self.logs.close()
        restored = self.early_stopping is not None and self.early_stopping.restore_best and stopping.best_step
        if restored and stopping.best_step != step:
            best.restore(stopping.best_step)
        return Fitted(step, stopping.best_step if restored else step, curve, self.examples_per_s)

    def metrics(self, fitted: Fitted) -> dict[str, float]:
        """The metrics of the trained model, as `evaluate` gives them."""
        validated = next((row for row in fitted.curve if row["step"] == fitted.best_step), {})
        known = {name: value for name, value in validated.items() if name.startswith("val_")}
        return self._evaluate(validation=not known) | known

    @property
    def examples_per_s(self) -> float | None:
        """As in Fitted, so far."""
        return self._watch.examples_per_s if self._watch is not None else None

    def _prepare(self) -> None:
        """Metrics have variables once they were computed, layers of a subclassed model once they were called."""
        self.model.evaluate(self.data.train.in_order(1), verbose=0)

    def _fit(self, first: int, steps: int, checkpoint: Checkpoint) -> dict[str, float]:
        """Train on so many batches of one epoch, from batch `first` on; gives the metrics of the epoch so far."""
        if self._watch is None:
            self._watch = _watch(self, checkpoint)
        self.model.fit(self.data.train.shuffled(self.seed, first, steps), callbacks=[self._watch], verbose=0)
        metrics: dict[str, float] = self._watch.metrics
        return metrics

    def _evaluate(self, *, train: bool = True, validation: bool = True) -> dict[str, float]:
        return evaluate(self.model, self.data, self.eval_steps, train=train, validation=validation)


def evaluate(
    model: tf_keras.Model,
    data: TrainingData,
    eval_steps: int | None,
    *,
    train: bool = True,
    validation: bool = True,
) -> dict[str, float]:
    """Every compiled metric on the eval split, as `val_<name>`, and on as many records of the train split, as `<name>`.

    The train split is left out when `train` is False, the eval split when `validation` is. All are of the model as it is
    now, so they do not depend on where training was interrupted.
    """
    steps = eval_steps if eval_steps is not None else (data.evaluation or data.train).steps
    splits = [("", data.train)] if train else []
    if validation and data.evaluation is not None:
        splits.append(("val_", data.evaluation))
    return {
        prefix + name: float(value)
        for prefix, split in splits
        for name, value in model.evaluate(split.in_order(steps), verbose=0, return_dict=True).items()
    }


def _metrics(row: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in row.items() if name not in ("step", "epoch", "learning_rate")}


def _learning_rate(model: tf_keras.Model) -> float:
    rate: Any = model.optimizer.learning_rate
    if callable(rate) and not hasattr(rate, "numpy"):  # Keras' older optimizers give a schedule
        rate = rate(model.optimizer.iterations)
    return float(rate.numpy() if hasattr(rate, "numpy") else rate)


def _watch(fitting: Fitting, checkpoint: Checkpoint) -> Any:
    """Reports, checkpoints, measures, and stops at a loss that is not a number; made here since Keras is imported late."""
    import tf_keras

    data = fitting.data.train

    class Watch(tf_keras.callbacks.Callback):
        def __init__(self) -> None:
            super().__init__()
            self.metrics: dict[str, float] = {}
            self._seconds, self._examples = 0.0, 0
            self._since: float | None = None
            self._goes_on = fitting.done % data.steps > 0  # in the middle of an epoch

        @property
        def examples_per_s(self) -> float | None:
            return self._examples / self._seconds if self._seconds else None

        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            if self._goes_on:
                checkpoint.restore_metrics()  # Keras begins each fit with a reset
            self._goes_on = False
            self._since = None

        def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
            fitting.logs.before_step(fitting.done + 1)

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            fitting.done += 1
            fitting.logs.after_step(fitting.done)
            if not math.isfinite((logs or {}).get("loss", 0.0)):
                raise not_a_number(fitting.done, fitting.data, checkpoint)
            if self._since is not None:
                self._seconds += time.monotonic() - self._since
                last = fitting.done % data.steps == 0
                self._examples += data.rows - (data.steps - 1) * data.batch_size if last else data.batch_size
            fitting.progress(fitting.done, fitting.total, "steps")
            if fitting.done % data.steps and fitting.done < fitting.total:  # an epoch ends with a checkpoint of its own
                checkpoint.save_when_due(fitting.done)
            self._since = time.monotonic()

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            self.metrics = {name: float(value) for name, value in (logs or {}).items()}

    return Watch()


def not_a_number(
    step: int, data: TrainingData, checkpoint: Checkpoint, sooner: str = "; lower checkpoint_steps to have one"
) -> DataError | UserCodeError:
    """The error for a loss that is not finite: of the data when a feature has such values, else of the model.

    `sooner` is how to have an earlier checkpoint.
    """
    import numpy as np

    bad: dict[str, int] = {}
    for tensors in replace(data.train, label=None, weight=None).in_order():
        for name, tensor in tensors.items():
            values = getattr(tensor, "values", tensor)
            if values.dtype.is_floating:
                bad[name] = bad.get(name, 0) + int((~np.isfinite(values.numpy())).sum())
    named = ", ".join(f"'{name}' in {count:,} records" for name, count in sorted(bad.items()) if count)
    if named:
        return DataError(
            f"the loss is not a number at step {step}: transformed features are NaN or infinite: {named}. "
            f"Fill such values in preprocessing_fn"
        )
    good = checkpoint.last_finite()
    way_on = (
        f"There is no earlier checkpoint with finite weights{sooner}"
        if good is None
        else f"The last good checkpoint is that of step {good.name.split('-')[-1]}. To go on from it with other settings: "
        f"initial_weights: {good}.*"
    )
    return UserCodeError(
        f"the loss is not a number at step {step}, though every transformed feature is finite. Lower the learning rate, or "
        f"look for a division or logarithm of zero in the model or its loss. {way_on}"
    )


def _out_of_memory(step: int, batch_size: int, error: BaseException) -> StepFailed:
    first = next(iter(str(error).strip().splitlines()), "")
    smaller = f"batch_size: {batch_size // 2}" if batch_size > 1 else "a smaller model"
    return StepFailed(
        f"out of memory at step {step} with batch_size {batch_size} ({type(error).__name__}: {first}). Try {smaller}, fewer "
        f"units or layers, mixed_precision on an accelerator that has it, or a machine with more memory"
    )
