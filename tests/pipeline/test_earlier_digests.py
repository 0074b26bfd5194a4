"""What a run would be made of is looked at once for a step that looks back, whatever else it is given."""

from __future__ import annotations

from pathlib import Path

from pipeline.cli.plan import plan_pipeline
from pipeline.cli.run import run_pipeline

STEPS = '''
from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from schemas.artifact import ABSENT
from schemas.artifacts import Model
from schemas.component import Baseline, Earlier, InputFiles, Out, Sought
from schemas.input_files import FoundFile


@dataclass(frozen=True, kw_only=True)
class Served:
    """-> Model: what is served, looked at anew where the run is of something new."""

    def sought(self) -> list[Sought]:
        return []

    def run(self, baseline: Baseline, earlier: Earlier, model: Out[Model]) -> None:
        model.serving.mkdir()
        if baseline.path is None:
            model.properties[ABSENT] = True
        else:
            (model.serving / "saved_model.pb").write_bytes((baseline.path / "saved_model.pb").read_bytes())


@dataclass(frozen=True, kw_only=True)
class Grow:
    """Model, a file -> Model: with the letters of the file at its end. Each look for the file leaves a line in looks.txt."""

    source: InputFiles

    def select_files(self) -> dict[str, list[FoundFile]]:
        with Path("looks.txt").open("a") as looks:
            looks.write("looked\\n")
        return {"source": [FoundFile(Path(self.source))]}

    def run(self, model: Model, grown: Out[Model]) -> None:
        before = "" if model.properties.get(ABSENT) else (model.serving / "saved_model.pb").read_text()
        grown.serving.mkdir()
        (grown.serving / "saved_model.pb").write_text(before + Path(self.source).read_text())
'''

DEFINITION = """\
name: toy
root: store-root
steps:
  served: {uses: project_digests.Served}
  grow: {uses: project_digests.Grow, inputs: {model: served.model}, with: {source: letters.txt}}
  push: {uses: project_steps.Push, inputs: {model: grow.grown}, with: {destination: serving}}
"""


def test_a_plan_looks_once_for_what_a_run_would_be_made_of(project: Path) -> None:
    (project / "project_digests.py").write_text(STEPS)
    (project / "letters.txt").write_text("a")
    (project / "pipeline.yaml").write_text(DEFINITION)
    assert run_pipeline("pipeline.yaml").outcome == "done"
    looks = project / "looks.txt"
    looks.unlink()

    plan = plan_pipeline("pipeline.yaml")

    assert [step.action for step in plan] == ["reuse", "reuse", "reuse"]
    assert looks.read_text().splitlines() == ["looked"] * 3  # lint, what `served` is given, the key of `grow`
