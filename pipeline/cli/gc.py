"""`pipeline gc`: what no kept run and no pushed model needs, listed, and removed when that is asked for."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.garbage import Garbage, collect, find_garbage
from pipeline.ledger import Ledger, recorded_runs, resolve_ledger_url
from pipeline.order import Order
from pipeline.store import Store
from schemas.dotted_path import resolve
from schemas.errors import ArtifactError, ConfigError
from schemas.location import Location, parse
from schemas.passport import Passport


@dataclass(frozen=True)
class Collected:
    """What was found to be removed, and whether it was."""

    root: Path
    garbage: tuple[Garbage, ...]
    removed: bool

    @property
    def bytes(self) -> int:
        """How much it frees."""
        return sum(item.bytes for item in self.garbage)

    def as_json(self) -> dict[str, Any]:
        """What `--json` prints."""
        items = [{"path": str(item.path), "bytes": item.bytes, "why": item.why} for item in self.garbage]
        return {"outcome": "removed" if self.removed else "listed", "bytes": self.bytes, "garbage": items}

    def as_text(self) -> str:
        """One line per item, then what it comes to."""
        if not self.garbage:
            return "nothing to remove"
        verb = "removed" if self.removed else "would remove"
        lines = [
            f"{verb}  {item.path.relative_to(self.root)}  {item.bytes:,} bytes: {item.why}" for item in self.garbage
        ]
        lines.append(f"{len(self.garbage)} directories, {self.bytes:,} bytes")
        if not self.removed:
            lines.append("nothing was removed; say --yes to remove them")
        return "\n".join(lines)


def collect_garbage(root: str, *, ledger: str | None = None, keep_runs: int = 5, remove: bool = False) -> Collected:
    """Find, and with `remove` delete, what is not needed under `root`.

    Needed are the executions and the scratch of the newest `keep_runs` runs of each pipeline, of every run that is going on,
    and what the passports name in every serving directory that was pushed to. Raises ArtifactError when a passport cannot be
    read and StoreError when an object store cannot be reached, rather than remove what may be needed.
    """
    store = Store(root)
    if not store.root.is_dir():
        raise ConfigError(f"{root}: there is no such directory; give the right --root")
    kept: dict[str, int] = defaultdict(int)
    keep: set[tuple[str, str]] = set()
    runs: set[str] = set()
    records = recorded_runs(store)
    for record in records:
        kept[record.pipeline] += 1
        if kept[record.pipeline] <= keep_runs or record.state == "running":
            runs.add(record.id)
            keep.update((step.step, step.key) for step in record.steps if step.key)
            keep |= _ordered(store, record.id)
    keep |= _needed_by_passports(store)
    # The logs and orders of the runs that made what is kept say how it was made.
    runs |= {e.manifest.run for e in store.executions() if (e.step, e.key) in keep}
    # Not every directory without a kept record: a run that starts right now has one before its record is in it.
    garbage = find_garbage(store, keep, {record.id for record in records} - runs)
    if not remove:
        return Collected(store.root, tuple(garbage), False)
    index = Ledger(store, resolve_ledger_url(None, asked=ledger))
    index.runs(1)  # a ledger that cannot be reached is an error before anything is removed, not after
    removed = collect(store, garbage)
    index.rebuild()
    return Collected(store.root, tuple(removed), True)


def _ordered(store: Store, run: str) -> set[tuple[str, str]]:
    """What a run had begun to make: of a step that was killed nothing but its order tells, and its scratch is worth keeping."""
    found: set[tuple[str, str]] = set()
    for file in store.run_directory(run).glob("*.order.json"):
        with contextlib.suppress(ConfigError):  # killed while the order was written, so the step had not begun
            order = Order.read(file)
            found.add((order.step, order.key))
    return found


def _destination(place: Location) -> Any:
    """The components.release.destinations.Destination there."""
    return resolve("components.release.destinations.at")(place)


def _needed_by_passports(store: Store) -> set[tuple[str, str]]:
    needed: set[tuple[str, str]] = set()
    places: set[Location] = set()
    for execution in store.executions():
        for output in execution.manifest.outputs.values():
            if output.type == "PushedModel":
                place = parse(str(output.properties["destination"]))
                places.add(place)
                if int(output.properties["version"]) in _destination(place).listed():
                    needed.add((execution.step, execution.key))
    for place in places:
        destination = _destination(place)
        for version in destination.listed():
            try:
                passport: Passport | None = destination.passport(version)
            except ArtifactError as error:
                raise ArtifactError(f"{error} Nothing was removed.") from error
            if passport:
                needed |= {(step, str(found["key"])) for step, found in passport.steps.items() if "key" in found}
    return needed
