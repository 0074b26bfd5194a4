"""Publication: killed at any system call, and in which order it calls the system."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from components.release import retention, staging, versions
from components.release.publication import publish
from schemas.artifacts import Model
from schemas.errors import StoreError
from schemas.passport import Passport

REPOSITORY = Path(__file__).parents[3]

PUSH = """
import sys
from pathlib import Path
from components.release import retention
from components.release.publication import publish
from schemas.passport import Passport

source, destination = map(Path, sys.argv[1:])
publish(
    source,
    destination,
    lambda version, files: Passport(
        pipeline="", run="", pushed_at="", version=version, model_digest="", files=files
    ),
    extra={"assets.extra/tf_serving_warmup_requests": b"requests"},
)
retention.retire(destination, keep=2)
"""
"""What Pusher does to a serving directory, without TensorFlow, which only looks at the model before."""

CHANGES = ("write", "pwrite64", "mkdir", "mkdirat", "rename", "renameat", "renameat2", "fsync", "fdatasync")
CHANGES += ("unlink", "unlinkat", "rmdir", "ftruncate", "link", "linkat", "symlink", "symlinkat", "sendfile")


KINDS = {"fsync": "sync", "fdatasync": "sync", "pwrite64": "write", "openat": "make", "rmdir": "remove"}
KINDS |= dict.fromkeys(("mkdir", "mkdirat"), "make") | dict.fromkeys(("unlink", "unlinkat"), "remove")
KINDS |= dict.fromkeys(("rename", "renameat", "renameat2"), "rename")


@dataclass(frozen=True)
class Call:
    """A system call as strace writes it: its name, which of its name it is in the process (from 1), and its paths."""

    name: str
    number: int
    paths: tuple[str, ...]

    @property
    def kind(self) -> str:
        """What it does: write, sync, make, rename or remove."""
        return KINDS.get(self.name, self.name)

    @property
    def path(self) -> str:
        """What it does that to; of a rename, the new name."""
        return self.paths[-1]


def pushing(source: Path, destination: Path, *strace: str) -> subprocess.CompletedProcess[str]:
    """A push under strace, in a process that makes the same system calls each time."""
    return subprocess.run(
        ["strace", "-f", "--seccomp-bpf", "-y", "-s", "0", *strace, sys.executable, "-c", PUSH, source, destination],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "PYTHONDONTWRITEBYTECODE": "1", "PYTHONHASHSEED": "0"},
        capture_output=True,
        text=True,
        check=False,
    )


def calls(trace: Path, below: Path) -> list[Call]:
    """The calls of a trace that change something below a directory, in order."""
    counted: Counter[str] = Counter()
    found = []
    for line in trace.read_text().splitlines():
        called = re.match(r"\d+ +(\w+)\((.*)\) += (-?\d+)", line)
        if called is None:
            continue
        name, arguments, result = called.groups()
        counted[name] += 1
        paths = tuple(path for path in re.findall(r'[<"](/[^>"]*)[>"]', arguments) if Path(path).is_relative_to(below))
        if paths and int(result) >= 0 and (name != "openat" or "O_CREAT" in arguments):
            found.append(Call(name, counted[name], paths))
    return found


def served_twice(source: Path, destination: Path) -> Path:
    """A serving directory with two versions, so that the next push has one to retire."""
    for version in ("1001", "1002"):
        publish(source, destination, passport_of)
        newest = max(child for child in destination.iterdir() if child.name.isdigit())
        newest.rename(destination / version)
    versions.write_high_water(destination, 1002)
    return destination


def passport_of(version: int, files: dict[str, str]) -> Passport:
    return Passport(pipeline="", run="", pushed_at="", version=version, model_digest="", files=files)


def complete(version: Path) -> bool:
    """Whether a version directory has every file that its passport names, with its digest."""
    try:
        files = json.loads((version / Passport.FILE).read_text())["files"]
        return "saved_model.pb" in files and all(
            hashlib.sha256((version / name).read_bytes()).hexdigest() == digest for name, digest in files.items()
        )
    except (OSError, ValueError):
        return False


@contextmanager
def polled(parent: Path) -> Iterator[list[str]]:
    """Every few milliseconds, look at all numbered directories in each of `parent`'s; gives those that were incomplete.

    A version that goes while it is looked at was removed, as a server may find it too.
    """
    broken: list[str] = []
    whole: set[tuple[Path, int]] = set()
    stop = threading.Event()

    def look() -> None:
        while not stop.is_set():
            for version in parent.glob("*/[0-9]*"):
                try:
                    which = version, version.stat().st_ino
                except FileNotFoundError:
                    continue
                if which not in whole:
                    if complete(version):
                        whole.add(which)
                    elif version.exists():
                        broken.append(str(version))
            time.sleep(0.003)

    poller = threading.Thread(target=look)
    poller.start()
    try:
        yield broken
    finally:
        stop.set()
        poller.join()


@pytest.fixture(scope="module")
def small(model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The SavedModel without what is not needed to see every kind of call: one asset, two files of variables."""
    source = tmp_path_factory.mktemp("small") / "model"
    shutil.copytree(model.serving, source)
    return source


@pytest.fixture
def traced(small: Path, tmp_path: Path) -> list[Call]:
    """The calls of one whole push into a directory that serves two versions already."""
    destination = served_twice(small, tmp_path / "serving" / "whole")
    trace = tmp_path / "trace"
    done = pushing(small, destination, "-o", str(trace), "-e", f"trace=openat,{','.join(CHANGES)}")
    assert done.returncode == 0, done.stderr
    return calls(trace, destination)


@pytest.mark.slow
@pytest.mark.strace
def test_a_push_killed_at_any_system_call_shows_no_incomplete_version_and_the_next_one_succeeds(
    small: Path, tmp_path: Path, traced: list[Call]
) -> None:
    kills = [call for call in traced if call.name in CHANGES]
    assert {call.name for call in kills} >= {"write", "fsync", "mkdir", "rename", "renameat2", "unlinkat", "rmdir"}
    serving = tmp_path / "serving"
    before = served_twice(small, tmp_path / "before")
    outcomes: Counter[int] = Counter()

    with polled(serving) as broken:
        for call in kills:
            destination = serving / f"{call.name}-{call.number}"
            shutil.copytree(before, tmp_path / "copy")
            (tmp_path / "copy").rename(destination)
            killed = pushing(small, destination, "-e", f"inject={call.name}:signal=SIGKILL:when={call.number}")
            assert killed.returncode == -signal.SIGKILL, f"{call}: {killed.stderr}"
            there = versions.listed(destination)
            outcomes[len(there)] += 1
            time.sleep(0.006)  # the poller looks at what the kill left

            version = publish(small, destination, passport_of)
            retention.retire(destination, keep=2)

            assert version > max(there), call
            assert complete(destination / str(version)), call
            assert len(versions.listed(destination)) == 2, call
            hidden = {child.name for child in destination.iterdir() if not child.name.isdigit()}
            assert hidden == {staging.LOCK, versions.HIGH_WATER}, call

    assert broken == []
    # Killed before the rename, between it and the removal of the oldest version, and during that removal.
    assert outcomes[2] > 20
    assert outcomes[3] > 0


@pytest.mark.strace
def test_everything_is_on_disk_before_the_version_appears_and_its_name_right_after(traced: list[Call]) -> None:
    appears = appearance(traced)
    staged, version = traced[appears].paths
    inside = [call for call in traced[:appears] if call.path == staged or call.path.startswith(f"{staged}/")]
    written = {call.path for call in inside if call.kind == "write"}
    directories = {call.path for call in inside if call.name == "mkdir"}

    relative = {path.removeprefix(staged) for path in (written | directories) - {staged}}
    assert relative == {str(path).removeprefix(version) for path in Path(version).rglob("*")}
    for file in written:
        assert (
            last(traced, appears, "write", file)
            < last(traced, appears, "sync", file)
            < last(traced, appears, "sync", str(Path(file).parent))
        ), file
    for name in (written | directories) - {staged}:
        assert last(traced, appears, "make", name) < last(traced, appears, "sync", str(Path(name).parent)), name
    assert (traced[appears + 1].kind, traced[appears + 1].path) == ("sync", str(Path(version).parent))


@pytest.mark.strace
def test_the_high_water_mark_is_on_disk_before_the_version_appears(traced: list[Call]) -> None:
    appears = appearance(traced)
    serving = str(Path(traced[appears].path).parent)
    mark = f"{serving}/{versions.HIGH_WATER}"

    order = [
        last(traced, appears, "write", f"{mark}.new"),
        last(traced, appears, "sync", f"{mark}.new"),
        last(traced, appears, "rename", mark),
        last(traced, appears, "sync", serving),
    ]

    assert order == sorted(order)


@pytest.mark.strace
def test_a_version_that_goes_is_hidden_and_that_is_on_disk_before_a_file_of_it_is_removed(traced: list[Call]) -> None:
    (goes,) = [at for at, call in enumerate(traced) if call.kind == "rename" and staging.REMOVING in call.path]
    hidden = traced[goes].path

    assert (traced[goes + 1].kind, traced[goes + 1].path) == ("sync", str(Path(hidden).parent))
    removed = [at for at, call in enumerate(traced) if call.kind == "remove" and hidden in call.path]
    assert min(removed) > goes + 1


def appearance(traced: list[Call]) -> int:
    """Where the one call is that makes the version appear."""
    (at,) = [at for at, call in enumerate(traced) if call.kind == "rename" and Path(call.path).name.isdigit()]
    return at


def last(traced: list[Call], before: int, kind: str, path: str) -> int:
    """Where the last call of a kind to a path is, before a place in the trace."""
    return max(at for at, call in enumerate(traced[:before]) if (call.kind, call.path) == (kind, path))


def test_a_directory_that_cannot_be_made_is_a_store_error(tmp_path: Path, small: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(StoreError, match="cannot be written .*Nothing was pushed"):
        publish(small, tmp_path / "file" / "serving", passport_of)


def test_what_the_passport_refuses_is_not_published(tmp_path: Path, small: Path) -> None:
    def refuse(version: int, files: dict[str, str]) -> Passport:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        publish(small, tmp_path / "serving", refuse)

    assert [child.name for child in (tmp_path / "serving").iterdir()] == [staging.LOCK]


def test_files_that_are_added_are_in_the_version_and_in_its_passport(tmp_path: Path, small: Path) -> None:
    version = publish(small, tmp_path / "serving", passport_of, extra={"assets.extra/requests": b"some"})

    path = tmp_path / "serving" / str(version)
    assert (path / "assets.extra" / "requests").read_bytes() == b"some"
    assert Passport.read(path).files["assets.extra/requests"] == hashlib.sha256(b"some").hexdigest()  # type: ignore[union-attr]
