"""A file of CSV, Parquet or TFRecord -> chunks of tf.Examples, each record with the bytes that decide its split."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.io import columns, csv, parquet, tf_example, tfrecord
from schemas.errors import DataError, did_you_mean

if TYPE_CHECKING:
    import pyarrow as pa

_RECORDS = 4096  # of a TFRecord file at a time

Chunk = tuple[list[bytes], list[bytes], Callable[[Any], "pa.RecordBatch"]]
"""Serialized tf.Examples, for each the bytes that decide its split, and what gives the columns of some of them (by an array of
their places), as `tf_example.decode` would."""


def of_csv(
    file: Path, part: Path, types: Mapping[str, csv.ColumnType], split_by: str | None, drop: Collection[str] = ()
) -> Iterator[Chunk]:
    """The rows in one `part` of `file`'s scan, in order, without the columns `drop`.

    They are split by the column `split_by`, which may be a dropped one, else by the whole record. Raises DataError where that
    column holds floats or nothing.
    """
    if split_by is not None and types[split_by] not in (csv.ColumnType.INT, csv.ColumnType.BYTES):
        found = "floats" if types[split_by] == csv.ColumnType.FLOAT else "no value at all"
        raise _no_key(file, split_by, found)
    for batch in csv.batches(part, types):
        kept = _without(batch, drop)
        records = tf_example.encode(kept, missing_keeps_kind=True)
        keys = records
        if split_by is not None:
            keys = tf_example.encode_feature(batch.column(split_by), missing_keeps_kind=True)
        yield records, keys, functools.partial(_columns, kept, missing_keeps_kind=True)


def _without(batch: pa.RecordBatch, drop: Collection[str]) -> pa.RecordBatch:
    import pyarrow as pa

    left = [name for name in batch.schema.names if name not in drop]
    return pa.RecordBatch.from_arrays([batch.column(name) for name in left], left)


def _columns(batch: pa.RecordBatch, places: Any, missing_keeps_kind: bool) -> pa.RecordBatch:
    import pyarrow as pa

    taken = pa.RecordBatch.from_arrays([column.take(pa.array(places)) for column in batch.columns], batch.schema.names)
    return tf_example.as_lists(taken, missing_keeps_kind=missing_keeps_kind)


def of_parquet(file: Path, split_by: str | None, drop: Collection[str] = ()) -> Iterator[Chunk]:
    """The rows of `file` in order, as `of_csv`. Raises DataError where the column `split_by` holds floats, or no value in a row."""
    row = 0
    for batch in parquet.batches(file):
        kept = _without(batch, drop)
        records = tf_example.encode(kept, missing_keeps_kind=False)
        keys = records
        if split_by is not None:
            key = batch.column(split_by)
            if parquet.kinds(file)[split_by] == "float":
                raise _no_key(file, split_by, "floats")
            if key.null_count:
                at = row + key.is_null().index(True).as_py() + 1
                raise _no_key(file, split_by, f"no value in row {at:,} (0, false and '' count as missing)")
            keys = tf_example.encode_feature(key, missing_keeps_kind=False)
        yield records, keys, functools.partial(_columns, kept, missing_keeps_kind=False)
        row += batch.num_rows


def of_tfrecord(file: Path, split_by: str | None) -> Iterator[Chunk]:
    """The tf.Examples in `file` in order, split by a feature or whole. Raises DataError for records of another type."""
    from google.protobuf.message import DecodeError
    from google.protobuf.unknown_fields import UnknownFieldSet
    from tensorflow.core.example.example_pb2 import Example

    number = 0
    for batch in tfrecord.read_batches(file, _RECORDS):
        records, keys = [], []
        for serialized in batch:
            number += 1
            try:
                example = Example.FromString(serialized)
            except DecodeError as error:
                raise DataError(f"{file}: record {number:,} is not a tf.Example ({error})") from error
            if number == 1 and len(UnknownFieldSet(example)):
                raise DataError(f"{file}: it holds messages of another type than tf.Example (tf.SequenceExample?)")
            # Written anew, so that equal records are equal bytes whoever wrote them.
            record = example.SerializeToString(deterministic=True)
            records.append(record)
            if split_by is None:
                keys.append(record)
                continue
            features = example.features.feature
            if split_by not in features:
                raise DataError(
                    f"{file}: record {number:,} has no feature '{split_by}' to split by.{did_you_mean(split_by, features)}"
                    f" It has {', '.join(sorted(features))}."
                )
            feature = features[split_by]
            kind = feature.WhichOneof("kind")
            if kind in (None, "float_list"):
                found = "floats" if kind else "no value"
                raise _no_key(file, split_by, f"{found} in record {number:,}")
            keys.append(feature.SerializeToString(deterministic=True))
        yield records, keys, functools.partial(_decoded, records)


def _decoded(records: list[bytes], places: Any) -> pa.RecordBatch:
    try:
        return tf_example.decode([records[at] for at in places.tolist()])
    except RuntimeError as error:  # tfx_bsl's, for a feature that is of one kind here and of another there
        raise columns.Unfit(str(error)) from error


def _no_key(file: Path, split_by: str, found: str) -> DataError:
    return DataError(
        f"{file}: '{split_by}' cannot be split by: it holds {found}. Choose a column of integers or text that every row has, or"
        " leave split_by out to split by the whole record."
    )
