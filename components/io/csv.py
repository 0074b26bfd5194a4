"""CSV files: columns in Arrow batches, with the types that TFX infers for them."""

from __future__ import annotations

import csv
import enum
import gzip
import io
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, NoReturn, cast

from schemas.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

_BLOCK = 1 << 21  # bytes of CSV text per batch
_PART = 1 << 26  # bytes of CSV text per part
_LARGEST_BLOCK = 1 << 30
_PACKED = {b"\xfd7zXZ\x00": "xz", b"\x28\xb5\x2f\xfd": "zstd"} | {
    b"BZh%d1AY&SY" % level: "bzip2" for level in range(1, 10)
}  # what such files begin with
_SHOWN = 60  # characters of a bad row that a message quotes


class ColumnType(enum.IntEnum):
    """What a column holds. Each type can hold what those before it hold, so a column's type is the largest of its cells'."""

    MISSING = 0  # no value at all
    INT = 1
    FLOAT = 2
    BYTES = 3


@dataclass(frozen=True)
class Layout:
    """How a file is to be read.

    `skip_rows` lines are passed over at its beginning. Then comes a line with the columns' names, unless `columns` names
    them because the file does not.
    """

    skip_rows: int = 0
    columns: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Scan:
    """What one pass over a file found: the type of every column in the file's order, how many rows, and the files that now
    hold its cells, at least one, each from about 64 MB of text (fewer, larger batches where one row is very long)."""

    types: Mapping[str, ColumnType]
    rows: int
    parts: tuple[Path, ...]


def header(path: Path, layout: Layout) -> tuple[str, ...]:
    """The names of the columns. Raises DataError for an empty file and for names that are empty, repeated or not UTF-8."""
    with _Source(path) as source:
        return _header(source, layout)


def scan(path: Path, layout: Layout, to: Path, block: int = _BLOCK, part: int = _PART) -> Scan:
    """Read the whole file once, `block` bytes at a time: its columns' types, and its cells into files in the directory `to`.

    Where a row of CSV begins depends on every quote before it, so a file is parsed in one go, at a tenth of what all the rest
    costs; each part can then be worked on anywhere. A row that is longer than a block makes the blocks longer. Raises
    DataError for a row it cannot take.
    """
    while True:
        names = header(path, layout)
        types = dict.fromkeys(names, ColumnType.MISSING)
        rows = 0
        try:
            with _Parts(to, names, max(1, part // block)) as parts:
                for batch in _text(path, layout, block):
                    rows += batch.num_rows
                    for name, column in zip(names, batch.columns, strict=True):
                        types[name] = _type_of(column.dictionary, types[name])
                    parts.write(batch)
        except _RowBeyondBlock:
            block *= 4  # one row is longer than a block
            continue
        return Scan(types, rows, tuple(parts.files))


def merged(files: Iterable[Mapping[str, ColumnType]]) -> dict[str, ColumnType]:
    """The types of the columns over all files, given those of each: the largest."""
    types: dict[str, ColumnType] = {}
    for found in files:
        for name, kind in found.items():
            types[name] = max(kind, types.get(name, kind))
    return types


def batches(part: Path, types: Mapping[str, ColumnType]) -> Iterator[pa.RecordBatch]:
    """The rows of one of a scan's parts in order, in batches: dictionaries of int64, float32 or large_binary, or null
    columns, in the file's order, null where a cell is empty. Blank lines are not rows. `types` are what `merged` found."""
    import pyarrow as pa

    # Not mapped into memory, where every page once read would count as this process's.
    with pa.OSFile(str(part)) as file, pa.ipc.open_stream(file) as stream:
        for batch in stream:
            columns = [
                _converted(column, types[name]) for name, column in zip(batch.schema.names, batch.columns, strict=True)
            ]
            yield pa.RecordBatch.from_arrays(columns, batch.schema.names)


def type_of_cell(cell: bytes) -> ColumnType:
    """The type of one cell by TFX's rule, which is Python's own reading of numbers.

    An integer beyond 64 bits is BYTES, and so makes its whole column text. Spaces around a number and '_' within are allowed,
    nan and inf are FLOAT.
    """
    if not cell:
        return ColumnType.MISSING
    try:
        return ColumnType.INT if -(2**63) <= int(cell) < 2**63 else ColumnType.BYTES
    except ValueError:
        pass
    try:
        float(cell)
    except ValueError:
        return ColumnType.BYTES
    return ColumnType.FLOAT


# What Arrow and Python surely read alike; the few other spellings go through Python.
_PLAIN_INT = r"^-?[0-9]{1,18}$"
_PLAIN_FLOAT = r"^-?[0-9]{1,15}(\.[0-9]{0,20})?([eE][-+]?[0-9]{1,2})?$"


def _type_of(cells: pa.Array, so_far: ColumnType) -> ColumnType:
    """The largest type of distinct `cells`, not smaller than `so_far`."""
    import pyarrow.compute as pc

    if so_far == ColumnType.BYTES:
        return so_far
    rest = cells.filter(pc.greater(pc.binary_length(cells), 0))
    for pattern, kind in ((_PLAIN_INT, ColumnType.INT), (_PLAIN_FLOAT, ColumnType.FLOAT)):
        plain = pc.match_substring_regex(rest, pattern)
        if pc.any(plain).as_py():
            so_far = max(so_far, kind)
        rest = rest.filter(pc.invert(plain))
    for cell in rest.to_pylist():
        so_far = max(so_far, type_of_cell(cell.encode()))
        if so_far == ColumnType.BYTES:
            break
    return so_far


def _converted(column: pa.DictionaryArray, kind: ColumnType) -> pa.Array:
    import pyarrow as pa

    if kind == ColumnType.MISSING:
        return pa.nulls(len(column))
    return pa.DictionaryArray.from_arrays(column.indices, _typed(column.dictionary, kind))


def _typed(column: pa.Array, kind: ColumnType) -> pa.Array:
    import pyarrow as pa
    import pyarrow.compute as pc

    empty = pc.equal(pc.binary_length(column), 0)
    cells = pc.if_else(empty, pa.scalar(None, pa.string()), column)
    if kind == ColumnType.BYTES:
        return cells.cast(pa.large_string()).cast(pa.large_binary())
    wide = pa.int64() if kind == ColumnType.INT else pa.float64()
    pattern = _PLAIN_INT if kind == ColumnType.INT else _PLAIN_FLOAT
    if pc.all(pc.match_substring_regex(cells, pattern)).as_py() is not False:
        numbers = cells.cast(wide)
    else:
        read: Callable[[bytes], float] = int if kind == ColumnType.INT else float
        numbers = pa.array([None if cell is None else read(cell.encode()) for cell in cells.to_pylist()], wide)
    return numbers if kind == ColumnType.INT else numbers.cast(pa.float32())


class _Parts:
    """Arrow streams that batches of text go to, a new one after every `each` batches. Each batch has its own dictionaries."""

    def __init__(self, to: Path, names: Iterable[str], each: int) -> None:
        import pyarrow as pa

        self.files: list[Path] = []
        self._to, self._each, self._held = to, each, 0
        self._schema = pa.schema([(name, _cells()) for name in names])
        self._file: IO[bytes] | None = None
        self._stream: pa.ipc.RecordBatchStreamWriter | None = None
        self._next()

    def write(self, batch: pa.RecordBatch) -> None:
        if self._held == self._each:
            self._next()
        assert self._stream is not None
        self._stream.write_batch(batch)
        self._held += 1

    def _next(self) -> None:
        import pyarrow as pa

        self.close()
        self.files.append(self._to / f"{len(self.files):05d}.arrows")
        self._file, self._held = self.files[-1].open("wb"), 0
        self._stream = pa.ipc.new_stream(self._file, self._schema)

    def close(self) -> None:
        if self._file is not None and self._stream is not None:
            self._stream.close()
            self._file.close()

    def __enter__(self) -> _Parts:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def _cells() -> pa.DataType:
    """Text of which each block holds every distinct value once: most columns repeat themselves."""
    import pyarrow as pa

    return pa.dictionary(pa.int32(), pa.string())


class _RowBeyondBlock(Exception):
    """A row does not fit into one block of text."""


def _text(path: Path, layout: Layout, block: int) -> Iterator[pa.RecordBatch]:
    """The rows as dictionaries of text, '' where a cell is empty."""
    import pyarrow as pa
    from pyarrow import csv as arrow

    last = ""
    with _Source(path) as source:
        names = list(_header(source, layout))
        try:
            reader = arrow.open_csv(
                pa.PythonFile(source, mode="r"),
                arrow.ReadOptions(block_size=block, column_names=names),
                arrow.ParseOptions(newlines_in_values=True),
                arrow.ConvertOptions(
                    column_types=dict.fromkeys(names, _cells()), null_values=[], strings_can_be_null=False
                ),
            )
            for batch in reader:
                if batch.num_rows:
                    last = batch.column(batch.num_columns - 1)[-1].as_py()
                yield batch
        except pa.ArrowInvalid as error:
            if str(error) == "Empty CSV file":
                return
            if "straddling" in str(error) and block < _LARGEST_BLOCK and not _unclosed_quote(path, layout):
                raise _RowBeyondBlock from error
            _explain(path, layout, names, str(error))
        # Arrow takes a quote that is never closed for one that closes at the end of the file. The count cannot be odd
        # otherwise, unless a cell without quotes has one inside; only then is it worth reading the file once more.
        if source.quotes % 2 or last.endswith(("\n", "\r")) or (source.quotes and not source.ends_with_newline):
            line = _unclosed_quote(path, layout)
            if line:
                raise _unclosed(path, line)


def _header(source: _Source, layout: Layout) -> tuple[str, ...]:
    """The columns' names; `source` then stands at the first row."""
    path = source.path
    if source.empty:
        raise DataError(f"{path}: the file is empty")
    for skipped in range(layout.skip_rows):
        if not source.readline():
            raise DataError(f"{path}: the file has {skipped} lines, and skip_rows passes over {layout.skip_rows}")
    if layout.columns is not None:
        return layout.columns
    number = layout.skip_rows + 1
    line = source.readline()
    while line.count(b'"') % 2:
        more = source.readline()
        if not more:
            raise _unclosed(path, number)
        line += more
    try:
        text = line.decode().strip()
    except UnicodeDecodeError as error:
        raise _undecodable(path, number, line[error.start]) from error
    names = next(csv.reader([text])) if text else []
    if not names:
        raise DataError(
            f"{path}, line {number}: no names of columns, the line is blank. Should more lines be skipped (skip_rows)?"
        )
    problems = [f"column {at} has no name" for at, name in enumerate(names, 1) if not name]
    for name in dict.fromkeys(names):
        if name and names.count(name) > 1:
            places = [str(at) for at, other in enumerate(names, 1) if other == name]
            problems.append(f"'{name}' names columns {' and '.join(places)}")
    if problems:
        raise DataError(f"{path}, line {number}: {'; '.join(problems)}. Every column needs a name of its own.")
    return tuple(names)


class _Source:
    """The bytes of a file, unzipped and without a byte order mark: first by line, then in blocks, for Arrow."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.quotes = 0  # among the bytes given by `read`
        self.ends_with_newline = True
        self.closed = False
        self._file = _open(path)
        self._pending = b""
        self._pending = self._more(_BLOCK).removeprefix(b"\xef\xbb\xbf")
        self.empty = not self._pending
        if self._pending[:2] in (b"\xff\xfe", b"\xfe\xff"):
            self.close()
            raise DataError(f"{path}: this is UTF-16. Convert it to UTF-8 (iconv -f UTF-16 -t UTF-8)")
        packed = next((name for first, name in _PACKED.items() if self._pending.startswith(first)), None)
        if packed is not None:
            self.close()
            raise DataError(
                f"{path}: this is compressed with {packed}. Unpack it, or compress it with gzip, which is read as it is"
            )

    def readline(self) -> bytes:
        """The next line with its end, be it \\n, \\r or both; b'' at the end of the file."""
        while True:
            ends = [at for at in (self._pending.find(b"\n"), self._pending.find(b"\r")) if at >= 0]
            # A \r that is the last byte we have may be the first half of \r\n.
            if ends and min(ends) < len(self._pending) - 1:
                end = min(ends) + (2 if self._pending[min(ends) :].startswith(b"\r\n") else 1)
                break
            more = self._more(_BLOCK)
            if not more:
                end = len(self._pending)
                break
            self._pending += more
        line, self._pending = self._pending[:end], self._pending[end:]
        return line

    def read(self, size: int = -1) -> bytes:
        found = self._take(size)
        # Arrow takes a \n that begins a block for the second half of the line end whose \r ended the one before, also where
        # both stand in a quoted cell, and drops it.
        if found.endswith(b"\r") and len(found) > 1:
            found, self._pending = found[:-1], b"\r" + self._pending
        if found:
            self.quotes += found.count(b'"')
            self.ends_with_newline = found.endswith((b"\n", b"\r"))
        return found

    def _take(self, size: int) -> bytes:
        """`size` bytes, fewer only at the end (or where a compressed member ends)."""
        if not self._pending:
            return self._more(size)
        size = len(self._pending) if size < 0 else size
        found, self._pending = self._pending[:size], self._pending[size:]
        return found + self._more(size - len(found)) if len(found) < size else found

    def _more(self, size: int) -> bytes:
        try:
            return self._file.read(size)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise DataError(f"{self.path}: its compressed data cannot be read ({error}). Write it again.") from error

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        self.closed = True
        self._file.close()

    def __enter__(self) -> _Source:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def _open(path: Path) -> IO[bytes]:
    file = path.open("rb")
    zipped = file.read(2) == b"\x1f\x8b"
    file.seek(0)
    return cast("IO[bytes]", gzip.open(file)) if zipped else file


def _records(path: Path, layout: Layout) -> Iterator[tuple[int, list[str], bool]]:
    """Every row by Python's own reader: the line it begins in, its cells, whether a quote was still open at the end.

    Slow, and so only for finding where in a file something is wrong. Raises DataError at a line that is not UTF-8.
    """
    csv.field_size_limit(sys.maxsize)
    number, ended = 0, False

    def lines() -> Iterator[str]:
        nonlocal number, ended
        with io.TextIOWrapper(_open(path), "utf-8-sig", "surrogateescape", newline="") as text:
            for line in text:
                number += 1
                bad = next((character for character in line if "\udc80" <= character <= "\udcff"), None)
                if bad:
                    raise _undecodable(path, number, ord(bad) - 0xDC00)
                yield line
        ended = True

    every = lines()
    for _ in range(layout.skip_rows):
        next(every, None)
    reader = csv.reader(every)
    if layout.columns is None:
        next(reader, None)
    while True:
        first = number + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        yield first, cells, ended


def _unclosed_quote(path: Path, layout: Layout) -> int | None:
    """The line in which the row begins whose quote is never closed."""
    return next((line for line, _, unclosed in _records(path, layout) if unclosed), None)


def _explain(path: Path, layout: Layout, names: list[str], error: str) -> NoReturn:
    """Say what Arrow refused, and in which line."""
    for line, cells, unclosed in _records(path, layout):
        if unclosed:
            raise _unclosed(path, line)
        if cells and len(cells) != len(names):
            row = ",".join(cells)
            row = row if len(row) <= _SHOWN else row[:_SHOWN] + "..."
            expected = "the setting 'columns' names" if layout.columns is not None else "the header has"
            raise DataError(
                f"{path}, line {line}: {expected} {len(names)} columns, this row has {len(cells)}: {row!r}. Correct the row;"
                " a cell with a comma or a line break inside stands in double quotes."
            )
    raise DataError(f"{path}: not a CSV file that can be read ({error})")


def _unclosed(path: Path, line: int) -> DataError:
    return DataError(
        f'{path}, line {line}: a double quote opens in this row and is never closed. Close it, or write it as "" if it belongs'
        " to the value."
    )


def _undecodable(path: Path, line: int, byte: int) -> DataError:
    return DataError(
        f"{path}, line {line}: the byte 0x{byte:02x} is not UTF-8. Convert the file (iconv -f LATIN1 -t UTF-8, if it is Latin-1)."
    )
