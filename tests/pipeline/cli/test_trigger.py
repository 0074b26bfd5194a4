"""`pipeline trigger` runs when there is data that what is served was not trained on, once, however often it is called."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from pipeline import locks
from pipeline.at_work import turn_on
from pipeline.cli.run import run_pipeline
from pipeline.cli.trigger import TriggerResult, trigger_pipeline
from pipeline.graph import Graph
from pipeline.ledger import Ledger
from pipeline.notifications import webhook
from pipeline.store import Store
from schemas.errors import ArtifactError, ConfigError, DataError
from schemas.passport import Passport

Command = Callable[..., Any]

NOW = datetime(2026, 7, 31, 3, 30, tzinfo=UTC)
AGAIN = "; it is tried again when data, code or settings change, or with `pipeline run`"


def trigger(*overrides: str, **options: Any) -> TriggerResult:
    return trigger_pipeline("pipeline.yaml", if_new_data=True, overrides=overrides, now=lambda: NOW, **options)


def runs() -> int:
    return len(Ledger(Store("store-root")).runs(100))


def versions() -> list[str]:
    return sorted(path.name for path in Path("serving").iterdir())


class TestNewData:
    def test_is_there_where_nothing_is_served(self, growing: Path) -> None:
        result = trigger()

        assert (result.outcome, result.reason) == ("done", "nothing is served at serving yet")
        assert result.exit_code == 0
        assert versions() == ["1"]

    def test_is_not_there_once_it_was_trained_on(self, served: Path) -> None:
        result = trigger()

        assert result.outcome == "nothing new"
        assert result.reason == "nothing new since 2026-07-31 03:00 UTC: 1 file, as in version 1 of serving"
        assert (result.exit_code, result.result, runs()) == (0, None, 1)

    @pytest.mark.parametrize(
        ("change", "reason"),
        [
            (lambda: Path("data/b.txt").write_text("4\n"), "b.txt is new"),
            (lambda: Path("data/a.txt").write_text("1\n2\n4\n"), "a.txt changed"),
        ],
        ids=["a file more", "another content"],
    )
    def test_is_a_file_or_content_that_the_served_model_has_not_seen(
        self, served: Path, change: Callable[[], object], reason: str
    ) -> None:
        change()

        result = trigger()

        assert (result.outcome, result.reason, result.new) == ("done", reason, (reason,))
        assert trigger().outcome == "nothing new"

    @pytest.mark.parametrize(
        "change",
        [
            lambda: os.utime("data/a.txt", (1, 1)),
            lambda: (Path("data").rename("moved"), shutil.copytree("moved", "data")),
            lambda: Path("data/a.txt").rename("data/c.txt"),
        ],
        ids=["another time", "another inode", "another name"],
    )
    def test_is_told_by_content_and_not_by_time_place_or_name(self, served: Path, change: Callable[[], object]) -> None:
        change()

        assert trigger().outcome == "nothing new"

    def test_is_not_what_is_gone(self, served: Path) -> None:
        Path("data/b.txt").write_text("4\n")
        assert trigger().outcome == "done"

        Path("data/a.txt").unlink()

        assert trigger().outcome == "nothing new"

    def test_is_not_a_change_of_code_or_settings(self, served: Path) -> None:
        assert trigger("fit.pause_s=0.01", "parameters.most=50").outcome == "nothing new"

    def test_that_makes_no_other_model_is_read_once(self, served: Path) -> None:
        Path("data/empty.txt").touch()
        first = trigger()
        assert (first.outcome, first.reason, versions()) == ("done", "empty.txt is new", ["1"])

        second = trigger()

        assert (second.outcome, second.result) == ("nothing new", None)
        assert second.reason == (
            f"nothing new since run {first.run} on 2026-07-31, which read the same and made no other model of it"
        )

    def test_is_what_another_tool_may_have_trained_on(self, served: Path) -> None:
        shutil.copytree("serving/1", "serving/2")
        Path("serving/2", Passport.FILE).unlink()
        Path("data/b.txt").write_text("4\n")

        result = trigger()

        assert result.outcome == "done"
        assert result.reason == (
            "version 2 of serving was pushed by another tool, and does not say what it was trained on"
        )
        assert versions() == ["1", "2", "3"]

    def test_is_what_a_model_of_other_steps_does_not_name(self, served: Path) -> None:
        text = Path("pipeline.yaml").read_text()
        Path("pipeline.yaml").write_text(text.replace("  read:", "  take:"))

        result = trigger()

        assert (result.outcome, result.reason) == ("done", "version 1 of serving does not say what its take read")

    def test_that_appears_while_a_run_reads_is_found_by_the_next_call(self, growing: Path) -> None:
        def appear(event: Any) -> None:
            if type(event).__name__ == "StepStarted" and event.step == "fit":
                Path("data/b.txt").write_text("4\n")

        assert trigger(listener=appear).outcome == "done"

        result = trigger()

        assert (result.outcome, result.reason) == ("done", "b.txt is new")


class TestWhatWasTried:
    def test_is_not_tried_again_when_it_was_refused(self, served: Path) -> None:
        Path("data/b.txt").write_text("4\n")
        refused = trigger("parameters.most=9")
        assert (refused.outcome, refused.reason, refused.exit_code) == ("refused", "push: 10 is more than 9", 3)

        result = trigger("parameters.most=9")

        assert (result.outcome, result.exit_code, result.run, runs()) == ("skipped", 0, refused.run, 2)
        assert result.reason == (
            f"what is new was refused by run {refused.run} on 2026-07-31: push: 10 is more than 9{AGAIN}"
        )

    def test_is_tried_again_when_settings_data_or_code_change(self, served: Path) -> None:
        Path("data/b.txt").write_text("4\n")
        assert trigger("parameters.most=9").outcome == "refused"
        Path("data/c.txt").write_text("5\n")
        assert trigger("parameters.most=9").outcome == "refused"
        steps = Path("growing_steps.py")
        steps.write_text(steps.read_text().replace("    most: int = 100\n", "    most: int = 101\n"))
        assert trigger("parameters.most=9").outcome == "refused"
        assert trigger("parameters.most=9").outcome == "skipped"
        assert trigger("parameters.most=15").outcome == "done"

    def test_is_tried_again_as_often_as_is_asked_for_when_it_fails(self, served: Path) -> None:
        Path("data/b.txt").write_text("four\n")
        failed = [trigger(attempts=2) for _ in range(2)]
        assert [result.outcome for result in failed] == ["failed", "failed"]
        assert failed[1].exit_code == 1

        result = trigger(attempts=2)

        assert (result.outcome, result.exit_code, runs()) == ("skipped", 0, 3)
        assert result.reason == (
            f"what is new failed 2 times in a row, last in run {failed[1].run} on 2026-07-31: fit: project_steps.py:76 in "
            f"run: ValueError: invalid literal for int() with base 10: 'four'{AGAIN}"
        )
        assert trigger(attempts=3).outcome == "failed"
        Path("data/b.txt").write_text("4\n")
        assert trigger(attempts=2).outcome == "done"

    def test_is_not_tried_again_when_it_was_rolled_back(self, served: Path) -> None:
        Path("data/b.txt").write_text("4\n")
        done = trigger()
        shutil.copytree("serving/1", "serving/3")
        passport = json.loads(Path("serving/3", Passport.FILE).read_text())
        passport |= {"version": 3, "rollback": {"to": 1, "from": 2, "by": "ada@desk", "withdrawn": []}}
        Path("serving/3", Passport.FILE).write_text(json.dumps(passport))

        result = trigger()

        assert (result.outcome, runs()) == ("skipped", 2)
        assert result.reason == (
            f"what is new was done by run {done.run} on 2026-07-31, and now serving serves version 1 again, which ada@desk "
            f"rolled back to{AGAIN}"
        )

    def test_is_put_back_where_nothing_is_served_any_more(self, growing: Path) -> None:
        assert trigger().outcome == "done"
        shutil.rmtree("serving")

        result = trigger()

        assert (result.outcome, result.reason) == ("done", "nothing is served at serving yet")
        assert versions() == ["1"]
        assert {name: step.action for name, step in result.result.steps.items()} == {
            "read": "reuse", "fit": "reuse", "push": "run"
        }  # fmt: skip

    def test_and_was_killed_is_gone_on_with_and_does_not_count(self, served: Path, children: Any) -> None:
        Path("data/b.txt").write_text("1\n" * 60)
        before = Path("store-root/triggers/growing.json").read_bytes()
        child = children.start(lambda: trigger("fit.pause_s=0.5", attempts=1))
        deadline = time.monotonic() + 100
        while not list((served / "store-root/scratch/fit").glob("*/position.json")):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        os.kill(child, signal.SIGKILL)
        assert children.status(child) == -signal.SIGKILL
        assert Path("store-root/triggers/growing.json").read_bytes() == before

        with pytest.raises(KeyboardInterrupt):
            trigger("fit.pause_s=0.5", attempts=1, listener=interrupt)

        assert Path("store-root/triggers/growing.json").read_bytes() == before
        assert trigger("parameters.most=99", attempts=1).outcome == "done"

    def test_and_cannot_be_written_down_is_what_it_was_all_the_same(self, growing: Path) -> None:
        notes: list[str] = []

        def listen(event: Any) -> None:
            if type(event).__name__ == "RunFinished":
                Path("store-root/triggers/growing.json").mkdir()
            if type(event).__name__ == "StepNote":
                notes.append(event.message)

        result = trigger(listener=listen)

        assert (result.outcome, result.exit_code, versions()) == ("done", 0, ["1"])
        assert "warning: cannot write " in notes[-1]
        assert notes[-1].endswith("The next call may try the same again")

    def test_and_ended_in_an_error_counts_as_failed(self, served: Path) -> None:
        Path("data/b.txt").write_text("4\n")
        assert trigger("parameters.most=9").outcome == "refused"
        for manifest in Path("store-root/store/fit").glob("*/manifest.json"):
            manifest.write_text("{}")
        for _ in range(2):
            with pytest.raises(ArtifactError, match="not readable"):
                trigger(attempts=2)

        result = trigger(attempts=2)

        assert result.outcome == "skipped"
        assert result.reason.startswith("what is new failed 2 times in a row, last in run 2")
        assert "not readable" in result.reason

    def test_by_hand_is_nothing_new_afterwards(self, served: Path) -> None:
        Path("data/b.txt").write_text("4\n")
        trigger("parameters.most=9")

        assert run_pipeline("pipeline.yaml").outcome == "done"

        assert trigger("parameters.most=9").outcome == "nothing new"


class TestSpans:
    @pytest.fixture
    def spans(self, growing: Path) -> Path:
        """The project after a run on spans 40 and 41 of 39 to 41, the second of which is in version 1."""
        text = Path("pipeline.yaml").read_text()
        Path("pipeline.yaml").write_text(
            text.replace('"data/*.txt"', '"data/{SPAN}/{VERSION}/*.txt", window: 2, missing_spans: skip')
        )
        Path("data/a.txt").unlink()
        for number in (39, 40, 41):
            add(number)
        assert trigger().outcome == "done"
        return growing

    def test_are_named(self, spans: Path) -> None:
        assert trigger().reason == "nothing new since span 41"
        add(42)

        result = trigger()

        assert result.outcome == "done"
        assert result.new == ("span 42 is new", "span 40 left the window")
        assert trigger().reason == "nothing new since span 42"

    def test_that_come_late_or_in_another_version_or_change_are_new(self, spans: Path) -> None:
        add(40, version=2)
        assert trigger().outcome == "nothing new", "it holds the same"
        add(40, version=3, text="4\n")
        assert trigger().reason == "span 40 has version 3 now"
        add(41, text="5\n")
        assert trigger().reason == "span 41: a.txt changed"
        add(43)  # 42 is not there yet
        assert trigger().new == ("span 43 is new", "spans 40 to 41 left the window")
        add(42)
        assert trigger().reason == "span 42 is in the window now"

    def test_outside_the_window_are_not_new(self, spans: Path) -> None:
        add(39, version=2)
        add(12)

        assert trigger().outcome == "nothing new"

    def test_that_were_refused_are_named(self, spans: Path) -> None:
        add(42)
        refused = trigger("parameters.most=82")

        assert trigger("parameters.most=82").reason == (
            f"span 42 was refused by run {refused.run} on 2026-07-31: push: 83 is more than 82{AGAIN}"
        )

    def test_are_chosen_by_settings_that_are_no_change(self, spans: Path) -> None:
        add(42)
        assert trigger("parameters.most=82").outcome == "refused"

        assert trigger("parameters.most=82", "read.last_span=42").outcome == "skipped"

    def test_of_a_corrupt_one_are_an_error(self, spans: Path) -> None:
        Path("data/forty-two/1").mkdir(parents=True)
        Path("data/forty-two/1/a.txt").write_text("42\n")

        with pytest.raises(DataError, match="data/forty-two/1/a.txt"):
            trigger()


def add(number: int, *, version: int = 1, text: str | None = None) -> None:
    """Have a span hold its number."""
    file = Path(f"data/{number}/{version}/a.txt")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text or f"{number}\n")


class TestTwoAtOnce:
    def test_the_second_says_that_a_run_is_at_work(self, growing: Path, command: Command) -> None:
        said: list[Any] = []

        def ask(event: Any) -> None:
            if type(event).__name__ == "StepStarted" and not said:
                said.append(command("trigger", "pipeline.yaml", "--if-new-data", "--json"))

        result = trigger(listener=ask)

        assert (said[0].code, said[0].data["outcome"], said[0].data["run"]) == (0, "busy", result.run)
        assert said[0].data["reason"] == (
            f"busy: run {result.run} is at work on it since 2026-07-31 03:30 UTC (nothing is served at serving yet)"
        )
        assert runs() == 1

    def test_one_that_only_looks_is_named_by_its_process(self, served: Path) -> None:
        with turn_on(Store("store-root").open(), "growing", "backfill of spans 3 to 5"):
            result = trigger()

        assert result.outcome == "busy"
        assert result.reason == f"busy: process {os.getpid()} (backfill of spans 3 to 5) is at work on it"

    def test_of_many_at_the_same_moment_one_runs(self, growing: Path, children: Any) -> None:
        def pull(name: int) -> None:
            Path(f"said-{name}").write_text(trigger().outcome)

        started = [children.start(lambda name=name: pull(name)) for name in range(4)]
        assert [children.status(child) for child in started] == [0] * 4

        outcomes = sorted(Path(f"said-{name}").read_text() for name in range(4))
        assert outcomes.count("done") == 1
        assert set(outcomes) <= {"done", "busy", "nothing new"}
        assert (versions(), runs()) == (["1"], 1)

    def test_a_trigger_without_the_question_takes_its_turn_too_and_remembers_nothing(self, served: Path) -> None:
        plain = trigger_pipeline("pipeline.yaml")
        assert (plain.outcome, plain.reason) == ("nothing new", "")
        before = Path("store-root/triggers/growing.json").read_bytes()
        assert trigger_pipeline("pipeline.yaml", overrides=["parameters.most=2"]).reason == "push: 6 is more than 2"
        assert Path("store-root/triggers/growing.json").read_bytes() == before

        with locks.locked(Store("store-root").lock_path("trigger", "growing"), ""):
            assert trigger_pipeline("pipeline.yaml").outcome == "busy"


class TestAFileThatIsBeingWritten:
    def test_and_not_left_alone_is_left_for_the_next_call(self, served: Path) -> None:
        Path("data/b.txt").write_text("4\n")

        result = trigger(still_written=lambda graph: "data/b.txt")

        assert (result.outcome, result.exit_code, runs()) == ("skipped", 0, 1)
        assert result.reason == "data/b.txt is still being written to: the next call looks again"
        assert trigger().outcome == "done"

    def test_while_it_is_waited_for_is_read_as_it_is_then(self, served: Path) -> None:
        Path("data/b.txt").write_text("4\n")

        result = trigger(still_written=lambda graph: Path("data/b.txt").write_text("4\n5\n") and None)

        assert result.outcome == "done"
        assert Path("serving/2/saved_model.pb").read_text() == str(1 + 2 + 3 + 4 + 5)
        assert trigger().outcome == "nothing new"

    def test_and_holds_nothing_new_is_not_waited_for(self, served: Path) -> None:
        assert trigger(still_written=lambda graph: pytest.fail("waited")).outcome == "nothing new"


def interrupt(event: Any) -> None:
    if type(event).__name__ == "StepProgress":
        raise KeyboardInterrupt


@pytest.fixture
def told(server: Any) -> tuple[str, list[dict[str, Any]]]:
    """(the address of a webhook on this machine, what it was told)."""
    return server.url, server.bodies


class TestWhatKeepsItFromTelling:
    def test_is_told_once_and_not_each_minute(self, served: Path, told: tuple[str, list[dict[str, Any]]]) -> None:
        address, bodies = told
        notify = f"notify.webhook={address}"
        Path("data").rename("away")

        for _ in range(3):
            with pytest.raises(ConfigError):
                trigger(notify, "steps.read.cash=no")
        for _ in range(3):
            with pytest.raises(Exception, match="no file matches"):
                trigger(notify)

        assert [body["outcome"] for body in bodies] == ["failed", "failed"]
        assert "cash" in bodies[0]["error"]
        assert "data/*.txt: no file matches" in bodies[1]["error"]
        Path("away").rename("data")
        assert trigger(notify).outcome == "nothing new"
        Path("data").rename("away")
        with pytest.raises(Exception, match="no file matches"):
            trigger(notify)
        assert len(bodies) == 3
        assert runs() == 1

    def test_is_told_again_when_it_comes_back_also_where_not_even_the_name_can_be_read(
        self, served: Path, told: tuple[str, list[dict[str, Any]]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        address, bodies = told
        monkeypatch.setenv(webhook.ADDRESS, address)
        right = Path("pipeline.yaml").read_text()

        for _ in range(2):
            Path("pipeline.yaml").write_text("name: [growing")
            for _ in range(2):
                with pytest.raises(ConfigError):
                    trigger()
            Path("pipeline.yaml").write_text(right)
            assert trigger().outcome == "nothing new"

        assert [body["outcome"] for body in bodies] == ["failed", "failed"]

    def test_is_a_pipeline_without_files_or_without_a_push(self, growing: Path) -> None:
        Path("pipeline.yaml").write_text(
            "name: growing\nroot: store-root\nsteps:\n  read: {uses: growing_steps.Read, with: {source: data/a.txt}}\n"
        )

        with pytest.raises(ConfigError, match="no step of growing publishes a model") as wrong:
            trigger()

        assert len(wrong.value.problems) == 1
        assert trigger_pipeline("pipeline.yaml").outcome == "done"

    def test_is_a_passport_that_cannot_be_read(self, served: Path, command: Command) -> None:
        Path("serving/1", Passport.FILE).write_text("no")

        said = command("trigger", "pipeline.yaml", "--if-new-data", "--json")

        assert (said.code, said.data["outcome"]) == (1, "error")
        assert "not a passport" in said.data["problems"][0]

    def test_is_a_memory_that_cannot_be_read(self, served: Path) -> None:
        Path("store-root/triggers/growing.json").write_text("no")

        with pytest.raises(Exception, match="It says what was tried already: remove it, and that is tried again"):
            trigger()


class TestOnKubeflow:
    @pytest.fixture
    def mounted(self, growing: Path, kfp_api: Any) -> Path:
        """The project in a directory that pods mount where it is here."""
        text = Path("pipeline.yaml").read_text().replace("data/*.txt", f"{growing}/data/{{SPAN}}/1/*.txt")
        text = text.replace("destination: serving", f"destination: {growing}/serving")
        volume = f"{{claim: penstock, path: {growing}}}"
        Path("pipeline.yaml").write_text(
            f"{text}kubeflow: {{image: 'registry.example.com/growing:1', root: {growing}/store-root, "
            f"defaults: {{volumes: [{volume}]}}}}\n"
        )
        add(41)
        return growing

    def test_a_run_is_started_once_for_what_is_new(self, mounted: Path, command: Command, kfp_api: Any) -> None:
        look = ("trigger", "pipeline.yaml", "--if-new-data", "--kubeflow", "--json")
        first = command(*look)
        (run,) = kfp_api.runs.items.values()
        assert (first.code, first.data["outcome"], first.data["run"]) == (0, "started", run["run_id"])
        assert run["display_name"] == "growing-span-41"
        assert first.data["reason"] == "nothing is served at serving yet: 'growing-span-41' was started"
        assert run["run_id"] in first.data["url"]

        second = command(*look)

        assert (second.code, second.data["outcome"], second.data["run"]) == (0, "busy", run["run_id"])
        kfp_api.workflows[run["run_id"]].start()
        kfp_api.workflows[run["run_id"]].end("Succeeded")
        assert command(*look).data["outcome"] == "skipped"
        assert trigger().outcome == "done"  # what the run is to do
        assert command(*look).data["reason"] == "nothing new since span 41"
        assert len(kfp_api.runs.items) == 1

    def test_what_was_made_while_files_were_waited_for_is_not_started(self, mounted: Path, kfp_api: Any) -> None:
        def written(graph: Graph) -> None:
            assert trigger().outcome == "done"

        found = trigger(kubeflow=True, still_written=written)

        assert (found.outcome, found.reason, found.new) == ("nothing new", "nothing new since span 41", ())
        assert not kfp_api.runs.items

    def test_without_spans_it_is_called_by_its_content(self, mounted: Path, command: Command, kfp_api: Any) -> None:
        text = Path("pipeline.yaml").read_text()
        Path("pipeline.yaml").write_text(text.replace("data/{SPAN}/1/*.txt", "data/41/1/*.txt"))

        command("trigger", "pipeline.yaml", "--if-new-data", "--kubeflow")

        (run,) = kfp_api.runs.items.values()
        assert re.fullmatch("growing-data-[0-9a-f]{8}", run["display_name"])


class TestTheCommand:
    def test_says_what_is_new_and_runs_as_run_does(self, growing: Path, command: Command) -> None:
        said = command("trigger", "pipeline.yaml", "--if-new-data")

        assert said.code == 0
        assert "trigger" in said.out
        assert "nothing is served at serving yet" in said.out
        assert "done after" in said.out

    def test_says_in_a_line_that_nothing_is_new(self, served: Path, command: Command) -> None:
        said = command("trigger", "pipeline.yaml", "--if-new-data")

        assert (said.code, said.out) == (
            0,
            "nothing new since 2026-07-31 03:00 UTC: 1 file, as in version 1 of serving\n",
        )

    def test_gives_as_json_what_run_gives_and_why(self, growing: Path, command: Command) -> None:
        first = command("trigger", "pipeline.yaml", "--if-new-data", "--json").data
        second = command("trigger", "pipeline.yaml", "--if-new-data", "--json").data

        assert (first["outcome"], first["reason"]) == ("done", "nothing is served at serving yet")
        assert first["new"] == ["nothing is served at serving yet"]
        assert set(first["steps"]) == {"read", "fit", "push"}
        assert second == {
            "outcome": "nothing new",
            "reason": "nothing new since 2026-07-31 03:00 UTC: 1 file, as in version 1 of serving",
            "new": [],
            "run": first["run"],
        }

    def test_ends_with_the_runs_exit_code(self, growing: Path, command: Command) -> None:
        assert command("trigger", "pipeline.yaml", "--if-new-data", "--set", "parameters.most=2").code == 3
        Path("data/a.txt").write_text("x\n")
        assert command("trigger", "pipeline.yaml", "--if-new-data").code == 1
        assert command("trigger", "pipeline.yaml", "--kubeflow").code == 2
        assert command("trigger", "pipeline.yaml", "--if-new-data", "--kubeflow", "--root", "x").code == 2
        assert command("trigger", "pipeline.yaml", "--if-new-data", "--kubeflow", "--fast").code == 2
        assert command("trigger", "pipeline.yaml", "--attempts", "0").code == 2
