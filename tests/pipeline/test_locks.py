"""File locks end with their holder, and are of the file that has the name."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from pipeline import locks

Children = Any  # of conftest.py, which cannot be imported


def test_a_lock_is_held_by_one_and_its_file_goes_with_it(tmp_path: Path) -> None:
    path = tmp_path / "one.lock"

    with locks.locked(path, "run 1"):
        assert locks.try_lock(path) is None
        assert locks.is_locked(path)
    assert not path.exists()


def test_a_lock_whose_file_is_kept_is_one_all_the_same(tmp_path: Path) -> None:
    path = tmp_path / "one.lock"

    with locks.locked(path, "run 1", keep=True):
        assert locks.try_lock(path) is None
    assert path.exists()
    with locks.locked(path, "run 2", keep=True):
        assert locks.try_lock(path) is None


def test_waiting_for_a_lock_may_have_an_end_that_says_who_holds_it(tmp_path: Path) -> None:
    path = tmp_path / "one.lock"

    with (
        locks.locked(path, "run 1"),
        pytest.raises(locks.NotGivenError, match=rf"^process {os.getpid()} \(run 1\)$"),
        locks.locked(path, "run 2", patience_s=0),
    ):
        pass


def test_a_lock_ends_with_its_holder_however_that_ends(tmp_path: Path, children: Children) -> None:
    path = tmp_path / "one.lock"

    def work() -> None:
        with locks.locked(path, "run 1", keep=True):
            os.kill(os.getpid(), 9)

    children.status(children.start(work))

    assert not locks.is_locked(path)


def test_a_file_that_was_removed_with_its_lock_gives_no_lock_to_who_still_knows_its_name(tmp_path: Path) -> None:
    # What a machine sees on NFS while it remembers the directory as it was.
    path, remembered = tmp_path / "one.lock", tmp_path / "remembered"
    descriptor = locks.try_lock(path)
    assert descriptor is not None
    remembered.hardlink_to(path)
    locks.unlock(descriptor, path)
    remembered.rename(path)
    old = path.stat().st_ino
    got: list[int] = []
    waiting = threading.Thread(target=lambda: got.append(locks.try_lock(path) or -1))
    waiting.start()
    time.sleep(0.05)
    path.rename(remembered)  # now it looks again
    waiting.join()

    assert got[0] > 0
    assert os.fstat(got[0]).st_ino != old
    locks.unlock(got[0], path)
