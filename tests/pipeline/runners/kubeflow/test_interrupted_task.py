"""A pod may be stopped or killed at any moment: the next attempt at its task mends what is left and goes on."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from pipeline.runners.kubeflow.executor_output import put

Cluster = Any  # of conftest.py, which cannot be imported
Children = Any

WAITING = '''
from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path

from schemas.artifacts import Examples, Model
from schemas.component import Out, Scratch


@dataclass(frozen=True, kw_only=True)
class Wait:
    """Examples -> Model: how many attempts it took, once there is a file."""

    gate: str

    def run(self, examples: Examples, scratch: Scratch, model: Out[Model]) -> None:
        attempts = scratch.path / "attempts"
        with attempts.open("a") as file:
            file.write("x")
        model.serving.mkdir()
        (model.serving / "saved_model.pb").write_text(attempts.read_text())
        print(f"attempt {len(attempts.read_text())} waits", flush=True)
        while not Path(self.gate).exists():
            time.sleep(0.02)
'''


@pytest.fixture
def gate(cluster: Cluster) -> Path:
    """What the step `wait` waits for. The step `read` is done."""
    (cluster.project / "project_waiting.py").write_text(WAITING)
    gate = cluster.volume / "gate"
    definition = cluster.project / "pipeline.yaml"
    step = f"  wait: {{uses: project_waiting.Wait, with: {{gate: {gate}}}, inputs: {{examples: read.examples}}}}\n"
    definition.write_text(definition.read_text().replace("kubeflow:", f"{step}kubeflow:"))
    cluster.here("read")
    return gate


def waiting(cluster: Cluster) -> tuple[Any, Path]:
    """A pod that is in the middle of `wait`."""
    process, output_file = cluster.start("wait")
    line = ""
    while "waits" not in line:
        line = process.stdout.readline()
        assert line, "the pod ended before its step waited"
    return process, output_file


def staged(cluster: Cluster) -> list[Path]:
    return list((cluster.root / "staging").iterdir())


def attempts_in_scratch(cluster: Cluster) -> str:
    (file,) = (cluster.root / "scratch" / "wait").glob("*/attempts")
    return file.read_text()


def test_a_stopped_pod_takes_back_what_it_staged_and_the_next_goes_on_from_its_scratch(
    cluster: Cluster, gate: Path
) -> None:
    process, output_file = waiting(cluster)

    process.send_signal(signal.SIGTERM)
    ended = cluster.ended("wait", "job-1", process, output_file)

    assert ended.code == 130
    assert not output_file.exists()
    assert staged(cluster) == []
    record = cluster.record()["steps"]["wait"]
    assert (record["action"], record["message"].partition(";")[0]) == ("failed", "its pod was stopped")
    assert attempts_in_scratch(cluster) == "x"
    gate.touch()
    again = cluster.here("wait")
    assert again.outcome == "done"
    assert (Path(again.metadata("model")["path"]) / "Format-Serving" / "saved_model.pb").read_text() == "xx"


def test_a_killed_pod_is_named_by_the_next_which_removes_what_it_staged_and_uses_its_scratch(
    cluster: Cluster, gate: Path
) -> None:
    process, output_file = waiting(cluster)

    process.kill()
    ended = cluster.ended("wait", "job-1", process, output_file)

    assert ended.code == -signal.SIGKILL
    assert not output_file.exists()
    assert cluster.record()["steps"]["wait"]["action"] == "running"
    (left,) = staged(cluster)
    # As if it had been on another machine, where nobody here can see whether it lives.
    owner = left / "owner.json"
    owner.write_text(json.dumps(json.loads(owner.read_text()) | {"host": "pod-1", "boot_id": "another"}))
    gate.touch()
    again = cluster.here("wait")
    assert again.outcome == "done"
    assert staged(cluster) == []
    assert (Path(again.metadata("model")["path"]) / "Format-Serving" / "saved_model.pb").read_text() == "xx"
    assert f"an attempt before this one (process {process.pid}" in again.page("summary")
    assert cluster.record()["steps"]["wait"]["action"] == "run"
    assert not (cluster.root / "scratch" / "wait").exists()


def test_what_another_run_has_staged_elsewhere_is_left_alone(cluster: Cluster, gate: Path) -> None:
    process, output_file = waiting(cluster)
    process.kill()
    cluster.ended("wait", "job-1", process, output_file)
    (left,) = staged(cluster)
    owner = left / "owner.json"
    owner.write_text(json.dumps(json.loads(owner.read_text()) | {"host": "pod-1", "boot_id": "another"}))
    gate.touch()

    cluster.here("read", "job-2")
    cluster.here("wait", "job-2")

    assert staged(cluster) == [left]


def test_what_a_step_started_does_not_keep_its_pod_open(cluster: Cluster) -> None:
    steps = cluster.project / "project_steps.py"
    steps.write_text(
        steps.read_text().replace(
            "        progress(len(lines), len(lines))\n",
            "        import subprocess\n        subprocess.Popen(['sleep', '600'])\n",
            1,
        )
    )

    ended = cluster.pod("read")  # it reads the log to its end, which comes when nobody holds it any more

    assert ended.code == 0, ended.log


@pytest.mark.parametrize("part", range(6))
def test_an_attempt_that_is_killed_at_any_moment_is_followed_by_one_that_succeeds(
    cluster: Cluster, children: Children, part: int
) -> None:
    given = cluster.given("read")
    other = cluster.given("read", "job-0")

    def doomed(allowed: float) -> int:
        """Attempt the task in a child that is killed before that many calls to the system; gives how many it made."""
        reading, writing = os.pipe()

        def work() -> None:
            made = 0

            def count(event: str, arguments: tuple[Any, ...]) -> None:
                nonlocal made
                if event.startswith(("os.", "fcntl.", "shutil.")) or event == "open":
                    made += 1
                    if made > allowed:
                        os.kill(os.getpid(), signal.SIGKILL)

            sys.addaudithook(count)
            cluster.here("read", given=given if allowed < 1e9 else other)
            os.write(writing, str(made).encode())

        children.status(children.start(work))
        os.close(writing)
        with os.fdopen(reading) as said:
            return int(said.read() or 0)

    calls = doomed(float("inf"))
    shutil.rmtree(cluster.root)
    assert calls > 50

    doomed(calls * (2 * part + 1) // 12)
    ended = cluster.here("read", given=given)

    assert ended.code == 0
    assert ended.outcome == "done"
    assert staged(cluster) == []
    record = cluster.record()
    assert [step["action"] for step in record["steps"].values()] == ["run"]
    assert json.loads(cluster.executions["job-1", "read"]) == {"read": ended.metadata("examples")["key"]}


def test_a_page_is_written_whole_or_not_at_all(tmp_path: Path, children: Children) -> None:
    page = tmp_path / "pages" / "summary"
    put(page, "old")
    found = set()
    for _ in children.killed_before_each_call(lambda: put(page, "new")):
        found.add(page.read_text())
        put(page, "old")

    assert found == {"old", "new"}
