"""The order of the batches: a function of seed and epoch, whole epochs, and the same from wherever it is entered.

All of it for a split that is kept in memory, and for one that is read anew.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from components.io import tfrecord
from components.model import input_data
from components.model.input_data import InputData, keep

ROWS, BATCH = 10, 4


@pytest.fixture(scope="module")
def read_anew(tmp_path_factory: pytest.TempPathFactory) -> InputData:
    """Ten records in two files, each with its number; three batches an epoch."""
    import tensorflow as tf

    directory = tmp_path_factory.mktemp("numbers")
    files: list[Path] = []
    for shard, rows in enumerate((range(6), range(6, ROWS))):
        files.append(directory / f"transformed_examples-0000{shard}-of-00002.gz")
        tfrecord.write(files[-1], [_example(row) for row in rows])
    spec = {"n": tf.io.FixedLenFeature([], tf.int64), "label": tf.io.FixedLenFeature([], tf.int64)}
    return InputData(tuple(map(str, files)), spec, "label", BATCH, ROWS)


@pytest.fixture(scope="module", params=["kept", "read anew"])
def numbers(request: pytest.FixtureRequest, read_anew: InputData) -> InputData:
    """The ten records, from memory and from their files."""
    return kept(read_anew) if request.param == "kept" else read_anew


def kept(data: InputData) -> InputData:
    found = keep([Path(file) for file in data.files], data.spec, data.rows)
    assert found is not None
    return replace(data, kept=found)


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


@pytest.mark.parametrize("first", [0, 4])
def test_kept_or_read_anew_the_batches_are_the_same(read_anew, first):
    assert read(kept(read_anew), 13, first, 5) == read(read_anew, 13, first, 5)


def test_what_is_kept_has_the_types_and_shapes_of_the_spec(tmp_path):
    import tensorflow as tf

    file = tmp_path / "transformed_examples-00000-of-00001.gz"
    pairs = tf.train.Feature(float_list=tf.train.FloatList(value=[1.5, 2.5]))
    record = tf.train.Example(features=tf.train.Features(feature={"pair": pairs})).SerializeToString()
    tfrecord.write(file, [record, record, record])
    spec = {"pair": tf.io.FixedLenFeature([2], tf.float32), "n": tf.io.FixedLenFeature([], tf.int64, -1)}

    found = keep([file], spec, 3)

    assert found is not None
    assert found["pair"].numpy().tolist() == [[1.5, 2.5]] * 3
    assert found["n"].numpy().tolist() == [-1] * 3


def spec_of(kind: str) -> Any:
    import tensorflow as tf

    return {
        "text": tf.io.FixedLenFeature([], tf.string),
        "several values": tf.io.VarLenFeature(tf.int64),
        "too large": tf.io.FixedLenFeature([input_data.KEPT_BYTES // 8], tf.int64),
    }[kind]


@pytest.mark.parametrize("kind", ["text", "several values", "too large"])
def test_what_has_no_fixed_size_or_too_large_a_one_is_not_kept(read_anew, kind):
    assert keep([Path(file) for file in read_anew.files], {**read_anew.spec, "n": spec_of(kind)}, ROWS) is None
