"""The taxi pipeline as a user runs it, on 300 trips: reuse, reruns, the served model, and SIGKILL inside every step."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from schemas.passport import Passport

REPOSITORY = Path(__file__).parents[1]
STEPS = (
    "example_gen",
    "statistics_gen",
    "schema_gen",
    "example_validator",
    "transform",
    "tuner",
    "trainer",
    "evaluator",
    "infra_validator",
    "pusher",
)
SMALL = (
    "example_gen.source=trips.csv",
    "parameters.train_steps=20",
    "parameters.max_trials=2",
    "tuner.steps=5",
    "trainer.checkpoint_steps=5",
    "release.metrics={auc: {min: 0.3, min_change: -0.5}}",
    "release.latency={}",
)


class Project:
    """A user's copy of the taxi problem, in a directory and under a package name of its own."""

    def __init__(self, directory: Path, trips: Path) -> None:
        self.directory = directory
        package = directory / "my_taxi"
        shutil.copytree(REPOSITORY / "configs" / "taxi", package, ignore=shutil.ignore_patterns("__pycache__"))
        for file in package.iterdir():
            file.write_text(file.read_text().replace("configs.taxi", "my_taxi"))
        shutil.copytree(REPOSITORY / "schemas" / "datasets", directory / "schemas" / "datasets")
        shutil.copy(trips, directory / "trips.csv")
        self.features = package / "features.py"

    def arguments(self, *arguments: str) -> list[str]:
        overrides = [word for override in SMALL for word in ("--set", override)]
        return [
            str(Path(sys.executable).parent / "pipeline"),
            *arguments[:1],
            "my_taxi/pipeline.yaml",
            *overrides,
            *arguments[1:],
        ]

    def pipeline(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.arguments(*arguments), cwd=self.directory, capture_output=True, text=True, check=False
        )

    def run(self, *arguments: str) -> dict[str, dict[str, object]]:
        done = self.pipeline("run", "--json", *arguments)
        assert done.returncode == 0, done.stdout + done.stderr + self.logs()
        return json.loads(done.stdout)["steps"]

    def logs(self) -> str:
        newest = max((self.directory / ".penstock" / "runs").iterdir())
        return "\n".join(f"--- {log.name}\n{log.read_text()[-2000:]}" for log in newest.glob("*.log"))

    def versions(self) -> list[Path]:
        return sorted(path for path in (self.directory / "serving" / "taxi").iterdir() if path.name.isdigit())

    def weights(self) -> dict[str, str]:
        """Digests of what the trained and the pushed model's variables are stored in."""
        (model,) = (self.directory / ".penstock" / "store" / "trainer").glob("*/model/Format-Serving/variables")
        return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in model.iterdir()}


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory, small_taxi_csv: Path) -> Project:
    """A project after its first whole run."""
    project = Project(tmp_path_factory.mktemp("taxi"), small_taxi_csv)
    steps = project.run()
    assert {name: step["action"] for name, step in steps.items()} == dict.fromkeys(STEPS, "run")
    return project


@pytest.mark.slow
def test_an_unchanged_second_run_reuses_every_step_and_pushes_nothing(ran: Project) -> None:
    before = ran.versions()

    done = ran.pipeline("run")

    assert done.returncode == 0
    assert "10 reused" in done.stdout
    assert ran.versions() == before


@pytest.mark.slow
def test_the_pushed_model_answers_raw_rows_in_a_fresh_process(ran: Project) -> None:
    version = ran.versions()[-1]
    asked = subprocess.run(
        [sys.executable, "-m", "my_taxi.ask", "serving/taxi"],
        cwd=ran.directory,
        capture_output=True,
        text=True,
        check=False,
    )

    assert asked.returncode == 0, asked.stderr
    assert version.name in asked.stdout
    probabilities = [float(line.split()[0]) for line in asked.stdout.splitlines()[1:]]
    assert len(probabilities) == 3
    assert all(0 < p < 1 for p in probabilities)


TRIP = {
    "payment_type": "Cash",
    "company": "",
    **dict.fromkeys(("pickup_community_area", "dropoff_community_area"), 8),
    **dict.fromkeys(("trip_start_hour", "trip_start_day", "trip_start_month"), 5),
    "trip_seconds": 300,
    **dict.fromkeys(("trip_miles", "fare", "pickup_latitude", "pickup_longitude"), 1.5),
    **dict.fromkeys(("dropoff_latitude", "dropoff_longitude"), 1.5),
}


@pytest.mark.slow
def test_the_pushed_model_answers_saved_model_cli_and_needs_no_label(ran: Project) -> None:
    rows = json.dumps([{name: [value] for name, value in TRIP.items()}])
    columns = {name: [value.encode()] if isinstance(value, str) else [value] for name, value in TRIP.items()}
    expressions = ";".join(f"{name}={value!r}" for name, value in columns.items())

    def ask(signature: str, *given: str) -> str:
        asked = subprocess.run(
            [
                str(Path(sys.executable).parent / "saved_model_cli"),
                *("run", "--dir", str(ran.versions()[-1]), "--tag_set", "serve", "--signature_def", signature, *given),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        assert asked.returncode == 0, asked.stderr
        return asked.stdout.partition("Result for output key probabilities:")[2].strip()

    answer = ask("serving_default", "--input_examples", f"examples={rows}")
    assert 0 < float(answer.strip("[]")) < 1
    assert ask("serving_columns", "--input_exprs", expressions) == answer


@pytest.mark.slow
def test_the_passport_names_data_lineage_metrics_and_libraries(ran: Project) -> None:
    passport = Passport.read(ran.versions()[-1])

    assert passport is not None
    assert passport.pipeline == "chicago-taxi"
    assert set(passport.steps) == set(STEPS) - {"pusher"}
    (file,) = passport.steps["example_gen"]["files"]
    assert file["digest"] == "sha256:" + hashlib.sha256((ran.directory / "trips.csv").read_bytes()).hexdigest()
    assert passport.model_digest == passport.steps["trainer"]["outputs"]["model"]["digest"]
    assert 0 < passport.metrics["auc"] <= 1
    assert passport.libraries["tensorflow"].startswith("2.16")
    assert passport.steps["transform"]["code"]["my_taxi.features"]["file"] == "my_taxi/features.py"
    assert passport.steps["tuner"]["outputs"]["hyperparameters"]["properties"]["values"]
    gates = {gate["gate"]: gate for gate in passport.gates}
    assert list(gates) == ["example_validator", "evaluator", "infra_validator", "size"]
    assert sum(found["examples"] for found in passport.slices) == gates["evaluator"]["examples"]
    assert passport.warmup_requests == 20


@pytest.mark.slow
def test_a_changed_helper_reruns_transform_and_what_follows_and_nothing_before(ran: Project) -> None:
    before = ran.features.read_text()
    try:
        ran.features.write_text(
            before.replace("return tf.reshape(feature, [-1])", "return tf.reshape(feature + 0, [-1])", 1)
        )
        assert ran.features.read_text() != before
        planned = json.loads(ran.pipeline("plan", "--json").stdout)["steps"]
    finally:
        ran.features.write_text(before)

    by_step = {step["step"]: step for step in planned}
    assert [s["step"] for s in planned if s["action"] == "reuse"] == list(STEPS[:4])
    assert by_step["transform"]["action"] == "run"
    assert by_step["transform"]["reasons"] == ["my_taxi/features.py: fill_missing changed"]
    assert {by_step[name]["action"] for name in STEPS[6:]} == {"wait"}


@pytest.mark.slow
def test_a_comment_reruns_nothing(ran: Project) -> None:
    before = ran.features.read_text()
    try:
        ran.features.write_text(before + "\n# a remark\n")
        planned = json.loads(ran.pipeline("plan", "--json").stdout)["steps"]
    finally:
        ran.features.write_text(before)

    assert {step["action"] for step in planned} == {"reuse"}


@pytest.mark.slow
def test_a_retrained_model_is_compared_with_the_one_that_serves(ran: Project, tmp_path: Path) -> None:
    project = Project.__new__(Project)
    project.directory = tmp_path / "retrained"
    shutil.copytree(ran.directory, project.directory, symlinks=True)
    first = project.versions()[-1]

    # The copied store remembers the push to the first directory, which still holds it.
    steps = project.run("--set", "parameters.train_steps=25")

    assert [name for name, step in steps.items() if step["action"] == "run"] == [
        "trainer",
        "evaluator",
        "infra_validator",
        "pusher",
    ]
    passport = Passport.read(project.versions()[-1])
    assert passport is not None
    assert passport.baseline is not None
    assert passport.baseline["version"] == int(first.name)
    assert {step["action"] for step in project.run("--set", "parameters.train_steps=25").values()} == {"reuse"}


@pytest.mark.slow
def test_a_model_below_its_threshold_is_not_pushed_and_says_why(ran: Project) -> None:
    before = ran.versions()

    done = ran.pipeline("run", "--set", "release.metrics={auc: {min: 0.9999}}")

    assert done.returncode == 3
    assert "auc" in done.stdout
    assert "0.9999" in done.stdout
    assert ran.versions() == before


def kill_inside(project: Project, step: str) -> None:
    """Start a run, and SIGKILL it once `step` has something staged (for Tuner and Trainer: something in scratch)."""
    root = project.directory / ".penstock"
    process = subprocess.Popen(
        project.arguments("run"), cwd=project.directory, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )

    def inside() -> bool:
        if step in ("tuner", "trainer") and (root / "scratch" / step).is_dir():
            return any(path.is_file() for path in (root / "scratch" / step).rglob("*"))
        return any((root / "staging").glob(f"{step}-*/execution"))

    deadline = time.monotonic() + 120
    while not inside():
        assert process.poll() is None, f"the run ended before {step} was seen\n{project.logs()}"
        assert time.monotonic() < deadline, f"{step} did not start\n{project.logs()}"
        time.sleep(0.005)
    process.kill()
    process.wait()
    for found in (root / "store").glob("*/*"):
        assert (found / "manifest.json").is_file(), f"{found} is half published"
    serving = project.directory / "serving" / "taxi"
    for version in serving.glob("[0-9]*"):
        assert (version / Passport.FILE).is_file(), f"{version} is half published"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_sigkill_inside_each_step_and_run_again_ends_in_the_same_weights(
    ran: Project, tmp_path: Path, small_taxi_csv: Path
) -> None:
    project = Project(tmp_path, small_taxi_csv)

    for step in STEPS:
        if (project.directory / ".penstock" / "store" / step).is_dir():
            continue  # it ran beside one that was killed, and was finished
        kill_inside(project, step)
    steps = project.run()

    assert all(step["action"] in ("run", "reuse") for step in steps.values())
    assert project.weights() == ran.weights()
    assert len(project.versions()) == 1
    assert list((project.directory / ".penstock" / "staging").iterdir()) == []
    assert not any(path.name.startswith(".stag") for path in (project.directory / "serving" / "taxi").iterdir())
    assert not any(path.is_file() for path in (project.directory / ".penstock" / "scratch").rglob("*"))
