"""The processes of a run: none outlives it, none is mistaken for another, and what kills one is nobody else's trouble."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from pipeline import log
from pipeline.ledger import Ledger
from pipeline.loading import load
from pipeline.runners.local import WARM_MODULES, LocalRun
from pipeline.store import Store
from schemas.errors import ArtifactError

STEPS = '''
from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from schemas.artifacts import Examples, Statistics
from schemas.component import Out, Progress


def _never():
    import tensorflow  # what makes a step one that is forked from the warm process


@dataclass(frozen=True, kw_only=True)
class Colour:
    """Examples -> Statistics: the environment's colour."""

    def run(self, examples: Examples, statistics: Out[Statistics]) -> None:
        (statistics.path / "colour").write_text(os.environ.get("COLOUR", "none"))


@dataclass(frozen=True, kw_only=True)
class Garbage:
    """Examples -> Statistics: what the process knows of its garbage when the work begins."""

    def run(self, examples: Examples, statistics: Out[Statistics]) -> None:
        (statistics.path / "garbage").write_text(json.dumps({"on": gc.isenabled(), "exempt": gc.get_freeze_count()}))


@dataclass(frozen=True, kw_only=True)
class Imported:
    """Examples -> Statistics: what the process has imported when the work begins, and whether KerasTuner is Keras 3's."""

    def run(self, examples: Examples, statistics: Out[Statistics]) -> None:
        tops = sorted({name.partition(".")[0] for name in sys.modules})
        tuner = sys.modules.get("keras_tuner.src.backend.config")
        keras_3 = bool(tuner.multi_backend()) if tuner else None
        (statistics.path / "imported").write_text(json.dumps({"tops": tops, "keras_3": keras_3}))


@dataclass(frozen=True, kw_only=True)
class Parent:
    """Examples -> Statistics: starts a process of its own and ends as told."""

    end: str

    def run(self, examples: Examples, statistics: Out[Statistics]) -> None:
        child = os.fork()
        if child == 0:
            time.sleep(600)
            os._exit(0)
        Path("child.new").write_text(str(child))
        Path("child.new").rename("child")
        if self.end == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.end == "never":
            time.sleep(600)


@dataclass(frozen=True, kw_only=True)
class Chatter:
    """Examples -> Statistics: tells its progress from many threads."""

    def run(self, examples: Examples, statistics: Out[Statistics], progress: Progress) -> None:
        def talk() -> None:
            for _ in range(500):
                progress(1, 1, "words " * 200)

        threads = [threading.Thread(target=talk) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
'''


@pytest.fixture
def processes(project: Path) -> Path:
    (project / "project_processes.py").write_text(STEPS)
    return project


# What it tells is more than nothing where the process that it runs in was forked from one that keeps what it imported out of its garbage.
TFX_COMPONENT = """
import gc
import os

from tfx import v1 as tfx
from tfx.types import standard_artifacts


@tfx.dsl.components.component
def Tell(told: tfx.dsl.components.OutputArtifact[standard_artifacts.Schema]):
    with open(os.path.join(told.uri, "exempt"), "w") as file:
        file.write(str(gc.get_freeze_count()))
"""


def define(project: Path, *steps: str) -> None:
    (project / "pipeline.yaml").write_text(
        "\n".join(
            [
                "name: toy",
                "root: store-root",
                "steps:",
                "  read: {uses: project_steps.Read, with: {source: numbers.txt}}",
                *steps,
            ]
        )
    )


def run(
    warm: Sequence[str] = ("json",), listener: Callable[[log.Event], None] | None = None, force: Sequence[str] = ()
) -> LocalRun:
    definition = load("pipeline.yaml")
    store = Store(definition.root).open()
    ledger = Ledger(store)
    record = ledger.start_run("toy", definition.graph.digest)
    local = LocalRun(
        graph=definition.graph, store=store, ledger=ledger, run=record.id,
        listener=listener or log.SilentDisplay(), warm=warm, force=force,
    )  # fmt: skip
    local.execute()
    return local


def is_there(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


LIGHT = """
from __future__ import annotations

import os
from dataclasses import dataclass

from schemas.artifacts import Examples, Statistics
from schemas.component import Out


@dataclass(frozen=True, kw_only=True)
class Parent:
    '''Examples -> Statistics: whose child the step's process is.'''

    def run(self, examples: Examples, statistics: Out[Statistics]) -> None:
        (statistics.path / "parent").write_text(str(os.getppid()))
"""


def test_light_steps_are_forked_from_one_process_and_one_that_is_alone_is_started_by_the_run(project: Path) -> None:
    (project / "project_light.py").write_text(LIGHT)
    define(project, "  one: {uses: project_light.Parent}", "  two: {uses: project_light.Parent}")

    def parents(made: LocalRun) -> list[int]:
        return [int((made.executions[step].output("statistics") / "parent").read_text()) for step in ("one", "two")]

    first, second = parents(run())
    assert first == second != os.getpid()
    assert not is_there(first)

    assert parents(run(force=["two"])) == [first, os.getpid()]


def children() -> set[int]:
    """The processes that this one started and that still are there, but multiprocessing's tracker, which stays."""
    found = set()
    for task in Path("/proc/self/task").iterdir():
        for pid in (task / "children").read_text().split():
            if "resource_tracker" not in Path(f"/proc/{pid}/cmdline").read_text():
                found.add(int(pid))
    return found


def wait_for(condition: Callable[[], object], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


class TestWhatAStepStarts:
    def step(self, end: str) -> str:
        return f"  parent: {{uses: project_processes.Parent, with: {{end: {end}}}}}"

    def test_ends_when_the_step_is_done(self, processes: Path) -> None:
        define(processes, self.step("done"))

        assert run().actions["parent"] == "run"

        wait_for(lambda: not is_there(int((processes / "child").read_text())))

    def test_ends_when_the_step_is_killed_and_does_not_keep_the_run_waiting(self, processes: Path) -> None:
        define(processes, self.step("killed"))

        local = run()

        assert local.actions["parent"] == "failed"
        assert "killed by SIGKILL" in local.messages["parent"]
        wait_for(lambda: not is_there(int((processes / "child").read_text())))

    @pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
    def test_ends_when_the_run_is_stopped(self, processes: Path, how: signal.Signals) -> None:
        define(processes, self.step("never"))
        code = "from pipeline.cli.run import run_pipeline; run_pipeline('pipeline.yaml')"
        runner = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
        wait_for((processes / "child").exists)

        runner.send_signal(how)

        runner.wait(30)
        wait_for(lambda: not is_there(int((processes / "child").read_text())))


class TestTheWarmProcess:
    def colour(self, local: LocalRun) -> str:
        return (local.executions["colour"].output("statistics") / "colour").read_text()

    def imported(self, local: LocalRun) -> Any:
        found = json.loads((local.executions["imported"].output("statistics") / "imported").read_text())
        return {**found, "tops": set(found["tops"])}

    def test_is_one_runs_so_that_the_next_has_its_own_environment(
        self, processes: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        define(processes, "  colour: {uses: project_processes.Colour}")
        before = dict(os.environ)

        others = children()  # what other tests have started, such as a database's server
        monkeypatch.setenv("COLOUR", "red")
        assert self.colour(run()) == "red"
        assert children() == others
        monkeypatch.setenv("COLOUR", "blue")
        assert self.colour(run(force=["colour"])) == "blue"
        assert children() == others

        assert dict(os.environ) == before | {"COLOUR": "blue"}

    def test_that_dies_of_what_it_imports_is_done_without(self, processes: Path) -> None:
        define(processes, "  colour: {uses: project_processes.Colour}")
        (processes / "project_deadly.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n")

        assert run(warm=["project_deadly"]).actions["colour"] == "run"

    def test_goes_on_after_a_module_that_is_not_there(self, processes: Path) -> None:
        define(processes, "  colour: {uses: project_processes.Colour}")
        (processes / "project_after.py").write_text("import os\nos.environ['COLOUR'] = 'green'\n")

        assert self.colour(run(warm=["project_missing", "project_after"])) == "green"

    def test_imports_nothing_of_TFX_for_steps_of_ours(self, processes: Path) -> None:
        define(processes, "  imported: {uses: project_processes.Imported}")

        found = self.imported(run(warm=WARM_MODULES))

        assert {"tensorflow_model_analysis", "tensorflow_transform", "apache_beam"} <= found["tops"]
        # KerasTuner least of all: it comes with Keras 3 unless it is told otherwise, and our Tuner then refuses it.
        assert not {"tfx", "ml_metadata", "keras_tuner"} & found["tops"]

    def test_imports_TFX_with_a_KerasTuner_of_tf_keras_for_steps_of_TFX_s_whatever_they_take(
        self, processes: Path
    ) -> None:
        (processes / "project_of_tfx.py").write_text(TFX_COMPONENT)
        define(
            processes,
            "  tell: {uses: project_of_tfx.Tell}",
            "  imported: {uses: project_processes.Imported}",
        )

        local = run()

        found = self.imported(local)
        assert {"tfx", "keras_tuner"} <= found["tops"]
        assert found["keras_3"] is False
        assert int((local.executions["tell"].output("told") / "exempt").read_text()) > 1000

    def test_keeps_what_it_imported_out_of_the_garbage_of_steps(self, processes: Path) -> None:
        define(processes, "  garbage: {uses: project_processes.Garbage}")

        found = json.loads((run().executions["garbage"].output("statistics") / "garbage").read_text())

        assert found["on"]
        assert found["exempt"] > 10_000

    def test_does_not_keep_one_waiting_who_wants_to_stop_while_it_imports(self, processes: Path) -> None:
        define(processes, "  colour: {uses: project_processes.Colour}")
        (processes / "project_endless.py").write_text(
            "import pathlib, time\npathlib.Path('importing').touch()\ntime.sleep(600)\n"
        )
        told: list[log.Event] = []

        def listen(event: log.Event) -> None:
            told.append(event)
            if event == log.StepStarted("colour"):
                wait_for((processes / "importing").exists)
                signal.setitimer(signal.ITIMER_REAL, 0.5)  # by then the runner waits for the warm process's answer

        others = children()
        before = signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGINT))
        try:
            with pytest.raises(KeyboardInterrupt):
                run(warm=["project_endless"], listener=listen)
        finally:
            signal.signal(signal.SIGALRM, before)

        assert children() == others
        assert list((processes / "store-root/staging").iterdir()) == []


def test_progress_may_be_told_from_many_threads(processes: Path) -> None:
    define(processes, "  chatter: {uses: project_processes.Chatter}")
    told: list[log.Event] = []

    assert run(listener=told.append).actions["chatter"] == "run"

    words = [event for event in told if isinstance(event, log.StepProgress) and event.step == "chatter"]
    assert len(words) == 8 * 500
    assert {event.unit for event in words} == {"words " * 200}


def test_runs_in_one_process_leave_no_descriptors_open(processes: Path) -> None:
    define(processes, "  colour: {uses: project_processes.Colour}")
    run()

    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 as many as there are
    run(force=["colour"])

    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


def test_a_step_that_cannot_be_planned_stops_no_other(ran: Path) -> None:
    (ran / "numbers.txt").write_text("4\n5\n")
    (ran / "pipeline.yaml").write_text(
        (ran / "pipeline.yaml").read_text().replace("  count:", "  once: {uses: project_steps.Count}\n  count:")
        .replace("  judge: {", "  judge: {inputs: {statistics: count.statistics}, ")
        .replace("source: numbers.txt", "source: other.txt")
    )  # fmt: skip
    (ran / "other.txt").write_text("1\n2\n3\n")  # `read` and `count` are reused, `once` runs
    (count,) = (ran / "store-root/store/judge").glob("*/anomalies/count.json")
    count.write_text("corrupt")

    with pytest.raises(ArtifactError, match=r"count\.json"):
        run()

    (record,) = [record for record in Ledger(Store("store-root")).runs() if record.outcome is None]
    assert json.loads(json.dumps({step.step: step.action for step in record.steps}))["once"] == "run"
