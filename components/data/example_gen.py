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

from components.data import chunks
from components.data import splits as hash_split
from components.io import columns, csv, parquet, tfrecord
from components.io.beam import RowCount, pipeline, place
from components.io.workers import Packed
from schemas.artifacts import Examples
from schemas.component import BeamOptions, InputFiles, Out, Progress
from schemas.errors import ConfigError, DataError, did_you_mean
from schemas.input_files import expand

if TYPE_CHECKING:
    import pyarrow as pa

FORMATS = ("csv", "parquet", "tfrecord")


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
    drop_columns: tuple[str, ...] = ()  # CSV, Parquet: columns that no record gets; split_by may name one of them

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
        if self.columns is not None:
            problems += [
                f"drop_columns: there is no column '{name}' among 'columns'.{did_you_mean(name, self.columns)}"
                for name in self.drop_columns
                if name not in self.columns
            ]
        if self.format is not None and self.format in FORMATS:
            problems += self._settings_of_other_formats(self.format)
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
        problems = self._settings_of_other_formats(format_)
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
                read_csv = functools.partial(chunks.of_csv, split_by=self.split_by, drop=self.drop_columns)
                _ = (
                    inputs
                    | "Parse" >> apache_beam.Map(Packed(_scan), layout, parsed)
                    | "All" >> apache_beam.GroupByKey()
                    | "Parts" >> apache_beam.FlatMap(Packed(_parts))
                    | "PartByPart" >> apache_beam.Reshuffle()
                    | "Write" >> apache_beam.Map(Packed(_write_csv), read=read_csv, write=write)
                )
            else:
                read: Callable[..., Iterator[chunks.Chunk]] = (
                    functools.partial(chunks.of_parquet, split_by=self.split_by, drop=self.drop_columns)
                    if format_ == "parquet"
                    else functools.partial(chunks.of_tfrecord, split_by=self.split_by)
                )
                _ = inputs | "Write" >> apache_beam.Map(Packed(_write), len(files), read=read, write=write)
        shutil.rmtree(parsed, ignore_errors=True)
        examples.properties["records"] = self._counted(counts, weights)
        examples.properties["columns"] = self._kept_columns(examples, weights)

    def _settings_of_other_formats(self, format_: str) -> list[str]:
        given = {"skip_rows": self.skip_rows != 0, "columns": self.columns is not None}
        problems = [
            f"{name}: only CSV files have it, and these are {format_} files"
            for name, is_set in given.items()
            if is_set and format_ != "csv"
        ]
        if self.drop_columns and format_ == "tfrecord":
            problems.append(
                "drop_columns: only CSV and Parquet files have it, and these are tfrecord files, whose records are taken as "
                "they are"
            )
        return problems

    def _check_columns(self, kinds: Mapping[Path, Mapping[str, str]]) -> None:
        """All files have the same columns, of kinds that go together; the key and what is dropped are among them."""
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
        problems = [
            f"drop_columns: {first} has no column '{name}'.{did_you_mean(name, expected)} It has {', '.join(expected)}"
            for name in self.drop_columns
            if name not in expected
        ]
        if not problems and set(expected) <= set(self.drop_columns):
            problems.append("drop_columns: nothing is left. Leave out only what no later step may see")
        if problems:
            raise ConfigError(*problems)

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


def _write_csv(part: _Part, read: Callable[..., Iterator[chunks.Chunk]], write: Callable[..., None]) -> None:
    write(part.number, part.of, read(Path(part.file), part.cells, part.types))


def _write(
    file: tuple[int, str], shards: int, read: Callable[..., Iterator[chunks.Chunk]], write: Callable[..., None]
) -> None:
    number, name = file
    write(number, shards, read(Path(name)))


def _write_shard(
    number: int,
    shards: int,
    given: Iterable[chunks.Chunk],
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
        for records, keys, columns_of in given:
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
