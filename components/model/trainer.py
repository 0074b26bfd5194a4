"""TransformedExamples, TransformGraph -> Model, ModelRun: a tf_keras model trained, and saved with its signatures."""

from __future__ import annotations

import math
import os
import shutil
import sys
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from components.io import saved_model
from components.io import tfx as tfx_io
from components.io.keras import arrange, save_keras, spare_libraries_autograph
from components.model import hyperparameters as hp
from components.model import signatures
from components.model.asynchronous import AsynchronousFitting
from components.model.computing import PRECISIONS, make_reproducible, precision, settled_seed, share_accelerators
from components.model.curves import write_curves
from components.model.distribution import (
    PARAMETER_SERVER,
    TF_CONFIG,
    is_chief,
    make_strategy,
    problems_of_strategy,
    read_place,
    serve,
)
from components.model.early_stopping import EarlyStopping, problems_of_early_stopping
from components.model.fitting import Fitted, Fitting
from components.model.labels import Label, problems_of_label
from components.model.learning_rate import problems_of_learning_rate, use_learning_rate
from components.model.local_cluster import train_locally
from components.model.starting_weights import start_from_checkpoint, start_from_served
from components.model.training_data import TrainingData, check_records, open_splits, weigh_classes
from components.model.training_logs import TrainingLogs
from components.model.training_settings import problems_of_code, problems_of_counts
from schemas.artifacts import (
    Examples,
    FeatureSchema,
    Hyperparameters,
    Model,
    ModelRun,
    TransformedExamples,
    TransformGraph,
)
from schemas.component import Baseline, InputFiles, Out, Progress, Scratch, Seed, UserCode, WantsBaseline
from schemas.dotted_path import in_file, resolve
from schemas.errors import ConfigError, UserCodeError, did_you_mean

if TYPE_CHECKING:
    import tf_keras


@dataclass(frozen=True, kw_only=True)
class Trainer:
    """TransformedExamples, TransformGraph -> Model, ModelRun: a tf_keras model trained, and saved with its signatures.

    Raw examples are transformed by the graph while they are read, to the same weights. A run_fn is given what there is.

    With `build_model` the function gives a compiled model and everything else is done here. With `run_fn`, TFX's own
    contract, the function trains and writes the model itself; it may be given as the module file that has it, `models/taxi.py`.

    `learning_rate` replaces that of the model's optimizer: a number, or one of Keras' schedules with its arguments, as in
    {schedule: cosine, initial_learning_rate: 0.01, warmup_steps: 100}. There are constant, cosine, exponential, piecewise
    and polynomial; where cosine and polynomial have no decay_steps they end with the training. `early_stopping`, such as
    {monitor: val_auc, patience: 3}, has the settings of EarlyStopping. `class_weights` weigh the examples of each class in
    training, not in validation, and 1 is the weight of classes that are left out.

    `workers` are processes of this machine that the step starts and ends itself. Without them multi_worker_mirrored takes its
    place in the cluster of TF_CONFIG: whoever set that starts this component in every process of it, each with a `model` of its
    own to write and with one `scratch` that all of them see, and gives the run a seed. `batch_size` is that of all together.

    With `strategy: parameter_server` the weights are kept by `parameter_servers`, and each of the `workers` trains on batches
    of its own, of `batch_size`, without waiting for the others: the weights differ from training to training, whatever the seed.
    Checkpoints and looks at the loss come with an epoch's end alone, however many steps `checkpoint_steps` are. In a cluster of
    TF_CONFIG's the chief writes the model; workers and parameter servers (ps) read the examples, write the checkpoints, end
    when the chief does, and write no model; an evaluator has nothing to do, as the chief validates.
    """

    build_model: UserCode | None = None
    run_fn: UserCode | None = None
    steps: int | None = None  # batches to train on; for run_fn it is fn_args.train_steps
    epochs: int | None = None  # passes over the train split
    eval_steps: int | None = None  # batches to validate on; None: the whole eval split
    batch_size: int = 64
    label: Label | None = None  # a transformed feature, or {output: feature}; None: the only one not taken by the model
    sample_weight: str | None = None  # a transformed feature that weighs the examples in loss and weighted metrics
    class_weights: dict[int, float] | None = None
    learning_rate: float | dict[str, Any] | None = None
    early_stopping: dict[str, Any] | None = None
    mixed_precision: str | None = None  # mixed_float16 for GPUs, mixed_bfloat16 for TPUs and newer CPUs
    strategy: str | None = None  # mirrored, over the GPUs of this machine; multi_worker_mirrored; parameter_server
    workers: int | None = None  # processes to start on this machine; None: the cluster that TF_CONFIG names
    parameter_servers: int | None = None  # processes beside `workers` that keep the weights; None: one
    jit: bool = False  # have XLA compile the training step
    warm_start: WantsBaseline = False  # start from the weights of the model that serves, where there is one
    initial_weights: InputFiles | None = None  # files of a checkpoint, `.../ckpt-10.*`, whose weights to start from
    hyperparameters: dict[str, bool | int | float | str] = field(default_factory=dict)  # instead of the tuned values
    custom_config: dict[str, Any] = field(default_factory=dict)  # for run_fn
    checkpoint_steps: int = 200  # a killed run resumes from at most this many steps back, and at most an epoch
    profile: tuple[int, int] | None = None  # first and last step of TensorFlow's profile, counted from 1
    train_split: str = "train"
    eval_split: str = "eval"

    def __post_init__(self) -> None:
        problems = problems_of_code(self, "run_fn")
        problems += problems_of_label(self.label, self.sample_weight)
        problems += problems_of_counts(self, "steps", "epochs", "eval_steps", "batch_size", "checkpoint_steps")
        problems += problems_of_learning_rate(self.learning_rate)
        problems += problems_of_early_stopping(self.early_stopping)
        problems += problems_of_strategy(self.strategy, self.workers, self.parameter_servers)
        if self.strategy == PARAMETER_SERVER:
            problems += [
                f"{name}: {PARAMETER_SERVER} computes its steps in other processes, which it cannot do there; leave {name} out"
                for name in ("jit", "profile")
                if getattr(self, name)
            ]
        problems += [
            f"class_weights.{number}: {weight} for class {number}: classes are numbered from 0, and a weight is 0 or more"
            for number, weight in (self.class_weights or {}).items()
            if number < 0 or not 0 <= weight < math.inf
        ]
        if self.warm_start and self.initial_weights is not None:
            problems.append("warm_start: initial_weights is set too; start from one of the two")
        if self.mixed_precision not in (None, *PRECISIONS):
            problems.append(
                f"mixed_precision: there is no '{self.mixed_precision}'.{did_you_mean(self.mixed_precision, PRECISIONS)} "
                f"There are: {', '.join(PRECISIONS)}"
            )
        if self.profile is not None and not 1 <= self.profile[0] <= self.profile[1]:
            problems.append(f"profile: {list(self.profile)} are not a first and a last step, counted from 1")
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
        model_run: Out[ModelRun] | None = None,
        baseline: Baseline = Baseline(),  # noqa: B008 frozen
    ) -> None:
        """Train and write the model. On one machine, equal inputs and an equal seed give equal weights and curves.

        With `warm_start` the weights of `baseline`, the served SavedModel, are taken in the order of the layers; the optimizer
        starts anew. A run_fn finds the SavedModel in fn_args.base_model.

        Killed and run again with the same scratch, it goes on from its last checkpoint and ends in the same weights, unless its
        workers train asynchronously (parameter_server).
        """
        check_records(examples)
        arrange()
        spare_libraries_autograph()
        run_directory = scratch.path / "model_run"
        if self.run_fn is not None:
            share_accelerators()
            self._run_fn(self.run_fn, examples, transform_graph, schema, hyperparameters, scratch, model, baseline)
        else:
            given = (self, examples, transform_graph, hyperparameters, seed, scratch, model, baseline)
            if self.workers is None:
                properties, speed = _train(*given, progress)
            else:
                settled_seed(seed, scratch)  # all workers find the same
                sizes = {"worker": self.workers}
                if self.strategy == PARAMETER_SERVER:
                    sizes = {"chief": 1, **sizes, "ps": self.parameter_servers or 1}
                properties, speed = train_locally(partial(_train, *given), sizes, progress)
            model.properties.update(properties)
            if model_run is not None and speed is not None:
                model_run.properties["examples_per_s"] = round(speed, 1)
        if model_run is not None and run_directory.is_dir():
            shutil.copytree(run_directory, model_run.path, dirs_exist_ok=True)

    def _run_fn(
        self,
        dotted: str,
        examples: Examples,
        transform_graph: TransformGraph | None,
        schema: FeatureSchema | None,
        hyperparameters: Hyperparameters | None,
        scratch: Scratch,
        model: Model,
        baseline: Baseline,
    ) -> None:
        function = resolve(in_file(dotted, "run_fn"))
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
                base_model=baseline.path if self.warm_start else None,
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


def _train(
    settings: Trainer,
    examples: Examples,
    graph: TransformGraph | None,
    hyperparameters: Hyperparameters | None,
    seed: Seed,
    scratch: Scratch,
    model: Model,
    baseline: Baseline,
    progress: Progress,
) -> tuple[dict[str, Any], float | None]:
    """Train what build_model gives and write the model; gives its properties and the examples per second.

    Of several workers each does all of it, and only the chief writes. A worker or parameter server of the strategy
    parameter_server computes what the chief says, and gives nothing.
    """
    assert settings.build_model is not None
    if graph is None:
        raise ConfigError(
            "build_model: needs the transform graph, since the model takes transformed features. Put a Transform "
            "step before this one (its preprocessing_fn may return its inputs as they are), or use run_fn"
        )
    if settings.strategy == PARAMETER_SERVER and not isinstance(examples, TransformedExamples):
        raise ConfigError(
            f"strategy: {PARAMETER_SERVER} has each worker read its own part of the transformed examples, and these are raw. Set "
            f"materialize to true on the Transform step, or take another strategy"
        )
    arrange()
    spare_libraries_autograph()
    place = read_place(PARAMETER_SERVER, os.environ.get(TF_CONFIG)) if settings.strategy == PARAMETER_SERVER else None
    share_accelerators()  # which is too late once a strategy has looked at them
    if place is not None and place.kind != "chief":
        if place.kind != "evaluator":
            serve(place)
        return {}, None
    strategy = (
        make_strategy(settings.strategy) if settings.strategy is not None else None
    )  # before TensorFlow does anything
    chief = is_chief(strategy)
    value = settled_seed(seed, scratch)
    make_reproducible(value)
    values = hp.read(hyperparameters, settings.hyperparameters)
    with strategy.scope() if strategy is not None else nullcontext(), precision(settings.mixed_precision):
        network = hp.build(settings.build_model, values, graph)
    hp.check_used(settings.hyperparameters, values)
    if chief:
        sys.stderr.writelines(
            f"Trainer: {line}\n" for line in hp.departures(settings.build_model, settings.hyperparameters, values)
        )
    with network.distribute_strategy.scope():  # where a subclassed model gets its weights, when it is called
        opened = open_splits(
            network,
            examples,
            graph,
            settings.label,
            settings.batch_size,
            settings.train_split,
            settings.eval_split,
            settings.sample_weight,
        )
    data = weigh_classes(opened, settings.class_weights)
    total = settings.steps if settings.steps is not None else (settings.epochs or 1) * data.train.steps
    if settings.profile is not None and settings.profile[1] > total:
        raise ConfigError(f"profile: step {settings.profile[1]} is asked for, and the training has {total}")
    if settings.learning_rate is not None:
        with network.distribute_strategy.scope():
            use_learning_rate(network, settings.learning_rate, total)
    if settings.jit:
        network.jit_compile = True
    properties: dict[str, Any] = {}
    if settings.initial_weights is not None:
        start_from_checkpoint(network, settings.initial_weights)
    if settings.warm_start and baseline.path is not None:
        start_from_served(network, baseline.path)
        properties["started_from"] = baseline.version
    shadow = None if chief else scratch.path / f"worker-{os.getpid()}"
    fitting_of: Callable[..., Fitting] = Fitting
    if place is not None:
        twin = _without_strategy(settings, values, graph, data)
        fitting_of = partial(AsynchronousFitting, twin=twin, workers=len(place.cluster["worker"]))
    fitting = fitting_of(
        model=network,
        data=data,
        total=total,
        seed=value,
        directory=scratch.path / "checkpoints",
        progress=progress,
        logs=TrainingLogs((shadow or scratch.path) / "model_run", settings.profile if chief else None),
        checkpoint_steps=settings.checkpoint_steps,
        eval_steps=settings.eval_steps,
        early_stopping=EarlyStopping(**settings.early_stopping) if settings.early_stopping is not None else None,
        shadow=shadow,
    )
    fitted = fitting.run()
    metrics = fitting.metrics(fitted)
    properties |= {
        "metrics": metrics,
        "steps": fitted.steps,
        "label": data.label,
        "hyperparameters": hp.used(values),
    }
    for name, found in (("unused", hp.unused(values)), ("untuned", hp.untuned(values, settings.hyperparameters))):
        if found:
            properties[f"{name}_hyperparameters"] = found
    if settings.sample_weight is not None:
        properties["sample_weight"] = settings.sample_weight
    if fitted.best_step != fitted.steps:
        properties["best_step"] = fitted.best_step
    if shadow is not None:
        shutil.rmtree(shadow)
    if chief or settings.workers is None:
        _write(network, data, fitted, values, settings, graph, model)
    return properties, fitted.examples_per_s


def _write(
    network: tf_keras.Model,
    data: TrainingData,
    fitted: Fitted,
    values: Any,
    settings: Trainer,
    graph: TransformGraph,
    to: Model,
) -> None:
    """The model in its two forms, and its curves."""
    if settings.strategy is not None:
        plain = _without_strategy(settings, values, graph, data)
        plain.set_weights(network.get_weights())
        network = plain
    exported = signatures.build(network, data.features, graph)
    saved_model.save(exported.module, to.serving, exported.signatures)
    save_keras(network, to)
    write_curves(fitted.curve, to.curves)


def _without_strategy(settings: Trainer, values: Any, graph: TransformGraph, data: TrainingData) -> tf_keras.Model:
    """The same model, untrained, without a trace of the strategy, which whoever loads it does not have."""
    assert settings.build_model is not None
    with precision(settings.mixed_precision):
        plain = hp.build(settings.build_model, values, graph)
    if not plain.built:
        plain(next(iter(data.train.in_order(1)))[0], training=False)
    return plain
