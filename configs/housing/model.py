"""A small dense network that tells what a home costs, in 1000 dollars."""

from __future__ import annotations

from typing import TYPE_CHECKING

import tf_keras

from configs.housing.features import EVEN, FLAG, SKEWED, transformed

if TYPE_CHECKING:
    import keras_tuner


def build_model(hp: keras_tuner.HyperParameters) -> tf_keras.Model:
    """A compiled model whose inputs are named as the transformed features it takes; its output is [batch, 1].

    It is trained on the squared error, in which one estimate that is far off weighs more than many that are nearly right;
    weights are kept small, since a few hundred tracts are soon learnt by heart.
    """
    layers = tf_keras.layers
    inputs = {transformed(name): layers.Input((1,), name=transformed(name)) for name in (*SKEWED, *EVEN, FLAG)}
    hidden = layers.concatenate(list(inputs.values()))
    small = tf_keras.regularizers.L2(hp.Float("weight_decay", 1e-3, 1.0, sampling="log", default=0.1))
    for _ in range(hp.Int("layers", 1, 3, default=2)):
        units = hp.Choice("units", [16, 32, 64], default=32)
        hidden = layers.Dense(units, activation="relu", kernel_regularizer=small)(hidden)
    model = tf_keras.Model(inputs, layers.Dense(1, name="price")(hidden))
    model.compile("adam", loss="mse", metrics=["mse", "mae"])
    return model
