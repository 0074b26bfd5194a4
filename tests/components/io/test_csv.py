from __future__ import annotations

import bz2
import csv as python_csv
import gzip
import io
import lzma
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.io import csv, tf_example
from components.io.csv import ColumnType, Layout
from schemas.errors import DataError


@pytest.fixture
def file(tmp_path: Path):
    def write(text: str | bytes) -> Path:
        path = tmp_path / "data.csv"
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    return write


def rows(path: Path, layout: Layout = Layout()) -> tuple[dict[str, ColumnType], list[dict[str, object]]]:  # noqa: B008 (frozen)
    scan = csv.scan(path, layout, path.parent)
    read = [row for part in scan.parts for batch in csv.batches(part, scan.types) for row in batch.to_pylist()]
    assert len(read) == scan.rows
    return dict(scan.types), read


def tfx_records(path: Path) -> list[bytes]:
    """The records of one file by the DoFns of TFX's CsvExampleGen, without Beam around them."""
    from tfx.components.example_gen.csv_example_gen import executor
    from tfx.utils import io_utils
    from tfx_bsl.coders import csv_decoder

    names = io_utils.load_csv_column_names(str(path))
    parse, infer = csv_decoder.ParseCSVLine(","), csv_decoder.ColumnTypeInferrer(names, skip_blank_lines=True)
    parse.setup()
    lines = executor._ReadCsvRecordsFromTextFile().process(str(path))
    cells = [parsed for line in lines for parsed, _ in parse.process(line)]
    types = infer.create_accumulator()
    for row in cells:
        types = infer.add_input(types, row)
    to_example = executor._ParsedCsvToTfExample()
    examples = [e for row in cells for e in to_example.process(row, infer.extract_output(types))]
    return [example.SerializeToString(deterministic=True) for example in examples]


numbers = st.sampled_from(
    [
        "0",
        "-0",
        "1",
        "-1",
        "007",
        "+5",
        "1_000",
        "12.5",
        "-.5",
        "5.",
        "1e3",
        "1E-3",
        "1e400",
        "-1e400",
        "nan",
        "NaN",
        "inf",
        "-Infinity",
        "0x10",
        "1e",
        "1.2.3",
        "9007199254740993",
        "9223372036854775807",
        "-9223372036854775808",
        "9223372036854775808",
        "1234567890123456789012345",
        "0.1",
        "3.4e38",
        "3.5e38",
        "1e-50",
        "123456789.123456789",
        "1,5",
        "٣",
        "½",
        "1\u00a0000",
        "true",
        " 1",
        "1 ",
        " 1.5 ",
        "\t2",
    ]
)
words = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\x00"), max_size=8)
cells = st.sampled_from([st.just(""), numbers, words, st.integers(-3, 3).map(str), st.floats(-9, 9).map(repr)])


@st.composite
def tables(draw) -> list[list[str]]:
    """Columns of cells of one or two kinds, as Python's writer quotes them."""
    width, height = draw(st.integers(1, 4)), draw(st.integers(1, 8))
    kinds = [draw(cells) | draw(cells) for _ in range(width)]
    return [[draw(kind) for kind in kinds] for _ in range(height)]


@settings(deadline=None)  # the first example imports TFX
@given(tables(), st.sampled_from(["\n", "\r\n"]), st.booleans())
def test_records_and_types_are_tfxs(
    tmp_path_factory: pytest.TempPathFactory, table: list[list[str]], end: str, ended: bool
) -> None:
    text = io.StringIO()
    writer = python_csv.writer(text, lineterminator=end)
    writer.writerow([f"c{n}" for n in range(len(table[0]))])
    writer.writerows(table)
    path = tmp_path_factory.mktemp("csv") / "x.csv"
    path.write_bytes((text.getvalue() if ended else text.getvalue().removesuffix(end)).encode())

    scan = csv.scan(path, Layout(), path.parent)
    batches = [batch for part in scan.parts for batch in csv.batches(part, scan.types)]

    assert [r for batch in batches for r in tf_example.encode(batch, missing_keeps_kind=True)] == tfx_records(path)


@settings(deadline=None)
@given(numbers | words | st.integers().map(str) | st.floats().map(str))
def test_the_type_of_a_cell_is_tfxs(cell: str) -> None:
    from tfx_bsl.coders import csv_decoder

    theirs = {"UNKNOWN": "MISSING", "STRING": "BYTES"}
    name = csv_decoder._InferValueType(cell.encode()).name

    assert csv.type_of_cell(cell.encode()).name == theirs.get(name, name)


def test_integers_beyond_doubles_keep_every_digit(file) -> None:
    types, read = rows(file("x\n9007199254740993\n-9223372036854775808\n"))

    assert types == {"x": ColumnType.INT}
    assert [row["x"] for row in read] == [9007199254740993, -9223372036854775808]


def test_integers_beyond_64_bits_are_text(file) -> None:
    types, read = rows(file("x\n1\n9223372036854775808\n"))

    assert types == {"x": ColumnType.BYTES}
    assert [row["x"] for row in read] == [b"1", b"9223372036854775808"]


def test_a_column_without_values_has_no_type(file) -> None:
    assert rows(file('x,y\n1,\n2,""\n')) == (
        {"x": ColumnType.INT, "y": ColumnType.MISSING},
        [{"x": 1, "y": None}, {"x": 2, "y": None}],
    )


def test_quoted_line_breaks_quotes_and_commas_belong_to_the_cell(file) -> None:
    _, read = rows(file('x,y\r\n"a\r\n""b"", c",1\r\n'))

    assert read == [{"x": b'a\r\n"b", c', "y": 1}]


def test_a_quote_inside_a_plain_cell_is_a_character(file) -> None:
    _, read = rows(file('x,y\n5" pipe,1\n6",2\n7",3\n'))

    assert [row["x"] for row in read] == [b'5" pipe', b'6"', b'7"']


def test_a_byte_order_mark_is_no_part_of_the_first_name(file) -> None:
    path = file(b"\xef\xbb\xbfx,y\n1,2\n")

    assert csv.header(path, Layout()) == ("x", "y")
    assert rows(path)[1] == [{"x": 1, "y": 2}]


def test_names_may_be_quoted(file) -> None:
    assert csv.header(file('"a, b","c\nd",e\n1,2,3\n'), Layout()) == ("a, b", "c\nd", "e")


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_every_end_of_line_is_known_also_in_the_header(file, end: str) -> None:
    text = end.join(["note", "", "x,y", "1,2", "", "3,4"])

    assert rows(file(text), Layout(skip_rows=2))[1] == [{"x": 1, "y": 2}, {"x": 3, "y": 4}]


def test_a_file_is_read_in_blocks_and_a_longer_row_in_a_longer_block(file) -> None:
    long = "y" * 1000
    path = file("a,b\n" + "1,2\n" * 100 + f'"{long}\n{long}",3\n' + "4,5\n" * 4000)

    scan = csv.scan(path, Layout(), path.parent, block=64, part=64)
    batches = [list(csv.batches(part, scan.types)) for part in scan.parts]
    read = [row for part in batches for batch in part for row in batch.to_pylist()]

    assert scan.rows == len(read) == 4101
    assert len(batches) > 1
    assert read[100] == {"a": f"{long}\n{long}".encode(), "b": 3}


@pytest.mark.parametrize("block", [64, 100, 257])
def test_quoted_line_breaks_may_stand_at_any_boundary_of_blocks_and_parts(file, block: int) -> None:
    expected = [{"a": f'{n}\r\n",{"x" * (n % 37)}\n'.encode(), "b": n} for n in range(2000)]
    quoted = ('"' + row["a"].decode().replace('"', '""') + f'",{row["b"]}\r\n' for row in expected)
    path = file("\ufeffa,b\r\n" + "".join(quoted))

    scan = csv.scan(path, Layout(), path.parent, block=block, part=5 * block)

    assert len(scan.parts) > 50
    assert [
        row for part in scan.parts for batch in csv.batches(part, scan.types) for row in batch.to_pylist()
    ] == expected


def test_gzip_is_known_by_its_content(file) -> None:
    assert rows(file(gzip.compress(b"x\n1\n")))[1] == [{"x": 1}]


def test_types_of_several_files_are_the_widest(file, tmp_path) -> None:
    scans = [csv.scan(file(text), Layout(), tmp_path) for text in ("x,y\n1,\n", "x,y\n1.5,\n", "y,x\n2,3\n")]

    assert csv.merged(scan.types for scan in scans) == {"x": ColumnType.FLOAT, "y": ColumnType.INT}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n\n1,2,3\n", "line 4: the header has 2 columns, this row has 3: '1,2,3'"),
        ('a,b\n"1\n2",3\n4\n', "line 4: the header has 2 columns, this row has 1: '4'"),
        ("a,b\n" + "x" * 500 + "\n", "line 2: .*this row has 1: 'x{60}[.]{3}'"),
        (b"a,b\n1,2\n3,caf\xe9\n", "line 3: the byte 0xe9 is not UTF-8"),
        (b"a,caf\xe9\n1,2\n", "line 1: the byte 0xe9 is not UTF-8"),
        ('a,b\n1,2\n3,"4\n5,6\n', "line 3: a double quote opens in this row and is never closed"),
        ('a,b\n1,2\n3,"4', "line 3: a double quote opens in this row and is never closed"),
        ('a,"b\n1,2\n', "line 1: a double quote opens in this row and is never closed"),
        ("a,b,a\n1,2,3\n", "line 1: 'a' names columns 1 and 3"),
        (",a,\n1,2,3\n", "line 1: column 1 has no name; column 3 has no name"),
        ("\na,b\n", "line 1: no names of columns, the line is blank.*skip_rows"),
        ("", "the file is empty"),
        ("a,b\n1,2\n".encode("utf-16"), "this is UTF-16"),
        (bz2.compress(b"a,b\n1,2\n"), "this is compressed with bzip2. Unpack it"),
        (lzma.compress(b"a,b\n1,2\n"), "this is compressed with xz. Unpack it"),
        (gzip.compress(b"a,b\n" + b"1,2\n" * 1000, mtime=0)[:-10], "compressed data cannot be read"),  # names the test
    ],
)
def test_bad_files_are_told_with_their_line(file, text: str | bytes, message: str) -> None:
    path = file(text)

    with pytest.raises(DataError, match=f"^{path}(: |, ).*{message}"):
        csv.scan(path, Layout(), path.parent)


def test_lines_are_counted_from_the_beginning_also_after_skipped_ones(file, tmp_path) -> None:
    with pytest.raises(DataError, match="line 5: the header has 2 columns"):
        csv.scan(file("one\ntwo\na,b\n1,2\n3\n"), Layout(skip_rows=2), tmp_path)
    with pytest.raises(DataError, match="line 2: the setting 'columns' names 2 columns, this row has 1"):
        csv.scan(file("1,2\n3\n"), Layout(columns=("a", "b")), tmp_path)


def test_more_skipped_lines_than_there_are_is_told(file) -> None:
    with pytest.raises(DataError, match="the file has 2 lines, and skip_rows passes over 5"):
        csv.header(file("a\n1\n"), Layout(skip_rows=5))
