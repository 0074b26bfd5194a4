"""A firing -> a process of its own that runs `pipeline trigger`, and what that came to."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from pipeline.schedules.reading import Schedule
from schemas.exit_code import how_it_ended
from schemas.owner import Owner

OUTCOMES = ("done", "nothing new", "skipped", "refused", "failed", "interrupted", "busy")
_LOOK_S = 0.5  # how often it is looked whether a process of an earlier scheduler's is still there


@dataclass(frozen=True)
class Ended:
    """What a run came to. `said` is False for one that ended without saying anything: it crashed, or was killed."""

    outcome: str  # one of OUTCOMES
    reason: str = ""
    run: str | None = None
    said: bool = True


@dataclass(frozen=True)
class Firing:
    """A schedule at one of its moments, and where its run's log and answer go."""

    schedule: Schedule
    due: datetime
    began: datetime  # when its run did
    log: Path
    answer: Path


class Running(Protocol):
    """A run that was started."""

    @property
    def process(self) -> Mapping[str, Any] | None:
        """What an Owner is as JSON, by which a later scheduler finds the run; None where there is no such process."""
        ...

    def poll(self) -> Ended | None:
        """What it came to; None while it goes on."""
        ...

    def stop(self) -> None:
        """Ask it to stop cleanly."""
        ...

    def kill(self) -> None:
        """End it with all its processes."""
        ...


class Launcher(Protocol):
    """Starts runs. `ended` is to be called when one has ended, from any thread."""

    def start(self, firing: Firing, ended: Callable[[], None]) -> Running:
        """Begin a run. Raises OSError when the machine cannot."""
        ...

    def find(self, firing: Firing, process: Mapping[str, Any] | None, ended: Callable[[], None]) -> Running | None:
        """A run that an earlier scheduler began and did not see the end of. None: it goes on nowhere and said nothing."""
        ...


def trigger_arguments(schedule: Schedule) -> list[str]:
    """What follows `pipeline`."""
    overrides = [argument for override in schedule.overrides() for argument in ("--set", override)]
    return ["trigger", schedule.pipeline, *(["--if-new-data"] if schedule.if_new_data else []), *overrides]


@dataclass(frozen=True)
class ProcessLauncher:
    """Runs `pipeline trigger` of this installation, in this directory and environment."""

    pipeline: Sequence[str] = (sys.executable, "-P", "-m", "pipeline.cli.main")  # -P: a user's folder never hides ours

    def start(self, firing: Firing, ended: Callable[[], None]) -> Running:
        """Begin a run in a session of its own, which Ctrl-C at the terminal does not reach."""
        command = [*self.pipeline, *trigger_arguments(firing.schedule), "--json"]
        firing.answer.unlink(missing_ok=True)  # one that was not seen to end may still have it open
        with firing.log.open("ab") as log, firing.answer.open("wb") as answer:
            # Files, not pipes: the run outlives a scheduler that is killed, and the next one reads what it said.
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=answer, stderr=log, start_new_session=True
            )
        _watch(lambda: process.wait(), ended)
        return _Child(process, firing)

    def find(self, firing: Firing, process: Mapping[str, Any] | None, ended: Callable[[], None]) -> Running | None:
        """The process that goes on, or what it said before it ended."""
        if process is not None:
            try:
                owner = Owner.from_json(process)
            except (KeyError, TypeError, ValueError):
                return None
            if owner.is_alive():
                _watch(lambda: _wait_for(owner), ended)
                return _Orphan(owner, firing)
        answer = _answer(firing)
        return _Over(answer) if answer and answer.outcome != "interrupted" else None


@dataclass(frozen=True)
class _Child:
    popen: subprocess.Popen[bytes]
    firing: Firing

    @property
    def process(self) -> Mapping[str, Any] | None:
        return Owner.of(self.popen.pid).to_json()

    def poll(self) -> Ended | None:
        code = self.popen.poll()
        if code is None:
            return None
        return _answer(self.firing) or Ended("failed", f"it {how_it_ended(code)} and said nothing", said=False)

    def stop(self) -> None:
        self.popen.terminate()

    def kill(self) -> None:
        if self.popen.poll() is None:
            _signal(os.killpg, self.popen.pid, signal.SIGKILL)


@dataclass(frozen=True)
class _Orphan:
    """A child of a scheduler that was killed."""

    owner: Owner
    firing: Firing

    @property
    def process(self) -> Mapping[str, Any] | None:
        return self.owner.to_json()

    def poll(self) -> Ended | None:
        if self.owner.is_alive():
            return None
        return _answer(self.firing) or Ended("failed", "it ended and said nothing", said=False)

    def stop(self) -> None:
        if self.owner.is_alive():
            _signal(os.kill, self.owner.pid, signal.SIGTERM)

    def kill(self) -> None:
        if self.owner.is_alive():
            _signal(os.killpg, self.owner.pid, signal.SIGKILL)


@dataclass(frozen=True)
class _Over:
    """A run that ended while no scheduler was there to see it."""

    ended: Ended
    process: Mapping[str, Any] | None = None

    def poll(self) -> Ended | None:
        return self.ended

    def stop(self) -> None: ...

    def kill(self) -> None: ...


def _signal(send: Callable[[int, int], None], pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):  # it has ended since we looked
        send(pid, number)


def _watch(wait: Callable[[], Any], ended: Callable[[], None]) -> None:
    def watch() -> None:
        wait()
        ended()

    threading.Thread(target=watch, daemon=True).start()


def _wait_for(owner: Owner) -> None:
    while owner.is_alive():
        time.sleep(_LOOK_S)


def _answer(firing: Firing) -> Ended | None:
    """What the run said at its end; None when it got no so far."""
    try:
        found = json.loads(firing.answer.read_bytes())
        outcome = found["outcome"]
        if outcome == "error":  # the definition or a setting of it is wrong, or the store cannot be written
            return Ended("failed", "; ".join(map(str, found["problems"])))
        if outcome in OUTCOMES:
            return Ended(outcome, str(found.get("reason") or "; ".join(found.get("problems", ()))), found.get("run"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return None
