"""A small pipeline of a user's, compiled, and run as Kubeflow Pipelines would run it: every step in a pod of its own."""

from __future__ import annotations

import functools
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from kfp_backend.backend import Cluster, Finished
from kfp_backend.package import NEWEST, OLDEST, read_package
from kfp_backend.pods import Image

pytestmark = pytest.mark.slow

CHECKOUT = Path(__file__).parents[2]
IMAGE = "registry.example.com/team/tiny:1"
STEPS = ("read", "scale", "fit", "judge", "push")


@dataclass
class Site:
    """A user's files, a volume, and a cluster that has an image of the files and mounts the volume."""

    project: Path
    volume: Path
    cluster: Cluster

    @classmethod
    def make(cls, directory: Path, backend: tuple[int, int] = NEWEST, like: Site | None = None) -> Site:
        """The tiny project beside this file, with its volume (or that of another site) at the path that pods mount it at."""
        volume = like.volume if like else directory / "volume"
        volume.mkdir(exist_ok=True)
        (volume / "numbers.txt").write_text("1\n2\n3\n")
        project = directory / "project"
        shutil.copytree(Path(__file__).parent / "tiny", project, ignore=shutil.ignore_patterns("__pycache__"))
        definition = project / "pipeline.yaml"
        definition.write_text(definition.read_text().replace("VOLUME", str(volume)))
        site = cls(project, volume, Cluster(directory / "cluster", {}, {"penstock": volume}, backend=backend))
        site.build()
        return site

    def build(self) -> None:
        """Build the image from the files as they are."""
        directory = Path(tempfile.mkdtemp(dir=self.project.parent))
        self.cluster.images = {IMAGE: Image.of(self.project, directory, CHECKOUT)}

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

    @functools.cached_property
    def package(self) -> str:
        """The project, compiled."""
        file = self.project.parent / "package.yaml"
        done = self.pipeline("kubeflow", "compile", "pipeline.yaml", "-o", str(file))
        assert done.returncode == 0, done.stdout + done.stderr
        return file.read_text()

    def run(self, parameters: Mapping[str, Any] | None = None, **how: Any) -> Finished:
        """Run the package on the cluster."""
        return self.cluster.run(self.package, parameters, **how)

    def versions(self) -> list[str]:
        """What is in the serving directory."""
        return sorted(path.name for path in (self.volume / "serving" / "tiny").glob("*"))

    def record(self, finished: Finished) -> dict[str, Any]:
        """What the store says of a run."""
        found: dict[str, Any] = json.loads((self.volume / ".penstock/runs" / finished.run.id / "run.json").read_text())
        return found


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """One site for all tests: each makes sure of what it needs there."""
    return Site.make(tmp_path_factory.mktemp("site"))


@pytest.fixture(scope="module")
def first(site: Site) -> Finished:
    """The first run there."""
    return site.run()


def test_a_run_ends_with_a_pushed_model(site: Site, first: Finished) -> None:
    assert first.state == "succeeded", first.report()
    assert first.outcomes(STEPS) == dict.fromkeys(STEPS, "done")
    assert (site.volume / "serving/tiny/1/saved_model.pb").read_text() == "12"
    assert json.loads(first.tasks["push"].outputs["executions"]).keys() == set(STEPS)
    assert first.tasks["judge"].outputs["blessed"] is True


def test_no_task_is_cached_by_kubeflow(site: Site) -> None:
    assert read_package(site.package).cached_tasks() == []


def test_artifacts_say_what_they_refer_to(site: Site, first: Finished) -> None:
    metadata = first.tasks["fit"].artifacts["model"]["metadata"]
    key = json.loads(first.tasks["fit"].outputs["executions"])["fit"]

    assert metadata["type"] == "Model"
    assert metadata["path"] == str(site.volume / ".penstock/store/fit" / key / "model")
    assert Path(metadata["path"]).is_dir()
    assert metadata["digest"].startswith("sha256:")
    assert (metadata["step"], metadata["key"], metadata["run"]) == ("fit", key, first.run.id)
    assert first.tasks["judge"].artifacts["blessing"]["metadata"]["blessed"] == 1.0
    assert first.tasks["read"].artifacts["examples"]["metadata"]["span"] == 3.0
    assert first.tasks["fit"].artifacts["metrics"]["metadata"] == {"sum": 12.0}


def test_every_task_leaves_a_summary_for_the_ui(first: Finished) -> None:
    for name in STEPS:
        assert name in first.tasks[name].files["summary"].read_text()


def test_the_run_is_in_the_store_and_there_is_no_ledger(site: Site, first: Finished) -> None:
    record = site.record(first)

    assert {step["step"]: step["action"] for step in record["steps"]} == dict.fromkeys(STEPS, "run")
    assert record["outcome"] == "done"
    assert not list(site.volume.glob(".penstock/ledger*"))


def test_a_refused_model_is_not_pushed_and_nothing_is_tried_again(site: Site, first: Finished) -> None:
    before = site.versions()

    refused = site.run({"least": 1e9})

    assert refused.state == "succeeded", refused.report()
    assert refused.tasks["judge"].outputs["blessed"] is False
    assert refused.outcomes(STEPS)["push"] == "never started"
    assert site.record(refused)["outcome"] == "refused"
    assert "is below" in refused.tasks["ended"].files["summary"].read_text()
    assert sum(len(task.exit_codes) for task in refused.tasks.values() if task.name in STEPS) == 4
    assert site.versions() == before


def test_a_changed_parameter_reruns_what_depends_on_it_and_a_killed_pod_goes_on_from_where_it_was(
    site: Site, first: Finished
) -> None:
    hold = site.volume / "hold"
    hold.write_text("")

    def half_way() -> bool:
        positions = list(site.volume.glob(".penstock/scratch/fit/*/position.json"))
        if not any(json.loads(position.read_text())[0] == 2 for position in positions):
            return False
        hold.unlink()
        return True

    finished = site.run({"times": 7}, kill={"fit": half_way})

    assert finished.state == "succeeded", finished.report()
    assert finished.outcomes(STEPS) == {
        "read": "reused",
        "scale": "reused",
        "fit": "done",
        "judge": "done",
        "push": "done",
    }
    assert finished.tasks["fit"].exit_codes == [-9, 0]
    assert "going on from 2" in finished.tasks["fit"].logs[1]
    assert finished.tasks["fit"].artifacts["metrics"]["metadata"] == {"sum": 84.0}
    assert not list(site.volume.glob(".penstock/staging/*"))


def test_what_is_done_in_pods_is_reused_locally_and_the_other_way_round(site: Site, first: Finished) -> None:
    def locally(*arguments: str) -> dict[str, str]:
        done = site.pipeline("run", "pipeline.yaml", "--json", *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        return {name: step["action"] for name, step in json.loads(done.stdout)["steps"].items()}

    assert locally() == dict.fromkeys(STEPS, "reuse")
    assert locally("--set", "parameters.times=5")["fit"] == "run"
    before = site.versions()
    assert site.run({"times": 5}).outcomes(STEPS) == dict.fromkeys(STEPS, "reused")
    assert site.versions() == before


def test_an_image_with_other_code_fails_at_every_attempt_and_names_both_sides(
    site: Site, first: Finished, tmp_path: Path
) -> None:
    shutil.copytree(site.project, tmp_path / "project")
    features = tmp_path / "project" / "tiny_features.py"
    features.write_text(features.read_text().replace("* 2", "* 3"))
    images = {IMAGE: Image.of(tmp_path / "project", tmp_path, CHECKOUT)}

    finished = Cluster(tmp_path / "cluster", images, site.cluster.claims).run(site.package)

    assert finished.state == "failed"
    assert set(finished.tasks["scale"].exit_codes) == {2}
    assert "tiny_features is" in finished.tasks["scale"].logs[-1]
    assert "in the image" in finished.tasks["scale"].logs[-1]
    assert finished.tasks["ended"].state == "succeeded"
    assert site.record(finished)["outcome"] == "failed"


def test_without_a_gate_the_step_that_publishes_refuses_and_is_not_tried_again(
    site: Site, first: Finished, tmp_path: Path
) -> None:
    ungated = Site.make(tmp_path, OLDEST, like=site)
    definition = ungated.project / "pipeline.yaml"
    definition.write_text(definition.read_text() + "  gate: false\n  exit_handler: false\n")
    ungated.build()
    before = site.versions()

    refused = ungated.run({"least": 2e9})

    assert refused.state == "succeeded", refused.report()
    assert refused.outcomes(STEPS) == {**dict.fromkeys(STEPS[:3], "reused"), "judge": "done", "push": "refused"}
    assert refused.tasks["push"].exit_codes == [0]
    assert "is below" in refused.tasks["push"].files["summary"].read_text()
    assert site.versions() == before


def test_it_runs_on_the_oldest_backend_too(tmp_path: Path) -> None:
    site = Site.make(tmp_path, OLDEST)

    finished = site.run()

    assert finished.state == "succeeded", finished.report()
    assert finished.outcomes(STEPS) == dict.fromkeys(STEPS, "done")
