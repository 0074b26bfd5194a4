"""`make bench`: every benchmark in turn, its tables on the terminal and, with what the machine is, in RESULTS.md beside this file.

    python tests/benchmarks/bench.py [--only trainer startup] [--rows 15000 150000 1500000] [--repeats 3] [--output FILE]

Each benchmark is a script of its own and says what it compares. One that fails is said so in the file, and the others go on.
With `--only` the file's other sections stay as they are.
"""

from __future__ import annotations

import argparse
import ast
import datetime
import importlib.metadata
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import harness

HERE = Path(__file__).parent
BENCHMARKS = {  # name: whether it takes numbers of rows
    "example_gen": True,
    "statistics_gen": True,
    "transform": True,
    "spans": False,
    "evaluator": True,
    "trainer": False,
    "whole_run": False,
    "tfx_pipeline": False,
    "startup": False,
    "serving": False,
}
LIBRARIES = ("tensorflow", "tfx", "apache-beam", "pyarrow", "numpy")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=BENCHMARKS, default=list(BENCHMARKS))
    parser.add_argument("--rows", type=int, nargs="+")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--output", type=Path, default=HERE / "RESULTS.md")
    args = parser.parse_args()
    sections = kept(args.output)
    for name in args.only:
        print(f"\n## {name}", flush=True)
        options = ["--repeats", str(args.repeats)]
        if args.rows and BENCHMARKS[name]:
            options += ["--rows", *map(str, args.rows)]
        printed, failed = run(HERE / f"{name}.py", options)
        sections[name] = section(name, printed, failed)
        # After each, so that a run that is stopped has not been for nothing.
        in_order = [sections[one] for one in BENCHMARKS if one in sections]
        args.output.write_text(document(in_order, args.repeats), encoding="utf-8")
    print(f"\nwritten to {args.output}")


def kept(file: Path) -> dict[str, str]:
    """The sections that a file has from earlier, by the benchmark's name."""
    if not file.is_file():
        return {}
    _, *sections = file.read_text(encoding="utf-8").split("\n## ")
    return {section.partition("\n")[0]: f"## {section.strip()}" for section in sections}


def run(script: Path, options: Sequence[str]) -> tuple[list[str], int]:
    """The lines that a benchmark printed, which are printed here as they come, and its exit status."""
    environment = {**os.environ, "PYTHONPATH": str(harness.ROOT), "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, str(script), *options]
    with (
        tempfile.TemporaryFile("w+") as complaints,  # what the libraries say of themselves matters only when it fails
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=complaints, text=True, env=environment, cwd=harness.ROOT
        ) as process,
    ):
        assert process.stdout is not None
        printed = []
        for line in process.stdout:
            print(line, end="", flush=True)
            printed.append(line.rstrip())
        if process.wait():
            complaints.seek(0)
            print(complaints.read()[-3000:], file=sys.stderr)
    return printed, process.returncode


def section(name: str, printed: Sequence[str], failed: int) -> str:
    """One benchmark's part of the file: what its script says of itself, and its tables."""
    said = ast.get_docstring(ast.parse((HERE / f"{name}.py").read_text(encoding="utf-8"))) or ""
    first, *paragraphs = said.split("\n\n")
    prose = "\n\n".join([first, *(one for one in paragraphs if not one.startswith("    "))])
    lines = [f"## {name}", "", prose, ""]
    for before, line in zip(["", *printed], printed, strict=False):
        if before and line.startswith("|") != before.startswith("|"):
            lines.append("")  # a table needs a line of its own around it
        lines.append(line)
    if failed:
        lines += ["", f"**The script ended with status {failed}; what stands above is what it had measured.**"]
    return "\n".join(lines)


def document(sections: Sequence[str], repeats: int) -> str:
    """The whole file."""
    return "\n\n".join(["# Benchmarks", facts(repeats), *sections]) + "\n"


def facts(repeats: int) -> str:
    """What was measured on what."""
    libraries = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in LIBRARIES)
    return "\n".join(
        [
            "Made by `make bench`; not a test. Quote the ratios, whose two sides were measured in turns in one run; the seconds are",
            f"this machine's. Seconds are medians of {repeats}, memory is the largest of them, imports included.",
            "",
            "| | |",
            "|---|---|",
            f"| date | {datetime.datetime.now(datetime.UTC):%Y-%m-%d} |",
            f"| commit | {commit()} |",
            f"| processor | {processor()}, {os.cpu_count()} cores |",
            f"| memory | {os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB |",
            f"| system | {platform.system()} {platform.release().split('-')[0]}, Python {platform.python_version()} |",
            f"| libraries | {libraries} |",
            f"| when this was written | {harness.load()} |",
        ]
    )


def processor() -> str:
    """The processor's name as Linux has it."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())


def commit() -> str:
    """The commit that is checked out, with a plus sign where files differ from it."""

    def git(*arguments: str) -> str:
        command = ["git", *arguments]
        return subprocess.run(command, cwd=harness.ROOT, capture_output=True, text=True, check=False).stdout.strip()

    changed = git("status", "--porcelain", "--untracked-files=no", "--", "components", "pipeline", "schemas")
    return git("rev-parse", "--short", "HEAD") + ("+" if changed else "") or "no checkout"


if __name__ == "__main__":
    main()
