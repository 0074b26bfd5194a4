"""A small convolutional network that tells which digit an image shows, and what strokes it is made of."""

from __future__ import annotations

from typing import TYPE_CHECKING

import tf_keras

from configs.digits.features import MADE_OF, SIZE, STROKES

if TYPE_CHECKING:
    import keras_tuner


def build_model(hp: keras_tuner.HyperParameters) -> tf_keras.Model:
    """A compiled model with two outputs over the same convolutions.

    `digit` is [batch, 10], the probability of each digit, of which one is right: cross entropy over the classes. `strokes`
    is [batch, 2], the probability of a loop and that of a straight stroke, each right or wrong on its own: binary cross
    entropy. What is minimised is the first and half of the second.
    """
    layers = tf_keras.layers
    image = layers.Input((SIZE, SIZE, 1), name="image")
    seen = layers.Conv2D(32, 3, padding="same", activation="relu")(image)
    seen = layers.MaxPooling2D()(seen)
    seen = layers.Conv2D(64, 3, padding="same", activation="relu")(seen)
    seen = layers.Dense(hp.Choice("units", [32, 64, 128], default=64), activation="relu")(layers.Flatten()(seen))
    seen = layers.Dropout(hp.Float("dropout", 0.0, 0.5, default=0.4))(seen)
    outputs = {
        "digit": layers.Dense(len(MADE_OF), activation="softmax", name="digit")(seen),
        "strokes": layers.Dense(len(STROKES), activation="sigmoid", name="strokes")(seen),
    }
    model = tf_keras.Model({"image": image}, outputs)
    model.compile(
        optimizer=tf_keras.optimizers.Adam(hp.Float("learning_rate", 1e-4, 1e-2, sampling="log", default=2e-3)),
        loss={"digit": "sparse_categorical_crossentropy", "strokes": "binary_crossentropy"},
        loss_weights={"digit": 1.0, "strokes": 0.5},
        metrics={"digit": ["accuracy"], "strokes": [tf_keras.metrics.BinaryAccuracy(name="accuracy")]},
    )
    return model
