"""Lays out the taxi trips as a city would deliver them: a directory of CSV for each span, one after another in time."""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

from schemas.input_files import expand

TRIPS = "pkg://tfx/examples/chicago_taxi_pipeline/data/simple/*.csv"
SPANS = 10
TIME = "trip_start_timestamp"


def cut(directory: Path, first: int, last: int) -> list[Path]:
    """Write spans `first` to `last` of the ten that the trips are cut into: `<directory>/<span>/trips.csv`; gives the files.

    The trips are in order of time, a tenth of them in each span. A file appears whole or not at all, so that a pipeline that
    looks meanwhile never reads half of one. Raises ValueError for a span that is not among 1 to 10.
    """
    if not 1 <= first <= last <= SPANS:
        raise ValueError(f"spans {first} to {last}: there are 1 to {SPANS}")
    header, rows = _trips()
    written = []
    for span in range(first, last + 1):
        file = directory / str(span) / "trips.csv"
        file.parent.mkdir(parents=True, exist_ok=True)
        staged = file.with_name(".trips.csv")
        with staged.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow(header)
            writer.writerows(rows[len(rows) * (span - 1) // SPANS : len(rows) * span // SPANS])
        staged.replace(file)
        written.append(file)
    return written


def _trips() -> tuple[list[str], list[list[str]]]:
    """The columns and all 15,002 trips, in order of time."""
    (file,) = expand(TRIPS)
    with file.open(newline="", encoding="utf-8") as stream:
        header, *rows = csv.reader(stream)
    column = header.index(TIME)
    return header, sorted(rows, key=lambda row: int(row[column]))


def main() -> None:
    """`python -m configs.taxi_daily.cut 1 3` lays out the first three spans."""
    parser = argparse.ArgumentParser(description="Lay out the taxi trips by span, as data/taxi/<span>/trips.csv.")
    parser.add_argument("first", type=int, help=f"the first span, from 1 to {SPANS}")
    parser.add_argument("last", type=int, nargs="?", help="the last one; without it, the first is the only one")
    parser.add_argument("--directory", type=Path, default=Path("data/taxi"))
    asked = parser.parse_args()
    try:
        files = cut(asked.directory, asked.first, asked.last or asked.first)
    except ValueError as error:
        parser.error(str(error))
    for file in files:
        print(file)


if __name__ == "__main__":
    main()
