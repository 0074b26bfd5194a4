"""A file's digest is remembered, and is never that of what the file was before."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from pipeline.remembered_digests import LEAST_BYTES, SETTLED_S, RememberedDigests, forget_lost


def digest_of(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root" / "digests").mkdir(parents=True)
    return tmp_path / "root"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "41.csv").write_bytes(b"a" * LEAST_BYTES)
    return tmp_path / "41.csv"


def later() -> float:
    """A clock by which files that are new have settled."""
    return time.time() + SETTLED_S + 60


def entries(root: Path) -> list[Path]:
    return sorted((root / "digests").iterdir())


def false_memory(root: Path) -> None:
    """Make what is remembered tell itself from what is read."""
    (entry,) = entries(root)
    entry.write_text(entry.read_text().replace(digest_of(b"a" * LEAST_BYTES), "sha256:remembered"))


def test_a_file_that_has_settled_is_read_once(root: Path, file: Path) -> None:
    assert RememberedDigests(root, later)(file) == digest_of(b"a" * LEAST_BYTES)

    false_memory(root)

    assert RememberedDigests(root)(file) == "sha256:remembered"


def wait_for_a_tick(file: Path) -> None:
    """Until what changes now has another time than `file` has: clocks of file systems go by milliseconds on older kernels."""
    probe = file.with_name("probe")
    while not probe.exists() or probe.stat().st_ctime_ns <= file.stat().st_ctime_ns:
        probe.write_text("")


def change(how: str, file: Path) -> None:
    wait_for_a_tick(file)
    before = file.stat()
    if how == "grown":
        with file.open("ab") as opened:
            opened.write(b"b")
    elif how == "written anew":
        file.write_bytes(b"b" * LEAST_BYTES)
    elif how == "same size and time":
        with file.open("r+b") as opened:
            opened.write(b"b")
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    elif how == "another file of the same size and time":
        other = file.with_name("other")
        other.write_bytes(b"b" * LEAST_BYTES)
        os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
        other.replace(file)
    elif how == "a link to another":
        other = file.with_name("other")
        other.write_bytes(b"b" * LEAST_BYTES)
        os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
        file.unlink()
        file.symlink_to(other)


@pytest.mark.parametrize(
    "how",
    ["grown", "written anew", "same size and time", "another file of the same size and time", "a link to another"],
)
def test_a_file_that_changed_is_read_again(root: Path, file: Path, how: str) -> None:
    RememberedDigests(root, later)(file)
    false_memory(root)

    change(how, file)

    assert RememberedDigests(root, later)(file) == digest_of(file.read_bytes())


def test_a_file_that_changed_just_before_it_was_read_is_not_remembered(root: Path, file: Path) -> None:
    changed = file.stat().st_ctime_ns / 1e9

    assert RememberedDigests(root, lambda: changed + SETTLED_S / 2)(file) == digest_of(b"a" * LEAST_BYTES)
    assert entries(root) == []
    RememberedDigests(root, lambda: changed + SETTLED_S + 0.1)(file)
    assert len(entries(root)) == 1


def test_an_old_time_of_modification_does_not_make_a_new_file_a_settled_one(root: Path, file: Path) -> None:
    os.utime(file, (1_000_000_000, 1_000_000_000))
    changed = file.stat().st_ctime_ns / 1e9

    RememberedDigests(root, lambda: changed + SETTLED_S / 2)(file)

    assert entries(root) == []


def test_a_file_that_changes_while_it_is_read_is_not_remembered(
    root: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = hashlib.file_digest

    def slow(opened: BinaryIO, algorithm: str) -> Any:
        found = digest(opened, algorithm)  # type: ignore[arg-type]
        change("same size and time", file)
        return found

    monkeypatch.setattr(hashlib, "file_digest", slow)

    RememberedDigests(root, later)(file)

    assert entries(root) == []


def test_a_small_file_is_read_each_time(root: Path, tmp_path: Path) -> None:
    (tmp_path / "small.csv").write_bytes(b"1\n")

    assert RememberedDigests(root, later)(tmp_path / "small.csv") == digest_of(b"1\n")
    assert entries(root) == []


@pytest.mark.parametrize("text", ["", "{", "[]", '{"file": {}}', "\0\0\0"])
def test_what_is_not_readable_is_forgotten(root: Path, file: Path, text: str) -> None:
    RememberedDigests(root, later)(file)
    (entry,) = entries(root)
    entry.write_text(text)

    assert RememberedDigests(root, later)(file) == digest_of(b"a" * LEAST_BYTES)
    false_memory(root)
    assert RememberedDigests(root, later)(file) == "sha256:remembered"


def test_a_root_that_is_not_there_is_not_made(tmp_path: Path, file: Path) -> None:
    assert RememberedDigests(tmp_path / "nowhere", later)(file) == digest_of(b"a" * LEAST_BYTES)
    assert not (tmp_path / "nowhere").exists()


def test_a_root_that_cannot_be_written_is_no_error(tmp_path: Path, file: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "digests").write_text("a file")

    assert RememberedDigests(tmp_path / "root", later)(file) == digest_of(b"a" * LEAST_BYTES)


def test_files_that_are_gone_are_forgotten(root: Path, file: Path) -> None:
    other = file.with_name("42.csv")
    other.write_bytes(b"b" * LEAST_BYTES)
    for one in (file, other):
        RememberedDigests(root, later)(one)
    other.unlink()

    forget_lost(root)

    assert len(entries(root)) == 1
    false_memory(root)


def test_a_file_that_is_not_there_is_an_error(root: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        RememberedDigests(root)(tmp_path / "41.csv")
