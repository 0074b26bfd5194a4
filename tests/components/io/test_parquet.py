from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.io import parquet, tf_example
from schemas.errors import DataError

AWKWARD = pa.table(
    {
        "int": pa.array([0, 5, None, -1], pa.int32()),
        "unsigned": pa.array([1, 2, 3, 2**63 - 1], pa.uint64()),
        "float": pa.array([0.0, -0.0, float("nan"), 1e300]),
        "single": pa.array([0.1, None, 0, 2], pa.float32()),
        "bool": pa.array([True, False, None, True]),
        "text": pa.array(["", "ü", None, "x"]),
        "bytes": pa.array([b"a", b"", None, b"xyz"]),
        "texts": pa.array([[""], ["a", "b"], [], None]),
        "ints": pa.array([[0], [1, 2], [], None], pa.list_(pa.int16())),
        "floats": pa.array([[0.0], [1, 2], [], None], pa.large_list(pa.float64())),
        "bools": pa.array([[False], [True, False], [], None]),
        "category": pa.array(["p", "q", None, "p"]).dictionary_encode(),
        "nothing": pa.nulls(4),
    }
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "data.parquet"


def test_records_are_those_that_tfx_makes_of_the_same_rows(file: Path) -> None:
    from tfx.components.example_gen import utils

    pq.write_table(AWKWARD, file)
    expected = [
        utils.dict_to_example(row).SerializeToString(deterministic=True) for row in pq.read_table(file).to_pylist()
    ]

    found = [r for batch in parquet.batches(file) for r in tf_example.encode(batch, missing_keeps_kind=False)]

    assert found == expected


def test_kinds_are_what_a_tf_example_has(file: Path) -> None:
    pq.write_table(AWKWARD, file)

    assert list(parquet.kinds(file).values()) == ["int"] * 2 + ["float"] * 2 + ["int"] + ["bytes"] * 3 + [
        "int",
        "float",
        "int",
        "bytes",
        "missing",
    ]


def test_a_large_file_comes_in_batches_and_in_order(file: Path) -> None:
    pq.write_table(pa.table({"x": list(range(1, 1001))}), file)

    batches = list(parquet.batches(file, rows_each=100))

    assert len(batches) == 10
    assert [n for batch in batches for n in batch.column(0).to_pylist()] == list(range(1, 1001))


def test_all_columns_of_unfit_types_are_told_at_once(file: Path) -> None:
    decimal = pa.array([1]).cast(pa.decimal128(20))
    pq.write_table(pa.table({"at": [datetime(2024, 1, 1)], "x": [1], "price": decimal}), file)

    with pytest.raises(DataError, match=r"cannot hold at \(timestamp.*\), price \(decimal128"):
        parquet.kinds(file)


def test_a_null_in_a_list_is_refused(file: Path) -> None:
    pq.write_table(pa.table({"x": [[1, None]]}), file)

    with pytest.raises(DataError, match="rows 1 to 1, column 'x': a list holds a null"):
        list(parquet.batches(file))


def test_an_integer_beyond_64_bits_with_sign_is_refused(file: Path) -> None:
    pq.write_table(pa.table({"x": pa.array([2**64 - 1], pa.uint64())}), file)

    with pytest.raises(DataError, match="column 'x': .*not in range"):
        list(parquet.batches(file))


def test_another_kind_of_file_and_a_damaged_one_are_refused(file: Path) -> None:
    file.write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match=r"data\.parquet: not a Parquet file"):
        parquet.kinds(file)

    pq.write_table(pa.table({"x": list(range(1000))}), file, compression="none")
    whole = file.read_bytes()
    file.write_bytes(whole[:10] + b"\xff" * 200 + whole[210:])
    with pytest.raises(DataError, match=r"data\.parquet: cannot be read after row 0"):
        list(parquet.batches(file))
