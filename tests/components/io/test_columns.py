from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from components.io import columns, tf_example
from schemas.errors import DataError


def lists(**features: list[list | None]) -> pa.RecordBatch:
    """Features of integers, floats or bytes; None throughout is a feature of which no kind is known."""
    types = {int: pa.int64(), float: pa.float32(), bytes: pa.large_binary()}

    def column(values: list[list | None]) -> pa.Array:
        kinds = {type(item) for cell in values if cell for item in cell}
        return pa.array(values, pa.large_list(types[kinds.pop()])) if kinds else pa.nulls(len(values))

    return pa.RecordBatch.from_arrays([column(values) for values in features.values()], list(features))


def written(path: Path, *batches: pa.RecordBatch, rows_each: int = columns.ROWS) -> pa.Table:
    with columns.Writer(path, rows_each) as writer:
        for batch in batches:
            writer.write(batch)
    return pa.Table.from_batches(columns.batches(path, rows_each)) if batches else pa.table({})


def test_columns_come_back_with_their_types_missing_and_empty_lists_apart(tmp_path) -> None:
    batch = lists(
        a=[[1, 2**53 + 1], [], None], b=[[b"\xff\x00"], ["é".encode()], None], c=[[0.5], None, []], d=[None] * 3
    )

    read = written(tmp_path / "x.parquet", batch)

    assert read.schema == batch.schema
    assert read.to_pylist() == batch.to_pylist()


def test_the_same_batches_make_the_same_bytes(tmp_path) -> None:
    batch = lists(a=[[1], [2]], b=[[b"x"], None])

    written(tmp_path / "one.parquet", batch, batch)
    written(tmp_path / "two.parquet", batch, batch)

    assert (tmp_path / "one.parquet").read_bytes() == (tmp_path / "two.parquet").read_bytes()


@pytest.mark.parametrize("row_group", [1, 2, 100])
def test_a_feature_that_comes_late_is_missing_before_also_where_rows_are_on_disk(tmp_path, row_group) -> None:
    batches = lists(b=[[1]], z=[None]), lists(z=[[0.5]], b=[None]), lists(a=[[b"x"]])

    read = written(tmp_path / "x.parquet", *batches, rows_each=row_group)

    assert read.to_pylist() == [
        {"a": None, "b": [1], "z": None},
        {"a": None, "b": None, "z": [0.5]},
        {"a": [b"x"], "b": None, "z": None},
    ]
    assert [file.name for file in tmp_path.iterdir()] == ["x.parquet"]


def test_a_feature_of_two_kinds_has_no_columns_and_leaves_no_file(tmp_path) -> None:
    with pytest.raises(columns.Unfit, match="feature 'a' is int64 in one record and float in another"):
        written(tmp_path / "x.parquet", lists(a=[[1]]), lists(a=[[0.5]]))

    assert list(tmp_path.iterdir()) == []


def test_records_without_any_feature_have_no_columns(tmp_path) -> None:
    with pytest.raises(columns.Unfit, match="no features"):
        written(tmp_path / "x.parquet", tf_example.decode([b"", b""]))


def test_no_rows_are_a_file_without_rows(tmp_path) -> None:
    written(tmp_path / "x.parquet")

    assert list(columns.batches(tmp_path / "x.parquet")) == []


def test_a_broken_file_is_named(tmp_path) -> None:
    (tmp_path / "x.parquet").write_bytes(b"hello")

    with pytest.raises(DataError, match=r"x\.parquet: cannot be read after row 0"):
        list(columns.batches(tmp_path / "x.parquet"))


@pytest.mark.parametrize("missing_keeps_kind", [True, False])
def test_lists_made_from_columns_are_those_decoded_from_records(missing_keeps_kind: bool) -> None:
    text = pa.array(["x", "", "é", "x", None])
    batch = pa.RecordBatch.from_pydict(
        {
            "int": pa.array([1, None, -(2**63), 2**53 + 1, 0]),
            "float": pa.array([1e400, None, float("nan"), -0.0, 0.1]),
            "text": text,
            "dictionary": text.dictionary_encode(),
            "with null": pa.DictionaryArray.from_arrays(pa.array([0, 1, 1, None, 2]), pa.array([7, None, 8])),
            "lists": pa.array([[1, 2], None, [3], [4, 5, 6], None]),
            "words": pa.array([["a"], None, ["b", ""], ["c"], None]),
            "none": pa.nulls(5),
            "no integer": pa.nulls(5, pa.int64()),
        }
    )

    decoded = tf_example.decode(tf_example.encode(batch, missing_keeps_kind=missing_keeps_kind))
    made = tf_example.as_lists(batch, missing_keeps_kind=missing_keeps_kind)

    for name in batch.schema.names:
        ours, theirs = (of.column(of.schema.get_field_index(name)) for of in (made, decoded))
        assert ours.type == theirs.type, name
        assert str(ours.to_pylist()) == str(theirs.to_pylist()), name  # as text, since nan is not nan
