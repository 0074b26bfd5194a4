"""Passport: what a pushed model says of itself, in `assets.extra/passport.json` inside its version directory."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from schemas.errors import ArtifactError


@dataclass(frozen=True, kw_only=True)
class Passport:
    """The lineage of one pushed model. Everything in it is JSON data.

    `model_digest` is the digest of the Model artifact in the store, `files` maps every file of the version directory but
    the passport itself to its sha256 in hexadecimal. `baseline` is {"version", "digest"} of the model this one was compared
    with, None for the first. `metrics` are the candidate's overall metrics, `slices` those of each slice: {"slice",
    "examples", "metrics"}, and "intervals" where there are confidence intervals. `gates` are the verdicts, one for each step
    that judged data or model: {"gate": its id, "blessed", "reasons", ...and that step's other properties}, with "anyway" where
    somebody overruled it (schemas/artifacts/blessing.py). `steps` are the ancestors as `Lineage` has them; the data's files
    with their digests and the hyperparameters are there. `warmup_requests` is how many a server replays when it loads this.

    `rollback` is None but for a version that `pipeline rollback` made: {"to", "from", "by", "withdrawn"}, of which `to` is the
    version that this one is a copy of, `from` the one that served until then, and `withdrawn` the digests of the models that
    were rolled back from, which are not pushed again. The rest is what the passport of `to` said, but for `version` and
    `pushed_at`.
    """

    FILE: ClassVar[str] = "assets.extra/passport.json"
    FORMAT: ClassVar[int] = 1

    format: int = FORMAT
    pipeline: str
    run: str
    graph_digest: str = ""
    git_commit: str | None = None
    pushed_at: str  # ISO 8601, UTC
    version: int
    model_digest: str
    files: Mapping[str, str]
    baseline: Mapping[str, Any] | None = None
    metrics: Mapping[str, Any] = field(default_factory=dict)
    slices: tuple[Mapping[str, Any], ...] = ()
    gates: tuple[Mapping[str, Any], ...] = ()
    steps: Mapping[str, Any] = field(default_factory=dict)
    libraries: Mapping[str, str] = field(default_factory=dict)
    warmup_requests: int = 0
    rollback: Mapping[str, Any] | None = None

    def write(self, version_directory: Path) -> Path:
        """Write the passport into a version directory that is being staged; gives the file."""
        file = version_directory / self.FILE
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(self.to_bytes())
        return file

    def to_bytes(self) -> bytes:
        """The content of a passport's file."""
        return (json.dumps(asdict(self), indent=1, sort_keys=True) + "\n").encode()

    @classmethod
    def read(cls, version_directory: Path) -> Passport | None:
        """The passport of a version; None when it has none (another tool pushed it). Raises ArtifactError when unreadable."""
        file = version_directory / cls.FILE
        return cls.parse(file.read_bytes(), str(file)) if file.is_file() else None

    @classmethod
    def parse(cls, content: bytes, file: str) -> Passport:
        """The passport in a file's content. Raises ArtifactError, naming `file`, when it is none."""
        try:
            found = json.loads(content.decode("utf-8"))
            known = {name: found[name] for name in cls.__dataclass_fields__ if name in found}
            known |= {name: tuple(known.get(name, ())) for name in ("gates", "slices")}
            passport = cls(**known)
            wrong = [name for name, kind in _KINDS.items() if not isinstance(getattr(passport, name), kind)]
            if wrong:
                raise TypeError(f"wrong type of {', '.join(wrong)}")
        except (ValueError, TypeError) as error:
            raise ArtifactError(
                f"{file}: not a passport ({error}). Remove the version's directory, or this file alone to have "
                f"the version taken for one that another tool pushed."
            ) from error
        if passport.format > cls.FORMAT:
            raise ArtifactError(
                f"{file}: written in format {passport.format} by a newer Penstock, which this one cannot read (format "
                f"{cls.FORMAT}). Update Penstock."
            )
        return passport


_KINDS: dict[str, type | tuple[type, ...]] = {
    "format": int,
    "version": int,
    "model_digest": str,
    "files": dict,
    "baseline": (dict, type(None)),
    "metrics": dict,
    "steps": dict,
    "rollback": (dict, type(None)),
}
"""What a reader relies on."""
