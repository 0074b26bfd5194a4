"""Checkpoints: what a training that is taken up again has of the one that was stopped."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

REPLICAS = """
import json, shutil, sys
from pathlib import Path

import numpy as np
import tensorflow as tf
import tf_keras

from components.io.keras import spare_libraries_autograph
from components.model.checkpoints import Checkpoint

spare_libraries_autograph()
STEPS, BATCH = 20, 30
devices = [tf.config.LogicalDeviceConfiguration()] * 3
tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], devices)
labels = np.random.default_rng(0).random((STEPS * BATCH, 1)).astype(np.float32)


def train(directory, stops=()):
    '''Where it began, and the curve; what a training that is stopped after so many steps has written is kept beside the directory.'''
    with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1", "CPU:2"]).scope():
        model = tf_keras.Sequential([tf_keras.layers.Dense(1, input_shape=(1,), bias_initializer="ones")])
        model.compile(tf_keras.optimizers.SGD(0.0), "mae", metrics=["mse"])
    model.evaluate(np.zeros((6, 1)), np.zeros((6, 1)), verbose=0)
    checkpoint = Checkpoint(model, directory, every_steps=5)
    first = checkpoint.restore()

    class Watch(tf_keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if first:
                checkpoint.restore_metrics()

        def on_train_batch_end(self, batch, logs=None):
            if first + batch + 1 in stops:
                shutil.copytree(directory, directory.with_name(str(first + batch + 1)))
            checkpoint.save_when_due(first + batch + 1)

    rest = labels[first * BATCH :]
    data = tf.data.Dataset.from_tensor_slices((np.zeros_like(rest), rest)).batch(BATCH)
    return first, model.fit(data, callbacks=[Watch()], verbose=0).history


directory = Path(sys.argv[1])
print(json.dumps(train(directory / "whole", (8, 13, 18))))
for stop in (8, 13, 18):
    print(json.dumps(train(directory / str(stop))))
"""


@pytest.mark.slow
def test_metrics_of_several_replicas_go_on_to_the_very_same_values_wherever_the_training_stopped(tmp_path):
    environment = os.environ | {"TF_USE_LEGACY_KERAS": "1", "PYTHONPATH": str(Path(__file__).parents[3])}

    done = subprocess.run(
        [sys.executable, "-c", REPLICAS, str(tmp_path)], env=environment, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr
    (_, whole), *resumed = [json.loads(line) for line in done.stdout.splitlines()]
    assert [first for first, _ in resumed] == [5, 10, 15]
    assert [curve for _, curve in resumed] == [whole] * 3
