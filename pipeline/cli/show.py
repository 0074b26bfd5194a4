"""`pipeline show`: what a run did, or one of its steps."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from pipeline.cli.runs import as_columns
from pipeline.ledger import Ledger, RunRecord, StepRecord, resolve_ledger_url
from pipeline.log import duration
from pipeline.store import Execution, Store
from schemas.errors import ConfigError, did_you_mean


@dataclass(frozen=True)
class ShownRun:
    """A run and where the outputs of its steps are."""

    record: RunRecord
    outputs: dict[str, dict[str, Path]]

    def as_json(self) -> dict[str, Any]:
        """What `--json` prints."""
        outputs = {step: {name: str(path) for name, path in found.items()} for step, found in self.outputs.items()}
        return self.record.to_json() | {"outcome": self.record.state, "outputs": outputs}

    def as_text(self) -> str:
        """A head line, then one line per step."""
        record = self.record
        took = f", {duration(record.seconds)}" if record.seconds is not None else ""
        head = [f"{record.pipeline}  run {record.id}  {record.state}{took}"]
        if record.parameters:
            head.append("parameters: " + ", ".join(f"{name}={value}" for name, value in record.parameters.items()))
        rows = [("STEP", "ACTION", "TOOK", "KEY", "WHY")]
        for step in record.steps:
            why = step.message.splitlines()[0] if step.message else step.reason
            if step.action == "running":
                why = ": ".join(filter(None, (at_work(step), step.reason)))
            rows.append((step.step, step.action, duration(step.seconds) if step.seconds else "", step.key[:12], why))
        return "\n".join([*head, "", as_columns(rows)])


@dataclass(frozen=True)
class ShownStep:
    """One step of a run: the record, its execution where it has one, its log."""

    record: StepRecord
    execution: Execution | None
    log: Path | None

    def as_json(self) -> dict[str, Any]:
        """What `--json` prints."""
        manifest = self.execution.manifest.to_json() if self.execution else None
        return {
            "outcome": self.record.action,
            "step": self.record.step,
            "action": self.record.action,
            "reason": self.record.reason,
            "message": self.record.message,
            "started_at": self.record.started_at,
            "owner": self.record.owner.to_json() if self.record.owner else None,
            "log": str(self.log) if self.log else None,
            "path": str(self.execution.path) if self.execution else None,
            "manifest": manifest,
        }

    def as_text(self) -> str:
        """What it was, what it took, what it made."""
        record = self.record
        lines = [f"{record.step}: {record.action}" + (f" ({record.reason})" if record.reason else "")]
        if record.action == "running":
            lines += ["", at_work(record)]
        if record.message:
            lines += ["", *record.message.splitlines()]
        if self.execution:
            manifest = self.execution.manifest
            lines += ["", f"component  {manifest.component}", f"made       {manifest.created_at} by run {manifest.run}"]
            took = duration(manifest.seconds)
            if manifest.peak_bytes is not None:
                took += f", at most {manifest.peak_bytes / 1e6:,.0f} MB of memory"
            lines += [f"took       {took}", f"key        {manifest.key}", "settings"]
            settings = manifest.key_parts.get("settings", {})
            lines += [f"  {name}: {json.dumps(value)}" for name, value in settings.items()]
            for kind in ("files",):
                for setting, files in manifest.key_parts.get(kind, {}).items():
                    lines += [f"  {setting}: {file['path']}  {file['bytes']:,} bytes" for file in files]
            lines.append("inputs")
            lines += [f"  {port}: {wire.step}.{wire.output}  {wire.digest}" for port, wire in manifest.inputs.items()]
            lines.append("outputs")
            for name, output in manifest.outputs.items():
                lines.append(
                    f"  {name}: {output.type}, {len(output.files)} files, {output.bytes:,} bytes  {output.digest}"
                )
                lines.append(f"    {self.execution.output(name)}")
                lines += [f"    {key}: {json.dumps(value)}" for key, value in output.properties.items()]
        if self.log:
            lines += ["", f"log        {self.log}"]
        return "\n".join(lines)


def at_work(step: StepRecord) -> str:
    """Who is at work on a running step, and since when."""
    who = str(step.owner or "a process")
    since = (
        f" since {datetime.fromisoformat(step.started_at).astimezone():%Y-%m-%d %H:%M:%S}" if step.started_at else ""
    )
    return f"{who}{since}" + (" (dead by now)" if step.owner is not None and step.owner.is_dead() else "")


def show_run(root: str, run: str = "latest", *, ledger: str | None = None) -> ShownRun:
    """A run by its id, the beginning of its id, or 'latest'. Raises ConfigError when there is none."""
    store = _store(root)
    record = Ledger(store, resolve_ledger_url(None, asked=ledger)).run(run)
    outputs: dict[str, dict[str, Path]] = {}
    for step in record.steps:
        execution = store.find(step.step, step.key) if step.key else None
        if execution:
            outputs[step.step] = {name: execution.output(name) for name in execution.manifest.outputs}
    return ShownRun(record, outputs)


def show_step(root: str, run: str, step: str, *, ledger: str | None = None) -> ShownStep:
    """One step of a run. Raises ConfigError when the run has no such step."""
    store = _store(root)
    found = Ledger(store, resolve_ledger_url(None, asked=ledger)).run(run)
    for record in found.steps:
        if record.step == step:
            execution = store.find(step, record.key) if record.key else None
            log = store.root / "runs" / (execution.manifest.run if execution else found.id) / f"{step}.log"
            return ShownStep(record, execution, log if log.is_file() else None)
    names = [record.step for record in found.steps]
    raise ConfigError(
        f"run {found.id} has no step '{step}'.{did_you_mean(step, names) or ' It has: ' + (', '.join(names) or 'none')}"
    )


def _store(root: str) -> Store:
    store = Store(root)
    if not store.root.is_dir():
        raise ConfigError(f"{root}: there is no such directory; `pipeline run` makes it, or give the right --root")
    return store
