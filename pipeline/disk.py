"""Files and directories on a disk that may be full or read-only: written whole, brought to the disk, with errors that say where."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
import re
import secrets
import shutil
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from schemas.errors import StoreError


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise store_error(error, path) from error


def _free(path: Path) -> str:
    for existing in (path, *path.parents):
        with contextlib.suppress(OSError):
            return f"{shutil.disk_usage(existing).free:,} bytes are free there"
    return "free space unknown"


def store_error(error: OSError, path: Path) -> StoreError:
    """What to tell the person at the terminal when `path` cannot be written: the cause, the free space, what to do."""
    advice = {
        errno.ENOSPC: "Free some space (`pipeline gc` says what it could remove) or choose another --root",
        errno.EDQUOT: "Free some of your quota (`pipeline gc` says what it could remove) or choose another --root",
        errno.EFBIG: "Raise the limit on the size of a file (`ulimit -f`) or choose another --root",
        errno.EACCES: "Make it writable for this user or choose another --root",
        errno.EPERM: "Make it writable for this user or choose another --root",
        errno.EROFS: "The file system is mounted read-only: choose another --root",
        errno.ENOTDIR: "A file is where a directory should be: move it away or choose another --root",
        errno.EEXIST: "A file is where a directory should be: move it away or choose another --root",
        errno.ENOLCK: "The file system has no file locks: choose a --root on another one",
    }.get(error.errno or 0, "Look at the disk, or choose another --root")
    name = errno.errorcode.get(error.errno or 0, "unknown error")
    return StoreError(f"cannot write {path}: {error.strerror} ({name}; {_free(path)}). {advice}.")


# Where another machine may write too, as /proc/self/mountinfo calls them; whatever is mounted by FUSE may be such a one.
_SHARED = {
    "nfs",
    "nfs4",
    "cifs",
    "smb3",
    "smbfs",
    "ceph",
    "glusterfs",
    "lustre",
    "gpfs",
    "beegfs",
    "9p",
    "afs",
    "ocfs2",
    "gfs2",
}


def is_shared(path: Path, mounts: Path = Path("/proc/self/mountinfo")) -> bool:
    """Whether other machines may write where `path` is. False where the system does not say."""
    try:
        lines = mounts.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return False
    found, longest = "", -1
    for line in lines:
        # 36 35 98:0 /root /mnt/point rw,noatime master:1 - nfs4 server:/export rw
        before, _, after = line.partition(" - ")
        place = Path(re.sub(r"\\(\d{3})", lambda code: chr(int(code[1], 8)), before.split()[4]))
        if path.absolute().is_relative_to(place) and len(place.parts) >= longest:  # a later mount hides an earlier one
            found, longest = after.split()[0], len(place.parts)
    return found in _SHARED or found.startswith("fuse.")


def is_disk_full(error: BaseException) -> bool:
    """Whether an exception of any step, or of an engine under it, says that the disk or the quota is full."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    return any(os.strerror(code) in str(error) for code in (errno.ENOSPC, errno.EDQUOT))  # TensorFlow's have no errno


def directories(parent: Path) -> list[Path]:
    try:
        return sorted(p for p in parent.iterdir() if p.is_dir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def bytes_freed(directories: Iterable[Path]) -> list[int]:
    """How many bytes removing each directory frees, once those before it are removed: a file with its last name."""
    names: Counter[tuple[int, int]] = Counter()
    freed = []
    for directory in directories:
        total = 0
        for parent, _, files in os.walk(directory):
            for name in files:
                with contextlib.suppress(FileNotFoundError):  # its owner may be at work
                    found = (Path(parent) / name).lstat()
                    names[found.st_dev, found.st_ino] += 1
                    if names[found.st_dev, found.st_ino] == found.st_nlink:
                        total += found.st_size
        freed.append(total)
    return freed


def silent_s(directory: Path) -> float:
    """For how many seconds nothing was written in a directory or below it."""
    newest = 0.0
    for parent, _, files in os.walk(directory):
        for path in (Path(parent), *(Path(parent) / name for name in files)):
            with contextlib.suppress(FileNotFoundError):  # its owner may be at work
                newest = max(newest, path.lstat().st_mtime)
    return time.time() - newest


def write_atomically(path: Path, record: Mapping[str, Any]) -> None:
    new = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with new.open("w", encoding="utf-8") as file:
            json.dump(record, file, indent=1, sort_keys=True)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise
    fsync_directory(path.parent)


def rename_whole(staged: Path, target: Path, *, replace: bool = False) -> bool:
    """Rename a directory to where readers look; whether it is ours that is there now.

    What is there already stays, and ours where it is, unless it is to be replaced: then that is left beside `staged`.
    """
    try:
        staged.rename(target)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        if not replace:
            return False
    else:
        return True
    if not exchange(staged, target):
        # Without an atomic exchange there is an instant in which the key is not found. Who looks then makes it again, and
        # a kill in that instant costs the rebuild and nothing else: the old one was to be replaced anyway.
        with contextlib.suppress(FileNotFoundError):
            target.rename(staged.parent / f"replaced-{secrets.token_hex(4)}")
        staged.rename(target)
    return True


def exchange(one: Path, other: Path) -> bool:
    """Exchange two directories atomically (Linux renameat2); False where system or file system cannot."""
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if renameat2 is None:
        return False
    at_cwd, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    if renameat2(at_cwd, os.fsencode(one), at_cwd, os.fsencode(other), exchange) == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.ENOENT):
        return False
    raise OSError(code, os.strerror(code), str(other))


def fsync_tree(directory: Path) -> None:
    """Bring a directory with all that is in it to the disk, the content before the names."""
    with os.scandir(directory) as found:
        for entry in found:
            if entry.is_dir(follow_symlinks=False):
                fsync_tree(Path(entry.path))
            elif entry.is_file(follow_symlinks=False):
                _fsync(entry.path, os.O_RDONLY)
    fsync_directory(directory)


def fsync_directory(directory: Path) -> None:
    _fsync(str(directory), os.O_RDONLY | os.O_DIRECTORY)


def _fsync(path: str, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_tree(directory: Path) -> None:
    with writing(directory), contextlib.suppress(FileNotFoundError):
        shutil.rmtree(directory)
