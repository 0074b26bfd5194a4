"""Training in several processes: equal weights in all of them, and what a cluster that cannot be formed is told."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from components.io.keras import load_keras
from components.model.distribution import (
    MULTI_WORKER,
    PARAMETER_SERVER,
    Place,
    problems_of_strategy,
    read_place,
    wait_for,
)
from components.model.local_cluster import train_locally
from components.model.trainer import Trainer
from schemas.artifacts import Model
from schemas.component import Progress, Scratch, Seed
from schemas.dotted_path import resolve
from schemas.errors import ConfigError, StepFailed

LINEAR = """
import tf_keras

def build_model(hp):
    x = tf_keras.layers.Input((1,), name="x")
    model = tf_keras.Model({"x": x}, tf_keras.layers.Dense(1, activation="sigmoid")(tf_keras.layers.Rescaling(0.1)(x)))
    model.compile(tf_keras.optimizers.SGD(0.1), "binary_crossentropy", metrics=["accuracy"])
    return model
"""
SETTINGS = {"label": "late", "epochs": 6, "batch_size": 50, "checkpoint_steps": 3}
TWO_WORKERS = {"strategy": "multi_worker_mirrored", "workers": 2}


@pytest.fixture(scope="module")
def user_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the module `user_linear`."""
    directory = tmp_path_factory.mktemp("user")
    (directory / "user_linear.py").write_text(LINEAR, encoding="utf-8")
    return directory


@pytest.fixture(scope="module")
def linear(user_directory: Path) -> Any:
    """The dotted path of a model that every process can import."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(user_directory))
        patch.setenv("PYTHONPATH", os.pathsep.join([str(user_directory), *sys.path]))
        yield "user_linear.build_model"


def train(directory: Path, hours: Any, **settings: Any) -> Model:
    """A model in a new directory, trained in this process."""
    directory.mkdir()
    model, scratch = Model(directory / "model"), Scratch(directory / "scratch")
    model.path.mkdir()
    scratch.path.mkdir()
    Trainer(**SETTINGS, **settings).run(
        hours[1], hours[0], seed=Seed(13), scratch=scratch, progress=Progress(), model=model
    )
    return model


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory, hours: Any, linear: str) -> Model:
    """The model trained in one process."""
    return train(tmp_path_factory.mktemp("alone") / "run", hours, build_model=linear)


@pytest.fixture(scope="module")
def order(linear: str, hours: Any, user_directory: Path) -> Callable[..., Model]:
    """(process, directory, scratch, ...) -> the model to be, which two workers train that the step in the process starts."""

    def begin(process: Any, directory: Path, scratch: Path, **others: Any) -> Model:
        model = Model(directory / "model")
        model.path.mkdir(parents=True)
        scratch.mkdir(exist_ok=True)
        settings = {"build_model": linear, **TWO_WORKERS, **SETTINGS}
        places = {"to": model.path, "scratch": scratch, "modules": user_directory}
        process.send("Trainer", settings, hours[1], hours[0], seed=13, **places, **others)
        return model

    return begin


@pytest.fixture(scope="module")
def told() -> dict[str, Any]:
    """What the step that trained `together` answered."""
    return {}


@pytest.fixture(scope="module")
def together(
    tmp_path_factory: pytest.TempPathFactory, order: Callable[..., Model], step_process: Any, told: dict[str, Any]
) -> Model:
    """The model trained by two processes that the step starts."""
    directory = tmp_path_factory.mktemp("together")
    model = order(step_process, directory, directory / "scratch")
    told |= step_process.answer()
    assert "error" not in told, told
    model.properties.update(told["properties"])
    return model


@pytest.mark.slow
def test_workers_on_this_machine_train_as_one_process_does(together, alone, told):
    for found, expected in zip(load_keras(together).get_weights(), load_keras(alone).get_weights(), strict=True):
        assert found == pytest.approx(expected, rel=1e-4)
    assert together.properties["metrics"] == pytest.approx(alone.properties["metrics"], rel=1e-4)
    assert told["progress"][-1][:2] == [24, 24]
    assert told["left"] == 0


@pytest.mark.slow
def test_workers_of_a_step_that_is_killed_go_on_from_its_checkpoint_to_the_same_weights(
    tmp_path, order, step_process, start_step_process, together
):
    scratch = tmp_path / "scratch"
    killed = start_step_process()
    order(killed, tmp_path / "never", scratch, kill_at=8)
    assert killed.process.communicate()[0] == ""  # its workers hold the pipe, too
    assert killed.process.returncode == -signal.SIGKILL
    steps = [int(file.stem.split("-")[1]) for file in (scratch / "checkpoints").glob("ckpt-*.index")]
    assert 0 < max(steps) < 24

    resumed = order(step_process, tmp_path / "run", scratch)
    answer = step_process.answer()
    assert "error" not in answer, answer

    found, whole = ([array.tobytes() for array in load_keras(one).get_weights()] for one in (resumed, together))
    assert found == whole
    assert resumed.curves.read_bytes() == together.curves.read_bytes()


PROCESS = """
import sys
from pathlib import Path
from components.model.trainer import Trainer
from schemas.artifacts import Model, TransformedExamples, TransformGraph
from schemas.component import Progress, Scratch, Seed

examples, graph, scratch, model = map(Path, sys.argv[1:])
model.mkdir()
Trainer(build_model="user_linear.build_model", strategy="multi_worker_mirrored", **{settings!r}).run(
    TransformedExamples(examples), TransformGraph(graph), seed=Seed(13), scratch=Scratch(scratch), progress=Progress(),
    model=Model(model),
)
"""


@pytest.mark.slow
def test_the_workers_of_TF_CONFIG_end_with_equal_weights(tmp_path, hours, linear):
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        addresses = [f"127.0.0.1:{held.getsockname()[1]}" for held in (one, other)]
    (tmp_path / "scratch").mkdir()
    models = [tmp_path / f"model{index}" for index in range(2)]
    started = []
    for index, model in enumerate(models):
        config = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
        command = [sys.executable, "-c", PROCESS.format(settings={**SETTINGS, "epochs": 2})]
        command += map(str, (hours[1].path, hours[0].path, tmp_path / "scratch", model))
        environment = {**os.environ, "TF_CONFIG": json.dumps(config)}
        started.append(subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True))
    ends = [process.communicate()[1] for process in started]

    assert [process.returncode for process in started] == [0, 0], ends
    first, second = ([array.tobytes() for array in load_keras(Model(model)).get_weights()] for model in models)
    assert first == second


DIES = """
import json, os, signal, time

def as_second(progress):
    if json.loads(os.environ["TF_CONFIG"])["task"]["index"] == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)
"""


def test_a_worker_that_dies_ends_the_others(user_module):
    work = resolve(user_module(DIES, "as_second"))

    with pytest.raises(StepFailed, match="worker 1 of 2: its process was killed by SIGKILL"):
        train_locally(work, {"worker": 2}, Progress())

    assert not multiprocessing.active_children()


def test_mirrored_trains_on_what_there_is(tmp_path, hours, linear, alone):
    mirrored = train(tmp_path / "mirrored", hours, build_model=linear, strategy="mirrored")

    for found, expected in zip(load_keras(mirrored).get_weights(), load_keras(alone).get_weights(), strict=True):
        assert found == pytest.approx(expected, rel=1e-5)


def test_a_strategy_without_a_cluster_says_how_to_have_one(tmp_path, hours, linear, monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)

    with pytest.raises(ConfigError, match="multi_worker_mirrored needs a cluster. Set workers, .* set TF_CONFIG"):
        train(tmp_path / "run", hours, build_model=linear, strategy="multi_worker_mirrored")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("{", "TF_CONFIG is not a cluster and a task in it .*JSONDecodeError"),
        ({"cluster": {"worker": ["a:1", "b:1"]}}, "TF_CONFIG is not a cluster .*KeyError: 'task'"),
        (
            {"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 2}},
            "TF_CONFIG is not .*IndexError",
        ),
        (
            {"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 0}},
            "has 1 workers and this process as worker",
        ),
        (
            {"cluster": {"worker": ["a:1", "b:1"], "ps": ["c:1"]}, "task": {"type": "ps", "index": 0}},
            "this process as ps",
        ),
    ],
)
def test_a_TF_CONFIG_that_is_no_place_in_a_cluster_is_refused(config, message):
    with pytest.raises(ConfigError, match=f"strategy: .*{message}"):
        read_place(MULTI_WORKER, config if isinstance(config, str) else json.dumps(config))


@pytest.mark.parametrize("missing", ["chief", "worker", "ps"])
def test_a_TF_CONFIG_without_a_kind_of_process_that_the_strategy_needs_is_refused(missing):
    cluster = {kind: [f"{kind}:1"] for kind in ("chief", "worker", "ps") if kind != missing}
    config = json.dumps({"cluster": cluster, "task": {"type": next(iter(cluster)), "index": 0}})

    with pytest.raises(
        ConfigError, match=f"strategy: TF_CONFIG has no cluster.{missing}; parameter_server is of a chief"
    ):
        read_place(PARAMETER_SERVER, config)


def test_a_process_that_does_not_answer_is_told_with_its_place_in_TF_CONFIG():
    with socket.create_server(("127.0.0.1", 0)) as held:
        address = f"127.0.0.1:{held.getsockname()[1]}"
    place = Place({"chief": ["a:1"], "worker": ["b:1"], "ps": [address]}, "chief", 0)

    with pytest.raises(ConfigError, match=rf"strategy: cluster.ps\[0\] of TF_CONFIG, {address}, has not answered"):
        wait_for(place, "ps", 0, within_s=0.1)


def test_an_evaluator_has_no_address():
    cluster = {"chief": ["a:1"], "worker": ["b:1"], "ps": ["c:1"]}

    place = read_place(PARAMETER_SERVER, json.dumps({"cluster": cluster, "task": {"type": "evaluator", "index": 0}}))

    assert place == Place(cluster, "evaluator", 0)


@pytest.mark.parametrize(
    ("strategy", "workers", "message"),
    [
        ("miror", None, "strategy: there is no 'miror'. Did you mean 'mirrored'?"),
        ("mirrored", 2, "workers: only strategies multi_worker_mirrored and parameter_server have workers"),
        ("multi_worker_mirrored", 1, "workers: 1 is not at least 2"),
    ],
)
def test_a_wrong_setting_is_named(strategy, workers, message):
    (problem,) = problems_of_strategy(strategy, workers)

    assert problem.startswith(message)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"strategy": "mirrored", "parameter_servers": 1},
            "parameter_servers: only strategy parameter_server has them",
        ),
        (
            {"strategy": "parameter_server", "parameter_servers": 1},
            "parameter_servers: without workers TF_CONFIG names",
        ),
        (
            {"strategy": "parameter_server", "workers": 2, "parameter_servers": 0},
            "parameter_servers: 0 is not at least 1",
        ),
        ({"strategy": "parameter_server", "workers": 1}, "workers: 1 is not at least 2"),
        ({"strategy": "parameter_server", "jit": True}, "jit: parameter_server computes its steps in other processes"),
        ({"strategy": "parameter_server", "profile": (1, 2)}, "profile: parameter_server computes its steps in other"),
    ],
)
def test_settings_that_make_no_sense_together_are_refused(settings, message):
    with pytest.raises(ConfigError) as refused:
        Trainer(build_model="m.f", steps=1, **settings)

    assert [problem.startswith(message) for problem in refused.value.problems] == [True]
