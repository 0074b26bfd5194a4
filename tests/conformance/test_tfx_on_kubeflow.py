"""Pipelines written for TFX on Kubeflow, each step in a pod of its own: TFX's taxi example, and a custom component of each kind.

The first compilation and run of the taxi example, and the first local run, are processes that were started; the others are forked by a node.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from kfp_backend.backend import Cluster, Finished
from kfp_backend.node import Node
from kfp_backend.pods import Image

from schemas.passport import Passport

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

CHECKOUT = Path(__file__).parents[2]
IMAGE = "registry.example.com/team/tfx:1"
PROJECT = Path(__file__).parent / "tfx_project"
PIPELINE = str(Path(sys.executable).parent / "pipeline")
HELPER = "taxi_utils_native_keras.py"
STEPS = (
    "csv-example-gen",
    "statistics-gen",
    "schema-gen",
    "example-validator",
    "transform",
    "trainer",
    "latest-blessed-model-resolver",
    "evaluator",
    "pusher",
)
DEFINITION = """
name: chicago-taxi
root: VOLUME/.penstock
ledger: none
parameters: {data_root: data, serving: serving}
tfx:
  pipeline: tfx.examples.chicago_taxi_pipeline.taxi_pipeline_native_keras:_create_pipeline
  arguments:
    pipeline_name: chicago_taxi_native_keras
    pipeline_root: unused
    metadata_path: /tmp/unused/metadata.db # TFX makes its directory
    data_root: "${parameters.data_root}"
    module_file: my_taxi.py
    serving_model_dir: "${parameters.serving}"
    beam_pipeline_args: []
kubeflow:
  image: registry.example.com/team/tfx:1
  root: VOLUME/.penstock
  parameters: {data_root: VOLUME/data, serving: VOLUME/serving}
  defaults: {retries: 1, volumes: [{claim: penstock, path: VOLUME}]}
"""


class Site:
    """A user's project, a volume, and a cluster that has an image of the project and mounts the volume."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.volume = directory / "volume"
        self.volume.mkdir()
        self.project = directory / "project"
        self.project.mkdir()
        self.cluster = Cluster(directory / "cluster", {}, {"penstock": self.volume})
        self.environment = {**Image.environment_of(CHECKOUT), "HOME": str(directory)}

    def define(self, definition: str) -> None:
        """Write pipeline.yaml, with the volume where it is."""
        (self.project / "pipeline.yaml").write_text(definition.replace("VOLUME", str(self.volume)))

    def build(self) -> None:
        """Build the image from the files as they are, and compile the package from them."""
        self.cluster.images = {IMAGE: Image.of(self.project, Path(tempfile.mkdtemp(dir=self.directory)), CHECKOUT)}
        self.compile("pipeline.yaml")

    def compile(self, target: str, *options: str) -> None:
        """Compile a definition."""
        file = self.directory / "package.yaml"
        done = self.pipeline("kubeflow", "compile", target, "-o", str(file), *options)
        assert done.returncode == 0, done.stdout + done.stderr
        self.package = file.read_text()

    def pipeline(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """What the `pipeline` command says on the user's own machine, which has the volume at the same path."""
        if self.cluster.node is not None:
            return self.cluster.node.run([PIPELINE, *arguments], self.environment, self.project)
        return subprocess.run(
            [PIPELINE, *arguments], cwd=self.project, env=self.environment, capture_output=True, text=True, check=False
        )

    def answer(self, *arguments: str) -> Any:
        """What `pipeline ... --json` says there."""
        done = self.pipeline(*arguments, "--json")
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout)

    def run(self, parameters: Mapping[str, Any] | None = None, **how: Any) -> Finished:
        """Run the package on the cluster."""
        return self.cluster.run(self.package, parameters, **how)

    def holding(self) -> bool:
        """Whether the component of the numbers waits in its second round."""
        positions = (self.volume / ".penstock" / "scratch" / "fit").rglob("round")
        return any(position.read_text() == "2" for position in positions)

    def versions(self) -> list[Path]:
        """What is in the serving directory."""
        return sorted(path for path in (self.volume / "serving").glob("*") if path.name.isdigit())

    def outcome(self, finished: Finished) -> str:
        """How the last task said that the run ended."""
        record = json.loads((self.volume / ".penstock/runs" / finished.run.id / "run.json").read_text())
        return str(record["outcome"])


@pytest.fixture(scope="module")
def taxi(tmp_path_factory: pytest.TempPathFactory, taxi_csv: Path, small_taxi_csv: Path) -> Site:
    """The example, with a module file of the user's that imports TFX's."""
    site = Site(tmp_path_factory.mktemp("taxi"))
    (site.volume / "data").mkdir()
    shutil.copy(small_taxi_csv, site.volume / "data" / "data.csv")
    shutil.copy(taxi_csv.parents[2] / HELPER, site.project)
    (site.project / "my_taxi.py").write_text("from taxi_utils_native_keras import preprocessing_fn, run_fn\n")
    site.define(DEFINITION)
    site.build()
    return site


@pytest.fixture(scope="module")
def first(taxi: Site, node: Node) -> Finished:
    """The first run there, whose trainer is killed once it writes its logs. What comes after it is forked."""
    scratch = taxi.volume / ".penstock" / "scratch" / "trainer"

    def trains() -> bool:
        return scratch.is_dir() and any(scratch.rglob("events.out.*"))

    finished = taxi.run(kill={"trainer": trains})
    taxi.cluster.node = node
    return finished


def test_a_run_ends_with_a_pushed_model_though_its_trainer_was_killed(taxi: Site, first: Finished) -> None:
    assert first.state == "succeeded", first.report()
    assert first.outcomes(STEPS) == dict.fromkeys(STEPS, "done")
    assert first.tasks["trainer"].exit_codes == [-9, 0]
    assert "What it left in scratch is used" in first.tasks["trainer"].logs[1]
    assert taxi.outcome(first) == "done"
    (version,) = taxi.versions()
    passport = Passport.read(version)
    assert passport is not None
    assert passport.run == first.run.id
    assert set(passport.steps["trainer"]["code"]) == {"my_taxi.py", "taxi_utils_native_keras"}


def test_the_ui_is_given_types_metrics_and_summaries(first: Finished) -> None:
    assert first.tasks["evaluator"].outputs["blessed"] is True
    assert first.tasks["trainer"].artifacts["model"]["metadata"]["type"] == "Model"
    assert "blessed" in first.tasks["evaluator"].files["summary"].read_text()


def test_a_second_run_reuses_every_step_and_pushes_nothing(taxi: Site, first: Finished) -> None:
    before = taxi.versions()

    second = taxi.run()

    assert second.outcomes(STEPS) == dict.fromkeys(STEPS, "reused"), second.report()
    assert taxi.versions() == before


def test_a_run_on_the_users_own_machine_finds_what_the_pods_did(taxi: Site, first: Finished) -> None:
    places = {"data_root": "data", "serving": "serving"}
    there = [f"--set=parameters.{name}={taxi.volume / directory}" for name, directory in places.items()]

    planned = taxi.answer("plan", "pipeline.yaml", *there)

    assert {step["action"] for step in planned["steps"]} == {"reuse"}


def test_a_change_in_a_helper_of_the_module_file_reruns_what_uses_it(taxi: Site, first: Finished) -> None:
    helper = taxi.project / HELPER
    helper.write_text(helper.read_text().replace("_FEATURE_BUCKET_COUNT = 10", "_FEATURE_BUCKET_COUNT = 9"))
    taxi.build()

    third = taxi.run()

    outcomes = third.outcomes(STEPS)
    assert [name for name in STEPS if outcomes[name] == "reused"] == list(STEPS[:4]), third.report()
    assert f"{HELPER}: _FEATURE_BUCKET_COUNT changed" in third.tasks["transform"].files["summary"].read_text().replace(
        "\\", ""
    )


NUMBERS = ("csv-example-gen", "add-up", "fit", "judge", "pusher")


@pytest.fixture(scope="module")
def numbers(tmp_path_factory: pytest.TempPathFactory, node: Node) -> Site:
    """A pipeline with a custom component of each kind and an artifact type of its own."""
    site = Site(tmp_path_factory.mktemp("numbers"))
    site.cluster.node = node
    (site.volume / "data").mkdir()
    (site.volume / "data" / "data.csv").write_text("number\n" + "".join(f"{number}\n" for number in range(1, 41)))
    for file in PROJECT.glob("*.py"):
        shutil.copy(file, site.project)
    site.define((PROJECT / "pipeline.yaml").read_text())
    site.build()
    return site


@pytest.fixture(scope="module")
def local(numbers: Site) -> dict[str, str]:
    """What a run on the user's own machine did, that went on from one that was killed."""
    hold = numbers.volume / "hold"
    hold.write_text("")
    with (numbers.directory / "killed.txt").open("w") as said:
        killed = subprocess.Popen(
            [PIPELINE, "run", "pipeline.yaml"],
            cwd=numbers.project,
            env=numbers.environment,
            stdout=said,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    deadline = time.monotonic() + 600
    while not numbers.holding():
        assert killed.poll() is None, Path(said.name).read_text()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()
    hold.unlink()
    return actions(numbers)


def actions(site: Site) -> dict[str, str]:
    """What each step of a local run did."""
    return {name: step["action"] for name, step in site.answer("run", "pipeline.yaml")["steps"].items()}


def served(version: Path) -> float:
    """What the model says of 1, which is one more than the sum of all numbers."""
    import tensorflow as tf

    signature = tf.saved_model.load(str(version)).signatures["serving_default"]
    return float(signature(number=tf.constant([1.0]))["scaled"][0])


def test_custom_components_run_on_the_users_own_machine_and_go_on_where_they_were_killed(
    numbers: Site, local: dict[str, str]
) -> None:
    assert local == {"csv_example_gen": "reuse", "add_up": "reuse", "fit": "run", "judge": "run", "pusher": "run"}
    logs = [log.read_text() for log in numbers.volume.glob(".penstock/runs/*/fit.log")]
    assert sorted("going on from round 2" in log for log in logs) == [False, True]
    assert [served(version) for version in numbers.versions()] == [821.0]
    assert set(actions(numbers).values()) == {"reuse"}


def test_custom_components_run_in_pods_and_go_on_where_they_were_killed(numbers: Site, local: dict[str, str]) -> None:
    hold = numbers.volume / "hold"
    hold.write_text("")

    def half_way() -> bool:
        if not numbers.holding():
            return False
        hold.unlink()
        return True

    finished = numbers.run({"factor": 2}, kill={"fit": half_way})

    assert finished.state == "succeeded", finished.report()
    assert finished.outcomes(NUMBERS) == {"csv-example-gen": "reused", **dict.fromkeys(NUMBERS[1:], "done")}
    assert finished.tasks["fit"].exit_codes == [-9, 0]
    assert "going on from round 2" in finished.tasks["fit"].logs[1]
    tally = finished.tasks["add-up"].artifacts["tally"]["metadata"]
    assert (tally["type"], tally["factor"]) == ("NumbersTally", 2.0)
    assert [served(version) for version in numbers.versions()] == [821.0, 1641.0]


def test_a_change_in_a_helper_of_a_custom_component_reruns_it_and_what_follows(
    numbers: Site, local: dict[str, str]
) -> None:
    arithmetic = numbers.project / "my_arithmetic.py"
    arithmetic.write_text(arithmetic.read_text().replace("number + 1", "number + 2"))
    numbers.build()

    finished = numbers.run()

    assert finished.outcomes(NUMBERS) == {**dict.fromkeys(NUMBERS[:2], "reused"), **dict.fromkeys(NUMBERS[2:], "done")}
    assert set(actions(numbers).values()) == {"reuse"}


def test_a_function_that_makes_a_pipeline_is_compiled_with_its_arguments_and_its_pods_reuse_what_there_is(
    numbers: Site, local: dict[str, str]
) -> None:
    values = {
        **{f"parameters.{name}": str(numbers.volume / name) for name in ("data", "serving", "hold")},
        "kubeflow.root": str(numbers.volume / ".penstock"),
        "kubeflow.defaults.volumes": f"[{{claim: penstock, path: {numbers.volume}}}]",
    }
    sets = [word for name, value in values.items() for word in ("--set", f"{name}={value}")]
    actions(numbers)

    numbers.compile("my_pipeline:create_pipeline", "--image", IMAGE, *sets)
    finished = numbers.run()

    assert finished.state == "succeeded", finished.report()
    assert finished.outcomes(NUMBERS) == dict.fromkeys(NUMBERS, "reused")
