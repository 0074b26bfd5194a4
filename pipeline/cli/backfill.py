"""`pipeline backfill`: a definition is run for each of some spans, in order, going on where an earlier call ended."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipeline import log
from pipeline.at_work import Turn, turn_on
from pipeline.backfill import Asked, BackfilledSpan, BackfillRecord, read_asked
from pipeline.cli.run import run_definition
from pipeline.cli.runs import as_columns
from pipeline.definition import Definition
from pipeline.loading import load
from pipeline.plan import check_steps
from pipeline.store import Store
from schemas.errors import Interrupted, PenstockError
from schemas.spans import shown

Display = Callable[[], AbstractContextManager[Callable[[log.Event], None]]]

_METRICS = 3  # that a row shows


@dataclass(frozen=True)
class BackfillResult:
    """What became of each span, by number."""

    pipeline: str
    spans: tuple[BackfilledSpan, ...]

    @property
    def outcome(self) -> str:
        """The worst of them: failed (also by a span that is missing), else refused, else done."""
        outcomes = {span.outcome for span in self.spans}
        if outcomes & {"failed", "missing", "not run"}:
            return "failed"
        return "refused" if "refused" in outcomes else "done"

    @property
    def exit_code(self) -> int:
        """0 done, 1 one failed or is missing, 3 one was refused and none failed."""
        return {"failed": 1, "refused": 3}.get(self.outcome, 0)

    def as_json(self) -> dict[str, Any]:
        """What `--json` prints."""
        return {
            "outcome": self.outcome,
            "pipeline": self.pipeline,
            "spans": [
                {
                    "span": span.span,
                    "label": span.label,
                    "outcome": span.outcome,
                    "run": span.run,
                    "seconds": span.seconds,
                    "metrics": dict(span.metrics),
                    "version": span.version,
                    "reason": span.reason,
                    "before": span.before,
                }
                for span in self.spans
            ],
        }

    def as_text(self) -> str:
        """A row for each span, and how to go on where that is called for."""
        rows = [("SPAN", "OUTCOME", "RUN", "TOOK", "VERSION", "METRICS", "REASON")]
        for span in self.spans:
            metrics = [
                f"{name} {'not defined' if value is None else f'{value:.4g}'}" for name, value in span.metrics.items()
            ]
            rows.append(
                (
                    span.label,
                    span.outcome,
                    span.run or "",
                    log.duration(span.seconds) if span.seconds is not None else "",
                    span.version or "",
                    ", ".join(metrics[:_METRICS]),
                    f"done by an earlier call{f': {span.reason}' if span.reason else ''}"
                    if span.before
                    else span.reason,
                )
            )
        text = f"\n{as_columns(rows)}"
        if any(span.outcome == "not run" for span in self.spans):
            text += "\n\nended at the first failure: the same command goes on there, and with --keep-going past it"
        return text


def backfill_pipeline(
    target: str,
    spans: str,
    *,
    only: Iterable[str] = (),
    to: str | None = None,
    again: bool = False,
    keep_going: bool = False,
    overrides: Iterable[str] = (),
    root: str | None = None,
    ledger: str | None = None,
    display: Display = log.SilentDisplay,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> BackfillResult:
    """Run the definition once for each of `spans` (see `pipeline.backfill.read_asked`), oldest first, each as the last span there is.

    What an earlier call did with the same `only`, `to` and `overrides` is not done again, unless with `again`: the spans that were
    done, refused or skipped. The first that fails ends it, unless with `keep_going`. While it goes on, a trigger of the pipeline
    says that it is busy. Models are pushed in the order of the spans, so that the newest data's is the last; with `to` a step before
    the push, none is.

    Raises ConfigError, DataError and StoreError before the first run, and Interrupted, saying how far it came, after stopping cleanly.
    """
    given, chosen = tuple(overrides), tuple(only)
    definition = load(target, given, root)
    check_steps(definition.graph, [to] if to else [])
    asked = read_asked(definition, spans, chosen)
    store = Store(definition.root).open()
    name = definition.graph.name
    record = BackfillRecord.of(store.root, name, steps=asked.steps, to=to, overrides=given)
    what = f"backfill of {shown(list(asked.labels.values()), list(asked.labels))}"

    def wait(holder: str) -> None:
        with display() as listener:
            listener(log.StepNote("backfill", f"waits: {holder} is at work on {name}"))

    with turn_on(store, name, what, on_wait=wait, now=now) as turn:
        before = {} if again else record.settled()
        backfill = _Backfill(definition, asked, record, turn, to, ledger, display, now)
        return BackfillResult(name, tuple(backfill.fill(before, keep_going)))


@dataclass
class _Backfill:
    """One call, which has its pipeline's turn."""

    definition: Definition
    asked: Asked
    record: BackfillRecord
    turn: Turn
    to: str | None
    ledger: str | None
    display: Display
    now: Callable[[], datetime]

    def fill(self, before: dict[int, BackfilledSpan], keep_going: bool) -> Sequence[BackfilledSpan]:
        """What became of every span. Raises Interrupted."""
        done: list[BackfilledSpan] = []
        failed = False
        for number, label in self.asked.labels.items():
            if number in before:
                done.append(before[number])
            elif number in self.asked.missing:
                done.append(BackfilledSpan(span=number, label=label, outcome="missing", reason="there is no such span"))
            elif failed and not keep_going:
                done.append(BackfilledSpan(span=number, label=label, outcome="not run"))
            else:
                done.append(self._run(number, label))
                self.record.note(done[-1])
                failed = failed or done[-1].outcome == "failed"
        return done

    def _run(self, number: int, label: str) -> BackfilledSpan:
        definition = self.asked.definition(self.definition, number)
        place = list(self.asked.labels).index(number) + 1
        what = f"backfill of span {label}, {place} of {len(self.asked.labels)}"
        blank = BackfilledSpan(span=number, label=label, outcome="failed")
        try:
            with self.display() as shows:
                shows(log.StepNote("backfill", f"span {label}, {place} of {len(self.asked.labels)}"))
                listener = self.turn.listening(what, shows)
                result = run_definition(definition, to=self.to, ledger=self.ledger, listener=listener)
        except KeyboardInterrupt:
            raise Interrupted(
                f"stopped in span {label}, {place} of {len(self.asked.labels)}; what was finished is kept, and the same command "
                f"goes on from there"
            ) from None
        except PenstockError as error:
            return replace(blank, run=self.turn.run or None, at=self._time(), reason=" ".join(str(error).split()))
        serving = result.paths.get("serving")
        messages = [step.message for step in result.steps.values() if step.action in _SAYS_WHY and step.message]
        return replace(
            blank,
            outcome=result.outcome,
            run=result.run,
            at=self._time(),
            seconds=round(result.seconds, 3),
            metrics=dict(result.metrics),
            version=Path(serving).name if serving else None,
            reason=" ".join("; ".join(messages).split()),
        )

    def _time(self) -> str:
        return self.now().isoformat(timespec="seconds")


_SAYS_WHY = ("refused", "no need", "skipped", "failed")  # the actions of steps that may have a message
