"""Attempts: what `pipeline trigger` has tried to make of which data, kept in <root>/triggers/<pipeline>.json."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pipeline import disk
from schemas.errors import StoreError

FORMAT = 1
_KEPT = 200  # attempts at other data; the oldest are forgotten


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """The last run of what a digest stands for, and how often it failed in a row."""

    outcome: str  # of the run: done, nothing new, skipped, refused or failed
    run: str  # empty where it failed before it had an id
    at: str  # when it ended: ISO 8601, UTC
    reason: str = ""
    newest: str = ""  # 'span 41'; empty where the sources have no spans
    failures: int = 0
    served: Mapping[str, int] = field(default_factory=dict)  # publishing step: the version that served afterwards


@dataclass(frozen=True, kw_only=True)
class Attempts:
    """What is remembered of one pipeline. It is changed only by who holds the lock of the pipeline's triggers."""

    by_digest: Mapping[str, Attempt] = field(default_factory=dict)  # oldest first

    @classmethod
    def read(cls, path: Path) -> Attempts:
        """What a file holds; nothing when there is none. Raises StoreError for one that cannot be read."""
        try:
            found = json.loads(path.read_bytes())
            if found["format"] > FORMAT:
                raise ValueError(f"its format is {found['format']}, of a newer Penstock")
            return cls(by_digest={digest: Attempt(**attempt) for digest, attempt in found["attempts"]})
        except FileNotFoundError:
            return cls()
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise StoreError(
                f"{path}: cannot be read: {error}. It says what was tried already: remove it, and that is tried again"
            ) from error

    def write(self, path: Path) -> None:
        """Write the file whole: a reader finds the one before or this one. Raises StoreError."""
        _write(
            path,
            {"format": FORMAT, "attempts": [[digest, asdict(attempt)] for digest, attempt in self.by_digest.items()]},
        )

    def with_attempt(self, digest: str, attempt: Attempt) -> Attempts:
        """With one more attempt, the newest; it takes the place of an earlier one at the same."""
        others = [(other, known) for other, known in self.by_digest.items() if other != digest]
        return Attempts(by_digest=dict([*others[1 - _KEPT :], (digest, attempt)]))


def tell_once(path: Path, error: str) -> bool:
    """Whether `error` is another one than the last that was noted in a file; it is noted then. Raises StoreError."""
    digest = hashlib.sha256(error.encode()).hexdigest()
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        if json.loads(path.read_bytes())["error"] == digest:
            return False
    _write(path, {"error": digest})
    return True


def _write(path: Path, record: Mapping[str, Any]) -> None:
    with disk.writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        disk.write_atomically(path, record)
