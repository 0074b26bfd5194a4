"""TFMOT on networks of other shapes: convolutions, normalisation, layers of the user's own, models inside models."""

from __future__ import annotations

from typing import Any

import pytest

from components.io.keras import spare_libraries_autograph
from components.model import compression
from schemas.errors import ConfigError


@pytest.fixture(autouse=True)
def _as_in_a_step() -> None:
    spare_libraries_autograph()


@pytest.fixture
def convolutional() -> Any:
    import tf_keras

    layers = tf_keras.layers
    return tf_keras.Sequential(
        [
            layers.Input((6, 6, 1), name="image"),
            layers.Conv2D(4, 3, name="convolution"),
            layers.BatchNormalization(name="folded"),
            layers.ReLU(name="relu"),
            layers.Flatten(name="flat"),
            layers.LayerNormalization(name="normalized"),
            layers.Dense(3, name="digit"),
            layers.BatchNormalization(name="after"),
            layers.Activation("softmax", name="softmax"),
            layers.BatchNormalization(name="alone"),
        ]
    )


def test_only_what_follows_a_weighted_layer_is_a_normalisation_that_can_be_quantised(convolutional):
    reasons = compression.cannot_be_quantized(convolutional)

    assert set(reasons) == {"normalized", "alone"}
    assert reasons["alone"] == (
        "a BatchNormalization has to follow a Conv2D, DepthwiseConv2D or Dense layer without activation"
    )


def test_a_convolutional_network_is_quantised_layer_by_layer(convolutional):
    import numpy as np

    names = [layer.name for layer in convolutional.layers]
    image = np.random.default_rng(1).normal(size=(5, 6, 6, 1)).astype("float32")
    before = convolutional.predict(image, verbose=0)
    chosen = compression.choose_layers(convolutional, "quantize", (), compression.cannot_be_quantized(convolutional))

    quantized = compression.quantize(convolutional, chosen)

    kinds = {layer.name: type(layer).__name__ for layer in quantized.layers}
    assert kinds["convolution"] == kinds["digit"] == "QuantizeWrapperV2"
    assert kinds["normalized"] == "LayerNormalization"
    assert [name for name in names if name not in kinds] == []
    assert quantized.predict(image, verbose=0).shape == before.shape


def test_of_a_layer_that_was_neither_pruned_nor_clustered_nothing_is_preserved():
    """TFMOT's own scheme stops preserving zeros in every layer once one has none."""
    import numpy as np
    import tf_keras

    layers = tf_keras.layers
    network = tf_keras.Sequential(
        [
            layers.Input((4,), name="numbers"),
            layers.Dense(5, name="dense"),
            layers.Dense(5, name="sparse"),
            layers.Dense(2, name="last"),
        ]
    )
    kernel, bias = network.get_layer("sparse").get_weights()
    kernel[kernel < 0.2] = 0
    network.get_layer("sparse").set_weights([np.round(kernel, 1), bias])
    zeros = int((network.get_layer("sparse").get_weights()[0] == 0).sum())
    before = compression.anew(network)
    names = ["dense", "sparse", "last"]

    trained = compression.quantize(network, names, sparse=["sparse"], few=["sparse"])
    trained.compile("sgd", "mse")
    numbers = np.random.default_rng(1).normal(size=(64, 4)).astype("float32")
    trained.fit(numbers, numbers[:, :2], verbose=0)
    made = compression.quantized(trained, before, names)

    assert compression.reached(made, ["sparse"])["sparse/kernel"]["sparsity"] * 25 == pytest.approx(zeros)
    assert compression.reached(made, ["dense"])["dense/kernel"]["values"] == 20
    assert (made.predict(numbers, verbose=0) == trained.predict(numbers, verbose=0)).all()


def test_a_subclassed_network_is_refused():
    import tf_keras

    class Own(tf_keras.Model):
        pass

    with pytest.raises(ConfigError, match="model: Own is a class of its own, and TFMOT wraps the layers of Sequential"):
        compression.check_network(Own())


def test_a_network_with_nothing_to_prune_is_refused_with_the_reason_for_every_layer():
    import tf_keras

    inner = tf_keras.Sequential([tf_keras.layers.Dense(2, input_shape=(3,))], name="inner")
    network = tf_keras.Sequential([inner, tf_keras.layers.ReLU(name="relu")])

    with pytest.raises(ConfigError) as error:
        compression.choose_layers(network, "prune", (), compression.cannot_be_pruned(network))

    assert str(error.value) == (
        "prune: TFMOT can prune no layer of this model. 'inner': it is a model of its own (Sequential); "
        "'relu': of ReLU it prunes nothing"
    )
