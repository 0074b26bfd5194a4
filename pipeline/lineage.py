"""A run's record, orders and manifests -> its lineage, as plain data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from pipeline.ledger import RunRecord, StepRecord
from pipeline.manifest import ArtifactRecord, InputRecord
from pipeline.order import Order, OrderInput
from pipeline.store import Execution, Store
from schemas.artifact import ABSENT
from schemas.artifacts import Model
from schemas.dotted_path import resolve
from schemas.errors import ArtifactError, ConfigError
from schemas.passport import Passport
from schemas.run_lineage import MadeArtifact, RanStep, RunLineage, State

_STATES: Mapping[str, State] = {
    "run": "complete",
    "no need": "complete",
    "reuse": "cached",
    "failed": "failed",
    "refused": "canceled",
    "running": "running",
    "skipped": "canceled",
}
"""Of a step by what it did, where it began."""


class LineageReader:
    """Reads the lineage of runs from one store. `notes` are sentences on what is no longer known."""

    def __init__(self, store: Store) -> None:
        self.notes: list[str] = []
        self._store = store
        self._found: dict[tuple[str, str], Execution | None] = {}
        self._passing: dict[str, bool] = {}  # by component: whether it passes on what earlier runs made

    def of(self, record: RunRecord) -> RunLineage:
        """The lineage of a recorded run."""
        steps = [step for step in record.steps if _began(step)]
        orders = {step.step: self._order(record.id, step) for step in steps}
        read = {(one.step, one.key, one.output): one for step in steps for one in self._inputs(step, orders).values()}
        if record.state == "running":
            self.notes.append(
                f"run {record.id} goes on: what it has done so far is written. Export it again when it has ended"
            )
        return RunLineage(
            run=record.id,
            pipeline=record.names.get("", record.pipeline),
            began_at=_time(record.started_at),
            ended_at=_time(record.ended_at) if record.ended_at else None,
            steps=tuple(_in_order([self._step(record, step, orders, read) for step in steps])),
        )

    def _step(
        self,
        record: RunRecord,
        step: StepRecord,
        orders: Mapping[str, Order | None],
        read: Mapping[tuple[str, str, str], InputRecord | OrderInput],
    ) -> RanStep:
        execution, order = self._execution(step.step, step.key), orders[step.step]
        began_at, ended_at = _times(record, step, execution)
        settings: Mapping[str, Any]
        parts: Mapping[str, Any]
        if execution is not None:
            made_by = self._order(execution.manifest.run, step)
            component, parts = execution.manifest.component, execution.manifest.key_parts
            # The key has no settings that name files, since it has the files.
            settings = made_by.settings if made_by else parts.get("settings", {})
            # What is under the key of one that failed or was stopped, another run has made.
            made = {} if step.action in ("failed", "skipped") else execution.manifest.outputs
            outputs = {output: self._made(step.step, step.key, output) for output in made}
        else:
            latest = self._store.latest(step.step, record.pipeline) if order is None else None
            component = order.component if order else latest.component if latest else step.step
            settings, parts = (order.settings, order.key_parts) if order else ({}, {})
            known = {output: one for (at, key, output), one in read.items() if (at, key) == (step.step, step.key)}
            outputs = {output: self._made(step.step, step.key, output, one) for output, one in known.items()}
            if _STATES[step.action] in ("complete", "cached"):
                self.notes.append(
                    f"run {record.id}: what {step.step} made is not in the store any more (`pipeline gc` removes what no kept "
                    f"run needs). Its outputs are marked as deleted, and those that nothing else names are left out"
                )
        files = [file for found in parts.get("files", {}).values() for file in found]
        facts = {"key": step.key, "action": step.action, "reason": step.reason} | ({"files": files} if files else {})
        stopped = step.action == "running" and record.state == "interrupted"
        return RanStep(
            step=record.names.get(step.step, step.step),
            state="canceled" if stopped else _STATES[step.action],
            component=component,
            settings=settings,
            began_at=began_at,
            ended_at=ended_at,
            message=step.message,
            facts=facts,
            inputs={
                port: self._made(one.step, one.key, one.output, one) for port, one in self._inputs(step, orders).items()
            },
            outputs=outputs,
        )

    def _inputs(
        self, step: StepRecord, orders: Mapping[str, Order | None]
    ) -> Mapping[str, InputRecord] | Mapping[str, OrderInput]:
        execution, order = self._execution(step.step, step.key), orders[step.step]
        return execution.manifest.inputs if execution else order.inputs if order else {}

    def _made(self, step: str, key: str, output: str, named: InputRecord | OrderInput | None = None) -> MadeArtifact:
        """An output, as its own manifest has it, or else as a reader `named` it."""
        execution = self._execution(step, key)
        path = self._store.directory(step, key) / output
        if execution is not None and output in execution.manifest.outputs:
            artifact = execution.manifest.outputs[output]
            return MadeArtifact(
                path=path,
                type=artifact.type,
                digest=artifact.digest,
                output=output,
                component=execution.manifest.component,
                properties=artifact.properties,
                made_at=_time(execution.manifest.created_at),
                original=self._original(execution, output, artifact),
            )
        if named is None:
            raise KeyError(f"{step}.{output}")
        return MadeArtifact(
            path=path, type=named.type, digest=named.digest, output=output, component=None, is_there=False
        )

    def _original(self, execution: Execution, output: str, copy: ArtifactRecord) -> MadeArtifact | None:
        """What an output is a second name for; None where its step made it, and where nothing tells of what it was given."""
        named = _named_original(execution, output, copy)
        if named is None or copy.properties.get(ABSENT) or not self._passes_on(execution.manifest.component):
            return None
        found = self._made(named.step, named.key, named.output, named)
        if found.digest == named.digest:
            return found
        # A forced run has put another in its place.
        return MadeArtifact(
            path=found.path, type=named.type, digest=named.digest, output=named.output, component=None, is_there=False
        )

    def _passes_on(self, component: str) -> bool:
        if component not in self._passing:
            try:
                self._passing[component] = bool(getattr(resolve(component), "PASSES_ON", False))
            except Exception:  # noqa: BLE001 a user's module, which may raise what it likes or be gone
                self._passing[component] = False
        return self._passing[component]

    def _execution(self, step: str, key: str) -> Execution | None:
        """What is published; None when it is gone, or no longer what was published."""
        if (step, key) not in self._found:
            try:
                self._found[step, key] = self._store.find(step, key) if key else None
            except ArtifactError as error:
                self.notes.append(str(error))
                self._found[step, key] = None
        return self._found[step, key]

    def _order(self, run: str, step: StepRecord) -> Order | None:
        """What a run told the step to do for this key; None where it did not start it."""
        try:
            order = Order.read(self._store.root / "runs" / run / f"{step.step}.order.json")
        except ConfigError:
            return None
        return order if order.key == step.key or not step.key else None


def _named_original(execution: Execution, output: str, copy: ArtifactRecord) -> InputRecord | None:
    """Of what earlier run's artifact a step was given: the key has it, or the passport of the served model that lies in the copy."""
    parts = execution.manifest.key_parts
    earlier = parts.get("earlier") or {}
    if "key" in earlier:
        return InputRecord(earlier["step"], earlier["key"], earlier["output"], copy.type, earlier["digest"])
    digest = (parts.get("baseline") or {}).get("digest")
    if digest is None or copy.type != Model.TYPE_NAME:
        return None
    try:
        passport = Passport.read(Model(execution.output(output)).serving)
    except ArtifactError:
        return None
    for step, found in passport.steps.items() if passport else ():
        for name, made in found.get("outputs", {}).items():
            if (made.get("type"), made.get("digest")) == (copy.type, digest) and "key" in found:
                return InputRecord(step, found["key"], name, copy.type, digest)
    return None


def _began(step: StepRecord) -> bool:
    """Whether there is an execution: not of a step that was skipped or that a condition kept from running, only of one that was stopped."""
    return bool(step.key) or step.action not in ("skipped", "refused")


def _times(record: RunRecord, step: StepRecord, execution: Execution | None) -> tuple[datetime, datetime]:
    """(when the step began, when it ended): of one that this run did not make, as near as the run's own times tell."""
    took = timedelta(seconds=step.seconds)
    if step.action == "running" and step.started_at:
        return (began := _time(step.started_at)), began
    if execution is not None and execution.manifest.run == record.id:
        ended_at = _time(execution.manifest.created_at)
        return ended_at - took, ended_at
    if step.action == "reuse" or record.ended_at is None:
        return (began := _time(record.started_at)), began + took
    ended_at = _time(record.ended_at)
    return ended_at - took, ended_at


def _time(text: str) -> datetime:
    found = datetime.fromisoformat(text)
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _in_order(steps: list[RanStep]) -> Iterator[RanStep]:
    """Each after those whose outputs it read: a run records its steps as they end."""
    waiting = list(steps)
    while waiting:
        made = {artifact.path for step in waiting for artifact in step.outputs.values()}
        ready = [step for step in waiting if not made & {artifact.path for artifact in step.inputs.values()}]
        for step in ready[:1] or waiting[:1]:
            waiting.remove(step)
            yield step
