"""Who is at work on a pipeline: one trigger or backfill at a time, and what the others are told of it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from pipeline import disk, locks, log
from pipeline.store import Store


@dataclass(frozen=True, kw_only=True)
class AtWork:
    """What who has the turn is doing. What a killed one left says nothing once nobody has it."""

    what: str  # 'span 42 is new'
    since: str  # ISO 8601, UTC
    run: str = ""  # empty until there is one

    @classmethod
    def read(cls, store: Store, pipeline: str) -> AtWork | None:
        """What the holder wrote; None where there is nothing that can be read."""
        try:
            return cls(**json.loads(_file(store, pipeline).read_bytes()))
        except (OSError, ValueError, TypeError):
            return None


class Turn:
    """Being the one who is at work."""

    def __init__(self, file: Path, now: Callable[[], datetime]) -> None:
        self._file = file
        self._now = now
        self.run = ""  # the id of the last run that began

    def does(self, what: str, run: str = "") -> None:
        """Have others told what is being done, and in which run. Raises StoreError."""
        at_work = AtWork(what=what, since=self._now().isoformat(timespec="seconds"), run=run)
        with disk.writing(self._file):
            self._file.parent.mkdir(parents=True, exist_ok=True)
            disk.write_atomically(self._file, asdict(at_work))

    def listening(self, what: str, listener: Callable[[log.Event], None]) -> Callable[[log.Event], None]:
        """A listener of a run that is for `what`: others are told its id from its beginning on."""
        self.run = ""
        self.does(what)

        def listen(event: log.Event) -> None:
            if isinstance(event, log.RunStarted):
                self.run = event.run
                self.does(what, event.run)
            listener(event)

        return listen


@contextlib.contextmanager
def turn_on(
    store: Store,
    pipeline: str,
    note: str,
    *,
    on_wait: Callable[[str], None] | None = None,
    patience_s: float | None = None,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Iterator[Turn]:
    """Be the only one who is at work on a pipeline of a root, waiting while somebody else is.

    `on_wait` is called once, before waiting, with what the other one is. Raises locks.NotGivenError when `patience_s` is over, and
    StoreError. It holds as far as `pipeline.locks` says.
    """
    lock = store.lock_path("trigger", pipeline)
    file = _file(store, pipeline)
    with contextlib.ExitStack() as held:
        with disk.writing(lock):
            held.enter_context(locks.locked(lock, note, on_wait, patience_s=patience_s))
        turn = Turn(file, now)
        turn.does(note)
        try:
            yield turn
        finally:
            with contextlib.suppress(OSError):
                file.unlink(missing_ok=True)


def _file(store: Store, pipeline: str) -> Path:
    return store.root / "triggers" / f"{pipeline}.at-work.json"
