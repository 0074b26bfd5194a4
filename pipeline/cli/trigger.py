"""`pipeline trigger`: run when there is new data, and only then, however often and from wherever it is called."""

from __future__ import annotations

import contextlib
import hashlib
import re
import textwrap
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pipeline import disk, locks, log
from pipeline.at_work import AtWork, Turn, turn_on
from pipeline.attempts import Attempt, Attempts, tell_once
from pipeline.cli.run import RunResult, run_definition
from pipeline.definition import Definition
from pipeline.graph import Graph
from pipeline.loading import load
from pipeline.new_data import NewData, ServedModel, find_new_data, served_models
from pipeline.notifications.ended_run import RunOutcome
from pipeline.notifications.notification import read_asked, tell_of_failure
from pipeline.plan import digest_of_run
from pipeline.remembered_digests import RememberedDigests
from pipeline.store import Store
from schemas.config import PipelineConfig
from schemas.errors import ConfigError, PenstockError, StoreError

TriggerOutcome = RunOutcome | Literal["busy", "started"]

ATTEMPTS = 3
_SHORTLY_S = 1.0  # others may hold the lock that long only to look whether it is held
_SHORT = 200  # characters of a reason that is told again at each look; `pipeline show` has all of it
_AGAIN = "it is tried again when data, code or settings change, or with `pipeline run`"
_NAME = re.compile(r"[a-z][a-z0-9-]{0,62}")


@dataclass(frozen=True)
class TriggerResult:
    """What a trigger came to. Without a `result` nothing was run here: `reason` says why, and `run` which run that is about, if one."""

    outcome: TriggerOutcome
    reason: str
    new: tuple[str, ...] = ()  # what is new
    run: str | None = None
    result: RunResult | None = None
    url: str = ""  # of a run on Kubeflow

    @property
    def exit_code(self) -> int:
        """That of the run; 0 where there was none."""
        return self.result.exit_code if self.result is not None else 0

    def as_json(self) -> dict[str, Any]:
        """What `--json` prints: what `pipeline run --json` does, where there was a run, and why there was one or none."""
        return (self.result.as_json() if self.result is not None else {}) | {
            "outcome": self.outcome,
            "reason": self.reason,
            "new": list(self.new),
            "run": self.run,
            **({"url": self.url} if self.url else {}),
        }

    def as_text(self) -> str | None:
        """Why nothing was run; None where the run has said it all."""
        return None if self.result is not None else f"{self.reason}{f' ({self.url})' if self.url else ''}"


def trigger_pipeline(
    target: str,
    *,
    if_new_data: bool = False,
    overrides: Iterable[str] = (),
    root: str | None = None,
    ledger: str | None = None,
    attempts: int = ATTEMPTS,
    still_written: Callable[[Graph], str | None] = lambda graph: None,
    kubeflow: bool = False,
    listener: Callable[[log.Event], None] | None = None,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> TriggerResult:
    """Run the pipeline, unless it is being run by another trigger; with `if_new_data`, only when there is some.

    New data is what `pipeline.new_data` finds. A run of exactly this data, code and settings that was refused, skipped or done
    before is not repeated, and one that failed at most until it has failed `attempts` times in a row; one that was interrupted or killed
    is gone on with. `still_written` is asked for a file that is not to be read yet, which leaves new data to the next call. With `kubeflow` the run is
    started there, and not followed.

    Raises what keeps it from telling whether there is new data, or `run_definition` from running; whom the definition's `notify`
    names is told of it, once until it is another or gone. KeyboardInterrupt passes.
    """
    given = tuple(overrides)
    tell = listener or log.SilentDisplay()
    if kubeflow:
        wrong = [
            f"{option}: runs on Kubeflow have what the definition's kubeflow section says"
            for option, given_ in (("--root", root), ("--ledger", ledger))
            if given_ is not None
        ]
        if any(override.startswith("tfx.") for override in given):
            wrong.append("--fast: pods read the definition anew. Write it there: tfx: {fast: true}")
        if wrong:
            raise ConfigError(*wrong)
        return _start_on_kubeflow(target, given, if_new_data, attempts, still_written)
    try:
        definition = load(target, given, root)
    except PenstockError as error:
        name, its_root, asked = read_asked(target, given)
        files = _Files.of(Path(root or its_root), name) if _NAME.fullmatch(name) else _Files.unnamed(target, root)
        with contextlib.suppress(
            PenstockError
        ):  # the definition's mistake matters more than a root that cannot be written
            if tell_once(files.told, str(error)):
                tell_of_failure(name, asked, error, tell)
        raise
    with contextlib.suppress(OSError):
        _Files.unnamed(target, root).told.unlink()
    store = Store(definition.root).open()
    name = definition.graph.name
    try:
        with turn_on(store, name, "trigger", patience_s=_SHORTLY_S, now=now) as turn:
            trigger = _Trigger(definition, _Files.of(store.root, name), turn, ledger, attempts, tell, now)
            return trigger.if_new_data(still_written) if if_new_data else trigger.at_once()
    except locks.NotGivenError as holder:
        return _busy(AtWork.read(store, name), str(holder))


@dataclass(frozen=True)
class _Files:
    """What triggers of one pipeline remember."""

    attempts: Path
    told: Path  # of which error, so that a call each minute does not tell it each minute

    @classmethod
    def of(cls, root: Path, pipeline: str) -> _Files:
        directory = root / "triggers"
        return cls(directory / f"{pipeline}.json", directory / f"{pipeline}.told.json")

    @classmethod
    def unnamed(cls, target: str, root: str | None) -> _Files:
        """Those of a definition of which not even the name can be read, nor then its root."""
        return cls.of(Path(root or PipelineConfig.model_fields["root"].default), f"of-{_sha(target)[:16]}")


class _Trigger:
    """One call, which holds the lock of its pipeline."""

    def __init__(
        self,
        definition: Definition,
        files: _Files,
        turn: Turn,
        ledger: str | None,
        attempts: int,
        listener: Callable[[log.Event], None],
        now: Callable[[], datetime],
    ) -> None:
        self._definition = definition
        self._graph = definition.graph
        self._files = files
        self._turn = turn
        self._ledger = ledger
        self._most = attempts
        self._listener = listener
        self._now = now
        self._digest = RememberedDigests(definition.root)  # a look each minute need not read what has not changed

    def at_once(self) -> TriggerResult:
        """Run, whatever there is."""
        self._can_tell()
        result = self._run_pipeline("a run was asked for")
        return TriggerResult(result.outcome, _why(result), run=result.run, result=result)

    def if_new_data(self, still_written: Callable[[Graph], str | None]) -> TriggerResult:
        """Run if there is new data that nobody has tried yet."""
        try:
            known = Attempts.read(self._files.attempts)
            found = find_new_data(self._graph, self._digest)
            if found.reasons and (file := still_written(self._graph)) is not None:
                return TriggerResult(
                    "skipped", f"{file} is still being written to: the next call looks again", found.reasons
                )
            found = find_new_data(self._graph, self._digest) if found.reasons else found  # it may have been waited for
            digest = digest_of_run(self._graph, self._digest) if found.reasons else ""
        except PenstockError as error:
            with contextlib.suppress(StoreError):  # what was found matters more than a root that cannot be written
                if tell_once(self._files.told, str(error)):
                    tell_of_failure(self._graph.name, self._definition.notify, error, self._listener)
            raise
        self._can_tell()
        if not found.reasons:
            return TriggerResult("nothing new", found.nothing_new(), run=_maker(found))
        before = known.by_digest.get(digest)
        return (_not_again(before, found, self._most) if before else None) or self._try(found, known, digest)

    def _can_tell(self) -> None:
        """What kept earlier calls from beginning does not any more: if it comes back, it is told again."""
        with disk.writing(self._files.told):
            self._files.told.unlink(missing_ok=True)

    def _try(self, found: NewData, known: Attempts, digest: str) -> TriggerResult:
        what = ", ".join(found.reasons)
        before = known.by_digest.get(digest)
        self._listener(log.StepNote("trigger", what))

        def remember(outcome: str, reason: str) -> None:
            attempt = Attempt(
                outcome=outcome,
                run=self._turn.run,
                at=self._now().isoformat(timespec="seconds"),
                reason=reason,
                newest=found.newest,
                failures=(before.failures if before else 0) + 1 if outcome == "failed" else 0,
                served=self._served(),
            )
            known.with_attempt(digest, attempt).write(self._files.attempts)

        try:
            result = self._run_pipeline(what)
        except PenstockError as error:
            with contextlib.suppress(PenstockError):  # why the run failed matters more than that this cannot be written
                remember("failed", _in_a_line(str(error)))
            raise
        try:
            remember(result.outcome, _why(result))
        except StoreError as error:  # what the run came to matters more
            self._listener(log.StepNote("trigger", f"warning: {error} The next call may try the same again"))
        return TriggerResult(result.outcome, _why(result) or what, found.reasons, run=result.run, result=result)

    def _run_pipeline(self, what: str) -> RunResult:
        listener = self._turn.listening(what, self._listener)
        return run_definition(self._definition, ledger=self._ledger, listener=listener)

    def _served(self) -> dict[str, int]:
        try:
            return {model.step: model.version for model in served_models(self._graph) if model.version is not None}
        except PenstockError:
            return {}  # nobody knows what is served; what was tried is remembered all the same


def _not_again(before: Attempt, found: NewData, most: int) -> TriggerResult | None:
    """Why what was tried already is not tried again; None when it is."""
    what = before.newest or "what is new"
    run = f"{f'run {before.run}' if before.run else 'a run that never began,'} on {before.at[:10]}"
    told = textwrap.shorten(before.reason.rstrip("."), _SHORT, placeholder=" ...")
    because = f": {told}" if told else ""

    def not_again(why: str) -> TriggerResult:
        return TriggerResult("skipped", f"{why}; {_AGAIN}", found.reasons, run=before.run or None)

    if before.outcome == "failed":
        times = "once" if before.failures == 1 else f"{before.failures} times in a row, last"
        return not_again(f"{what} failed {times} in {run}{because}") if before.failures >= most else None
    if before.outcome in ("refused", "skipped"):
        return not_again(f"{what} was {before.outcome} by {run}{because}")
    if _changed_nothing(before, found):
        why = f"nothing new since {run}, which read the same and made no other model of it"
        return TriggerResult("nothing new", why, run=before.run)
    if any(model.version is None and model.step in before.served for model in found.served):
        return None  # nothing serves where something did: putting it back costs little more than the push
    return not_again(f"{what} was done by {run}, and now {', '.join(map(_serves, found.served))}")


def _changed_nothing(before: Attempt, found: NewData) -> bool:
    """Whether a run that is done left served what is served now, which names other files: their content made no difference."""
    then = {model.step: model.version for model in found.served if model.version is not None}
    return before.outcome in ("done", "nothing new") and bool(then) and before.served == then


def _serves(model: ServedModel) -> str:
    if model.version is None:
        return f"nothing is served at {model.place}"
    if model.passport is None:
        return f"{model.place} serves version {model.version}, which another tool pushed"
    if model.passport.rollback:
        rollback = model.passport.rollback
        return f"{model.place} serves version {rollback['to']} again, which {rollback['by']} rolled back to"
    return f"{model.place} serves version {model.version} of run {model.passport.run}"


def _maker(found: NewData) -> str | None:
    """The run that made what is served."""
    passport = found.served[0].passport
    return passport.run if passport is not None and passport.run else None


def _why(result: RunResult) -> str:
    """Why a run was refused or skipped, or how it failed; empty for one that is done."""
    actions = {"refused": ("refused",), "skipped": ("no need", "skipped"), "failed": ("failed",)}.get(
        result.outcome, ()
    )
    said = [f"{name}: {step.message}" for name, step in result.steps.items() if step.action in actions and step.message]
    return _in_a_line("; ".join(said))


def _in_a_line(text: str) -> str:
    return " ".join(text.split())


def _busy(at_work: AtWork | None, holder: str) -> TriggerResult:
    if at_work is None or not at_work.run:
        return TriggerResult("busy", f"busy: {holder} is at work on it")
    since = f"{at_work.since[:16].replace('T', ' ')} UTC"
    return TriggerResult(
        "busy", f"busy: run {at_work.run} is at work on it since {since} ({at_work.what})", run=at_work.run
    )


def _start_on_kubeflow(
    target: str,
    overrides: tuple[str, ...],
    if_new_data: bool,
    attempts: int,
    still_written: Callable[[Graph], str | None],
) -> TriggerResult:
    """Start a run there, called by what it is made of; Kubeflow's own list of runs is what is remembered."""
    if not if_new_data:
        raise ConfigError("--kubeflow: goes with --if-new-data; `pipeline kubeflow run` starts a run there at once")
    from pipeline.runners.kubeflow.on_cluster import local_and_on_cluster
    from pipeline.runners.kubeflow.once import start_once

    _, definition = local_and_on_cluster(target, overrides)
    sha256 = RememberedDigests(definition.root)
    found = find_new_data(definition.graph, sha256)
    if not found.reasons:
        return TriggerResult("nothing new", found.nothing_new(), run=_maker(found))
    if (file := still_written(definition.graph)) is not None:
        return TriggerResult("skipped", f"{file} is still being written to: the next call looks again", found.reasons)
    found = find_new_data(definition.graph, sha256)  # it may have been waited for
    if not found.reasons:
        return TriggerResult("nothing new", found.nothing_new(), run=_maker(found))
    digest = digest_of_run(definition.graph, sha256)
    of = found.newest.replace(" ", "-") or f"data-{digest[:8]}"
    once = start_once(
        target, name=f"{definition.graph.name}-{of}", overrides=overrides, attempts=attempts, digest=digest
    )
    reason = f"{', '.join(found.reasons)}: {once.reason}"
    return TriggerResult(once.state, reason, found.reasons, run=once.run, url=once.url)


def _sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
