"""A TFX pipeline with conditions and a Resolver: the same nodes run, on the same artifacts, as under TFX's own local runner."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

MODULE = """
import os

from tfx import v1 as tfx
from tfx.dsl.components.common.resolver import Resolver
from tfx.types import standard_artifacts

InputArtifact, OutputArtifact = tfx.dsl.components.InputArtifact, tfx.dsl.components.OutputArtifact
Parameter, component, Cond = tfx.dsl.components.Parameter, tfx.dsl.components.component, tfx.dsl.Cond
LATEST = tfx.dsl.experimental.LatestArtifactStrategy


def tell(log, line):
    with open(log, "a") as file:
        file.write(line + "\\n")


@component
def Train(model: OutputArtifact[standard_artifacts.Model], score: Parameter[int], log: Parameter[str]):
    tell(log, "Train")
    with open(os.path.join(model.uri, "score"), "w") as file:
        file.write(str(score))


@component
def Judge(
    model: InputArtifact[standard_artifacts.Model],
    blessing: OutputArtifact[standard_artifacts.ModelBlessing],
    accuracy: OutputArtifact[standard_artifacts.Float],
    log: Parameter[str],
):
    tell(log, "Judge")
    with open(os.path.join(model.uri, "score")) as file:
        score = int(file.read())
    with open(os.path.join(blessing.uri, "BLESSED" if score >= 70 else "NOT_BLESSED"), "w"):
        blessing.set_int_custom_property("blessed", int(score >= 70))
    accuracy.value = score / 100


@component
def Note(
    model: InputArtifact[standard_artifacts.Model],
    note: OutputArtifact[standard_artifacts.String],
    name: Parameter[str],
    log: Parameter[str],
):
    tell(log, name)
    with open(os.path.join(model.uri, "score")) as file:
        note.value = name + " " + file.read()


@component
def Needs(
    note: InputArtifact[standard_artifacts.String], more: OutputArtifact[standard_artifacts.String], log: Parameter[str]
):
    tell(log, "Needs")
    more.value = note.value


@component
def Takes(
    more: OutputArtifact[standard_artifacts.String],
    log: Parameter[str],
    note: InputArtifact[standard_artifacts.String] = None,
):
    tell(log, "Takes " + (note.value if note else "nothing"))
    more.value = "taken"


def create(score, log, directory):
    train = Train(score=score, log=log)
    model = train.outputs["model"]
    judge = Judge(model=model, log=log)
    blessed = judge.outputs["blessing"].future()[0].custom_property("blessed")
    with Cond(blessed == 1):
        good = Note(model=model, name="Good", log=log).with_id("Good")
        with Cond(judge.outputs["accuracy"].future()[0].value > 0.9):
            great = Note(model=model, name="Great", log=log).with_id("Great")
    with Cond(blessed != 1):
        bad = Note(model=model, name="Bad", log=log).with_id("Bad")
    aside = Note(model=model, name="Aside", log=log).with_id("Aside")
    latest = Resolver(
        strategy_class=LATEST, note=tfx.dsl.Channel(type=standard_artifacts.String, producer_component_id="Aside", output_key="note")
    ).with_id("latest")
    takes = Takes(note=latest.outputs["note"], log=log).with_id("TakesLatest")
    takes_good = Takes(note=good.outputs["note"], log=log).with_id("TakesGood")
    needs = Needs(note=good.outputs["note"], log=log)
    return tfx.dsl.Pipeline(
        pipeline_name="control_flow",
        pipeline_root=os.path.join(directory, "root"),
        components=[latest, takes, train, judge, good, great, bad, aside, takes_good, needs],
        enable_cache=True,
        metadata_connection_config=tfx.orchestration.metadata.sqlite_metadata_connection_config(
            os.path.join(directory, "metadata.db")
        ),
    )
"""

# One process for both runners, which import TFX once then; the steps of ours are in processes of their own all the same.
BOTH = """
import json

from tfx import v1 as tfx

import control_flow_of_tfx
from pipeline.cli.run import run_pipeline

if __name__ == "__main__":
    for score in (80, 60):
        tfx.orchestration.LocalDagRunner().run(control_flow_of_tfx.create(score, f"tfx-{score}.log", "of-tfx"))
        values = {"score": score, "log": f"penstock-{score}.log", "directory": "of-penstock"}
        overrides = [f"parameters.{name}={value}" for name, value in values.items()]
        result = run_pipeline("control_flow_of_tfx:create", overrides=overrides)
        with open(f"penstock-{score}.json", "w") as file:
            json.dump(result.as_json(), file)
"""


@pytest.mark.slow
def test_the_same_nodes_run_on_the_same_artifacts_as_under_TFX_s_own_runner(tmp_path: Path) -> None:
    (tmp_path / "control_flow_of_tfx.py").write_text(MODULE)
    (tmp_path / "both.py").write_text(BOTH)
    done = subprocess.run([sys.executable, "both.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]

    def ran(runner: str, score: int) -> list[str]:
        return sorted((tmp_path / f"{runner}-{score}.log").read_text().splitlines())

    assert ran("penstock", 80) == ran("tfx", 80)
    assert ran("penstock", 60) == ran("tfx", 60)
    assert ran("tfx", 80) == ["Aside", "Good", "Judge", "Needs", "Takes Good 80", "Takes nothing", "Train"]
    assert ran("tfx", 60) == ["Aside", "Bad", "Judge", "Takes Aside 80", "Takes nothing", "Train"]
    good, bad = (json.loads((tmp_path / f"penstock-{score}.json").read_text()) for score in (80, 60))
    assert (good["outcome"], bad["outcome"]) == ("done", "refused")
    steps = good["steps"]
    assert {name for name, step in steps.items() if step["action"] == "skipped"} == {"great", "bad"}
    assert steps["great"]["message"] == "its condition does not hold: judge.accuracy[0].value > 0.9, and it is 0.8"
    assert {name: step["action"] for name, step in bad["steps"].items() if step["action"] != "run"} == {
        "good": "refused",
        "great": "refused",
        "needs": "skipped",
    }
