"""Files -> Examples: the records of CSV, Parquet or TFRecord files as tf.Examples, split by hash."""

from __future__ import annotations

import functools
import json
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from components.data import chunks
from components.data import splits as hash_split
from components.data.csv_scans import CsvScans
from components.data.shards import ShardWriter
from components.data.span_parts import SpanShards, by_span, check_scanned, shards_of, types_of
from components.io import csv, parquet
from components.io.beam import RowCount, pipeline, place
from components.io.workers import Packed
from schemas import spans as source_spans
from schemas.artifacts import Examples
from schemas.component import BeamOptions, ChoosesFiles, InputFiles, Out, PartCache, PlannedFiles, Progress
from schemas.errors import ConfigError, DataError, did_you_mean
from schemas.input_files import FoundFile, expand

FORMATS = ("csv", "parquet", "tfrecord")

_NOTHING_PLANNED = PlannedFiles()  # who calls `run` from Python need not plan
_NO_PARTS = PartCache()


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

    Where the source has spans, the newest version of each span in the window is read, and a shard holds records of one span.
    What was made of a span is kept, and made again only when its files, these settings or the type of a column change.
    """

    LEAST_MEMORY: ClassVar[int] = 500_000_000  # bytes

    source: InputFiles  # a file, a glob, or pkg://package/path; with {SPAN} or {YYYY}, {MM}, {DD}, and {VERSION}, it has spans
    window: ChoosesFiles[int] = 1  # spans: the newest and those just before it, by number
    last_span: ChoosesFiles[int | str | None] = None  # a number, or 2026-07-31; None or newest: the newest there is
    missing_spans: ChoosesFiles[str] = "fail"  # or skip: spans of the window that are not there are left out
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
        problems += self._span_problems()
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

    def _span_problems(self) -> list[str]:
        problems = [f"source: {problem}" for problem in source_spans.problems(self.source)]
        if self.window < 1:
            problems.append(f"window: {self.window} spans cannot be read: give 1 or more")
        if self.missing_spans not in source_spans.MISSING:
            problems.append(
                f"missing_spans: '{self.missing_spans}' is not one of {', '.join(source_spans.MISSING)}."
                + did_you_mean(self.missing_spans, source_spans.MISSING)
            )
        if not source_spans.has_span(self.source):
            given = {
                "window": self.window != 1,
                "last_span": self.last_span is not None,
                "missing_spans": self.missing_spans != "fail",
            }
            problems += [
                f"{name}: the source has no spans: put {{SPAN}}, or {{YYYY}}, {{MM}} and {{DD}}, where its number or date stands"
                for name, is_set in given.items()
                if is_set
            ]
        elif self.last_span not in (None, source_spans.NEWEST) and not source_spans.problems(self.source):
            try:
                source_spans.span_number(self.source, self.last_span)
            except ConfigError as error:
                problems += [f"last_span: {problem}" for problem in error.problems]
        return problems

    def select_files(self) -> dict[str, list[FoundFile]]:
        """The files that a run begun now would read: all that match, or those of the window's spans. Raises DataError."""
        if not source_spans.has_span(self.source):
            return {"source": [FoundFile(file) for file in expand(self.source)]}
        chosen = source_spans.select(self.source, self.window, self.last_span, self.missing_spans)
        return {"source": [file for span in chosen for file in span.found()]}

    def run(
        self,
        beam: BeamOptions,
        progress: Progress,
        examples: Out[Examples],
        files: PlannedFiles = _NOTHING_PLANNED,
        parts: PartCache = _NO_PARTS,
    ) -> None:
        """Write every input file as one shard of every split, in the order of the file's rows; CSV of more than 64 MB as several.

        The files are those that were planned, in whatever state the source is by now. What the records hold is also kept as columns, unless the records of a TFRecord file do not agree on a feature's kind.

        Raises DataError for files that do not exist, do not fit together or cannot be read, and when there is not one row.
        """
        spans = by_span(files.by_setting.get("source") or self.select_files()["source"])
        format_ = self._checked_format([file for span in spans for file in span.files])
        weights = hash_split.in_order(self.splits)
        for split in weights:
            examples.split_path(split).mkdir(parents=True, exist_ok=True)
            examples.columns_path(split).mkdir(parents=True, exist_ok=True)
        counts, parsed = examples.path / ".records", examples.path / ".parsed"
        counts.mkdir()
        scans, types = CsvScans(self._layout, parsed, beam), {}
        sizes = [len(span.files) for span in spans]
        if format_ == "csv":
            # Types hang on every cell of every file, so all are known before the first record is made.
            found = types_of(spans, scans, parts)
            types = csv.merged(file.types for files_found in found for file in files_found)
            sizes = [sum(file.shards for file in files_found) for files_found in found]
        shards = shards_of(spans, sizes, self._made_with(format_, weights, types))
        with RowCount(progress) as rows:
            writer = ShardWriter(examples, weights, counts, rows)
            new = [span for span in shards if not span.find(parts, writer)]
            if format_ == "csv":
                scans.of([file for span in new for file in span.span.files])  # of all of them at once
                for span in new:
                    check_scanned(span.span, found[spans.index(span.span)], scans)
            self._write(new, format_, types, scans, writer)
        for span in new:
            span.keep(parts, writer)
        shutil.rmtree(parsed, ignore_errors=True)
        examples.properties["records"] = self._counted(counts, weights)
        examples.properties["columns"] = self._kept_columns(examples, weights)
        if any(span.number is not None for span in spans):
            examples.properties["spans"] = [shard.as_json() for shard in shards]
            held = [{"span": shard.span.number, "shards": [shard.first, shard.first + shard.count]} for shard in shards]
            (examples.path / Examples.SPANS).write_text(json.dumps(held) + "\n", encoding="utf-8")

    def _write(
        self,
        new: Sequence[SpanShards],
        format_: str,
        types: Mapping[str, csv.ColumnType],
        scans: CsvScans,
        writer: ShardWriter,
    ) -> None:
        """Write the shards of the spans `new`, each of a file, or in CSV of a part of a file's scan."""
        import apache_beam

        files = [file for shards in new for file in shards.span.files]
        given: list[tuple[Any, ...]] = [(place(file, scans.beam),) for file in files]
        read: Callable[..., Iterator[chunks.Chunk]]
        if format_ == "csv":
            read = functools.partial(chunks.of_csv, split_by=self.split_by, drop=self.drop_columns)
            given = [
                (*file, part, types) for file, scan in zip(given, scans.of(files), strict=True) for part in scan.parts
            ]
        elif format_ == "parquet":
            read = functools.partial(chunks.of_parquet, split_by=self.split_by, drop=self.drop_columns)
        else:
            read = functools.partial(chunks.of_tfrecord, split_by=self.split_by)
        numbers = [(number, shards.of) for shards in new for number in shards.numbers]
        elements = list(zip(numbers, given, strict=True))
        if elements:
            with pipeline(scans.beam, (writer.examples.path, *files)) as running:
                # Several elements of a Create are spread over workers.
                parts = running | "Parts" >> apache_beam.Create(elements)
                _ = parts | "Write" >> apache_beam.Map(Packed(_write_shard), read=read, writer=writer)

    @property
    def _layout(self) -> csv.Layout:
        return csv.Layout(self.skip_rows, self.columns)

    def _checked_format(self, files: list[Path]) -> str:
        """The format of the files, which have the columns that they need; raises ConfigError and DataError."""
        found = self.format or _one_format(files)
        problems = self._settings_of_other_formats(found)
        if problems:
            raise ConfigError(*problems)
        if found == "csv":
            self._check_columns({file: dict.fromkeys(csv.header(file, self._layout), "missing") for file in files})
        elif found == "parquet":
            self._check_columns({file: parquet.kinds(file) for file in files})
        return found

    def _made_with(
        self, format_: str, weights: Mapping[str, int], types: Mapping[str, csv.ColumnType]
    ) -> dict[str, Any]:
        """Everything that a file's records hang on, but for the file. JSON data."""
        return {
            "format": format_,
            "splits": list(weights.items()),
            "split_by": self.split_by,
            "drop_columns": sorted(self.drop_columns),
            "layout": [self.skip_rows, self.columns],
            # A dropped column's type is nothing to the records.
            "types": {
                name: kind for name, kind in types.items() if name not in self.drop_columns or name == self.split_by
            },
        }

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


def _write_shard(
    shard: tuple[tuple[int, int], tuple[Any, ...]], read: Callable[..., Iterator[chunks.Chunk]], writer: ShardWriter
) -> None:
    (number, of), (file, *part) = shard
    writer.write(number, of, read(Path(file), *part))
