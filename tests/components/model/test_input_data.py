"""The order of the batches: a function of seed and epoch, whole epochs, and the same from wherever it is entered."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.io import tfrecord
from components.model.input_data import InputData

ROWS, BATCH = 10, 4


@pytest.fixture(scope="module")
def numbers(tmp_path_factory: pytest.TempPathFactory) -> InputData:
    """Ten records in two files, each with its number; three batches an epoch."""
    import tensorflow as tf

    directory = tmp_path_factory.mktemp("numbers")
    files: list[Path] = []
    for shard, rows in enumerate((range(6), range(6, ROWS))):
        files.append(directory / f"transformed_examples-0000{shard}-of-00002.gz")
        tfrecord.write(files[-1], [_example(row) for row in rows])
    spec = {"n": tf.io.FixedLenFeature([], tf.int64), "label": tf.io.FixedLenFeature([], tf.int64)}
    return InputData(tuple(map(str, files)), spec, "label", BATCH, ROWS)


def _example(row: int) -> bytes:
    import tensorflow as tf

    value = tf.train.Feature(int64_list=tf.train.Int64List(value=[row]))
    return tf.train.Example(features=tf.train.Features(feature={"n": value, "label": value})).SerializeToString()


def read(data: InputData, seed: int, first: int, steps: int) -> list[list[int]]:
    return [features["n"].numpy().tolist() for features, _ in data.shuffled(seed, first, steps)]


@pytest.mark.parametrize("seed", [0, 13, 2**31 - 1])
@pytest.mark.parametrize("first", range(8))
def test_whoever_enters_at_a_batch_gets_what_follows_the_one_before(numbers, seed, first):
    assert read(numbers, seed, first, 9 - first) == read(numbers, seed, 0, 9)[first:]


def test_every_epoch_has_every_record_once_in_an_order_of_its_own(numbers):
    batches = read(numbers, 13, 0, 9)
    epochs = [[n for batch in batches[start : start + 3] for n in batch] for start in (0, 3, 6)]

    assert [sorted(epoch) for epoch in epochs] == [list(range(ROWS))] * 3
    assert len({tuple(epoch) for epoch in epochs}) == 3
    assert [len(batch) for batch in batches] == [4, 4, 2] * 3


def test_another_seed_is_another_order(numbers):
    assert read(numbers, 13, 0, 3) != read(numbers, 14, 0, 3)


def test_features_and_label_stay_together(numbers):
    assert all(
        features["n"].numpy().tolist() == label.numpy().tolist() for features, label in numbers.shuffled(1, 0, 3)
    )


def test_in_order_is_the_order_of_the_files(numbers):
    assert [f["n"].numpy().tolist() for f, _ in numbers.in_order()] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert [f["n"].numpy().tolist() for f, _ in numbers.in_order(1)] == [[0, 1, 2, 3]]
