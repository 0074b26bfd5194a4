"""Backfills: which spans to run a definition for, the definition as it is for one of them, and what was done of each before."""

from __future__ import annotations

import datetime
import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from pipeline import disk
from pipeline.contract import read_contract
from pipeline.definition import Definition
from pipeline.graph import Graph, Step, canonical_json
from pipeline.plan import check_steps
from schemas.dotted_path import resolve
from schemas.errors import ConfigError, StoreError
from schemas.spans import Span, find_spans, has_span, shown, span_number

FORMAT = 1
_MOST = 10_000  # spans of one backfill: more are a slip of the pen
_LAST = "last_span"


@dataclass(frozen=True, kw_only=True)
class BackfilledSpan:
    """What became of one span. `run` is None where none began."""

    span: int
    label: str  # what a person calls it: '41' or '2026-07-31'
    outcome: str  # of the run; missing where there is no such span, and not run after a failure that ended the backfill
    run: str | None = None
    at: str = ""  # when it ended: ISO 8601, UTC
    seconds: float | None = None
    metrics: Mapping[str, float | None] = field(default_factory=dict)
    version: str | None = None  # that was pushed
    reason: str = ""
    before: bool = False  # an earlier call did it

    @property
    def is_settled(self) -> bool:
        """Whether going on does not repeat it: it was done, or refused or skipped, which it would be again."""
        return self.outcome in ("done", "nothing new", "refused", "skipped")


@dataclass(frozen=True)
class Asked:
    """The spans that a backfill is asked for, by number, and the steps whose source has them."""

    steps: tuple[str, ...]
    labels: Mapping[int, str]  # ascending
    missing: frozenset[int]

    def definition(self, definition: Definition, number: int) -> Definition:
        """The definition with this span as the last of every such step's."""
        label = self.labels[number]
        last = number if label == str(number) else label
        graph = definition.graph
        steps = tuple(
            replace(step, settings={**step.settings, _LAST: last}) if step.id in self.steps else step
            for step in graph.steps
        )
        return replace(definition, graph=Graph(graph.name, graph.seed, steps))


def read_asked(definition: Definition, text: str, only: Collection[str] = ()) -> Asked:
    """The spans in `text`: numbers, dates where the source has them, and ranges with both ends, as 30..33,37 or 2026-07-01..2026-07-31.

    `only` names the steps to choose where not all with spans are meant. Raises ConfigError with every problem, and where none of
    the spans is there; DataError for a source whose spans cannot be read.
    """
    graph = definition.graph
    check_steps(graph, only)
    sources = {step.id: source for step in graph.steps if (source := _source(step)) is not None}
    unknown = [name for name in only if name not in sources]
    if unknown or not sources:
        raise ConfigError(
            *(
                f"--step {name}: reads no source with spans; those are {', '.join(sources) or 'none'}"
                for name in unknown
            )
            if unknown
            else (
                f"no step of {graph.name} reads a source with spans, so there is nothing to fill back: write one as "
                f"data/{{SPAN}}/*.csv, or data/{{YYYY}}-{{MM}}-{{DD}}.csv",
            )
        )
    chosen = {name: source for name, source in sources.items() if not only or name in only}
    numbers = {name: _numbers(text, source) for name, source in chosen.items()}
    first, *others = numbers.values()
    if any(other != first for other in others):
        raise ConfigError(f"--spans {text}: means other spans in {' than in '.join(chosen)}. Choose with --step")
    there = {name: {span.number: span for span in find_spans(source)} for name, source in chosen.items()}
    missing = {number for number in first if any(number not in spans for spans in there.values())}
    labels = _labels(first, there.values())
    if missing == set(first):
        source, spans = next((chosen[name], spans) for name, spans in there.items() if not spans.keys() >= set(first))
        found = shown([span.label for span in spans.values()], list(spans))
        raise ConfigError(f"--spans {text}: none of these is there. {source} has {found}")
    return Asked(tuple(chosen), labels, frozenset(missing))


def _source(step: Step) -> str | None:
    """The source with spans that a step reads up to a last one; None for other steps."""
    if _LAST not in step.settings:
        return None
    contract = read_contract(resolve(step.component))
    return next((path for path in contract.paths(step.settings, contract.input_files) if has_span(path)), None)


def _labels(numbers: Sequence[int], there: Collection[Mapping[int, Span]]) -> dict[int, str]:
    """What a person calls these spans, also those that are not there: dates where those that are have dates."""
    found = {number: span.label for spans in there for number, span in spans.items()}
    dated = any(label != str(number) for number, label in found.items())
    epoch = datetime.date(1970, 1, 1)
    return {
        number: found.get(number) or (str(epoch + datetime.timedelta(days=number)) if dated else str(number))
        for number in numbers
    }


def _numbers(text: str, source: str) -> list[int]:
    numbers: set[int] = set()
    problems = []
    for part in text.split(","):
        first, dots, last = (piece.strip() for piece in part.partition(".."))
        try:
            begin = span_number(source, first)
            end = span_number(source, last) if dots else begin
        except ConfigError as error:
            problems += [f"--spans {text}: {problem}" for problem in error.problems]
            continue
        if end < begin:
            problems.append(f"--spans {text}: {first}..{last} goes back: write {last}..{first}; they are run in order")
        elif end - begin >= _MOST:
            problems.append(f"--spans {text}: {first}..{last} are {end - begin + 1:,} spans; give at most {_MOST:,}")
        else:
            numbers.update(range(begin, end + 1))
    if problems:
        raise ConfigError(*problems)
    return sorted(numbers)


@dataclass(frozen=True)
class BackfillRecord:
    """What earlier calls did, in <root>/backfills/<pipeline>.json, so that the same call goes on where the last one ended.

    Calls are the same that have the same steps, settings given by the call, and last step. It is changed only by who has the turn.
    """

    path: Path
    call: str

    @classmethod
    def of(
        cls, root: Path, pipeline: str, *, steps: Sequence[str], to: str | None, overrides: Sequence[str]
    ) -> BackfillRecord:
        call = hashlib.sha256(canonical_json([list(steps), to, sorted(overrides)]).encode()).hexdigest()[:16]
        return cls(root / "backfills" / f"{pipeline}.json", call)

    def settled(self) -> dict[int, BackfilledSpan]:
        """The spans that need not be run again. Raises StoreError for a file that cannot be read."""
        try:
            found = [BackfilledSpan(**span) for span in self._read().get(self.call, ())]
        except (TypeError, AttributeError) as error:
            raise self._unreadable(error) from error
        return {span.span: replace(span, before=True) for span in found if span.is_settled}

    def note(self, done: BackfilledSpan) -> None:
        """Remember what became of a span, whole or not at all. Raises StoreError."""
        calls = self._read()
        others = [span for span in calls.get(self.call, ()) if span["span"] != done.span]
        with disk.writing(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            disk.write_atomically(self.path, {"format": FORMAT, "calls": {**calls, self.call: [*others, asdict(done)]}})

    def _read(self) -> dict[str, Any]:
        try:
            found = json.loads(self.path.read_bytes())
            if found["format"] > FORMAT:
                raise ValueError(f"its format is {found['format']}, of a newer Penstock")
            calls: dict[str, Any] = dict(found["calls"])
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise self._unreadable(error) from error
        return calls

    def _unreadable(self, error: Exception) -> StoreError:
        return StoreError(
            f"{self.path}: cannot be read: {error}. It says which spans are done: remove it, and all that are asked for are run"
        )
