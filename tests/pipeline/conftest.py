"""A small project of a user's: three light steps, a definition, a file of numbers, and a webhook that is told of runs."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

STEPS = '''
from __future__ import annotations

import json
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from schemas.artifacts import Anomalies, Examples, Model, PushedModel, Statistics, TransformedExamples
from schemas.component import InputFiles, Lineage, Out, Progress, Scratch, Seed, UserCode
from schemas.dotted_path import resolve
from schemas.errors import AnomaliesFound, ConfigError, NotNeeded, Refused
from schemas.passport import Passport


@dataclass(frozen=True, kw_only=True)
class Read:
    """Files -> Examples: the lines of some files."""

    source: InputFiles
    keep: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.keep <= 1:
            raise ConfigError(f"keep: {self.keep} is not a fraction; use 0 < keep <= 1")

    def run(self, progress: Progress, examples: Out[Examples]) -> None:
        lines = Path(self.source).read_text().splitlines()
        train = examples.split_path("train")
        train.mkdir()
        (train / "lines.json").write_text(json.dumps(lines))
        examples.properties["records"] = {"train": len(lines)}
        progress(len(lines), len(lines))


@dataclass(frozen=True, kw_only=True)
class Count:
    """Examples -> Statistics: how many lines."""

    def run(self, examples: Examples, statistics: Out[Statistics]) -> None:
        lines = json.loads((examples.split("train") / "lines.json").read_text())
        (statistics.path / "count.json").write_text(json.dumps(len(lines)))
        statistics.properties["features"] = 1


@dataclass(frozen=True, kw_only=True)
class Apply:
    """Examples -> TransformedExamples: the user's function of each line."""

    function: UserCode

    def run(self, examples: Examples, transformed_examples: Out[TransformedExamples]) -> None:
        lines = json.loads((examples.split("train") / "lines.json").read_text())
        train = transformed_examples.split_path("train")
        train.mkdir()
        (train / "lines.json").write_text(json.dumps([resolve(self.function)(line) for line in lines]))


@dataclass(frozen=True, kw_only=True)
class Fit:
    """TransformedExamples -> Model: their sum, one number at a time, kept in scratch."""

    pause_s: float = 0.0

    def run(
        self, examples: TransformedExamples | Examples, seed: Seed, scratch: Scratch, progress: Progress, model: Out[Model]
    ) -> None:
        numbers = json.loads((examples.split("train") / "lines.json").read_text())
        position = scratch.path / "position.json"
        done, total = json.loads(position.read_text()) if position.exists() else (0, 0)
        print(f"going on from {done}", flush=True)
        for number in numbers[done:]:
            time.sleep(self.pause_s)
            done, total = done + 1, total + int(number)
            staged = scratch.path / "position.new"
            staged.write_text(json.dumps([done, total]))
            staged.rename(position)
            progress(done, len(numbers), "numbers")
        model.serving.mkdir()
        (model.serving / "saved_model.pb").write_text(str(total + (seed.value or 0)))
        model.properties["metrics"] = {"sum": total}


@dataclass(frozen=True, kw_only=True)
class Judge:
    """Statistics -> Anomalies: refuses more than `most` lines, and has no need of what comes after with fewer than `fewest`."""

    most: int = 100
    fewest: int = 0

    def run(self, statistics: Statistics, anomalies: Out[Anomalies]) -> None:
        count = json.loads((statistics.path / "count.json").read_text())
        (anomalies.path / "count.json").write_text(str(count))
        if count > self.most:
            raise AnomaliesFound(f"{count} lines are more than {self.most}")
        if count < self.fewest:
            raise NotNeeded(f"{count} lines are fewer than {self.fewest}")


@dataclass(frozen=True, kw_only=True)
class Push:
    """Model -> PushedModel: versions 1, 2, ... with a passport."""

    destination: str

    def run(self, model: Model, lineage: Lineage, pushed_model: Out[PushedModel]) -> None:
        served = self.served()
        version = served[0] + 1 if served else 1
        directory = Path(self.destination).absolute() / str(version)
        directory.mkdir(parents=True)
        (directory / "saved_model.pb").write_text((model.serving / "saved_model.pb").read_text())
        digest = lineage.inputs["model"]["digest"]
        Passport(
            pipeline=lineage.pipeline, run=lineage.run, pushed_at="", version=version, model_digest=digest, files={},
            steps=lineage.steps,
        ).write(directory)
        pushed_model.write(directory.parent, version, digest)

    def served(self) -> tuple[int, Passport | None, Path] | None:
        versions = sorted(int(path.name) for path in Path(self.destination).glob("[0-9]*"))
        if not versions:
            return None
        directory = Path(self.destination).absolute() / str(versions[-1])
        return versions[-1], Passport.read(directory), directory

    def holds(self, pushed: PushedModel) -> bool:
        return pushed.version_path.is_dir()


@dataclass(frozen=True, kw_only=True)
class Crash:
    """Examples -> Statistics: dies."""

    how: str = "SIGKILL"

    def run(self, examples: Examples, statistics: Out[Statistics]) -> None:
        os.kill(os.getpid(), getattr(signal, self.how))
'''

FUNCTIONS = """
from project_helpers import scale


def double(line):
    return scale(int(line)) * 2


def unused(line):
    return line
"""

HELPERS = """
def scale(number):
    # a comment
    return number
"""

DEFINITION = """\
name: toy
root: store-root
seed: 7
parameters: {most: 100}
steps:
  read: {uses: project_steps.Read, with: {source: numbers.txt}}
  count: {uses: project_steps.Count}
  judge: {uses: project_steps.Judge, with: {most: "${parameters.most}"}}
  apply: {uses: project_steps.Apply, with: {function: project_functions.double}}
  fit: {uses: project_steps.Fit}
"""


GATES = '''
from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from schemas.artifact import Artifact
from schemas.artifacts import Blessing, Examples, Model, Statistics
from schemas.component import Out
from schemas.errors import ArtifactError, ConfigError, NotBlessed, NotNeeded


@dataclass(frozen=True, kw_only=True)
class AtMost:
    """Of lines that were counted."""

    most: int

    def __post_init__(self) -> None:
        if self.most < 0:
            raise ConfigError(f"most: {self.most} is negative")

    def check(self, read: Mapping[str, Artifact]) -> None:
        (statistics,) = read.values()
        count = json.loads((statistics.path / "count.json").read_text())
        if count == 0:
            raise ArtifactError("there is nothing to count")
        if count > self.most:
            raise NotNeeded(f"{count} lines are more than {self.most}")


@dataclass(frozen=True, kw_only=True)
class Blessed:
    """Of a model; or that it is not, for `wanted` false."""

    wanted: bool = True

    def check(self, read: Mapping[str, Artifact]) -> None:
        blessed = read["bless.blessing"].properties["blessed"]
        if self.wanted and not blessed:
            raise NotBlessed("sum 6 is below 10")
        if blessed and not self.wanted:
            raise NotNeeded("it is blessed")


@dataclass(frozen=True, kw_only=True)
class Bless:
    """Model -> Blessing: of a sum that is large enough."""

    least: int = 0

    def run(self, model: Model, blessing: Out[Blessing]) -> None:
        total = model.properties["metrics"]["sum"]
        blessing.write(() if total >= self.least else (f"sum {total} is below {self.least}",))


@dataclass(frozen=True, kw_only=True)
class Note:
    """Model -> Statistics, and what else there is to count."""

    def run(self, model: Model, more: Examples | None = None, *, statistics: Out[Statistics]) -> None:
        (statistics.path / "count.json").write_text("1" if more is None else "2")


@dataclass(frozen=True, kw_only=True)
class Again:
    """Statistics -> Statistics."""

    def run(self, statistics: Statistics, again: Out[Statistics]) -> None:
        (again.path / "count.json").write_text("1")
'''

GATED = """\
name: toy
root: store-root
parameters: {most: 100, least: 0}
steps:
  read: {uses: project_steps.Read, with: {source: numbers.txt}}
  count: {uses: project_steps.Count}
  copy:
    uses: project_steps.Apply
    with: {function: project_functions.double}
    when: [{uses: project_gates.AtMost, with: {most: "${parameters.most}"}, reads: [count.statistics]}]
  fit: {uses: project_steps.Fit, inputs: {examples: read.examples}}
  bless: {uses: project_gates.Bless, with: {least: "${parameters.least}"}}
  good:
    uses: project_gates.Note
    when: [{uses: project_gates.Blessed, reads: [bless.blessing]}]
  bad:
    uses: project_gates.Note
    inputs: {more: copy.transformed_examples}
    when: [{uses: project_gates.Blessed, with: {wanted: false}, reads: [bless.blessing]}]
  after_good: {uses: project_gates.Again, inputs: {statistics: good.statistics}}
  push: {uses: project_steps.Push, with: {destination: serving}}
"""


def write_project(directory: Path) -> None:
    directory.mkdir()
    (directory / "project_steps.py").write_text(STEPS)
    (directory / "project_functions.py").write_text(FUNCTIONS)
    (directory / "project_helpers.py").write_text(HELPERS)
    (directory / "pipeline.yaml").write_text(DEFINITION)
    (directory / "numbers.txt").write_text("1\n2\n3\n")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The project's directory, which is also the working directory."""
    directory = tmp_path / "project"
    write_project(directory)
    monkeypatch.chdir(directory)
    path = list(sys.path)
    monkeypatch.syspath_prepend(str(directory))
    yield directory
    sys.path[:] = path
    for name in [name for name in sys.modules if name.startswith("project_")]:
        del sys.modules[name]


@pytest.fixture
def gated(project: Path) -> Path:
    """The project's directory, with a definition that has conditions."""
    (project / "project_gates.py").write_text(GATES)
    (project / "pipeline.yaml").write_text(GATED)
    return project


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The root of a store in which the project has run once."""
    directory = tmp_path_factory.mktemp("finished") / "project"
    write_project(directory)
    code = "from pipeline.cli.run import run_pipeline; assert run_pipeline('pipeline.yaml').outcome == 'done'"
    subprocess.run([sys.executable, "-c", code], cwd=directory, check=True)
    return directory / "store-root"


@pytest.fixture
def ran(project: Path, finished_run: Path) -> Path:
    """The project after one run. Its orders name another directory; everything else is as the run left it."""
    shutil.copytree(finished_run, project / "store-root")
    return project


class Children:
    """Forked processes that do one thing, and may be killed at it."""

    @staticmethod
    def start(work: Callable[[], None]) -> int:
        """Do `work` in a forked process; gives its pid. It exits with 0, and with 1 after an exception."""
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                work()
                code = 0
            except BaseException:  # noqa: BLE001 - whatever it is, the child must not go on as a second pytest
                traceback.print_exc()
            finally:
                os._exit(code)
        return pid

    @staticmethod
    def status(pid: int) -> int:
        """The exit code of a child, or minus the signal that killed it."""
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    @staticmethod
    def killed_before_each_call(work: Callable[[], None]) -> Iterator[int]:
        """Do `work` in a child that is killed with SIGKILL before its first call to the system, its second, ... until one survives.

        Gives the number of calls that were let through, each time after the child is gone.
        """
        for allowed in itertools.count():

            def doomed(allowed: int = allowed) -> None:
                left = allowed

                def count(event: str, arguments: tuple[Any, ...]) -> None:
                    nonlocal left
                    if event != "os.kill" and (event.startswith(("os.", "fcntl.", "shutil.")) or event == "open"):
                        if left == 0:
                            os.kill(os.getpid(), signal.SIGKILL)
                        left -= 1

                sys.addaudithook(count)
                work()

            status = Children.status(Children.start(doomed))
            assert status in (0, -signal.SIGKILL)
            yield allowed
            if status == 0:
                return


@pytest.fixture(scope="session")
def children() -> type[Children]:
    return Children


@dataclass
class Heard:
    """What a webhook was told."""

    url: str
    answer: int = 200
    bodies: list[dict[str, Any]] = field(default_factory=list)
    tokens: list[str | None] = field(default_factory=list)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Heard]:
    """A webhook on this machine, which no variable of the environment leads to."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            heard.bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            heard.tokens.append(self.headers["Authorization"])
            self.send_response(heard.answer)
            if 300 <= heard.answer < 400:
                self.send_header("Location", f"{heard.url}/elsewhere")
            self.end_headers()

        def do_GET(self) -> None:
            heard.tokens.append(self.headers["Authorization"])
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 the base class's name
            pass

    for name in ("PENSTOCK_WEBHOOK", "PENSTOCK_WEBHOOK_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    heard = Heard(f"http://127.0.0.1:{listening.server_port}/hooks/secret-path")
    thread = threading.Thread(target=listening.serve_forever, args=(0.02,))
    thread.start()
    yield heard
    listening.shutdown()
    thread.join()
    listening.server_close()
