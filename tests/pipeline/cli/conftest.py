"""The `pipeline` command, called in this process, and a user's project whose data grows."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pipeline.cli.main import main
from schemas.passport import Passport

STEPS = '''
from __future__ import annotations

import json
from dataclasses import dataclass

from project_steps import Push as PushAnyway
from schemas.artifacts import Examples, Model, PushedModel
from schemas.component import ChoosesFiles, InputFiles, Lineage, Out, PlannedFiles
from schemas.errors import NotBlessed
from schemas.input_files import FoundFile, expand
from schemas.passport import Passport
from schemas.spans import has_span, select


@dataclass(frozen=True, kw_only=True)
class Read:
    """Files -> Examples: the lines of all of them, or of a window of spans."""

    source: InputFiles
    window: ChoosesFiles[int] = 1
    last_span: ChoosesFiles[int | str | None] = None
    missing_spans: ChoosesFiles[str] = "fail"

    def select_files(self) -> dict[str, list[FoundFile]]:
        if not has_span(self.source):
            return {"source": [FoundFile(file) for file in expand(self.source)]}
        spans = select(self.source, self.window, self.last_span, self.missing_spans)
        return {"source": [file for span in spans for file in span.found()]}

    def run(self, planned: PlannedFiles, examples: Out[Examples]) -> None:
        lines = [line for file in planned.by_setting["source"] for line in file.path.read_text().splitlines()]
        train = examples.split_path("train")
        train.mkdir()
        (train / "lines.json").write_text(json.dumps(lines))


@dataclass(frozen=True, kw_only=True)
class Push(PushAnyway):
    """Model -> PushedModel: unless the model says more than `most`."""

    most: int = 100

    def run(self, model: Model, lineage: Lineage, pushed_model: Out[PushedModel]) -> None:
        said = int((model.serving / "saved_model.pb").read_text())
        if said > self.most:
            raise NotBlessed(f"{said} is more than {self.most}")
        super().run(model, lineage, pushed_model)
        passport = json.loads((pushed_model.version_path / Passport.FILE).read_text())
        passport["pushed_at"] = "2026-07-31T03:00:12+00:00"
        (pushed_model.version_path / Passport.FILE).write_text(json.dumps(passport))
'''

DEFINITION = """\
name: growing
root: store-root
parameters: {most: 100}
steps:
  read: {uses: growing_steps.Read, with: {source: "data/*.txt"}}
  fit: {uses: project_steps.Fit}
  push: {uses: growing_steps.Push, with: {destination: serving, most: "${parameters.most}"}}
"""


@dataclass(frozen=True)
class Said:
    """How the command ended and what it wrote."""

    code: int
    out: str
    err: str

    @property
    def data(self) -> dict[str, Any]:
        """The one JSON document on standard output."""
        found: dict[str, Any] = json.loads(self.out)
        return found


@pytest.fixture
def command(capfd: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    """`command("run", "pipeline.yaml", "--json")`."""

    def call(*arguments: str) -> Said:
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(list(arguments))
        out, err = capfd.readouterr()
        return Said(ended.value.code or 0, out, err)

    return call


@pytest.fixture
def serving(tmp_path: Path) -> Path:
    """A serving directory with two models, versions 1 and 2."""
    directory = tmp_path / "serving"
    for version in (1, 2):
        content = f"model {version}"
        (directory / str(version)).mkdir(parents=True)
        (directory / str(version) / "saved_model.pb").write_text(content)
        digest = hashlib.sha256(content.encode()).hexdigest()
        Passport(
            pipeline="",
            run="",
            pushed_at="",
            version=version,
            model_digest=content,
            files={"saved_model.pb": digest},
        ).write(directory / str(version))
    return directory


def write_growing(project: Path) -> None:
    (project / "growing_steps.py").write_text(STEPS)
    (project / "pipeline.yaml").write_text(DEFINITION)
    (project / "data").mkdir()
    (project / "data/a.txt").write_text("1\n2\n3\n")


@pytest.fixture
def growing(project: Path) -> Path:
    """A project that reads every file of a folder, and pushes."""
    write_growing(project)
    return project


@pytest.fixture(scope="module")
def first_run(finished_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project after a run that pushed version 1."""
    directory = tmp_path_factory.mktemp("growing") / "project"
    shutil.copytree(finished_run.parent, directory, ignore=shutil.ignore_patterns("store-root"))
    write_growing(directory)
    code = (
        "from pipeline.cli.trigger import trigger_pipeline\n"
        "assert trigger_pipeline('pipeline.yaml', if_new_data=True).outcome == 'done'"
    )
    subprocess.run([sys.executable, "-c", code], cwd=directory, check=True)
    return directory


@pytest.fixture
def served(growing: Path, first_run: Path) -> Path:
    """The project as that run left it. What it pushed is taken to be where it was pushed to, which is another directory."""
    for name in ("store-root", "serving"):
        shutil.copytree(first_run / name, growing / name)
    return growing
