"""Digests of input files, remembered under a root for as long as the file system says that a file is as it was."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import time
from collections.abc import Callable
from pathlib import Path

LEAST_BYTES = 256 * 1024  # a smaller file is read as quickly as what is remembered of it
SETTLED_S = (
    2.0  # a file that changed less than this before it was read may change again within the same tick of its clock
)

_AREA = "digests"


class RememberedDigests:
    """The sha256 of files: read, or remembered from when the very file was read before.

    A file is the same for as long as its path, inode, size, and the times of its last modification and of its last change are.
    The last is the kernel's own: nobody can set it, so a file that was written to and given its old modification time is
    another one. As git does, what changed shortly before it was read is not remembered: at the next change within the
    same tick of the file system's clock it would look the same. The file is opened before it is looked at, so that NFS asks
    its server.

        <root>/digests/<sha256 of the path>    {"path", "file", "sha256"}, one for each file of 256 KiB or more

    Under a root that is not there yet, or that cannot be written, nothing is remembered, and nothing else goes wrong.
    """

    def __init__(self, root: Path, now: Callable[[], float] = time.time) -> None:
        self._directory = root / _AREA
        self._now = now

    def __call__(self, file: Path) -> str:
        """'sha256:<hex>' of the file's content. Raises OSError when it cannot be read."""
        with file.open("rb") as opened:
            begun = self._now()
            found = _state(opened.fileno())
            place = self._directory / hashlib.sha256(os.fsencode(file.absolute())).hexdigest()
            worth_it = found["bytes"] >= LEAST_BYTES
            if worth_it and (digest := _remembered(place, found)) is not None:
                return digest
            digest = "sha256:" + hashlib.file_digest(opened, "sha256").hexdigest()
            settled = begun - max(found["modified_ns"], found["changed_ns"]) / 1e9 >= SETTLED_S
            if worth_it and settled and found == _state(opened.fileno()):
                _remember(place, {"path": str(file.absolute()), "file": found, "sha256": digest})
        return digest


def forget_lost(root: Path) -> None:
    """Remove what is remembered of files that are not there any more."""
    with contextlib.suppress(OSError):
        for place in (root / _AREA).iterdir():
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                if not Path(json.loads(place.read_bytes())["path"]).exists():
                    place.unlink()


def _state(descriptor: int) -> dict[str, int]:
    found = os.fstat(descriptor)
    return {
        "inode": found.st_ino,
        "bytes": found.st_size,
        "modified_ns": found.st_mtime_ns,
        "changed_ns": found.st_ctime_ns,
    }


def _remembered(place: Path, state: dict[str, int]) -> str | None:
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        entry = json.loads(place.read_bytes())
        if entry["file"] == state:
            return str(entry["sha256"])
    return None


def _remember(place: Path, entry: dict[str, object]) -> None:
    if not place.parent.is_dir():
        return
    new = place.with_name(f".{place.name}.{secrets.token_hex(4)}")
    with contextlib.suppress(OSError):  # the next one reads the file again
        try:
            # Not brought to the disk: what a failure of the power takes away is no entry any more.
            new.write_text(json.dumps(entry) + "\n", encoding="utf-8")
            new.replace(place)
        except OSError:
            new.unlink(missing_ok=True)
