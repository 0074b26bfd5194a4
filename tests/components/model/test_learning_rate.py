"""Learning rates: Keras' own schedules by name, with or without a warm-up, also once the model was saved and loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from components.io.keras import load_keras, save_keras, spare_libraries_autograph
from components.model.learning_rate import make_learning_rate, problems_of_learning_rate, use_learning_rate
from schemas.artifacts import Model

STEPS = (0, 1, 9, 50, 99, 150)


def rates(schedule: Any) -> list[float]:
    return [float(schedule(step)) for step in STEPS]


@pytest.mark.parametrize(
    ("setting", "keras", "arguments"),
    [
        ({"schedule": "cosine", "initial_learning_rate": 0.1}, "CosineDecay", (0.1, 100)),
        (
            {"schedule": "cosine", "initial_learning_rate": 0.1, "decay_steps": 20, "alpha": 0.1},
            "CosineDecay",
            (0.1, 20, 0.1),
        ),
        (
            {"schedule": "exponential", "initial_learning_rate": 0.1, "decay_steps": 10, "decay_rate": 0.5},
            "ExponentialDecay",
            (0.1, 10, 0.5),
        ),
        (
            {"schedule": "piecewise", "boundaries": [9, 50], "values": [0.1, 0.01, 0.001]},
            "PiecewiseConstantDecay",
            ([9, 50], [0.1, 0.01, 0.001]),
        ),
        (
            {"schedule": "polynomial", "initial_learning_rate": 0.1, "end_learning_rate": 0.01, "power": 2.0},
            "PolynomialDecay",
            (0.1, 100, 0.01, 2.0),
        ),
    ],
    ids=["cosine", "cosine of 20 steps", "exponential", "piecewise", "polynomial"],
)
def test_a_schedule_by_name_is_keras_schedule(setting, keras, arguments):
    import tf_keras

    expected = getattr(tf_keras.optimizers.schedules, keras)(*arguments)

    assert rates(make_learning_rate(setting, total=100)) == rates(expected)


def test_a_warm_up_grows_evenly_to_where_the_schedule_begins():
    import tf_keras

    setting = {"schedule": "cosine", "initial_learning_rate": 0.1, "warmup_steps": 10}
    schedule = make_learning_rate(setting, total=110)
    after = tf_keras.optimizers.schedules.CosineDecay(0.1, 100)

    assert [float(schedule(step)) for step in range(10)] == pytest.approx([0.01 * (step + 1) for step in range(10)])
    assert [float(schedule(10 + step)) for step in STEPS] == rates(after)


def test_a_constant_rate_may_be_warmed_up_to():
    setting = {"schedule": "constant", "initial_learning_rate": 0.2, "warmup_steps": 4}

    assert [float(make_learning_rate(setting, 10)(step)) for step in (0, 3, 4, 9)] == pytest.approx(
        [0.05, 0.2, 0.2, 0.2]
    )


def compiled(optimizer: Any) -> Any:
    import tf_keras

    model = tf_keras.Sequential([tf_keras.layers.Dense(1, input_shape=(1,))])
    model.compile(optimizer, "mse")
    return model


def test_the_optimizer_keeps_everything_but_its_rate():
    import tf_keras

    model = compiled(tf_keras.optimizers.Adam(0.5, beta_1=0.7, clipnorm=2.0))

    use_learning_rate(model, 0.125, total=10)

    assert float(model.optimizer.learning_rate) == 0.125
    assert (model.optimizer.beta_1, model.optimizer.clipnorm) == (0.7, 2.0)


def test_training_takes_the_schedule_s_steps():
    import numpy as np
    import tf_keras

    spare_libraries_autograph()
    model = compiled(tf_keras.optimizers.SGD(1.0))
    setting = {"schedule": "piecewise", "boundaries": [1], "values": [0.25, 0.0]}
    use_learning_rate(model, setting, total=3)
    model.set_weights([np.zeros((1, 1)), np.zeros(1)])

    model.fit(np.ones((3, 1)), np.full((3, 1), 2.0), batch_size=1, shuffle=False, verbose=0)

    # The gradient of (w + b - 2)^2 at 0 is -4 for both; two steps have this rate, and the second finds nothing to do.
    assert [float(weight) for weight in model.get_weights()[0].ravel()] == [1.0]


def scheduled(model: Any) -> Any:
    """The schedule itself: the attribute learning_rate is the rate of the moment."""
    import tf_keras

    return tf_keras.optimizers.schedules.deserialize(model.optimizer.get_config()["learning_rate"])


def test_a_saved_model_has_its_schedule(tmp_path: Path):
    import tf_keras

    model = compiled(tf_keras.optimizers.SGD(1.0))
    use_learning_rate(model, {"schedule": "cosine", "initial_learning_rate": 0.1, "warmup_steps": 10}, total=110)
    expected = rates(scheduled(model))

    saved = Model(tmp_path / "model")
    save_keras(model, saved)

    assert rates(scheduled(load_keras(saved))) == expected


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (0.0, "learning_rate: 0.0 is not a number above 0"),
        ({"schedule": "cosin"}, "learning_rate.schedule: there is no 'cosin'. Did you mean 'cosine'?"),
        ({"initial_learning_rate": 0.1}, "learning_rate.schedule: is not set"),
        ({"schedule": "constant"}, "learning_rate.initial_learning_rate: missing, 'constant' needs it"),
        (
            {"schedule": "cosine", "initial_learning_rate": 0.1, "alfa": 0.1},
            "learning_rate.alfa: 'cosine' takes no such argument. Did you mean 'alpha'?",
        ),
        (
            {"schedule": "cosine", "initial_learning_rate": "0.1"},
            "learning_rate.initial_learning_rate: '0.1' is not a number",
        ),
        (
            {"schedule": "constant", "initial_learning_rate": 1, "warmup_steps": -1},
            "learning_rate.warmup_steps: -1 is not",
        ),
        ({"schedule": "piecewise", "boundaries": [5], "values": [0.1]}, "learning_rate.values: has 1 for 1 boundaries"),
        (
            {"schedule": "piecewise", "boundaries": [5, 5], "values": [3, 2, 1]},
            "learning_rate.boundaries: [5, 5] do not grow",
        ),
        (
            {"schedule": "piecewise", "boundaries": 5, "values": [1, 2]},
            "learning_rate.boundaries: 5 is not a list of steps",
        ),
        (
            {"schedule": "piecewise", "boundaries": [5], "values": 1},
            "learning_rate.values: 1 is not a list of learning rates",
        ),
    ],
)
def test_a_wrong_setting_is_named(setting, message):
    (problem,) = problems_of_learning_rate(setting)

    assert problem.startswith(message)
