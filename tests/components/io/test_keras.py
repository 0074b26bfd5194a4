"""Keras is tf_keras for everybody, and AutoGraph leaves libraries alone."""

from __future__ import annotations

import subprocess
import sys

import pytest

from components.io.keras import load_keras, random_generators, save_keras, spare_libraries_autograph
from schemas.artifacts import Model
from schemas.errors import ArtifactError


def python(program: str) -> str:
    """What a fresh process prints."""
    return subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, text=True).stdout.strip()


def test_importing_and_arranging_loads_nothing_heavy():
    heavy = "('tensorflow', 'tf_keras', 'keras', 'keras_tuner', 'numpy', 'apache_beam')"
    program = f"import sys; from components.io.keras import arrange; arrange(); print([m for m in {heavy} if m in sys.modules])"

    assert python(program) == "[]"


@pytest.mark.slow
def test_whoever_imports_keras_tuner_after_arranging_gets_tf_keras_and_keras_is_put_back():
    program = """
import sys
from components.io import keras as arranged
arranged.arrange()
arranged.arrange()
import keras_tuner                       # as a user's module does
import keras_tuner.src.backend.keras as inside
import tf_keras
print(inside.Model is tf_keras.Model, arranged.keras_tuner() is keras_tuner, "keras" in sys.modules)
import keras
print(keras.__version__.split(".")[0])
"""
    assert python(program).split() == ["True", "True", "False", "3"]


@pytest.mark.slow
def test_a_keras_tuner_that_works_with_keras_3_already_is_not_used():
    program = """
import keras_tuner
from components.io.keras import keras_tuner
try:
    keras_tuner()
except ImportError as error:
    print(error)
"""
    assert "was imported with Keras 3 before" in python(program)


def user_function() -> None:
    """Stands for what a user writes."""


def test_autograph_leaves_libraries_alone_and_not_the_user_s_code():
    import keras_tuner
    import tensorflow_transform
    import tf_keras
    from tensorflow.python.autograph.core import config
    from tensorflow.python.autograph.impl.conversion import is_allowlisted

    spare_libraries_autograph()
    rules = config.CONVERSION_RULES
    spare_libraries_autograph()

    assert rules == config.CONVERSION_RULES
    assert is_allowlisted(tf_keras.Model.fit)
    assert is_allowlisted(tensorflow_transform.scale_to_z_score)
    assert is_allowlisted(keras_tuner.RandomSearch.search)
    assert not is_allowlisted(user_function)


def test_a_saved_keras_model_goes_on_where_it_stopped(tmp_path):
    import numpy as np
    import tf_keras

    artifact = Model(tmp_path)
    network = tf_keras.Sequential([tf_keras.layers.Dense(2, input_shape=(3,)), tf_keras.layers.Dense(1)])
    network.compile("adam", "mse")
    x, y = np.ones((8, 3), np.float32), np.ones((8, 1), np.float32)
    network.fit(x, y, verbose=0)

    file = save_keras(network, artifact)
    loaded = load_keras(artifact)
    for model in (network, loaded):
        model.fit(x, y, verbose=0, shuffle=False)

    assert file.parent == artifact.keras
    assert [w.tolist() for w in loaded.get_weights()] == [w.tolist() for w in network.get_weights()]


def test_metrics_of_several_outputs_have_the_same_names_when_the_model_is_loaded(tmp_path):
    import numpy as np
    import tf_keras

    x = tf_keras.Input((3,), name="x")
    network = tf_keras.Model(x, {name: tf_keras.layers.Dense(1, name=name)(x) for name in ("one", "two")})
    network.compile(
        loss={"one": "mse", "two": "mse"},
        metrics={"one": ["mae"], "two": [tf_keras.metrics.MeanAbsoluteError(name="off")]},
        weighted_metrics={"two": [tf_keras.metrics.MeanAbsoluteError(name="off")]},
    )
    data = (np.ones((8, 3), np.float32), {name: np.ones((8, 1), np.float32) for name in ("one", "two")})
    before = network.evaluate(*data, verbose=0, return_dict=True)

    save_keras(network, Model(tmp_path))

    assert {"one_mae", "two_off", "two_weighted_off"} <= before.keys()
    assert load_keras(Model(tmp_path)).evaluate(*data, verbose=0, return_dict=True) == before
    assert network.evaluate(*data, verbose=0, return_dict=True) == before


def test_a_model_that_only_has_to_answer_is_loaded_without_its_loss(tmp_path):
    import tf_keras

    network = tf_keras.Sequential([tf_keras.layers.Dense(1, input_shape=(3,))])
    network.compile("adam", lambda label, predicted: predicted - label)
    save_keras(network, Model(tmp_path))

    assert load_keras(Model(tmp_path), compiled=False).count_params() == 4


def test_a_model_without_its_trainable_form_says_why(tmp_path):
    with pytest.raises(ArtifactError, match="a model made by run_fn has only its SavedModel"):
        load_keras(Model(tmp_path))


def test_the_generators_of_layers_inside_layers_are_found():
    import tf_keras

    tf_keras.backend.experimental.enable_tf_random_generator()
    inner = tf_keras.Sequential([tf_keras.layers.Dropout(0.5, input_shape=(2,)), tf_keras.layers.Dense(2)])
    model = tf_keras.Sequential([inner, tf_keras.layers.GaussianNoise(1.0)])

    assert len(random_generators(model)) == 2
