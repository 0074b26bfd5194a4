"""The data steps' memory does not grow with the rows: 300,000 of them go through with resources.memory of 2 GB, and less."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from components.data.example_gen import ExampleGen
from components.data.statistics_gen import StatisticsGen
from components.features.transform import Transform
from schemas.artifact import Artifact
from schemas.artifacts import Examples, FeatureSchema, Model
from schemas.component import BeamOptions, Progress

ROWS = 300_000
DATA_MB = (
    1500  # that the process may ask for; a step that held the rows as Python objects would ask for several times that
)
PEAK_MB = {"ExampleGen": 450, "StatisticsGen": 900, "Transform": 1000, "Evaluator": 950}
"""Of these TensorFlow and TFX's libraries, which all but ExampleGen import, take 650 by themselves. The rows are some 180 MB
as serialized records, and several times that in any other form but columns."""

pytestmark = pytest.mark.slow

RUN = """
    import json, os, resource, sys
    os.environ["TF_USE_LEGACY_KERAS"] = "1"
    from pathlib import Path
    import apache_beam, pyarrow.csv, pyarrow.parquet
    from components.data.example_gen import ExampleGen
    from components.data.statistics_gen import StatisticsGen
    from components.features.transform import Transform
    from components.model.evaluator import Evaluator
    from pipeline.contract import read_contract
    from schemas.artifacts import Blessing, Evaluation, Examples, FeatureSchema, Model, Statistics
    from schemas.component import Baseline, BeamOptions, Progress

    step, limit, source, to = sys.argv[1], int(sys.argv[2]) << 20, sys.argv[3], Path(sys.argv[4])
    schema, model = map(Path, sys.argv[5:])
    if step != "ExampleGen":
        import tensorflow_data_validation, tensorflow_model_analysis, tensorflow_transform.beam
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))

    def made(kind, name):
        (to / name).mkdir(parents=True)
        return kind(to / name)

    beam, progress = BeamOptions(memory=2_000_000_000), Progress()
    if step == "ExampleGen":
        ExampleGen(source=source).run(beam, progress, made(Examples, "examples"))
    elif step == "StatisticsGen":
        StatisticsGen().run(Examples(Path(source)), beam, progress, made(Statistics, "statistics"))
    elif step == "Transform":
        Transform(preprocessing_fn="configs.taxi.features.preprocessing_fn").run(
            Examples(Path(source)), FeatureSchema(schema), beam, progress,
            **{name: made(kind, name) for name, kind in read_contract(Transform).outputs.items()},
        )
    else:
        Evaluator(label="big_tip", split="train", slices=((), ("trip_start_hour",))).run(
            Examples(Path(source)), Model(model), Baseline(), beam, progress,
            made(Evaluation, "evaluation"), made(Blessing, "blessing"),
        )
    # Not getrusage's, which begins with the peak of the process that this one was forked from.
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    print("PEAK", int(status["VmHWM"].split()[0]) // 1024)
"""


def peak_mb(step: str, source: Path, to: Path, schema: FeatureSchema, model: Model) -> int:
    """The most memory that the step's process had, in MB."""
    arguments = [step, str(DATA_MB), str(source), str(to), str(schema.path), str(model.path)]
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(RUN), *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return int(done.stdout.rpartition("PEAK ")[2])


@pytest.fixture(scope="module")
def measured(
    taxi_csv: Path, xf_schema: FeatureSchema, xf_model: Model, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, int]:
    """The peak of ExampleGen, and then of each step that reads its examples."""
    to = tmp_path_factory.mktemp("memory")
    header, *rows = taxi_csv.read_bytes().splitlines(keepends=True)
    with (to / "trips.csv").open("wb") as out:
        out.write(header)
        for _ in range(ROWS // len(rows) + 1):
            out.writelines(rows)
    sources = {step: to / ("trips.csv" if step == "ExampleGen" else "examples") for step in PEAK_MB}
    return {step: peak_mb(step, source, to, xf_schema, xf_model) for step, source in sources.items()}


@pytest.mark.parametrize("step", PEAK_MB)
def test_the_steps_memory_does_not_grow_with_the_rows(measured: dict[str, int], step: str) -> None:
    assert measured[step] < PEAK_MB[step]


def content(artifact: Artifact) -> dict[str, bytes]:
    """Every file, but for those with the random names that TensorFlow gives the parts of a graph."""
    return {
        str(file.relative_to(artifact.path)): file.read_bytes()
        for file in sorted(artifact.path.rglob("*"))
        if file.is_file() and file.name not in ("saved_model.pb", "fingerprint.pb")
    }


def test_a_step_makes_the_same_bytes_in_little_memory_and_in_much(
    small_taxi_csv: Path,
    xf_examples: Examples,
    xf_schema: FeatureSchema,
    outputs_of: Callable[[type, Path], dict[str, Any]],
    tmp_path: Path,
) -> None:
    def all_steps(memory: int) -> dict[str, dict[str, bytes]]:
        made: dict[str, Artifact] = {}
        for step, given in (
            (ExampleGen(source=str(small_taxi_csv)), ()),
            (StatisticsGen(), (xf_examples,)),
            (Transform(preprocessing_fn="configs.taxi.features.preprocessing_fn"), (xf_examples, xf_schema)),
        ):
            to = tmp_path / str(memory) / type(step).__name__
            to.mkdir(parents=True)
            outputs = outputs_of(type(step), to)
            step.run(*given, beam=BeamOptions(memory=memory), progress=Progress(), **outputs)
            made |= outputs
        return {name: content(artifact) for name, artifact in made.items()}

    assert all_steps(1_010_000_000) == all_steps(8_000_000_000)
