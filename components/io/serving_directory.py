"""Serving directories: one directory per version of a model, each named by its number, as TensorFlow Serving reads them."""

from __future__ import annotations

import re
from pathlib import Path

LARGEST = 2**63 - 1  # TensorFlow Serving keeps versions in an int64


def number(name: str) -> int | None:
    """The version that TensorFlow Serving reads in a directory's name; None for the names it passes over.

    It is generous: `01` is version 1, and clashes with `1`.
    """
    if not re.fullmatch(r"\s*\+?[0-9]+\s*", name, re.ASCII):
        return None
    value = int(name)
    return value if value <= LARGEST else None


def versions(directory: Path) -> dict[int, Path]:
    """The version directories in `directory` by number, smallest first, whatever is in them.

    Where two names are one number, `1` and `01`, the name without zeros wins. Raises OSError when `directory` is not there.
    """
    found: dict[int, Path] = {}
    for child in sorted(directory.iterdir(), key=lambda path: (len(path.name), path.name)):
        version = number(child.name)
        if version is not None and version not in found and child.is_dir():
            found[version] = child
    return dict(sorted(found.items()))
