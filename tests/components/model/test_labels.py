"""Labels: settled by name or by what is left over, and compared with what the model gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from components.io import tfrecord
from components.model.labels import LabelCounts, check_labels, check_weights, choose_label, count_labels
from components.model.training_data import open_splits
from schemas.errors import ConfigError, DataError


def test_the_weight_is_not_taken_for_the_label():
    assert choose_label(None, ("a", "label", "weight"), ("a",), "weight") == "label"


@pytest.mark.parametrize(
    ("label", "weight", "error", "message"),
    [
        (
            {"one": "label", "two": "lable"},
            None,
            DataError,
            r"label: .* no transformed feature 'lable'. Did you mean 'label'",
        ),
        ({"one": "label", "two": "a"}, None, ConfigError, "label: 'a' is an input of the model too"),
        ("label", "wait", DataError, r"sample_weight: .* no transformed feature 'wait'. Did you mean 'weight'"),
        ("label", "a", ConfigError, "sample_weight: 'a' is an input of the model too. Leave it out of one"),
    ],
)
def test_a_name_that_cannot_be_meant_is_said_with_its_setting(label, weight, error, message):
    with pytest.raises(error, match=message):
        choose_label(label, ("a", "label", "weight"), ("a",), weight)


def records(path: Path, name: str, rows: list[list[float]]) -> list[Path]:
    import tensorflow as tf

    def example(row: list[float]) -> bytes:
        value = tf.train.Feature(float_list=tf.train.FloatList(value=row))
        return tf.train.Example(features=tf.train.Features(feature={name: value})).SerializeToString()

    tfrecord.write(path / "data-00000-of-00001.gz", [example(row) for row in rows])
    return [path / "data-00000-of-00001.gz"]


def counted(path: Path, rows: list[list[float]]) -> LabelCounts:
    import tensorflow as tf

    spec = {"label": tf.io.FixedLenFeature([len(rows[0])], tf.float32)}
    return count_labels(records(path, "label", rows), spec)["label"]


def test_labels_are_counted_by_value_with_their_ends(tmp_path):
    assert counted(tmp_path, [[2.5], [1.0], [2.5]]) == LabelCounts(3, {1.0: 1, 2.5: 2}, 1.0, 2.5)


def test_labels_of_several_numbers_are_counted_by_record(tmp_path):
    assert counted(tmp_path, [[0, 1], [0, 1], [1, 1]]) == LabelCounts(3, {(0.0, 1.0): 2, (1.0, 1.0): 1}, 0.0, 1.0)


def test_several_numbers_that_never_change_are_nothing_to_learn(tmp_path):
    with pytest.raises(DataError, match=r"'label' has a single value in split 'train': all 2 records .* \[0.0, 1.0\]"):
        check_labels(counted(tmp_path, [[0, 1], [0, 1]]), "label", "train")


def test_a_number_that_never_changes_is_not_called_a_class(tmp_path):
    with pytest.raises(
        DataError, match=r"'label' has a single value in split 'train': all 3 records have the value 2.5"
    ):
        check_labels(counted(tmp_path, [[2.5]] * 3), "label", "train")


@pytest.mark.parametrize(
    ("rows", "message"),
    [([[1.0], [-0.5]], "'w' is -0.5 in a record of split 'train'"), ([[0.0], [0.0]], "'w' is 0 in every record")],
)
def test_weights_below_zero_or_all_zero_are_refused(tmp_path, rows, message):
    with pytest.raises(DataError, match=message):
        check_weights(counted(tmp_path, rows), "w", "train")


def network(units: dict[str, int], loss: Any, activation: str | None = None) -> Any:
    """A model of the number `x` with these outputs; one without a name is its only one."""
    import tf_keras

    inputs = {"x": tf_keras.layers.Input((1,), name="x")}
    outputs = [
        tf_keras.layers.Dense(size, activation=activation, name=name or None)(inputs["x"])
        for name, size in units.items()
    ]
    model = tf_keras.Model(inputs, outputs if len(outputs) > 1 else outputs[0])
    model.compile("sgd", loss)
    return model


CROSSENTROPY = "sparse_categorical_crossentropy"
TWO = {"hour": 24, "parts": 3}
LOSSES = {"hour": CROSSENTROPY, "parts": "binary_crossentropy"}


@pytest.mark.parametrize(
    ("units", "loss", "label", "message"),
    [
        (
            {"": 2},
            "mse",
            "late",
            r"the model's output is \[batch, 2\] and its label 'late' \[batch\]: mean_squared_error",
        ),
        (
            {"": 3},
            CROSSENTROPY,
            "parts",
            r"\[batch, 3\] and its label 'parts' \[batch, 3\]: .* takes the number of one",
        ),
        ({"": 9}, CROSSENTROPY, "hour", r"\[batch, 9\], 9 classes .* 'hour' goes from 0 to 23. Give .* 24 units"),
        ({"": 24}, "categorical_crossentropy", "hour", r"\[batch, 24\] .* \[batch\]: .* Use sparse_categorical_cross"),
        (
            {"hour": 24, "parts": 2},
            LOSSES,
            {"hour": "hour", "parts": "parts"},
            r"output 'parts' .* 2\] .* 3\]: binary_cr",
        ),
        (TWO, LOSSES, "hour", r"label: the model has 2 outputs. Give each its own: \{hour: ..., parts: ...\}"),
        (TWO, LOSSES, {"hour": "hour", "part": "parts"}, r"label.part: .* no output 'part'. Did you mean 'parts'\?"),
        (TWO, LOSSES, {"hour": "hour"}, "label: the model's output 'parts' has none"),
        ({"": 1}, "mse", {"late": "late"}, "label: the model has a single output, without a name. .* alone: late"),
    ],
)
def test_outputs_that_do_not_fit_the_label_are_told_with_both_shapes(hours, units, loss, label, message):
    graph, examples = hours

    with pytest.raises(ConfigError, match=message):
        open_splits(network(units, loss), examples, graph, label, 8, "train", "eval")


@pytest.mark.parametrize(
    ("units", "loss", "label"),
    [
        ({"": 1}, "mse", "fare_again"),
        ({"": 3}, "binary_crossentropy", "parts"),
        ({"": 24}, CROSSENTROPY, "hour"),
        (TWO, LOSSES, {"hour": "hour", "parts": "parts"}),
        (TWO, {"parts": "binary_crossentropy"}, {"parts": "parts"}),
        ({"": 7}, lambda true, predicted: predicted[:, 0], "late"),
    ],
)
def test_outputs_that_fit_are_let_through(hours, units, loss, label):
    graph, examples = hours

    assert open_splits(network(units, loss), examples, graph, label, 8, "train", "eval").label == label


@pytest.mark.parametrize("weight", ["below_zero", "nothing"])
def test_a_weight_that_is_none_is_refused_before_training(hours, weight):
    graph, examples = hours

    with pytest.raises(DataError, match=f"sample_weight: '{weight}' is"):
        open_splits(network({"": 1}, "mse"), examples, graph, "late", 8, "train", "eval", weight)


def test_a_weight_of_several_numbers_is_refused(hours):
    graph, examples = hours

    with pytest.raises(ConfigError, match="sample_weight: 'parts' is not one number a record"):
        open_splits(network({"": 1}, "mse"), examples, graph, "late", 8, "train", "eval", "parts")
