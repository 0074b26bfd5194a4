"""TransformedExamples, TransformGraph -> Hyperparameters: the best values that a search found."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from components.io import tfx as tfx_io
from components.io.keras import arrange, keras_tuner, spare_libraries_autograph
from components.model import hyperparameters as hp
from components.model.trainer import (
    evaluate,
    make_reproducible,
    problems_of_code,
    problems_of_counts,
    settled_seed,
)
from components.model.training_data import TrainingData, open_splits
from schemas.artifacts import (
    Examples,
    FeatureSchema,
    Hyperparameters,
    TransformedExamples,
    TransformGraph,
)
from schemas.component import Out, Progress, Scratch, Seed, UserCode
from schemas.dotted_path import resolve
from schemas.errors import ConfigError, UserCodeError, did_you_mean

if TYPE_CHECKING:
    import keras_tuner as kt

ALGORITHMS = ("random",)
MORE_IS_BETTER = (
    "auc",
    "accuracy",
    "precision",
    "recall",
    "score",
)  # last words of metrics that KerasTuner does not know


@dataclass(frozen=True, kw_only=True)
class Tuner:
    """TransformedExamples, TransformGraph -> Hyperparameters: the best values that a search found.

    With `build_model` the framework searches the space that the function spans by what it asks of its hyperparameters.
    With `tuner_fn`, TFX's own contract, the function gives a KerasTuner tuner and what to search with.
    """

    build_model: UserCode | None = None
    tuner_fn: UserCode | None = None
    algorithm: str = "random"
    objective: str = "val_loss"  # a compiled metric; on the eval split with `val_`, else on the train split
    direction: Literal["min", "max"] | None = None  # None: as the metric's name says
    max_trials: int = 10
    executions_per_trial: int = 1  # trainings of each trial's model, with different seeds; their mean counts
    steps: int | None = None  # batches to train each trial on; for tuner_fn it is fn_args.train_steps
    epochs: int | None = None  # passes over the train split
    eval_steps: int | None = None  # batches to score a trial on; None: the whole eval split
    batch_size: int = 64
    label: str | None = None  # a transformed feature; None: the only one that the model does not take
    custom_config: dict[str, Any] = field(default_factory=dict)  # for tuner_fn
    train_split: str = "train"
    eval_split: str = "eval"

    def __post_init__(self) -> None:
        problems = problems_of_code(self, "tuner_fn")
        if self.algorithm not in ALGORITHMS:
            problems.append(
                f"algorithm: there is no '{self.algorithm}'.{did_you_mean(self.algorithm, ALGORITHMS)} "
                f"There is: {', '.join(ALGORITHMS)}"
            )
        if self.direction not in (None, "min", "max"):
            problems.append(f"direction: '{self.direction}' is neither min nor max")
        if not self.objective:
            problems.append("objective: is empty. Give a metric, such as val_auc")
        problems += problems_of_counts(
            self, "max_trials", "executions_per_trial", "steps", "epochs", "eval_steps", "batch_size"
        )
        if problems:
            raise ConfigError(*problems)

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

        Killed and run again with the same scratch, it goes on after the last finished trial. Raises UserCodeError when no
        trial succeeds; its message has the first trial's own error.
        """
        arrange()
        spare_libraries_autograph()
        value = settled_seed(seed, scratch)
        make_reproducible(value)
        if self.tuner_fn is not None:
            tuner = self._search_theirs(self.tuner_fn, examples, transform_graph, schema, scratch)
        else:
            assert self.build_model is not None
            if transform_graph is None:
                raise ConfigError(
                    "build_model: needs the transform graph, since the model takes transformed features. Put a Transform "
                    "step before this one (its preprocessing_fn may return its inputs as they are), or use tuner_fn"
                )
            tuner = self._search(self.build_model, examples, transform_graph, value, scratch, progress)
        _write(tuner, hyperparameters)

    def _search_theirs(
        self,
        dotted: str,
        examples: Examples,
        graph: TransformGraph | None,
        schema: FeatureSchema | None,
        scratch: Scratch,
    ) -> kt.engine.base_tuner.BaseTuner:
        function = resolve(dotted)
        if not callable(function):
            raise UserCodeError(f"{dotted} is a {type(function).__name__}, not a function of fn_args")
        found = function(
            tfx_io.fn_args(
                examples=examples,
                transform_graph=graph,
                schema=schema,
                train_splits=(self.train_split,),
                eval_splits=(self.eval_split,),
                train_steps=self.steps,
                eval_steps=self.eval_steps,
                custom_config=self.custom_config,
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
        if oracle is not None and oracle.trials and not _completed(oracle):
            raise _none_succeeded(dotted, oracle, None)
        return found.tuner

    def _search(
        self,
        dotted: str,
        examples: Examples,
        graph: TransformGraph,
        seed: int,
        scratch: Scratch,
        progress: Progress,
    ) -> kt.engine.base_tuner.BaseTuner:
        library, settings = keras_tuner(), self
        first = hp.build(
            dotted, library.HyperParameters(), graph
        )  # mistakes in the settings show before the first trial
        data = open_splits(first, examples, graph, self.label, self.batch_size, self.train_split, self.eval_split)
        total = self.steps if self.steps is not None else (self.epochs or 1) * data.train.steps
        objective = _objective(self.objective, self.direction)
        finished = FinishedTrials(scratch.path / "finished")
        failures: dict[str, BaseException] = {}
        progress(0, self.max_trials, "trials")

        class Search(library.RandomSearch):  # type: ignore[name-defined]
            """KerasTuner's random search with our training in it."""

            def run_trial(self, trial: Any, **unused: Any) -> Any:
                found = finished.read(trial.trial_id, trial.hyperparameters.values)
                if found is None:
                    try:
                        found = settings._trial(self.hypermodel, trial, data, total, seed)
                    except Exception as error:
                        failures[trial.trial_id] = error  # KerasTuner keeps only its text
                        raise
                    finished.write(trial.trial_id, trial.hyperparameters.values, found)
                return found

            def on_trial_end(self, trial: Any) -> None:
                super().on_trial_end(trial)
                progress(int(trial.trial_id) + 1, settings.max_trials, "trials")

        tuner = Search(
            hypermodel=lambda values: hp.build(dotted, values, graph),
            objective=objective,
            max_trials=self.max_trials,
            # Zero would be taken for no seed.
            seed=seed or 2**31 - 1,
            max_consecutive_failed_trials=self.max_trials + 1,
            directory=str(scratch.path),
            project_name="trials",
            # The same seed proposes the same trials again, and the finished ones are not trained again: unlike
            # KerasTuner's own files, ours are whole at whatever moment an earlier attempt was killed.
            overwrite=True,
        )
        try:
            tuner.search(verbose=0)
        except library.errors.FatalError as error:
            raise error.__cause__ or error from None
        if not _completed(tuner.oracle):
            first_failure = next(iter(failures.values()), None)
            raise _none_succeeded(dotted, tuner.oracle, first_failure) from first_failure
        return tuner

    def _trial(self, hypermodel: Any, trial: Any, data: TrainingData, total: int, seed: int) -> list[dict[str, float]]:
        """Train the trial's model from scratch, once or more; gives every metric of each training."""
        import tf_keras

        found = []
        for execution in range(self.executions_per_trial):
            tf_keras.backend.clear_session()  # else every trial's graphs stay in memory
            own = (seed + 1_000_003 * (int(trial.trial_id) + 1) + 7919 * execution) % 2**31
            make_reproducible(own)
            model = hypermodel.build(trial.hyperparameters)
            model.fit(data.train.shuffled(own, 0, total), verbose=0)
            metrics = evaluate(model, data, self.eval_steps, train=not self.objective.startswith("val_"))
            if self.objective not in metrics:
                # KerasTuner stops at an error of this kind, and takes any other for a failed trial.
                raise keras_tuner().errors.FatalError() from ConfigError(
                    f"objective: the model has no metric '{self.objective}'.{did_you_mean(self.objective, metrics)} "
                    f"It has: {', '.join(sorted(metrics))}"
                )
            found.append(metrics)
        return found


class FinishedTrials:
    """The metrics of finished trials, one file each, in a directory that survives a killed run."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def read(self, trial: str, values: dict[str, Any]) -> list[dict[str, float]] | None:
        """The metrics of an earlier attempt at the trial with these values; None when there was none."""
        file = self._directory / f"{trial}.json"
        if not file.is_file():
            return None
        found = json.loads(file.read_text(encoding="utf-8"))
        metrics: list[dict[str, float]] = found["metrics"]
        return metrics if found["values"] == values else None

    def write(self, trial: str, values: dict[str, Any], metrics: Any) -> None:
        """Keep the metrics; the file is there whole or not at all."""
        self._directory.mkdir(parents=True, exist_ok=True)
        new = self._directory / f"{trial}.new"
        new.write_text(json.dumps({"values": values, "metrics": metrics}), encoding="utf-8")
        new.replace(self._directory / f"{trial}.json")


def _objective(name: str, direction: str | None) -> Any:
    """KerasTuner's objective. Raises ConfigError when nobody knows whether more of the metric is better."""
    from keras_tuner.src.engine.objective import create_objective

    if direction is None and name.removeprefix("val_").split("_")[-1] in MORE_IS_BETTER:
        direction = "max"
    if direction is not None:
        return keras_tuner().Objective(name, direction)
    try:
        return create_objective(name)
    except ValueError as error:
        raise ConfigError(
            f"direction: it is not known whether a larger or a smaller '{name}' is better. Set direction to min or max"
        ) from error


def _write(tuner: kt.engine.base_tuner.BaseTuner, to: Hyperparameters) -> None:
    """The two files, and the artifact's properties."""
    best = tuner.get_best_hyperparameters()
    if not best:
        raise UserCodeError("the search ended without a trial. Look at the tuner's max_trials and at its space")
    to.path.mkdir(parents=True, exist_ok=True)
    to.file.write_text(json.dumps(best[0].get_config()), encoding="utf-8")
    to.properties.update(values=dict(best[0].values))
    oracle = getattr(tuner, "oracle", None)
    if oracle is None:
        return
    trials = [
        {
            "id": trial.trial_id,
            "status": trial.status,
            "score": _number(trial.score),
            "values": trial.hyperparameters.values,
        }
        for trial in oracle.trials.values()
    ]
    to.trials_file.write_text(json.dumps(trials, indent=1) + "\n", encoding="utf-8")
    top = oracle.get_best_trials(1)
    objective = getattr(oracle.objective, "name", None)
    to.properties.update(
        trials=sum(trial["status"] == "COMPLETED" for trial in trials),
        objective=objective,
        score=_number(top[0].score) if top else None,
    )


def _number(score: float | None) -> float | None:
    """A score as JSON has it: NaN and infinity are not JSON."""
    return float(score) if score is not None and math.isfinite(score) else None


def _completed(oracle: Any) -> list[Any]:
    return [trial for trial in oracle.trials.values() if trial.status == "COMPLETED"]


def _none_succeeded(dotted: str, oracle: Any, first: BaseException | None) -> UserCodeError:
    """The error for a search without a result, with what the first trial failed of."""
    if first is None:
        texts = [trial.message.strip().splitlines()[-1] for trial in oracle.trials.values() if trial.message]
        why = texts[0] if texts else "its objective was NaN"
    else:
        why = f"{type(first).__name__}: {first}"
    return UserCodeError(f"{dotted}: none of {len(oracle.trials)} trials succeeded. The first failed with {why}")
