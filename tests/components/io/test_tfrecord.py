from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.io import tfrecord
from schemas.errors import DataError

RECORDS = [b"one", b"", b"\x00" * 3_000_000, "drei".encode("utf-16")]


@pytest.mark.parametrize("name", ["x.tfrecord", "x.gz"])
def test_what_is_written_is_read(tmp_path: Path, name: str) -> None:
    assert tfrecord.write(tmp_path / name, RECORDS) == 4
    assert list(tfrecord.read(tmp_path / name)) == RECORDS


@pytest.mark.parametrize(("name", "compression"), [("x.tfrecord", ""), ("x.gz", "GZIP")])
def test_tensorflow_reads_ours_and_we_read_tensorflows(tmp_path: Path, name: str, compression: str) -> None:
    import tensorflow as tf

    tfrecord.write(tmp_path / name, RECORDS)
    with tf.io.TFRecordWriter(str(tmp_path / f"tf-{name}"), compression) as writer:
        for record in RECORDS:
            writer.write(record)

    theirs = list(tf.data.TFRecordDataset(str(tmp_path / name), compression).as_numpy_iterator())

    assert theirs == RECORDS
    assert list(tfrecord.read(tmp_path / f"tf-{name}")) == RECORDS


@settings(deadline=None)
@given(st.lists(st.binary(max_size=60), max_size=20))
def test_the_bytes_are_beams(tmp_path_factory: pytest.TempPathFactory, records: list[bytes]) -> None:
    import io

    from apache_beam.io.tfrecordio import _TFRecordUtil

    file = tmp_path_factory.mktemp("tfrecord") / "x"
    expected = io.BytesIO()
    for record in records:
        _TFRecordUtil.write_record(expected, record)

    tfrecord.write(file, records)

    assert file.read_bytes() == expected.getvalue()


def test_equal_records_are_equal_files_whatever_their_name(tmp_path: Path) -> None:
    tfrecord.write(tmp_path / "a.gz", RECORDS)
    tfrecord.write(tmp_path / "b.gz", RECORDS)

    assert (tmp_path / "a.gz").read_bytes() == (tmp_path / "b.gz").read_bytes()
    assert (tmp_path / "a.gz").read_bytes()[4:8] == b"\0\0\0\0"  # the time in gzip's header


def test_a_writer_takes_records_bit_by_bit(tmp_path: Path) -> None:
    with tfrecord.Writer(tmp_path / "x.gz") as writer:
        writer.write(RECORDS[:2])
        writer.write([])
        writer.write(RECORDS[2:])

    assert writer.records == 4
    assert list(tfrecord.read(tmp_path / "x.gz")) == RECORDS


def test_no_records_are_a_file_too(tmp_path: Path) -> None:
    tfrecord.write(tmp_path / "x.gz", [])

    assert list(tfrecord.read(tmp_path / "x.gz")) == []
    assert list(tfrecord.read_batches(tmp_path / "x.gz", 5)) == []


def test_batches_keep_the_order_and_end_with_the_rest(tmp_path: Path) -> None:
    tfrecord.write(tmp_path / "x", [b"a", b"b", b"c", b"d", b"e"])

    assert list(tfrecord.read_batches(tmp_path / "x", 2)) == [[b"a", b"b"], [b"c", b"d"], [b"e"]]


def test_a_file_cut_anywhere_is_refused_or_ends_between_records(tmp_path: Path) -> None:
    tfrecord.write(tmp_path / "x", [b"abc", b"defg"])
    whole = (tmp_path / "x").read_bytes()
    for size in range(1, len(whole)):
        (tmp_path / "cut").write_bytes(whole[:size])
        if size == 19:
            assert list(tfrecord.read(tmp_path / "cut")) == [b"abc"]
        else:
            with pytest.raises(DataError, match=r"cut: record [12], at byte (0|19) .* the file ends inside"):
                list(tfrecord.read(tmp_path / "cut"))


def test_any_changed_byte_is_found(tmp_path: Path) -> None:
    tfrecord.write(tmp_path / "x", [b"abc", b"defg"])
    whole = (tmp_path / "x").read_bytes()
    for at in range(len(whole)):
        (tmp_path / "bad").write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises(DataError, match=rf"bad: record {1 if at < 19 else 2}, at byte {0 if at < 19 else 19} "):
            list(tfrecord.read(tmp_path / "bad"))


def test_another_kind_of_file_is_named_as_such(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("a,b,c,d,e,f,g\n1,2,3,4,5,6,7\n")

    with pytest.raises(DataError, match=r"x\.csv: record 1.*not a TFRecord file"):
        list(tfrecord.read(tmp_path / "x.csv"))


def test_damaged_compression_is_told(tmp_path: Path) -> None:
    tfrecord.write(tmp_path / "x.gz", [str(n).encode() for n in range(100_000)])
    whole = (tmp_path / "x.gz").read_bytes()
    (tmp_path / "cut.gz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "bad.gz").write_bytes(gzip.compress(b"x") + b"rubbish after the end")

    for name in ("cut.gz", "bad.gz"):
        with pytest.raises(DataError, match=name):
            list(tfrecord.read(tmp_path / name))
