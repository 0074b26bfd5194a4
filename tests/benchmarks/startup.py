"""What passes before the work begins: the command's verbs, the first step, the process of a step; beside `import tfx.v1`.

    PYTHONPATH=. python tests/benchmarks/startup.py [--repeats 5] [--data DIRECTORY]

"first step at work" is from the start of `pipeline run` on configs/taxi, with an empty store, to the first line of a step's work in its
own process. "step process, forked" is a process of a heavy step, started by the one that has imported everything, until it has ended
without work; "step process, spawned" the same for a fresh one, which makes the same imports itself. Medians of fresh processes in turn.
"""

from __future__ import annotations

import compileall
import json
import multiprocessing
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import harness

TAXI = str(harness.ROOT / "configs/taxi/pipeline.yaml")
PIPELINE = (sys.executable, "-m", "pipeline.cli.main")


def measure(data: Path, repeats: int) -> dict[str, float]:
    """Median seconds of everything that is measured, by what it is called in the table."""
    data.mkdir(parents=True, exist_ok=True)
    for package in ("schemas", "components", "pipeline", "configs"):
        compileall.compile_dir(harness.ROOT / package, quiet=1)  # as what is installed is
    measured: dict[str, Callable[[], float]] = {
        "import tfx.v1": lambda: process(sys.executable, "-c", "import tfx.v1"),
        "pipeline --help": lambda: process(*PIPELINE, "--help"),
        "pipeline plan": lambda: process(*PIPELINE, "plan", TAXI, "--root", str(data / "never-run")),
        "first step at work": lambda: first_step(data),
        "step process, forked": lambda: step_process("forkserver"),
        "step process, spawned": lambda: step_process("spawn"),
    }
    found: dict[str, list[float]] = {name: [] for name in measured}
    for _ in range(repeats):
        for name, once in measured.items():
            found[name].append(once())
    return {name: statistics.median(every) for name, every in found.items()}


def process(*command: str) -> float:
    """The seconds that a command takes."""
    started = time.perf_counter()
    run = subprocess.run(
        command, capture_output=True, text=True, cwd=harness.ROOT, check=False, env=harness.environment()
    )
    seconds = time.perf_counter() - started
    if run.returncode:
        sys.exit(f"{' '.join(command)} ended with {run.returncode}\n{run.stderr[-3000:]}")
    return seconds


def first_step(data: Path) -> float:
    """Seconds from `pipeline run` to the work of the step that begins it first."""
    with tempfile.TemporaryDirectory(dir=data) as root:
        started = time.time()
        process(*PIPELINE, "run", TAXI, "--to", "schema_gen", "--root", root)
        manifest = json.loads(next(Path(root).glob("store/*/*/manifest.json")).read_text(encoding="utf-8"))
        return datetime.fromisoformat(manifest["created_at"]).timestamp() - manifest["seconds"] - started


def step_process(method: str) -> float:
    """Seconds from the start of a process that is ready for a step's work to its end."""
    return harness.measure(Path(__file__), {method: (method,)}, 1)[method]["seconds"]


def child(arguments: list[str]) -> None:
    import os

    from pipeline.runners import local, warm

    (method,) = arguments
    os.environ["TF_USE_LEGACY_KERAS"] = "1"
    if method == "spawn":
        with harness.timed():
            spawned = multiprocessing.get_context("spawn").Process(target=imports, args=(local.WARM_MODULES,))
            spawned.start()
            spawned.join()
        return
    os.environ[warm.MODULES] = " ".join(local.WARM_MODULES)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([warm.__name__])

    def fork() -> None:
        forked = context.Process(target=imports, args=(local.WARM_MODULES,))
        forked.start()
        forked.join()

    fork()  # the first one waits for the imports
    with harness.timed():
        fork()


def imports(modules: tuple[str, ...]) -> None:
    """What a step's process has imported when its work begins, and out, as it goes out."""
    import importlib

    from pipeline.execute import exit_now

    for name in modules:
        importlib.import_module(name)
    exit_now(0)


def main() -> None:
    parser = harness.repeated(__doc__, repeats=5)
    args = parser.parse_args()
    print(harness.load())
    print("| | s |\n|---|---|")
    for name, seconds in measure(args.data, args.repeats).items():
        print(f"| {name} | {seconds:.2f} |")
    print(harness.load())


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        # By a name that another process can import.
        import startup as itself

        harness.child(itself.child)
    else:
        main()
