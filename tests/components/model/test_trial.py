"""A trial is scored after every epoch, its best one counts, and early stopping ends it before its time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from components.model.trial import Trained, Training, train
from schemas.artifacts import TransformedExamples, TransformGraph

# Its metric is the number of epochs that it was trained for.
AGING = """
import tensorflow as tf
import tf_keras

class Aging(tf_keras.Model):
    def fit(self, *arguments, **settings):
        self.age.assign_add(1.0)
        return super().fit(*arguments, **settings)

def build_model(hp):
    hp.Int("anything", 1, 10)
    if hp.Boolean("other"):
        hp.Fixed("more", 1)
    given = tf_keras.layers.Input((1,), name="fare_xf")
    model = Aging({"fare_xf": given}, tf_keras.layers.Dense(1)(given))
    model.age = tf.Variable(0.0, trainable=False)

    def age(label, answer):
        return model.age + 0.0 * answer

    model.compile("sgd", "mse", metrics=[age])
    return model
"""


@pytest.fixture
def trained(
    tmp_path: Path,
    user_module: Callable[[str, str], str],
    xf_transformed: TransformedExamples,
    xf_graph: TransformGraph,
) -> Callable[..., Trained]:
    """(settings of Training) -> how a trial of six epochs ended."""
    usual: dict[str, Any] = {
        "build_model": user_module(AGING, "build_model"),
        "examples": xf_transformed,
        "graph": xf_graph,
        "label": "big_tip",
        "sample_weight": None,
        "batch_size": 256,
        "train_split": "train",
        "eval_split": "eval",
        "steps": None,
        "epochs": 6,
        "eval_steps": None,
        "executions": 1,
        "objective": "val_age",
        "direction": "max",
        "early_stopping": None,
        "seed": 13,
        "scratch": tmp_path,
    }

    def call(**settings: Any) -> Trained:
        space = {"space": [], "values": {"anything": 3, "other": True}}
        return train(Training(**{**usual, **settings}), "0", space)

    return call


def test_the_best_epoch_counts(trained):
    (last,), (first,) = trained().executions, trained(direction="min").executions

    assert last["val_age"] == 6
    assert first["val_age"] == 1


def test_steps_may_end_in_the_middle_of_an_epoch(trained):
    found = trained(epochs=None, steps=3, batch_size=128)  # two make an epoch

    assert found.executions[0]["val_age"] == 2
    assert found.epoch == 1


@pytest.mark.parametrize(
    ("early_stopping", "epochs"),
    [({"patience": 1, "min_delta": 1.5}, 2), ({"patience": 2, "min_delta": 1.5}, 6), ({"patience": 1}, 6)],
    ids=["impatient", "patient", "any improvement"],
)
def test_it_ends_after_so_many_epochs_that_are_not_better_by_so_much(trained, early_stopping, epochs):
    assert trained(early_stopping=early_stopping).executions[0]["val_age"] == epochs


def test_hyperparameters_that_one_model_alone_asks_for_are_found_with_it(trained):
    assert [parameter["config"]["name"] for parameter in trained(epochs=1).config["space"]] == [
        "anything", "other", "more"
    ]  # fmt: skip
