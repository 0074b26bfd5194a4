"""ExampleGen against TFX's CsvExampleGen on taxi replicas, and against what pyarrow needs to parse the same file.

    PYTHONPATH=. python tests/benchmarks/example_gen.py [--rows 15000 150000 1500000] [--repeats 3] [--data DIRECTORY]

Seconds are the executor's own, without imports. Each run is a fresh process, and the variants take turns. TFX's run of 1.5 M
rows takes minutes and 4 GB of memory: `--vanilla-rows` says up to how many rows it is run.
"""

from __future__ import annotations

import json
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
        file = str(harness.taxi_replicas(rows, args.data))
        variants = {"ours": ("ours", file), "pyarrow parse": ("parse", file)}
        if rows <= args.vanilla_rows:
            variants = {"TFX": ("vanilla", file), **variants}
        found = harness.measure(Path(__file__), variants, args.repeats)
        print(harness.table(rows, found, against="TFX"), flush=True)
    print(harness.load())


def child(arguments: list[str]) -> None:
    variant, file = arguments[0], Path(arguments[1])
    with tempfile.TemporaryDirectory() as to:
        {"ours": ours, "vanilla": vanilla, "parse": parse}[variant](Path(to), file)


def ours(to: Path, file: Path) -> None:
    import apache_beam  # noqa: F401 (imports are not measured)
    import pyarrow.csv
    import pyarrow.parquet  # noqa: F401

    from components.data.example_gen import ExampleGen
    from components.io import beam  # noqa: F401
    from schemas.artifacts import Examples
    from schemas.component import BeamOptions, Progress

    with harness.timed():
        ExampleGen(source=str(file)).run(BeamOptions(), Progress(), Examples(to))


def vanilla(to: Path, *files: Path) -> None:
    import tfx.v1  # noqa: F401
    from tfx.components.example_gen.csv_example_gen.executor import Executor
    from tfx.types import standard_artifacts

    (to / "in").mkdir()
    for number, file in enumerate(files):
        (to / "in" / f"{number:04}.csv").symlink_to(file)
    examples = standard_artifacts.Examples()
    examples.uri = str(to / "out")
    flags = ["--runner=DirectRunner", "--direct_running_mode=in_memory"]
    context = Executor.Context(beam_pipeline_args=flags, tmp_dir=str(to), unique_id="1")
    splits = [{"name": "train", "hash_buckets": 2}, {"name": "eval", "hash_buckets": 1}]
    with harness.timed():
        Executor(context).Do(
            {},
            {"examples": [examples]},
            {
                "input_base": str(to / "in"),
                "input_config": json.dumps({"splits": [{"name": "all", "pattern": "*"}]}),
                "output_config": json.dumps({"split_config": {"splits": splits}}),
                "output_data_format": 6,
            },
        )


def parse(to: Path, file: Path) -> None:
    from pyarrow import csv

    with harness.timed():
        csv.read_csv(file)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        harness.child(child)
    else:
        main()
