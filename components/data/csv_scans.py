"""CSV files -> scans: the types of their columns, and their cells in files that can be worked on anywhere, each file once."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from components.io import csv
from components.io.beam import pipeline, place
from components.io.workers import Packed
from schemas.component import BeamOptions

_SCAN = "scan.json"


@dataclass(frozen=True)
class CsvScans:
    """Scans of files of one `layout`, made by Beam, with the cells in directories below `to`."""

    layout: csv.Layout
    to: Path
    beam: BeamOptions
    _made: dict[Path, csv.Scan] = field(default_factory=dict)

    def of(self, files: Sequence[Path]) -> list[csv.Scan]:
        """The scan of each file. Those that were not asked for before are made now. Raises DataError as `csv.scan` does."""
        new = [file for file in files if file not in self._made]
        if new:
            self._make(new)
        return [self._made[file] for file in files]

    def _make(self, files: Sequence[Path]) -> None:
        import apache_beam

        numbered = {file: len(self._made) + number for number, file in enumerate(files)}
        with pipeline(self.beam, (self.to.parent, *files)) as running:
            # Several elements of a Create are spread over workers.
            places = running | "Files" >> apache_beam.Create(
                [(number, place(file, self.beam)) for file, number in numbered.items()]
            )
            _ = places | "Scan" >> apache_beam.Map(Packed(_scan), self.layout, self.to)
        for file, number in numbered.items():
            directory = self.to / f"{number:05d}"
            found = json.loads((directory / _SCAN).read_text(encoding="utf-8"))
            types = {name: csv.ColumnType(kind) for name, kind in found["types"].items()}
            self._made[file] = csv.Scan(types, found["rows"], tuple(directory / part for part in found["parts"]))


def _scan(file: tuple[int, str], layout: csv.Layout, to: Path) -> None:
    number, name = file
    directory = to / f"{number:05d}"
    directory.mkdir(parents=True, exist_ok=True)  # a worker may have died at it
    scan = csv.scan(Path(name), layout, directory)
    found = {"types": scan.types, "rows": scan.rows, "parts": [part.name for part in scan.parts]}
    (directory / _SCAN).write_text(json.dumps(found), encoding="utf-8")  # a worker has no other way to tell us
