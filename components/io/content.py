"""Names that content gives: the digest of a file, and of values, as names of parts have it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any


def digest(file: Path) -> str:
    """sha256 of a file's content, read in pieces: 64 hexadecimal digits."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def name(*values: Any) -> str:
    """sha256 of JSON data: 64 hexadecimal digits, equal for equal values. A mapping's order does not count."""
    text = json.dumps(values, sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
