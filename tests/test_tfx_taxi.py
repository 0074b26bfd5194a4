"""TFX's own taxi example, unmodified: side by side with LocalDagRunner, killed and resumed, reused, and after a change in a helper."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from components.io import tfrecord
from pipeline.cli.plan import PlannedStep, plan_pipeline
from pipeline.cli.run import run_pipeline
from schemas.passport import Passport

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

EXAMPLE = "tfx.examples.chicago_taxi_pipeline.taxi_pipeline_native_keras:_create_pipeline"
PIPELINE = str(Path(sys.executable).parent / "pipeline")
MODULE = "taxi_utils_native_keras.py"
BEFORE_TRANSFORM = ("csv_example_gen", "statistics_gen", "schema_gen", "example_validator")
AFTER_TRAINER = ("latest_blessed_model_resolver", "evaluator", "pusher")
SPLITS = ("train", "eval")

# The example's own functions, so that two trainings of the same data can be compared: seeded, and of fewer steps.
MODULE_FILE = """
import tensorflow as tf
from taxi_utils_native_keras import preprocessing_fn
from taxi_utils_native_keras import run_fn as train


def run_fn(fn_args):
    tf.keras.utils.set_random_seed(1)
    tf.config.experimental.enable_op_determinism()
    fn_args.train_steps, fn_args.eval_steps = 200, 10
    train(fn_args)
"""

# Beam's in-memory runner is named outright: its default tries to download a binary.
LOCAL_DAG_RUNNER = """
from tfx import v1 as tfx
from tfx.examples.chicago_taxi_pipeline.taxi_pipeline_native_keras import _create_pipeline

made = _create_pipeline(
    pipeline_name="chicago_taxi_native_keras",
    pipeline_root="tfx/pipelines",
    metadata_path="tfx/metadata.db",
    data_root="data",
    module_file="module_file.py",
    serving_model_dir="tfx/serving",
    beam_pipeline_args=["--runner=apache_beam.runners.portability.fn_api_runner.FnApiRunner"],
)
tfx.orchestration.LocalDagRunner().run(made)
"""


@dataclass(frozen=True)
class Project:
    """A directory with 1,500 trips and the example's module file, where runs of the example go on."""

    directory: Path
    fast: bool = False
    seen: dict[str, Any] = field(default_factory=dict)

    def overrides(self) -> list[str]:
        """The arguments of the example's function, as `--set` has them."""
        values = {
            "pipeline_name": "chicago_taxi_native_keras",
            "pipeline_root": "nowhere",
            "metadata_path": "nowhere/metadata.db",  # whose directory TFX makes
            "data_root": "data",
            "module_file": "module_file.py",
            "serving_model_dir": str(self.serving.relative_to(self.directory)),
            "beam_pipeline_args": "[]",
        }
        return [f"parameters.{name}={value}" for name, value in values.items()]

    def arguments(self, verb: str) -> list[str]:
        """The words of `pipeline VERB ...` about the example."""
        fast = ["--fast"] if self.fast else []
        sets = [word for override in self.overrides() for word in ("--set", override)]
        return [PIPELINE, verb, EXAMPLE, "--json", "--root", str(self.root), *fast, *sets]

    @property
    def root(self) -> Path:
        return self.directory / ("fast" if self.fast else "store")

    @property
    def serving(self) -> Path:
        return self.directory / ("serving-fast" if self.fast else "serving")

    def pipeline(self, verb: str) -> Any:
        """What `pipeline VERB ... --json` answers about the example."""
        answer = subprocess.run(self.arguments(verb), cwd=self.directory, capture_output=True, text=True, check=False)
        assert answer.returncode == 0, answer.stdout + answer.stderr
        return json.loads(answer.stdout)

    def plan(self) -> dict[str, PlannedStep]:
        """What `pipeline plan` says of each step, in this process, which has TFX in memory already."""
        more = ["tfx.fast=true"] if self.fast else []
        with contextlib.chdir(self.directory):
            return {
                step.step: step
                for step in plan_pipeline(EXAMPLE, overrides=[*self.overrides(), *more], root=str(self.root))
            }

    def kill(self, written: str) -> None:
        """Run, and SIGKILL the run's whole process group once a file that matches `written` is there below the root."""
        process = subprocess.Popen(
            self.arguments("run"),
            cwd=self.directory,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        deadline = time.monotonic() + 900
        while not any(path.is_file() for path in self.root.glob(written)):
            assert process.poll() is None, f"the run ended before there was {written}"
            assert time.monotonic() < deadline, f"there was no {written}"
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def finished(self) -> dict[str, int]:
        """The steps that are in the store, each with when its manifest was written."""
        manifests = (self.root / "store").glob("*/*/manifest.json")
        return {manifest.parents[1].name: manifest.stat().st_mtime_ns for manifest in manifests}

    def output(self, step: str, output: str) -> Path:
        """Where an output lies in the store."""
        (found,) = (self.root / "store" / step).glob(f"*/{output}")
        return found

    def versions(self) -> list[Path]:
        return [path for path in self.serving.glob("*") if path.name.isdigit()]


@dataclass(frozen=True)
class LocalDagRun:
    """The same run by TFX alone."""

    directory: Path

    def output(self, step: str, output: str) -> Path:
        """Where an output lies below the pipeline root: <node>/<output>/<execution>."""
        node = "".join(word.capitalize() for word in step.split("_"))
        (found,) = (self.directory / "tfx/pipelines" / node / output).iterdir()
        return found

    def versions(self) -> list[Path]:
        return list((self.directory / "tfx/serving").iterdir())


@pytest.fixture(autouse=True)
def _as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """`load` makes the working directory importable, which is nothing for the tests of other modules."""
    monkeypatch.setattr(sys, "path", [*sys.path])


@pytest.fixture(scope="module")
def directory(taxi_csv: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("taxi")
    (directory / "data").mkdir()
    with taxi_csv.open(encoding="utf-8") as lines:
        first = "".join(line for line, _ in zip(lines, range(1501), strict=False))
    (directory / "data" / "data.csv").write_text(first, encoding="utf-8")
    shutil.copy(taxi_csv.parents[2] / MODULE, directory)
    (directory / "module_file.py").write_text(MODULE_FILE)
    return directory


@pytest.fixture(scope="module")
def theirs_started(directory: Path) -> Iterator[subprocess.Popen[str]]:
    """TFX's own run, which goes on while ours does."""
    # Packing the module file into a wheel needs pip, which an environment that uv made has not; TFX's own switch.
    environment = {**os.environ, "UNSUPPORTED_DO_NOT_PACKAGE_USER_MODULES": "1"}
    with (
        (directory / "tfx.log").open("w") as log,
        subprocess.Popen(
            [sys.executable, "-c", LOCAL_DAG_RUNNER],
            cwd=directory,
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process,
    ):
        yield process
        process.kill()


@pytest.fixture(scope="module")
def ours(directory: Path, theirs_started: subprocess.Popen[str]) -> Project:
    """The run by TFX's executors in our steps: killed inside Transform, killed inside Trainer, run to its end."""
    project = Project(directory)
    project.kill("staging/transform-*/*/**/*")
    project.seen["finished when Transform was killed"] = project.finished()
    project.kill("scratch/trainer/**/*tfevents*")
    project.seen["finished when Trainer was killed"] = project.finished()
    project.seen["run to its end"] = project.pipeline("run")
    return project


@pytest.fixture(scope="module")
def theirs(directory: Path, theirs_started: subprocess.Popen[str], ours: Project) -> LocalDagRun:
    status = theirs_started.wait()
    assert status == 0, (directory / "tfx.log").read_text()[-3000:]
    return LocalDagRun(directory)


@pytest.fixture(scope="module")
def fast(ours: Project) -> Project:
    """The run with `--fast`, whose data is compared and not its model: of the records in another order another is trained."""
    project = Project(ours.directory, fast=True)
    project.seen["run to its end"] = project.pipeline("run")
    return project


@pytest.fixture(scope="module", params=["ours", "fast"])
def run(request: pytest.FixtureRequest) -> Project:
    """The run whose data is compared."""
    found: Project = request.getfixturevalue(request.param)
    return found


def test_steps_that_had_finished_when_the_run_was_killed_are_reused_and_nothing_is_half_published(
    ours: Project,
) -> None:
    first, second, now = (
        *(ours.seen[f"finished when {step} was killed"] for step in ("Transform", "Trainer")),
        ours.finished(),
    )
    pushed = ours.seen["run to its end"]

    assert {"csv_example_gen", "statistics_gen", "schema_gen"} <= set(first) <= set(BEFORE_TRANSFORM)
    assert set(second) == {*BEFORE_TRANSFORM, "transform"}
    assert first.items() < second.items() < now.items()
    assert pushed["outcome"] == "done"
    actions = {name: step["action"] for name, step in pushed["steps"].items()}
    assert actions == dict.fromkeys(second, "reuse") | dict.fromkeys(("trainer", *AFTER_TRAINER), "run")
    assert all((found / "manifest.json").is_file() for found in (ours.root / "store").glob("*/*"))
    assert list((ours.root / "staging").iterdir()) == []
    verified = subprocess.run([PIPELINE, "verify", str(ours.serving)], capture_output=True, text=True, check=False)
    assert verified.returncode == 0, verified.stdout + verified.stderr
    assert len(ours.versions()) == 1


def test_the_pushed_model_has_a_passport_with_the_code_and_the_gates(ours: Project) -> None:
    (version,) = ours.versions()

    passport = Passport.read(version)

    assert passport is not None
    assert set(passport.steps["trainer"]["code"]) == {"module_file.py", "taxi_utils_native_keras"}
    assert {gate["gate"]: gate["blessed"] for gate in passport.gates} == dict.fromkeys(
        ("example_validator", "evaluator", "size"), True
    )


def test_an_unchanged_run_changes_nothing(ours: Project) -> None:
    before = ours.versions()

    with contextlib.chdir(ours.directory):
        again = run_pipeline(EXAMPLE, overrides=ours.overrides(), root=str(ours.root))

    assert again.outcome == "nothing new"
    assert ours.versions() == before


def test_a_change_in_a_helper_of_the_module_file_runs_what_depends_on_it(ours: Project) -> None:
    helper = ours.directory / MODULE
    before = helper.read_text()
    try:
        helper.write_text(before.replace("_FEATURE_BUCKET_COUNT = 10", "_FEATURE_BUCKET_COUNT = 9"))
        plan = ours.plan()
    finally:
        helper.write_text(before)

    assert {name for name, step in plan.items() if step.action == "reuse"} == set(BEFORE_TRANSFORM)
    assert plan["transform"].reasons == (f"{MODULE}: _FEATURE_BUCKET_COUNT changed",)


def test_fast_has_our_components_where_they_make_the_same(fast: Project) -> None:
    made_by = {
        manifest["step"]: manifest["component"].rpartition(".")[0]
        for manifest in map(json.loads, (file.read_text() for file in (fast.root / "store").glob("*/*/manifest.json")))
    }

    assert made_by["csv_example_gen"] == "components.data.example_gen"
    assert made_by["statistics_gen"] == "components.data.statistics_gen"
    assert made_by["transform"] == "components.features.transform"
    assert made_by["schema_gen"] == "tfx.components.schema_gen.component"


def test_fast_pushes_a_model_and_says_what_became_of_each_step(fast: Project) -> None:
    pushed = fast.seen["run to its end"]

    ours = {"csv_example_gen", "statistics_gen", "transform", "evaluator", "pusher"}
    assert {name for name, what in pushed["fast"].items() if what.startswith("ours for TFX's ")} == ours
    assert pushed["outcome"] == "done"
    assert "latest_blessed_model_resolver" not in pushed["steps"]
    passport = Passport.read(fast.directory / pushed["paths"]["serving"])
    assert passport is not None
    assert 0.6 <= passport.metrics["binary_accuracy"] <= 1

    plan = fast.plan()

    assert {step.action for step in plan.values()} == {"reuse"}
    assert {name: step.fast for name, step in plan.items()} == pushed["fast"]


def examples(artifact: Path, split: str) -> list[bytes]:
    """The records of a split in their order."""
    return [record for file in sorted((artifact / f"Split-{split}").iterdir()) for record in tfrecord.read(file)]


@pytest.mark.parametrize("split", SPLITS)
def test_split_records_are_those_of_LocalDagRunner(run: Project, theirs: LocalDagRun, split: str) -> None:
    found, expected = (examples(one.output("csv_example_gen", "examples"), split) for one in (run, theirs))

    assert len(found) > 400
    assert canonical(found) == canonical(expected)


def canonical(records: list[bytes]) -> list[bytes]:
    """The records of a split whatever their order, and whatever the order of the features in each."""
    from tensorflow.core.example.example_pb2 import Example

    return sorted(Example.FromString(record).SerializeToString(deterministic=True) for record in records)


@pytest.mark.parametrize("split", SPLITS)
def test_statistics_are_those_of_LocalDagRunner(
    run: Project, theirs: LocalDagRun, split: str, assert_equal_statistics: Callable[..., None]
) -> None:
    found, expected = (
        one.output("statistics_gen", "statistics") / f"Split-{split}" / "FeatureStats.pb" for one in (run, theirs)
    )

    assert_equal_statistics(found, expected)


def test_the_schema_is_that_of_LocalDagRunner(run: Project, theirs: LocalDagRun) -> None:
    found, expected = (one.output("schema_gen", "schema") / "schema.pbtxt" for one in (run, theirs))

    assert found.read_bytes() == expected.read_bytes()


@pytest.mark.parametrize("split", SPLITS)
def test_anomalies_are_those_of_LocalDagRunner(ours: Project, theirs: LocalDagRun, split: str) -> None:
    found, expected = (
        one.output("example_validator", "anomalies") / f"Split-{split}" / "SchemaDiff.pb" for one in (ours, theirs)
    )

    assert found.read_bytes() == expected.read_bytes()


def test_vocabularies_are_those_of_LocalDagRunner_byte_for_byte(run: Project, theirs: LocalDagRun) -> None:
    found, expected = (
        {file.name: file.read_bytes() for file in (one.output("transform", "transform_graph")).glob("*/assets/*")}
        for one in (run, theirs)
    )

    assert len(expected) == 2
    assert found == expected


@pytest.mark.parametrize("split", SPLITS)
def test_transformed_examples_are_those_of_LocalDagRunner(run: Project, theirs: LocalDagRun, split: str) -> None:
    import numpy as np

    found, expected = (transformed(one, split) for one in (run, theirs))

    assert found.keys() == expected.keys()
    assert len(expected) == 17
    for name, values in expected.items():
        if values.dtype.kind == "f":
            np.testing.assert_allclose(found[name], values, rtol=1e-5, atol=1e-5, err_msg=name)
        else:
            np.testing.assert_array_equal(found[name], values, err_msg=name)


def transformed(of: Project | LocalDagRun, split: str) -> dict[str, Any]:
    """The transformed features of a split by name, in the order of the raw records that they were made of."""
    import numpy as np
    from tensorflow.core.example.example_pb2 import Example

    raw = examples(of.output("csv_example_gen", "examples"), split)
    made = examples(of.output("transform", "transformed_examples"), split)
    assert len(raw) == len(made)
    in_order = sorted(
        zip((Example.FromString(record).SerializeToString(deterministic=True) for record in raw), made, strict=True)
    )
    rows = [Example.FromString(record).features.feature for _, record in in_order]
    return {
        name: np.array([list(getattr(row[name], row[name].WhichOneof("kind")).value) for row in rows])
        for name in rows[0]
    }


def test_metrics_are_those_of_LocalDagRunner(ours: Project, theirs: LocalDagRun) -> None:
    found, expected = (metrics(one.output("evaluator", "evaluation")) for one in (ours, theirs))

    assert expected["binary_accuracy"] > 0.6
    assert found == pytest.approx(expected, rel=1e-5)


def metrics(evaluation: Path) -> dict[str, float]:
    import tensorflow_model_analysis as tfma

    ((_, found),) = tfma.load_eval_result(str(evaluation)).slicing_metrics
    return {name: value["doubleValue"] for name, value in found[""][""].items()}


def test_the_pushed_model_answers_as_LocalDagRunner_s(ours: Project, theirs: LocalDagRun) -> None:
    import numpy as np
    import tensorflow as tf

    asked = tf.constant(sorted(examples(theirs.output("csv_example_gen", "examples"), "eval")))
    found, expected = (
        tf.saved_model.load(str(version)).signatures["serving_default"](examples=asked)["outputs"].numpy()
        for one in (ours, theirs)
        for version in one.versions()
    )

    assert np.ptp(expected) > 0.1
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
