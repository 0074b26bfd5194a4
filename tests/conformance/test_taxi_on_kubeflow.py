"""The taxi pipeline on Kubeflow: 300 trips and few steps, each step in a pod of its own, from files to a pushed model.

The first run's pods are processes that were started; those of the others are forked by a node.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from kfp_backend.backend import Cluster, Finished
from kfp_backend.node import Node
from kfp_backend.pods import Image

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

CHECKOUT = Path(__file__).parents[2]
IMAGE = "registry.example.com/team/penstock:0.1.0"
STEPS = (
    "example-gen",
    "statistics-gen",
    "schema-gen",
    "example-validator",
    "transform",
    "tuner",
    "trainer",
    "evaluator",
    "infra-validator",
    "pusher",
)
# What makes the definition small, and puts what pods read and write onto their volume.
SMALL = {
    "train_steps: 1000": "train_steps: 20",
    "max_trials: 3": "max_trials: 2\n  least_auc: 0.3",
    "min: 0.7, min_change: -0.01": '"min": "${parameters.least_auc}", min_change: -0.5',
    "  latency: {p50_ms: 20, p99_ms: 200}": "  latency: {}",
    "pkg://tfx/examples/chicago_taxi_pipeline/data/simple/*.csv": "VOLUME/trips.csv",
    "steps: 200": "steps: 5",
    'steps: "${parameters.train_steps}"': 'steps: "${parameters.train_steps}"\n      checkpoint_steps: 5',
    "root: .penstock": "root: VOLUME/.penstock",
    "destination: serving/taxi": "destination: VOLUME/serving/taxi",
    "/mnt/penstock": "VOLUME",
    "configs.taxi": "my_taxi",
}


class Site:
    """A user's copy of the taxi problem in an image, a volume, and a cluster that has both."""

    def __init__(self, directory: Path, trips: Path) -> None:
        self.volume = directory / "volume"
        self.volume.mkdir()
        shutil.copy(trips, self.volume / "trips.csv")
        self.project = directory / "project"
        package = self.project / "my_taxi"
        shutil.copytree(CHECKOUT / "configs" / "taxi", package, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copytree(CHECKOUT / "schemas" / "datasets", self.project / "schemas" / "datasets")
        for file in package.glob("*.py"):
            file.write_text(file.read_text().replace("configs.taxi", "my_taxi"))
        self._rewrite(package / "pipeline.yaml", SMALL)
        (self.project / "kubeflow").mkdir()
        shutil.copy(CHECKOUT / "kubeflow" / "resources.yaml", self.project / "kubeflow")
        self._rewrite(self.project / "kubeflow" / "resources.yaml", {"/mnt/penstock": "VOLUME"})
        image = Image.of(self.project, directory, CHECKOUT)
        self.cluster = Cluster(directory / "cluster", {IMAGE: image}, {"penstock": self.volume})
        done = self.pipeline("kubeflow", "compile", "my_taxi/pipeline.yaml", "-o", str(directory / "taxi.yaml"))
        assert done.returncode == 0, done.stdout + done.stderr
        self.package = (directory / "taxi.yaml").read_text()

    def _rewrite(self, file: Path, changes: Mapping[str, str]) -> None:
        text = file.read_text()
        for old, new in changes.items():
            assert old in text, old
            text = text.replace(old, new.replace("VOLUME", str(self.volume)))
        file.write_text(text)

    def pipeline(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """The `pipeline` command on the user's own machine, which has the volume at the same path."""
        return subprocess.run(
            [sys.executable, "-m", "pipeline.cli.main", *arguments],
            cwd=self.project,
            env={**Image.environment_of(CHECKOUT), "HOME": str(self.volume.parent)},
            capture_output=True,
            text=True,
            check=False,
        )

    def run(self, parameters: Mapping[str, Any] | None = None, **how: Any) -> Finished:
        """Run the package on the cluster."""
        return self.cluster.run(self.package, parameters, **how)

    def versions(self) -> list[Path]:
        """What is in the serving directory."""
        found = (self.volume / "serving" / "taxi").iterdir()
        return sorted(path for path in found if path.name.isdigit())

    def outcome(self, finished: Finished) -> str:
        """How the last task said that the run ended."""
        record = json.loads((self.volume / ".penstock/runs" / finished.run.id / "run.json").read_text())
        return str(record["outcome"])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, small_taxi_csv: Path) -> Site:
    return Site(tmp_path_factory.mktemp("taxi"), small_taxi_csv)


@pytest.fixture(scope="module")
def first(site: Site, node: Node) -> Finished:
    """The first run there."""
    finished = site.run()
    site.cluster.node = node
    return finished


def test_a_run_ends_with_a_pushed_model(site: Site, first: Finished) -> None:
    assert first.state == "succeeded", first.report()
    assert first.outcomes(STEPS) == dict.fromkeys(STEPS, "done")
    assert site.outcome(first) == "done"
    (version,) = site.versions()
    passport = json.loads((version / "assets.extra" / "passport.json").read_text())
    assert passport["pipeline"] == "chicago-taxi"
    assert passport["run"] == first.run.id


def test_the_ui_is_given_metrics_curves_and_summaries(first: Finished) -> None:
    evaluator = first.tasks["evaluator"]

    assert 0 < evaluator.artifacts["metrics"]["metadata"]["auc"] <= 1
    assert "roc" in evaluator.artifacts
    assert evaluator.outputs["blessed"] is True
    assert "auc" in evaluator.files["summary"].read_text()
    assert first.tasks["trainer"].artifacts["model"]["metadata"]["type"] == "Model"


def test_a_second_run_reuses_every_step_and_pushes_nothing(site: Site, first: Finished) -> None:
    before = site.versions()

    second = site.run()

    assert second.outcomes(STEPS) == dict.fromkeys(STEPS, "reused"), second.report()
    assert site.versions() == before


def test_a_run_on_the_users_own_machine_finds_what_the_pods_did(site: Site, first: Finished) -> None:
    planned = site.pipeline("plan", "my_taxi/pipeline.yaml", "--json")

    assert planned.returncode == 0, planned.stderr
    assert {step["action"] for step in json.loads(planned.stdout)["steps"]} == {"reuse"}


def test_a_refused_model_is_not_pushed_and_the_run_says_so(site: Site, first: Finished) -> None:
    before = site.versions()

    refused = site.run({"least_auc": 0.9999})

    assert refused.state == "succeeded", refused.report()
    assert refused.tasks["evaluator"].outputs["blessed"] is False
    assert "0.9999" in refused.tasks["evaluator"].files["summary"].read_text()
    assert refused.outcomes(STEPS)["pusher"] == "never started"
    assert max(len(task.exit_codes) for task in refused.tasks.values()) == 1
    assert site.outcome(refused) == "refused"
    assert site.versions() == before


def test_a_changed_parameter_retrains_and_a_trainer_that_is_killed_goes_on_in_a_new_pod(
    site: Site, first: Finished
) -> None:
    scratch = site.volume / ".penstock" / "scratch" / "trainer"

    def a_checkpoint_is_there() -> bool:
        return scratch.is_dir() and any(scratch.rglob("ckpt-*.index"))

    finished = site.run({"train_steps": 40}, kill={"trainer": a_checkpoint_is_there})

    assert finished.state == "succeeded", finished.report()
    assert finished.tasks["trainer"].exit_codes == [-9, 0]
    assert "What it left in scratch is used" in finished.tasks["trainer"].logs[1]
    assert finished.outcomes(STEPS) == {
        **dict.fromkeys(STEPS[:6], "reused"),
        **dict.fromkeys(STEPS[6:], "done"),
    }
    assert len(site.versions()) == 2
