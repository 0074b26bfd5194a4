"""Drift as the reason to train, on Kubeflow: what the served model was trained on decides whether a run goes on, and rests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.plan import make_plan
from pipeline.store import Store

Cluster = Any  # of conftest.py, which cannot be imported

STEPS = '''
from __future__ import annotations

import json
from dataclasses import dataclass

from project_steps import Push
from schemas.artifacts import Examples, FeatureSchema, Model, PushedModel, Statistics
from schemas.artifacts.pushed_model import STATISTICS
from schemas.component import Lineage, Out


@dataclass(frozen=True, kw_only=True)
class Look:
    """Examples -> Statistics: TFDV's, of the lines."""

    def run(self, examples: Examples, statistics: Out[Statistics]) -> None:
        import pandas
        import tensorflow_data_validation as tfdv

        lines = json.loads((examples.split("train") / "lines.json").read_text())
        statistics.split_path("train").mkdir()
        found = tfdv.generate_statistics_from_dataframe(pandas.DataFrame({"word": lines}))
        statistics.file("train").write_bytes(found.SerializeToString(deterministic=True))


@dataclass(frozen=True, kw_only=True)
class Know:
    """Statistics -> FeatureSchema."""

    def run(self, statistics: Statistics, schema: Out[FeatureSchema]) -> None:
        schema.file.write_text('feature { name: "word" type: BYTES }')


@dataclass(frozen=True, kw_only=True)
class Learn:
    """Examples -> Model: how many lines there are."""

    def run(self, examples: Examples, model: Out[Model]) -> None:
        model.serving.mkdir()
        lines = json.loads((examples.split("train") / "lines.json").read_text())
        (model.serving / "saved_model.pb").write_text(str(len(lines)))


@dataclass(frozen=True, kw_only=True)
class Keep(Push):
    """Model -> PushedModel, with the statistics."""

    def run(self, model: Model, statistics: Statistics, lineage: Lineage, pushed_model: Out[PushedModel]) -> None:
        super().run(model, lineage, pushed_model)
        file = pushed_model.version_path / STATISTICS / "train" / Statistics.FILE
        file.parent.mkdir(parents=True)
        file.write_bytes(statistics.file("train").read_bytes())
'''

DEFINITION = """\
name: toy
root: store-root
steps:
  read: {uses: project_steps.Read, with: {source: words.txt}}
  look: {uses: project_retraining.Look}
  know: {uses: project_retraining.Know}
  validator: {uses: ExampleValidator, with: {skew: {word: 0.2}, on_drift: retrain}}
  learn: {uses: project_retraining.Learn}
  push: {uses: project_retraining.Keep, with: {destination: serving}}
"""
ALL_NEW = dict.fromkeys(("read", "look", "know", "validator", "learn", "push"), "done")


@pytest.fixture
def retraining(cluster: Cluster) -> Cluster:
    """The cluster with a definition whose validator decides whether there is anything to train for."""
    definition = Path("pipeline.yaml")
    kubeflow = definition.read_text()[definition.read_text().index("kubeflow:") :]
    definition.write_text(DEFINITION + kubeflow)
    Path("project_retraining.py").write_text(STEPS)
    write_words(cash=50)
    return cluster


def write_words(cash: int) -> None:
    """A hundred words, so many of which are cash."""
    Path("words.txt").write_text("cash\n" * cash + "card\n" * (100 - cash))


@pytest.fixture
def outcomes(retraining: Cluster) -> Callable[[str], dict[str, str]]:
    """Runs every task, as Kubeflow does; gives how each ended."""

    def run(name: str) -> dict[str, str]:
        return {step.id: retraining.here(step.id, name).outcome for step in retraining.definition().graph.steps}

    return run


def planned(cluster: Cluster) -> dict[str, str]:
    return {step.step: step.action for step in make_plan(cluster.definition().graph, Store(cluster.root))}


def served() -> list[str]:
    return sorted(path.name for path in Path("serving").iterdir())


def test_a_first_run_trains_and_an_unchanged_one_finds_nothing_new_although_its_own_model_serves_now(
    retraining: Cluster, outcomes: Callable[[str], dict[str, str]]
) -> None:
    assert outcomes("job-1") == ALL_NEW
    assert set(planned(retraining).values()) == {"reuse"}
    assert set(outcomes("job-2").values()) == {"reused"}
    assert served() == ["1"]


def test_data_like_that_which_the_served_model_was_trained_on_skips_the_run_and_is_looked_at_once(
    retraining: Cluster, outcomes: Callable[[str], dict[str, str]]
) -> None:
    outcomes("job-1")
    write_words(cash=60)

    assert outcomes("job-2") == {
        "read": "done", "look": "done", "know": "done", "validator": "no need", "learn": "skipped", "push": "skipped",
    }  # fmt: skip
    record = retraining.record("job-2")["steps"]["validator"]
    assert record["message"].endswith(
        "L-infinity distance 0.1 is within 0.2 (the data against what version 1 was trained on)"
    )
    assert planned(retraining)["validator"] == "no need"
    outcomes("job-3")
    assert (
        retraining.record("job-3")["steps"]["validator"]["reason"] == "nothing changed since it found no need to go on"
    )
    assert served() == ["1"]


def test_what_would_train_waits_for_the_validators_word(retraining: Cluster) -> None:
    graph = retraining.definition().graph

    assert graph["learn"].parents == ("read", "validator")
    assert graph["validator"].parents == ("look", "know")


def test_data_that_has_drifted_from_that_trains_and_then_rests(
    retraining: Cluster, outcomes: Callable[[str], dict[str, str]]
) -> None:
    outcomes("job-1")
    write_words(cash=90)

    assert outcomes("job-2") == ALL_NEW
    assert set(outcomes("job-3").values()) == {"reused"}
    assert served() == ["1", "2"]


def test_each_skipped_run_compares_with_the_model_that_serves_and_not_with_the_run_before(
    retraining: Cluster, outcomes: Callable[[str], dict[str, str]]
) -> None:
    outcomes("job-1")
    for number, cash in enumerate((60, 68), start=2):
        write_words(cash)
        assert outcomes(f"job-{number}")["validator"] == "no need"

    write_words(cash=75)  # 7 more than the last time, and 25 more than what serves knows

    assert outcomes("job-4") == ALL_NEW
