"""`pipeline why`: what a served model was made of, and why it may be served, from its own directory alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.cli.runs import as_columns
from schemas.artifact import splits_in_order
from schemas.dotted_path import resolve
from schemas.errors import ConfigError
from schemas.location import Location
from schemas.passport import Passport
from schemas.spans import shown

_SLICES = 20  # that the text shows; --json has all


@dataclass(frozen=True)
class Why:
    """One version, and its passport."""

    path: Location
    passport: Passport

    def as_json(self) -> dict[str, Any]:
        """What `--json` prints: the passport as it is."""
        return {"outcome": "found", "path": str(self.path), "passport": dataclasses.asdict(self.passport)}

    def as_text(self) -> str:
        """A paragraph for each question."""
        answers = [
            ("pushed", _pushed(self.passport)),
            ("blessed", _blessed(self.passport)),
            ("metrics", _metrics(self.passport)),
            ("data", _data(self.passport)),
            ("code", _code(self.passport)),
            ("settings", _settings(self.passport)),
            ("libraries", iter([_listed(self.passport.libraries)] if self.passport.libraries else [])),
        ]
        lines = [str(self.path)]
        for question, said in answers:
            for at, line in enumerate(said):
                lines.append(f"{question if at == 0 else '':<10}  {line}")
        return "\n".join(lines)


def explain_version(path: Location) -> Why:
    """The passport of a version, or of the one that is served from a serving directory.

    Raises ConfigError when there is no such version or another tool pushed it, ArtifactError when its passport cannot be
    read.
    """
    version: Location = resolve("components.release.inspection.find")(path)
    passport = resolve("components.release.destinations.at")(version.parent).passport(version.name)
    if passport is None:
        raise ConfigError(f"{version}: another tool pushed it, and nothing there says what it was made of")
    return Why(version if version == path.absolute() else path / version.name, passport)


def _pushed(passport: Passport) -> Iterator[str]:
    yield f"{passport.pushed_at}, version {passport.version}"
    if passport.rollback:
        back = passport.rollback
        yield f"a rollback by {back['by']} from version {back['from']} to {back['to']}, whose passport this is"
    if passport.run:
        yield f"made by run {passport.run} of {passport.pipeline}"
    yield f"model {passport.model_digest}, files: {len(passport.files)}, warm-up requests: {passport.warmup_requests}"


def _blessed(passport: Passport) -> Iterator[str]:
    for gate in passport.gates:
        verdict = "yes" if gate.get("blessed") else "no, and the run went on"
        anyway: Mapping[str, Any] | None = gate.get("anyway")
        if anyway:
            verdict = f"anyway, by {anyway['by']} on {anyway['at']}: {anyway['reason']}"
        yield f"{gate.get('gate', 'gate')}: {verdict}"
        yield from (f"  against it: {reason}" for reason in gate.get("reasons", ()))
        yield from (f"  {_threshold(passport, threshold)}" for threshold in gate.get("thresholds", ()))
        yield from (f"  not applied: {sentence}" for sentence in gate.get("not_applied", ()))
        yield from (f"  {sentence}" for sentence in _drift(gate))
        yield from (f"  {sentence}" for sentence in _served(gate))
        if "size_bytes" in gate:
            limit = gate.get("max_size_mb")
            yield f"  size {gate['size_bytes']:,} bytes, {'no limit' if limit is None else f'at most {limit:g} MB'}"
    if not passport.gates:
        yield "nobody judged it"
    before = passport.baseline
    yield (
        f"compared with version {before['version']} ({before['digest']})" if before else "compared with no other model"
    )


def _drift(gate: Mapping[str, Any]) -> Iterator[str]:
    """How far the data was from what it had been before."""
    found: Mapping[str, Any] = gate.get("drift", {})
    if not found:
        return
    within = sum(not distance["over"] for distance in found["distances"])
    yield f"drift: {within} of {len(found['distances'])} distances within their thresholds"
    if found["on_drift"] == "retrain":
        yield from (f"drifted: {sentence}" for sentence in found["over"])
    yield from (f"not compared: {note}" for note in found["notes"])


def _served(gate: Mapping[str, Any]) -> Iterator[str]:
    """What a model server was asked and how it answered."""
    if "server" in gate:
        yield f"asked {gate['server']}{': ' + gate['asked'] if 'asked' in gate else ''}"
    parity: Mapping[str, Any] = gate.get("parity", {})
    for signature, found in parity.get("signatures", {}).items():
        yield (
            f"parity of {signature} on {found['rows']} rows: at most {found['largest_difference']:.3g} from "
            f"{parity['compared_with']} (absolute {parity['absolute']:g} + relative {parity['relative']:g})"
        )
    latency: Mapping[str, Any] = gate.get("latency", {})
    if latency:
        most = {name: latency.get(f"max_{name}") for name in ("p50_ms", "p99_ms")}
        bounds = {name: "" if limit is None else f" (at most {limit:g})" for name, limit in most.items()}
        yield (
            f"latency p50 {latency['p50_ms']:.3g} ms{bounds['p50_ms']}, p99 {latency['p99_ms']:.3g} ms{bounds['p99_ms']}, of "
            f"{latency['requests']} one-row requests of {latency['signature']}"
        )


def _threshold(passport: Passport, threshold: Mapping[str, Any]) -> str:
    asked = f"{threshold['bound']} {threshold['limit']:g}"
    if threshold["slice"] != "overall":
        return f"{threshold['metric']} on {threshold['slice']}: {asked}"
    value = passport.metrics.get(threshold["metric"])
    return f"{threshold['metric']}{'' if value is None else f' {value:.4g}'}: {asked}"


def _metrics(passport: Passport) -> Iterator[str]:
    if passport.metrics:
        yield _listed(passport.metrics)
    # On slices those that the thresholds are about, else the first few: a table that fits.
    asked = [threshold["metric"] for gate in passport.gates for threshold in gate.get("thresholds", ())]
    names = list(dict.fromkeys(name for name in asked if name in passport.metrics)) or list(passport.metrics)[:3]
    listed = passport.slices[:_SLICES]
    if listed:
        rows = [("slice", "examples", *names)]
        for found in listed:
            values = [found["metrics"].get(name) for name in names]
            rows.append((found["slice"], f"{found['examples']:,}", *("-" if v is None else f"{v:.4g}" for v in values)))
        yield from as_columns(rows).splitlines()
    if len(passport.slices) > _SLICES:
        yield f"and {len(passport.slices) - _SLICES} more slices, with --json"


def _data(passport: Passport) -> Iterator[str]:
    for step, record in passport.steps.items():
        for output in record.get("outputs", {}).values():
            spans = output.get("properties", {}).get("spans", ())
            if output.get("type") == "Examples" and spans:
                told = shown([span["label"] for span in spans], [span["span"] for span in spans])
                records = output["properties"].get("records", {}).values()
                yield f"span{'s' if len(spans) > 1 else ''} {told}, {sum(records):,} records"
        for file in record.get("files", ()):
            which = f", span {file.get('label', file['span'])}" if "span" in file else ""
            version = f" version {file['version']}" if file.get("version") is not None else ""
            yield f"{step}: {file['path']}{which}{version}, {file['bytes']:,} bytes, {file['digest']}"
        for output in record.get("outputs", {}).values():
            records = output.get("properties", {}).get("records")
            if output.get("type") == "Examples" and records and record.get("files"):
                yield f"  {', '.join(f'{split} {records[split]:,}' for split in splits_in_order(records))} examples"


def _code(passport: Passport) -> Iterator[str]:
    yield f"git {passport.git_commit}" if passport.git_commit else "in no git checkout"
    for step, record in passport.steps.items():
        yield f"{step}: {record['component']}, key {record['key'][:12]}"
        yield from (f"  {module['file']}, {module['digest'][:12]}" for module in record.get("code", {}).values())


def _settings(passport: Passport) -> Iterator[str]:
    for step, record in passport.steps.items():
        settings = {name: value for name, value in record.get("settings", {}).items() if value not in (None, [], {})}
        best = [
            output["properties"]["values"]
            for output in record.get("outputs", {}).values()
            if output.get("type") == "HyperParameters" and output.get("properties", {}).get("values")
        ]
        if settings or best:
            yield f"{step}: {_listed(settings)}".rstrip()
        yield from (f"  hyperparameters: {_listed(values)}" for values in best)


def _listed(values: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{name} {f'{value:.4g}' if isinstance(value, float) else value}" for name, value in values.items()
    )
