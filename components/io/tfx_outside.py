"""What a TFX executor writes outside its outputs: into its inputs, beside its outputs, or nowhere that anybody keeps."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from components.io.tfx_artifacts import properties_of
from schemas.artifact import Artifact
from schemas.artifacts import ModelRun
from schemas.errors import ArtifactError

_LISTED = 3  # files that a message names
_TODO = "Have the executor write below the uri that its output artifact comes with"

_State = dict[str, tuple[int, int] | None]  # by relative path, (bytes, mtime); None for a directory


@dataclass(frozen=True)
class Surroundings:
    """What lay around an executor before it ran. No file is read: what changes has another size or time. Inodes are not stable on every mount.

    Each input is locked, shared, until `restore`, which tells whether other steps took it at the same time; where locks do not hold, as
    on some mounts, nobody can tell.
    """

    inputs: Mapping[str, tuple[Path, _State]]
    beside: Mapping[Path, frozenset[str]]  # directory that outputs lie in: the names there
    working: frozenset[str]  # names in the working directory
    locks: dict[Path, int] = field(default_factory=dict)  # by directory, the descriptor that holds the lock

    @classmethod
    def of(cls, inputs: Mapping[str, Artifact], outputs: Mapping[str, Artifact]) -> Surroundings:
        locks = dict(_locked({found.path for found in inputs.values()}))
        return cls(
            {port: (found.path, _state(found.path)) for port, found in inputs.items()},
            {parent: _names(parent) for parent in {found.path.parent for found in outputs.values()}},
            _names(Path.cwd()),
            locks,
        )

    def restore(self) -> list[str]:
        """Take out of the inputs what is new there; one sentence for each input that is not as it was. What was kept there is not mended.

        Who wrote it is not known where another step takes the same input meanwhile: the sentence says so, but not of what a step
        that has ended by now may have changed.
        """
        problems = []
        for port, (path, before) in self.inputs.items():
            now = _state(path)
            new = sorted(now.keys() - before.keys())
            harmed = sorted(name for name, was in before.items() if name not in now or now[name] != was)
            during = "while this one ran"
            if (new or harmed) and self._is_shared(path):
                during += " and at least one other that takes it, any of which may have done it"
            for name in new:
                place = path / name
                if place.is_dir() and not place.is_symlink():
                    shutil.rmtree(place, ignore_errors=True)
                else:
                    place.unlink(missing_ok=True)
            if new:
                problems.append(
                    f"input '{port}' belongs to an earlier step, and {_listed(path / name for name in new)} appeared in it "
                    f"{during}; that was removed again. {_TODO}"
                )
            if harmed:
                problems.append(
                    f"input '{port}' belongs to an earlier step, and {_listed(path / name for name in harmed)} was changed or "
                    f"removed {during}, so that nobody can use it any more: run the earlier step again with --force. "
                    f"{_TODO}"
                )
        for descriptor in self.locks.values():
            os.close(descriptor)
        self.locks.clear()
        return problems

    def _is_shared(self, path: Path) -> bool:
        """Whether another step takes the input now. One that has ended has taken out what it had put there."""
        if path not in self.locks:
            return False
        try:
            fcntl.flock(self.locks[path], fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with contextlib.suppress(OSError):
                # The attempt has cost us our own lock, which tells the others that they are not alone while we clear up.
                fcntl.flock(self.locks[path], fcntl.LOCK_SH | fcntl.LOCK_NB)
            return True
        except OSError:
            return False
        return False

    def strays(self) -> list[str]:
        """A sentence for each directory of outputs in which something lies that is no output."""
        return [
            f"{_listed(parent / name for name in sorted(new))} was written beside the outputs, where nobody keeps it. {_TODO}"
            for parent, before in self.beside.items()
            if (new := _names(parent) - before)
        ]

    def empty(self, made: Mapping[str, tuple[Artifact, Any]]) -> list[str]:
        """A sentence for each of a user's outputs, with the artifact of TFX's that says of it, that holds neither files nor properties."""
        elsewhere = sorted(_names(Path.cwd()) - self.working)
        hint = f"; {_listed(elsewhere)} appeared in the working directory meanwhile" if elsewhere else ""
        return [
            f"output '{name}' is empty: its executor wrote nothing below {said.uri} and gave it no property{hint}. {_TODO}, "
            f"or, where there is nothing to keep, set a property that says so"
            for name, (found, said) in made.items()
            if not isinstance(found, ModelRun) and not _names(found.path) and not properties_of(said)
        ]


def is_tfx_s(executor: type[Any]) -> bool:
    """Whether an executor is one of TFX's own components', or goes on from one: those leave outputs empty at times."""
    return any(base.__module__.startswith(("tfx.components.", "tfx.extensions.")) for base in executor.__mro__)


def raise_together(problems: Iterable[str]) -> None:
    """Raise ArtifactError with every sentence; nothing where there is none."""
    found = list(problems)
    if found:
        raise ArtifactError("\n".join(found))


def _locked(directories: Iterable[Path]) -> Iterator[tuple[Path, int]]:
    """(directory, the descriptor that holds a shared lock on it) of those that can be locked."""
    for directory in directories:
        with contextlib.suppress(OSError):
            descriptor = os.open(directory, os.O_RDONLY)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_SH)
            except OSError:
                os.close(descriptor)
                raise
            yield directory, descriptor


def _state(path: Path) -> _State:
    found: _State = {}
    for directory, directories, files in os.walk(path):
        base = Path(directory)
        found.update({str((base / name).relative_to(path)): None for name in directories})
        for name in files:
            status = (base / name).lstat()
            found[str((base / name).relative_to(path))] = (status.st_size, status.st_mtime_ns)
    return found


def _names(directory: Path) -> frozenset[str]:
    return frozenset(path.name for path in directory.iterdir()) if directory.is_dir() else frozenset()


def _listed(paths: Iterable[Path | str]) -> str:
    names = [str(path) for path in paths]
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more
