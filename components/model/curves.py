"""Learning curves: what each validation found, as the rows of a CSV file."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

FIRST = ("step", "epoch", "learning_rate")


def write_curves(rows: Sequence[Mapping[str, float]], file: Path) -> None:
    """One row per validation, its columns in the order of their first appearance after step, epoch and learning rate.

    Floats have all their digits, so that equal curves are equal bytes. Without a row there are the first columns alone.
    """
    columns = list(dict.fromkeys([*FIRST, *(name for row in rows for name in row)]))
    with file.open("w", encoding="utf-8", newline="") as opened:
        writer = csv.DictWriter(opened, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
