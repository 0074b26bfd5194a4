"""What is made of a span's files, kept and found again: the types of their columns, and their shards."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.data.csv_scans import CsvScans
from components.data.shards import ShardWriter, columns_path, records_path
from components.io import csv
from components.io.content import digest
from components.io.content import name as name_of
from components.io.links import link
from schemas.component import InputFile, PartCache
from schemas.errors import DataError
from schemas.input_files import FoundFile

_TYPES = "types.json"
_RECORDS = "records.json"


@dataclass(frozen=True)
class SpanFiles:
    """The files of one span that are read; or all files of a source that has none, then `number` and `label` are None.

    `digests` are those of the files, None where nobody counted them: then nothing is kept, and nothing found.
    """

    files: tuple[Path, ...]
    number: int | None = None
    version: int | None = None
    label: str | None = None
    digests: tuple[str, ...] | None = None

    def is_kept(self) -> bool:
        """Whether what was just made of the files may be kept: they still are what their digests say, which a part is found by."""
        if not self.digests:
            return False
        now = tuple(f"sha256:{digest(file)}" if file.is_file() else None for file in self.files)
        return now == self.digests


def by_span(files: Iterable[InputFile | FoundFile]) -> list[SpanFiles]:
    """The files of each span, in the order given; one without a number where the source has no spans."""
    spans: dict[int | None, list[InputFile | FoundFile]] = {}
    for file in files:
        spans.setdefault(file.span, []).append(file)
    return [
        SpanFiles(
            tuple(file.path for file in found),
            number,
            found[0].version,
            found[0].label,
            tuple(file.digest for file in found if isinstance(file, InputFile))
            if number is not None and isinstance(found[0], InputFile)
            else None,
        )
        for number, found in spans.items()
    ]


@dataclass(frozen=True)
class FileTypes:
    """What a scan of a CSV file found, without its cells: the types of its columns, and how many shards it makes."""

    types: Mapping[str, csv.ColumnType]
    shards: int


def types_of(spans: Sequence[SpanFiles], scans: CsvScans, parts: PartCache) -> list[list[FileTypes]]:
    """What a scan finds in every file of each span: what was kept, or what is scanned now, and then kept."""
    found = [_find_types(parts, span, scans.layout) for span in spans]
    new = [span for span, kept in zip(spans, found, strict=True) if kept is None]
    scans.of([file for span in new for file in span.files])  # of all of them at once
    for span in new:
        scanned = [FileTypes(scan.types, len(scan.parts)) for scan in scans.of(span.files)]
        _keep_types(parts, span, scans.layout, scanned)
        found[spans.index(span)] = scanned
    return [kept for kept in found if kept is not None]


def check_scanned(span: SpanFiles, known: Sequence[FileTypes], scans: CsvScans) -> None:
    """Raise DataError where a scan finds something else in a file of `span` than what is known of it: what was kept of that file."""
    for file, before, scan in zip(span.files, known, scans.of(span.files), strict=True):
        if FileTypes(scan.types, len(scan.parts)) != before:
            raise DataError(
                f"{file}: it changed while it was read, after this run was planned. Run again once it is written whole; to replace "
                f"a file that runs read, write the new one beside it and rename it"
            )


def _find_types(parts: PartCache, span: SpanFiles, layout: csv.Layout) -> list[FileTypes] | None:
    found = parts.find(_types_name(span, layout)) if span.digests else None
    if found is None:
        return None
    return [
        FileTypes({name: csv.ColumnType(kind) for name, kind in file["types"].items()}, file["shards"])
        for file in json.loads((found / _TYPES).read_text(encoding="utf-8"))
    ]


def _keep_types(parts: PartCache, span: SpanFiles, layout: csv.Layout, found: Sequence[FileTypes]) -> None:
    if span.is_kept():
        with parts.keep(_types_name(span, layout)) as directory:
            (directory / _TYPES).write_text(
                json.dumps([{"types": file.types, "shards": file.shards} for file in found]), encoding="utf-8"
            )


def _types_name(span: SpanFiles, layout: csv.Layout) -> str:
    return name_of("types", layout.skip_rows, layout.columns, span.digests)


@dataclass(frozen=True)
class SpanShards:
    """The shards of one span. What they hold hangs on its files, on the settings in `made_with`, and on nothing else."""

    span: SpanFiles
    first: int  # number of its first shard in the whole source
    count: int
    of: int  # shards of the whole source
    made_with: Mapping[str, Any]  # JSON data

    @property
    def numbers(self) -> range:
        """Of its shards, in the whole source."""
        return range(self.first, self.first + self.count)

    def as_json(self) -> dict[str, Any]:
        """What the artifact says of the span: see Examples."""
        shards = [self.first, self.first + self.count]
        return {"span": self.span.number, "version": self.span.version, "label": self.span.label, "shards": shards}

    def find(self, parts: PartCache, writer: ShardWriter) -> bool:
        """Put the shards that were kept where `writer` would write them; whether there were any."""
        found = parts.find(self._name) if self.span.digests else None
        if found is None:
            return False
        for name, path in self._files(writer):
            if (found / name).exists():  # a shard may be without columns
                link(found / name, path)
        held = json.loads((found / _RECORDS).read_text(encoding="utf-8"))
        for number, records in zip(self.numbers, held, strict=True):
            writer.note(number, records)
            writer.rows(sum(records.values()))
        return True

    def keep(self, parts: PartCache, writer: ShardWriter) -> None:
        """Keep the shards that `writer` wrote."""
        if not self.span.is_kept():
            return
        with parts.keep(self._name) as directory:
            for name, path in self._files(writer):
                (directory / name).parent.mkdir(exist_ok=True)
                if path.exists():
                    link(path, directory / name)
            held = [writer.noted(number) for number in self.numbers]
            (directory / _RECORDS).write_text(json.dumps(held), encoding="utf-8")

    @property
    def _name(self) -> str:
        return name_of("shards", self.made_with, self.span.digests)

    def _files(self, writer: ShardWriter) -> Iterator[tuple[str, Path]]:
        """Every file that there may be: its name in the part, and its place in the artifact."""
        for split in writer.weights:
            for within, number in enumerate(self.numbers):
                yield f"{split}/{within:05d}.gz", records_path(writer.examples, split, number, self.of)
                yield f"{split}/{within:05d}.parquet", columns_path(writer.examples, split, number, self.of)


def shards_of(spans: Sequence[SpanFiles], counts: Sequence[int], made_with: Mapping[str, Any]) -> list[SpanShards]:
    """The shards of each span, numbered over all of them. `counts` says how many each has."""
    starts = [0, *itertools.accumulate(counts)]
    return [
        SpanShards(span, start, count, starts[-1], made_with)
        for span, start, count in zip(spans, starts, counts, strict=False)
    ]
