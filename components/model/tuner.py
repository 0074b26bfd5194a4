"""TransformedExamples, TransformGraph -> Hyperparameters: the best values that a search found."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, Literal

from components.io import tfx as tfx_io
from components.io.keras import arrange, spare_libraries_autograph
from components.model.computing import make_reproducible, settled_seed, share_accelerators
from components.model.early_stopping import problems_of_early_stopping
from components.model.labels import Label, problems_of_label
from components.model.search import ALGORITHMS, Algorithm, Search
from components.model.training_data import check_records
from components.model.training_settings import problems_of_code, problems_of_counts
from components.model.trial import Training
from components.model.trials_table import trials_of, write
from schemas.artifacts import (
    Examples,
    FeatureSchema,
    Hyperparameters,
    TransformedExamples,
    TransformGraph,
)
from schemas.component import Out, Progress, Scratch, Seed, UserCode
from schemas.dotted_path import in_file, resolve
from schemas.errors import ConfigError, UserCodeError, did_you_mean

OF_A_SEARCH = (
    "algorithm",
    "objective",
    "direction",
    "max_trials",
    "executions_per_trial",
    "parallel_trials",
    "num_initial_points",
    "hyperband_factor",
    "hyperband_iterations",
    "early_stopping",
)
"""Settings that say nothing where a tuner_fn brings its own tuner."""


@dataclass(frozen=True, kw_only=True)
class Tuner:
    """TransformedExamples, TransformGraph -> Hyperparameters: the best values that a search found.

    With `build_model` KerasTuner's `algorithm` searches the space that the function spans by what it asks of its
    hyperparameters. With `tuner_fn`, TFX's own contract, the function gives a KerasTuner tuner and what to search with; it may be
    given as the module file that has it, `models/taxi.py`.

    A trial is scored after every epoch, and at its end; its best score counts, as in KerasTuner. One that fails, or whose
    process dies, is kept with its reason and ends nothing.
    """

    build_model: UserCode | None = None
    tuner_fn: UserCode | None = None
    algorithm: str = "random"  # or bayesian, hyperband
    objective: str = "val_loss"  # a compiled metric; on the eval split with `val_`, else on the train split
    direction: Literal["min", "max"] | None = None  # None: as the metric's name says
    max_trials: int | None = None  # None: 10; hyperband has as many as its brackets take
    executions_per_trial: int = 1  # trainings of each trial's model, with different seeds; their mean counts
    parallel_trials: int = 1  # at once, each in a process of its own
    num_initial_points: int | None = None  # bayesian: random trials to begin with; None: three for each hyperparameter
    hyperband_factor: int = 3  # one in so many trials goes on to the next round, which trains so many times as long
    hyperband_iterations: int = 1  # times through all the brackets
    steps: int | None = None  # batches to train each trial on; for tuner_fn it is fn_args.train_steps
    epochs: int | None = None  # passes over the train split; of hyperband's longest trials (KerasTuner's max_epochs)
    eval_steps: int | None = None  # batches to score a trial on; None: the whole eval split
    early_stopping: dict[str, Any] | None = None  # of each trial: patience and min_delta, as in Trainer
    batch_size: int = 64
    label: Label | None = None  # a transformed feature, or {output: feature}; None: the only one not taken by the model
    sample_weight: str | None = None  # a transformed feature that weighs the examples in loss and weighted metrics
    custom_config: dict[str, Any] = field(default_factory=dict)  # for tuner_fn
    train_split: str = "train"
    eval_split: str = "eval"

    def __post_init__(self) -> None:
        problems = problems_of_code(self, "tuner_fn")
        problems += problems_of_label(self.label, self.sample_weight)
        problems += self._problems_of_algorithm()
        if self.direction not in (None, "min", "max"):
            problems.append(f"direction: '{self.direction}' is neither min nor max")
        if not self.objective:
            problems.append("objective: is empty. Give a metric, such as val_auc")
        problems += problems_of_early_stopping(self.early_stopping)
        problems += [
            f"early_stopping.{name}: a trial stops by the objective, and its best epoch counts. Leave {name} out"
            for name in ("monitor", "direction", "restore_best")
            if name in (self.early_stopping or {})
        ]
        if self.hyperband_factor < 2:
            problems.append(f"hyperband_factor: {self.hyperband_factor} is not at least 2")
        problems += problems_of_counts(
            self,
            "max_trials",
            "executions_per_trial",
            "parallel_trials",
            "num_initial_points",
            "hyperband_iterations",
            "steps",
            "epochs",
            "eval_steps",
            "batch_size",
        )
        if problems:
            raise ConfigError(*problems)

    def _problems_of_algorithm(self) -> list[str]:
        defaults = {each.name: each.default for each in fields(self)}

        def set_without(reason: str, *names: str) -> list[str]:
            return [f"{name}: {reason}" for name in names if getattr(self, name) != defaults[name]]

        if self.tuner_fn is not None:
            return set_without("tuner_fn brings its own tuner, which decides that; leave it out", *OF_A_SEARCH)
        if self.algorithm not in ALGORITHMS:
            return [
                f"algorithm: there is no '{self.algorithm}'.{did_you_mean(self.algorithm, ALGORITHMS)} "
                f"There are: {', '.join(ALGORITHMS)}"
            ]
        problems = []
        if self.algorithm == "hyperband":
            problems += set_without("hyperband's brackets decide how many trials there are; leave it out", "max_trials")
            problems += set_without("hyperband deals in epochs; set epochs, those of its longest trials", "steps")
        else:
            unknown = f"{self.algorithm} has no brackets; leave it out, or set algorithm to hyperband"
            problems += set_without(unknown, "hyperband_factor", "hyperband_iterations")
        if self.algorithm != "bayesian":
            unknown = f"is of bayesian alone, and the algorithm is {self.algorithm}; leave it out"
            problems += set_without(unknown, "num_initial_points")
        return problems

    def run(
        self,
        examples: TransformedExamples | Examples,
        transform_graph: TransformGraph | None = None,
        schema: FeatureSchema | None = None,
        *,
        seed: Seed,
        scratch: Scratch,
        progress: Progress,
        hyperparameters: Out[Hyperparameters],
    ) -> None:
        """Search, and write the best values and all trials.

        Killed and run again with the same scratch, it keeps every finished trial. Equal inputs and an equal seed give equal
        trials, on one machine; with several `parallel_trials` that holds for random, while bayesian and hyperband go by which
        trial ends first. Raises UserCodeError when the first trials all fail; its message has the first one's own error.
        """
        check_records(examples)
        arrange()
        spare_libraries_autograph()
        value = settled_seed(seed, scratch)
        if self.tuner_fn is not None:
            share_accelerators()
            make_reproducible(value)
            _search_theirs(self, self.tuner_fn, examples, transform_graph, schema, scratch, hyperparameters)
            return
        assert self.build_model is not None
        if transform_graph is None:
            raise ConfigError(
                "build_model: needs the transform graph, since the model takes transformed features. Put a Transform "
                "step before this one (its preprocessing_fn may return its inputs as they are), or use tuner_fn"
            )
        # From here on this process runs no TensorFlow operation, so that trials can be forked from it.
        training = Training(
            build_model=self.build_model,
            examples=examples,
            graph=transform_graph,
            label=self.label,
            sample_weight=self.sample_weight,
            batch_size=self.batch_size,
            train_split=self.train_split,
            eval_split=self.eval_split,
            steps=self.steps,
            epochs=self.epochs,
            eval_steps=self.eval_steps,
            executions=self.executions_per_trial,
            objective=self.objective,
            direction=self.direction,
            early_stopping=self.early_stopping,
            seed=value,
            scratch=scratch.path,
            keeps_weights=self.algorithm == "hyperband",
        )
        search = Search(self._algorithm(), training, self.parallel_trials, scratch.path / "search.json", progress)
        oracle = search.run()
        (best,) = oracle.get_best_trials(1)
        write(hyperparameters, best.hyperparameters, trials_of(oracle, search.found), oracle.objective)

    def _algorithm(self) -> Algorithm:
        if self.algorithm == "hyperband":
            return Algorithm(
                name="hyperband",
                max_epochs=self.epochs,
                factor=self.hyperband_factor,
                iterations=self.hyperband_iterations,
            )
        return Algorithm(
            name=self.algorithm,
            max_trials=self.max_trials or 10,
            num_initial_points=self.num_initial_points,
        )


def _search_theirs(
    settings: Tuner,
    dotted: str,
    examples: Examples,
    graph: TransformGraph | None,
    schema: FeatureSchema | None,
    scratch: Scratch,
    hyperparameters: Hyperparameters,
) -> None:
    """Have the user's tuner_fn give a tuner, and search with it in this process, as TFX's Tuner does."""
    function = resolve(in_file(dotted, "tuner_fn"))
    if not callable(function):
        raise UserCodeError(f"{dotted} is a {type(function).__name__}, not a function of fn_args")
    found = function(
        tfx_io.fn_args(
            examples=examples,
            transform_graph=graph,
            schema=schema,
            train_splits=(settings.train_split,),
            eval_splits=(settings.eval_split,),
            train_steps=settings.steps,
            eval_steps=settings.eval_steps,
            custom_config=settings.custom_config,
            working_dir=scratch.path,
        )
    )
    if not hasattr(found, "tuner") or not hasattr(found, "fit_kwargs"):
        raise UserCodeError(
            f"{dotted} returned {'nothing' if found is None else f'a {type(found).__name__}'}: it must return a "
            f"tfx.v1.components.TunerFnResult, with a tuner and its fit_kwargs"
        )
    found.tuner.search(**found.fit_kwargs)
    oracle = getattr(found.tuner, "oracle", None)
    trials = trials_of(oracle, {}) if oracle is not None else None
    if trials and all(trial.status != "COMPLETED" for trial in trials):
        why = next((trial.reason for trial in trials if trial.reason), "its objective was not a number")
        raise UserCodeError(f"{dotted}: none of {len(trials)} trials succeeded. The first failed with {why}")
    best = found.tuner.get_best_hyperparameters()
    if not best:
        raise UserCodeError(f"{dotted}: the search ended without a trial. Look at its max_trials and at its space")
    write(hyperparameters, best[0], trials, getattr(oracle, "objective", None))
