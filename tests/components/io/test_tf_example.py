from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.io import tf_example

ints, floats, texts = st.integers(-(2**63), 2**63 - 1), st.floats(width=64), st.binary(max_size=300)


@st.composite
def batches(draw) -> pa.RecordBatch:
    """Up to four columns of any type we encode, of any rows, some missing."""
    rows = draw(st.integers(1, 12))
    names = draw(st.lists(st.text(min_size=1, max_size=5), min_size=1, max_size=4, unique=True).map(sorted))
    columns = []
    for _ in names:
        cells, kind = draw(st.sampled_from([(ints, pa.int64()), (floats, pa.float64()), (texts, pa.large_binary())]))
        shape = draw(st.sampled_from(["one", "list", "null"]))
        if shape == "null":
            columns.append(pa.nulls(rows))
            continue
        cells = st.lists(cells, max_size=4) if shape == "list" else cells
        values = draw(st.lists(st.none() | cells, min_size=rows, max_size=rows))
        columns.append(pa.array(values, pa.list_(kind) if shape == "list" else kind))
    return pa.RecordBatch.from_arrays(columns, names)


def as_proto(batch: pa.RecordBatch, row: int, missing_keeps_kind: bool) -> Any:
    from tensorflow.core.example.example_pb2 import Example

    example = Example()
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        feature, value = example.features.feature[name], column[row].as_py()
        kind = column.type.value_type if pa.types.is_list(column.type) else column.type
        if pa.types.is_null(kind) or (value is None and not missing_keeps_kind):
            continue
        into = {pa.int64(): feature.int64_list, pa.float64(): feature.float_list}.get(kind, feature.bytes_list)
        into.SetInParent()
        into.value.extend(value if isinstance(value, list) else [] if value is None else [value])
    return example


@settings(deadline=None)
@given(batches(), st.booleans())
def test_records_are_what_protobuf_writes(batch: pa.RecordBatch, missing_keeps_kind: bool) -> None:
    expected = [as_proto(batch, row, missing_keeps_kind) for row in range(batch.num_rows)]

    found = tf_example.encode(batch, missing_keeps_kind=missing_keeps_kind)

    assert found == [example.SerializeToString(deterministic=True) for example in expected]
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        features = tf_example.encode_feature(column, missing_keeps_kind=missing_keeps_kind)
        assert features == [e.features.feature[name].SerializeToString(deterministic=True) for e in expected]


@settings(deadline=None)
@given(batches(), st.integers(0, 12), st.integers(0, 12))
def test_a_slice_of_a_batch_gives_a_slice_of_the_records(batch: pa.RecordBatch, start: int, length: int) -> None:
    every = tf_example.encode(batch, missing_keeps_kind=True)

    assert tf_example.encode(batch.slice(start, length), missing_keeps_kind=True) == every[start : start + length]


def test_keys_that_begin_alike_are_in_protobufs_order() -> None:
    names = ["f", "f32", "fa", "b", "bin", "é", "B", "b_"]
    batch = pa.RecordBatch.from_arrays([pa.array([1])] * len(names), names)

    expected = as_proto(batch, 0, True).SerializeToString(deterministic=True)

    assert tf_example.encode(batch, missing_keeps_kind=True) == [expected]


def test_long_values_and_names_are_written() -> None:
    columns = [pa.array([b"x" * 3_000_000, None]), pa.array([["ü".encode()] * 40_000, []])]
    batch = pa.RecordBatch.from_arrays(columns, ["n" * 200, "s"])

    expected = [as_proto(batch, row, True).SerializeToString(deterministic=True) for row in range(2)]

    assert tf_example.encode(batch, missing_keeps_kind=True) == expected


def test_a_type_that_no_tf_example_holds_is_refused() -> None:
    batch = pa.RecordBatch.from_arrays([pa.array([1]).cast(pa.timestamp("s"))], ["at"])

    with pytest.raises(ValueError, match="not timestamp"):
        tf_example.encode(batch, missing_keeps_kind=True)


def test_records_are_decoded_to_lists() -> None:
    batch = pa.RecordBatch.from_arrays(
        [pa.array([1, None]), pa.array([[1.5, 2.5], []]), pa.array([b"a", b"b"])], ["i", "f", "s"]
    )

    found = tf_example.decode(tf_example.encode(batch, missing_keeps_kind=True))

    assert found.to_pydict() == {"i": [[1], []], "f": [[1.5, 2.5], []], "s": [[b"a"], [b"b"]]}
