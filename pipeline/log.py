"""What a run says at the terminal: events, and the two ways to show them, live and as plain lines."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal, Protocol, Self, TextIO, cast

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

_INDENT = "    "
_PROGRESS_EVERY_S = 10.0  # in plain lines, per step


@dataclass(frozen=True)
class RunStarted:
    """A run begins. `steps` are all that it will run or reuse, in their order."""

    pipeline: str
    run: str
    steps: tuple[str, ...]
    notes: tuple[str, ...] = ()  # what of another framework's pipeline is not followed


@dataclass(frozen=True)
class StepStarted:
    """A step is at work."""

    step: str


@dataclass(frozen=True)
class StepWaiting:
    """A step waits for something outside this run, and what for."""

    step: str
    message: str


@dataclass(frozen=True)
class StepProgress:
    """`done` of `total` (None when unknown) `unit` are finished."""

    step: str
    done: int
    total: int | None
    unit: str


@dataclass(frozen=True)
class StepNote:
    """Something a step wants to be known and does not fail for, such as an anomaly that is only warned of."""

    step: str
    message: str


@dataclass(frozen=True)
class StepFinished:
    """A step's outputs are there: made now, or reused. `skipped` is a step that did not run since another ended the run."""

    step: str
    action: Literal["run", "reuse", "skipped"]
    seconds: float = 0.0
    outputs: Sequence[tuple[str, str, str]] = ()  # (port, type name, what it is in half a line)
    reason: str = ""


@dataclass(frozen=True)
class StepFailed:
    """A step ended without its outputs. `message` opens with the place to look at; `rerun` is a command."""

    step: str
    message: str
    log: str = ""
    rerun: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class StepRefused:
    """A gate said no. `reused`: an earlier run found it out, and nothing has changed. `more` is the command to see more."""

    step: str
    message: str
    seconds: float = 0.0
    reused: bool = False
    more: str = ""


@dataclass(frozen=True)
class StepFoundNoNeed:
    """A step is done, and found that what comes after is not needed. `reused` and `more` are as of StepRefused."""

    step: str
    message: str
    seconds: float = 0.0
    reused: bool = False
    more: str = ""


@dataclass(frozen=True)
class RunFinished:
    """A run ended. `metrics` and `paths` are what it was run for, by name."""

    outcome: Literal["done", "nothing new", "skipped", "failed", "refused", "interrupted"]
    seconds: float
    metrics: Mapping[str, float | None] = field(default_factory=dict)  # None: not defined on this data
    paths: Mapping[str, str] = field(default_factory=dict)


Event = (
    RunStarted
    | StepStarted
    | StepWaiting
    | StepProgress
    | StepNote
    | StepFinished
    | StepFailed
    | StepRefused
    | StepFoundNoNeed
    | RunFinished
)


class Display(Protocol):
    """Shows events as they come, from any thread; a context, so that the terminal is whole again however a run ends."""

    def __call__(self, event: Event) -> None:
        """Show one event."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *error: object) -> None: ...


def display(stream: TextIO | None = None, environ: Mapping[str, str] = os.environ) -> Display:
    """The display that suits `stream` (standard output): live on a terminal, plain lines elsewhere and under CI."""
    stream = stream or sys.stdout
    if stream.isatty() and not environ.get("CI") and environ.get("TERM", "") not in ("", "dumb"):
        return LiveDisplay(stream)
    return PlainDisplay(stream)


class SilentDisplay:
    """Shows nothing."""

    def __call__(self, event: Event) -> None:
        """Nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        pass


class PlainDisplay:
    """One line per thing that happened, and per running step at most one line of progress every ten seconds."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = Unbreakable(stream)
        self._clock = clock
        self._page = _Page(_speaks_unicode(stream))
        self._told: dict[str, float] = {}  # by step, when its last line was written
        self._started: dict[str, float] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def __call__(self, event: Event) -> None:
        """Print its lines, if it has any now."""
        with self._lock:
            now = self._clock()
            match event:
                case StepStarted(step):
                    self._told[step] = self._started[step] = now
                    lines = [_Line(f"  {step} started")]
                case StepWaiting(step, message):
                    self._told[step] = now
                    lines = [_Line(f"  {step} waits: {message}")]
                case StepProgress(step):
                    lines = []
                    if now - self._told.setdefault(step, now) >= _PROGRESS_EVERY_S:
                        self._told[step] = now
                        elapsed = duration(now - self._started.setdefault(step, now))
                        lines = [_Line(f"  {step} {_amount(event)}, {elapsed}")]
                case _:
                    lines = self._page.lines(event)
            for line in lines:
                self._stream.write(line.plain + "\n")
            self._stream.flush()


class LiveDisplay:
    """A moving line per running step at the bottom, and above it a lasting line per finished one."""

    def __init__(self, stream: TextIO) -> None:
        from rich.console import Console
        from rich.live import Live

        self._console = Console(file=cast("TextIO", Unbreakable(stream)), highlight=False, markup=False, emoji=False)
        self._page = _Page(_speaks_unicode(stream))
        self._bottom = _Bottom()
        self._lock = threading.Lock()
        self._live = Live(
            get_renderable=self._render,
            console=self._console,
            refresh_per_second=10,
            transient=True,
            # Streams that are taken over would go on to the step processes.
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bottom = _Bottom()
        self._live.stop()

    def __call__(self, event: Event) -> None:
        """Change the bottom, and print what lasts above it."""
        with self._lock:
            self._bottom = self._bottom.after(event, time.monotonic())
            for line in self._page.lines(event):
                for text in line.folded(self._console.width):
                    self._console.print(text, soft_wrap=True)

    def _render(self) -> RenderableType:
        from rich.console import Group

        # Without our lock: rich calls this under its own, which printing takes under ours.
        bottom, now, width = self._bottom, time.monotonic(), self._console.width
        lines = [self._page.running(step, state, now, width) for step, state in bottom.running.items()]
        if bottom.steps:
            lines.append(_Line((f"  {bottom.ended} of {bottom.steps} steps, {duration(now - bottom.began)}", "dim")))
        return Group(*(line.rich() for line in lines))


@dataclass(frozen=True)
class _Running:
    """A step that is at work."""

    since: float
    doing: StepProgress | str = ""


@dataclass(frozen=True)
class _Bottom:
    """What moves: the steps at work, and how many of all have ended."""

    running: Mapping[str, _Running] = field(default_factory=dict)
    steps: int = 0  # none: there is nothing to count
    ended: int = 0
    began: float = 0.0

    def after(self, event: Event, now: float) -> _Bottom:
        """The bottom as `event` changes it."""
        match event:
            case RunStarted(steps=steps):
                return _Bottom(steps=len(steps), began=now)
            case RunFinished():
                return _Bottom()
            case StepStarted(step):
                return replace(self, running={**self.running, step: _Running(now)})
            case StepWaiting(step) | StepProgress(step):
                since = self.running[step].since if step in self.running else now
                doing = event if isinstance(event, StepProgress) else f"waits: {event.message}"
                return replace(self, running={**self.running, step: _Running(since, doing)})
            case StepFinished(step) | StepFailed(step) | StepRefused(step) | StepFoundNoNeed(step):
                left = {other: state for other, state in self.running.items() if other != step}
                return replace(self, running=left, ended=self.ended + 1)
            case StepNote():
                return self


def duration(seconds: float) -> str:
    """'0.4 s', '63.2 s', '2m 05s', '1h 02m': at most seven characters up to 99 hours."""
    if seconds < 99.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}m {rest:02d}s"
    return f"{minutes // 60}h {minutes % 60:02d}m"


class _Line:
    """A line of text whose parts may have a style. One that is `whole` is there to be copied, and is never folded."""

    def __init__(self, *parts: str | tuple[str, str], whole: bool = False) -> None:
        self._parts = parts
        self._whole = whole

    @property
    def plain(self) -> str:
        """What is left without colours."""
        return "".join(part if isinstance(part, str) else part[0] for part in self._parts).rstrip()

    def rich(self) -> Text:
        """All of it on one line."""
        from rich.text import Text

        return Text.assemble(*self._parts, no_wrap=True, overflow="ellipsis")

    def folded(self, width: int) -> list[Text]:
        """As many lines as it takes, broken between words. A longer word stays whole and is left to the terminal."""
        from rich.text import Text

        text = self.rich()
        if self._whole or len(text.plain) <= width:
            return [text]
        pieces = textwrap.wrap(
            self.plain,
            width,
            subsequent_indent=_INDENT,
            break_long_words=False,
            break_on_hyphens=False,
            replace_whitespace=False,
            expand_tabs=False,
        )
        lines: list[Text] = []
        end = 0
        for piece in pieces:
            content = piece.removeprefix(_INDENT) if lines else piece
            start = self.plain.index(content, end)
            end = start + len(content)
            lines.append(Text(_INDENT if lines else "") + text[start:end])
        return lines


class _Page:
    """The lines that each event leaves on the page, and the look of the steps that are running."""

    TIME = 7  # characters of `duration`

    def __init__(self, unicode: bool) -> None:
        self._glyphs = {
            "done": "✓" if unicode else "+",
            "reused": "=",
            "skipped": "-",
            "failed": "✗" if unicode else "x",
            "refused": "■" if unicode else "#",
            "interrupted": "■" if unicode else "#",
            "note": "!",
        }
        self._between = " · " if unicode else " | "
        self._bar, self._rest = "━─" if unicode else "=-"
        self._spinner = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏" if unicode else "|/-\\"
        self._name = 16  # characters of the longest step's name
        self._counts: dict[str, list[str]] = {}

    def lines(self, event: Event) -> list[_Line]:
        """What is printed for good. Nothing for a step that starts, waits or makes progress."""
        match event:
            case RunStarted(pipeline, run, steps, notes):
                self._name = max((len(step) for step in steps), default=self._name)
                return [
                    _Line((pipeline, "bold"), (f"  run {run}", "dim")),
                    *(_Line((f"  note: {note}", "dim"), whole=True) for note in notes),
                ]
            case StepFinished(step, action, seconds):
                return self._finished(step, action, seconds, event)
            case StepFailed(step, message, seconds=seconds):
                self._count("failed", step)
                pointers = [
                    _Line(_INDENT, (f"{name:<7}", "dim"), where, whole=True)
                    for name, where in (("log", event.log), ("again", event.rerun))
                    if where
                ]
                return [*self._message("failed", "red", step, duration(seconds), message), *pointers]
            case StepRefused(step, message, seconds, reused) | StepFoundNoNeed(step, message, seconds, reused):
                refused = isinstance(event, StepRefused)
                kind = "refused" if refused else "reused" if reused else "done"
                self._count(kind, step)
                took = "reused" if reused else duration(seconds)
                pointers = [_Line(_INDENT, ("more   ", "dim"), event.more, whole=True)] if event.more else []
                return [*self._message(kind, "yellow" if refused else "green", step, took, message), *pointers]
            case StepNote(step, message):
                return self._message("note", "yellow", step, "", message)
            case RunFinished():
                return self._summary(event)
            case StepStarted() | StepWaiting() | StepProgress():
                return []

    def running(self, step: str, state: _Running, now: float, width: int) -> _Line:
        """The moving line of a step. What does not fit is left out from the right: the bar first, then the amount."""
        elapsed = now - state.since
        parts: list[str | tuple[str, str]] = [
            (self._spinner[int(elapsed * 10) % len(self._spinner)], "cyan"),
            f" {step:<{self._name}}  ",
            (f"{duration(elapsed):>{self.TIME}}", "dim"),
        ]
        if isinstance(state.doing, str):
            return _Line(*parts, (f"  {state.doing}", "yellow"))
        amount = f"  {_amount(state.doing)}"
        parts.append(amount)
        room = width - (2 + self._name + 2 + self.TIME) - len(amount) - 2
        if state.doing.total and room >= 10:
            length = min(room, 24)
            full = min(length, length * state.doing.done // state.doing.total)
            parts += ["  ", (self._bar * full, "cyan"), (self._rest * (length - full), "dim")]
        return _Line(*parts)

    def _finished(self, step: str, action: str, seconds: float, event: StepFinished) -> list[_Line]:
        kind, style, took = {
            "run": ("done", "green", duration(seconds)),
            "reuse": ("reused", "dim", "reused"),
            "skipped": ("skipped", "dim", "skipped"),
        }[action]
        self._count(kind, step)
        told = [f"{port}: {what}" for port, _, what in event.outputs if what]
        made = self._between.join(told or [port for port, _, _ in event.outputs])
        reason = f"({event.reason})" if event.reason else ""
        text_style = "" if action == "run" else "dim"
        return [
            _Line(
                (self._glyphs[kind], style),
                (f" {step:<{self._name}}  ", text_style),
                (f"{took:>{self.TIME}}", "dim"),
                (f"  {made}" if made else "", text_style),
                (f"  {reason}" if reason else "", "dim"),
            )
        ]

    def _message(self, kind: str, style: str, step: str, took: str, message: str) -> list[_Line]:
        first, *others = message.strip().expandtabs(4).splitlines() or [""]
        head = _Line(
            (f"{self._glyphs[kind]} {step:<{self._name}}  ", style), (f"{took:>{self.TIME}}", "dim"), f"  {first}"
        )
        return [head, *(_Line(f"{_INDENT}{line}") for line in others)]

    def _summary(self, event: RunFinished) -> list[_Line]:
        counts = ", ".join(
            f"{len(steps)} {'run' if kind == 'done' else kind}" for kind, steps in self._counts.items() if steps
        )
        style = {"done": "bold green", "skipped": "bold green", "failed": "bold red"}.get(event.outcome, "bold yellow")
        lines = [_Line(""), _Line((event.outcome, style), f" after {duration(event.seconds)}", (f"  {counts}", "dim"))]
        rows = {
            name: "not defined" if value is None else f"{value:.4g}" for name, value in event.metrics.items()
        } | dict(event.paths)
        width = max((len(name) for name in rows), default=0)
        lines += [_Line((f"  {name:<{width}}  ", "dim"), value, whole=True) for name, value in rows.items()]
        return lines

    def _count(self, kind: str, step: str) -> None:
        self._counts.setdefault(kind, []).append(step)


def _amount(progress: StepProgress) -> str:
    if progress.total is None:
        return f"{progress.done:,} {progress.unit}"
    return f"{progress.done:,} of {progress.total:,} {progress.unit}"


class Unbreakable(io.TextIOBase):
    """A stream whose failures do not end the run.

    A letter that the terminal lacks becomes a question mark. When the reader has gone (head, a closed terminal) or the disk
    under a redirected output is full, nothing more is written.
    """

    def __init__(self, stream: TextIO) -> None:
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
        self._stream = stream
        self._lost = False

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._stream.encoding

    def isatty(self) -> bool:
        return self._stream.isatty()

    def fileno(self) -> int:
        return self._stream.fileno()

    def write(self, text: str) -> int:
        if not self._lost:
            try:
                self._stream.write(text)
            except OSError:
                self._lose()
        return len(text)

    def flush(self) -> None:
        if not self._lost:
            try:
                self._stream.flush()
            except OSError:
                self._lose()

    def _lose(self) -> None:
        self._lost = True
        with contextlib.suppress(
            OSError
        ):  # what is still in the buffer would fail once more, when the interpreter ends
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)


def _speaks_unicode(stream: TextIO) -> bool:
    try:
        "✓■━⠋".encode(getattr(stream, "encoding", None) or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
