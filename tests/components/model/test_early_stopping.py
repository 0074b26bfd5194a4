"""Early stopping: the same decisions as Keras' own, and what it says of mistakes."""

from __future__ import annotations

import math
from typing import Any

import pytest

from components.model.early_stopping import EarlyStopping, Stopping, problems_of_early_stopping
from schemas.errors import ConfigError

FALLING_THEN_FLAT = [0.9, 0.7, 0.71, 0.699, 0.72, 0.71, 0.73, 0.74]
CURVES = {
    "gets better to the end": [0.5, 0.4, 0.3, 0.2],
    "falls, then is flat": FALLING_THEN_FLAT,
    "rises": [0.1, 0.2, 0.3, 0.2, 0.25, 0.3, 0.4],
    "is NaN at first": [math.nan, 0.5, 0.6, 0.4, 0.5, 0.6, 0.7],
}


def of_keras(curve: list[float], rule: EarlyStopping) -> tuple[int, int]:
    """(validations until Keras' EarlyStopping stops, the best of them), both counted from 1."""
    import tf_keras

    model = tf_keras.Sequential([tf_keras.layers.Dense(1, input_shape=(1,))])
    callback = tf_keras.callbacks.EarlyStopping(
        rule.monitor, rule.min_delta, rule.patience, mode=rule.direction or "auto", restore_best_weights=False
    )
    callback.set_model(model)
    callback.on_train_begin()
    for epoch, value in enumerate(curve):
        callback.on_epoch_end(epoch, {rule.monitor: value})
        if model.stop_training:
            break
    return epoch + 1, callback.best_epoch + 1


@pytest.mark.parametrize("curve", CURVES.values(), ids=CURVES.keys())
@pytest.mark.parametrize(
    "settings",
    [
        {"patience": 2},
        {"patience": 2, "min_delta": 0.05},
        {"patience": 1, "monitor": "val_auc"},
        {"patience": 3, "monitor": "val_gain", "direction": "max"},
    ],
    ids=["loss", "min_delta", "auc", "max"],
)
def test_it_stops_where_keras_stops(curve, settings):
    rule, stopping = EarlyStopping(**settings), Stopping()
    for step, value in enumerate(curve, start=1):
        stopping.see(value, step, rule)
        if stopping.stopped:
            break

    assert (step, stopping.best_step) == of_keras(curve, rule)


def test_a_metric_that_the_model_does_not_have_is_told_with_those_it_has():
    rule = EarlyStopping(monitor="val_acu")

    with pytest.raises(ConfigError, match=r"no metric 'val_acu'. Did you mean 'val_auc'\? It has: loss, val_auc"):
        rule.value({"loss": 1.0, "val_auc": 0.5})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"patiance": 3}, "early_stopping.patiance: no such setting. Did you mean 'patience'?"),
        ({"patience": 0}, "early_stopping.patience: 0 is not a number of epochs"),
        ({"min_delta": -1}, "early_stopping.min_delta: -1 is not a number of at least 0"),
        ({"restore_best": "no"}, "early_stopping.restore_best: 'no' is neither true nor false"),
        ({"direction": "up"}, "early_stopping.direction: 'up' is neither min nor max"),
        ({"monitor": ""}, "early_stopping.monitor: '' is no metric's name"),
    ],
)
def test_a_wrong_setting_is_named(settings: dict[str, Any], message: str):
    (problem,) = problems_of_early_stopping(settings)

    assert problem.startswith(message)
