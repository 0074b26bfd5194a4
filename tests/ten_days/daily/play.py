"""Ten days of a scheduler, played at once: the clock is a file, and each night brings the data of that day."""

from __future__ import annotations

import os
import random
from datetime import datetime, timedelta
from pathlib import Path

from pipeline.schedules.clock import Wake
from pipeline.schedules.launch import ProcessLauncher
from pipeline.schedules.scheduler import Scheduler
from pipeline.schedules.state import States

CLOCK = Path("clock")
LAST = datetime.fromisoformat("2026-06-10T12:00:00+02:00")
ROWS = 300


def arrive(day: int) -> None:
    """What the night before the run of `day` brings."""
    if day == 3:
        return  # span 3 is late
    if day == 4:
        write(3)
    if day == 5:
        write(5, corrupt=True)
        return
    if day == 6:
        write(5, version=2)
        write(6)
        Path("kill").write_text(str(os.getpid()))
        return
    if day == 9:
        return
    if day == 10:
        write(8, version=2)
        return
    write(day, cards=0.9 if day == 7 else 0.4)


def write(span: int, version: int = 1, cards: float = 0.4, *, corrupt: bool = False) -> None:
    """A span's file. Who pays by card gives big tips, mostly."""
    chance = random.Random(f"{span} {version}")
    lines = ["miles,payment,big_tip"]
    for _ in range(ROWS):
        card = chance.random() < cards
        tip = chance.random() < (0.8 if card else 0.1)
        lines.append(f"{chance.lognormvariate(0.5, 0.8):.2f},{'card' if card else 'cash'},{int(tip)}")
    if corrupt:
        lines[100] += ',"'  # a transfer that broke off
    file = Path("data") / str(span) / f"v{version}" / "trips.csv"
    file.parent.mkdir(parents=True)
    file.write_text("\n".join(lines) + "\n")


class PlayedClock:
    """Stands still while a run goes on, and then jumps to the next firing; what it shows outlives the process."""

    def now(self) -> datetime:
        return datetime.fromisoformat(CLOCK.read_text())

    def wait_until(self, moment: datetime | None, wake: Wake) -> None:
        if moment is None:
            wake.wait(60)
            return
        if wake.wait(0):
            return
        if moment > LAST:
            scheduler.stop()
            return
        day = self.now()
        while day.date() < moment.date():
            day += timedelta(days=1)
            arrive(day.day)
        CLOCK.write_text(moment.isoformat())


if __name__ == "__main__":
    file = Path("daily/schedule.yaml")
    states = States.of(file)
    with states.held(file):
        scheduler = Scheduler(
            file,
            states=states,
            clock=PlayedClock(),
            launcher=ProcessLauncher(),
            tell=lambda line: print(line, flush=True),
        )
        scheduler.run()
