"""What a definition's `notify` asks for: how each of its runs ended is sent to a webhook and to a command."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Self

from pipeline import log
from pipeline.config import read_section
from pipeline.ledger import RunRecord
from pipeline.notifications import command, webhook
from pipeline.notifications.ended_run import EndedRun, RunOutcome
from schemas.config import NotificationConfig, PipelineConfig
from schemas.errors import PenstockError
from schemas.location import parse

_UNSAID: tuple[RunOutcome, ...] = ("nothing new",)  # where a definition does not say what is told
_HURRIED_S = 3.0  # for each, when the run was interrupted: whoever did that may end this process soon


def tell(
    asked: NotificationConfig | None,
    ended: EndedRun,
    *,
    output: Path | None = None,
    environ: Mapping[str, str] | None = None,
) -> tuple[str, ...]:
    """Tell whom `asked` names how a run ended, if it is to be told of such an outcome; gives what kept somebody from hearing it.

    The webhook's address and its token may come from the environment (`webhook.ADDRESS`, `webhook.TOKEN`). `output` is the file
    that takes what the command prints. Raises nothing but KeyboardInterrupt.
    """
    asked = asked or NotificationConfig()
    wanted = ended.outcome not in _UNSAID if asked.on is None else ended.outcome in asked.on
    return tuple(_problems(asked, ended, output, os.environ if environ is None else environ)) if wanted else ()


def _problems(
    asked: NotificationConfig, ended: EndedRun, output: Path | None, environ: Mapping[str, str]
) -> Iterator[str]:
    said = ended.as_json()
    hurried = ended.outcome == "interrupted"
    address = webhook.address_from(environ, asked.webhook)
    if address:
        token = webhook.token_from(environ)
        problem = (
            webhook.notify(address, said, token, timeout_s=_HURRIED_S, attempts=1)
            if hurried
            else webhook.notify(address, said, token)
        )
        if problem:
            yield problem
    if asked.command:
        problem = (
            command.run_command(asked.command, said, output, timeout_s=_HURRIED_S)
            if hurried
            else command.run_command(asked.command, said, output)
        )
        if problem:
            yield problem


class Notification:
    """Tells of one run when its context ends, however it does: what `ended` is by then, or else that it failed or was interrupted."""

    def __init__(
        self,
        pipeline: str,
        asked: NotificationConfig | None,
        listener: Callable[[log.Event], None],
    ) -> None:
        """What cannot be told is a warning, which goes to `listener` and into `warnings`."""
        self._pipeline = pipeline
        self._asked = asked
        self._listener = listener
        self.record: RunRecord | None = None  # of the run, once it has begun
        self.ended: EndedRun | None = None
        self.output: Path | None = None  # the file that takes what the command prints; None: standard error
        self.warnings: tuple[str, ...] = ()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        ended = self.ended or (_broken_off(self._pipeline, self.record, error) if error is not None else None)
        self.warnings = tell(self._asked, ended, output=self.output) if ended is not None else ()
        for warning in self.warnings:
            self._listener(log.StepNote("notify", f"warning: {warning}"))


def tell_of_failure(
    pipeline: str, asked: NotificationConfig | None, error: Exception, listener: Callable[[log.Event], None]
) -> None:
    """Tell of a run that ended with `error` before it began."""
    with contextlib.suppress(type(error)), Notification(pipeline, asked, listener):
        raise error


def read_asked(target: str, overrides: Iterable[str] = ()) -> tuple[str, str, NotificationConfig | None]:
    """(the pipeline's name, its root, its `notify`) as far as they can be read of a definition that does not load."""
    if not target.endswith((".yaml", ".yml")):
        return target, PipelineConfig.model_fields["root"].default, None
    return read_section(NotificationConfig, Path(target), overrides, "notify")


def ended_run(
    record: RunRecord,
    outcome: RunOutcome,
    *,
    metrics: Mapping[str, float | None] | None = None,
    paths: Mapping[str, str] | None = None,
) -> EndedRun:
    """What is said of a run on this machine, whose record has ended."""
    failed = [f"{step.step}: {step.message}" for step in record.steps if step.action == "failed"]
    return EndedRun(
        pipeline=record.pipeline,
        run=record.id,
        outcome=outcome,
        steps=record.steps,
        metrics=metrics or {},
        paths={name: str(parse(path).absolute()) for name, path in (paths or {}).items()},
        reasons=tuple(
            step.message for step in record.steps if step.action in _SAYS_WHY.get(outcome, ()) and step.message
        ),
        error=failed[0] if failed else "",
        seconds=record.seconds,
    )


_SAYS_WHY: Mapping[RunOutcome, tuple[str, ...]] = {
    "refused": ("refused",),
    "skipped": ("no need", "skipped"),
}  # the actions of a step that ended the run, or whose condition kept it from running


def _broken_off(pipeline: str, record: RunRecord | None, error: BaseException) -> EndedRun:
    """What is said of a run that an exception ended, before or after it had a record."""
    outcome: RunOutcome = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
    ended = EndedRun(pipeline=pipeline, run="", outcome=outcome) if record is None else ended_run(record, outcome)
    if outcome == "interrupted" or ended.error:
        return ended
    return replace(ended, error=str(error) if isinstance(error, PenstockError) else f"{type(error).__name__}: {error}")
