"""What an execution says of itself: its manifest, and the digests of what it made."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from schemas.errors import ArtifactError

FORMAT = 1


@dataclass(frozen=True)
class FileDigest:
    """One file of an artifact."""

    bytes: int
    sha256: str  # hex

    def to_json(self) -> list[Any]:
        """[bytes, sha256], since a model may have thousands of files."""
        return [self.bytes, self.sha256]

    @classmethod
    def from_json(cls, found: Any) -> FileDigest:
        """Read back what `to_json` gave."""
        size, sha256 = found
        return cls(int(size), str(sha256))


@dataclass(frozen=True)
class ArtifactRecord:
    """One output of an execution: its type's name, its content, and what the step said of it."""

    type: str
    digest: str  # of the content alone: equal files, equal digest
    properties: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, FileDigest] = field(default_factory=dict)  # by path relative to the output's directory

    @property
    def bytes(self) -> int:
        """How much it takes on disk."""
        return sum(file.bytes for file in self.files.values())

    def to_json(self) -> dict[str, Any]:
        """As JSON data."""
        return {
            "type": self.type,
            "digest": self.digest,
            "properties": dict(self.properties),
            "files": {path: file.to_json() for path, file in self.files.items()},
        }

    @classmethod
    def from_json(cls, found: Any) -> ArtifactRecord:
        """Read back what `to_json` gave."""
        files = {str(path): FileDigest.from_json(file) for path, file in found["files"].items()}
        return cls(str(found["type"]), str(found["digest"]), dict(found["properties"]), files)


@dataclass(frozen=True)
class InputRecord:
    """What an input port was connected to: output `output` of execution (`step`, `key`)."""

    step: str
    key: str
    output: str
    type: str
    digest: str

    def to_json(self) -> dict[str, Any]:
        """As JSON data."""
        return {
            "step": self.step,
            "key": self.key,
            "output": self.output,
            "type": self.type,
            "digest": self.digest,
        }

    @classmethod
    def from_json(cls, found: Any) -> InputRecord:
        """Read back what `to_json` gave."""
        return cls(*(str(found[name]) for name in ("step", "key", "output", "type", "digest")))


@dataclass(frozen=True)
class RefusalRecord:
    """A gate said no, with outputs worth keeping: the class of the error and its message.

    `action` is `refused`, or `no need` where the step found that what comes after is not needed.
    """

    error: str
    message: str
    action: Literal["refused", "no need"] = "refused"

    def to_json(self) -> dict[str, Any]:
        """As JSON data."""
        return {"error": self.error, "message": self.message, "action": self.action}

    @classmethod
    def from_json(cls, found: Any) -> RefusalRecord:
        """Read back what `to_json` gave."""
        return cls(
            str(found["error"]),
            str(found["message"]),
            "no need" if found.get("action") == "no need" else "refused",
        )


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What one execution says of itself, in `manifest.json` beside its outputs."""

    step: str
    key: str  # hex sha256 of everything the outputs depend on
    key_parts: Mapping[str, Any] = field(default_factory=dict)  # what went into the key, so that a change can be named
    component: str  # dotted path
    pipeline: str
    run: str  # id of the run that made it
    created_at: str  # ISO 8601, UTC
    seconds: float  # how long the step took
    inputs: Mapping[str, InputRecord] = field(default_factory=dict)  # by port
    outputs: Mapping[str, ArtifactRecord] = field(default_factory=dict)  # by port
    refusal: RefusalRecord | None = None
    peak_bytes: int | None = None  # the most memory the step's process held at once; None where nobody looked
    parts: tuple[str, ...] = ()  # names of the directories under `parts/` that were used, or kept for later executions
    format: int = FORMAT

    def to_json(self) -> dict[str, Any]:
        """As JSON data."""
        return {
            "format": self.format,
            "step": self.step,
            "key": self.key,
            "key_parts": dict(self.key_parts),
            "component": self.component,
            "pipeline": self.pipeline,
            "run": self.run,
            "created_at": self.created_at,
            "seconds": self.seconds,
            "peak_bytes": self.peak_bytes,
            "parts": list(self.parts),
            "inputs": {port: record.to_json() for port, record in self.inputs.items()},
            "outputs": {port: record.to_json() for port, record in self.outputs.items()},
            "refusal": None if self.refusal is None else self.refusal.to_json(),
        }

    @classmethod
    def from_json(cls, found: Any) -> Manifest:
        """Read back what `to_json` gave. Raises KeyError, TypeError, ValueError or AttributeError for anything else."""
        if found["format"] > FORMAT:
            raise ValueError(f"it has format {found['format']} and this Penstock reads up to {FORMAT}")
        return cls(
            format=int(found["format"]),
            step=str(found["step"]),
            key=str(found["key"]),
            key_parts=dict(found["key_parts"]),
            component=str(found["component"]),
            pipeline=str(found["pipeline"]),
            run=str(found["run"]),
            created_at=str(found["created_at"]),
            seconds=float(found["seconds"]),
            peak_bytes=None if found.get("peak_bytes") is None else int(found["peak_bytes"]),
            parts=tuple(str(name) for name in found.get("parts", ())),
            inputs={str(port): InputRecord.from_json(record) for port, record in found["inputs"].items()},
            outputs={str(port): ArtifactRecord.from_json(record) for port, record in found["outputs"].items()},
            refusal=None if found["refusal"] is None else RefusalRecord.from_json(found["refusal"]),
        )


def digest_tree(root: Path) -> tuple[str, dict[str, FileDigest]]:
    """The digest of a directory's content, "sha256:...", and that of each file by its relative path.

    Names, content and empty directories count; modes and times do not. A symbolic link counts as the file it points to.
    Raises ArtifactError for what would not survive a rename or a copy: a link that is absolute, points outside or at
    nothing, a pipe, a socket, a device.
    """
    files: dict[str, FileDigest] = {}
    total = hashlib.sha256()
    real_root = root.resolve()
    for relative, path in sorted(_leaves(root, "")):
        if path.is_symlink():
            _check_link(path, relative, real_root)
        if path.is_file():
            with path.open("rb") as content:
                sha256 = hashlib.file_digest(content, "sha256").hexdigest()
                files[relative] = FileDigest(os.fstat(content.fileno()).st_size, sha256)
            entry = f"file\0{relative}\0{sha256}\n"
        elif path.is_symlink():  # to a directory: not followed, it could lead in circles
            entry = f"link\0{relative}\0{path.readlink()}\n"
        elif path.is_dir():
            entry = f"empty\0{relative}\n"
        else:
            raise ArtifactError(f"{relative} is neither a file nor a directory: a pipe, socket or device is not kept")
        total.update(entry.encode("utf-8", "surrogateescape"))
    return f"sha256:{total.hexdigest()}", files


def _leaves(directory: Path, prefix: str) -> Iterator[tuple[str, Path]]:
    """Everything under a directory but the directories that have something in them, by path relative to it."""
    with os.scandir(directory) as found:
        entries = list(found)
    if prefix and not entries:
        yield prefix.removesuffix("/"), directory
    for entry in entries:
        relative = prefix + entry.name
        if entry.is_dir(follow_symlinks=False):
            yield from _leaves(Path(entry.path), relative + "/")
        else:
            yield relative, Path(entry.path)


def _check_link(path: Path, relative: str, real_root: Path) -> None:
    link = path.readlink()
    if link.is_absolute() or not path.resolve().is_relative_to(real_root):
        raise ArtifactError(f"{relative} is a link to {link}, outside the artifact: copy what it points to instead")
    if not path.exists():
        raise ArtifactError(f"{relative} is a link to {link}, and there is nothing")
