"""A compiled model, TrainingData -> the model trained, epoch by epoch, from wherever an earlier attempt was stopped."""

from __future__ import annotations

import math
import time
import weakref
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
    curve: list[dict[str, float]] = field(default_factory=list, init=False)
    _checkpoint: Checkpoint = field(init=False)
    _best: BestWeights = field(init=False)
    _stopping: Stopping = field(init=False)
    _watch: Any = field(default=None, init=False)

    def run(self) -> Fitted:
        """Train. Raises DataError or UserCodeError for a loss that is not a number, StepFailed where memory is too small."""
        import tensorflow as tf

        try:
            return self._run()
        except (tf.errors.ResourceExhaustedError, MemoryError) as error:
            raise _out_of_memory(self.done + 1, self.data.train.batch_size, error) from error

    def _run(self) -> Fitted:
        self._prepare()
        self._checkpoint = Checkpoint(self.model, self.directory, self.checkpoint_steps, shadow=self.shadow)
        self._best = BestWeights(self.model, self.directory / "best", shadow=self.shadow)
        self.done = self._checkpoint.restore()
        self.curve = self._checkpoint.state.get("curve", [])
        self._stopping = Stopping(**self._checkpoint.state.get("stopping", {}))
        self.progress(self.done, self.total, "steps")
        while self.done < self.total and not self._stopping.stopped:
            self._train()
        self.logs.close()
        best_step = self._stopping.best_step
        restored = self.early_stopping is not None and self.early_stopping.restore_best and best_step
        if restored and best_step != self.done:
            self._best.restore(best_step)
        return Fitted(self.done, best_step if restored else self.done, self.curve, self.examples_per_s)

    def _epoch_ended(self, metrics: Mapping[str, float]) -> bool:
        """Validate, and keep what there is; gives whether more is to be trained. `metrics` are those of the epoch's own steps."""
        step = self.done
        epoch = math.ceil(step / self.data.train.steps)
        row = {"step": step, "epoch": epoch, "learning_rate": _learning_rate(self.model), **metrics}
        if self.data.evaluation is not None:
            row |= self._evaluate(train=False)
        self.curve.append(row)
        self.logs.validated(step, {name: value for name, value in row.items() if name not in ("step", "epoch")})
        stopping = self._stopping
        if self.early_stopping is not None and stopping.see(
            self.early_stopping.value(_metrics(row)), step, self.early_stopping
        ):
            self._best.save(step)
        self._checkpoint.save(step, {"curve": self.curve, "stopping": vars(stopping)})
        self._best.drop_others(stopping.best_step)
        return not stopping.stopped

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
        model = self.model
        model.evaluate(self.data.train.in_order(1), verbose=0)
        if model.distribute_strategy.num_replicas_in_sync == 1:
            model.make_train_function()
            model.train_function = _found_once(model.train_function)
            model.test_function = _found_once(model.test_function)

    def _train(self) -> None:
        """Train on: to the end of the epoch that is under way, or on all the whole epochs that are left, or on the rest."""
        epoch_steps, left = self.data.train.steps, self.total - self.done
        into = self.done % epoch_steps
        steps, epochs = (epoch_steps, left // epoch_steps) if not into else (epoch_steps - into, 1)
        if not epochs or steps > left:
            steps, epochs = left, 1
        if self._watch is None:
            self._watch = _watch(self, self._checkpoint)
        # One data set for all of them: to make one, and an iterator of it, costs more than some epochs. Keras is told how many
        # steps there are: one that has to find the end by asking for a batch too many counts that as a step of the optimizer's,
        # and so would the learning rate's schedule.
        batches = self.data.train.shuffled(self.seed, self.done, steps * epochs)
        self.model.fit(batches, epochs=epochs, steps_per_epoch=steps, callbacks=[self._watch], verbose=0)

    def _evaluate(self, *, train: bool = True, validation: bool = True) -> dict[str, float]:
        return evaluate(self.model, self.data, self.eval_steps, train=train, validation=validation)


def _found_once(function: Any) -> Any:
    """`function`, a tf.function of an iterator, with its graph looked up once for each iterator.

    tf.function does so at every call by all that the iterator's elements are, which for a table of twenty features takes as
    long as a small model's step. Anything that is no tf.function, as of a model that runs eagerly, is given back as it is.
    """
    if not hasattr(function, "get_concrete_function"):
        return function
    graphs: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()

    def call(iterator: Any) -> Any:
        graph = graphs.get(iterator)
        if graph is None:
            graph = graphs[iterator] = function.get_concrete_function(iterator)
        return graph(iterator)

    return call


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
            if not fitting._epoch_ended({name: float(value) for name, value in (logs or {}).items()}):
                self.model.stop_training = True

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
