"""What the benchmarks share: taxi replicas, fresh processes run in turn, medians as a table."""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PERTURBED = ("trip_miles", "fare", "tips", "trip_seconds", "trip_start_timestamp")


def taxi_replicas(rows: int, to: Path, seed: int = 13) -> Path:
    """A CSV file of `rows` trips: the 15,002 real ones again and again, amounts and times a little changed each time."""
    import numpy as np
    import pyarrow as pa
    from pyarrow import csv

    file = to / f"taxi-{rows}.csv"
    if file.exists():
        return file
    to.mkdir(parents=True, exist_ok=True)
    trips = csv.read_csv(taxi_source())
    random = np.random.default_rng(seed)
    unfinished = file.with_suffix(".part")
    with unfinished.open("wb") as out:
        written = 0
        while written < rows:
            replica = trips.slice(0, min(rows - written, trips.num_rows))
            for name in PERTURBED if written else ():
                at, old = replica.schema.get_field_index(name), replica[name].combine_chunks()
                values = old.to_numpy(zero_copy_only=False).astype(float) * random.uniform(0.9, 1.1, len(old))
                missing = np.isnan(values)
                new = np.nan_to_num(values).round(2 if pa.types.is_floating(old.type) else 0)
                replica = replica.set_column(at, name, pa.array(new, mask=missing).cast(old.type))
            csv.write_csv(replica, out, csv.WriteOptions(include_header=written == 0))
            written += replica.num_rows
    unfinished.rename(file)
    return file


def taxi_source() -> Path:
    """The 15,002 trips that come with TFX."""
    spec = importlib.util.find_spec("tfx")
    assert spec is not None
    assert spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0]) / "examples/chicago_taxi_pipeline/data/simple/data.csv"


def arguments(document: str) -> argparse.Namespace:
    """What the data steps' benchmarks take: `rows`, `repeats`, `data` and `vanilla_rows`."""
    return parser(document).parse_args()


def parser(document: str) -> argparse.ArgumentParser:
    """`arguments`, for a benchmark that takes more."""
    parser = repeated(document)
    parser.add_argument("--rows", type=int, nargs="+", default=[15_000, 150_000, 1_500_000])
    parser.add_argument("--vanilla-rows", type=int, default=150_000)
    return parser


def repeated(document: str, repeats: int = 3) -> argparse.ArgumentParser:
    """What every benchmark takes: `repeats` and `data`."""
    parser = argparse.ArgumentParser(description=document.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=repeats)
    parser.add_argument("--data", type=Path, default=Path(tempfile.gettempdir()) / "penstock-bench")
    return parser


def child(function: Callable[[list[str]], None]) -> None:
    """The other side of `measure`: runs `function` on the remaining arguments and prints seconds and peak memory.

    The function makes its imports before it calls `start`, so that what is measured is the step's own work.
    """
    function(sys.argv[2:])
    # Not getrusage's figure, which begins with the peak of the process that this one was started from.
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    _result["peak_mb"] = int(status["VmHWM"].split()[0]) / 1024
    print("RESULT " + json.dumps(_result), flush=True)


_result: dict[str, float] = {}


def outputs(component: type, directory: Path) -> dict[str, Any]:
    """The outputs of a component by name, each an empty directory below the one given."""
    from pipeline.contract import read_contract

    made = {name: kind(directory / name) for name, kind in read_contract(component).outputs.items()}
    for output in made.values():
        output.path.mkdir(parents=True)
    return made


class timed:  # noqa: N801 (a context manager is read as a verb)
    """The part of a child's work that counts."""

    def __enter__(self) -> None:
        self._begin = time.perf_counter()

    def __exit__(self, *exception: object) -> None:
        _result["seconds"] = time.perf_counter() - self._begin


def environment(**more: str) -> dict[str, str]:
    """The environment of a process that is measured: this checkout's code, TensorFlow quiet, its Keras not yet chosen."""
    inherited = {name: value for name, value in os.environ.items() if name != "TF_USE_LEGACY_KERAS"}
    return {**inherited, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3", **more}


def measure(script: Path, variants: Mapping[str, Sequence[str]], repeats: int) -> dict[str, dict[str, float]]:
    """Runs `script --child ...` with the arguments of each variant, A B C A B C ..., each in a fresh process.

    Gives for every variant the median of seconds and the largest peak memory in MB, imports included in the memory only.
    """
    found: dict[str, list[dict[str, float]]] = {name: [] for name in variants}
    for _ in range(repeats):
        for name, arguments in variants.items():
            command = [sys.executable, str(script), "--child", *arguments]
            run = subprocess.run(
                command, env=environment(TF_USE_LEGACY_KERAS="1"), capture_output=True, text=True, cwd=ROOT, check=False
            )
            lines = [line for line in run.stdout.splitlines() if line.startswith("RESULT ")]
            if run.returncode or not lines:
                sys.exit(f"{name}: the process ended with {run.returncode}\n{run.stderr[-3000:]}")
            found[name].append(json.loads(lines[-1].removeprefix("RESULT ")))
    return {
        name: {
            "seconds": statistics.median(one["seconds"] for one in every),
            "peak_mb": max(one["peak_mb"] for one in every),
        }
        for name, every in found.items()
    }


def table(rows: int, found: Mapping[str, Mapping[str, float]], against: str) -> str:
    """The lines of a Markdown table; `against` is the variant that ratios are taken against."""
    base = found.get(against, {}).get("seconds")
    lines = []
    for name, one in found.items():
        ratio = f"{base / one['seconds']:.1f}" if base else ""
        speed = f"{rows / one['seconds']:,.0f}"
        lines.append(f"| {rows:,} | {name} | {one['seconds']:.2f} | {speed} | {ratio} | {one['peak_mb']:.0f} |")
    return "\n".join(lines)


HEAD = "| rows | | s | rows/s | ratio | peak RSS MB |\n|---|---|---|---|---|---|"


def load() -> str:
    """The load of the machine now, to print beside figures."""
    return f"load {' '.join(f'{one:.1f}' for one in os.getloadavg())} on {os.cpu_count()} cores"
