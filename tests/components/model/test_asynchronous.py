"""Training on parameter servers: the model learns from what every worker computes, and goes on where it was ended."""

from __future__ import annotations

import csv
from typing import Any

import numpy as np
import pytest

from components.io import saved_model
from components.io.keras import load_keras
from components.model.checkpoints import WEIGHTS
from schemas.artifacts import Model
from schemas.component import Scratch

# What a worker computes leaves a file with the worker's number.
LINE = """
import tensorflow as tf
import tf_keras

class Model(tf_keras.Model):
    def train_step(self, data):
        worker = tf.distribute.coordinator.experimental_get_current_worker_index()
        tf.io.write_file(tf.strings.join([{directory!r}, "/worker-", tf.strings.as_string(worker)]), "")
        return super().train_step(data)

def build_model(hp):
    x = tf_keras.layers.Input((1,), name="x")
    y = tf_keras.layers.Dense(1)(tf_keras.layers.Dropout(0.0)(tf_keras.layers.Rescaling(0.1)(x)))
    model = Model({{"x": x}}, y)
    model.compile(tf_keras.optimizers.Adam(0.3), "mse", weighted_metrics=["mae"])
    return model
"""


@pytest.mark.slow
def test_two_workers_and_a_parameter_server_train_and_go_on_after_an_end(tmp_path, hours, monkeypatch, step_process):
    (tmp_path / "user_line.py").write_text(LINE.format(directory=str(tmp_path)), encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    model, scratch = Model(tmp_path / "model"), Scratch(tmp_path / "scratch")
    model.path.mkdir()
    scratch.path.mkdir()
    settings: dict[str, Any] = {"label": "fare_again", "sample_weight": "heavy", "epochs": 8, "batch_size": 20}
    settings |= {"build_model": "user_line.build_model", "strategy": "parameter_server", "workers": 2}
    given = {"to": model.path, "scratch": scratch.path, "modules": tmp_path, "seed": 13}

    step_process.send("Trainer", settings, hours[1], hours[0], **given, end_at=30)
    ended = step_process.answer()
    step_process.send("Trainer", settings, hours[1], hours[0], **given)
    told = step_process.answer()

    assert ended.get("error") == "Ended", ended
    assert "error" not in told, told
    assert ended["left"] == told["left"] == 0
    model.properties.update(told["properties"])
    assert told["progress"][0][0] >= 20
    with model.curves.open(encoding="utf-8", newline="") as file:
        curve = list(csv.DictReader(file))
    assert [int(row["step"]) for row in curve] == [10, 20, 30, 40, 50, 60, 70, 80]
    assert model.properties["metrics"]["val_loss"] < float(curve[0]["val_loss"]) / 4
    assert sorted(file.name for file in tmp_path.glob("worker-*")) == ["worker-0", "worker-1"]
    assert saved_model.exists(model.serving)
    trained = load_keras(model).get_weights()
    assert all(np.isfinite(array).all() for array in trained)
    for number, array in enumerate(trained):
        assert (array == weights_of_checkpoint(scratch)[number]).all()


def weights_of_checkpoint(scratch: Scratch) -> list[Any]:
    """The chief's variables, as its last checkpoint has them."""
    import tensorflow as tf

    reader = tf.train.load_checkpoint(tf.train.latest_checkpoint(str(scratch.path / "checkpoints")))
    names = [name for name in reader.get_variable_to_dtype_map() if name.startswith(f"{WEIGHTS}/")]
    return [reader.get_tensor(name) for name in sorted(names)]
