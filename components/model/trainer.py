"""TransformedExamples, TransformGraph -> Model: a tf_keras model trained, and saved with its signatures."""

from __future__ import annotations

import json
import math
import random
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.io import saved_model
from components.io import tfx as tfx_io
from components.io.keras import arrange, random_generators, save_keras, spare_libraries_autograph
from components.model import hyperparameters as hp
from components.model import signatures
from components.model.labels import Label, problems_of_label
from components.model.training_data import TrainingData, open_splits
from schemas.artifacts import (
    Examples,
    FeatureSchema,
    Hyperparameters,
    Model,
    TransformedExamples,
    TransformGraph,
)
from schemas.component import Out, Progress, Scratch, Seed, UserCode
from schemas.dotted_path import resolve
from schemas.errors import ConfigError, DataError, UserCodeError

if TYPE_CHECKING:
    import tf_keras

CHECKPOINT_S = 60.0  # a run that is killed loses no more than this, nor more than checkpoint_steps


@dataclass(frozen=True, kw_only=True)
class Trainer:
    """TransformedExamples, TransformGraph -> Model: a tf_keras model trained, and saved with its signatures.

    With `build_model` the function gives a compiled model and everything else is done here. With `run_fn`, TFX's own
    contract, the function trains and writes the model itself.
    """

    build_model: UserCode | None = None
    run_fn: UserCode | None = None
    steps: int | None = None  # batches to train on; for run_fn it is fn_args.train_steps
    epochs: int | None = None  # passes over the train split
    eval_steps: int | None = None  # batches to validate on; None: the whole eval split
    batch_size: int = 64
    label: Label | None = None  # a transformed feature, or {output: feature}; None: the only one not taken by the model
    sample_weight: str | None = None  # a transformed feature that weighs the examples in loss and weighted metrics
    hyperparameters: dict[str, bool | int | float | str] = field(default_factory=dict)  # instead of the tuned values
    custom_config: dict[str, Any] = field(default_factory=dict)  # for run_fn
    checkpoint_steps: int = 200  # a killed run resumes from at most this many steps back
    train_split: str = "train"
    eval_split: str = "eval"

    def __post_init__(self) -> None:
        problems = problems_of_code(self, "run_fn")
        problems += problems_of_label(self.label, self.sample_weight)
        problems += problems_of_counts(self, "steps", "epochs", "eval_steps", "batch_size", "checkpoint_steps")
        if problems:
            raise ConfigError(*problems)

    def run(
        self,
        examples: TransformedExamples | Examples,
        transform_graph: TransformGraph | None = None,
        schema: FeatureSchema | None = None,
        hyperparameters: Hyperparameters | None = None,
        *,
        seed: Seed,
        scratch: Scratch,
        progress: Progress,
        model: Out[Model],
    ) -> None:
        """Train and write the model. On one machine, equal inputs and an equal seed give equal weights.

        Killed and run again with the same scratch, it goes on from its last checkpoint and ends in the same weights.
        """
        arrange()
        spare_libraries_autograph()
        if self.run_fn is not None:
            self._run_fn(self.run_fn, examples, transform_graph, schema, hyperparameters, scratch, model)
            return
        assert self.build_model is not None
        if transform_graph is None:
            raise ConfigError(
                "build_model: needs the transform graph, since the model takes transformed features. Put a Transform "
                "step before this one (its preprocessing_fn may return its inputs as they are), or use run_fn"
            )
        value = settled_seed(seed, scratch)
        make_reproducible(value)
        values = hp.read(hyperparameters, self.hyperparameters)
        network = hp.build(self.build_model, values, transform_graph)
        hp.check_used(self.hyperparameters, values)
        data = open_splits(
            network,
            examples,
            transform_graph,
            self.label,
            self.batch_size,
            self.train_split,
            self.eval_split,
            self.sample_weight,
        )
        total = self.steps if self.steps is not None else (self.epochs or 1) * data.train.steps
        metrics = _fit(network, data, total, self, value, scratch, progress)

        exported = signatures.build(network, data.features, transform_graph)
        saved_model.save(exported.module, model.serving, exported.signatures)
        save_keras(network, model)
        model.properties.update(metrics=metrics, steps=total, label=data.label, hyperparameters=dict(values.values))

    def _run_fn(
        self,
        dotted: str,
        examples: Examples,
        transform_graph: TransformGraph | None,
        schema: FeatureSchema | None,
        hyperparameters: Hyperparameters | None,
        scratch: Scratch,
        model: Model,
    ) -> None:
        function = resolve(dotted)
        if not callable(function):
            raise UserCodeError(f"{dotted} is a {type(function).__name__}, not a function of fn_args")
        values = None
        if hyperparameters is not None or self.hyperparameters:
            values = hp.read(hyperparameters, self.hyperparameters).get_config()
        function(
            tfx_io.fn_args(
                examples=examples,
                transform_graph=transform_graph,
                schema=schema,
                train_splits=(self.train_split,),
                eval_splits=(self.eval_split,),
                train_steps=self.steps,
                eval_steps=self.eval_steps,
                custom_config=self.custom_config,
                working_dir=scratch.path,
                model=model,
                model_run_dir=scratch.path / "model_run",
                hyperparameters=values,
            )
        )
        if not saved_model.exists(model.serving):
            raise UserCodeError(
                f"{dotted} returned and wrote no model: it must save a SavedModel in fn_args.serving_model_dir "
                f"({model.serving})"
            )
        if self.steps is not None:
            model.properties["steps"] = self.steps


def problems_of_code(settings: Any, theirs: str) -> list[str]:
    """What is wrong with a Trainer's or Tuner's choice between `build_model` and TFX's function, the setting `theirs`."""
    code = getattr(settings, theirs)
    problems = []
    if (settings.build_model is None) == (code is None):
        found = "neither is set" if settings.build_model is None else "both are set"
        problems.append(f"build_model: set either build_model or {theirs}; {found}")
    if code is None and (settings.steps is None) == (settings.epochs is None):
        found = "neither is set" if settings.steps is None else "both are set"
        problems.append(f"steps: set either steps or epochs; {found}")
    if code is not None and settings.epochs is not None:
        problems.append(f"epochs: {theirs} is only told of steps; set steps, or have it read custom_config")
    for name in ("label", "sample_weight") if code is not None else ():
        if getattr(settings, name, None) is not None:
            problems.append(f"{name}: {theirs} chooses it itself; leave {name} out, or put it into custom_config")
    return problems


def problems_of_counts(settings: Any, *names: str) -> list[str]:
    """Which of these settings of a Trainer or Tuner are below 1; None is none."""
    values = ((name, getattr(settings, name)) for name in names)
    return [f"{name}: {value} is not at least 1" for name, value in values if value is not None and value < 1]


def _fit(
    model: tf_keras.Model,
    data: TrainingData,
    total: int,
    settings: Trainer,
    seed: int,
    scratch: Scratch,
    progress: Progress,
) -> dict[str, float]:
    """Train up to step `total` from the last checkpoint; gives the metrics of the trained model."""
    if not model.built:  # a subclassed model has no variables before it sees data
        model(next(iter(data.train.in_order(1)))[0], training=False)
    checkpoint = Checkpoint(model, scratch.path / "checkpoints", settings.checkpoint_steps)
    step = checkpoint.restore()
    progress(step, total, "steps")
    if step < total:
        batches = data.train.shuffled(seed, step, total - step)
        model.fit(batches, callbacks=[_callback(checkpoint, total, progress, data)], verbose=0)
    checkpoint.save(total)
    return evaluate(model, data, settings.eval_steps)


def evaluate(
    model: tf_keras.Model, data: TrainingData, eval_steps: int | None, *, train: bool = True
) -> dict[str, float]:
    """Every compiled metric on the eval split, as `val_<name>`, and on as many records of the train split, as `<name>`.

    The train split is left out when `train` is False. All are of the model as it is now, so they do not depend on where
    training was interrupted.
    """
    steps = eval_steps if eval_steps is not None else (data.evaluation or data.train).steps
    splits = ([("", data.train)] if train else []) + (
        [("val_", data.evaluation)] if data.evaluation is not None else []
    )
    return {
        prefix + name: float(value)
        for prefix, split in splits
        for name, value in model.evaluate(split.in_order(steps), verbose=0, return_dict=True).items()
    }


class Checkpoint:
    """Model, optimizer, the layers' random generators and the step, in a directory; each one is whole, or not there.

    The model is built. What a user's own code draws from tf.random has no state that could be kept.
    """

    def __init__(self, model: tf_keras.Model, directory: Path, every_steps: int) -> None:
        import tensorflow as tf

        optimizer = model.optimizer
        if hasattr(optimizer, "build"):
            optimizer.build(model.trainable_variables)  # else its slots only exist after a first step
        self.step = tf.Variable(0, dtype=tf.int64, trainable=False)
        self._checkpoint = tf.train.Checkpoint(
            model=model, optimizer=optimizer, step=self.step, generators=random_generators(model)
        )
        self._manager = tf.train.CheckpointManager(self._checkpoint, str(directory), max_to_keep=2)
        self._every_steps = every_steps
        self._saved_at = time.monotonic()

    def restore(self) -> int:
        """Take up the last checkpoint; gives the steps done, 0 when there is none."""
        if self._manager.latest_checkpoint is not None:
            self._checkpoint.restore(self._manager.latest_checkpoint).assert_existing_objects_matched()
        return int(self.step.numpy())

    def save(self, step: int) -> None:
        """Write a checkpoint of what there is after `step` steps."""
        self.step.assign(step)
        self._manager.save(checkpoint_number=step)
        self._saved_at = time.monotonic()

    def save_when_due(self, step: int) -> None:
        """Write one when enough steps or enough time have passed since the last."""
        if step % self._every_steps == 0 or time.monotonic() - self._saved_at > CHECKPOINT_S:
            self.save(step)


def _callback(checkpoint: Checkpoint, total: int, progress: Progress, data: TrainingData) -> Any:
    """Reports, checkpoints, and stops at a loss that is not a number; made here since Keras is imported late."""
    import tf_keras

    class Watch(tf_keras.callbacks.Callback):
        def __init__(self) -> None:
            super().__init__()
            self.done = int(checkpoint.step.numpy())

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            self.done += 1
            if not math.isfinite((logs or {}).get("loss", 0.0)):
                raise _not_a_number(self.done, data)
            progress(self.done, total, "steps")
            if self.done < total:
                checkpoint.save_when_due(self.done)

    return Watch()


def _not_a_number(step: int, data: TrainingData) -> DataError | UserCodeError:
    """The error for a loss that is not finite: of the data when a feature has such values, else of the model."""
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
    return UserCodeError(
        f"the loss is not a number at step {step}, though every transformed feature is finite. Lower the learning rate, or "
        f"look for a division or logarithm of zero in the model or its loss"
    )


def settled_seed(seed: Seed, scratch: Scratch) -> int:
    """The seed to use: the run's, or one drawn once and kept in scratch so that a resumed run has it too."""
    if seed.value is not None:
        return seed.value
    file = scratch.path / "seed.json"
    if not file.is_file():
        scratch.path.mkdir(parents=True, exist_ok=True)
        new = file.with_suffix(".new")
        new.write_text(json.dumps(random.SystemRandom().randrange(2**31)), encoding="utf-8")
        new.replace(file)
    return int(json.loads(file.read_text(encoding="utf-8")))


def make_reproducible(seed: int) -> None:
    """Seed Python, NumPy and TensorFlow, and have TensorFlow choose deterministic kernels, for the whole process."""
    import tensorflow as tf
    import tf_keras

    # Generators have a state that a checkpoint can keep; the older ops behind dropout have none.
    tf_keras.backend.experimental.enable_tf_random_generator()
    # Zero, joined with the seed of a shuffle, is taken for no seed at all.
    tf_keras.utils.set_random_seed(seed or 2**31 - 1)
    tf.config.experimental.enable_op_determinism()
