"""StatisticsGen against TFX's on taxi replicas, and against what numpy needs for the moments of the same columns.

    PYTHONPATH=. python tests/benchmarks/statistics_gen.py [--rows 15000 150000 1500000] [--repeats 3] [--data DIRECTORY]

Both read the examples that our ExampleGen wrote: ours their columns, TFX the records; "ours, decoding" is ours without the
columns. Seconds are the executor's own, without imports. Each run is a fresh process, and the variants take turns.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import harness


def main() -> None:
    args = harness.arguments(__doc__)
    print(harness.load())
    print(harness.HEAD)
    for rows in args.rows:
        file = harness.taxi_replicas(rows, args.data)
        with tempfile.TemporaryDirectory(dir=args.data) as directory:
            made, bare = Path(directory, "examples"), Path(directory, "bare")
            harness.measure(Path(__file__), {"": ("make", str(file), str(made))}, 1)
            shutil.copytree(made, bare, ignore=shutil.ignore_patterns("columns"))
            variants = {
                "ours": ("ours", str(made)),
                "ours, decoding": ("ours", str(bare)),
                "numpy": ("numpy", str(made)),
            }
            if rows <= args.vanilla_rows:
                variants = {"TFX": ("vanilla", str(made)), **variants}
            found = harness.measure(Path(__file__), variants, args.repeats)
            print(harness.table(rows, found, against="TFX"), flush=True)
    print(harness.load())


def child(arguments: list[str]) -> None:
    variant, *paths = arguments
    {"make": make, "ours": ours, "vanilla": vanilla, "numpy": moments}[variant](*map(Path, paths))


def make(file: Path, to: Path) -> None:
    from components.data.example_gen import ExampleGen
    from schemas.artifacts import Examples
    from schemas.component import BeamOptions, Progress

    to.mkdir()
    with harness.timed():
        ExampleGen(source=str(file)).run(BeamOptions(), Progress(), Examples(to))


def ours(examples: Path) -> None:
    import apache_beam  # noqa: F401 (imports are not measured)
    import pyarrow.parquet as _pq  # noqa: F401
    import tensorflow_data_validation  # noqa: F401

    from components.data.statistics_gen import StatisticsGen
    from components.io import beam  # noqa: F401
    from schemas.artifacts import Examples, Statistics
    from schemas.component import BeamOptions, Progress

    with tempfile.TemporaryDirectory() as to, harness.timed():
        StatisticsGen().run(Examples(examples), BeamOptions(), Progress(), Statistics(Path(to)))


def vanilla(examples: Path) -> None:
    import tfx.v1  # noqa: F401
    from tfx.components.statistics_gen.executor import Executor
    from tfx.types import artifact_utils, standard_artifacts

    given = standard_artifacts.Examples()
    given.uri = str(examples)
    given.split_names = artifact_utils.encode_split_names(["train", "eval"])
    flags = ["--runner=DirectRunner", "--direct_running_mode=in_memory"]
    with tempfile.TemporaryDirectory() as to:
        statistics = standard_artifacts.ExampleStatistics()
        statistics.uri = to
        context = Executor.Context(beam_pipeline_args=flags, tmp_dir=to, unique_id="1")
        with harness.timed():
            Executor(context).Do({"examples": [given]}, {"statistics": [statistics]}, {})


def moments(examples: Path) -> None:
    """Mean, variance, least, greatest and median of the numbers, in memory."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    files = sorted(examples.glob("columns/*/*.parquet"))
    with harness.timed():
        for file in files:
            for column in pq.read_table(file).columns:
                whole = column.combine_chunks()
                values = whole.flatten() if not pa.types.is_null(whole.type) else whole
                if pa.types.is_integer(values.type) or pa.types.is_floating(values.type):
                    numbers = values.to_numpy(zero_copy_only=False)
                    _ = numbers.mean(), numbers.var(), numbers.min(), numbers.max(), np.median(numbers)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        harness.child(child)
    else:
        main()
