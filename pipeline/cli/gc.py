"""`pipeline gc`: what no kept run and no pushed model needs, listed, and removed when that is asked for."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline import disk
from pipeline.garbage import Garbage, RunsSince, collect, find_garbage, is_used
from pipeline.ledger import Ledger, RunRecord, recorded_runs, resolve_ledger_url
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
    lost: tuple[str, ...] = ()  # runs that are kept, never ended, and of which nothing was heard for long

    @property
    def bytes(self) -> int:
        """How much it frees."""
        return sum(item.bytes for item in self.garbage)

    def as_json(self) -> dict[str, Any]:
        """What `--json` prints."""
        items = [{"path": str(item.path), "bytes": item.bytes, "why": item.why} for item in self.garbage]
        outcome = "removed" if self.removed else "listed"
        return {"outcome": outcome, "bytes": self.bytes, "garbage": items, "lost": list(self.lost)}

    def as_text(self) -> str:
        """One line per item, then what it comes to."""
        if not self.garbage and not self.lost:
            return "nothing to remove"
        verb, ended = ("removed", "ended") if self.removed else ("would remove", "would end")
        lines = [
            f"{verb}  {item.path.relative_to(self.root)}  {item.bytes:,} bytes: {item.why}" for item in self.garbage
        ]
        lines += [f"{ended}  run {run}, as interrupted: nothing was heard of it for long" for run in self.lost]
        lines.append(f"{len(self.garbage)} directories, {self.bytes:,} bytes")
        if not self.removed:
            lines.append("nothing was removed; say --yes to remove them")
        return "\n".join(lines)


LOST_AFTER_DAYS = 7.0


def collect_garbage(
    root: str,
    *,
    ledger: str | None = None,
    keep_runs: int = 5,
    lost_after_days: float = LOST_AFTER_DAYS,
    remove: bool = False,
) -> Collected:
    """Find, and with `remove` delete, what is not needed under `root`.

    Needed are the executions and the scratch of the newest `keep_runs` runs of each pipeline, of every run that is going on,
    what the passports name in every serving directory that was pushed to, what steps of these that look back were given of earlier runs, the parts that these executions used, and all parts
    that were used within a day. Of a run whose process is on another machine, or that has none of its own, as on a cluster, nobody here can tell whether it goes on: it does until its record is ended, or
    until nothing was written to its record, orders and logs for `lost_after_days`, when none of its steps is locked. With `remove` such a run is recorded as
    interrupted, and what a process of another machine left half made as long ago is removed. Raises ArtifactError when a passport cannot be
    read and StoreError when an object store cannot be reached, rather than remove what may be needed.
    """
    store = Store(root)
    if not store.root.is_dir():
        raise ConfigError(f"{root}: there is no such directory; give the right --root")
    since = RunsSince(store)
    lost_after_s = lost_after_days * 86400
    kept: dict[str, int] = defaultdict(int)
    lost: list[str] = []
    keep: set[tuple[str, str]] = set()
    runs: set[str] = set()
    records = recorded_runs(store)
    for record in records:
        kept[record.pipeline] += 1
        goes_on = record.state == "running"
        if goes_on and _is_lost(store, record, lost_after_s):
            goes_on = False
            lost.append(record.id)
        if kept[record.pipeline] <= keep_runs or goes_on:
            runs.add(record.id)
            keep.update((step.step, step.key) for step in record.steps if step.key)
            keep |= _ordered(store, record.id)
    keep |= _needed_by_passports(store)
    keep |= set(_given_again(store, keep))
    # The logs and orders of the runs that made what is kept say how it was made.
    runs |= {e.manifest.run for e in store.executions() if (e.step, e.key) in keep}
    lost = [run for run in lost if run in runs]
    # Not every directory without a kept record: a run that starts right now has one before its record is in it.
    garbage = find_garbage(store, keep, {record.id for record in records} - runs, lost_after_s=lost_after_s)
    if not remove:
        return Collected(store.root, tuple(garbage), False, tuple(lost))
    index = Ledger(store, resolve_ledger_url(None, asked=ledger))
    index.runs(1)  # a ledger that cannot be reached is an error before anything is removed, not after
    removed = collect(store, garbage, since=since, lost_after_s=lost_after_s)
    ended = [run for run in lost if not since.changed(run)]
    for run in ended:
        index.end_run(run, "interrupted")
    index.rebuild()
    return Collected(store.root, tuple(removed), True, tuple(ended))


def _is_lost(store: Store, record: RunRecord, after_s: float) -> bool:
    """Whether nothing was heard of a run for so long that it goes on no more. One whose process is known to live never is."""
    if record.owner is not None and record.owner.is_alive():
        return False
    if any(is_used(store, step.step, step.key) for step in record.steps if step.action == "running" and step.key):
        return False
    return disk.silent_s(store.root / "runs" / record.id) >= after_s


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


def _given_again(store: Store, keep: Collection[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """What earlier runs made for steps in `keep` that look back: the next run goes on from it, also where none has come further since."""
    for execution in store.executions():
        earlier = execution.manifest.key_parts.get("earlier") or {}
        if (execution.step, execution.key) in keep and "key" in earlier:
            yield str(earlier["step"]), str(earlier["key"])


def _needed_by_passports(store: Store) -> set[tuple[str, str]]:
    needed: set[tuple[str, str]] = set()
    places: set[Location] = set()
    for execution in store.executions():
        for output in execution.manifest.outputs.values():
            if output.type == "PushedModel" and "destination" in output.properties:  # TFX has some that are elsewhere
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
