"""Parquet files: columns in Arrow batches, with the values that TFX's Parquet reader gives them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from schemas.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

_ROWS = 32_768  # per batch


def kinds(path: Path) -> dict[str, str]:
    """The columns in the file's order, each 'int', 'float', 'bytes' or 'missing' (null throughout, by its declared type).

    A list counts as what it holds. Raises DataError when the file is not Parquet, when it has columns of one name, and for
    columns of types that a tf.Example cannot hold: all of them at once.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        schema = pq.read_schema(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{path}: not a Parquet file that can be read ({error})") from error
    repeated = sorted({name for name in schema.names if schema.names.count(name) > 1})
    if repeated:
        raise DataError(
            f"{path}: several columns are called {', '.join(repeated)}. Every column needs a name of its own."
        )
    found = {field.name: _kind(field.type) for field in schema}
    unfit = [f"{field.name} ({field.type})" for field in schema if not found[field.name]]
    if unfit:
        raise DataError(
            f"{path}: a tf.Example cannot hold {', '.join(unfit)}. Cast each to numbers or text, or leave it out, before writing"
            " the file."
        )
    return found


def batches(path: Path, rows_each: int = _ROWS) -> Iterator[pa.RecordBatch]:
    """The rows in order, in batches of `rows_each` that `tf_example.encode` takes; null where a value is missing.

    As in TFX, whatever Python takes for false is missing: null, and also 0, 0.0, False, '' and an empty list as the whole
    value of a cell. Raises DataError for a null inside a list, an integer beyond 64 bits with sign, and a broken file.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = 0
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=rows_each):
                columns = []
                for name, column in zip(batch.schema.names, batch.columns, strict=True):
                    try:
                        columns.append(_without_false(column))
                    except (pa.ArrowInvalid, ValueError) as error:
                        at = f"{path}, rows {rows + 1:,} to {rows + batch.num_rows:,}, column '{name}'"
                        raise DataError(f"{at}: {error}") from error
                rows += batch.num_rows
                yield pa.RecordBatch.from_arrays(columns, batch.schema.names)
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{path}: cannot be read after row {rows:,} ({error}). Write it again.") from error


def _kind(of: pa.DataType) -> str:
    import pyarrow as pa

    if pa.types.is_list(of) or pa.types.is_large_list(of) or pa.types.is_fixed_size_list(of):
        of = of.value_type
    if pa.types.is_dictionary(of):
        of = of.value_type
    if pa.types.is_integer(of) or pa.types.is_boolean(of):
        return "int"
    if pa.types.is_floating(of):
        return "float"
    if pa.types.is_string(of) or pa.types.is_large_string(of) or pa.types.is_binary(of) or pa.types.is_large_binary(of):
        return "bytes"
    return "missing" if pa.types.is_null(of) else ""


def _without_false(column: pa.Array) -> pa.Array:
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_null(column.type):
        return column
    if pa.types.is_list(column.type) or pa.types.is_large_list(column.type) or pa.types.is_fixed_size_list(column.type):
        values = column.flatten()
        if values.null_count:
            raise ValueError("a list holds a null, which a tf.Example cannot. Leave such values out of the lists.")
        lists = column.cast(pa.large_list(_stored(values.type)))
        return pc.if_else(pc.equal(pc.list_value_length(lists), 0), pa.scalar(None, lists.type), lists)
    column = column.cast(_stored(column.type))
    if pa.types.is_large_binary(column.type):
        nothing = pc.equal(pc.binary_length(column), 0)
    else:
        nothing = pc.equal(column, pa.scalar(0, column.type))
    return pc.if_else(nothing, pa.scalar(None, column.type), column)


def _stored(of: pa.DataType) -> pa.DataType:
    import pyarrow as pa

    kind = _kind(of)
    return {"int": pa.int64(), "float": pa.float64(), "bytes": pa.large_binary(), "missing": pa.null()}[kind]
