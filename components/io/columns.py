"""Columns of tf.Examples in Parquet: what a file of records holds, as tfx_bsl's decoder would give it, without decoding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from schemas.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

ROWS = 65_536  # per batch that is read, and per row group


class Unfit(Exception):
    """The records have no columns: a feature changes its kind from one record to another, or there is no feature at all."""


class Writer:
    """Writes one Parquet file; equal columns, given in equal batches, make equal bytes.

    A batch has large_list columns, or null ones where no record of the batch has a value, as `tf_example.decode` and
    `tf_example.as_lists` give them. Batches need not have the same columns: a feature that a batch lacks is missing in all
    its rows. The columns stand in the file in the order of their names.

    Used as a context manager. Left by an exception, it leaves no file.
    """

    def __init__(self, path: Path, rows_each: int = ROWS) -> None:
        """`rows_each` rows make a row group."""
        self._path = path
        self._rows_each = rows_each
        self._schema: pa.Schema | None = None
        self._writer: pq.ParquetWriter | None = None
        self._waiting: list[pa.RecordBatch] = []
        self._rows = 0

    def write(self, batch: pa.RecordBatch) -> None:
        """Append the rows of `batch`. Raises Unfit when a feature is of another kind than before."""
        if batch.num_rows == 0:
            return
        if batch.num_columns == 0:
            raise Unfit("a record has no features")
        schema = _united(self._schema, batch.schema)
        if self._schema is not None and schema != self._schema:
            self._start_again(schema)
        self._schema = schema
        self._waiting.append(_conformed(batch, schema))
        self._rows += batch.num_rows
        if self._rows >= self._rows_each:
            self._flush()

    def _flush(self) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        schema = self._schema if self._schema is not None else pa.schema([])
        if self._writer is None:
            # Columns of ids and other distinct values fall back to plain pages by themselves.
            self._writer = pq.ParquetWriter(self._path, schema, compression="zstd", write_statistics=False)
        if self._waiting:
            rows = pa.Table.from_batches(self._waiting, schema)
            self._writer.write_table(rows, row_group_size=self._rows_each)
            self._waiting, self._rows = [], 0

    def _start_again(self, schema: pa.Schema) -> None:
        """Write what there is anew, with features that came later."""
        self._waiting = [_conformed(batch, schema) for batch in self._waiting]
        if self._writer is None:
            return
        import pyarrow as pa
        import pyarrow.parquet as pq

        self._writer.close()
        narrow = self._path.with_suffix(".narrow")
        self._path.rename(narrow)
        self._writer = pq.ParquetWriter(self._path, schema, compression="zstd", write_statistics=False)
        for batch in batches(narrow):
            self._writer.write_table(pa.Table.from_batches([_conformed(batch, schema)]), row_group_size=self._rows_each)
        narrow.unlink()

    def __enter__(self) -> Writer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._flush()
        if self._writer is not None:
            self._writer.close()
        if kind is not None:
            self._path.unlink(missing_ok=True)


def kinds(path: Path) -> dict[str, pa.DataType]:
    """The type of every column by its name. Raises DataError for a broken file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return {field.name: field.type for field in pq.read_schema(path)}
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{path}: cannot be read ({error}). Run ExampleGen again.") from error


def rows(path: Path) -> int:
    """How many rows there are. Raises DataError for a broken file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return int(pq.read_metadata(path).num_rows)
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{path}: cannot be read ({error}). Run ExampleGen again.") from error


def batches(path: Path, rows_each: int = ROWS, names: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
    """The rows in order, `rows_each` at a time, with the columns `names` or all; nothing for a file without rows.

    Raises DataError for a broken file.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    done = 0
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=rows_each, columns=names, use_threads=False):
                done += batch.num_rows
                yield batch
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{path}: cannot be read after row {done:,} ({error}). Run ExampleGen again.") from error


def _united(known: pa.Schema | None, new: pa.Schema) -> pa.Schema:
    import pyarrow as pa

    types = {} if known is None else {field.name: field.type for field in known}
    for field in new:
        before = types.get(field.name, pa.null())
        if pa.types.is_null(before):
            types[field.name] = field.type
        elif not pa.types.is_null(field.type) and field.type != before:
            raise Unfit(
                f"feature '{field.name}' is {before.value_type} in one record and {field.type.value_type} in another"
            )
    return pa.schema([(name, types[name]) for name in sorted(types)])


def _conformed(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    import pyarrow as pa

    if batch.schema == schema:
        return batch
    columns = []
    for field in schema:
        at = batch.schema.get_field_index(field.name)
        column = batch.column(at) if at >= 0 else pa.nulls(batch.num_rows)
        columns.append(pa.nulls(len(column), field.type) if pa.types.is_null(column.type) else column)
    return pa.RecordBatch.from_arrays(columns, schema=schema)
