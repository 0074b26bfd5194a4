"""A search: KerasTuner's oracle says what to try, processes try it, and what they found survives a kill."""

from __future__ import annotations

import json
import math
import multiprocessing.connection
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from components.io.keras import keras_tuner
from components.model.isolated import Call, ProcessDied, RemoteTraceback, tensorflow_has_run
from components.model.trial import Survey, Trained, Training, means, survey, train
from schemas.component import Progress
from schemas.errors import UserCodeError

if TYPE_CHECKING:
    import keras_tuner as kt

ALGORITHMS = ("random", "bayesian", "hyperband")
GIVE_UP_AFTER = 3
"""The first trials, which all fail when something is wrong with more than their hyperparameters."""


@dataclass(frozen=True, kw_only=True)
class Algorithm:
    """One of KerasTuner's searches. The settings that a search does not have are None."""

    name: str  # of ALGORITHMS
    max_trials: int | None = None  # random, bayesian
    num_initial_points: int | None = None  # bayesian: random trials before the first that is chosen
    max_epochs: int | None = None  # hyperband: of the longest trials
    factor: int | None = None  # hyperband: of the trials of a round, one in so many goes on, so many times as long
    iterations: int | None = None  # hyperband: times through all its brackets

    def oracle(self, objective: str, direction: str, seed: int) -> kt.Oracle:
        """What proposes the trials. Its `max_trials` is set, also for Hyperband, whose brackets decide it."""
        oracles, target = keras_tuner().oracles, keras_tuner().Objective(objective, direction)
        # Zero would be taken for no seed. When to give up is decided here.
        common = {"objective": target, "seed": seed or 2**31 - 1, "max_consecutive_failed_trials": 2**31}
        if self.name == "random":
            oracle = oracles.RandomSearchOracle(max_trials=self.max_trials, **common)
        elif self.name == "bayesian":
            oracle = oracles.BayesianOptimizationOracle(
                max_trials=self.max_trials, num_initial_points=self.num_initial_points, **common
            )
        else:
            oracle = oracles.HyperbandOracle(
                max_epochs=self.max_epochs, factor=self.factor, hyperband_iterations=self.iterations, **common
            )
            brackets = range(oracle._get_num_brackets())
            sizes = (oracle._get_size(bracket, turn) for bracket in brackets for turn in range(bracket + 1))
            oracle.max_trials = self.iterations * sum(sizes)
        oracle.verbose = 0
        return oracle


@dataclass
class Search:
    """A search in progress; `run` does it once.

    `state` is a file that holds all there is to know after each trial's begin and end, and is whole whenever this is killed.
    A search that finds one goes on from it: finished trials stay as they are, those that were running are run again.
    """

    algorithm: Algorithm
    training: Training
    parallel: int
    state: Path
    progress: Progress
    found: dict[str, Trained] = field(default_factory=dict)  # how each trial ended

    def run(self) -> kt.Oracle:
        """Do the search; gives the oracle with every trial.

        Raises what `survey` and `train` raise, and UserCodeError when the first trials all fail: nothing is kept then.
        """
        if tensorflow_has_run():
            print("TensorFlow has run in this process already, so that each trial's process has to import it anew")
        running: dict[str, Call] = {}
        try:
            self._open()
            self._report()
            while True:
                self._begin(running)
                if not running:
                    break
                ready = multiprocessing.connection.wait([call.connection for call in running.values()])
                for worker in [worker for worker, call in running.items() if call.connection in ready]:
                    self._end(worker, running.pop(worker))
        finally:
            for call in running.values():
                call.kill()
        self._check_any(len(self.found))
        return self.oracle

    def _open(self) -> None:
        """The oracle, as an earlier attempt left it or new."""
        known = json.loads(self.state.read_text(encoding="utf-8")) if self.state.is_file() else {}
        self._surveyed = Survey(**known["survey"]) if known else Call(survey, self.training).result()
        self.training = replace(self.training, direction=self._surveyed.direction)
        self.oracle = self.algorithm.oracle(self.training.objective, self._surveyed.direction, self.training.seed)
        self.oracle._set_project_dir(str(self.state.parent), "trials")  # where it writes, too; nothing reads that
        self.oracle.update_space(keras_tuner().HyperParameters.from_config(self._surveyed.space))
        if known:
            trial = keras_tuner().engine.trial.Trial
            self.oracle.trials = {name: trial.from_state(state) for name, state in known["trials"].items()}
            self.oracle.set_state(known["oracle"])
            self.found = {
                name: Trained(**{**how, "executions": tuple(how["executions"])}) for name, how in known["found"].items()
            }
            if known["random"] is not None:
                self.oracle._random_state.set_state(known["random"])

    def _save(self) -> None:
        random = getattr(self.oracle, "_random_state", None)  # Bayesian's, which its own state leaves out
        if random is not None:
            kind, words, *rest = random.get_state()
        known = {
            "survey": asdict(self._surveyed),
            "trials": {name: trial.get_state() for name, trial in self.oracle.trials.items()},
            "oracle": self.oracle.get_state(),
            "found": {name: asdict(how) for name, how in self.found.items()},
            "random": [kind, words.tolist(), *rest] if random is not None else None,
        }
        new = self.state.with_suffix(".new")
        new.write_text(json.dumps(known), encoding="utf-8")
        new.replace(self.state)

    def _begin(self, running: dict[str, Call]) -> None:
        """Start trials until every worker has one, or the oracle has none before others end."""
        for number in range(self.parallel):
            worker = f"worker {number}"  # one that had a trial when the search was killed is given it again
            if worker in running:
                continue
            trial = self.oracle.create_trial(worker)
            if trial.status == "RUNNING":
                self._save()
                running[worker] = Call(train, self.training, trial.trial_id, trial.hyperparameters.get_config())

    def _end(self, worker: str, call: Call) -> None:
        trial = self.oracle.ongoing_trials[worker]
        try:
            trained: Trained = call.result()
        except ProcessDied as died:
            trained = Trained(trial.hyperparameters.get_config(), failed=str(died))
        trial.hyperparameters = keras_tuner().HyperParameters.from_config(trained.config)
        trial.status, trial.message = "COMPLETED", None
        if trained.failed:
            trial.status, trial.message = "FAILED", trained.reason
        else:
            # The objective alone: KerasTuner would look for the direction of any other metric, and run TensorFlow for that.
            score = means(trained.executions)[self.training.objective]
            self.oracle.update_trial(trial.trial_id, {self.training.objective: score}, step=trained.epoch)
        self.oracle.end_trial(trial)
        self.found[trial.trial_id] = trained
        print(f"trial {trial.trial_id}: {trained.reason or f'{self.training.objective} {trial.score:.6g}'}", flush=True)
        self._check_any(GIVE_UP_AFTER)
        self._save()
        self._report()

    def _check_any(self, ended: int) -> None:
        """Raise UserCodeError when so many trials have ended, and all of them failed."""
        first = next(iter(self.found.values()), None)
        if first is None or len(self.found) < ended or any(not trained.failed for trained in self.found.values()):
            return
        self.state.unlink(missing_ok=True)  # another attempt tries them again
        cause = RemoteTraceback(first.trace) if first.trace else None
        raise UserCodeError(
            f"{self.training.build_model}: none of the first {len(self.found)} trials succeeded. The first failed: "
            f"{first.failed}"
        ) from cause

    def _report(self) -> None:
        scores = [trial.score for trial in self.oracle.trials.values() if trial.status == "COMPLETED"]
        best = (max if self.training.direction == "max" else min)(scores, default=math.nan)
        unit = f"trials, best {self.training.objective} {best:.4g}" if scores else "trials"
        self.progress(len(self.found), self.oracle.max_trials, unit)
