"""Temporary files of steps: each process has its directory for them, and whoever started it leaves none behind."""

from __future__ import annotations

import contextlib
import functools
import os
import resource
import signal
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline import log, temporary_files
from pipeline.cli.run import run_pipeline
from pipeline.cli.step import run_step
from pipeline.ledger import Ledger
from pipeline.loading import load
from pipeline.runners.local import LocalRun
from pipeline.store import Store
from schemas.errors import StoreError

Children = Any  # of conftest.py, which cannot be imported

STEPS = '''
from __future__ import annotations

import multiprocessing.connection
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from schemas.artifacts import Examples, Statistics
from schemas.component import Out


@dataclass(frozen=True, kw_only=True)
class Litter:
    """Examples -> Statistics: leaves temporary files of each kind, and ends as told."""

    end: str = "done"

    def run(self, examples: Examples, statistics: Out[Statistics]) -> None:
        directory = Path(tempfile.mkdtemp(prefix="beam-temp"))
        (directory / "file").write_text("left")
        # As AutoGraph does, which has its files removed when the interpreter shuts down.
        tempfile.NamedTemporaryFile(prefix="__autograph_generated_file", delete=False).close()
        listener = multiprocessing.connection.Listener(family="AF_UNIX")
        said = "import tempfile; print(tempfile.mkstemp()[1])"
        theirs = subprocess.run([sys.executable, "-c", said], capture_output=True, text=True, check=True).stdout.strip()
        there = [str(directory), listener.address, theirs, os.environ["TFHUB_CACHE_DIR"]]
        (statistics.path / "where").write_text("\\n".join(there))
        Path(f"{type(self).__name__}.new").write_text("\\n".join(there))
        Path(f"{type(self).__name__}.new").rename(type(self).__name__)
        if self.end == "fails":
            raise ValueError("so it was told")
        if self.end == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.end == "never":
            time.sleep(600)


@dataclass(frozen=True, kw_only=True)
class Heavy(Litter):
    """Examples -> Statistics: the same, in a process that is forked from the warm one."""

    def run(self, examples: Examples, statistics: Out[Statistics]) -> None:
        super().run(examples, statistics)

    def _never(self):
        import tensorflow
'''


@pytest.fixture
def littering(project: Path) -> Path:
    (project / "project_litter.py").write_text(STEPS)
    return project


@pytest.fixture
def temporary(monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    """What lies in the system's directory for temporary files, which is empty at first."""
    made = tempfile.TemporaryDirectory(prefix="t")  # not in tmp_path: a socket's path is short
    monkeypatch.setenv("TMPDIR", made.name)
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.delenv("TFHUB_CACHE_DIR", raising=False)
    return lambda: sorted(path.name for path in Path(made.name).iterdir()) if made else []


def define(project: Path, end: str) -> None:
    """Two steps that litter, at once: one's process is started anew, the other's forked."""
    (project / "pipeline.yaml").write_text(
        "name: toy\nroot: store-root\nparallel: 2\nsteps:\n"
        "  read: {uses: project_steps.Read, with: {source: numbers.txt}}\n"
        f"  litter: {{uses: project_litter.Litter, with: {{end: {end}}}}}\n"
        f"  heavy: {{uses: project_litter.Heavy, with: {{end: {end}}}}}\n"
    )


def run() -> LocalRun:
    """Run the definition, with a warm process that imports nothing heavy."""
    definition = load("pipeline.yaml")
    store = Store(definition.root).open()
    ledger = Ledger(store)
    record = ledger.start_run("toy", definition.graph.digest)
    local = LocalRun(
        graph=definition.graph, store=store, ledger=ledger, run=record.id, listener=log.SilentDisplay(), warm=("json",),
        parallel=2,
    )  # fmt: skip
    local.execute()
    return local


def start(children: Children) -> int:
    """Run the definition in a forked process, until both steps have littered; gives its pid."""
    running: int = children.start(run)
    wait_for(lambda: Path("Litter").exists() and Path("Heavy").exists())
    return running


def wait_for(condition: Callable[[], object], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def littered(kind: str) -> list[Path]:
    """Where a step put its files; the last is the directory where TensorFlow Hub keeps what it has downloaded."""
    return [Path(line) for line in Path(kind).read_text().splitlines()]


@pytest.mark.parametrize(("end", "action"), [("done", "run"), ("fails", "failed"), ("killed", "failed")])
def test_a_run_leaves_none_of_its_steps(
    littering: Path, temporary: Callable[[], list[str]], end: str, action: str
) -> None:
    define(littering, end)

    actions = run().actions

    assert (actions["litter"], actions["heavy"]) == (action, action)
    system = Path(os.environ["TMPDIR"])
    for kind in ("Litter", "Heavy"):
        *left, hub = littered(kind)
        own = left[0].parent
        assert own.parent == system
        assert all(path.is_relative_to(own) for path in left)
        assert hub == system / "tfhub_modules"
    assert temporary() == []


def test_a_run_that_is_interrupted_leaves_none(
    littering: Path, temporary: Callable[[], list[str]], children: Children
) -> None:
    define(littering, "never")
    running = start(children)

    os.kill(running, signal.SIGINT)
    children.status(running)

    assert temporary() == []


def test_what_a_killed_run_left_is_removed_by_the_next(
    littering: Path, temporary: Callable[[], list[str]], children: Children
) -> None:
    define(littering, "never")
    running = start(children)

    assert temporary_files.remove_dead() == []  # it goes on
    os.kill(running, signal.SIGKILL)
    children.status(running)

    left = temporary()
    assert len(left) == 3  # the steps', and that of the process that one of them was forked from
    assert all(name.startswith("penstock-") for name in left)
    run_pipeline("pipeline.yaml", to="read")
    assert temporary() == []


def test_a_step_that_is_run_by_hand_leaves_none_and_the_process_as_it_was(
    littering: Path, temporary: Callable[[], list[str]]
) -> None:
    define(littering, "done")
    order = Path("store-root/runs") / run().run / "litter.order.json"
    before = dict(os.environ), tempfile.gettempdir()

    again = run_step(order, force=True)

    assert again.outcome.action == "run"
    assert temporary() == []
    assert (dict(os.environ), tempfile.gettempdir()) == before


def test_links_to_directories_go_with_the_rest_and_what_they_lead_to_stays(
    temporary: Callable[[], list[str]], tmp_path: Path
) -> None:
    (tmp_path / "kept").write_text("a user's")
    with temporary_files.directory() as place:
        (place / "attempt-1").mkdir()
        (place / "latest").symlink_to(place / "attempt-1")
        (place / "data").symlink_to(tmp_path)
        (place / "nowhere").symlink_to(place / "gone")

    assert temporary() == []
    assert (tmp_path / "kept").read_text() == "a user's"


def test_a_process_that_outlives_the_step_and_still_writes_there_has_nothing_left(
    temporary: Callable[[], list[str]], children: Children
) -> None:
    for _ in range(8):  # it depends on the moment
        with temporary_files.directory() as place:
            writers = [children.start(functools.partial(write_until_it_is_gone, place)) for _ in range(4)]
            wait_for(functools.partial(holds_something, place))

        assert temporary() == []
        assert [children.status(writer) for writer in writers] == [0, 0, 0, 0]


def holds_something(place: Path) -> bool:
    return any(path.name != "owner.json" for path in place.iterdir())


def write_until_it_is_gone(place: Path) -> None:
    until = time.monotonic() + 10.0
    with contextlib.suppress(FileNotFoundError):
        while time.monotonic() < until:
            (place / str(time.monotonic_ns() % 7)).write_text("late")


def test_a_step_may_drop_the_variables_that_say_where_they_are(temporary: Callable[[], list[str]]) -> None:
    before = dict(os.environ), tempfile.gettempdir()

    with temporary_files.own_directory():
        del os.environ["TMPDIR"], os.environ["TFHUB_CACHE_DIR"]

    assert (dict(os.environ), tempfile.gettempdir()) == before


def test_a_directory_that_cannot_say_whose_it_is_is_not_left(
    temporary: Callable[[], list[str]], children: Children
) -> None:
    def fill() -> None:
        tempfile.gettempdir()  # found while there was room
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
        with pytest.raises(StoreError, match="File too large"), temporary_files.directory():
            pass

    assert children.status(children.start(fill)) == 0
    assert temporary() == []


class TestRemovingWhatIsDead:
    def test_leaves_what_only_looks_like_it(self, temporary: Callable[[], list[str]]) -> None:
        system = Path(os.environ["TMPDIR"])
        (system / "penstock-training").mkdir()
        (system / "penstock-training" / "model").write_text("a user's")
        (system / "penstock-notes").write_text("a user's")
        (system / "penstock-link").symlink_to(system / "penstock-training")
        (system / "penstock-odd").mkdir()
        (system / "penstock-odd" / "owner.json").write_text("{}")

        assert temporary_files.remove_dead() == []

        assert temporary() == ["penstock-link", "penstock-notes", "penstock-odd", "penstock-training"]

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
    def test_leaves_what_another_user_put_there(
        self, temporary: Callable[[], list[str]], children: Children, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def left() -> None:
            with temporary_files.directory():
                os.kill(os.getpid(), signal.SIGKILL)

        assert children.status(children.start(left)) == -signal.SIGKILL
        (name,) = temporary()
        os.chown(Path(os.environ["TMPDIR"]) / name, 12345, 12345)

        assert temporary_files.remove_dead() == []
        assert temporary() == [name]

    def test_removes_what_a_process_that_was_killed_at_any_moment_put_there(
        self, temporary: Callable[[], list[str]], children: Children
    ) -> None:
        def work() -> None:
            with temporary_files.directory() as place:
                (place / "some").mkdir()
                (place / "some" / "file").write_text("left")

        system = Path(os.environ["TMPDIR"])
        for _ in children.killed_before_each_call(work):
            temporary_files.remove_dead()
            assert [path for path in system.rglob("*") if path.name in ("some", "file")] == []

    def test_takes_nothing_for_dead_that_is_being_made(
        self, temporary: Callable[[], list[str]], children: Children
    ) -> None:
        def make() -> None:
            for _ in range(100):
                with temporary_files.directory() as place:
                    (place / "file").write_text("in use")
                    assert (place / "file").read_text() == "in use"

        def tidy() -> None:
            while True:
                temporary_files.remove_dead()

        tidying = children.start(tidy)
        try:
            making = [children.start(make) for _ in range(3)]
            assert [children.status(child) for child in making] == [0, 0, 0]
        finally:
            os.kill(tidying, signal.SIGKILL)
            children.status(tidying)


def test_where_none_can_be_made_is_said(
    littering: Path, temporary: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    define(littering, "done")
    Path("nowhere").write_text("a file")
    for name in ("TMPDIR", "TEMP", "TMP"):
        monkeypatch.setenv(name, str(Path("nowhere").absolute()))
    monkeypatch.setattr(tempfile, "tempdir", str(Path("nowhere").absolute()))

    with pytest.raises(
        StoreError, match=r"temporary files: .*nowhere.* cannot be written.* set TMPDIR to another directory"
    ):
        run()


def test_where_sockets_cannot_be_made_is_said(
    littering: Path, temporary: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    define(littering, "done")
    long = tmp_path / ("long" * 20)
    long.mkdir()
    monkeypatch.setenv("TMPDIR", str(long))
    monkeypatch.setattr(tempfile, "tempdir", None)

    with pytest.raises(StoreError, match=r"TMPDIR: .*longlong is too long: .* Set TMPDIR to a shorter one"):
        run()

    assert list(long.iterdir()) == []
