"""A pipeline whose destination is an object store: the second run reuses the push, the baseline is what the store serves."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from components.release import destinations
from pipeline.cli.gc import collect_garbage
from pipeline.cli.plan import plan_pipeline
from pipeline.cli.run import run_pipeline
from schemas.errors import StoreError
from schemas.passport import Passport

STEPS = '''
from __future__ import annotations

import shutil
from dataclasses import dataclass

from schemas.artifacts import Blessing, Evaluation, Model
from schemas.component import Baseline, InputFiles, Out


@dataclass(frozen=True, kw_only=True)
class Give:
    """A file -> Model: the SavedModel that somebody made, with the file as its asset."""

    saved_model: str
    words: InputFiles

    def run(self, model: Out[Model]) -> None:
        shutil.copytree(self.saved_model, model.serving)
        shutil.copy(self.words, model.serving / "assets" / "words.txt")


@dataclass(frozen=True, kw_only=True)
class Compare:
    """Model (x Baseline) -> Blessing: blessed whatever it says, with the words of the model that serves."""

    def run(self, model: Model, baseline: Baseline, blessing: Out[Blessing]) -> None:
        blessing.write(())
        words = (baseline.path / "assets" / "words.txt").read_text() if baseline.path else None
        blessing.properties["baseline"] = {"version": baseline.version, "words": words}
'''

DEFINITION = """
name: toy
root: store-root
steps:
  give: {{uses: store_steps.Give, with: {{saved_model: saved_model, words: words.txt}}}}
  compare: {{uses: store_steps.Compare}}
  pusher: {{uses: Pusher, with: {{destination: "{destination}"}}}}
"""

SAVE = """
import sys
import tensorflow as tf

module = tf.Module()
module.words = tf.saved_model.Asset(sys.argv[1])
answer = tf.function(lambda x: {"outputs": x}, input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
tf.saved_model.save(module, sys.argv[2], signatures={"serving_default": answer})
"""


@pytest.fixture
def definition(tmp_path: Path, bucket: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The definition; its directory is the working directory, with the model's file."""
    (tmp_path / "words.txt").write_text("candidate")
    (tmp_path / "store_steps.py").write_text(STEPS)
    (tmp_path / "pipeline.yaml").write_text(DEFINITION.format(destination=bucket.taxi))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    return tmp_path / "pipeline.yaml"


def publish(destination: Any, words: str, directory: Path) -> int:
    """Another model for the store to serve."""
    (directory / "assets").mkdir(parents=True)
    (directory / "saved_model.pb").touch()
    (directory / "assets" / "words.txt").write_text(words)

    def passport(version: int, files: Mapping[str, str]) -> Passport:
        return Passport(pipeline="", run="", pushed_at="", version=version, model_digest=words, files=files)

    return destinations.at(destination).publish(directory, passport)


@pytest.mark.slow
def test_a_run_compares_with_what_the_store_serves_pushes_there_and_is_reused(
    bucket: Any, definition: Path, tmp_path: Path
) -> None:
    subprocess.run([sys.executable, "-c", SAVE, "words.txt", "saved_model"], check=True)
    served = publish(bucket.taxi, "served", tmp_path / "served")

    first, second = run_pipeline(str(definition)), run_pipeline(str(definition))

    assert (first.outcome, second.outcome) == ("done", "nothing new")
    version = destinations.at(bucket.taxi).served()
    assert first.paths["serving"] == second.paths["serving"] == f"{bucket.taxi}/{version}"
    passport = destinations.at(bucket.taxi).passport(version or 0)
    assert passport is not None
    judged = next(gate for gate in passport.gates if gate["gate"] == "compare")
    assert judged["baseline"] == {"version": served, "words": "served"}
    assert passport.baseline == {"version": served, "digest": "served"}
    # What was fetched to compare with is gone, and what the passport names is needed.
    assert not any((tmp_path / "store-root" / "scratch").rglob("words.txt"))
    assert not [item for item in collect_garbage("store-root", keep_runs=0).garbage if "store" in item.path.parts]
    bucket.remove(bucket.taxi / f"{version}/assets/words.txt")
    assert plan_pipeline(str(definition))[-1].reasons == (f"{bucket.taxi}/{version} is gone",)


def test_a_store_that_cannot_be_reached_stops_a_run_before_its_first_step(
    bucket: Any, definition: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")

    with pytest.raises(StoreError, match="no credentials were found"):
        run_pipeline(str(definition))

    assert not (definition.parent / "store-root").exists()
