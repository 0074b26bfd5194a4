from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROWS = 300_000
DATA_MB = 1500  # of memory that the process may ask for
PEAK_MB = {"example_gen": 500, "statistics_gen": 900}  # TensorFlow, which TFDV imports, takes 600 of these


@pytest.mark.slow
@pytest.mark.parametrize("step", ["example_gen", "statistics_gen"])
def test_the_steps_memory_does_not_grow_with_the_rows(taxi_csv: Path, tmp_path: Path, step: str) -> None:
    header, *rows = taxi_csv.read_bytes().splitlines(keepends=True)
    with (tmp_path / "trips.csv").open("wb") as out:
        out.write(header)
        for _ in range(ROWS // len(rows) + 1):
            out.writelines(rows)
    run = """
        import resource, sys
        from pathlib import Path
        import apache_beam, pyarrow.csv, pyarrow.parquet
        from components.data.example_gen import ExampleGen
        from components.data.statistics_gen import StatisticsGen
        from schemas.artifacts import Examples, Statistics
        from schemas.component import BeamOptions, Progress

        step, limit, directory = sys.argv[1], int(sys.argv[2]) << 20, Path(sys.argv[3])
        if step == "statistics_gen":
            import tensorflow_data_validation
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
        to = directory / step
        to.mkdir()
        if step == "example_gen":
            ExampleGen(source=str(directory / "trips.csv")).run(BeamOptions(), Progress(), Examples(to))
        else:
            StatisticsGen().run(Examples(directory / "example_gen"), BeamOptions(), Progress(), Statistics(to))
        # Not getrusage's, which begins with the peak of the process that this one was forked from.
        status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
        print("PEAK", int(status["VmHWM"].split()[0]) // 1024)
    """
    for name in dict.fromkeys(("example_gen", step)):
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(run), name, str(DATA_MB), str(tmp_path)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-2000:]

    peak = int(done.stdout.rpartition("PEAK ")[2])
    assert peak < PEAK_MB[step]
