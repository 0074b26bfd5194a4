"""`pipeline backfill` runs a definition for each of some spans, in order, and goes on where it was stopped."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline import log
from pipeline.at_work import turn_on
from pipeline.cli.backfill import BackfillResult, backfill_pipeline
from pipeline.cli.trigger import trigger_pipeline
from pipeline.ledger import Ledger
from pipeline.store import Store
from schemas.errors import ConfigError, DataError, Interrupted, StoreError
from schemas.passport import Passport

Command = Callable[..., Any]


@pytest.fixture
def spans(growing: Path) -> Path:
    """The project with spans 30 to 33, of one number each, that number."""
    text = Path("pipeline.yaml").read_text()
    Path("pipeline.yaml").write_text(text.replace("data/*.txt", "data/{SPAN}/*.txt"))
    Path("data/a.txt").unlink()
    for number in range(30, 34):
        add(number)
    return growing


def add(number: int, text: str | None = None) -> None:
    Path(f"data/{number}").mkdir(exist_ok=True)
    Path(f"data/{number}/a.txt").write_text(text or f"{number}\n")


def backfill(spans: str, *overrides: str, **options: Any) -> BackfillResult:
    return backfill_pipeline("pipeline.yaml", spans, overrides=overrides, **options)


def outcomes(result: BackfillResult) -> dict[str, str]:
    return {span.label: span.outcome for span in result.spans}


def pushed() -> dict[str, list[int]]:
    """Version: the spans that it was trained on."""
    found = {}
    for directory in sorted(Path("serving").iterdir(), key=lambda path: int(path.name)):
        passport = Passport.read(directory)
        assert passport is not None
        found[directory.name] = [file["span"] for file in passport.steps["read"]["files"]]
    return found


def runs() -> int:
    return len(Ledger(Store("store-root")).runs(100))


class TestTheSpans:
    def test_are_run_in_order_each_as_the_last_one(self, spans: Path) -> None:
        result = backfill("32,30..31", "read.window=2", "read.missing_spans=skip")

        assert outcomes(result) == {"30": "done", "31": "done", "32": "done"}
        assert result.exit_code == 0
        assert pushed() == {"1": [30], "2": [30, 31], "3": [31, 32]}
        assert [(span.version, span.metrics) for span in result.spans] == [
            ("1", {"sum": 30}), ("2", {"sum": 61}), ("3", {"sum": 63})
        ]  # fmt: skip

    def test_that_are_not_there_are_said_and_the_others_run(self, spans: Path) -> None:
        result = backfill("29..30,35", to="read")

        assert outcomes(result) == {"29": "missing", "30": "done", "35": "missing"}
        assert (result.outcome, result.exit_code) == ("failed", 1)
        assert not Path("serving").exists()
        add(29)
        assert outcomes(backfill("29..30", to="read")) == {"29": "done", "30": "done"}
        assert runs() == 2

    def test_may_be_dates(self, spans: Path) -> None:
        text = Path("pipeline.yaml").read_text()
        Path("pipeline.yaml").write_text(text.replace("data/{SPAN}/*.txt", "days/{YYYY}-{MM}-{DD}.txt"))
        Path("days").mkdir()
        for day in (28, 30):
            Path(f"days/2026-02-{day:02}.txt" if day < 29 else "days/2026-03-02.txt").write_text(f"{day}\n")

        result = backfill("2026-02-28..2026-03-02", to="fit")

        assert outcomes(result) == {"2026-02-28": "done", "2026-03-01": "missing", "2026-03-02": "done"}
        assert [span.metrics.get("sum") for span in result.spans] == [28, None, 30]

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("40..41", "--spans 40..41: none of these is there. data/{SPAN}/*.txt has 30 to 33"),
            ("33..30", "--spans 33..30: 33..30 goes back: write 30..33; they are run in order"),
            ("30..x", "--spans 30..x: 'x' is not a span of data/{SPAN}/*.txt: expected a number, 0 or more"),
            ("", "--spans : '' is not a span of"),
            ("-3", "--spans -3: '-3' is not a span of"),
            ("30...33", "--spans 30...33: '.33' is not a span of"),
            ("0..99999", "--spans 0..99999: 0..99999 are 100,000 spans; give at most 10,000"),
        ],
    )
    def test_that_make_no_sense_are_an_error_before_anything_runs(self, spans: Path, text: str, message: str) -> None:
        with pytest.raises(ConfigError) as wrong:
            backfill(text)

        assert message in str(wrong.value)
        assert not Path("store-root").exists()

    def test_of_a_source_without_any_are_an_error(self, growing: Path) -> None:
        with pytest.raises(ConfigError, match="no step of growing reads a source with spans"):
            backfill("30")

    def test_of_a_source_that_has_a_span_that_is_no_number_are_an_error(self, spans: Path) -> None:
        Path("data/30").rename("data/thirty")

        with pytest.raises(DataError, match="data/thirty/a.txt"):
            backfill("31")

    def test_of_a_step_without_any_are_an_error_that_names_those_with(self, spans: Path) -> None:
        with pytest.raises(ConfigError, match="--step fit: reads no source with spans; those are read"):
            backfill("30", only=["fit"])
        with pytest.raises(ConfigError, match="there is no step 'reed'"):
            backfill("30", only=["reed"])
        with pytest.raises(ConfigError, match="there is no step 'fitt'"):
            backfill("30", to="fitt")


class TestAFailure:
    def test_ends_it_and_the_same_call_goes_on_there(self, spans: Path) -> None:
        add(31, "x\n")

        result = backfill("30..33")

        assert outcomes(result) == {"30": "done", "31": "failed", "32": "not run", "33": "not run"}
        assert result.exit_code == 1
        assert "invalid literal for int() with base 10: 'x'" in result.spans[1].reason
        add(31)
        again = backfill("30..33")
        assert outcomes(again) == dict.fromkeys(("30", "31", "32", "33"), "done")
        assert [span.before for span in again.spans] == [True, False, False, False]
        assert again.spans[0].run == result.spans[0].run
        assert pushed() == {"1": [30], "2": [31], "3": [32], "4": [33]}
        assert runs() == 5

    def test_is_gone_past_where_that_is_asked_for(self, spans: Path) -> None:
        add(31, "x\n")

        result = backfill("30..32", keep_going=True)

        assert outcomes(result) == {"30": "done", "31": "failed", "32": "done"}
        assert (result.outcome, result.exit_code) == ("failed", 1)

    def test_to_begin_a_run_is_one_too(self, spans: Path) -> None:
        result = backfill("30..32", "read.window=2", keep_going=True)

        assert outcomes(result) == {"30": "failed", "31": "done", "32": "done"}
        assert result.spans[0].run is None
        assert "1 of the 2 spans up to 30 is not there: 29" in result.spans[0].reason

    def test_is_not_what_a_refusal_is(self, spans: Path) -> None:
        result = backfill("30..32", "parameters.most=31")

        assert outcomes(result) == {"30": "done", "31": "done", "32": "refused"}
        assert (result.outcome, result.exit_code) == ("refused", 3)
        assert result.spans[2].reason == "32 is more than 31"
        assert [span.before for span in backfill("30..32", "parameters.most=31").spans] == [True] * 3
        assert runs() == 3


class TestWhatIsDone:
    def test_is_not_done_again_unless_that_is_asked_for(self, spans: Path) -> None:
        assert backfill("30..31", to="fit").exit_code == 0

        assert [span.before for span in backfill("30..32", to="fit").spans] == [True, True, False]
        assert runs() == 3
        assert outcomes(backfill("30..31", to="fit", again=True)) == {"30": "nothing new", "31": "nothing new"}
        assert runs() == 5

    def test_up_to_a_step_or_with_other_settings_is_another_thing(self, spans: Path) -> None:
        backfill("30", to="read")

        assert not any(span.before for span in backfill("30", to="fit").spans)
        assert not any(span.before for span in backfill("30", "fit.pause_s=0.01", to="fit").spans)
        assert all(span.before for span in backfill("30", to="read").spans)

    def test_and_cannot_be_read_is_an_error_that_says_what_to_do(self, spans: Path) -> None:
        Path("store-root/backfills").mkdir(parents=True)
        Path("store-root/backfills/growing.json").write_text("[]")

        with pytest.raises(StoreError, match="It says which spans are done: remove it"):
            backfill("30")


class TestStopping:
    def test_says_how_far_it_came_and_the_same_call_goes_on(self, spans: Path) -> None:
        with pytest.raises(
            Interrupted, match="stopped in span 31, 2 of 3; what was finished is kept, and the same command"
        ):
            backfill("30..32", display=interrupting_in("31"))

        assert [record.outcome for record in Ledger(Store("store-root")).runs()] == ["interrupted", "done"]
        assert [span.before for span in backfill("30..32").spans] == [True, False, False]
        assert pushed() == {"1": [30], "2": [31], "3": [32]}

    def test_by_a_kill_loses_nothing_that_was_done(self, spans: Path, children: Any) -> None:
        add(31, "1\n" * 200)
        child = children.start(lambda: backfill("30..32", "fit.pause_s=0.3"))
        deadline = time.monotonic() + 100
        while not any(
            json.loads(file.read_text())[0] >= 2 for file in Path("store-root/scratch/fit").glob("*/position.json")
        ):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        os.kill(child, signal.SIGKILL)
        assert children.status(child) == -signal.SIGKILL
        add(31)

        result = backfill("30..32", "fit.pause_s=0.3")

        assert [span.before for span in result.spans] == [True, False, False]
        assert pushed() == {"1": [30], "2": [31], "3": [32]}


def interrupting_in(span: str) -> Callable[[], contextlib.AbstractContextManager[Callable[[log.Event], None]]]:
    """A display that is interrupted in the run of a span."""
    now: list[str] = []

    def show(event: log.Event) -> None:
        if isinstance(event, log.StepNote):
            now.append(event.message)
        if isinstance(event, log.StepStarted) and now[-1].startswith(f"span {span},"):
            raise KeyboardInterrupt

    @contextlib.contextmanager
    def display() -> Iterator[Callable[[log.Event], None]]:
        yield show

    return display


class TestBesideOthers:
    def test_a_trigger_says_that_it_is_busy(self, spans: Path) -> None:
        said: list[Any] = []

        def ask(event: log.Event) -> None:
            if isinstance(event, log.RunStarted):
                said.append(trigger_pipeline("pipeline.yaml", if_new_data=True))

        @contextlib.contextmanager
        def display() -> Iterator[Callable[[log.Event], None]]:
            yield ask

        result = backfill("30", to="read", display=display)

        assert said[0].outcome == "busy"
        assert said[0].run == result.spans[0].run
        assert said[0].reason.endswith("(backfill of span 30, 1 of 1)")

    def test_a_trigger_afterwards_runs_on_what_is_newer(self, spans: Path) -> None:
        backfill("30..31")

        result = trigger_pipeline("pipeline.yaml", if_new_data=True)

        assert (result.outcome, result.reason) == ("done", "span 33 is new, span 31 left the window")
        assert trigger_pipeline("pipeline.yaml", if_new_data=True).reason == "nothing new since span 33"

    def test_it_waits_for_a_trigger_and_says_so(self, spans: Path) -> None:
        held = contextlib.ExitStack()
        held.enter_context(turn_on(Store("store-root").open(), "growing", "trigger"))
        said: list[str] = []

        def hear(event: log.Event) -> None:
            if isinstance(event, log.StepNote):
                said.append(event.message)
                held.close()

        @contextlib.contextmanager
        def display() -> Iterator[Callable[[log.Event], None]]:
            yield hear

        assert backfill("30", to="read", display=display).exit_code == 0

        assert said[0] == f"waits: process {os.getpid()} (trigger) is at work on growing"


class TestTheCommand:
    def test_ends_with_a_table(self, spans: Path, command: Command) -> None:
        said = command("backfill", "pipeline.yaml", "--spans", "30..32", "--set", "parameters.most=31")

        assert said.code == 3
        table = said.out[said.out.index("SPAN") :].splitlines()
        assert table[0].split() == ["SPAN", "OUTCOME", "RUN", "TOOK", "VERSION", "METRICS", "REASON"]
        assert [line.split()[0:2] for line in table[1:]] == [["30", "done"], ["31", "done"], ["32", "refused"]]
        assert "sum 30" in table[1]
        assert table[3].endswith("32 is more than 31")
        assert "span 31, 2 of 3" in said.out

    def test_says_how_to_go_on_after_a_failure(self, spans: Path, command: Command) -> None:
        add(30, "x\n")

        said = command("backfill", "pipeline.yaml", "--spans", "30..31")

        assert said.code == 1
        assert said.err.splitlines()[-1] == (
            "ended at the first failure: the same command goes on there, and with --keep-going past it"
        )

    def test_gives_json(self, spans: Path, command: Command) -> None:
        data = command("backfill", "pipeline.yaml", "--spans", "30..31", "--to", "fit", "--json").data

        assert (data["outcome"], data["pipeline"]) == ("done", "growing")
        assert [(span["span"], span["label"], span["outcome"], span["before"]) for span in data["spans"]] == [
            (30, "30", "done", False),
            (31, "31", "done", False),
        ]
        assert set(data["spans"][0]) == {
            "span", "label", "outcome", "run", "seconds", "metrics", "version", "reason", "before"
        }  # fmt: skip

    def test_without_spans_is_wrong_usage(self, spans: Path, command: Command) -> None:
        assert command("backfill", "pipeline.yaml").code == 2
