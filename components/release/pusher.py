"""Model x Blessing -> PushedModel: a new numbered version in a serving directory, whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.io import saved_model
from components.io.objects import problem_with
from components.release import destinations, passports, publication, versions, warmup
from components.release.destinations import Destination
from components.release.digests import content_digest, digests
from schemas.artifacts import Blessing, Evaluation, Examples, InfraBlessing, Model, PushedModel, Statistics, Verdict
from schemas.artifacts.pushed_model import STATISTICS
from schemas.component import IfOnlyOne, Lineage, Out, Scratch
from schemas.errors import ConfigError, NotBlessed
from schemas.location import Location, ObjectUrl, parse
from schemas.passport import Passport

_ATTEMPT = "push.json"  # in the scratch directory: the version that an attempt was about to publish


@dataclass(frozen=True, kw_only=True)
class Pusher:
    """Model x Blessing -> PushedModel: a new numbered version in a serving directory, whole or not at all.

    A server that watches `destination` sees the version appear complete, by one rename, after every byte of it is on
    disk. In an object store (`s3://bucket/models/taxi`), which has no rename, it sees `saved_model.pb` appear after
    everything else was verified (components/release/object_publication.py). Version numbers are seconds since the epoch and
    only grow, also past versions that were removed. Several pushers may work at once; each gets a number of its own. The
    version carries a passport (schemas/passport.py).

    A model whose blessing says no is never pushed, InfraValidator's where one is wired as well as Evaluator's, nor one that
    `pipeline rollback` withdrew from `destination` for as long as what it was rolled back to serves, nor one above
    `max_size_mb`. One that no Evaluator judged is pushed only with `require_blessing: false`.

    The version has the warm-up requests that InfraValidator's server replayed. Without them, where raw `examples` are wired, it
    has some made from the first of them, each of which the model answered before the push. A model that brings warm-up
    requests of its own keeps those.

    The statistics of the data that the model was trained on, where they are wired, are in the version too
    (schemas/artifacts/pushed_model.py), for ExampleValidator to compare new data with.

    After the push all versions but the newest `keep` are removed, never the one that is served, one that `models_config`
    labels or names, or one without a passport, which another tool pushed.
    """

    destination: str  # the serving directory, relative to the working directory, or an object store's address
    require_blessing: bool = True
    keep: int | None = 5  # versions; None: all
    models_config: str | None = None  # TensorFlow Serving's models.config, whose labelled versions are kept
    max_size_mb: float | None = None  # of the SavedModel's files together, in 10**6 bytes
    warmup_requests: int = 10  # raw examples to make requests from, where InfraValidator made none; 0: no requests

    def __post_init__(self) -> None:
        problems = []
        if not self.destination.strip():
            problems.append("destination: is empty. Name the directory to serve from, for example serving/taxi")
        location = parse(self.destination)
        problem = problem_with(location) if isinstance(location, ObjectUrl) else None
        if problem:
            problems.append(f"destination: {problem}")
        if self.keep is not None and self.keep < 1:
            problems.append(f"keep: {self.keep} is not a positive number of versions. Leave it empty to keep all")
        if self.max_size_mb is not None and self.max_size_mb <= 0:
            problems.append(f"max_size_mb: {self.max_size_mb:g} is not a positive number of megabytes")
        # Each example is asked of two signatures at most.
        if not 0 <= self.warmup_requests <= warmup.MOST // 2:
            problems.append(f"warmup_requests: {self.warmup_requests} is not between 0 and {warmup.MOST // 2} examples")
        if problems:
            raise ConfigError(*problems)

    def run(
        self,
        model: Model,
        blessing: Blessing | None = None,
        evaluation: Evaluation | None = None,
        examples: Examples | None = None,
        infra_blessing: InfraBlessing | None = None,
        statistics: IfOnlyOne[Statistics] = None,
        *,
        lineage: Lineage,
        scratch: Scratch,
        pushed_model: Out[PushedModel],
    ) -> None:
        """Push `model`, and remember in `pushed_model` which version it became.

        Repeated after a kill, it finds what the killed attempt published and does not publish it twice. Raises NotBlessed;
        ArtifactError for a model that cannot be served; ConfigError for a models_config that cannot be read; StoreError
        when the destination cannot be written. After any of them the destination serves what it served before.
        """
        digest = lineage.inputs.get("model", {}).get("digest") or content_digest(digests(model.serving))
        destination = self._destination
        self._require_blessing(blessing, infra_blessing, lineage)
        verdict = self._own_verdict(model, [blessing, infra_blessing], digest)
        self._protected(destination)
        version = _published_before(scratch, destination, digest)
        if version is None:
            gates = (*passports.gates(blessing, evaluation, infra_blessing, lineage), {"gate": "size", **verdict})
            requests, extra = self._warmup(model, examples, infra_blessing, scratch)
            version = self._publish(
                model, gates, evaluation, requests, extra | _kept(statistics), lineage, scratch, digest
            )
        destination.retire(self.keep, self._protected(destination))
        pushed_model.write(destination.location, version, digest)

    def served(self) -> tuple[int, Passport | None, Location] | None:
        """What a server of `destination` serves now: (version, its passport if it has one, its location), or None."""
        destination = self._destination
        version = destination.served()
        if version is None:
            return None
        return version, destination.passport(version), destination.location / str(version)

    def holds(self, pushed: PushedModel) -> bool:
        """Whether a pushed version is still in `destination`, with every file it was pushed with."""
        path, destination = pushed.version_path, self._destination
        if path.parent != destination.location or not destination.has(path.name, [versions.MODEL]):
            return False
        passport = destination.passport(path.name)
        if passport is None or passport.model_digest != json.loads(_text(pushed.path / "pushed.json"))["model_digest"]:
            return False
        return destination.has(path.name, passport.files)

    @property
    def _destination(self) -> Destination:
        return destinations.at(parse(self.destination).absolute())

    def _require_blessing(
        self, blessing: Blessing | None, infra_blessing: InfraBlessing | None, lineage: Lineage
    ) -> None:
        if blessing is None and self.require_blessing:
            raise ConfigError(
                "require_blessing: no Evaluator's blessing is wired to this Pusher. Add an Evaluator with thresholds, "
                "or set require_blessing: false to push models that nobody judged"
            )
        verdicts: dict[str, Verdict | None] = {"blessing": blessing, "infra_blessing": infra_blessing}
        wired = {port: verdict for port, verdict in verdicts.items() if verdict is not None}
        against = [verdict for verdict in wired.values() if not verdict.blessed]
        if against:
            reasons = [reason for one in against for reason in one.reasons or ("whoever judged it left no reason",)]
            servable = infra_blessing is None or infra_blessing.servable
            raise self._refused(tuple(reasons), servable=servable)
        for port in wired:
            judged, pushed = _judged_digest(port, lineage), lineage.inputs.get("model", {}).get("digest")
            if judged and pushed and judged != pushed:
                raise NotBlessed(
                    f"the {port} is of another model ({judged}) than the one to push ({pushed}). "
                    f"Wire this Pusher's model and {port} to the same model's steps"
                )

    def _own_verdict(self, model: Model, verdicts: Iterable[Verdict | None], digest: str) -> dict[str, Any]:
        """What this step itself asks of a model, for the passport. Raises NotBlessed unless somebody blessed it anyway."""
        size = publication.size(model.serving)
        anyway = next((one.anyway for one in verdicts if one is not None and one.anyway), None)
        reasons = []
        if self.max_size_mb is not None and size > self.max_size_mb * 1e6:
            reasons.append(f"size {size / 1e6:,.3f} MB of the SavedModel is above max_size_mb {self.max_size_mb:g}")
        served = self.served()
        rollback = served[1].rollback if served and served[1] else None
        if served and rollback and digest in rollback["withdrawn"]:
            reasons.append(
                f"this very model was withdrawn from {self.destination} by {rollback['by']}, who rolled back to version "
                f"{rollback['to']} (now {served[0]})"
            )
        if reasons and not anyway:
            raise self._refused(tuple(reasons))
        verdict = {"blessed": True, "reasons": reasons, "size_bytes": size, "max_size_mb": self.max_size_mb}
        return verdict | ({"anyway": dict(anyway)} if anyway and reasons else {})

    def _refused(self, reasons: tuple[str, ...], *, servable: bool = True) -> NotBlessed:
        todo = (
            "Improve the model, or change the thresholds it misses."
            if servable
            else "A server could not serve it, which --bless-anyway does not change: improve the model."
        )
        return NotBlessed(
            "the model is not blessed and is not pushed:\n"
            + "\n".join(f"  {reason}" for reason in reasons)
            + f"\n{todo} {self.destination} serves what it served before."
        )

    def _protected(self, destination: Destination) -> set[int]:
        return destination.protected_by(Path(self.models_config)) if self.models_config is not None else set()

    def _publish(
        self,
        model: Model,
        gates: tuple[Mapping[str, Any], ...],
        evaluation: Evaluation | None,
        requests: int,
        extra: Mapping[str, bytes],
        lineage: Lineage,
        scratch: Scratch,
        digest: str,
    ) -> int:
        destination = self._destination
        slices = passports.slices(evaluation)
        return destination.publish(
            model.serving,
            lambda version, files: passports.make(version, digest, files, gates, slices, requests, evaluation, lineage),
            extra=extra,
            before=lambda version: _note_attempt(scratch, destination.location, version),
        )

    def _warmup(
        self, model: Model, examples: Examples | None, infra_blessing: InfraBlessing | None, scratch: Scratch
    ) -> tuple[int, dict[str, bytes]]:
        """(how many requests the version has, the file to add to the model's). The model has been loaded then, here or before."""
        own = model.serving / warmup.FILE
        made = infra_blessing.requests if infra_blessing is not None else None
        if made is not None and not own.is_file() and self.warmup_requests:
            return warmup.count(made), {warmup.FILE: made.read_bytes()}
        loaded = saved_model.load(model.serving)
        if own.is_file():
            return warmup.replay(loaded, own), {}
        if examples is None or self.warmup_requests == 0:
            return 0, {}
        file = scratch.path / "warmup_requests"
        name = self._destination.location.name
        requests = warmup.write(loaded, name, examples, self.warmup_requests, file)
        return requests, {warmup.FILE: file.read_bytes()} if requests else {}


def _kept(statistics: Statistics | None) -> dict[str, bytes]:
    """The files by which a version keeps the statistics of every split, by relative path."""
    if statistics is None:
        return {}
    return {
        f"{STATISTICS}/{split}/{Statistics.FILE}": statistics.file(split).read_bytes() for split in statistics.splits
    }


def _judged_digest(port: str, lineage: Lineage) -> str | None:
    """The digest of the model that the verdict at `port` is about, as far as the lineage tells."""
    step = lineage.inputs.get(port, {}).get("step", "")
    ports: Mapping[str, Any] = lineage.steps.get(step, {}).get("inputs", {})
    judged = (
        [ports["model"]] if "model" in ports else ports.values()
    )  # TFX's Evaluator takes the baseline as an input too
    return next((record.get("digest") for record in judged if record.get("type") == Model.TYPE_NAME), None)


def _note_attempt(scratch: Scratch, destination: Location, version: int) -> None:
    scratch.path.mkdir(parents=True, exist_ok=True)
    attempt = {"destination": str(destination), "version": version}
    (scratch.path / _ATTEMPT).write_text(json.dumps(attempt) + "\n", encoding="utf-8")


def _published_before(scratch: Scratch, destination: Destination, digest: str) -> int | None:
    """The version that a killed attempt at this very push published; None when it did not come so far."""
    try:
        attempt = json.loads(_text(scratch.path / _ATTEMPT))
        version = int(attempt["version"])
    except (OSError, ValueError, KeyError, TypeError):
        return None  # no attempt, or one that was killed while it wrote this down and so before it published
    if attempt.get("destination") != str(destination.location) or not destination.has(version, [versions.MODEL]):
        return None
    passport = destination.passport(version)
    return version if passport is not None and passport.model_digest == digest else None


def _text(file: Path) -> str:
    return file.read_text(encoding="utf-8")
