"""TFX's own taxi example, unmodified: to a pushed model, then nothing new, then what a change in a helper makes run again."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from schemas.passport import Passport

EXAMPLE = "tfx.examples.chicago_taxi_pipeline.taxi_pipeline_native_keras:_create_pipeline"
MODULE = "taxi_utils_native_keras.py"


def pipeline(directory: Path, *arguments: str) -> Any:
    """What `pipeline ... --json` answers about the example, run in `directory`."""
    values = {
        "pipeline_name": "chicago_taxi_native_keras",
        "pipeline_root": "nowhere",
        "metadata_path": "nowhere/metadata.db",  # whose directory TFX makes
        "data_root": "data",
        "module_file": "module_file.py",
        "serving_model_dir": "serving",
        "beam_pipeline_args": "[]",
    }
    overrides = [word for name, value in values.items() for word in ("--set", f"parameters.{name}={value}")]
    command = [
        str(Path(sys.executable).parent / "pipeline"),
        arguments[0],
        EXAMPLE,
        *arguments[1:],
        *overrides,
        "--json",
    ]
    answer = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    return json.loads(answer.stdout)


@pytest.fixture
def project(tmp_path: Path, taxi_csv: Path) -> Path:
    """A directory with the first 1,500 trips and the example's module file, behind one that imports from it."""
    (tmp_path / "data").mkdir()
    with taxi_csv.open(encoding="utf-8") as lines:
        first = "".join(line for line, _ in zip(lines, range(1501), strict=False))
    (tmp_path / "data" / "data.csv").write_text(first, encoding="utf-8")
    shutil.copy(taxi_csv.parents[2] / MODULE, tmp_path)
    (tmp_path / "module_file.py").write_text("from taxi_utils_native_keras import preprocessing_fn, run_fn\n")
    return tmp_path


@pytest.mark.slow
def test_the_taxi_example_of_TFX_is_pushed_by_ours_with_fast_which_says_so(project):
    pushed = pipeline(project, "run", "--fast")

    ours = {"csv_example_gen", "statistics_gen", "transform", "evaluator", "pusher"}
    assert {name for name, what in pushed["fast"].items() if what.startswith("ours for TFX's ")} == ours
    assert pushed["outcome"] == "done"
    assert "latest_blessed_model_resolver" not in pushed["steps"]
    passport = Passport.read(project / pushed["paths"]["serving"])
    assert passport is not None
    assert 0.6 <= passport.metrics["binary_accuracy"] <= 1
    assert set(passport.steps["transform"]["code"]) == {"module_file.py", "taxi_utils_native_keras"}

    plan = pipeline(project, "plan", "--fast")["steps"]

    assert {step["action"] for step in plan} == {"reuse"}
    assert {step["step"]: step["fast"] for step in plan} == pushed["fast"]


@pytest.mark.slow
def test_the_taxi_example_of_TFX_is_pushed_then_reused_and_follows_its_module_s_helpers(project):
    pushed = pipeline(project, "run")

    assert pushed["outcome"] == "done"
    assert {step["action"] for step in pushed["steps"].values()} == {"run"}
    passport = Passport.read(project / pushed["paths"]["serving"])
    assert passport is not None
    assert set(passport.steps["trainer"]["code"]) == {"module_file.py", "taxi_utils_native_keras"}
    assert [gate["blessed"] for gate in passport.gates] == [True, True]

    again = pipeline(project, "run")

    assert again["outcome"] == "nothing new"
    assert [path.name for path in (project / "serving").glob("[0-9]*")] == [str(passport.version)]

    helper = project / MODULE
    helper.write_text(helper.read_text().replace("_FEATURE_BUCKET_COUNT = 10", "_FEATURE_BUCKET_COUNT = 9"))
    plan = {step["step"]: step for step in pipeline(project, "plan")["steps"]}

    reused = {name for name, step in plan.items() if step["action"] == "reuse"}
    assert reused == {"csv_example_gen", "statistics_gen", "schema_gen", "example_validator"}
    assert plan["transform"]["reasons"] == [f"{MODULE}: _FEATURE_BUCKET_COUNT changed"]
