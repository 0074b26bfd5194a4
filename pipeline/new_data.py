"""New data: what the input files hold now that the models which are served were not trained on."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from pipeline.contract import Contract, build_component, read_contract
from pipeline.fingerprint import file_digest, what_changed
from pipeline.graph import Graph, Step
from pipeline.plan import files_of
from schemas.artifacts import Examples
from schemas.component import Publisher
from schemas.dotted_path import resolve
from schemas.errors import ConfigError
from schemas.location import nearest, parse
from schemas.passport import Passport

_LOOKS = 8  # how often, in the time that files are to be left alone, it is looked whether they were
_PATIENCE = 10  # so many of those times it is waited, at most


@dataclass(frozen=True)
class ServedModel:
    """What one publishing step serves. `version` is None where nothing is served, `passport` where another tool pushed it."""

    step: str
    place: str  # as a person calls it
    version: int | None = None
    passport: Passport | None = None


@dataclass(frozen=True)
class NewData:
    """What a run begun now would read, against what the served models were made of.

    `files` are those of each step that makes Examples, by its id, as a passport lists them. `reasons` say what is new, one phrase
    each; none: nothing is.
    """

    files: Mapping[str, tuple[Mapping[str, Any], ...]]
    served: tuple[ServedModel, ...]
    reasons: tuple[str, ...]

    @property
    def newest(self) -> str:
        """'span 41', of what would be read; empty where the sources have no spans."""
        return _newest(self.files.values())

    def nothing_new(self) -> str:
        """'nothing new since span 41', and without spans since when, of how many files."""
        model = self.served[0]
        assert model.passport is not None  # else that would be a reason
        then = [_then(model.passport, step) or () for step in self.files]
        span = _newest(then)
        if span:
            return f"nothing new since {span}"
        count = sum(len(files) for files in then)
        return (
            f"nothing new since {_minute(model.passport.pushed_at)}: {count} {'file' if count == 1 else 'files'}, as in "
            f"version {model.version} of {model.place}"
        )


def find_new_data(graph: Graph, digest: Callable[[Path], str] = file_digest) -> NewData:
    """Compare by content: the digest and span of every file that is there now with those in the served passports.

    Files that are gone, or have another name, are not new data; nothing served, and a model that another tool pushed, are. `digest`
    tells a file's sha256. Raises ConfigError where
    no step reads files into Examples or none publishes, DataError for files that are not there, StoreError and ArtifactError
    for a destination that cannot be read.
    """
    sources = dict(_sources(graph))
    problems = []
    if not sources:
        problems.append(
            f"no step of {graph.name} makes Examples of files, so nothing tells what is new: leave --if-new-data out, and what is "
            f"unchanged is reused"
        )
    if not any(_publishing(graph)):
        problems.append(
            f"no step of {graph.name} publishes a model, so nothing tells what one was trained on: add a Pusher, or leave "
            f"--if-new-data out, and what is unchanged is reused"
        )
    if problems:
        raise ConfigError(*problems)
    served = served_models(graph)  # first: a destination that cannot be read costs no reading of files
    files = {
        name: tuple(file for found in files_of(contract, step.settings, digest).values() for file in found)
        for name, (step, contract) in sources.items()
    }
    reasons = [reason for model in served for reason in _reasons(graph, model, files)]
    return NewData(files, served, tuple(dict.fromkeys(reasons)))


def _sources(graph: Graph) -> Iterator[tuple[str, tuple[Step, Contract]]]:
    for step in graph.steps:
        contract = read_contract(resolve(step.component))
        if contract.input_files and Examples.TYPE_NAME in step.outputs.values():
            yield step.id, (step, contract)


def served_models(graph: Graph) -> tuple[ServedModel, ...]:
    """What each publishing step serves now. Raises StoreError and ArtifactError for a destination that cannot be read."""
    models = []
    for step, publisher in _publishing(graph):
        found = publisher.served()
        if found is None:
            models.append(ServedModel(step.id, str(nearest(parse(str(getattr(publisher, "destination", step.id)))))))
        else:
            version, passport, location = found
            models.append(ServedModel(step.id, str(nearest(location.parent)), version, passport))
    return tuple(models)


def _publishing(graph: Graph) -> Iterator[tuple[Step, Publisher]]:
    """The steps that publish, but those that push to where nobody can look."""
    for step in graph.steps:
        kind = resolve(step.component)
        if read_contract(kind).publishes:
            publisher: Publisher = build_component(kind, step.settings)
            if getattr(publisher, "destination", step.id) is not None:
                yield step, publisher


def _reasons(graph: Graph, model: ServedModel, files: Mapping[str, Sequence[Mapping[str, Any]]]) -> Iterator[str]:
    if model.version is None:
        yield f"nothing is served at {model.place} yet"
        return
    if model.passport is None:
        yield f"version {model.version} of {model.place} was pushed by another tool, and does not say what it was trained on"
        return
    before = graph.ancestors(model.step)
    for step, now in files.items():
        if step not in before:
            continue
        then = _then(model.passport, step)
        if then is None:
            yield f"version {model.version} of {model.place} does not say what its {step} read"
        elif _identities(now) - _identities(then):
            changes: Sequence[str] = what_changed({"files": {step: list(then)}}, {"files": {step: list(now)}})
            prefix = f"{step}: " if len(files) > 1 else ""
            yield from (f"{prefix}{change}" for change in changes or ("its files changed",))


def _then(passport: Passport, step: str) -> tuple[Mapping[str, Any], ...] | None:
    """The files that a step read for a served model; None where its passport knows no such step."""
    found = passport.steps.get(step)
    return tuple(found.get("files", ())) if isinstance(found, Mapping) else None


def _identities(files: Sequence[Mapping[str, Any]]) -> Counter[tuple[str, int | None]]:
    return Counter((file["digest"], file.get("span")) for file in files)


def _newest(of_steps: Any) -> str:
    spans = [file for files in of_steps for file in files if file.get("span") is not None]
    newest = max(spans, key=lambda file: int(file["span"]), default=None)
    return f"span {newest.get('label') or newest['span']}" if newest else ""


def unsettled(
    graph: Graph,
    seconds: float,
    *,
    pause: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> str | None:
    """Wait until no file of the data was written to, and none appeared, for `seconds`; gives the one that still is after ten
    times that, or None.

    Files whose times are all older than that are not waited for. Where one has a time in the future, clocks differ, and what counts
    is whether it changes.
    """
    if seconds <= 0:
        return None
    begun = clock()
    seen = _stamps(graph)
    oldest = time.time() - seconds
    quiet_since = begun
    if all(modified <= oldest for _, modified, _ in seen.values()):
        return None
    while clock() - quiet_since < seconds:
        if clock() - begun >= _PATIENCE * seconds:
            return str(max(seen, key=lambda path: seen[path][1]))
        pause(seconds / _LOOKS)
        stamps = _stamps(graph)
        if stamps != seen:
            seen, quiet_since = stamps, clock()
    return None


def _stamps(graph: Graph) -> dict[Path, tuple[int, float, int]]:
    """(size, time, inode) of each file of the data. One that is gone since it was listed is left out."""
    stamps = {}
    for step, contract in dict(_sources(graph)).values():
        for found in contract.files(step.settings).values():
            for file in found:
                with contextlib.suppress(FileNotFoundError):
                    status = file.path.stat()
                    stamps[file.path] = (status.st_size, status.st_mtime, status.st_ino)
    return stamps


def _minute(iso: str) -> str:
    """'2026-07-31 03:00 UTC' of a passport's time; as it is where it is something else."""
    try:
        return f"{datetime.fromisoformat(iso):%Y-%m-%d %H:%M} UTC"
    except ValueError:
        return iso or "it was pushed"
