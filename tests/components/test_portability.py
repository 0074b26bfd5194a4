"""Steps on Beam workers in other processes: the same artifacts, and errors that say what a worker lacks."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import apache_beam
import pytest

from components.data.example_gen import ExampleGen
from components.data.statistics_gen import StatisticsGen
from components.features.transform import Transform
from components.io.beam import pipeline
from components.io.workers import Packed
from components.model.evaluator import Evaluator
from schemas.artifact import Artifact
from schemas.artifacts import (
    Blessing,
    Evaluation,
    Examples,
    FeatureSchema,
    Model,
    Statistics,
)
from schemas.component import Baseline, BeamOptions, Progress
from schemas.errors import ConfigError, DataError

REPOSITORY = Path(__file__).parents[2]
pytestmark = pytest.mark.slow


@contextlib.contextmanager
def server(module: str, *arguments: str, directory: Path) -> Iterator[None]:
    """A server of Beam's in a directory of its own, ended with every process that it started."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TF_")}
    environment["PATH"] = (
        f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # workers are whatever `python` is there
    )
    environment["PYTHONPATH"] = str(REPOSITORY)
    with (directory / "log").open("wb") as log:
        running = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            cwd=directory,
            env=environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            yield
        finally:
            for ending in (signal.SIGTERM, signal.SIGKILL):
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(running.pid, ending)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    running.wait(5)


def free_port() -> int:
    with socket.socket() as tried:
        tried.bind(("localhost", 0))
        port: int = tried.getsockname()[1]
        return port


def wait_for(port: int) -> None:
    for _ in range(600):
        with contextlib.suppress(OSError), socket.create_connection(("localhost", port), timeout=1):
            return
        time.sleep(0.1)
    pytest.fail(f"nothing listens on port {port}")


@pytest.fixture(scope="module")
def job_endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Beam's own job service, in a process and a working directory of its own."""
    port = free_port()
    module = "apache_beam.runners.portability.local_job_service_main"
    with server(module, "--port", str(port), directory=tmp_path_factory.mktemp("job_service")):
        wait_for(port)
        yield f"localhost:{port}"


@pytest.fixture(scope="module")
def portable(job_endpoint: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BeamOptions]:
    """A worker pool beside it, which starts a new process for every job."""
    port = free_port()
    module = "apache_beam.runners.worker.worker_pool_main"
    with server(module, "--service_port", str(port), directory=tmp_path_factory.mktemp("worker_pool")):
        wait_for(port)
        yield on_pool(job_endpoint, port)


def on_pool(job_endpoint: str, port: int) -> BeamOptions:
    pool = ("--environment_type=EXTERNAL", f"--environment_config=localhost:{port}")
    return BeamOptions("PortableRunner", (f"--job_endpoint={job_endpoint}", *pool))


@pytest.fixture(scope="module")
def files(small_taxi_csv: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with 300 trips in three files."""
    header, *rows = small_taxi_csv.read_text(encoding="utf-8").splitlines(keepends=True)
    directory = tmp_path_factory.mktemp("files")
    for number in range(3):
        (directory / f"trips-{number}.csv").write_text(header + "".join(rows[number::3]), encoding="utf-8")
    return directory


def example_gen(files: Path, to: Path, beam: BeamOptions) -> Examples:
    to.mkdir()
    examples = Examples(to)
    ExampleGen(source=f"{files}/*.csv").run(beam, Progress(), examples)
    return examples


@pytest.fixture(scope="module")
def examples(files: Path, tmp_path_factory: pytest.TempPathFactory) -> Examples:
    """The trips by the in-memory runner, three shards in each split."""
    return example_gen(files, tmp_path_factory.mktemp("examples") / "in_memory", BeamOptions())


def statistics_gen(examples: Examples, to: Path, beam: BeamOptions) -> Statistics:
    to.mkdir()
    statistics = Statistics(to)
    StatisticsGen().run(examples, beam, Progress(), statistics)
    return statistics


@pytest.fixture
def transform(
    examples: Examples, xf_schema: FeatureSchema, outputs_of: Callable[[type, Path], dict[str, Any]]
) -> Callable[..., dict[str, Artifact]]:
    """Transform run into a directory; gives its outputs by name."""

    def run(to: Path, beam: BeamOptions, function: str) -> dict[str, Artifact]:
        to.mkdir()
        outputs = outputs_of(Transform, to)
        Transform(preprocessing_fn=function).run(examples, xf_schema, beam, Progress(), **outputs)
        return outputs

    return run


def content(artifact: Artifact) -> dict[str, bytes]:
    """Every file, but for those that hold the random names TensorFlow gives the parts of a graph."""
    files = [file for file in sorted(artifact.path.rglob("*")) if file.is_file()]
    return {
        str(file.relative_to(artifact.path)): file.read_bytes()
        for file in files
        if file.name not in ("saved_model.pb", "fingerprint.pb")
    }


def test_example_gen_writes_the_same_bytes_on_a_worker(
    files: Path, examples: Examples, portable: BeamOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(files.parent)  # workers are elsewhere, and still find what is named from here

    made = example_gen(Path(files.name), tmp_path / "portable", portable)

    assert len(made.files("train")) == 3
    assert content(made) == content(examples)
    assert made.properties == examples.properties


def test_statistics_gen_writes_the_same_bytes_on_a_worker(
    examples: Examples, portable: BeamOptions, tmp_path: Path
) -> None:
    here = statistics_gen(examples, tmp_path / "in_memory", BeamOptions())
    there = statistics_gen(examples, tmp_path / "portable", portable)

    assert content(there) == content(here)
    assert there.properties == here.properties


def test_files_that_several_processes_work_on_at_once_make_the_same_bytes(
    files: Path, examples: Examples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    two = BeamOptions("DirectRunner", ("--direct_running_mode=multi_processing", "--direct_num_workers=2"))

    made = example_gen(files, tmp_path / "two", two)

    assert content(made) == content(examples)
    assert made.properties == examples.properties


def test_transform_writes_the_same_records_vocabularies_statistics_and_schemas_on_workers(
    transform: Callable[..., dict[str, Artifact]], portable: BeamOptions, tmp_path: Path
) -> None:
    function = "configs.taxi.features.preprocessing_fn"

    here = transform(tmp_path / "in_memory", BeamOptions(), function)
    there = transform(tmp_path / "portable", portable, function)

    # A worker loads the graph that was written, this process goes on with the one it has traced: so both do the same.
    for name, artifact in here.items():
        assert content(there[name]) == content(artifact), name
        assert there[name].properties == artifact.properties, name


def test_evaluator_writes_the_same_bytes_on_a_worker(
    examples: Examples, xf_model: Model, portable: BeamOptions, tmp_path: Path
) -> None:
    made = []
    for name, beam in (("in_memory", BeamOptions()), ("portable", portable)):
        evaluation, blessing = Evaluation(tmp_path / name / "evaluation"), Blessing(tmp_path / name / "blessing")
        for artifact in (evaluation, blessing):
            artifact.path.mkdir(parents=True)
        Evaluator(label="big_tip", slices=((), ("trip_start_hour",)), thresholds={"auc": {"min": 0.1}}).run(
            examples, xf_model, Baseline(), beam, Progress(), evaluation, blessing
        )
        made.append((content(evaluation), evaluation.properties, content(blessing), blessing.properties))

    assert made[1] == made[0]


def test_a_worker_without_the_users_module_says_so_and_what_to_do(
    transform: Callable[..., dict[str, Artifact]],
    portable: BeamOptions,
    tmp_path: Path,
    user_module: Callable[[str, str], str],
) -> None:
    source = "import tensorflow_transform as tft\ndef f(inputs): return {'x': tft.scale_to_0_1(inputs['fare'])}\n"
    function = user_module(source, "f")

    with pytest.raises(ConfigError) as caught:
        transform(tmp_path / "portable", portable, function)

    message = str(caught.value)
    assert message.startswith(f"beam: the workers have no module '{function.removesuffix('.f')}'. The worker, process ")
    assert str(REPOSITORY) in message  # where the worker looked
    assert "PYTHONPATH of the worker pool" in message
    assert "--setup_file" in message


def test_an_error_of_ours_on_a_worker_arrives_as_it_was_raised(
    files: Path, portable: BeamOptions, tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    whole = (files / "trips-0.csv").read_text(encoding="utf-8")
    (broken / "trips.csv").write_text(whole + "1,2\n", encoding="utf-8")

    with pytest.raises(DataError) as caught:
        example_gen(broken, tmp_path / "examples", portable)

    assert str(caught.value) == (
        f"{broken}/trips.csv, line 102: the header has 18 columns, this row has 2: '1,2'. Correct the row; a cell with a comma "
        f"or a line break inside stands in double quotes."
    )


def test_an_error_of_pythons_on_a_worker_keeps_its_class_and_words(portable: BeamOptions) -> None:
    with pytest.raises(ZeroDivisionError, match="^division by zero$"), pipeline(portable) as running:
        _ = running | apache_beam.Create([1]) | apache_beam.Map(lambda n: n / 0)


def test_a_path_that_only_this_machine_has_is_named(portable: BeamOptions, tmp_path: Path) -> None:
    missing = tmp_path / "not_on_the_worker"

    with (
        pytest.raises(ConfigError, match=f"a worker does not see {missing}. .*storage that all machines mount"),
        pipeline(portable, [missing]) as running,
    ):
        _ = running | apache_beam.Create([1]) | apache_beam.Map(Packed(print))


def test_a_file_that_a_worker_cannot_open_is_named(portable: BeamOptions, tmp_path: Path) -> None:
    missing = tmp_path / "shard"

    with (
        pytest.raises(ConfigError, match=f"a worker cannot open a file .*{missing}.*storage that all machines mount"),
        pipeline(portable) as running,
    ):
        _ = running | apache_beam.Create([str(missing)]) | apache_beam.Map(lambda file: Path(file).read_bytes())


def test_a_worker_pool_that_is_not_there_is_named(job_endpoint: str) -> None:
    port = free_port()

    with (
        pytest.raises(ConfigError, match=f"no worker pool at --environment_config=localhost:{port} "),
        pipeline(on_pool(job_endpoint, port)) as running,
    ):
        _ = running | apache_beam.Create([1]) | apache_beam.Map(print)
