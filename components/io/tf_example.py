"""tf.Example records: whole Arrow columns to serialized protos and back, a batch at a time."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

# Field numbers of the oneof in tf.train.Feature, as tags of a length-delimited field.
_BYTES_LIST, _FLOAT_LIST, _INT64_LIST = b"\x0a", b"\x12", b"\x1a"


def encode(batch: pa.RecordBatch, *, missing_keeps_kind: bool) -> list[bytes]:
    """One serialized tf.train.Example per row, byte for byte what `SerializeToString(deterministic=True)` gives.

    Columns are int64 (any integer type), float32 (any float type), binary (or string), lists of these, or null, or
    dictionaries of them, of which every distinct value is encoded only once; a cell is null where the value is missing. A missing value becomes an empty list of its column's kind when `missing_keeps_kind`,
    else a feature without a kind, which is also what every cell of a null column becomes. Raises ValueError for a column of
    another type.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    if batch.num_rows == 0:
        return []
    parts: list[pa.Array] = []
    # Deterministic serialization orders a map by its keys' bytes, and protobuf 4 puts a key before its own prefixes. The
    # splits hang on this order, so it is fixed here: 0xff is in no UTF-8 text.
    for name in sorted(batch.schema.names, key=lambda name: name.encode() + b"\xff"):
        column = batch.column(batch.schema.get_field_index(name))
        if pa.types.is_dictionary(column.type):
            values, places = _places(column)
            parts.append(_join(*_entries(name, values, missing_keeps_kind)).take(places))
        else:
            parts += _entries(name, column, missing_keeps_kind)
    features = _join(*parts) if parts else pa.array([b""] * batch.num_rows, pa.large_binary())
    prefix = _by_size(pc.binary_length(features), lambda size: b"\x0a" + _varint(size))
    return _list_of_bytes(_join(prefix, features))


def encode_feature(column: pa.Array, *, missing_keeps_kind: bool) -> list[bytes]:
    """One serialized tf.train.Feature per cell; a key to split by. Types as for `encode`."""
    head, payload = _feature(column, missing_keeps_kind)
    return _list_of_bytes(_join(head, payload))


def decode(records: Sequence[bytes]) -> pa.RecordBatch:
    """Serialized tf.Examples as lists per feature, with the types that the records themselves have.

    A feature is large_list<int64>, large_list<float> or large_list<large_binary>; null where a record lacks it, and of type
    null where no record of the batch has a value.
    """
    from tfx_bsl.coders.example_coder import ExamplesToRecordBatchDecoder

    return ExamplesToRecordBatchDecoder().DecodeBatch(list(records))


def _list_of_bytes(array: pa.LargeBinaryArray) -> list[bytes]:
    """What `to_pylist` gives for an array that is no slice and without nulls, in a third of its time."""
    if len(array) == 0:
        return []
    buffer = array.buffers()[2]
    whole, ends = buffer.to_pybytes() if buffer is not None else b"", _offsets(array).tolist()
    return [whole[start:end] for start, end in pairwise(ends)]


def as_lists(batch: pa.RecordBatch, *, missing_keeps_kind: bool) -> pa.RecordBatch:
    """What `decode(encode(batch))` gives, without the way through protos. Types as for `encode`."""
    import pyarrow as pa

    columns = [_as_list(column, missing_keeps_kind) for column in batch.columns]
    return pa.RecordBatch.from_arrays(columns, batch.schema.names)


def _as_list(column: pa.Array, missing_keeps_kind: bool) -> pa.Array:
    import numpy as np
    import pyarrow as pa

    rows = len(column)
    if pa.types.is_dictionary(column.type):
        values, places = _places(column)
        column = values.take(places)
    if pa.types.is_null(column.type) or (column.null_count == rows and not missing_keeps_kind):
        return pa.nulls(rows)
    missing = column.is_null().to_numpy(zero_copy_only=False)
    if _is_list(column.type):
        column = column.cast(pa.large_list(column.type.value_type))
        lengths = np.nan_to_num(column.value_lengths().to_numpy(zero_copy_only=False)).astype(np.int64)
        values = column.flatten()
    else:
        lengths = ~missing
        values = column.drop_null()
    offsets = np.zeros(rows + 1, dtype=np.int64)
    np.cumsum(lengths, out=offsets[1:])
    lists = pa.LargeListArray.from_arrays(pa.array(offsets), _stored(values))
    if missing_keeps_kind or not missing.any():
        return lists
    validity = pa.py_buffer(np.packbits(~missing, bitorder="little"))
    return pa.Array.from_buffers(lists.type, rows, [validity, lists.buffers()[1]], children=[lists.values])


def _stored(values: pa.Array) -> pa.Array:
    """Flat values as a tf.Example holds them."""
    import numpy as np
    import pyarrow as pa

    if pa.types.is_integer(values.type):
        return values.cast(pa.int64())
    if pa.types.is_floating(values.type):
        with np.errstate(over="ignore"):
            return pa.array(values.to_numpy(zero_copy_only=False).astype(np.float32))
    return (values.cast(pa.large_string()) if _is_text(values.type) else values).cast(pa.large_binary())


def _places(column: pa.Array) -> tuple[pa.Array, pa.Array]:
    """The distinct values of a dictionary column, and where among them each cell's is; null is one of them if it occurs."""
    import pyarrow as pa
    import pyarrow.compute as pc

    values, places = column.dictionary, column.indices
    if places.null_count:
        places = pc.fill_null(places, len(values))
        values = pa.concat_arrays([values, pa.nulls(1, values.type)])
    return values, places


def _entries(name: str, column: pa.Array, missing_keeps_kind: bool) -> tuple[pa.Array, pa.Array, pa.Array]:
    """Three binary arrays that, joined, are entries of the map in tf.train.Features."""
    import pyarrow.compute as pc

    head, payload = _feature(column, missing_keeps_kind)
    key = name.encode()
    key_field = b"\x0a" + _varint(len(key)) + key

    def entry(feature_size: int) -> bytes:
        value = b"\x12" + _varint(feature_size)
        return b"\x0a" + _varint(len(key_field) + len(value) + feature_size) + key_field + value

    sizes = pc.add(pc.binary_length(head), pc.binary_length(payload))
    return _by_size(sizes, entry), head, payload


def _feature(column: pa.Array, missing_keeps_kind: bool) -> tuple[pa.Array, pa.Array]:
    """(kind, sizes), (values): two binary arrays that, joined, are serialized tf.train.Features."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    rows = len(column)
    if pa.types.is_dictionary(column.type):
        values, places = _places(column)
        column = values.take(places)
    if pa.types.is_null(column.type):
        empty = pa.array([b""] * rows, pa.large_binary())
        return empty, empty
    missing = column.is_null()
    if _is_list(column.type):
        column = column.cast(pa.large_list(column.type.value_type))
        lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False)
        values = column.flatten()
    else:
        lengths = pc.invert(missing).to_numpy(zero_copy_only=False).astype(np.int64)
        values = column.drop_null()
    ends = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])

    kind, encoded = _values(values)
    payload = pa.LargeBinaryArray.from_buffers(
        pa.large_binary(),
        rows,
        [None, pa.py_buffer(_offsets(encoded)[ends].astype(np.int64)), encoded.buffers()[2] or pa.py_buffer(b"")],
    )

    def head(size: int) -> bytes:
        # Numbers are packed: one field holds them all. Every bytes value brings its own tag.
        inner = b"\x0a" + _varint(size) if kind != _BYTES_LIST and size else b""
        return kind + _varint(len(inner) + size) + inner

    heads = _by_size(pc.binary_length(payload), head)
    if not missing_keeps_kind:
        heads = pc.if_else(missing, pa.scalar(b"", pa.large_binary()), heads)
    return heads, payload


def _values(values: pa.Array) -> tuple[bytes, pa.Array]:
    """The kind of a flat array without nulls, and its values encoded one by one."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_integer(values.type):
        return _INT64_LIST, _varints(values.cast(pa.int64()).to_numpy())
    if pa.types.is_floating(values.type):
        with np.errstate(over="ignore"):  # beyond float32 is infinity, as a proto's float is
            numbers = values.to_numpy().astype("<f4")
        offsets = np.arange(0, 4 * len(numbers) + 1, 4, dtype=np.int64)
        buffers = [None, pa.py_buffer(offsets), pa.py_buffer(numbers)]
        return _FLOAT_LIST, pa.LargeBinaryArray.from_buffers(pa.large_binary(), len(numbers), buffers)
    if pa.types.is_string(values.type) or pa.types.is_binary(values.type) or _is_large(values.type):
        # Arrow goes from text to large_binary only by way of large_string.
        cells = (values.cast(pa.large_string()) if _is_text(values.type) else values).cast(pa.large_binary())
        tagged = _by_size(pc.binary_length(cells), lambda size: b"\x0a" + _varint(size))
        return _BYTES_LIST, _join(tagged, cells)
    raise ValueError(f"a tf.Example holds integers, floats and bytes, not {values.type}")


def _varints(numbers: Any) -> pa.Array:
    """int64 [n] -> the n varints; a negative number takes ten bytes."""
    import numpy as np
    import pyarrow as pa

    unsigned = numbers.astype(np.int64).view(np.uint64)
    groups = np.empty((len(unsigned), 10), dtype=np.uint8)
    sizes = np.ones(len(unsigned), dtype=np.int64)
    rest = unsigned.copy()
    for place in range(10):
        groups[:, place] = (rest & np.uint64(0x7F)).astype(np.uint8) | np.uint8(0x80)
        rest >>= np.uint64(7)
        sizes += rest != 0
    rows = np.arange(len(unsigned))
    groups[rows, sizes - 1] &= np.uint8(0x7F)
    flat = groups[np.arange(10) < sizes[:, None]]
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(np.ascontiguousarray(flat))]
    return pa.LargeBinaryArray.from_buffers(pa.large_binary(), len(unsigned), buffers)


def _by_size(sizes: pa.Array, make: Any) -> pa.Array:
    """`make(size)` for each of `sizes`, called once for each that occurs."""
    import pyarrow as pa

    coded = sizes.dictionary_encode()
    made = pa.array([make(size) for size in coded.dictionary.to_pylist()], pa.large_binary())
    return made.take(coded.indices)


def _join(*parts: pa.Array) -> pa.Array:
    import pyarrow as pa
    import pyarrow.compute as pc

    return pc.binary_join_element_wise(*parts, pa.scalar(b"", pa.large_binary()))


def _offsets(array: pa.Array) -> Any:
    """The offsets [n + 1] of a large_binary array that is not a slice."""
    import numpy as np

    if len(array) == 0:
        return np.zeros(1, dtype=np.int64)
    return np.frombuffer(array.buffers()[1], dtype=np.int64)[: len(array) + 1]


def _is_list(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _is_text(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _is_large(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_large_string(kind) or pa.types.is_large_binary(kind))


def _varint(number: int) -> bytes:
    """A size, not negative, as protobuf writes it."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)
