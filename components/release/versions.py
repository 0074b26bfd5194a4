"""Versions: the numbered directories of a serving directory, and which number comes next."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

from components.io import saved_model
from components.io.serving_directory import LARGEST, number
from schemas.errors import StoreError

MODEL = saved_model.FILE  # what makes a version one that a server loads
HIGH_WATER = ".penstock-high-water"  # the largest number ever used here, also of versions removed since


def next_version(names: Iterable[str], high_water: int, now_s: int) -> int:
    """Seconds since the epoch, or one more than the largest number in use or ever used, whichever is larger.

    `names` are the serving directory's children. Raises StoreError when the numbers are used up.
    """
    used = max((value for value in map(number, names) if value is not None), default=0)
    version = max(now_s, used + 1, high_water + 1)
    if version > LARGEST:
        raise StoreError(
            f"no version number is left above {max(used, high_water)}: versions only grow and end at {LARGEST}. "
            f"Push to a new directory"
        )
    return version


def listed(directory: Path) -> list[int]:
    """The versions in `directory`, in order, whatever they hold; none when there is no such directory.

    Only names as we write them count: `01` and `+1` are left to whoever made them.
    """
    if not directory.is_dir():
        return []
    values = [(number(child.name), child.name) for child in directory.iterdir()]
    return sorted(value for value, name in values if value is not None and str(value) == name)


def served(directory: Path) -> Path | None:
    """The version directory with the largest number that holds a SavedModel; None when there is none."""
    paths = (directory / str(value) for value in reversed(listed(directory)))
    return next((path for path in paths if saved_model.exists(path)), None)


def read_high_water(directory: Path) -> int:
    """The largest number ever used in `directory`, 0 before the first. Raises StoreError when the file says something else."""
    file = directory / HIGH_WATER
    try:
        text = file.read_text(encoding="ascii", errors="replace").strip()
    except FileNotFoundError:
        return 0
    if not re.fullmatch(r"[0-9]+", text):
        raise StoreError(
            f"{file} should hold the largest version number ever used there and holds {text[:40]!r}. "
            f"Write that number into it; a number that was served before must not come back"
        )
    return int(text)


def write_high_water(directory: Path, version: int) -> None:
    """Remember `version`, so that it survives a crash at any moment. To be called while nobody else pushes."""
    temporary = directory / f"{HIGH_WATER}.new"
    with temporary.open("w", encoding="ascii") as file:
        file.write(f"{version}\n")
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(directory / HIGH_WATER)
