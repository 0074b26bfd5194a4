"""Files -> Examples: the records of CSV, Parquet or TFRecord files as tf.Examples, split by hash."""

from __future__ import annotations

import functools
import json
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from components.data import splits as hash_split
from components.io import columns, csv, parquet, tf_example, tfrecord
from components.io.beam import RowCount, pipeline, place
from components.io.workers import Packed
from schemas.artifacts import Examples
from schemas.component import BeamOptions, InputFiles, Out, Progress
from schemas.errors import ConfigError, DataError, did_you_mean
from schemas.input_files import expand

if TYPE_CHECKING:
    import pyarrow as pa

FORMATS = ("csv", "parquet", "tfrecord")
_RECORDS = 4096  # of a TFRecord file at a time

Chunk = tuple[list[bytes], list[bytes], Callable[[Any], "pa.RecordBatch"]]
"""Serialized tf.Examples, for each the bytes that decide its split, and what gives the columns of some of them (by an array of
their places), as `tf_example.decode` would."""


@dataclass(frozen=True, kw_only=True)
class ExampleGen:
    """Files -> Examples: the records of CSV, Parquet or TFRecord files as tf.Examples, split by hash.

    Contents, types and splits are those of TFX's ExampleGens (with TFX's splits listed in the order given below). A CSV
    column is int, float or bytes, the narrowest of them that all its cells in all files fit; an empty cell is a feature
    without values. Parquet takes integers, floats, booleans, text, bytes and lists of them; as in TFX, a cell that is 0,
    false or empty counts as missing. TFRecord files hold tf.Examples. Any CSV or TFRecord file may be gzipped.

    A record's split hangs on nothing but its content, so neither order nor file nor other records move it. Without
    `split_by` the content is the whole serialized record: when a column's type changes (one cell 'n/a' among integers makes
    all of them bytes) every record is another one and may move. With `split_by` it is that column's value alone, which keeps
    the rows of one key (a customer, a day) together; a record moves only when the key column's own type changes.
    """

    LEAST_MEMORY: ClassVar[int] = 500_000_000  # bytes

    source: InputFiles  # a file, a glob, or pkg://package/path
    format: str | None = None  # csv, parquet or tfrecord; None: told by the files' names
    # Name: weight. However they are written, the hash ranges are cut in the order train, eval, others by name.
    splits: dict[str, int] = field(default_factory=lambda: {"train": 2, "eval": 1})
    split_by: str | None = None  # a column of integers or text; None: the whole record
    skip_rows: int = 0  # CSV: lines before the header
    columns: tuple[str, ...] | None = None  # CSV: names of the columns, where the files have no header

    def __post_init__(self) -> None:
        problems = [f"splits: {problem}" for problem in hash_split.problems(self.splits)]
        if not self.source.strip():
            problems.append("source: give a file, a glob such as data/*.csv, or pkg://package/path")
        if self.format is not None and self.format not in FORMATS:
            problems.append(
                f"format: '{self.format}' is not one of {', '.join(FORMATS)}.{did_you_mean(self.format, FORMATS)}"
            )
        if self.skip_rows < 0:
            problems.append(f"skip_rows: {self.skip_rows} lines cannot be skipped: give 0 or more")
        names = self.columns if self.columns is not None else ("any",)
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            problems.append(
                f"columns: {', '.join(repeated)} stands there more than once: every column needs its own name"
            )
        if not names or not all(names):
            problems.append("columns: every column needs a name")
        if self.columns is not None and self.split_by is not None and self.split_by not in self.columns:
            problems.append(
                f"split_by: there is no column '{self.split_by}' among 'columns'.{did_you_mean(self.split_by, self.columns)}"
            )
        if self.format in ("parquet", "tfrecord"):
            problems += self._settings_for_csv(self.format)
        if problems:
            raise ConfigError(*problems)

    def run(self, beam: BeamOptions, progress: Progress, examples: Out[Examples]) -> None:
        """Write every input file as one shard of every split, in the order of the file's rows; CSV of more than 64 MB as several.

        What the records hold is also kept as columns, unless the records of a TFRecord file do not agree on a feature's kind.

        Raises DataError for files that do not exist, do not fit together or cannot be read, and when there is not one row.
        """
        import apache_beam

        files = expand(self.source)
        format_ = self.format or _one_format(files)
        if format_ != "csv":
            problems = self._settings_for_csv(format_)
            if problems:
                raise ConfigError(*problems)
        layout = csv.Layout(self.skip_rows, self.columns)
        if format_ == "csv":
            self._check_columns({file: dict.fromkeys(csv.header(file, layout), "missing") for file in files})
        elif format_ == "parquet":
            self._check_columns({file: parquet.kinds(file) for file in files})

        weights = hash_split.in_order(self.splits)
        for split in weights:
            examples.split_path(split).mkdir(parents=True, exist_ok=True)
            examples.columns_path(split).mkdir(parents=True, exist_ok=True)
        counts = examples.path / ".records"  # what each shard held; a Beam worker has no other way to tell us
        counts.mkdir()
        parsed = examples.path / ".parsed"
        with RowCount(progress) as rows, pipeline(beam, (examples.path, *files)) as running:
            # Several elements of a Create are spread over workers.
            places = [place(file, beam) for file in files]
            inputs = running | "Files" >> apache_beam.Create(list(enumerate(places)))
            write = functools.partial(_write_shard, weights=weights, examples=examples, counts=counts, rows=rows)
            if format_ == "csv":
                # Types hang on every cell of every file, so all are read before the first record is made.
                read_csv = functools.partial(_csv_chunks, split_by=self.split_by)
                _ = (
                    inputs
                    | "Parse" >> apache_beam.Map(Packed(_scan), layout, parsed)
                    | "All" >> apache_beam.GroupByKey()
                    | "Parts" >> apache_beam.FlatMap(Packed(_parts))
                    | "PartByPart" >> apache_beam.Reshuffle()
                    | "Write" >> apache_beam.Map(Packed(_write_csv), read=read_csv, write=write)
                )
            else:
                read = functools.partial(
                    _parquet_chunks if format_ == "parquet" else _tfrecord_chunks, split_by=self.split_by
                )
                _ = inputs | "Write" >> apache_beam.Map(Packed(_write), len(files), read=read, write=write)
        shutil.rmtree(parsed, ignore_errors=True)
        examples.properties["records"] = self._counted(counts, weights)
        examples.properties["columns"] = self._kept_columns(examples, weights)

    def _settings_for_csv(self, format_: str) -> list[str]:
        given = {"skip_rows": self.skip_rows != 0, "columns": self.columns is not None}
        return [
            f"{name}: only CSV files have it, and these are {format_} files" for name, is_set in given.items() if is_set
        ]

    def _check_columns(self, kinds: Mapping[Path, Mapping[str, str]]) -> None:
        """All files have the same columns, of kinds that go together, and the key is one of them."""
        (first, expected), *others = kinds.items()
        known = dict(expected)
        for file, found in others:
            differences = [f"it lacks '{name}'" for name in expected if name not in found]
            differences += [f"'{name}' is new" for name in found if name not in expected]
            for name, kind in found.items():
                if name in known and "missing" not in (kind, known[name]) and kind != known[name]:
                    differences.append(f"'{name}' is {kind}, not {known[name]}")
                elif kind != "missing":
                    known[name] = kind
            if differences:
                raise DataError(
                    f"{file}: its columns are not those of {first}: {'; '.join(differences)}. The files of one source must"
                    " agree; narrow the glob or correct the file."
                )
        if self.split_by is not None and self.split_by not in expected:
            raise DataError(
                f"{first}: there is no column '{self.split_by}' to split by.{did_you_mean(self.split_by, expected)}"
                f" It has {', '.join(expected)}."
            )

    def _counted(self, counts: Path, splits: Iterable[str]) -> dict[str, int]:
        records = dict.fromkeys(splits, 0)
        for file in sorted(counts.iterdir()):
            for split, count in json.loads(file.read_text(encoding="utf-8")).items():
                records[split] += count
            file.unlink()
        counts.rmdir()
        if not any(records.values()):
            raise DataError(f"{self.source}: there is not one row in it")
        return records

    def _kept_columns(self, examples: Examples, splits: Iterable[str]) -> bool:
        """Whether all splits have columns; when not, those of the others are removed."""
        if all(examples.columns(split) is not None for split in splits):
            return True
        shutil.rmtree(examples.columns_path("any").parent)
        print("StatisticsGen and later steps will decode the records instead", file=sys.stderr, flush=True)
        return False


def _one_format(files: list[Path]) -> str:
    formats: dict[str, Path] = {}
    for file in files:
        formats.setdefault(_format(file), file)
    if len(formats) > 1:
        (one, file), (other, another), *_ = formats.items()
        raise DataError(
            f"{file} is a {one} file and {another} is a {other} file. Narrow the glob, or say which 'format' they are."
        )
    return next(iter(formats))


def _format(file: Path) -> str:
    """The format by name: as written by others, TFX among them, a TFRecord file need not end in .tfrecord."""
    name = file.name.lower().removesuffix(".gz")
    if name.endswith(".csv"):
        return "csv"
    if name.endswith((".parquet", ".pq")):
        return "parquet"
    if "tfrecord" in name:
        return "tfrecord"
    raise DataError(f"{file}: the name does not tell the format. Give 'format', one of {', '.join(FORMATS)}.")


@dataclass(frozen=True)
class _Part:
    """Some rows of a CSV file, one shard of each split."""

    number: int
    of: int
    file: str
    cells: Path
    types: Mapping[str, csv.ColumnType]


def _scan(file: tuple[int, str], layout: csv.Layout, parsed: Path) -> tuple[None, tuple[int, str, csv.Scan]]:
    number, name = file
    to = parsed / f"{number:05d}"
    to.mkdir(parents=True)
    return None, (number, name, csv.scan(Path(name), layout, to))


def _parts(scanned: tuple[None, Iterable[tuple[int, str, csv.Scan]]]) -> list[_Part]:
    scans = sorted(scanned[1], key=lambda scan: scan[0])
    types = csv.merged(scan for _, _, scan in scans)
    cells = [(name, part) for _, name, scan in scans for part in scan.parts]
    return [_Part(number, len(cells), name, part, types) for number, (name, part) in enumerate(cells)]


def _write_csv(part: _Part, read: Callable[..., Iterator[Chunk]], write: Callable[..., None]) -> None:
    write(part.number, part.of, read(Path(part.file), part.cells, part.types))


def _write(
    file: tuple[int, str], shards: int, read: Callable[..., Iterator[Chunk]], write: Callable[..., None]
) -> None:
    number, name = file
    write(number, shards, read(Path(name)))


def _write_shard(
    number: int,
    shards: int,
    chunks: Iterable[Chunk],
    weights: Mapping[str, int],
    examples: Examples,
    counts: Path,
    rows: RowCount,
) -> None:
    import numpy as np

    name = f"data_tfrecord-{number:05d}-of-{shards:05d}.gz"
    with ExitStack() as files:
        writers = [files.enter_context(tfrecord.Writer(examples.split_path(split) / name)) for split in weights]
        kept = files.enter_context(_Kept(examples, list(weights), number, shards))
        for records, keys, columns_of in chunks:
            assigned = np.array(hash_split.assign(keys, weights))
            for index, writer in enumerate(writers):
                here = np.flatnonzero(assigned == index)
                writer.write([records[at] for at in here.tolist()])
                kept.write(index, columns_of, here)
            rows(len(records))
    held = {split: writer.records for split, writer in zip(weights, writers, strict=True)}
    (counts / f"{number:05d}.json").write_text(json.dumps(held), encoding="utf-8")


class _Kept:
    """The columns of one shard, of every split; none at all when they cannot be kept for one."""

    def __init__(self, examples: Examples, splits: list[str], number: int, shards: int) -> None:
        name = f"{number:05d}-of-{shards:05d}.parquet"
        self._files = [examples.columns_path(split) / name for split in splits]
        self._stack = ExitStack()
        self._writers: list[columns.Writer] | None = None

    def write(self, split: int, columns_of: Callable[[Any], pa.RecordBatch], places: Any) -> None:
        if self._writers is None or not len(places):
            return
        try:
            self._writers[split].write(columns_of(places))
        except columns.Unfit as problem:
            self._writers = None
            self._stack.close()
            for file in self._files:
                file.unlink(missing_ok=True)
            print(f"{self._files[split].name}: no columns are kept: {problem}", file=sys.stderr, flush=True)

    def __enter__(self) -> _Kept:
        self._writers = [self._stack.enter_context(columns.Writer(file)) for file in self._files]
        return self

    def __exit__(self, *exception: Any) -> None:
        self._stack.__exit__(*exception)


def _csv_chunks(file: Path, part: Path, types: Mapping[str, csv.ColumnType], split_by: str | None) -> Iterator[Chunk]:
    if split_by is not None and types[split_by] not in (csv.ColumnType.INT, csv.ColumnType.BYTES):
        found = "floats" if types[split_by] == csv.ColumnType.FLOAT else "no value at all"
        raise _no_key(file, split_by, found)
    for batch in csv.batches(part, types):
        records = tf_example.encode(batch, missing_keeps_kind=True)
        keys = records
        if split_by is not None:
            key = batch.column(batch.schema.get_field_index(split_by))
            keys = tf_example.encode_feature(key, missing_keeps_kind=True)
        yield records, keys, functools.partial(_columns, batch, missing_keeps_kind=True)


def _columns(batch: pa.RecordBatch, places: Any, missing_keeps_kind: bool) -> pa.RecordBatch:
    import pyarrow as pa

    taken = pa.RecordBatch.from_arrays([column.take(pa.array(places)) for column in batch.columns], batch.schema.names)
    return tf_example.as_lists(taken, missing_keeps_kind=missing_keeps_kind)


def _parquet_chunks(file: Path, split_by: str | None) -> Iterator[Chunk]:
    row = 0
    for batch in parquet.batches(file):
        records = tf_example.encode(batch, missing_keeps_kind=False)
        keys = records
        if split_by is not None:
            key = batch.column(batch.schema.get_field_index(split_by))
            if parquet.kinds(file)[split_by] == "float":
                raise _no_key(file, split_by, "floats")
            if key.null_count:
                at = row + key.is_null().index(True).as_py() + 1
                raise _no_key(file, split_by, f"no value in row {at:,} (0, false and '' count as missing)")
            keys = tf_example.encode_feature(key, missing_keeps_kind=False)
        yield records, keys, functools.partial(_columns, batch, missing_keeps_kind=False)
        row += batch.num_rows


def _tfrecord_chunks(file: Path, split_by: str | None) -> Iterator[Chunk]:
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
