"""Tuner: its searches are KerasTuner's own, one that is killed goes on where it was, and a tuner_fn runs unchanged."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from components.model.tuner import Tuner
from schemas import errors
from schemas.artifacts import Examples, Hyperparameters, TransformedExamples, TransformGraph
from schemas.component import Progress, Scratch, Seed
from schemas.errors import ConfigError, UserCodeError

SMALL = """
from __future__ import annotations
import tf_keras

def build_model(hp):
    inputs = {name: tf_keras.layers.Input((1,), name=name) for name in ("fare_xf", "payment_type_xf")}
    rate = hp.Float("learning_rate", 1e-3, 1e-1, sampling="log", default=0.01)
    if hp.Boolean("deep"):
        x = tf_keras.layers.Dense(4, activation="relu")(tf_keras.layers.concatenate(list(inputs.values())))
    else:
        x = tf_keras.layers.concatenate(list(inputs.values()))
    model = tf_keras.Model(inputs, tf_keras.layers.Dense(1, activation="sigmoid")(x))
    model.compile(tf_keras.optimizers.Adam(rate), "binary_crossentropy", metrics=[tf_keras.metrics.AUC(name="auc")])
    return model
"""

# Never learns anything, and starts from weights that the seed decides.
IDLE = """
import tf_keras

def gain(label, answer):
    return answer

def build_model(hp):
    given = tf_keras.layers.Input((1,), name="fare_xf")
    hp.Int("anything", 1, 10**6)
    model = tf_keras.Model({"fare_xf": given}, tf_keras.layers.Dense(1, activation="sigmoid")(given))
    model.compile(tf_keras.optimizers.SGD(0.0), "binary_crossentropy")
    return model
"""

# Fails in a way of its own for every value but one.
FRAGILE = """
import os, signal
import tensorflow as tf
import tf_keras

def build_model(hp):
    how = hp.Choice("how", ["well", "raises", "dies", "diverges"])
    if how == "raises":
        raise ArithmeticError("no luck")
    if how == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    given = tf_keras.layers.Input((1,), name="fare_xf")
    scale = float("nan") if how == "diverges" else 1.0
    answer = tf_keras.layers.Dense(1, activation="sigmoid")(given * scale)
    model = tf_keras.Model({"fare_xf": given}, answer)
    model.compile("sgd", "binary_crossentropy")
    return model
"""


@dataclass
class Request:
    """Searches that take place in another process; one after the other in the same one, until it is killed."""

    examples: TransformedExamples
    graph: TransformGraph
    modules: Path
    steps: Any  # conftest.py's StepProcess

    def send(
        self,
        directory: Path,
        seed: int | None = 13,
        modules: Path | None = None,
        examples: Examples | None = None,
        **settings: Any,
    ) -> Hyperparameters:
        """Begin a search whose artifact and scratch lie in `directory`; gives the artifact to be."""
        (directory / "scratch").mkdir(parents=True, exist_ok=True)
        found = Hyperparameters(directory / "tuned")
        self.steps.send(
            "Tuner",
            {"label": "big_tip", "max_trials": 3, **settings},
            examples or self.examples,
            self.graph,
            modules=modules or self.modules,
            scratch=directory / "scratch",
            to=found.path,
            seed=seed,
        )
        return found

    def __call__(self, directory: Path, **settings: Any) -> tuple[Hyperparameters, list[Any]]:
        """The finished artifact and the reports of progress. Raises what the search raised, its cause as a note."""
        found = self.send(directory, **settings)
        answer = self.steps.answer()
        if "error" in answer:
            error = getattr(errors, answer["error"], RuntimeError)(answer["message"])
            error.add_note(answer["cause"])
            raise error
        found.properties.update(answer["properties"])
        return found, answer["progress"]


@pytest.fixture(scope="module")
def modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the modules `small`, `idle` and `fragile`."""
    directory = tmp_path_factory.mktemp("modules")
    for name, source in (("small", SMALL), ("idle", IDLE), ("fragile", FRAGILE)):
        (directory / f"tuned_{name}.py").write_text(source, encoding="utf-8")
    return directory


@pytest.fixture(scope="module")
def search(modules: Path, xf_graph: TransformGraph, xf_transformed: TransformedExamples, step_process: Any) -> Request:
    """(directory, seed, settings) -> what a search found, and its reports of progress."""
    return Request(xf_transformed, xf_graph, modules, step_process)


SETTINGS: dict[str, Any] = {"build_model": "tuned_small.build_model", "objective": "val_auc", "steps": 3}
BAYESIAN: dict[str, Any] = {**SETTINGS, "algorithm": "bayesian", "max_trials": 5, "num_initial_points": 3}


@pytest.fixture(scope="module")
def tuned(search: Request, tmp_path_factory: pytest.TempPathFactory) -> tuple[Hyperparameters, list[Any]]:
    return search(tmp_path_factory.mktemp("random"), **SETTINGS)


@pytest.fixture(scope="module")
def bayesian(search: Request, tmp_path_factory: pytest.TempPathFactory) -> Hyperparameters:
    return search(tmp_path_factory.mktemp("bayesian"), **BAYESIAN)[0]


def trials(found: Hyperparameters) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = json.loads(found.trials_file.read_text(encoding="utf-8"))
    return listed


def function(file: Path) -> Any:
    """build_model of a module, without importing it."""
    namespace: dict[str, Any] = {}
    exec(file.read_text(encoding="utf-8"), namespace)
    return namespace["build_model"]


class TestTheSearches:
    def test_random_tries_what_KerasTuner_s_own_search_on_the_same_data_tries(
        self, tmp_path, tuned, modules, xf_graph, xf_transformed
    ):
        import keras_tuner

        from components.model.training_data import open_splits

        build = function(modules / "tuned_small.py")
        model = build(keras_tuner.HyperParameters())
        data = open_splits(model, xf_transformed, xf_graph, "big_tip", 64, "train", "eval")
        theirs = keras_tuner.RandomSearch(
            build, keras_tuner.Objective("val_auc", "max"), max_trials=3, seed=13, directory=str(tmp_path)
        )

        theirs.search(data.train.in_order(3), validation_data=data.evaluation.in_order(), verbose=0)

        tried = [trial.hyperparameters.get_config() for trial in theirs.oracle.trials.values()]
        assert [trial["values"] for trial in trials(tuned[0])] == [config["values"] for config in tried]
        # TFX's own file: the space and the best values.
        assert json.loads(tuned[0].file.read_text()) in tried

    def test_bayesian_chooses_what_KerasTuner_s_own_search_chooses_of_such_scores(self, tmp_path, bayesian, modules):
        import keras_tuner

        assert self.of_theirs(
            keras_tuner.BayesianOptimization,
            function(modules / "tuned_small.py"),
            trials(bayesian),
            tmp_path,
            objective=keras_tuner.Objective("val_auc", "max"),
            max_trials=5,
            num_initial_points=3,
        ) == [trial["values"] for trial in trials(bayesian)]

    def test_hyperband_goes_on_with_the_weights_of_the_trials_that_KerasTuner_s_own_picks(
        self, search, tmp_path, modules
    ):
        import keras_tuner

        found, progress = search(
            tmp_path / "ours",
            build_model="tuned_idle.build_model",
            algorithm="hyperband",
            epochs=2,
            hyperband_factor=2,
            max_trials=None,
            batch_size=256,
        )

        ours = trials(found)
        total = len(ours)
        assert self.of_theirs(
            keras_tuner.Hyperband,
            function(modules / "tuned_idle.py"),
            ours,
            tmp_path,
            objective="val_loss",
            max_epochs=2,
            factor=2,
            numbered=total,
        ) == [trial["values"] for trial in ours]
        continued = [trial for trial in ours if "tuner/trial_id" in trial["values"]]
        scores = {trial["id"]: trial["score"] for trial in ours}
        # What never learns has the score of the weights that it began with.
        assert [trial["score"] for trial in continued] == [
            scores[trial["values"]["tuner/trial_id"]] for trial in continued
        ]
        assert len(set(scores.values())) == total - len(continued)
        assert [report[:2] for report in progress] == [[done, total] for done in range(total + 1)]
        assert found.describe().startswith(f"best of {total}: anything ")

    def of_theirs(
        self,
        kind: Any,
        build: Any,
        ours: list[dict[str, Any]],
        directory: Path,
        numbered: int | None = None,
        **settings: Any,
    ) -> list[dict[str, Any]]:
        """The values that KerasTuner's search tries when its trials score as ours did."""
        scores = {trial["id"]: trial["score"] for trial in ours}

        class Theirs(kind):
            def run_trial(self, trial: Any, *unused: Any, **also: Any) -> Any:
                return {settings_objective: scores[trial.trial_id]}

        theirs = Theirs(build, seed=13, directory=str(directory), project_name="theirs", **settings)
        settings_objective = theirs.oracle.objective.name
        if numbered is not None:
            theirs.oracle.max_trials = numbered  # so that the trials' names are as long
        theirs.search(verbose=0)
        return [trial.hyperparameters.values for trial in theirs.oracle.trials.values()]

    def test_trials_in_parallel_give_a_random_search_the_same_files(self, search, tmp_path, tuned):
        found, _ = search(tmp_path, **SETTINGS, parallel_trials=2)

        assert {f.name: f.read_bytes() for f in found.path.iterdir()} == {
            f.name: f.read_bytes() for f in tuned[0].path.iterdir()
        }

    def test_on_raw_examples_they_give_the_same_files(self, search, tmp_path, tuned, xf_examples):
        found, _ = search(tmp_path, examples=xf_examples, **SETTINGS)

        assert {f.name: f.read_bytes() for f in found.path.iterdir()} == {
            f.name: f.read_bytes() for f in tuned[0].path.iterdir()
        }

    @pytest.mark.parametrize(
        ("settings", "total"),
        [
            ({"algorithm": "bayesian", "num_initial_points": 1, "steps": 1}, 3),
            ({"algorithm": "hyperband", "hyperband_factor": 2, "max_trials": None, "epochs": 2, "batch_size": 256}, 5),
        ],
        ids=["bayesian", "hyperband"],
    )
    def test_the_others_try_as_many_in_parallel(self, search, tmp_path, settings, total):
        found, _ = search(tmp_path, build_model="tuned_idle.build_model", parallel_trials=2, **settings)

        assert [trial["status"] for trial in trials(found)] == ["COMPLETED"] * total
        assert len({json.dumps(trial["values"]) for trial in trials(found)}) == total


class TestWhatIsWritten:
    def test_every_trial_is_listed_with_its_score_values_and_metrics(self, tuned):
        found, progress = tuned
        listed = trials(found)

        assert [(trial["id"], trial["status"], trial["reason"]) for trial in listed] == [
            (str(n), "COMPLETED", "") for n in range(3)
        ]
        assert max(trial["score"] for trial in listed) == found.properties["score"]
        assert all(trial["values"].keys() == {"learning_rate", "deep"} for trial in listed)
        assert all(trial["metrics"].keys() == {"val_loss", "val_auc"} for trial in listed)
        assert found.properties["values"] == json.loads(found.file.read_text())["values"]
        best = [max(trial["score"] for trial in listed[: n + 1]) for n in range(3)]
        assert progress == [
            [0, 3, "trials"],
            *([n + 1, 3, f"trials, best val_auc {score:.4g}"] for n, score in enumerate(best)),
        ]

    def test_the_table_has_the_best_trial_first(self, tuned):
        found, _ = tuned
        with found.table_file.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))

        scores = [float(row["score"]) for row in rows]
        assert scores == sorted(scores, reverse=True)
        assert list(rows[0]) == [
            "trial", "status", "score", "val_loss", "val_auc", "learning_rate", "deep", "reason"
        ]  # fmt: skip
        assert rows[0]["deep"] == str(found.properties["values"]["deep"])

    def test_several_executions_count_with_their_mean(self, search, tmp_path):
        found, _ = search(tmp_path, build_model="tuned_idle.build_model", steps=1, max_trials=1, executions_per_trial=2)

        kept = json.loads((tmp_path / "scratch" / "search.json").read_text(encoding="utf-8"))
        losses = [execution["val_loss"] for execution in kept["found"]["0"]["executions"]]
        assert len(set(losses)) == 2
        assert found.properties["score"] == pytest.approx(sum(losses) / 2)


class TestFailures:
    def test_a_trial_that_raises_diverges_or_dies_is_kept_with_its_reason_and_ends_nothing(
        self, search, tmp_path, modules
    ):
        found, _ = search(tmp_path, build_model="tuned_fragile.build_model", steps=2, max_trials=4, seed=2)

        told = {trial["values"]["how"]: (trial["status"], trial["reason"]) for trial in trials(found)}
        file = modules / "tuned_fragile.py"
        assert told == {
            "well": ("COMPLETED", ""),
            "raises": ("FAILED", f"{file}:9 in build_model: ArithmeticError: no luck"),
            "dies": ("FAILED", "its process was killed by SIGKILL (out of memory is the usual cause)"),
            "diverges": ("FAILED", "the loss is not a number at step 1"),
        }
        assert found.properties["values"] == {"how": "well"}
        assert found.describe() == "best of 1 (3 failed): how well"

    def test_when_the_first_three_fail_the_search_ends_with_the_first_reason_and_can_be_repeated(
        self, search, tmp_path, user_module
    ):
        always = IDLE.replace(
            "    model =", "    if hp.get('anything') > 1:\n        raise ArithmeticError('no luck')\n    model ="
        )
        name = user_module(always, "build_model")

        with pytest.raises(UserCodeError, match="none of the first 3 trials succeeded") as caught:
            search(tmp_path, modules=tmp_path, build_model=name, steps=2, max_trials=9)

        assert "ArithmeticError: no luck" in str(caught.value)
        assert "in build_model\n    raise ArithmeticError('no luck')" in caught.value.__notes__[0]
        assert not (tmp_path / "scratch" / "search.json").exists()

    @pytest.mark.parametrize(
        ("change", "settings", "message"),
        [
            (
                ("    return model", "    return 3"),
                {},
                "returned a builtins.int: it must return a compiled tf_keras.Model",
            ),
            (
                ('hp.Int("anything", 1, 10**6)', ""),
                {},
                "build_model: the search space is empty: .* asks for no hyperparameter. ",
            ),
            (
                ('hp.Int("anything", 1, 10**6)', 'hp.Fixed("a", 1)'),
                {},
                "asks for no hyperparameter but the fixed a. Have it ask",
            ),
            (
                ("unchanged", ""),
                {"objective": "val_los"},
                "objective: the model has no metric 'val_los'. Did you mean 'val_loss'.* It has: val_loss",
            ),
            (
                ('"binary_crossentropy")', '"mse", metrics=[gain])'),
                {"objective": "val_gain"},
                "direction: it is not known whether a larger or a smaller 'val_gain' is better",
            ),
        ],
        ids=["another return value", "empty space", "fixed space", "unknown objective", "unknown direction"],
    )
    def test_what_is_wrong_with_every_trial_is_said_before_the_first(
        self, search, tmp_path, user_module, change, settings, message
    ):
        name = user_module(IDLE.replace(*change), "build_model")

        with pytest.raises((ConfigError, UserCodeError), match=message):
            search(tmp_path, modules=tmp_path, build_model=name, steps=1, **settings)


@pytest.mark.slow
def test_killed_in_a_trial_it_keeps_the_finished_ones_and_ends_as_if_it_had_not_been(
    tmp_path, bayesian, search, modules, xf_graph, xf_transformed, start_step_process
):
    killed = start_step_process()
    Request(xf_transformed, xf_graph, modules, killed).send(tmp_path, **BAYESIAN)
    state = tmp_path / "scratch" / "search.json"
    # Four have ended, the last of them chosen by what the others found, and the fifth has begun.
    wait_for(lambda: state.is_file() and len(json.loads(state.read_text())["trials"]) == 5)
    os.killpg(killed.process.pid, signal.SIGKILL)
    killed.process.communicate()
    before = json.loads(state.read_text())["found"]
    assert len(before) == 4

    resumed, progress = search(tmp_path, **BAYESIAN)

    assert [report[0] for report in progress] == [4, 5]  # those were not trained again
    assert {f.name: f.read_bytes() for f in resumed.path.iterdir()} == {
        f.name: f.read_bytes() for f in bayesian.path.iterdir()
    }


def wait_for(condition: Callable[[], bool]) -> None:
    for _ in range(6000):
        if condition():
            return
        time.sleep(0.01)
    raise TimeoutError


def tune(tmp_path: Path, examples: TransformedExamples, graph: TransformGraph, **settings: Any) -> Hyperparameters:
    """A search in this process."""
    found, scratch = Hyperparameters(tmp_path / "tuned"), Scratch(tmp_path / "scratch")
    scratch.path.mkdir()
    Tuner(**settings).run(examples, graph, seed=Seed(13), scratch=scratch, progress=Progress(), hyperparameters=found)
    return found


TUNER_FN = """
import keras_tuner
import tensorflow as tf
import tensorflow_transform as tft
from tfx_bsl.tfxio import dataset_options
from tfx.v1.components import TunerFnResult

def tuner_fn(fn_args):
    output = tft.TFTransformOutput(fn_args.transform_graph_path)

    def data(files):
        return fn_args.data_accessor.tf_dataset_factory(
            files, dataset_options.TensorFlowDatasetOptions(batch_size=16, label_key="big_tip"),
            output.transformed_metadata.schema,
        ).repeat()

    def build(hp):
        given = tf.keras.Input((1,), name="fare_xf")
        model = tf.keras.Model({"fare_xf": given}, tf.keras.layers.Dense(1, activation="sigmoid")(given))
        model.compile(hp.Choice("optimizer", ["sgd", "adam"]), "binary_crossentropy")
        return model

    return TunerFnResult(
        tuner=keras_tuner.RandomSearch(build, "val_loss", max_trials=2, directory=fn_args.working_dir, seed=1),
        fit_kwargs={"x": data(fn_args.train_files), "validation_data": data(fn_args.eval_files),
                    "steps_per_epoch": fn_args.train_steps, "validation_steps": fn_args.eval_steps},
    )
"""


@pytest.mark.slow
def test_a_tuner_fn_of_TFX_s_runs_unchanged(tmp_path, user_module, xf_graph, xf_transformed):
    function = user_module(TUNER_FN, "tuner_fn")

    found = tune(tmp_path, xf_transformed, xf_graph, tuner_fn=function, steps=3, eval_steps=1)

    values = json.loads(found.file.read_text(encoding="utf-8"))["values"]
    assert values.keys() == {"optimizer"}
    assert found.properties == {**found.properties, "values": values, "trials": 2, "objective": "val_loss"}
    assert len(json.loads(found.trials_file.read_text(encoding="utf-8"))) == 2


def test_a_tuner_fn_that_gives_no_tuner_is_told_what_to_give(tmp_path, user_module, xf_graph, xf_transformed):
    function = user_module("def tuner_fn(fn_args):\n    return 3\n", "tuner_fn")

    with pytest.raises(UserCodeError, match="returned a int: it must return a tfx.v1.components.TunerFnResult"):
        tune(tmp_path, xf_transformed, xf_graph, tuner_fn=function, steps=1)


def test_every_wrong_setting_is_named_at_once():
    with pytest.raises(ConfigError) as caught:
        Tuner(algorithm="rondom", max_trials=0, direction="up", objective="")  # type: ignore[arg-type]

    assert [problem.split(":")[0] for problem in caught.value.problems] == [
        "build_model", "steps", "algorithm", "direction", "objective", "max_trials"
    ]  # fmt: skip
    assert "Did you mean 'random'?" in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"algorithm": "hyperband", "max_trials": 5, "epochs": 9}, "max_trials: hyperband's brackets decide"),
        ({"algorithm": "hyperband", "steps": 5}, "steps: hyperband deals in epochs; set epochs"),
        ({"hyperband_factor": 2, "epochs": 9}, "hyperband_factor: random has no brackets; leave it out"),
        ({"num_initial_points": 2, "epochs": 9}, "num_initial_points: is of bayesian alone, and the algorithm is random"),
        ({"early_stopping": {"monitor": "val_auc"}, "epochs": 9}, "early_stopping.monitor: a trial stops by the objective"),
        ({"early_stopping": {"patient": 2}, "epochs": 9}, "early_stopping.patient: no such setting. Did you mean 'patience'?"),
    ],
    ids=["bounded hyperband", "hyperband in steps", "factor", "initial points", "monitor", "unknown"],
)  # fmt: skip
def test_a_setting_that_the_algorithm_does_not_have_is_refused(settings, problem):
    with pytest.raises(ConfigError, match=re.escape(problem)):
        Tuner(build_model="a.b", **settings)


def test_a_tuner_fn_decides_what_the_settings_of_a_search_would():
    with pytest.raises(ConfigError) as caught:
        Tuner(tuner_fn="a.b", algorithm="bayesian", max_trials=3, parallel_trials=2)

    assert [problem.partition(": ")[0] for problem in caught.value.problems] == [
        "algorithm", "max_trials", "parallel_trials"
    ]  # fmt: skip
