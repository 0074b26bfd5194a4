"""What a run says at the terminal: events, and the two ways to show them, live and as plain lines."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol, Self, TextIO

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

_PROGRESS_EVERY_S = 10.0  # in plain lines, per step


@dataclass(frozen=True)
class RunStarted:
    """A run begins. `steps` are all that it will run or reuse, in their order."""

    pipeline: str
    run: str
    steps: tuple[str, ...]


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
    """A step's outputs are there: made now, or reused. `skipped` is a step that could not run after another's failure."""

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
    """A gate said no. `reused`: an earlier run found it out, and nothing has changed."""

    step: str
    message: str
    seconds: float = 0.0
    reused: bool = False


@dataclass(frozen=True)
class RunFinished:
    """A run ended. `metrics` and `paths` are what it was run for, by name."""

    outcome: Literal["done", "failed", "refused", "interrupted"]
    seconds: float
    metrics: Mapping[str, float] = field(default_factory=dict)
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
        self._stream = stream
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

        self._console = Console(file=stream, highlight=False, markup=False, emoji=False)
        self._page = _Page(_speaks_unicode(stream))
        self._running: dict[str, _Running] = {}
        self._steps = 0
        self._ended = 0
        self._began = time.monotonic()
        self._lock = threading.RLock()
        self._live = Live(
            get_renderable=self._bottom,
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
        with self._lock:
            self._running.clear()
            self._steps = 0
        self._live.stop()

    def __call__(self, event: Event) -> None:
        """Change the bottom, and print what lasts above it."""
        with self._lock:
            now = time.monotonic()
            match event:
                case RunStarted(steps=steps):
                    self._began, self._steps = now, len(steps)
                case StepStarted(step):
                    self._running[step] = _Running(now)
                case StepWaiting(step, message):
                    self._running.setdefault(step, _Running(now)).doing = f"waits: {message}"
                case StepProgress(step):
                    self._running.setdefault(step, _Running(now)).doing = event
                case StepFinished(step) | StepFailed(step) | StepRefused(step):
                    self._running.pop(step, None)
                    self._ended += 1
                case RunFinished():
                    self._running.clear()
                    self._steps = 0
                case StepNote():
                    pass
            for line in self._page.lines(event):
                # Not folded by us: a path or a command that is copied from the terminal must come out whole.
                self._console.print(line.rich(), soft_wrap=True)

    def _bottom(self) -> RenderableType:
        from rich.console import Group

        with self._lock:
            now = time.monotonic()
            width = self._console.width
            lines = [self._page.running(step, state, now, width) for step, state in self._running.items()]
            if self._steps:
                lines.append(_Line((f"  {self._ended} of {self._steps} steps, {duration(now - self._began)}", "dim")))
        return Group(*(line.rich() for line in lines))


def duration(seconds: float) -> str:
    """'0.4 s', '63.2 s', '2m 05s', '1h 02m': at most seven characters up to 99 hours."""
    if seconds < 99.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}m {rest:02d}s"
    return f"{minutes // 60}h {minutes % 60:02d}m"


@dataclass
class _Running:
    """A step that is at work."""

    since: float
    doing: StepProgress | str = ""


class _Line:
    """A line of text whose parts may have a style. `plain` is what is left of it without colours."""

    def __init__(self, *parts: str | tuple[str, str]) -> None:
        self._parts = parts

    @property
    def plain(self) -> str:
        return "".join(part if isinstance(part, str) else part[0] for part in self._parts).rstrip()

    def rich(self) -> Text:
        from rich.text import Text

        return Text.assemble(*self._parts, no_wrap=True, overflow="ellipsis")


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
        self._bar = "━" if unicode else "="
        self._spinner = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏" if unicode else "|/-\\"
        self._name = 16  # characters of the longest step's name
        self._counts: dict[str, list[str]] = {}

    def lines(self, event: Event) -> list[_Line]:
        """What is printed for good. Nothing for a step that starts, waits or makes progress."""
        match event:
            case RunStarted(pipeline, run, steps):
                self._name = max((len(step) for step in steps), default=self._name)
                return [_Line((pipeline, "bold"), (f"  run {run}", "dim"))]
            case StepFinished(step, action, seconds):
                return self._finished(step, action, seconds, event)
            case StepFailed(step, message, seconds=seconds):
                self._count("failed", step)
                pointers = [
                    _Line("    ", (f"{name:<7}", "dim"), where)
                    for name, where in (("log", event.log), ("again", event.rerun))
                    if where
                ]
                return [*self._message("failed", "red", step, duration(seconds), message), *pointers]
            case StepRefused(step, message, seconds, reused):
                self._count("refused", step)
                return self._message("refused", "yellow", step, "reused" if reused else duration(seconds), message)
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
            parts += ["  ", (self._bar * full, "cyan"), (("━" if self._bar == "━" else "-") * (length - full), "dim")]
        return _Line(*parts)

    def _finished(self, step: str, action: str, seconds: float, event: StepFinished) -> list[_Line]:
        kind, style, took = {
            "run": ("done", "green", duration(seconds)),
            "reuse": ("reused", "dim", "reused"),
            "skipped": ("skipped", "dim", "skipped"),
        }[action]
        self._count(kind, step)
        made = self._between.join(f"{port}: {what}" if what else port for port, _, what in event.outputs)
        reason = f"({event.reason})" if event.reason and action != "reuse" else ""
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
        first, *others = message.strip().splitlines() or [""]
        head = _Line(
            (f"{self._glyphs[kind]} {step:<{self._name}}  ", style), (f"{took:>{self.TIME}}", "dim"), f"  {first}"
        )
        return [head, *(_Line(f"    {line}") for line in others)]

    def _summary(self, event: RunFinished) -> list[_Line]:
        counts = ", ".join(
            f"{len(steps)} {'run' if kind == 'done' else kind}" for kind, steps in self._counts.items() if steps
        )
        style = {"done": "bold green", "failed": "bold red"}.get(event.outcome, "bold yellow")
        lines = [_Line(""), _Line((event.outcome, style), f" in {duration(event.seconds)}", (f"  {counts}", "dim"))]
        rows = {name: f"{value:.4g}" for name, value in event.metrics.items()} | dict(event.paths)
        width = max((len(name) for name in rows), default=0)
        lines += [_Line((f"  {name:<{width}}  ", "dim"), value) for name, value in rows.items()]
        return lines

    def _count(self, kind: str, step: str) -> None:
        self._counts.setdefault(kind, []).append(step)


def _amount(progress: StepProgress) -> str:
    if progress.total is None:
        return f"{progress.done:,} {progress.unit}"
    return f"{progress.done:,} of {progress.total:,} {progress.unit}"


def _speaks_unicode(stream: TextIO) -> bool:
    try:
        "✓■━⠋".encode(getattr(stream, "encoding", None) or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
