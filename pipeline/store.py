"""The store: a directory of finished executions, each published whole by one rename.

    <root>/
      store/<step>/<key>/           one execution: manifest.json and one directory per output
      staging/<step>-<key>-<random>/   an execution that is being made, with its owner's lock
      parts/<scope>-<name>/         what executions made of parts of their input, for later ones (see pipeline.parts)
      digests/                      of input files that have not changed since (see pipeline.remembered_digests)
      scratch/<step>/<key>/         checkpoints and trials of an execution that is not published yet
      runs/<run id>/                run.json and its lock, <step>.order.json, <step>.log
      triggers/, backfills/         what these commands did before, by pipeline (see pipeline.attempts, pipeline.backfill)
      locks/                        who works on what, and who uses what
      ledger.sqlite                 an index of all this, which can be made again from it

What is under `store/` and `parts/` is complete or not there: a process killed at any moment leaves at most a directory in `staging/`, which
the next run removes once its owner is provably dead.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from pipeline import disk, locks, staging
from pipeline.manifest import ArtifactRecord, FileDigest, InputRecord, Manifest, RefusalRecord, digest_tree
from schemas.errors import ArtifactError, StoreError

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Execution:
    """A published execution: its directory and its manifest."""

    path: Path
    manifest: Manifest

    @property
    def step(self) -> str:
        """The step's id."""
        return self.manifest.step

    @property
    def key(self) -> str:
        """The step's key, 64 hex digits."""
        return self.manifest.key

    def output(self, port: str) -> Path:
        """The directory of one output."""
        return self.path / port


class Store:
    """The executions under one root. Making a Store touches nothing; reading an absent root finds nothing.

    Everything that writes raises StoreError, naming the path, the cause and the free space, when it cannot.
    """

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root).absolute()  # what is reported must still be right after a change of directory

    def open(self) -> Store:
        """Make the root's directories and check that they can be written."""
        for name in ("store", "parts", "digests", "staging", "scratch", "locks", "runs"):
            directory = self._made(self.root / name)
            if not os.access(directory, os.W_OK | os.X_OK):
                code = errno.EROFS if os.statvfs(directory).f_flag & os.ST_RDONLY else errno.EACCES
                raise disk.store_error(OSError(code, os.strerror(code)), directory)
        return self

    # Reading

    def find(self, step: str, key: str) -> Execution | None:
        """The execution of `step` with `key`, None when there is none.

        Cheap: every file must be there with its recorded size, but no content is read (`verify` does). Raises ArtifactError,
        saying what differs and how to rebuild it, when a published execution is not what was published.
        """
        directory = self.directory(step, key)
        if not directory.is_dir():
            return None
        try:
            execution = _read(directory)
        except FileNotFoundError:
            if not directory.is_dir():
                return None  # removed since we looked
            raise _corrupt(step, directory, f"it has no {MANIFEST}") from None
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise _corrupt(step, directory, f"its {MANIFEST} is not readable: {_said(error)}") from error
        if (execution.step, execution.key) != (step, key):
            raise _corrupt(step, directory, f"its {MANIFEST} is that of {execution.step} {execution.key}")
        for port, record in execution.manifest.outputs.items():
            if not execution.output(port).is_dir():
                raise _corrupt(f"{step}.{port}", directory, f"there is no directory {port}/")
            for path, file in record.files.items():
                _check_size(execution, port, path, file)
        return execution

    def verify(self, execution: Execution, *ports: str) -> None:
        """Read every byte of some outputs of an execution, or of all when none is named.

        Raises ArtifactError naming the file when its content is not what was published.
        """
        for port in ports or execution.manifest.outputs:
            record = execution.manifest.outputs[port]
            for path, file in record.files.items():
                _check_size(execution, port, path, file)
            what = f"{execution.step}.{port}"
            try:
                digest, files = digest_tree(execution.output(port))
            except ArtifactError as error:
                raise _corrupt(what, execution.path, f"in {port}/, {error}") from error
            if digest == record.digest:
                continue
            for path in sorted(set(files) | set(record.files)):
                if path not in record.files:
                    raise _corrupt(what, execution.path, f"{port}/{path} was not there when it was published")
                if files[path] != record.files[path]:
                    raise _corrupt(
                        what,
                        execution.path,
                        f"{port}/{path} has sha256 {files[path].sha256}, its manifest says {record.files[path].sha256}",
                    )
            raise _corrupt(what, execution.path, f"{port}/ has digest {digest}, its manifest says {record.digest}")

    def latest(self, step: str, pipeline: str) -> Manifest | None:
        """The manifest of the newest execution of `step`, whatever its key, that `pipeline` made; None when there is none.

        Several pipelines may share a root, and call their steps alike.
        """
        manifests = (execution.manifest for execution in self.executions_of(step))
        return max(
            (manifest for manifest in manifests if manifest.pipeline == pipeline),
            key=lambda manifest: manifest.created_at,
            default=None,
        )

    def executions(self) -> list[Execution]:
        """All executions with a readable manifest, oldest first."""
        found = [e for step in disk.directories(self.root / "store") for e in self._of(step)]
        return sorted(found, key=lambda e: (e.manifest.created_at, e.step, e.key))

    def executions_of(self, step: str) -> list[Execution]:
        """The executions of one step with a readable manifest, by their keys."""
        return list(self._of(self.root / "store" / step))

    def _of(self, step_directory: Path) -> Iterator[Execution]:
        for directory in disk.directories(step_directory):
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
                yield _read(directory)

    # Making

    def stage(self, step: str, key: str, *, run: str = "") -> Staging:
        """A context in which an execution is made and published; what is not published by its end is removed."""
        return Staging(self, step, key, run=run)

    @contextlib.contextmanager
    def execution_lock(
        self, step: str, key: str, on_wait: Callable[[str], None] | None = None, *, run: str = ""
    ) -> Iterator[None]:
        """Work on one execution alone, waiting while another run does. Look again with `find` once inside.

        `on_wait` is called once when there is somebody to wait for, with a sentence that names the process and its run.
        """
        path = self.lock_path(step, key)

        def waits(holder: str) -> None:
            if on_wait is not None:
                on_wait(f"{holder} is making the same {step}")

        with contextlib.ExitStack() as held:
            with disk.writing(path):
                held.enter_context(locks.locked(path, f"run {run}" if run else "", waits))
            yield

    @contextlib.contextmanager
    def in_use(self, step: str, key: str) -> Iterator[None]:
        """Keep `collect` from removing an execution, in this or any other process, for as long as the context lasts.

        Take it before `find`, and hold it until nothing of this run reads the outputs any more.
        """
        path = self.use_path(step, key)
        with contextlib.ExitStack() as held:
            with disk.writing(path):
                held.enter_context(locks.shared(path))
            yield

    def scratch(self, step: str, key: str) -> Path:
        """The directory that outlives a killed attempt at this execution. Made when it is not there."""
        return self._made(self.root / "scratch" / step / key)

    def drop_scratch(self, step: str, key: str) -> None:
        """Remove it, once the execution is published."""
        disk.remove_tree(self.root / "scratch" / step / key)
        with contextlib.suppress(OSError):  # another key of this step has its scratch there
            (self.root / "scratch" / step).rmdir()

    def discard(self, step: str, key: str) -> None:
        """Remove what is published of a step and key, corrupt or not. It is gone for every reader at once, never half there."""
        path = self.directory(step, key)
        with Staging(self, step, key) as made, disk.writing(path), contextlib.suppress(FileNotFoundError):
            path.rename(made.execution_path.parent / "discarded")
            disk.fsync_directory(path.parent)

    def remove_dead_staging(self, ended: tuple[str, str] | None = None) -> list[Path]:
        """Remove what killed processes left in `staging/`; gives the directories.

        Another host's are left alone, but for those of the (run, step) in `ended`: say so only where nothing can be at work
        on it any more, as in a task of Kubeflow's, which starts an attempt when the one before has ended.
        """
        removed = []
        for directory in disk.directories(self.root / "staging"):
            with staging.is_dead(directory, ended) as dead:
                if dead:
                    staging.remove(directory)
                    removed.append(directory)
        return removed

    # Runs

    def run_directory(self, run: str) -> Path:
        """Where a run's record, orders and logs are. Made when it is not there."""
        return self._made(self.root / "runs" / run)

    def order_path(self, run: str, step: str) -> Path:
        """What the step of a run was told to do, as JSON; `pipeline step` does it again."""
        return self.run_directory(run) / f"{step}.order.json"

    def log_path(self, run: str, step: str) -> Path:
        """Everything that the engines under a step of a run said."""
        return self.run_directory(run) / f"{step}.log"

    def write_run(self, run: str, record: Mapping[str, Any]) -> Path:
        """Write `runs/<run>/run.json` whole: a reader finds the one before or this one."""
        path = self.run_directory(run) / "run.json"
        with disk.writing(path):
            disk.write_atomically(path, record)
        return path

    def run_records(self, only: Collection[str] | None = None) -> dict[str, dict[str, Any]]:
        """What `write_run` wrote, by run id, in the order of the ids; only of some, if asked. Unreadable records are left out."""
        records = {}
        for directory in disk.directories(self.root / "runs"):
            if only is not None and directory.name not in only:
                continue
            with contextlib.suppress(OSError, ValueError):
                record = json.loads((directory / "run.json").read_bytes())
                if isinstance(record, dict):
                    records[directory.name] = record
        return records

    # Paths

    def directory(self, step: str, key: str) -> Path:
        """Where an execution is, or will be, published."""
        return self.root / "store" / step / key

    def lock_path(self, step: str, key: str) -> Path:
        """The lock of who makes an execution."""
        return self._made(self.root / "locks") / f"{step}-{key}.lock"

    def use_path(self, step: str, key: str) -> Path:
        """The lock that those who use an execution share."""
        return self._made(self.root / "locks") / f"{step}-{key}.use"

    def _made(self, directory: Path) -> Path:
        with disk.writing(directory):
            directory.mkdir(parents=True, exist_ok=True)
        return directory


class Staging:
    """An execution that is being made, in a directory of its own that holds its owner's lock.

    staging/<step>-<key>-<random>/
      owner.json    who makes it; locked for as long as that process lives
      execution/    what publish renames to store/<step>/<key>
    """

    def __init__(self, store: Store, step: str, key: str, *, run: str = "") -> None:
        self.step = step
        self.key = key
        self.run = run
        self._store = store
        self._pid = os.getpid()
        self._directory: Path | None = None
        self._lock: int | None = None

    def __enter__(self) -> Staging:
        self._pid = os.getpid()
        with disk.writing(self._store.root / "staging"):
            self._directory, self._lock = staging.make(
                self._store.root, f"{self.step}-{self.key[:12]}", step=self.step, run=self.run
            )
            try:
                self.execution_path.mkdir()
            except BaseException:
                self._remove()
                raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if os.getpid() == self._pid:  # a forked child that leaves its parent's context removes nothing
            self._remove()

    def _remove(self) -> None:
        if self._directory is None or self._lock is None:
            return
        try:
            # What cannot be removed now (something still writes there) is a dead owner's soon. Whether the execution was
            # published, or what went wrong in the block, is what the caller must hear of.
            with contextlib.suppress(StoreError):
                staging.remove(self._directory)
        finally:
            os.close(self._lock)
            self._directory = self._lock = None

    @property
    def execution_path(self) -> Path:
        """The directory that will be published."""
        if self._directory is None:
            raise RuntimeError("a staging exists between `with store.stage(...)` and the end of that block")
        return self._directory / "execution"

    def output(self, port: str) -> Path:
        """The directory of one output, made empty when it is not there."""
        path = self.execution_path / port
        with disk.writing(path):
            path.mkdir(exist_ok=True)
        return path

    def publish(
        self,
        *,
        component: str,
        pipeline: str,
        run: str,
        seconds: float,
        key_parts: Mapping[str, Any],
        inputs: Mapping[str, InputRecord],
        outputs: Mapping[str, tuple[str, Mapping[str, Any]]],
        refusal: RefusalRecord | None = None,
        peak_bytes: int | None = None,
        parts: Collection[str] = (),
        replace: bool = False,
    ) -> Execution:
        """Make what was staged the execution of this step and key, all of it at once; gives what is published now.

        `outputs` maps each port to (type name, properties); `parts` names what was used or kept under `parts/`. When another run published the same key meanwhile, theirs is
        given and ours dropped; with `replace` (--force) ours takes its place. Everything is on disk, not only in memory,
        before it can be found. Raises ArtifactError for an output that is not there or cannot be recorded.
        """
        staged = self.execution_path
        records = {}
        for port, (type_name, properties) in outputs.items():
            if not (staged / port).is_dir():
                raise ArtifactError(
                    f"{self.step}.{port}: the step ended without its output; the directory it was given is gone"
                )
            try:
                digest, files = digest_tree(staged / port)
            except ArtifactError as error:
                raise ArtifactError(f"{self.step}.{port}: {error}") from error
            records[port] = ArtifactRecord(type_name, digest, _json_copy(properties, f"{self.step}.{port}"), files)
        manifest = Manifest(
            step=self.step,
            key=self.key,
            key_parts=key_parts,
            component=component,
            pipeline=pipeline,
            run=run,
            created_at=datetime.now(UTC).isoformat(timespec="microseconds"),
            seconds=round(seconds, 3),
            inputs=inputs,
            outputs=records,
            refusal=refusal,
            peak_bytes=peak_bytes,
            parts=tuple(parts),
        )
        target = self._store.root / "store" / self.step / self.key
        with disk.writing(staged):
            (staged / MANIFEST).write_text(
                json.dumps(manifest.to_json(), indent=1, sort_keys=True) + "\n", encoding="utf-8"
            )
            disk.fsync_tree(staged)
        with disk.writing(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            disk.fsync_directory(target.parent.parent)
            ours = disk.rename_whole(staged, target, replace=replace)
            disk.fsync_directory(target.parent)
        if ours:
            return Execution(target, manifest)
        theirs = self._store.find(self.step, self.key)
        if theirs is None:  # removed again between our rename and our look: a forced run is replacing it
            return self._store_again(target, manifest)
        return theirs

    def _store_again(self, target: Path, manifest: Manifest) -> Execution:
        with disk.writing(target):
            disk.rename_whole(self.execution_path, target, replace=True)
            disk.fsync_directory(target.parent)
        return Execution(target, manifest)


# Reading


def _read(directory: Path) -> Execution:
    return Execution(directory, Manifest.from_json(json.loads((directory / MANIFEST).read_bytes())))


def _check_size(execution: Execution, port: str, path: str, file: FileDigest) -> None:
    what = f"{execution.step}.{port}"
    try:
        size = (execution.output(port) / path).stat().st_size
    except OSError as error:
        if isinstance(error, FileNotFoundError | NotADirectoryError):
            raise _corrupt(what, execution.path, f"{port}/{path} is missing") from None
        raise _corrupt(what, execution.path, f"{port}/{path} is not readable: {_said(error)}") from error
    if size != file.bytes:
        raise _corrupt(
            what, execution.path, f"{port}/{path} has {size:,} bytes, its manifest says {file.bytes:,} bytes"
        )


def _corrupt(what: str, directory: Path, how: str) -> ArtifactError:
    step = what.partition(".")[0]
    return ArtifactError(
        f"{what} in the store is corrupt: {how}. It was changed after it was published. To rebuild it, remove {directory} "
        f"and run again, or use `pipeline run ... --force {step}`."
    )


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def _json_copy(properties: Mapping[str, Any], what: str) -> dict[str, Any]:
    try:
        copied: dict[str, Any] = json.loads(json.dumps(dict(properties)))
    except (TypeError, ValueError) as error:
        raise ArtifactError(f"{what}: its properties are not JSON data: {error}") from error
    return copied
