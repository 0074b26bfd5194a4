"""A trial of a search: hyperparameters -> the metrics of the model that they make, trained; what its process does."""

from __future__ import annotations

import math
import operator
import shutil
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.io.keras import arrange, keras_tuner, spare_libraries_autograph
from components.model import hyperparameters as hp
from components.model.computing import make_reproducible, share_accelerators
from components.model.early_stopping import MORE_IS_BETTER, EarlyStopping, Stopping
from components.model.fitting import evaluate
from components.model.labels import Label
from components.model.training_data import TrainingData, open_splits
from schemas.artifacts import Examples, TransformGraph
from schemas.errors import ConfigError, PenstockError, did_you_mean

if TYPE_CHECKING:
    import keras_tuner as kt
    import tf_keras


@dataclass(frozen=True, kw_only=True)
class Training:
    """How every trial of a search is trained and scored."""

    build_model: str
    examples: Examples
    graph: TransformGraph
    label: Label | None
    sample_weight: str | None
    batch_size: int
    train_split: str
    eval_split: str
    steps: int | None
    epochs: int | None
    eval_steps: int | None
    executions: int
    objective: str
    direction: str | None  # min or max; None: as the metric's name says, which `survey` finds out
    early_stopping: Mapping[str, Any] | None  # patience, min_delta
    seed: int
    scratch: Path
    keeps_weights: bool = False  # of the best epoch, in scratch, for a later trial to go on from


@dataclass(frozen=True)
class Survey:
    """What there is to search: the space, as KerasTuner's HyperParameters.get_config(), and the objective's direction."""

    space: dict[str, Any]
    direction: str


@dataclass(frozen=True)
class Trained:
    """How a trial ended: with the metrics of each training at its best epoch, or, in `failed`, with what it failed of.

    `config` are the hyperparameters with those that only this model asked for. `epoch` is the best one's number, the mean
    over the trainings. `place` is where in build_model's module it failed, and `trace` the traceback, as text.
    """

    config: dict[str, Any]
    executions: tuple[dict[str, float], ...] = ()
    epoch: int = 0
    failed: str = ""
    place: str = ""
    trace: str = ""

    @property
    def reason(self) -> str:
        """Why it failed: 'model.py:12 in build_model: ValueError: ...'; empty when it did not."""
        return ": ".join(filter(None, (self.place, self.failed)))


class TrialFailed(Exception):
    """This trial has no score, for a reason that says nothing of the others."""


def survey(training: Training) -> Survey:
    """The space that build_model spans, every conditional part of it built once.

    Raises the function's own exception; UserCodeError when it gives no compiled model; ConfigError when there is nothing to
    search, when the model has no such objective, or when nobody knows whether more of that is better.
    """
    _prepare()
    kt, space = keras_tuner(), keras_tuner().HyperParameters()
    make_reproducible(training.seed)
    model = hp.build(training.build_model, space, training.graph)
    if all(isinstance(parameter, kt.engine.hyperparameters.Fixed) for parameter in space.space):
        fixed = f" but the fixed {', '.join(p.name for p in space.space)}" if space.space else ""
        raise ConfigError(
            f"build_model: the search space is empty: {training.build_model} asks for no hyperparameter{fixed}. Have it ask "
            f'for what is to be tuned, as in hp.Float("learning_rate", 1e-4, 1e-2, sampling="log"), or leave the step out'
        )
    _check_objective(training, _scores(training, model, _open(training, model), steps=1))
    objective = objective_of(training.objective, training.direction)
    oracle = kt.Oracle(objective=objective)
    kt.engine.base_tuner.BaseTuner(
        oracle,
        lambda values: hp.build(training.build_model, values, training.graph),
        directory=str(training.scratch),
        project_name="survey",
        overwrite=True,
    )
    return Survey(oracle.get_space().get_config(), objective.direction)


def train(training: Training, trial: str, config: dict[str, Any]) -> Trained:
    """Train the trial's model from scratch, once or more, each time with another seed.

    What goes wrong with this model alone is in the result. Raises what goes wrong whatever the hyperparameters: UserCodeError
    when build_model gives no compiled model, ConfigError and DataError when model, data and settings do not fit.
    """
    _prepare()
    values = keras_tuner().HyperParameters.from_config(config)
    try:
        executions, epochs = zip(*_executions(training, trial, values), strict=True)
    except PenstockError:
        raise
    except Exception as error:  # noqa: BLE001 whatever build_model or the training raises is this trial's failure
        traceback.print_exc()
        failed, place = _said(error, training), _place(error, training)
        return Trained(config, failed=failed, place=place, trace=traceback.format_exc())
    return Trained(values.get_config(), executions, round(sum(epochs) / len(epochs)))


def means(executions: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Each metric's mean over the trainings of one trial; nothing for a trial without any."""
    return {name: sum(each[name] for each in executions) / len(executions) for name in (executions or [{}])[0]}


def weights_of(training: Training, trial: str) -> Path:
    """The directory of a trial's best weights."""
    return training.scratch / "weights" / trial


def objective_of(name: str, direction: str | None) -> kt.Objective:
    """KerasTuner's objective. Raises ConfigError when nobody knows whether more of the metric is better."""
    from keras_tuner.src.engine.objective import create_objective

    if direction is None and name.removeprefix("val_").split("_")[-1] in MORE_IS_BETTER:
        direction = "max"  # which KerasTuner knows of some of these alone
    if direction is not None:
        return keras_tuner().Objective(name, direction)
    try:
        return create_objective(name)
    except ValueError as error:
        raise ConfigError(
            f"direction: it is not known whether a larger or a smaller '{name}' is better. Set direction to min or max"
        ) from error


def _prepare() -> None:
    arrange()
    spare_libraries_autograph()
    share_accelerators()


def _open(training: Training, model: tf_keras.Model) -> TrainingData:
    return open_splits(
        model,
        training.examples,
        training.graph,
        training.label,
        training.batch_size,
        training.train_split,
        training.eval_split,
        training.sample_weight,
    )


def _executions(training: Training, trial: str, values: kt.HyperParameters) -> Iterator[tuple[dict[str, float], int]]:
    """Each training's metrics at its best epoch, and that epoch's number."""
    import tf_keras

    data: TrainingData | None = None
    kept: float | None = None
    for execution in range(training.executions):
        tf_keras.backend.clear_session()  # else the graphs of every training stay in memory
        seed = (training.seed + 1_000_003 * (int(trial) + 1) + 7919 * execution) % 2**31
        make_reproducible(seed)
        model = hp.build(training.build_model, values, training.graph)
        data = data or _open(training, model)
        if model.built and hasattr(model.optimizer, "build"):
            model.optimizer.build(model.trainable_variables)  # else the first step is traced twice, to the same effect
        if before := values.values.get("tuner/trial_id"):
            model.load_weights(weights_of(training, before) / "weights").expect_partial()
        best: tuple[dict[str, float], int] | None = None
        for epoch, metrics in _epochs(training, model, data, seed, values.values):
            value = metrics[training.objective]
            if best is None or _better(training, value, best[0][training.objective]):
                best = metrics, epoch
                if training.keeps_weights and (kept is None or _better(training, value, kept)):
                    kept = value
                    _keep_weights(model, weights_of(training, trial))
        assert best is not None  # there is at least one epoch
        yield best


def _epochs(
    training: Training, model: tf_keras.Model, data: TrainingData, seed: int, values: Mapping[str, Any]
) -> Iterator[tuple[int, dict[str, float]]]:
    """Train epoch by epoch; after each, its number and the metrics. The last may be cut short by `steps`.

    Ends before its time when early stopping says so. The epochs are those that Hyperband says, where it does.
    """
    size = data.train.steps
    first = values.get("tuner/initial_epoch", 0)
    last = training.steps or (values.get("tuner/epochs") or training.epochs or 1) * size
    watch, stopping = _stop_at_nan(first * size), Stopping()
    rule = EarlyStopping(
        **(training.early_stopping or {"patience": sys.maxsize}),
        monitor=training.objective,
        direction=training.direction,
    )
    for begin in range(first * size, last, size):
        steps = min(size, last - begin)
        model.fit(data.train.shuffled(seed, begin, steps), steps_per_epoch=steps, callbacks=[watch], verbose=0)
        metrics = _scores(training, model, data, training.eval_steps)
        _check_objective(training, metrics)
        if math.isnan(metrics[training.objective]):
            raise TrialFailed(f"{training.objective} is not a number after step {begin + steps}")
        yield begin // size, metrics
        stopping.see(metrics[training.objective], begin + steps, rule)
        if stopping.stopped:
            return


def _scores(training: Training, model: tf_keras.Model, data: TrainingData, steps: int | None) -> dict[str, float]:
    """Every metric of the model as it is, on the eval split; on the train split too where the objective is one of that."""
    return evaluate(model, data, steps, train=not training.objective.startswith("val_"))


def _check_objective(training: Training, metrics: Mapping[str, float]) -> None:
    if training.objective not in metrics:
        raise ConfigError(
            f"objective: the model has no metric '{training.objective}'.{did_you_mean(training.objective, metrics)} "
            f"It has: {', '.join(sorted(metrics))}"
        )


def _better(training: Training, value: float, than: float) -> bool:
    return (operator.gt if training.direction == "max" else operator.lt)(value, than)


def _keep_weights(model: tf_keras.Model, directory: Path) -> None:
    """Put the weights in place of those in `directory`; what is there is whole, whenever this is killed."""
    new = directory.with_suffix(".new")
    shutil.rmtree(new, ignore_errors=True)
    model.save_weights(new / "weights", save_format="tf")
    shutil.rmtree(directory, ignore_errors=True)
    new.rename(directory)


def _stop_at_nan(first: int) -> Any:
    """A callback that raises TrialFailed at the first step whose loss is not a number; steps count from `first`."""
    import tf_keras

    class StopAtNan(tf_keras.callbacks.Callback):
        def __init__(self) -> None:
            super().__init__()
            self.done = first

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            self.done += 1
            if not math.isfinite((logs or {}).get("loss", 0.0)):
                raise TrialFailed(f"the loss is not a number at step {self.done}")

    return StopAtNan()


def _said(error: Exception, training: Training) -> str:
    """The error in one line."""
    import tensorflow as tf

    if isinstance(error, TrialFailed):
        return str(error)
    said = ": ".join([type(error).__name__, *str(error).strip().splitlines()[:1]])
    if isinstance(error, (MemoryError, tf.errors.ResourceExhaustedError)):
        said += (
            f" (out of memory at a batch_size of {training.batch_size}; try a smaller one, or fewer parallel_trials)"
        )
    return said


def _place(error: Exception, training: Training) -> str:
    """'model.py:12 in build_model', the innermost line in the module of build_model; empty when there is none."""
    file = sys.modules[training.build_model.replace(":", ".").rpartition(".")[0]].__file__ or ""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    if not frames:
        return ""
    shown = Path(file).relative_to(Path.cwd()) if Path(file).is_relative_to(Path.cwd()) else file
    return f"{shown}:{frames[-1].lineno} in {frames[-1].name}"
