"""A step's process -> a directory for its temporary files, which whoever started the process removes when it has ended.

    $TMPDIR/penstock-<random>/
      owner.json    whoever removes it; locked for as long as that process lives
      ...           what the step and its libraries put there

TensorFlow, Beam and TFX make temporary files that they would remove when the interpreter shuts down. A process that ends by
os._exit or is killed does not get there.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline import staging
from schemas.errors import StoreError
from schemas.owner import Owner

_PREFIX = "penstock-"  # short: a socket's path has at most 107 bytes
_ATTEMPTS = 3  # at removing a directory


@contextlib.contextmanager
def directory() -> Iterator[Path]:
    """A new directory below the system's for temporary files (TMPDIR), removed with all that is in it when the block ends.

    What cannot be removed then, and what a killed process leaves, `remove_dead` removes. Raises StoreError where none can be made.
    """
    path, lock = _made()
    pid = os.getpid()
    try:
        yield path
    finally:
        if os.getpid() == pid:  # a forked child that leaves its parent's block removes nothing
            with contextlib.suppress(OSError):
                # Under another name, so that what outlives the step finds it no more. What it was just about to make is there after
                # the first attempt.
                ended = path.rename(path.with_name(f"{path.name}-ended"))
                for _ in range(_ATTEMPTS):
                    with contextlib.suppress(StoreError):
                        staging.remove(ended)
                        break
            os.close(lock)


def environment(place: Path) -> dict[str, str]:
    """The variables with which a process that is started has its temporary files in `place`."""
    return {
        "TMPDIR": str(place),
        # TensorFlow Hub keeps what it has downloaded among the temporary files, for every later process.
        "TFHUB_CACHE_DIR": os.environ.get("TFHUB_CACHE_DIR") or str(Path(tempfile.gettempdir()) / "tfhub_modules"),
    }


def put_into(place: Path) -> None:
    """From here on, this process and those that it starts have their temporary files in `place`."""
    os.environ.update(environment(place))
    tempfile.tempdir = str(place)  # remembered since it was first asked for, by the process this was forked from too
    _multiprocessing()["tempdir"] = str(place)  # where its sockets are


@contextlib.contextmanager
def own_directory() -> Iterator[Path]:
    """A block in which this process has a directory of its own for its temporary files. Raises StoreError where none can be made."""
    before = {name: os.environ.get(name) for name in ("TMPDIR", "TFHUB_CACHE_DIR")}
    remembered, sockets = tempfile.tempdir, _multiprocessing().get("tempdir")
    with directory() as place:
        put_into(place)
        try:
            yield place
        finally:
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)  # the step may have done so itself
                else:
                    os.environ[name] = value
            tempfile.tempdir = remembered
            _multiprocessing()["tempdir"] = sockets


@contextlib.contextmanager
def sockets_in(place: Path) -> Iterator[None]:
    """A block in which multiprocessing makes its sockets in `place`. Raises StoreError where that is too long for one."""
    before = _multiprocessing().get("tempdir")
    _multiprocessing()["tempdir"] = str(place)
    try:
        yield
    except OSError as error:
        if "path too long" not in str(error):
            raise
        raise StoreError(
            f"TMPDIR: {place.parent} is too long: a socket's path has at most 107 bytes. Set TMPDIR to a shorter one"
        ) from error
    finally:
        _multiprocessing()["tempdir"] = before


def remove_dead() -> list[Path]:
    """Remove what killed processes of this user left in the system's directory for temporary files; gives the directories."""
    removed = []
    with contextlib.suppress(FileNotFoundError):
        for path in sorted(Path(tempfile.gettempdir()).glob(f"{_PREFIX}*")):
            if _is_own(path):
                with staging.is_dead(path) as dead, contextlib.suppress(StoreError):
                    if dead:
                        staging.remove(path)
                        removed.append(path)
    return removed


def _made() -> tuple[Path, int]:
    try:
        while True:
            path = Path(tempfile.mkdtemp(prefix=_PREFIX))
            try:
                lock = staging.claim(path, path / "owner.json.new", Owner.current().to_json())
            except BaseException:
                shutil.rmtree(path, ignore_errors=True)  # nobody would know whose it is
                raise
            if lock is not None:
                return path, lock
    except OSError as error:
        where = error.filename or os.environ.get("TMPDIR", "no directory")
        raise StoreError(
            f"temporary files: {where} cannot be written: {error.strerror or error}. Free some space there, or set TMPDIR to "
            f"another directory"
        ) from error


def _is_own(path: Path) -> bool:
    """Whether it looks like a directory that `directory` made for this user: anybody may put what they like beside it."""
    try:
        found = path.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and (path / "owner.json").is_file()


def _multiprocessing() -> dict[str, Any]:
    """What multiprocessing knows of this process, and tells those that it starts; `tempdir` is None until it needs one."""
    config: dict[str, Any] = multiprocessing.current_process()._config  # type: ignore[attr-defined]
    return config
