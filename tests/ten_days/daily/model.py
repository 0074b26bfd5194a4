"""A small classifier of trips, in whose making the scheduler and its run are killed, where a file asks for it."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import tf_keras

KILL = Path("kill")  # the scheduler's process


def build_model(hp: object) -> tf_keras.Model:
    if KILL.exists():
        scheduler = int(KILL.read_text())
        KILL.unlink()  # once
        runs = [json.loads(file.read_text()) for file in Path(".penstock/runs").glob("*/run.json")]
        (run,) = [record["owner"]["pid"] for record in runs if record["outcome"] is None]
        os.kill(scheduler, signal.SIGKILL)
        os.kill(run, signal.SIGKILL)
        signal.pause()
    layers = tf_keras.layers
    miles = layers.Input((1,), name="miles_xf")
    payment = layers.Input((1,), name="payment_xf", dtype="int64")
    both = layers.concatenate([miles, layers.Flatten()(layers.Embedding(4, 2)(payment))])
    model = tf_keras.Model({"miles_xf": miles, "payment_xf": payment}, layers.Dense(1, "sigmoid", name="big_tip")(both))
    model.compile(tf_keras.optimizers.Adam(0.05), "binary_crossentropy", metrics=[tf_keras.metrics.AUC(name="auc")])
    return model
