"""Model x Blessing -> PushedModel: a new numbered version in a serving directory, whole or not at all."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from components.io import saved_model
from components.release import versions
from components.release.publication import publish
from schemas.artifacts import Blessing, Evaluation, Model, PushedModel
from schemas.component import Lineage, Out, Scratch
from schemas.errors import ConfigError, NotBlessed
from schemas.passport import Passport

_ATTEMPT = "push.json"  # in the scratch directory: the version that an attempt was about to publish


@dataclass(frozen=True, kw_only=True)
class Pusher:
    """Model x Blessing -> PushedModel: a new numbered version in a serving directory, whole or not at all.

    A server that watches `destination` sees the version appear complete, by one rename, after every byte of it is on
    disk. Version numbers are seconds since the epoch and only grow, also past versions that were removed. Several pushers
    may work at once; each gets a number of its own. The version carries a passport (schemas/passport.py).

    A model whose blessing says no is never pushed. One that no Evaluator judged is pushed only with
    `require_blessing: false`.
    """

    destination: str  # the serving directory, relative to the working directory
    require_blessing: bool = True

    def __post_init__(self) -> None:
        if not self.destination.strip():
            raise ConfigError("destination: is empty. Name the directory to serve from, for example serving/taxi")

    def run(
        self,
        model: Model,
        blessing: Blessing | None = None,
        evaluation: Evaluation | None = None,
        *,
        lineage: Lineage,
        scratch: Scratch,
        pushed_model: Out[PushedModel],
    ) -> None:
        """Push `model`, and remember in `pushed_model` which version it became.

        Repeated after a kill, it finds what the killed attempt published and does not publish it twice. Raises NotBlessed;
        ArtifactError for a model that cannot be served; StoreError when the destination cannot be written. After any of
        them the destination serves what it served before.
        """
        self._require_blessing(blessing, lineage)
        digest = lineage.inputs.get("model", {}).get("digest") or _content_digest(model.serving)
        destination = Path(self.destination).absolute()
        version = _published_before(scratch, destination, digest)
        if version is None:
            saved_model.load(model.serving)
            version = publish(
                model.serving,
                destination,
                lambda number, files: _passport(number, digest, files, blessing, evaluation, lineage),
                before=lambda number: _note_attempt(scratch, destination, number),
            )
        pushed_model.write(destination, version, digest)

    def served(self) -> tuple[int, Passport | None, Path] | None:
        """What a server of `destination` serves now: (version, its passport if it has one, its directory), or None."""
        path = versions.served(Path(self.destination).absolute())
        return None if path is None else (int(path.name), Passport.read(path), path)

    def holds(self, pushed: PushedModel) -> bool:
        """Whether a pushed version is still in `destination`, with every file it was pushed with."""
        path = pushed.version_path
        if path.parent != Path(self.destination).absolute() or not saved_model.exists(path):
            return False
        passport = Passport.read(path)
        if passport is None or passport.model_digest != json.loads(_text(pushed.path / "pushed.json"))["model_digest"]:
            return False
        return all((path / file).is_file() for file in passport.files)

    def _require_blessing(self, blessing: Blessing | None, lineage: Lineage) -> None:
        if blessing is None:
            if self.require_blessing:
                raise ConfigError(
                    "require_blessing: no Evaluator's blessing is wired to this Pusher. Add an Evaluator with thresholds, "
                    "or set require_blessing: false to push models that nobody judged"
                )
            return
        if not blessing.blessed:
            reasons = blessing.reasons or ("whoever judged it left no reason",)
            raise NotBlessed(
                "the model is not blessed and is not pushed:\n"
                + "\n".join(f"  {reason}" for reason in reasons)
                + f"\nImprove the model, or change the thresholds it misses. {self.destination} serves what it served before."
            )
        judged, pushed = _judged_digest(lineage), lineage.inputs.get("model", {}).get("digest")
        if judged and pushed and judged != pushed:
            raise NotBlessed(
                f"the blessing is of another model ({judged}) than the one to push ({pushed}). "
                f"Wire this Pusher's model and blessing to the same model's steps"
            )


def _passport(
    version: int,
    digest: str,
    files: Mapping[str, str],
    blessing: Blessing | None,
    evaluation: Evaluation | None,
    lineage: Lineage,
) -> Passport:
    judged = dict(evaluation.properties) if evaluation is not None else {}
    metrics = judged.pop("metrics", {})
    gates: list[dict[str, Any]] = []
    if blessing is not None:
        name = lineage.inputs.get("blessing", {}).get("step", "evaluator")
        gates.append({"gate": name, "blessed": True, "reasons": [], **blessing.properties, **judged})
    baseline = lineage.baseline
    return Passport(
        pipeline=lineage.pipeline,
        run=lineage.run,
        graph_digest=lineage.graph_digest,
        git_commit=lineage.git_commit,
        pushed_at=datetime.now(UTC).isoformat(timespec="seconds"),
        version=version,
        model_digest=digest,
        files=files,
        baseline=None if baseline.version is None else {"version": baseline.version, "digest": baseline.digest},
        metrics=metrics,
        gates=tuple(gates),
        steps=dict(lineage.steps),
        libraries=dict(lineage.libraries),
    )


def _judged_digest(lineage: Lineage) -> str | None:
    """The digest of the model that the blessing is about, as far as the lineage tells."""
    step = lineage.inputs.get("blessing", {}).get("step", "")
    ports: Mapping[str, Any] = lineage.steps.get(step, {}).get("inputs", {})
    return next((record.get("digest") for record in ports.values() if record.get("type") == Model.TYPE_NAME), None)


def _content_digest(directory: Path) -> str:
    """What stands for the Model artifact's digest where no framework gives one: its files' names and contents."""
    digest = hashlib.sha256()
    for file in sorted(file for file in directory.rglob("*") if file.is_file()):
        with file.open("rb") as opened:
            content = hashlib.file_digest(opened, "sha256").hexdigest()
        digest.update(f"{file.relative_to(directory).as_posix()}\0{content}\n".encode())
    return f"sha256:{digest.hexdigest()}"


def _note_attempt(scratch: Scratch, destination: Path, version: int) -> None:
    scratch.path.mkdir(parents=True, exist_ok=True)
    attempt = {"destination": str(destination), "version": version}
    (scratch.path / _ATTEMPT).write_text(json.dumps(attempt) + "\n", encoding="utf-8")


def _published_before(scratch: Scratch, destination: Path, digest: str) -> int | None:
    """The version that a killed attempt at this very push published; None when it did not come so far."""
    try:
        attempt = json.loads(_text(scratch.path / _ATTEMPT))
        version = int(attempt["version"])
    except (OSError, ValueError, KeyError, TypeError):
        return None  # no attempt, or one that was killed while it wrote this down and so before it published
    if attempt.get("destination") != str(destination):
        return None
    passport = Passport.read(destination / str(version))
    return version if passport is not None and passport.model_digest == digest else None


def _text(file: Path) -> str:
    return file.read_text(encoding="utf-8")
