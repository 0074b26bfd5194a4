"""Transformed examples -> batches of tensors, in an order that depends on seed and epoch only."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from schemas.artifacts import TransformGraph
from schemas.errors import ConfigError, DataError, did_you_mean

if TYPE_CHECKING:
    import tensorflow as tf

SHUFFLE_ROWS = 100_000  # how far a record can move; a smaller split is shuffled whole
KEPT_BYTES = 256 * 2**20  # a split whose tensors take no more is parsed once and stays in memory
RECORDS_AT_ONCE = 8192  # parsed together, where a whole split is read
PREFETCHED = 4  # batches made ready while another is trained on


@dataclass(frozen=True)
class InputData:
    """One split of transformed examples, as a model is fed with it.

    `spec` has the transformed features to parse by name, the label among them when there is one. `kept` are the tensors of
    all rows, [rows, ...] by name, or None for a split that is read anew, batch by batch: both give the same batches.
    """

    files: tuple[str, ...]
    spec: dict[str, Any]
    label: str | None
    batch_size: int
    rows: int
    kept: dict[str, tf.Tensor] | None = None

    @property
    def steps(self) -> int:
        """Batches in one epoch; the last one may be smaller."""
        return math.ceil(self.rows / self.batch_size)

    def shuffled(self, seed: int, first: int, steps: int) -> tf.data.Dataset:
        """Batches `first` ... `first + steps - 1` of an endless row of epochs, each shuffled in its own way.

        The order is a function of the seed (and of TensorFlow's global one) and of the epoch's number: who enters at batch n gets what follows batch n - 1.
        """
        import tensorflow as tf

        start, skipped = divmod(first, self.steps)

        def epoch(number: tf.Tensor) -> tf.data.Dataset:
            # Small enough not to overflow, and never 0, which TensorFlow takes for no seed.
            mixed = ((seed % 65_521) * 65_537 + number * 7919) % (2**31 - 2) + 1
            rows = self._rows().shuffle(min(self.rows, SHUFFLE_ROWS), seed=mixed, reshuffle_each_iteration=False)
            # An epoch's last batch may be small: no batch has records of two epochs, and none is left out.
            return rows.batch(self.batch_size).skip(tf.where(number == start, tf.constant(skipped, tf.int64), 0))

        return self._tensors(tf.data.Dataset.range(start, start + skipped + steps + 1).flat_map(epoch).take(steps))

    def in_order(self, steps: int | None = None) -> tf.data.Dataset:
        """The batches in the order of the files, `steps` of them or all."""
        batches = self._rows().batch(self.batch_size)
        return self._tensors(batches.take(steps) if steps is not None else batches)

    def _rows(self) -> tf.data.Dataset:
        """What stands for a row until it is in its batch: its number among those kept, or its record."""
        import tensorflow as tf

        if self.kept is not None:
            return tf.data.Dataset.range(self.rows)
        return tf.data.TFRecordDataset(list(self.files), compression_type="GZIP")

    def _tensors(self, batches: tf.data.Dataset) -> tf.data.Dataset:
        import tensorflow as tf

        kept = self.kept

        def of(rows: tf.Tensor) -> Any:
            features = (
                tf.io.parse_example(rows, self.spec)
                if kept is None
                else {name: tf.gather(tensor, rows) for name, tensor in kept.items()}
            )
            return features if self.label is None else (features, features.pop(self.label))

        if kept is None:
            return batches.map(of, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True).prefetch(tf.data.AUTOTUNE)
        # There is nothing to tune, and the tuning thread would hold up the end of every pass by up to two seconds.
        untuned = tf.data.Options()
        untuned.autotune.enabled = False
        return batches.map(of).prefetch(PREFETCHED).with_options(untuned)


@dataclass(frozen=True)
class LabelCounts:
    """What one pass over a split found: `rows`, and how often each of the first few label values occurs."""

    rows: int
    values: dict[Any, int]


def transformed_spec(graph: TransformGraph) -> dict[str, Any]:
    """How to parse each transformed feature, by name."""
    import tensorflow_transform as tft

    spec: dict[str, Any] = tft.TFTransformOutput(str(graph.path)).transformed_feature_spec()
    return spec


def choose_label(label: str | None, transformed: tuple[str, ...], features: tuple[str, ...] | None) -> str:
    """The transformed feature that is the label: the one named, else the only one that is no input of the model.

    `features` are the model's inputs, None when it names none. Raises ConfigError listing the candidates when the choice
    is not clear, DataError when the label named is not among the transformed features.
    """
    if label is not None:
        if label not in transformed:
            raise DataError(
                f"label: there is no transformed feature '{label}'.{did_you_mean(label, transformed)} "
                f"preprocessing_fn gives: {', '.join(transformed)}"
            )
        if features is not None and label in features:
            raise ConfigError(f"label: '{label}' is an input of the model too, so the model would be told the answer")
        return label
    if features is None:
        raise ConfigError(
            f"label: not set, and the model does not name its inputs. Set it to one of: {', '.join(transformed)}"
        )
    candidates = [name for name in transformed if name not in features]
    if len(candidates) != 1:
        raise ConfigError(
            "label: not set, and "
            + (
                f"the model does not take several transformed features: {', '.join(candidates)}. Set it to one of them"
                if candidates
                else "the model takes every transformed feature as an input, the answer among them. Leave one out"
            )
        )
    return candidates[0]


def keep(files: list[Path], spec: Mapping[str, Any], rows: int) -> dict[str, tf.Tensor] | None:
    """The tensors of all `rows` of a split, [rows, ...] by name.

    None when they would take more than KEPT_BYTES, and for features whose rows have no fixed size: text, and what may have
    several values.
    """
    import tensorflow as tf

    fixed = all(isinstance(one, tf.io.FixedLenFeature) and one.dtype != tf.string for one in spec.values())
    if not fixed or rows * sum(math.prod(one.shape) * one.dtype.size for one in spec.values()) > KEPT_BYTES:
        return None
    records = tf.data.TFRecordDataset([str(f) for f in files], compression_type="GZIP").batch(RECORDS_AT_ONCE)
    parts = [tf.io.parse_example(serialized, spec) for serialized in records]
    return {name: tf.concat([part[name] for part in parts], axis=0) for name in spec}


def count_labels(files: list[Path], label: str, spec: Any) -> LabelCounts:
    """One pass over a split for its size and its label. Values beyond the second are only counted as rows."""
    import numpy as np
    import tensorflow as tf

    values: dict[Any, int] = {}
    rows = 0
    for serialized in tf.data.TFRecordDataset([str(f) for f in files], compression_type="GZIP").batch(RECORDS_AT_ONCE):
        found = tf.io.parse_example(serialized, {label: spec})[label]
        found = found.values if isinstance(found, tf.SparseTensor) else found
        rows += int(serialized.shape[0])
        if len(values) < 2:
            for value, count in zip(*np.unique(found.numpy().ravel(), return_counts=True), strict=True):
                key = value.decode(errors="replace") if isinstance(value, bytes) else value.item()
                values[key] = values.get(key, 0) + int(count)
    return LabelCounts(rows, values)


def check_labels(found: LabelCounts, label: str, split: str) -> None:
    """Raise DataError when there is nothing to learn: no rows, no labels, or one value in every row."""
    if found.rows == 0:
        raise DataError(f"split '{split}' has no records to train on. Give it a weight in ExampleGen's splits")
    if not found.values:
        raise DataError(f"label '{label}' has no value in any of the {found.rows:,} records of split '{split}'")
    if len(found.values) == 1:
        value, count = next(iter(found.values.items()))
        raise DataError(
            f"label '{label}' has a single class in split '{split}': all {count:,} records have the value {value!r}, so "
            f"there is nothing to learn. Look at how preprocessing_fn makes '{label}', or at the data"
        )
