"""What a run shows: lasting lines that say what was made, moving lines that say how far it is, and never a broken terminal."""

from __future__ import annotations

import fcntl
import io
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from pipeline.log import (
    Event,
    LiveDisplay,
    PlainDisplay,
    RunFinished,
    RunStarted,
    StepFailed,
    StepFinished,
    StepFoundNoNeed,
    StepNote,
    StepProgress,
    StepRefused,
    StepStarted,
    StepWaiting,
    display,
    duration,
)

STEPS = ("example_gen", "trainer")


class Clock:
    """Seconds that pass when told."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def plain(*events: Event, encoding: str = "utf-8") -> list[str]:
    """The lines that a plain display prints."""
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding)
    with PlainDisplay(stream) as show:
        for event in events:
            show(event)
    stream.flush()
    return raw.getvalue().decode(encoding).splitlines()


def screen(code: str, *, columns: int = 80, **environ: str) -> tuple[list[str], str]:
    """What a terminal of that width shows after `code`, which finds a live display `show`; and all that was sent to it."""
    program = f"import sys, time\nfrom pipeline.log import *\nwith display() as show:\n{_indented(code)}"
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    known = {
        name: value for name, value in os.environ.items() if name not in ("CI", "NO_COLOR", "COLUMNS", "FORCE_COLOR")
    }
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        cwd=Path(__file__).parents[2],
        env=known | {"TERM": "xterm-256color", "PYTHONUTF8": "1"} | environ,
        start_new_session=True,
    )
    os.close(theirs)
    sent = b""
    try:
        while chunk := os.read(ours, 65536):
            sent += chunk
    except OSError:  # how Linux says that the other end is closed
        pass
    except BaseException:  # the test's time is up
        process.kill()
        raise
    os.close(ours)
    assert process.wait() == 0, sent.decode()
    text = sent.decode()
    return _shown(text), text


def _indented(code: str) -> str:
    return "\n".join("    " + line for line in code.strip().splitlines())


def _shown(text: str) -> list[str]:
    """The lines of a screen that was sent `text`: as much of a terminal as rich's live displays use."""
    lines: list[str] = [""]
    row = 0
    for token in re.findall(r"\x1b\[\??[\d;]*[A-Za-z]|\r|\n|[^\x1b\r\n]+", text):
        if token == "\n":
            row += 1
            lines += [""] * (row + 1 - len(lines))
        elif token == "\x1b[2K":
            lines[row] = ""
        elif token.endswith("A") and token.startswith("\x1b"):
            row -= int(token[2:-1])
        elif not token.startswith(("\x1b", "\r")):
            lines[row] += token  # rich erases a line before it writes it again
    return [line.rstrip() for line in lines if line.strip()]


class TestLastingLines:
    def test_say_what_a_step_made_in_how_long(self) -> None:
        lines = plain(
            RunStarted("taxi", "run-1", STEPS),
            StepFinished("example_gen", "run", 1.23, [("examples", "Examples", "train 9,998, eval 5,004")]),
            StepFinished("trainer", "reuse", 0, [("model", "Model", "1,000 steps"), ("history", "History", "")]),
        )

        assert lines == [
            "taxi  run run-1",
            "✓ example_gen    1.2 s  examples: train 9,998, eval 5,004",
            "= trainer       reused  model: 1,000 steps",
        ]

    def test_name_what_a_step_made_where_there_is_nothing_to_say_of_it(self) -> None:
        outputs = [("history", "History", ""), ("notes", "Notes", "")]

        lines = plain(RunStarted("taxi", "run-1", STEPS), StepFinished("trainer", "reuse", 0, outputs))

        assert lines[1] == "= trainer       reused  history · notes"

    def test_say_why_a_step_was_run_or_skipped(self) -> None:
        lines = plain(
            StepFinished("transform", "run", 2, (), "features.py: fill_missing changed"),
            StepFinished("trainer", "skipped", reason="transform failed"),
        )

        assert lines[0].endswith("2.0 s  (features.py: fill_missing changed)")
        assert lines[1].endswith("skipped  (transform failed)")

    def test_of_a_failure_open_with_the_place_and_end_with_the_command(self) -> None:
        message = "configs/taxi/features.py, line 31, in preprocessing_fn\nKeyError: 'fare'"

        lines = plain(StepFailed("transform", message, "runs/1/transform.log", "pipeline step order.json", 2.1))

        assert lines == [
            "✗ transform           2.1 s  configs/taxi/features.py, line 31, in preprocessing_fn",
            "    KeyError: 'fare'",
            "    log    runs/1/transform.log",
            "    again  pipeline step order.json",
        ]

    def test_of_a_refusal_give_the_whole_message(self) -> None:
        lines = plain(
            StepRefused("pusher", "not blessed:\nauc 0.61 is below 0.70", 0.2, more="pipeline show r1 evaluator"),
            StepRefused("gate", "no", reused=True),
        )

        assert lines == [
            "■ pusher              0.2 s  not blessed:",
            "    auc 0.61 is below 0.70",
            "    more   pipeline show r1 evaluator",
            "■ gate               reused  no",
        ]

    def test_of_a_step_that_found_no_need_to_go_on_read_as_those_of_one_that_is_done(self) -> None:
        lines = plain(
            StepFoundNoNeed("validator", "no drift:\nfare 0.01 of 0.1", 0.2, more="pipeline show r1 validator"),
            StepFoundNoNeed("gate", "enough", reused=True),
            StepFinished("trainer", "skipped"),
            RunFinished("skipped", 1.0),
        )

        assert lines == [
            "✓ validator           0.2 s  no drift:",
            "    fare 0.01 of 0.1",
            "    more   pipeline show r1 validator",
            "= gate               reused  enough",
            "- trainer           skipped",
            "",
            "skipped after 1.0 s  1 run, 1 reused, 1 skipped",
        ]

    def test_of_a_note_do_not_count_as_an_end(self) -> None:
        lines = plain(StepNote("validator", "fare: 3 rows are negative"), RunFinished("done", 1))

        assert lines[0].endswith("fare: 3 rows are negative")
        assert lines[-1] == "done after 1.0 s"

    def test_of_the_summary_count_the_steps_and_list_metrics_and_paths(self) -> None:
        lines = plain(
            StepFinished("example_gen", "reuse"),
            StepFinished("trainer", "run", 50),
            StepFinished("evaluator", "run", 4),
            RunFinished("done", 54.2, {"auc": 0.742313, "examples": 5004.0}, {"model": "serving/taxi/1732205000"}),
        )

        assert lines[-5:] == [
            "",
            "done after 54.2 s  1 reused, 2 run",
            "  auc       0.7423",
            "  examples  5004",
            "  model     serving/taxi/1732205000",
        ]

    def test_use_letters_where_the_stream_has_no_others(self) -> None:
        lines = plain(
            StepFinished("a", "run", 1, [("x", "X", ""), ("y", "Y", "")]),
            StepFailed("b", "no column 'größe'\tfound"),
            encoding="ascii",
        )

        assert lines[0].startswith("+ a ")
        assert lines[0].endswith("x | y")
        assert lines[1].startswith("x b ")
        assert "gr??e" in lines[1]


class TestPlainProgress:
    def test_is_told_at_most_every_ten_seconds_per_step(self) -> None:
        stream, clock = io.StringIO(), Clock()
        with PlainDisplay(stream, clock) as show:
            show(StepStarted("trainer"))
            show(StepStarted("tuner"))
            for second in range(26):
                clock.now = float(second)
                show(StepProgress("trainer", second * 40, 1000, "steps"))
            show(StepProgress("tuner", 1200, None, "rows"))

        assert stream.getvalue().splitlines() == [
            "  trainer started",
            "  tuner started",
            "  trainer 400 of 1,000 steps, 10.0 s",
            "  trainer 800 of 1,000 steps, 20.0 s",
            "  tuner 1,200 rows, 25.0 s",
        ]

    def test_tells_at_once_what_a_step_waits_for(self) -> None:
        assert plain(StepWaiting("trainer", "process 7 is making the same trainer")) == [
            "  trainer waits: process 7 is making the same trainer"
        ]


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "0.0 s"),
        (0.06, "0.1 s"),
        (63.24, "63.2 s"),
        (99.94, "99.9 s"),
        (99.96, "1m 40s"),
        (3599.4, "59m 59s"),
        (3599.6, "1h 00m"),
        (36000, "10h 00m"),
    ],
)
def test_durations_are_short_at_every_scale(seconds: float, said: str) -> None:
    assert duration(seconds) == said
    assert len(said) <= 7


class TestLiveDisplay:
    def test_leaves_lasting_lines_and_nothing_that_moved(self) -> None:
        lines, sent = screen(
            """
            show(RunStarted("taxi", "run-1", ("example_gen", "trainer")))
            show(StepStarted("example_gen"))
            time.sleep(0.3)
            show(StepFinished("example_gen", "run", 1.2, [("examples", "Examples", "train 9,998")]))
            show(StepStarted("trainer"))
            show(StepProgress("trainer", 500, 1000, "steps"))
            time.sleep(0.5)
            show(StepFinished("trainer", "run", 50.0))
            show(RunFinished("done", 51.2, {"auc": 0.75}, {"model": "serving/taxi/1"}))
            """.replace("            ", "")
        )

        assert lines == [
            "taxi  run run-1",
            "✓ example_gen    1.2 s  examples: train 9,998",
            "✓ trainer       50.0 s",
            "done after 51.2 s  2 run",
            "  auc    0.75",
            "  model  serving/taxi/1",
        ]
        assert "500 of 1,000 steps" in sent
        assert "━" in sent
        assert "1 of 2 steps" in sent
        assert sent.rindex("\x1b[?25h") > sent.rindex("\x1b[?25l"), "the cursor is shown again"

    def test_gives_the_terminal_back_after_an_exception(self) -> None:
        lines, sent = screen(
            """
try:
    with LiveDisplay(sys.stdout) as inner:
        inner(StepStarted("trainer"))
        time.sleep(0.3)
        raise KeyboardInterrupt
except KeyboardInterrupt:
    pass
""",
            CI="1",  # so that the outer display is not live too
        )

        assert lines == []
        assert sent.rindex("\x1b[?25h") > sent.rindex("\x1b[?25l")

    def test_may_be_told_from_many_threads_at_once(self) -> None:
        lines, _ = screen(
            """
import threading
notes = []
def work(name):
    show(StepStarted(name))
    until = time.monotonic() + 1.0  # ten moving pictures, drawn by a thread of rich's own
    while time.monotonic() < until:
        show(StepProgress(name, len(notes), None, "rows"))
        show(StepNote(name, "noted"))
        notes.append(name)
    show(StepFinished(name, "run", 1.0))
threads = [threading.Thread(target=work, args=(f"step_{n}",)) for n in range(3)]
for thread in threads: thread.start()
for thread in threads: thread.join()
show(RunFinished("done", 1.0, {}, {"notes": str(len(notes))}))
"""
        )

        assert sum(line.startswith("✓") for line in lines) == 3
        assert lines[-1] == f"  notes  {sum(line.endswith('noted') for line in lines)}"

    def test_folds_between_words_and_leaves_paths_whole_in_a_narrow_terminal(self) -> None:
        lines, _ = screen(
            """
show(StepFinished("example_gen", "run", 1.2, [("examples", "Examples", "train 9,998, eval 5,004")]))
show(StepFailed("transform", "no column 'fare'", "a/very/long/path/of/a/log/file/transform.log", "pipeline step a/very/long/path.json"))
""",
            columns=40,
        )

        assert lines[0] == "✓ example_gen         1.2 s  examples:"
        assert lines[1] == "    train 9,998, eval 5,004"
        assert "    log    a/very/long/path/of/a/log/file/transform.log" in lines
        assert "    again  pipeline step a/very/long/path.json" in lines

    @pytest.mark.parametrize("columns", [20, 40, 60, 200])
    def test_keeps_a_moving_line_within_the_terminal(self, columns: int) -> None:
        _, sent = screen(
            """
show(RunStarted("taxi", "run-1", ("a_step_with_quite_a_long_name",)))
show(StepStarted("a_step_with_quite_a_long_name"))
show(StepProgress("a_step_with_quite_a_long_name", 500_000, 1_000_000, "rows"))
time.sleep(0.3)
""",
            columns=columns,
        )

        moving = [
            line for line in re.sub(r"\x1b\[[^A-Za-z]*[A-Za-z]", "", sent).splitlines() if "⠋" in line or "⠙" in line
        ]
        assert moving
        assert all(len(line.strip("\r")) <= columns for line in moving)

    @pytest.mark.parametrize(("environ", "colours"), [({}, True), ({"NO_COLOR": "1"}, False)])
    def test_has_no_colours_when_they_are_not_wanted(self, environ: dict[str, str], colours: bool) -> None:
        _, sent = screen('show(StepFinished("trainer", "run", 1.0))', **environ)

        assert ("\x1b[32m" in sent) is colours


class TestChoosingADisplay:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    def test_is_live_on_a_terminal(self) -> None:
        assert isinstance(display(self.Terminal(), {"TERM": "xterm"}), LiveDisplay)

    @pytest.mark.parametrize("environ", [{"TERM": "xterm", "CI": "true"}, {"TERM": "dumb"}, {}])
    def test_is_plain_under_ci_and_on_dumb_terminals(self, environ: dict[str, str]) -> None:
        assert isinstance(display(self.Terminal(), environ), PlainDisplay)

    def test_is_plain_into_a_pipe_or_file(self) -> None:
        assert isinstance(display(io.StringIO(), {"TERM": "xterm"}), PlainDisplay)


def test_plain_lines_need_no_rich() -> None:
    code = (
        "import sys, json\nfrom pipeline.log import *\n"
        "with display(sys.stderr) as show: show(RunFinished('done', 1.0))\n"
        "print(json.dumps([m for m in sys.modules if m.startswith('rich')]))"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert json.loads(done.stdout) == []
