"""Transformed examples -> batches of tensors, in an order that depends on seed and epoch only."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from schemas.artifacts import TransformGraph
from schemas.errors import ConfigError, DataError, did_you_mean

if TYPE_CHECKING:
    import tensorflow as tf

SHUFFLE_ROWS = 100_000  # how far a record can move; a smaller split is shuffled whole


@dataclass(frozen=True)
class InputData:
    """One split of transformed examples, as a model is fed with it.

    `spec` has the transformed features to parse by name, the label among them when there is one.
    """

    files: tuple[str, ...]
    spec: dict[str, Any]
    label: str | None
    batch_size: int
    rows: int

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
            records = self._records().shuffle(min(self.rows, SHUFFLE_ROWS), seed=mixed, reshuffle_each_iteration=False)
            # An epoch's last batch may be small: no batch has records of two epochs, and none is left out.
            return records.batch(self.batch_size).skip(tf.where(number == start, tf.constant(skipped, tf.int64), 0))

        batches = tf.data.Dataset.range(start, start + skipped + steps + 1).flat_map(epoch).take(steps)
        return self._parsed(batches).prefetch(tf.data.AUTOTUNE)

    def in_order(self, steps: int | None = None) -> tf.data.Dataset:
        """The batches in the order of the files, `steps` of them or all."""
        import tensorflow as tf

        batches = self._records().batch(self.batch_size)
        return self._parsed(batches.take(steps) if steps is not None else batches).prefetch(tf.data.AUTOTUNE)

    def _records(self) -> tf.data.Dataset:
        import tensorflow as tf

        return tf.data.TFRecordDataset(list(self.files), compression_type="GZIP")

    def _parsed(self, batches: tf.data.Dataset) -> tf.data.Dataset:
        import tensorflow as tf

        def parse(serialized: tf.Tensor) -> Any:
            features = tf.io.parse_example(serialized, self.spec)
            return features if self.label is None else (features, features.pop(self.label))

        return batches.map(parse, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)


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


def count_labels(files: list[Path], label: str, spec: Any) -> LabelCounts:
    """One pass over a split for its size and its label. Values beyond the second are only counted as rows."""
    import numpy as np
    import tensorflow as tf

    values: dict[Any, int] = {}
    rows = 0
    for serialized in tf.data.TFRecordDataset([str(f) for f in files], compression_type="GZIP").batch(8192):
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
