"""Transformed or raw examples -> batches of tensors, in an order that depends on seed and epoch only."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.model.raw_records import Read
from schemas.artifacts import TransformGraph

if TYPE_CHECKING:
    import tensorflow as tf

SHUFFLE_ROWS = 100_000  # how far a record can move; a smaller split is shuffled whole
KEPT_BYTES = 256 * 2**20  # a split whose tensors take no more is parsed once and stays in memory
RECORDS_AT_ONCE = 8192  # parsed together, where a whole split is read
PREFETCHED = 4  # batches made ready while another is trained on


@dataclass(frozen=True)
class InputData:
    """One split of examples, as a model is fed with it.

    A batch is (features, label), or (features, label, weights) where the feature `weight` weighs the records; it is the
    features alone where there is no label. For a `label` of several outputs, {output: feature}, it has {output: tensor}.
    Weights are float32 of shape [batch].

    `spec` has the transformed features by name, label and weight among them, as they are parsed; where the files have raw
    records, `read` makes them of these, to the same bits. `kept` are the tensors of all rows,
    [rows, ...] by name, or None for a split that is read anew, batch by batch: both give the same batches.
    """

    files: tuple[str, ...]
    spec: dict[str, Any]
    label: str | dict[str, str] | None
    batch_size: int
    rows: int
    kept: dict[str, tf.Tensor] | None = None
    read: Read | None = None
    weight: str | None = None
    class_weights: tuple[float, ...] | None = (
        None  # of each class from 0 on; for shuffled batches, which are trained on
    )
    # A data set is made once for each number of steps and read as often as one likes: to make one costs more than a small pass.
    _in_order: dict[int | None, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

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

        @tf.autograph.experimental.do_not_convert  # it would change nothing, and costs time at every epoch
        def epoch(number: tf.Tensor) -> tf.data.Dataset:
            # Small enough not to overflow, and never 0, which TensorFlow takes for no seed.
            mixed = ((seed % 65_521) * 65_537 + number * 7919) % (2**31 - 2) + 1
            rows = self._rows().shuffle(min(self.rows, SHUFFLE_ROWS), seed=mixed, reshuffle_each_iteration=False)
            # An epoch's last batch may be small: no batch has records of two epochs, and none is left out.
            return rows.batch(self.batch_size).skip(tf.where(number == start, tf.constant(skipped, tf.int64), 0))

        batches = tf.data.Dataset.range(start, start + skipped + steps + 1).flat_map(epoch).take(steps)
        return self._tensors(batches, self.class_weights)

    def in_order(self, steps: int | None = None) -> tf.data.Dataset:
        """The batches in the order of the files, `steps` of them or all."""
        if steps not in self._in_order:
            batches = self._rows().batch(self.batch_size)
            self._in_order[steps] = self._tensors(batches.take(steps) if steps is not None else batches)
        return self._in_order[steps]

    def _rows(self) -> tf.data.Dataset:
        """What stands for a row until it is in its batch: its number among those kept, or its record."""
        import tensorflow as tf

        if self.kept is not None:
            return tf.data.Dataset.range(self.rows)
        return tf.data.TFRecordDataset(list(self.files), compression_type="GZIP")

    def _tensors(self, batches: tf.data.Dataset, class_weights: tuple[float, ...] | None = None) -> tf.data.Dataset:
        import tensorflow as tf

        kept, read = self.kept, self.read or parsing(self.spec)
        options = tf.data.Options()
        # Workers that train together each take their part of every batch, whichever file it is from.
        options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA

        @tf.autograph.experimental.do_not_convert  # see shuffled
        def of(rows: tf.Tensor) -> Any:
            features = read(rows) if kept is None else {name: tf.gather(tensor, rows) for name, tensor in kept.items()}
            return self._example(features, class_weights)

        if kept is None:
            return (
                batches.map(of, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
                .prefetch(tf.data.AUTOTUNE)
                .with_options(options)
            )
        # There is nothing to tune, and the tuning thread would hold up the end of every pass by up to two seconds.
        options.autotune.enabled = False
        return batches.map(of).prefetch(PREFETCHED).with_options(options)

    def _example(self, tensors: dict[str, tf.Tensor], class_weights: tuple[float, ...] | None) -> Any:
        """What Keras is given for the parsed tensors of a batch."""
        import tensorflow as tf

        if self.label is None:
            return tensors
        answers = self.label.values() if isinstance(self.label, dict) else (self.label,)
        features = {name: tensor for name, tensor in tensors.items() if name not in (*answers, self.weight)}
        label = (
            {output: tensors[name] for output, name in self.label.items()}
            if isinstance(self.label, dict)
            else tensors[self.label]
        )
        weights = []
        if self.weight is not None:
            weights.append(tf.reshape(tf.cast(tensors[self.weight], tf.float32), [-1]))
        if class_weights is not None:
            weights.append(tf.gather(tf.constant(class_weights, tf.float32), _classes(label)))
        return (features, label, math.prod(weights[1:], start=weights[0])) if weights else (features, label)


def _classes(label: tf.Tensor) -> tf.Tensor:
    """The number of each record's class, int64 [batch]: the label itself, or which of its several values is the largest."""
    import tensorflow as tf

    if label.shape.rank == 2 and label.shape[1] > 1:
        return tf.argmax(label, axis=1)
    return tf.cast(tf.round(tf.reshape(label, [-1])), tf.int64)


def transformed_spec(graph: TransformGraph) -> dict[str, Any]:
    """How to parse each transformed feature, by name."""
    import tensorflow_transform as tft

    spec: dict[str, Any] = tft.TFTransformOutput(str(graph.path)).transformed_feature_spec()
    return spec


def parsing(spec: Mapping[str, Any]) -> Read:
    """How transformed records are read."""
    import tensorflow as tf

    return lambda serialized: tf.io.parse_example(serialized, dict(spec))


def parsed_all(files: list[Path], read: Read) -> tf.data.Dataset:
    """(number of records, their features) of one large batch after the other, in order."""
    import tensorflow as tf

    records = tf.data.TFRecordDataset([str(f) for f in files], compression_type="GZIP").batch(RECORDS_AT_ONCE)
    both = tf.autograph.experimental.do_not_convert(lambda serialized: (tf.size(serialized), read(serialized)))
    return records.map(both).prefetch(1)


def keep(
    files: list[Path], spec: Mapping[str, Any], rows: int, read: Read | None = None
) -> dict[str, tf.Tensor] | None:
    """The tensors of all `rows` of a split, [rows, ...] by name. Raw records become those of `spec` by `read`.

    None when they would take more than KEPT_BYTES, and for features whose rows have no fixed size: text, and what may have
    several values.
    """
    import tensorflow as tf

    fixed = all(isinstance(one, tf.io.FixedLenFeature) and one.dtype != tf.string for one in spec.values())
    if not fixed or rows * sum(math.prod(one.shape) * one.dtype.size for one in spec.values()) > KEPT_BYTES:
        return None
    parts = [features for _, features in parsed_all(files, read or parsing(spec))]
    return {name: tf.concat([part[name] for part in parts], axis=0) for name in spec}
