"""Tuner: what it writes is KerasTuner's own, it resumes after the last finished trial, and a tuner_fn runs unchanged."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from components.model.tuner import Tuner
from schemas.artifacts import Hyperparameters, TransformedExamples, TransformGraph
from schemas.component import Progress, Scratch, Seed
from schemas.errors import ConfigError, UserCodeError

# Two hyperparameters, one of them conditional structure.
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


class Counted(Progress):
    def __init__(self) -> None:
        self.seen: list[tuple[int, int | None, str]] = []

    def __call__(self, done: int, total: int | None = None, unit: str = "rows") -> None:
        self.seen.append((done, total, unit))


def tune(
    tmp_path: Path,
    examples: TransformedExamples,
    graph: TransformGraph | None,
    progress: Progress | None = None,
    seed: int | None = 13,
    **settings: Any,
) -> Hyperparameters:
    number = len(list(tmp_path.glob("tuned*")))
    found, scratch = Hyperparameters(tmp_path / f"tuned{number}"), Scratch(tmp_path / "scratch")
    found.path.mkdir()
    scratch.path.mkdir(exist_ok=True)
    if "build_model" in settings:
        settings = {"label": "big_tip", "steps": 3, "max_trials": 2, "objective": "val_auc", **settings}
    Tuner(**settings).run(
        examples, graph, seed=Seed(seed), scratch=scratch, progress=progress or Progress(), hyperparameters=found
    )
    return found


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The dotted path of SMALL's build_model."""
    directory = tmp_path_factory.mktemp("small")
    (directory / "user_small.py").write_text(SMALL, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(directory))
        yield "user_small.build_model"


@pytest.fixture(scope="module")
def tuned(
    tmp_path_factory: pytest.TempPathFactory,
    small: str,
    xf_graph: TransformGraph,
    xf_transformed: TransformedExamples,
) -> tuple[Path, Hyperparameters, Counted]:
    tmp_path, progress = tmp_path_factory.mktemp("tuned"), Counted()
    return tmp_path, tune(tmp_path, xf_transformed, xf_graph, progress, build_model=small, max_trials=3), progress


def test_the_best_values_are_KerasTuner_s_own_file(tuned):
    import keras_tuner

    tmp_path, found, _ = tuned
    theirs = keras_tuner.RandomSearch(
        lambda hp: pytest.fail("nothing is to be built"),
        objective=keras_tuner.Objective("val_auc", "max"),
        directory=str(tmp_path / "scratch"),
        project_name="trials",
    )

    (best,) = theirs.get_best_hyperparameters()

    assert found.file.read_text(encoding="utf-8") == json.dumps(best.get_config())
    assert found.properties["values"] == best.values
    assert found.properties["score"] == theirs.oracle.get_best_trials()[0].score


def test_the_same_seed_proposes_the_trials_that_KerasTuner_proposes(tmp_path, tuned, small):
    import keras_tuner

    from schemas.dotted_path import resolve

    theirs = keras_tuner.RandomSearch(
        resolve(small),
        objective=keras_tuner.Objective("val_auc", "max"),
        max_trials=3,
        seed=13,
        directory=str(tmp_path),
    )
    proposed = [theirs.oracle.create_trial(f"worker {n}").hyperparameters.values for n in range(3)]

    assert [trial["values"] for trial in json.loads(tuned[1].trials_file.read_text())] == proposed


def test_every_trial_is_listed_with_its_score_and_values(tuned):
    _, found, progress = tuned
    trials = json.loads(found.trials_file.read_text(encoding="utf-8"))

    assert [(trial["id"], trial["status"]) for trial in trials] == [(str(n), "COMPLETED") for n in range(3)]
    assert max(trial["score"] for trial in trials) == found.properties["score"]
    assert all(trial["values"].keys() == {"learning_rate", "deep"} for trial in trials)
    assert found.properties["trials"] == 3
    assert found.properties["objective"] == "val_auc"
    assert progress.seen == [(n, 3, "trials") for n in range(4)]


@pytest.mark.slow
def test_killed_in_a_trial_it_goes_on_after_the_last_finished_one(tmp_path, tuned, small, xf_graph, xf_transformed):
    program = f"""
import os, signal, sys
from pathlib import Path
sys.path.insert(0, {str(Path(sys.modules["user_small"].__file__).parent)!r})
from components.model.tuner import Tuner
from schemas.artifacts import Hyperparameters, TransformedExamples, TransformGraph
from schemas.component import Progress, Scratch, Seed

class KilledAfter2(Progress):
    def __call__(self, done, total=None, unit="rows"):
        if done == 2:
            os.kill(os.getpid(), signal.SIGKILL)

Tuner(build_model={small!r}, label="big_tip", steps=3, max_trials=3, objective="val_auc").run(
    TransformedExamples(Path({str(xf_transformed.path)!r})), TransformGraph(Path({str(xf_graph.path)!r})),
    seed=Seed(13), scratch=Scratch(Path({str(tmp_path / "scratch")!r})), progress=KilledAfter2(),
    hyperparameters=Hyperparameters(Path({str(tmp_path / "never")!r})),
)
"""
    ended = subprocess.run([sys.executable, "-c", program], env=os.environ, capture_output=True, check=False)
    assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()
    finished = tmp_path / "scratch" / "finished"
    before = {file.name: file.stat().st_mtime_ns for file in finished.iterdir()}
    assert before.keys() == {"0.json", "1.json"}

    resumed = tune(tmp_path, xf_transformed, xf_graph, build_model=small, max_trials=3)

    assert {name: (finished / name).stat().st_mtime_ns for name in before} == before  # they were not trained again
    assert resumed.file.read_bytes() == tuned[1].file.read_bytes()
    assert resumed.trials_file.read_bytes() == tuned[1].trials_file.read_bytes()


def test_a_trial_kept_for_other_values_is_not_taken(tmp_path, small, xf_graph, xf_transformed):
    first = tune(tmp_path, xf_transformed, xf_graph, build_model=small, max_trials=1)
    kept = tmp_path / "scratch" / "finished" / "0.json"
    wrong = {"values": {"deep": True, "learning_rate": 0.5}, "metrics": [{"val_auc": 2.0}]}
    kept.write_text(json.dumps(wrong), encoding="utf-8")

    second = tune(tmp_path, xf_transformed, xf_graph, build_model=small, max_trials=1)

    assert second.properties["score"] == first.properties["score"]


def test_several_executions_count_with_their_mean(tmp_path, small, xf_graph, xf_transformed):
    found = tune(tmp_path, xf_transformed, xf_graph, build_model=small, max_trials=1, executions_per_trial=2)

    metrics = json.loads((tmp_path / "scratch" / "finished" / "0.json").read_text(encoding="utf-8"))["metrics"]
    scores = [execution["val_auc"] for execution in metrics]
    assert len(set(scores)) == 2
    assert found.properties["score"] == pytest.approx(sum(scores) / 2)


def test_an_objective_that_the_model_does_not_have_is_refused(tmp_path, small, xf_graph, xf_transformed):
    with pytest.raises(ConfigError, match=r"objective: the model has no metric 'val_acc'.* It has: val_auc, val_loss"):
        tune(tmp_path, xf_transformed, xf_graph, build_model=small, objective="val_acc")


def test_a_metric_of_unknown_direction_asks_for_one(tmp_path, small, xf_graph, xf_transformed):
    with pytest.raises(ConfigError, match="direction: .* larger or a smaller 'val_gain' is better"):
        tune(tmp_path, xf_transformed, xf_graph, build_model=small, objective="val_gain")


def test_when_every_trial_fails_the_first_failure_is_told(tmp_path, user_module, xf_graph, xf_transformed):
    function = user_module(
        SMALL.replace("import tf_keras\n", "import tf_keras\nbuilt = []\n").replace(
            "    return model",
            "    built.append(1)\n    if len(built) > 2:\n        raise ArithmeticError('no luck')\n    return model",
        ),
        "build_model",
    )

    with pytest.raises(
        UserCodeError, match="none of 2 trials succeeded. The first failed with ArithmeticError: no luck"
    ) as caught:
        tune(tmp_path, xf_transformed, xf_graph, build_model=function)

    assert isinstance(caught.value.__cause__, ArithmeticError)


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
