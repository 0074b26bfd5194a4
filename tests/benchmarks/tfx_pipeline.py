"""TFX's own taxi pipeline, unmodified: LocalDagRunner against `pipeline run`, and against `pipeline run --fast`.

    PYTHONPATH=. python tests/benchmarks/tfx_pipeline.py [--rows 15002] [--repeats 3] [--data DIRECTORY]

`tfx.examples.chicago_taxi_pipeline.taxi_pipeline_native_keras` with its module file as they are installed, on the 15,002 trips that
come with it, the in-memory Beam runner and tf_keras on every side. "TFX's executors" are what `pipeline run` runs in its steps; with
`--fast` ours stand in for those that have a twin. TFX is spared packing the module file into a wheel and installing it by pip. Seconds
are those of the whole process, imports included, each time with a store of its own; "again" is the same command a second time. The
variants take turns. Peak memory is that of the largest process.
"""

from __future__ import annotations

import compileall
import itertools
import shutil
import statistics
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import harness
import whole_run

EXAMPLE = "tfx.examples.chicago_taxi_pipeline.taxi_pipeline_native_keras"
MODULE = "taxi_utils_native_keras.py"
# Named outright: Beam's default tries to download a binary.
BEAM = ["--runner=apache_beam.runners.portability.fn_api_runner.FnApiRunner"]
LOCAL, OURS, FAST = "TFX, LocalDagRunner", "ours, TFX's executors", "ours, --fast"


def measure(data: Path, rows: int, repeats: int) -> dict[str, dict[str, float]]:
    """Median seconds and largest peak memory of every variant."""
    for package in ("schemas", "components", "pipeline", "tests/benchmarks"):
        compileall.compile_dir(harness.ROOT / package, quiet=1)  # as what is installed is
    data.mkdir(parents=True, exist_ok=True)
    found: dict[str, list[dict[str, float]]] = {}
    for _ in range(repeats):
        with tempfile.TemporaryDirectory(dir=data) as directory:
            commands = {
                LOCAL: their_command(project(Path(directory) / "tfx", rows)),
                OURS: our_command(project(Path(directory) / "ours", rows)),
                FAST: [*our_command(project(Path(directory) / "fast", rows)), "--fast"],
            }
            for again in ("", ", again"):
                for name, command in commands.items():
                    found.setdefault(name + again, []).append(whole_run.timed(name + again, command))
            for name, work in ((OURS, "ours"), (FAST, "fast")):
                peaks = whole_run.step_peaks(Path(directory) / work).values()
                found[name][-1]["peak_mb"] = max(found[name][-1]["peak_mb"], *peaks)
    return {
        name: {
            "seconds": statistics.median(one["seconds"] for one in every),
            "peak_mb": max(one["peak_mb"] for one in every),
        }
        for name, every in found.items()
    }


def project(work: Path, rows: int) -> Path:
    """A directory with the first trips and the example's module file."""
    (work / "data").mkdir(parents=True)
    with harness.taxi_source().open(encoding="utf-8") as lines:
        (work / "data" / "data.csv").write_text("".join(itertools.islice(lines, rows + 1)), encoding="utf-8")
    shutil.copy(harness.taxi_source().parents[2] / MODULE, work)
    return work


def arguments(work: Path, beam: list[str]) -> dict[str, object]:
    """What the example's function takes."""
    return {
        "pipeline_name": "chicago_taxi_native_keras",
        "pipeline_root": str(work / "pipelines"),
        "metadata_path": str(work / "metadata.db"),
        "data_root": str(work / "data"),
        "module_file": str(work / MODULE),
        "serving_model_dir": str(work / "serving"),
        "beam_pipeline_args": beam,
    }


def our_command(work: Path) -> list[str]:
    """`pipeline run` of the example; what it makes is below `work`."""
    overrides = [
        word for name, value in arguments(work, []).items() for word in ("--set", f"parameters.{name}={value}")
    ]
    target = f"{EXAMPLE}:_create_pipeline"
    return [sys.executable, "-m", "pipeline.cli.main", "run", target, "--root", str(work / "store"), *overrides]


def their_command(work: Path) -> list[str]:
    """LocalDagRunner's run of the example as a process of its own; what it makes is below `work`."""
    return [sys.executable, str(Path(__file__).resolve()), "--tfx", str(work)]


def run_tfx(work: Path) -> None:
    """The example as TFX runs it."""
    import importlib
    import os

    os.environ["TF_USE_LEGACY_KERAS"] = "1"  # as in every step of ours, and before TensorFlow is imported
    os.environ["UNSUPPORTED_DO_NOT_PACKAGE_USER_MODULES"] = "1"  # TFX's own switch: it would run pip
    from tfx.orchestration.local.local_dag_runner import LocalDagRunner

    create = importlib.import_module(EXAMPLE)._create_pipeline
    LocalDagRunner().run(create(**arguments(work, BEAM)))
    if not list((work / "serving").glob("*/saved_model.pb")):
        sys.exit("TFX's pipeline pushed no model")


def main() -> None:
    parser = harness.repeated(__doc__)
    parser.add_argument("--rows", type=int, default=whole_run.ROWS)
    args = parser.parse_args()
    print(harness.load())
    found = measure(args.data, args.rows, args.repeats)
    print(harness.HEAD)
    print(harness.table(args.rows, found, against=LOCAL))
    print(harness.load())


if __name__ == "__main__":
    if sys.argv[1:2] == ["--tfx"]:
        run_tfx(Path(sys.argv[2]))
    else:
        main()
