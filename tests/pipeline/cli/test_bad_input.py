"""What is wrong is said where it is, with what was found and what to do; nothing that was made is lost."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Command = Callable[..., Any]


class TestTheDefinition:
    def problems(self, command: Command, *steps: str) -> list[str]:
        """What is said of the steps, each line without the word 'error'."""
        text = "name: toy\nroot: store-root\nsteps:\n  read: {uses: project_steps.Read, with: {source: numbers.txt}}\n"
        Path("pipeline.yaml").write_text(text + "".join(f"  {step}\n" for step in steps))
        said = command("run", "pipeline.yaml")
        assert said.code == 2
        assert not Path("store-root").exists()
        return [line.removeprefix("error: ") for line in said.err.splitlines()]

    def test_with_an_unknown_component_has_a_suggestion(self, command: Command, project: Path) -> None:
        (problem,) = self.problems(command, "stats: {uses: StatisticGen}")

        assert problem == (
            "pipeline.yaml:5: steps.stats.uses: there is no component 'StatisticGen'. Did you mean 'StatisticsGen'?"
        )

    def test_with_a_dotted_path_that_does_not_import_says_where_was_looked(
        self, command: Command, project: Path
    ) -> None:
        (problem,) = self.problems(command, "count: {uses: project_stepz.Count}")

        assert problem.startswith(
            "pipeline.yaml:5: steps.count.uses: 'project_stepz.Count' does not import: there is no module 'project_stepz'"
        )
        assert "the directory the command is run in" in problem

    def test_with_a_function_that_is_not_there_has_a_suggestion(self, command: Command, project: Path) -> None:
        (problem,) = self.problems(
            command, "apply: {uses: project_steps.Apply, with: {function: project_functions.dubble}}"
        )

        assert problem == (
            "pipeline.yaml:5: steps.apply.with.function: 'project_functions.dubble' does not import: project_functions "
            "has no 'dubble'. Did you mean 'double'?"
        )

    def test_with_a_cycle_names_the_whole_of_it_once(self, command: Command, project: Path) -> None:
        problems = self.problems(
            command,
            "one: {uses: project_steps.Apply, inputs: {examples: three.examples}, with: {function: project_functions.double}}",
            "two: {uses: project_steps.Fit, inputs: {examples: one.transformed_examples}}",
            "three: {uses: project_cycle.Back, inputs: {model: two.model}}",
        )

        assert problems[-1].startswith("pipeline.yaml:7: steps.three.uses: 'project_cycle.Back' does not import")
        (project / "project_cycle.py").write_text(
            "from dataclasses import dataclass\nfrom schemas.artifacts import Examples, Model\n"
            "from schemas.component import Out\n\n@dataclass(frozen=True, kw_only=True)\nclass Back:\n"
            "    def run(self, model: Model, examples: Out[Examples]) -> None: ...\n"
        )
        said = command("run", "pipeline.yaml")
        assert said.err == "error: pipeline.yaml:5: steps.one: the steps form a cycle: one -> two -> three -> one\n"

    def test_with_two_steps_of_one_name_names_the_second_line(self, command: Command, project: Path) -> None:
        (problem,) = self.problems(command, "count: {uses: project_steps.Count}", "count: {uses: project_steps.Count}")

        assert problem == "pipeline.yaml:6: 'count' stands here twice; rename or remove one"

    def test_with_two_steps_that_make_what_a_left_out_wire_needs_lists_both(
        self, command: Command, project: Path
    ) -> None:
        (problem,) = self.problems(
            command,
            "more: {uses: project_steps.Read, with: {source: numbers.txt}}",
            "count: {uses: project_steps.Count}",
        )

        assert problem == (
            "pipeline.yaml:6: steps.count: input 'examples' could be read.examples or more.examples: say which, as in "
            "inputs: {examples: read.examples}"
        )

    def test_with_several_mistakes_has_all_of_them_with_their_lines(self, command: Command, project: Path) -> None:
        problems = self.problems(
            command,
            "more: {uses: project_steps.Read, with: {source: missing.txt}}",
            "count: {uses: project_steps.Count, inputs: {examples: reed.examples}}",
            "judge: {uses: project_steps.Judge, with: {most: many, least: 1}}",
            "apply: {uses: project_steps.Apply, inputs: {examples: read.examples}, with: {function: project_nothing.f}}",
            "fit: {uses: project_steps.Fitt}",
        )

        assert sorted(problem.split(": ")[0] for problem in problems) == [
            f"pipeline.yaml:{line}" for line in (5, 6, 7, 7, 8, 9)
        ]

    @pytest.mark.parametrize(
        ("content", "said"),
        [
            (b"", "there is nothing in it"),
            (b"name: toy\n\xff\n", "pipeline.yaml:2: the byte 0xff is no UTF-8"),
            (b"- a\n", "expected a mapping with name and steps, found"),
            (b"name: [toy\nsteps\n", "not valid YAML"),
        ],
    )
    def test_that_is_none_says_why(self, command: Command, project: Path, content: bytes, said: str) -> None:
        (project / "pipeline.yaml").write_bytes(content)

        answer = command("check", "pipeline.yaml")

        assert answer.code == 2
        assert said in answer.out


class TestTheUsersCode:
    @pytest.mark.parametrize(
        ("functions", "helpers", "said"),
        [
            ("import project_helpers\n\ndef double(line): ...\n", "\nx = 1 / 0\n", "project_helpers.py:2 in <module>: ZeroDivisionError: division by zero"),
            ("from project_helpers import f\n\ndef double(line):\n    return f(line)\n", "def f(line):\n    raise LookupError\n", "project_helpers.py:2 in f: LookupError"),
        ],
    )  # fmt: skip
    def test_that_raises_is_named_first_with_its_innermost_line(
        self, command: Command, ran: Path, functions: str, helpers: str, said: str
    ) -> None:
        (ran / "project_functions.py").write_text(functions)
        (ran / "project_helpers.py").write_text(helpers)

        answer = command("run", "pipeline.yaml")

        assert answer.code == 1
        (line,) = [
            line for line in answer.out.splitlines() if " apply " in line and "failed" not in line and ".py" in line
        ]
        assert line.split("  ")[-1] == said
        assert "log    store-root/runs/" in answer.out
        assert "again  pipeline step store-root/runs/" in answer.out

    def test_that_is_not_python_is_found_before_anything_runs(self, command: Command, ran: Path) -> None:
        (ran / "project_helpers.py").write_text("def scale(number):\n    return (number\n")
        runs = len(list((ran / "store-root/runs").iterdir()))

        answer = command("run", "pipeline.yaml")

        assert answer.code == 2
        assert "project_helpers.py:2: not valid Python: '(' was never closed" in answer.err
        assert len(list((ran / "store-root/runs").iterdir())) == runs

    def test_of_a_component_that_raises_on_import_is_named_first(self, command: Command, project: Path) -> None:
        (project / "project_steps.py").write_text("import os\n\nos.environ['NOT_SET_ANYWHERE']\n")

        answer = command("run", "pipeline.yaml")

        assert answer.code == 2
        for line in answer.err.splitlines():
            assert line.startswith(
                "error: project_steps.py:3 in <module>: KeyError: 'NOT_SET_ANYWHERE', when 'project_steps."
            )


class TestACorruptArtifact:
    def damage(self, project: Path, content: str) -> Path:
        (file,) = (project / "store-root/store/apply").glob("*/transformed_examples/Split-train/lines.json")
        file.write_text(content)
        return file

    def test_of_another_size_is_named_and_rebuilt_with_the_command_that_is_said(
        self, command: Command, ran: Path
    ) -> None:
        self.damage(ran, "[]")

        answer = command("run", "pipeline.yaml")

        assert answer.code == 1
        assert (
            "apply.transformed_examples in the store is corrupt: transformed_examples/Split-train/lines.json"
            in answer.err
        )
        assert "has 2 bytes, its manifest says" in answer.err
        assert "--force apply" in answer.err
        assert command("run", "pipeline.yaml", "--force", "apply", "--json").data["outcome"] == "done"
        assert command("run", "pipeline.yaml", "--json").data["outcome"] == "nothing new"

    def test_of_another_content_is_named_by_the_step_that_would_read_it(self, command: Command, ran: Path) -> None:
        self.damage(ran, "[2, 4, 7]")

        answer = command("run", "pipeline.yaml", "--force", "fit")

        assert answer.code == 1
        assert "apply.transformed_examples in the store is corrupt" in answer.out
        assert "has sha256 " in answer.out
        assert "--force apply" in answer.out
        assert command("run", "pipeline.yaml", "--force", "apply", "--force", "fit", "--json").data["outcome"] == "done"


class TestTheRoot:
    def test_that_is_a_file_is_said_to_be_one(self, command: Command, project: Path) -> None:
        (project / "store-root").write_text("something of the user's")

        answer = command("run", "pipeline.yaml")

        assert answer.code == 1
        assert "A file is where a directory should be: move it away or choose another --root" in answer.err
        assert (project / "store-root").read_text() == "something of the user's"

    def test_below_a_file_is_said_to_be_so(self, command: Command, project: Path) -> None:
        answer = command("run", "pipeline.yaml", "--root", "numbers.txt/root")

        assert answer.code == 1
        assert "A file is where a directory should be" in answer.err

    def test_that_is_read_only_is_said_to_be_so(self, project: Path, tmp_path: Path) -> None:
        output = on_a_disk(tmp_path, "ro", f"{PIPELINE} run pipeline.yaml --root $disk/root; echo ended with $?")

        assert "The file system is mounted read-only: choose another --root" in output
        assert output.endswith("ended with 1\n")

    def test_on_a_full_disk_keeps_what_had_finished_and_the_next_run_goes_on(
        self, project: Path, tmp_path: Path
    ) -> None:
        (project / "project_big.py").write_text(
            "from dataclasses import dataclass\nfrom schemas.artifacts import Anomalies, Statistics\n"
            "from schemas.component import Out\n\n@dataclass(frozen=True, kw_only=True)\nclass Big:\n"
            "    def run(self, statistics: Statistics, anomalies: Out[Anomalies]) -> None:\n"
            "        with (anomalies.path / 'big').open('wb') as file:\n"
            "            for _ in range(64):\n                file.write(bytes(65536))\n"
        )
        arguments = (
            "run pipeline.yaml --root $disk --set steps.judge.uses=project_big.Big --set steps.judge.with={} --to judge"
        )

        output = on_a_disk(
            tmp_path,
            "size=2m",
            f"{PIPELINE} {arguments}; echo ended with $?; ls $disk/staging | wc -l; "
            f"mount -o remount,size=20m $disk; {PIPELINE} {arguments}; echo ended with $?",
        )

        first, second = output.split("ended with 1\n")
        assert "the disk is full: OSError: [Errno 28] No space left on device" in first
        assert second.startswith("0\n"), "nothing stays in staging"
        assert "= read" in second
        assert "= count" in second
        assert output.endswith("ended with 0\n")

    def test_on_a_disk_that_has_no_room_at_all_is_said_to_be_full(self, project: Path, tmp_path: Path) -> None:
        output = on_a_disk(
            tmp_path,
            "size=64k",
            f"{PIPELINE} run pipeline.yaml --root $disk; echo ended with $?",
        )

        assert "error: " in output
        assert "disk is full" in output or "ENOSPC" in output
        assert "Traceback" not in output
        assert output.endswith("ended with 1\n")


PIPELINE = f"{sys.executable} -m pipeline.cli.main"


def on_a_disk(tmp_path: Path, options: str, script: str) -> str:
    """What a shell script says, which has a file system of its own at $disk."""
    disk = tmp_path / "disk"
    disk.mkdir()
    inside = ["unshare", "-rm", "sh", "-c"]
    mount = f"mount -t tmpfs -o {options} none {disk}"
    if subprocess.run([*inside, mount], capture_output=True).returncode:
        pytest.skip("this machine does not let users mount in a namespace of their own")
    return subprocess.run(
        [*inside, f"{mount} && {script}"],
        env={**os.environ, "disk": str(disk), "CI": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=True,
    ).stdout
