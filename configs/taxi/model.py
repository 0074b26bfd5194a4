"""A small wide-and-deep classifier of taxi trips: will the tip be big?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import tf_keras

from configs.taxi.features import (
    CATEGORIES,
    NUMBERS,
    OOV_BUCKETS,
    PLACE_BUCKETS,
    PLACES,
    VOCABULARY_SIZE,
    WORDS,
    transformed,
)

if TYPE_CHECKING:
    import keras_tuner


def build_model(hp: keras_tuner.HyperParameters) -> tf_keras.Model:
    """A compiled model whose inputs are named as the transformed features it takes.

    Wide: a weight for every category, summed. Deep: an embedding of every category beside the numbers, through dense
    layers. Their sum, through a sigmoid, is the probability of a big tip, of shape [batch, 1].
    """
    layers = tf_keras.layers
    sizes = dict.fromkeys(PLACES, PLACE_BUCKETS)
    sizes |= dict.fromkeys(WORDS, VOCABULARY_SIZE + OOV_BUCKETS)
    sizes |= CATEGORIES

    numbers = {transformed(name): layers.Input((1,), name=transformed(name)) for name in NUMBERS}
    categories = {transformed(name): layers.Input((1,), name=transformed(name), dtype="int64") for name in sizes}
    wide = [
        layers.Flatten()(layers.Embedding(size, 1, embeddings_initializer="zeros")(categories[transformed(name)]))
        for name, size in sizes.items()
    ]
    deep = layers.concatenate(
        [
            *numbers.values(),
            *(
                layers.Flatten()(layers.Embedding(size, 4)(categories[transformed(name)]))
                for name, size in sizes.items()
            ),
        ]
    )
    for _ in range(hp.Int("layers", 1, 3, default=2)):
        deep = layers.Dense(hp.Choice("units", [16, 32, 64], default=32), activation="relu")(deep)
    score = layers.add([*wide, layers.Dense(1)(deep)])
    model = tf_keras.Model(numbers | categories, layers.Activation("sigmoid", name="big_tip")(score))
    model.compile(
        optimizer=tf_keras.optimizers.Adam(hp.Float("learning_rate", 1e-4, 1e-2, sampling="log", default=1e-3)),
        loss="binary_crossentropy",
        metrics=[tf_keras.metrics.BinaryAccuracy(name="accuracy"), tf_keras.metrics.AUC(name="auc")],
    )
    return model
