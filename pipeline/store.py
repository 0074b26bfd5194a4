"""The store: a directory of finished executions, each published whole by one rename.

    <root>/
      store/<step>/<key>/           one execution: manifest.json and one directory per output
      staging/<step>-<key>-<random>/   an execution that is being made, with its owner's lock
      scratch/<step>/<key>/         checkpoints and trials of an execution that is not published yet
      runs/<run id>/                run.json, <step>.order.json, <step>.log
      locks/                        who works on what, and who uses what
      ledger.sqlite                 an index of all this, which can be made again from it

What is under `store/` is complete or not there: a process killed at any moment leaves at most a directory in `staging/`, which
the next run removes once its owner is provably dead.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
import secrets
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from pipeline import locks
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


@dataclass(frozen=True)
class Garbage:
    """Something that can be removed, how much that frees, and why nobody needs it."""

    path: Path
    bytes: int
    why: str


class Store:
    """The executions under one root. Making a Store touches nothing; reading an absent root finds nothing.

    Everything that writes raises StoreError, naming the path, the cause and the free space, when it cannot.
    """

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root).absolute()  # what is reported must still be right after a change of directory

    def open(self) -> Store:
        """Make the root's directories and check that they can be written."""
        for name in ("store", "staging", "scratch", "locks", "runs"):
            directory = self._made(self.root / name)
            if not os.access(directory, os.W_OK | os.X_OK):
                code = errno.EROFS if os.statvfs(directory).f_flag & os.ST_RDONLY else errno.EACCES
                raise store_error(OSError(code, os.strerror(code)), directory)
        return self

    # Reading

    def find(self, step: str, key: str) -> Execution | None:
        """The execution of `step` with `key`, None when there is none.

        Cheap: every file must be there with its recorded size, but no content is read (`verify` does). Raises ArtifactError,
        saying what differs and how to rebuild it, when a published execution is not what was published.
        """
        directory = self._directory(step, key)
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

    def latest(self, step: str) -> Manifest | None:
        """The manifest of the newest execution of `step`, whatever its key; None when there is none."""
        return max(
            (execution.manifest for execution in self._of(self.root / "store" / step)),
            key=lambda manifest: manifest.created_at,
            default=None,
        )

    def executions(self) -> list[Execution]:
        """All executions with a readable manifest, oldest first."""
        found = [e for step in _directories(self.root / "store") for e in self._of(step)]
        return sorted(found, key=lambda e: (e.manifest.created_at, e.step, e.key))

    def _of(self, step_directory: Path) -> Iterator[Execution]:
        for directory in _directories(step_directory):
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
                yield _read(directory)

    # Making

    def stage(self, step: str, key: str) -> Staging:
        """A context in which an execution is made and published; what is not published by its end is removed."""
        return Staging(self, step, key)

    @contextlib.contextmanager
    def execution_lock(
        self, step: str, key: str, on_wait: Callable[[str], None] | None = None, *, run: str = ""
    ) -> Iterator[None]:
        """Work on one execution alone, waiting while another run does. Look again with `find` once inside.

        `on_wait` is called once when there is somebody to wait for, with a sentence that names the process and its run.
        """
        path = self._lock(step, key)

        def waits(holder: str) -> None:
            if on_wait is not None:
                on_wait(f"{holder} is making the same {step}")

        with contextlib.ExitStack() as held:
            with _writing(path):
                held.enter_context(locks.locked(path, f"run {run}" if run else "", waits))
            yield

    @contextlib.contextmanager
    def in_use(self, step: str, key: str) -> Iterator[None]:
        """Keep `collect` from removing an execution, in this or any other process, for as long as the context lasts.

        Take it before `find`, and hold it until nothing of this run reads the outputs any more.
        """
        path = self._use_lock(step, key)
        with contextlib.ExitStack() as held:
            with _writing(path):
                held.enter_context(locks.shared(path))
            yield

    def scratch(self, step: str, key: str) -> Path:
        """The directory that outlives a killed attempt at this execution. Made when it is not there."""
        return self._made(self.root / "scratch" / step / key)

    def drop_scratch(self, step: str, key: str) -> None:
        """Remove it, once the execution is published."""
        _remove_tree(self.root / "scratch" / step / key)
        with contextlib.suppress(OSError):  # another key of this step has its scratch there
            (self.root / "scratch" / step).rmdir()

    def discard(self, execution: Execution) -> None:
        """Remove a published execution. It is gone for every reader at once, and never half there."""
        with Staging(self, execution.step, execution.key) as staging, _writing(execution.path):
            with contextlib.suppress(FileNotFoundError):
                execution.path.rename(staging.execution_path.parent / "discarded")
            _fsync_directory(execution.path.parent)

    def remove_dead_staging(self) -> list[Path]:
        """Remove what killed processes left in `staging/`; gives the directories. Another host's are left alone."""
        removed = []
        for directory in _directories(self.root / "staging"):
            with _dead_staging(directory) as dead:
                if dead:
                    _remove_staging(directory)
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
        with _writing(path):
            _write_atomically(path, record)
        return path

    def run_records(self) -> dict[str, dict[str, Any]]:
        """What `write_run` wrote, by run id, in the order of the ids. Unreadable records are left out."""
        records = {}
        for directory in _directories(self.root / "runs"):
            with contextlib.suppress(OSError, ValueError):
                record = json.loads((directory / "run.json").read_bytes())
                if isinstance(record, dict):
                    records[directory.name] = record
        return records

    # Cleaning up

    def garbage(self, keep: Collection[tuple[str, str]], drop_runs: Collection[str] = ()) -> list[Garbage]:
        """What could be removed if only the executions (step, key) in `keep` are needed, and the runs `drop_runs` are not.

        Leaves out what is in use now. Removes nothing.
        """
        found = []
        for path, step, key in self._pairs("store"):
            if (step, key) not in keep and not self._is_used(step, key):
                found.append(Garbage(path, _bytes_under(path), "no kept run and no pushed model needs it"))
        for path, step, key in self._pairs("scratch"):
            published = self._directory(step, key).is_dir()
            if (published or (step, key) not in keep) and not self._is_used(step, key):
                why = "its step is published" if published else "no kept run will resume it"
                found.append(Garbage(path, _bytes_under(path), why))
        for path in _directories(self.root / "staging"):
            with _dead_staging(path) as dead:
                if dead:
                    found.append(Garbage(path, _bytes_under(path), "the process that was making it is dead"))
        for path in _directories(self.root / "runs"):
            if path.name in drop_runs:
                found.append(Garbage(path, _bytes_under(path), "the record of a run that is not kept"))
        return found

    def collect(self, garbage: Iterable[Garbage]) -> list[Garbage]:
        """Remove it; gives what was removed. What came into use since it was listed is left out."""
        removed = []
        for item in garbage:
            area, *rest = item.path.relative_to(self.root).parts
            if area in ("store", "scratch"):
                done = self._collect_pair(area, *rest)
            elif area == "staging":
                with _dead_staging(item.path) as dead:
                    done = dead
                    if dead:
                        _remove_staging(item.path)
            else:
                done = item.path.is_dir()
                _remove_tree(item.path)
            if done:
                removed.append(item)
        self._remove_dead_locks()
        return removed

    def _collect_pair(self, area: str, step: str, key: str) -> bool:
        path = self.root / area / step / key
        lock, use = self._lock(step, key), self._use_lock(step, key)
        with contextlib.ExitStack() as held:
            for file in (lock, use):
                descriptor = locks.try_lock(file)
                if descriptor is None:
                    return False
                held.callback(locks.unlock, descriptor, file)
            if not path.is_dir():
                return False
            if area == "scratch":
                self.drop_scratch(step, key)
                return True
            # Not `discard`: a corrupt execution has no manifest, and is garbage too.
            with Staging(self, step, key) as staging, _writing(path):
                path.rename(staging.execution_path.parent / "discarded")
                _fsync_directory(path.parent)
        with contextlib.suppress(OSError):  # another key of this step is there
            path.parent.rmdir()
        return True

    def _remove_dead_locks(self) -> None:
        for path in self._made(self.root / "locks").iterdir():
            with contextlib.suppress(FileNotFoundError):
                locks.is_locked(path)  # looking at a lock that nobody holds removes it

    def _is_used(self, step: str, key: str) -> bool:
        return locks.is_locked(self._lock(step, key)) or locks.is_locked(self._use_lock(step, key))

    # Paths

    def _pairs(self, area: str) -> Iterator[tuple[Path, str, str]]:
        for step in _directories(self.root / area):
            for directory in _directories(step):
                yield directory, step.name, directory.name

    def _directory(self, step: str, key: str) -> Path:
        return self.root / "store" / step / key

    def _lock(self, step: str, key: str) -> Path:
        return self._made(self.root / "locks") / f"{step}-{key}.lock"

    def _use_lock(self, step: str, key: str) -> Path:
        return self._made(self.root / "locks") / f"{step}-{key}.use"

    def _made(self, directory: Path) -> Path:
        with _writing(directory):
            directory.mkdir(parents=True, exist_ok=True)
        return directory


class Staging:
    """An execution that is being made, in a directory of its own that holds its owner's lock.

    staging/<step>-<key>-<random>/
      owner.json    who makes it; locked for as long as that process lives
      execution/    what publish renames to store/<step>/<key>
    """

    def __init__(self, store: Store, step: str, key: str) -> None:
        self.step = step
        self.key = key
        self._store = store
        self._pid = os.getpid()
        self._directory: Path | None = None
        self._lock: int | None = None

    def __enter__(self) -> Staging:
        self._pid = os.getpid()
        with _writing(self._store.root / "staging"):
            self._directory, self._lock = _make_staging(self._store, f"{self.step}-{self.key[:12]}")
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
                _remove_staging(self._directory)
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
        with _writing(path):
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
        replace: bool = False,
    ) -> Execution:
        """Make what was staged the execution of this step and key, all of it at once; gives what is published now.

        `outputs` maps each port to (type name, properties). When another run published the same key meanwhile, theirs is
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
        )
        target = self._store.root / "store" / self.step / self.key
        with _writing(staged):
            (staged / MANIFEST).write_text(
                json.dumps(manifest.to_json(), indent=1, sort_keys=True) + "\n", encoding="utf-8"
            )
            _fsync_tree(staged)
        with _writing(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            _fsync_directory(target.parent.parent)
            ours = _publish(staged, target, replace=replace)
            _fsync_directory(target.parent)
        if ours:
            return Execution(target, manifest)
        theirs = self._store.find(self.step, self.key)
        if theirs is None:  # removed again between our rename and our look: a forced run is replacing it
            return self._store_again(target, manifest)
        return theirs

    def _store_again(self, target: Path, manifest: Manifest) -> Execution:
        with _writing(target):
            _publish(self.execution_path, target, replace=True)
            _fsync_directory(target.parent)
        return Execution(target, manifest)


def store_error(error: OSError, path: Path) -> StoreError:
    """What to tell the person at the terminal when `path` cannot be written: the cause, the free space, what to do."""
    advice = {
        errno.ENOSPC: "Free some space (`pipeline gc` says what it could remove) or choose another --root",
        errno.EDQUOT: "Free some of your quota (`pipeline gc` says what it could remove) or choose another --root",
        errno.EFBIG: "Raise the limit on the size of a file (`ulimit -f`) or choose another --root",
        errno.EACCES: "Make it writable for this user or choose another --root",
        errno.EPERM: "Make it writable for this user or choose another --root",
        errno.EROFS: "The file system is mounted read-only: choose another --root",
        errno.ENOTDIR: "A file is where a directory should be: move it away or choose another --root",
        errno.EEXIST: "A file is where a directory should be: move it away or choose another --root",
        errno.ENOLCK: "The file system has no file locks: choose a --root on another one",
    }.get(error.errno or 0, "Look at the disk, or choose another --root")
    name = errno.errorcode.get(error.errno or 0, "unknown error")
    return StoreError(f"cannot write {path}: {error.strerror} ({name}; {_free(path)}). {advice}.")


def is_disk_full(error: BaseException) -> bool:
    """Whether an exception of any step, or of an engine under it, says that the disk or the quota is full."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    return any(os.strerror(code) in str(error) for code in (errno.ENOSPC, errno.EDQUOT))  # TensorFlow's have no errno


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


def _directories(parent: Path) -> list[Path]:
    try:
        return sorted(p for p in parent.iterdir() if p.is_dir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def _bytes_under(directory: Path) -> int:
    total = 0
    for parent, _, files in os.walk(directory):
        for name in files:
            with contextlib.suppress(FileNotFoundError):  # its owner may be at work
                total += (Path(parent) / name).lstat().st_size
    return total


def _json_copy(properties: Mapping[str, Any], what: str) -> dict[str, Any]:
    try:
        copied: dict[str, Any] = json.loads(json.dumps(dict(properties)))
    except (TypeError, ValueError) as error:
        raise ArtifactError(f"{what}: its properties are not JSON data: {error}") from error
    return copied


# Writing


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise store_error(error, path) from error


def _free(path: Path) -> str:
    for existing in (path, *path.parents):
        with contextlib.suppress(OSError):
            return f"{shutil.disk_usage(existing).free:,} bytes are free there"
    return "free space unknown"


def _write_atomically(path: Path, record: Mapping[str, Any]) -> None:
    new = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with new.open("w", encoding="utf-8") as file:
            json.dump(record, file, indent=1, sort_keys=True)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise
    _fsync_directory(path.parent)


def _publish(staged: Path, target: Path, *, replace: bool) -> bool:
    """Rename `staged` to `target`; whether it is ours that is there now. What was replaced is left beside `staged`."""
    try:
        staged.rename(target)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        if not replace:
            return False
    else:
        return True
    if not _exchange(staged, target):
        # Without an atomic exchange there is an instant in which the key is not found. Who looks then makes it again, and
        # a kill in that instant costs the rebuild and nothing else: the old one was to be replaced anyway.
        with contextlib.suppress(FileNotFoundError):
            target.rename(staged.parent / f"replaced-{secrets.token_hex(4)}")
        staged.rename(target)
    return True


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two directories atomically (Linux renameat2); False where system or file system cannot."""
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if renameat2 is None:
        return False
    at_cwd, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    if renameat2(at_cwd, os.fsencode(one), at_cwd, os.fsencode(other), exchange) == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.ENOENT):
        return False
    raise OSError(code, os.strerror(code), str(other))


def _fsync_tree(directory: Path) -> None:
    """Bring a directory with all that is in it to the disk, the content before the names."""
    with os.scandir(directory) as found:
        for entry in found:
            if entry.is_dir(follow_symlinks=False):
                _fsync_tree(Path(entry.path))
            elif entry.is_file(follow_symlinks=False):
                _fsync(entry.path, os.O_RDONLY)
    _fsync_directory(directory)


def _fsync_directory(directory: Path) -> None:
    _fsync(str(directory), os.O_RDONLY | os.O_DIRECTORY)


def _fsync(path: str, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove_tree(directory: Path) -> None:
    with _writing(directory), contextlib.suppress(FileNotFoundError):
        shutil.rmtree(directory)


# Staging and its owner


def _make_staging(store: Store, name: str) -> tuple[Path, int]:
    """A new staging directory with a complete and locked owner.json, and the descriptor of that lock."""
    while True:
        directory = store.root / "staging" / f"{name}-{secrets.token_hex(6)}"
        directory.mkdir(parents=True)
        # Written and locked elsewhere, then moved in: an owner.json that can be seen is complete, and its process is alive
        # for as long as it is locked.
        locks_directory = store.root / "locks"
        locks_directory.mkdir(exist_ok=True)
        new = locks_directory / f"owner-{directory.name}.json"
        descriptor = locks.try_lock(new)
        try:
            if descriptor is None:
                continue  # somebody who tidies locks/ is looking at it
            os.pwrite(descriptor, json.dumps(locks.Owner.current().to_json()).encode(), 0)
            os.fsync(descriptor)
            new.rename(directory / "owner.json")
        except FileNotFoundError:
            # A directory without an owner is empty, and anybody may remove it: take another.
            if descriptor is not None:
                os.close(descriptor)
        except BaseException:
            if descriptor is not None:
                os.close(descriptor)
            raise
        else:
            return directory, descriptor


@contextlib.contextmanager
def _dead_staging(directory: Path) -> Iterator[bool]:
    """Whether a staging directory's owner is provably dead; its lock is held inside."""
    owner_file = directory / "owner.json"
    try:
        owner = locks.Owner.from_json(json.loads(owner_file.read_bytes()))
    except FileNotFoundError:
        with contextlib.suppress(OSError):
            directory.rmdir()  # killed between two system calls; harmless when its owner lives, who then takes another
        yield False
        return
    except (OSError, ValueError, KeyError, TypeError):
        yield False
        return
    if not (owner.same_kernel or owner.same_host):
        yield False
        return
    try:
        descriptor = os.open(owner_file, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        yield False
        return
    try:
        yield locks.hold(descriptor)
    finally:
        os.close(descriptor)


def _remove_staging(directory: Path) -> None:
    """Remove a staging directory, its owner last: if we are killed here, the rest still has one, and that one is dead."""
    with _writing(directory), contextlib.suppress(FileNotFoundError):
        for path in directory.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name != "owner.json":
                path.unlink()
        (directory / "owner.json").unlink(missing_ok=True)
        directory.rmdir()
