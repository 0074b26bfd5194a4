"""Runs on this machine: what happens, what is kept, and what a kill leaves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline import log
from pipeline.cli.run import RunResult, run_pipeline
from pipeline.ledger import Ledger
from pipeline.store import Store
from schemas.errors import ArtifactError


def run(*overrides: str, **options: object) -> RunResult:
    return run_pipeline("pipeline.yaml", overrides=overrides, **options)  # type: ignore[arg-type]


def model_of(result: RunResult) -> str:
    return (result.steps["fit"].outputs["model"] / "Format-Serving" / "saved_model.pb").read_text()


def test_a_run_makes_every_output_and_a_second_one_nothing(project: Path) -> None:
    first = run()
    again = run()

    assert first.outcome == "done"
    assert model_of(first) == str(2 * (1 + 2 + 3) + 7)
    assert again.outcome == "nothing new"
    assert again.exit_code == 0
    assert {step.action for step in again.steps.values()} == {"reuse"}
    assert again.metrics == {"sum": 12}


def test_the_listener_hears_of_every_step_in_order(project: Path) -> None:
    events: list[log.Event] = []
    run(listener=events.append)

    finished = [event for event in events if isinstance(event, log.StepFinished)]
    assert {event.step for event in finished} == {"read", "count", "judge", "apply", "fit"}
    (read,) = [event for event in finished if event.step == "read"]
    assert read.outputs == [("examples", "Examples", "train 3")]
    assert isinstance(events[0], log.RunStarted)
    assert isinstance(events[-1], log.RunFinished)
    assert any(isinstance(event, log.StepProgress) and event.unit == "numbers" for event in events)


def test_an_output_that_comes_out_equal_stops_the_reruns(project: Path) -> None:
    run()
    steps = project / "project_steps.py"
    steps.write_text(steps.read_text().replace("lines = Path(self.source)", "lines = 0 or Path(self.source)"))
    for name in [name for name in sys.modules if name.startswith("project_steps")]:
        del sys.modules[name]

    result = run("read.keep=0.5")

    assert result.steps["read"].action == "run"
    # The whole file changed, so every component in it reruns; what each makes is as before.
    assert result.outcome == "done"
    assert model_of(result) == "19"


def test_the_users_error_comes_first_with_file_line_and_the_command_to_rerun(project: Path) -> None:
    (project / "project_functions.py").write_text("def double(line):\n    return {}[line]\n")
    events: list[log.Event] = []

    result = run(listener=events.append)

    assert result.outcome == "failed"
    assert result.exit_code == 1
    (failed,) = [event for event in events if isinstance(event, log.StepFailed)]
    assert failed.message.startswith("project_functions.py:2 in double: KeyError: '1'")
    assert failed.rerun.startswith("pipeline step store-root/runs/")
    assert "Traceback" in Path(failed.log).read_text()
    assert result.steps["fit"].action == "skipped"


def test_a_refusal_keeps_its_report_stops_the_run_and_is_repeated_without_work(project: Path) -> None:
    first = run("parameters.most=2")
    again = run("parameters.most=2")

    assert first.outcome == again.outcome == "refused"
    assert first.exit_code == 3
    assert first.steps["judge"].message == again.steps["judge"].message == "3 lines are more than 2"
    (report,) = (project / "store-root/store/judge").glob("*/anomalies/count.json")
    assert report.read_text() == "3"


LEAST = "steps.judge.with.fewest=4"


def test_a_step_that_finds_no_need_to_go_on_skips_the_run_keeps_its_report_and_is_repeated_without_work(
    project: Path,
) -> None:
    first = run(LEAST)
    again = run(LEAST)

    assert (first.outcome, first.exit_code, first.reasons) == ("skipped", 0, ("3 lines are fewer than 4",))
    assert (again.outcome, again.exit_code, again.reasons) == ("skipped", 0, ("3 lines are fewer than 4",))
    assert first.steps["judge"].action == again.steps["judge"].action == "no need"
    (report,) = (project / "store-root/store/judge").glob("*/anomalies/count.json")
    assert report.read_text() == "3"
    assert Ledger(Store(project / "store-root"), "none").run(again.run).outcome == "skipped"


def test_no_step_begins_after_one_that_found_no_need_to_go_on_and_the_next_run_does(project: Path) -> None:
    events: list[log.Event] = []

    skipped = run(LEAST, "parallel=1", listener=events.append)

    assert {name for name, step in skipped.steps.items() if step.action == "skipped"} == {"apply", "fit"}
    (found,) = [event for event in events if isinstance(event, log.StepFoundNoNeed)]
    assert (found.step, found.message, found.reused) == ("judge", "3 lines are fewer than 4", False)
    assert isinstance(events[-1], log.RunFinished)
    assert events[-1].outcome == "skipped"
    assert run().outcome == "done"


def test_a_run_in_which_one_step_is_refused_and_another_finds_no_need_is_refused(project: Path) -> None:
    with (project / "pipeline.yaml").open("a") as file:
        file.write("  gate: {uses: project_steps.Judge, with: {most: 2}}\n")

    result = run(LEAST, "parallel=8")  # both begin once the lines are counted

    assert (result.outcome, result.exit_code, result.reasons) == ("refused", 3, ("3 lines are more than 2",))
    assert result.steps["judge"].action == "no need"


def test_a_step_that_crashes_is_named_with_the_signal_and_leaves_nothing_staged(project: Path) -> None:
    with (project / "pipeline.yaml").open("a") as file:
        file.write("  crash: {uses: project_steps.Crash, inputs: {examples: read.examples}}\n")

    result = run()

    assert result.outcome == "failed"
    assert "killed by SIGKILL" in result.steps["crash"].message
    assert list((project / "store-root/staging").iterdir()) == []
    assert not (project / "store-root/store/crash").exists()


def test_to_stops_after_a_step_and_force_repeats_one(project: Path) -> None:
    assert set(run(to="count").steps) == {"read", "count"}
    forced = run(to="count", force=["count"])
    assert [forced.steps[name].action for name in ("read", "count")] == ["reuse", "run"]


def test_a_corrupt_input_is_named_before_it_is_used_and_force_rebuilds_it(project: Path) -> None:
    run(to="apply")
    (lines,) = (project / "store-root/store/apply").glob("*/transformed_examples/Split-train/lines.json")
    lines.write_text(lines.read_text().replace("2", "9"))

    result = run()

    assert result.outcome == "failed"
    assert "apply.transformed_examples" in result.steps["fit"].message
    assert "lines.json" in result.steps["fit"].message
    assert "--force apply" in result.steps["fit"].message
    assert model_of(run(force=["apply"])) == "19"


def test_an_artifact_of_another_size_is_an_error_before_anything_runs_and_force_rebuilds_it(project: Path) -> None:
    run(to="apply")
    (lines,) = (project / "store-root/store/apply").glob("*/transformed_examples/Split-train/lines.json")
    lines.write_text("[]")

    with pytest.raises(ArtifactError, match=r"lines\.json"):
        run()
    assert run(force=["apply"]).outcome == "done"


def start(project: Path, *overrides: str) -> subprocess.Popen[str]:
    code = (
        "import sys\nfrom pipeline.cli.run import run_pipeline\n"
        "try:\n    result = run_pipeline('pipeline.yaml', overrides=sys.argv[1:])\n"
        "except KeyboardInterrupt:\n    sys.exit(130)\nprint(result.outcome)\nsys.exit(result.exit_code)\n"
    )
    return subprocess.Popen(
        [sys.executable, "-c", code, *overrides], cwd=project, stdout=subprocess.PIPE, text=True, start_new_session=True
    )


def wait_for(condition: object, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def position(project: Path) -> int:
    files = list((project / "store-root/scratch/fit").glob("*/position.json"))
    return json.loads(files[0].read_text())[0] if files else 0


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_stopped_run_goes_on_where_it_was(project: Path, how: signal.Signals) -> None:
    (project / "numbers.txt").write_text("\n".join(map(str, range(40))))
    process = start(project, "fit.pause_s=0.1")
    wait_for(lambda: position(project) >= 5)

    if how == signal.SIGINT:
        os.killpg(process.pid, how)  # as Ctrl-C in a terminal
        assert process.wait(30) == 130
        assert list((project / "store-root/staging").iterdir()) == []
    else:
        process.kill()
        process.wait(30)
        wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in step_processes(project)))
    assert not (project / "store-root/store/fit").exists()

    again = start(project, "fit.pause_s=0.1")
    output, _ = again.communicate(timeout=120)

    assert output.strip() == "done"
    newest = max((project / "store-root/runs").iterdir())
    (went_on,) = [line for line in (newest / "fit.log").read_text().splitlines() if line.startswith("going on from")]
    assert int(went_on.rpartition(" ")[2]) >= 5
    (model,) = (project / "store-root/store/fit").glob("*/model/Format-Serving/saved_model.pb")
    assert model.read_text() == str(2 * sum(range(40)) + 7)
    assert list((project / "store-root/staging").iterdir()) == []


def step_processes(project: Path) -> list[int]:
    """Processes of this project's steps that still run."""
    found = []
    for directory in Path("/proc").iterdir():
        if directory.name.isdigit():
            try:
                if (directory / "cwd").readlink() == project and "multiprocessing" in (
                    directory / "cmdline"
                ).read_text():
                    found.append(int(directory.name))
            except OSError:
                continue
    return found


def test_an_interrupted_run_is_recorded_as_such(project: Path) -> None:
    (project / "numbers.txt").write_text("\n".join(map(str, range(40))))
    process = start(project, "fit.pause_s=0.2")
    wait_for(lambda: position(project) >= 1)
    process.kill()
    process.wait(30)

    (record,) = Ledger(Store(project / "store-root")).runs()
    assert record.state == "interrupted"


def test_two_runs_at_once_do_each_step_once(project: Path) -> None:
    (project / "numbers.txt").write_text("\n".join(map(str, range(10))))
    processes = [start(project, "fit.pause_s=0.1") for _ in range(2)]

    outputs = [process.communicate(timeout=120)[0].strip() for process in processes]

    assert sorted(outputs) in (["done", "done"], ["done", "nothing new"])
    assert len(list((project / "store-root/store/fit").iterdir())) == 1
    went_on = [
        line
        for log_file in (project / "store-root/runs").glob("*/fit.log")
        for line in log_file.read_text().splitlines()
        if line.startswith("going on from")
    ]
    assert went_on == ["going on from 0"]
