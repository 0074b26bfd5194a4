"""Where a step finds no need to go on, what waits for a blessing is skipped by itself: Kubeflow is not told of a refusal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

Cluster = Any  # of conftest.py, which cannot be imported

DEFINITION = """\
name: toy
root: store-root
parameters: {fewest: 4, most: 100}
steps:
  read: {uses: project_steps.Read, with: {source: configs/numbers.txt}}
  count: {uses: project_steps.Count}
  judge: {uses: project_steps.Judge, with: {fewest: "${parameters.fewest}", most: "${parameters.most}"}}
  fit: {uses: project_steps.Fit}
  evaluate: {uses: project_release.Evaluate}
  bless: {uses: project_release.Bless}
  push: {uses: project_release.Push, with: {destination: serving}}
"""


@pytest.fixture
def judging(toy: Path, cluster: Cluster) -> Cluster:
    """A cluster whose judge finds that fewer than four lines are no reason to go on."""
    kubeflow = f"kubeflow: {{image: registry.example.com/toy:1, root: {cluster.volume / 'root'}}}\n"
    toy.write_text(DEFINITION + kubeflow)
    return cluster


def blessed(ended: Any) -> bool:
    return bool(ended.said["parameterValues"]["blessed"])


def test_the_task_of_what_waits_begins_and_is_skipped(judging: Cluster) -> None:
    told = {step: judging.here(step) for step in ("read", "count", "judge", "fit", "evaluate", "bless", "push")}

    assert {step: ended.outcome for step, ended in told.items()} == {
        **{"read": "done", "count": "done", "judge": "no need"},
        **{"fit": "skipped", "evaluate": "skipped", "bless": "skipped", "push": "skipped"},
    }
    assert blessed(told["bless"])
    assert not (judging.project / "serving").exists()


def test_after_a_refusal_nothing_that_waits_begins(judging: Cluster) -> None:
    steps = ("read", "count", "judge", "fit", "evaluate", "bless")

    told = {step: judging.here(step, fewest=0, most=2) for step in steps}

    assert (told["judge"].outcome, told["bless"].outcome) == ("refused", "skipped")
    assert not blessed(told["bless"])
