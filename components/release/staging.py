"""Staging: a directory that is filled out of sight, on disk to the last byte, and appears by one rename."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import hashlib
import os
import shutil
import uuid
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NoReturn

from schemas.errors import ArtifactError

LOCK = ".penstock-lock"
PREFIX = ".penstock-pushing-"  # hidden and not a number: TensorFlow Serving passes over it
REMOVING = ".penstock-removing-"  # a version on its way out
_OWNER = "owner"  # locked by the pusher for as long as it lives
_CHUNK = 1 << 20
_RENAME_NOREPLACE = 1
_AT_FDCWD = -100


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Be the only pusher at work in `directory`, waiting for the others. A lock ends with its process."""
    with (directory / LOCK).open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield  # closing the file gives the lock back


@contextlib.contextmanager
def staged(directory: Path) -> Iterator[Path]:
    """A path beside the published directories, on the same filesystem, to make a directory at and rename it from.

    What is left there at the end is removed; what a killed process left is removed by the next one that stages.
    """
    with contextlib.ExitStack() as exits:
        # Under the lock, so that nobody meets a staging directory whose owner has not locked it yet.
        with locked(directory):
            _remove_abandoned(directory)
            own = directory / f"{PREFIX}{uuid.uuid4().hex}"
            own.mkdir()
            exits.callback(shutil.rmtree, own, ignore_errors=True)
            owner = exits.enter_context((own / _OWNER).open("a"))
            fcntl.flock(owner, fcntl.LOCK_EX)
        yield own / "version"


def copy(source: Path, target: Path, leave_out: Collection[str] = ()) -> dict[str, str]:
    """Copy a directory, sync every file, read each back; gives the sha256 of every file by its relative path.

    What a symbolic link points at is copied in its place, and modes are those of new files: the server is another user.
    `leave_out` are relative paths of files not to copy. Raises ArtifactError when a file cannot be read or its copy
    differs, OSError when `target` cannot be written.
    """
    digests: dict[str, str] = {}
    for parent, directories, files in os.walk(source, onerror=_unreadable, followlinks=True):
        directories.sort()
        relative = Path(parent).relative_to(source)
        (target / relative).mkdir()
        for name in sorted(files):
            path = (relative / name).as_posix()
            if path in leave_out:
                continue
            digests[path] = _copy_file(source / path, target / path)
            with (target / path).open("rb") as copied:
                if hashlib.file_digest(copied, "sha256").hexdigest() != digests[path]:
                    raise ArtifactError(f"{target / path} differs from {source / path} after copying. Check the disk")
    return digests


def write(file: Path, content: bytes) -> str:
    """Write a new file, its directories too, and sync it; gives its sha256. Raises OSError."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("xb") as written:
        written.write(content)
        written.flush()
        os.fsync(written.fileno())
    return hashlib.sha256(content).hexdigest()


def sync(directory: Path) -> None:
    """Bring the names in `directory` and in every directory below it to disk, the deepest first."""
    for parent, _, _ in os.walk(directory, topdown=False):
        sync_names(Path(parent))


def sync_names(directory: Path) -> None:
    """Bring the names in one directory to disk: files made, renamed and removed."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_file(file: Path) -> None:
    """Bring a file's content to disk."""
    with file.open("rb") as opened:
        os.fsync(opened.fileno())


def rename_new(source: Path, target: Path) -> None:
    """Rename a directory in one step. Raises FileExistsError when there is anything at `target`, even an empty directory.

    A plain rename would silently take an empty directory's place, which another tool may just have made to fill.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if hasattr(libc, "renameat2"):
        arguments = (_AT_FDCWD, os.fsencode(source), _AT_FDCWD, os.fsencode(target), _RENAME_NOREPLACE)
        if libc.renameat2(*arguments) == 0:
            return
        number = ctypes.get_errno()
        if number not in (errno.EINVAL, errno.ENOSYS):  # those two: this filesystem or kernel does not have it
            raise OSError(number, os.strerror(number), str(target))
    if os.path.lexists(target):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
    source.rename(target)


def _copy_file(source: Path, target: Path) -> str:
    digest = hashlib.sha256()
    try:
        opened = source.open("rb")
    except OSError as error:
        _unreadable(error)
    with opened, target.open("xb") as written:
        while True:
            try:
                chunk = opened.read(_CHUNK)
            except OSError as error:
                _unreadable(error)
            if not chunk:
                break
            digest.update(chunk)
            written.write(chunk)
        written.flush()
        os.fsync(written.fileno())
    return digest.hexdigest()


def _unreadable(error: OSError) -> NoReturn:
    raise ArtifactError(f"{error.filename}: the model cannot be read ({error.strerror}). Train it again") from error


def _remove_abandoned(directory: Path) -> None:
    """Remove what pushers that are provably dead left behind. To be called with the lock held."""
    for removing in directory.glob(f"{REMOVING}*"):
        shutil.rmtree(removing, ignore_errors=True)  # versions are removed with the lock held: its pusher is dead
    for left in directory.glob(f"{PREFIX}*"):
        try:
            owner = (left / _OWNER).open("a" if left.is_dir() else "r")
        except OSError:
            continue
        with owner:
            try:
                fcntl.flock(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue  # its pusher is alive
            shutil.rmtree(left, ignore_errors=True)
