"""One step, from its order to its published outputs: what a local process and a container's task both do."""

from __future__ import annotations

import contextlib
import importlib.util
import linecache
import os
import re
import sys
import time
import traceback
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from pipeline.contract import Contract, artifact_class, build_component, read_contract
from pipeline.disk import is_disk_full
from pipeline.earlier import open_earlier
from pipeline.fingerprint import OURS, is_file, is_ours
from pipeline.manifest import InputRecord, RefusalRecord
from pipeline.order import Order, OrderInput
from pipeline.parts import stored_parts
from pipeline.store import Execution, Store
from schemas.artifact import Artifact
from schemas.artifacts import Verdict
from schemas.component import (
    Baseline,
    BeamOptions,
    Earlier,
    HoldsUserCode,
    InputFile,
    Lineage,
    PartCache,
    PlannedFiles,
    Progress,
    Scratch,
    Seed,
)
from schemas.dotted_path import make_importable, resolve
from schemas.errors import NotNeeded, PenstockError, Refused, StepFailed, StoreError, UserCodeError
from schemas.location import parse


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a step ended, as it crosses from its process to the runner.

    `action` is `run`, `reuse` (another run had published the key), `refused`, `no need` or `failed`.
    """

    action: Literal["run", "reuse", "refused", "no need", "failed"]
    seconds: float
    error: str | None = None  # class name, for refused, no need and failed
    message: str = ""
    published: bool = True


def run_order(order: Order, progress: Progress | None = None, on_wait: Callable[[str], None] | None = None) -> Outcome:
    """Run the step and publish its outputs. Never raises for what goes wrong in the step: that is in the outcome.

    The full traceback goes to stderr, which the runners send to the step's log.
    """
    started = time.monotonic()
    try:
        return _run(order, progress or Progress(), on_wait, started)
    except Refused as refused:
        return replace(_said_no(_record(refused), time.monotonic() - started), published=False)
    except Exception as error:  # noqa: BLE001 whatever a component or the user's code raises becomes the step's outcome
        with contextlib.suppress(OSError):  # the log is on the disk that may be full; what is said is in the outcome
            traceback.print_exc()
        explained = explain(error, order)
        return Outcome(
            action="failed",
            seconds=time.monotonic() - started,
            error=type(explained).__name__,
            message=str(explained),
            published=False,
        )


def _run(order: Order, progress: Progress, on_wait: Callable[[str], None] | None, started: float) -> Outcome:
    store = Store(order.root).open()
    prepare_process(order)
    kind = resolve(order.component)
    contract = read_contract(kind)
    component = build_component(kind, order.settings)
    for path in contract.paths(order.settings, contract.user_code):
        if not is_file(path):
            resolve(path)  # imported now, so that what the user edits from here on is for the next run
    _keep_sources(order)
    held = component.hold_user_code() if isinstance(component, HoldsUserCode) else ()
    _check_unchanged(order, contract, "after this step was planned")
    loaded = frozenset(sys.modules)
    if contract.run_by:  # TFX reads a user's module anew for each function that it wants of it
        read_again = {
            path.replace(":", ".").rpartition(".")[0] for path in contract.paths(order.settings, contract.user_code)
        }
        loaded = loaded - read_again | frozenset(held)
    with store.execution_lock(order.step, order.key, on_wait, run=order.run):
        if not order.replace:
            found = store.find(order.step, order.key)
            if found is not None:
                seconds = time.monotonic() - started
                refusal = found.manifest.refusal  # what another run's gate found out meanwhile holds for this one
                return _said_no(refusal, seconds) if refusal else Outcome(action="reuse", seconds=seconds)
        inputs = {port: _open_input(store, wire) for port, wire in order.inputs.items()}
        said_no: RefusalRecord | None = None
        with stored_parts(store, order) as parts, store.stage(order.step, order.key, run=order.run) as staging:
            outputs = {name: cls(staging.output(name)) for name, cls in contract.outputs.items()}
            arguments = {**inputs, **outputs, **_asked(order, contract, store, progress, parts)}
            arguments |= {port: None for port in contract.inputs if port not in inputs}
            try:
                component.run(**arguments)
            except Refused as error:
                if not error.keep_outputs:
                    raise
                said_no = _record(error)
            for output in outputs.values():
                if order.anyway and isinstance(output, Verdict):
                    output.bless_anyway(**order.anyway)
            seconds = time.monotonic() - started
            try:
                _check_unchanged(order, contract, "while this step ran", loaded)
                for wire in order.inputs.values():
                    _find_input(store, wire)
            except PenstockError:
                store.drop_scratch(order.step, order.key)  # half of it may belong to another key
                raise
            staging.publish(
                component=order.component,
                pipeline=order.pipeline,
                run=order.run,
                seconds=seconds,
                key_parts=order.key_parts,
                inputs={
                    port: InputRecord(wire.step, wire.key, wire.output, wire.type, wire.digest)
                    for port, wire in order.inputs.items()
                },
                outputs={name: (cls.TYPE_NAME, outputs[name].properties) for name, cls in contract.outputs.items()},
                refusal=said_no,
                peak_bytes=_peak_bytes(),
                parts=parts.used,
                replace=order.replace,
            )
        store.drop_scratch(order.step, order.key)
    return _said_no(said_no, seconds) if said_no else Outcome(action="run", seconds=seconds)


def _record(refused: Refused) -> RefusalRecord:
    action: Literal["refused", "no need"] = "no need" if isinstance(refused, NotNeeded) else "refused"
    return RefusalRecord(type(refused).__name__, str(refused), action)


def _said_no(refusal: RefusalRecord, seconds: float) -> Outcome:
    return Outcome(action=refusal.action, seconds=seconds, error=refusal.error, message=refusal.message)


def _peak_bytes() -> int:
    """The most memory that this process held at once, what it shares with the one it was forked from included."""
    # Not getrusage's figure, which begins with the peak of the process that this one was started from.
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines())
    return int(status["VmHWM"].split()[0]) * 1024


def _check_unchanged(order: Order, contract: Contract, when: str, loaded: Collection[str] = ()) -> None:
    """Raise StepFailed when what would be published is not what the key says."""
    changes = order.changes(contract, loaded)
    if changes:
        raise StepFailed(
            f"{', '.join(changes)} {when}. Nothing was published, and everything before it is kept: run again"
        )


def _keep_sources(order: Order) -> None:
    """Have who looks up the source of a loaded function, as AutoGraph does when it first traces it, find what was loaded."""
    for name in {**order.key_parts.get("code", {}), **order.key_parts.get("user_code", {})}:
        file = getattr(sys.modules.get(name), "__file__", None)
        if file is not None and file.endswith(".py") and not is_ours(name):
            # Where it cannot be read it has changed since it was loaded, which is about to be said.
            with contextlib.suppress(OSError, SyntaxError):
                data = Path(file).read_bytes()
                lines = importlib.util.decode_source(data).splitlines(keepends=True)
                linecache.cache[file] = (len(data), None, lines, file)  # without a time of change it is not read again


def prepare_process(order: Order) -> None:
    """What has to be so before any engine or user module is imported."""
    os.environ["TF_USE_LEGACY_KERAS"] = "1"  # read once by TensorFlow: tf.keras is tf_keras
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")
    os.chdir(order.directory)
    make_importable(Path(order.directory))
    if order.key_parts.get("user_code") or order.component.partition(".")[0] not in OURS:
        # KerasTuner binds itself to whatever `keras` is when it is first imported, and the user's module may be that first.
        resolve("components.io.keras.arrange")()


def _open_input(store: Store, wire: OrderInput) -> Artifact:
    """The artifact behind a wire, every byte of it checked. Raises ArtifactError, saying how to rebuild it."""
    execution = _find_input(store, wire)
    store.verify(execution, wire.output)
    return open_output(execution, wire.output, artifact_class(wire.kind))


def _find_input(store: Store, wire: OrderInput) -> Execution:
    """The execution behind a wire, if its output is still the one that the key counts."""
    execution = store.find(wire.step, wire.key)
    if execution is None:
        raise StoreError(
            f"{wire.step}.{wire.output}: {store.root}/store/{wire.step}/{wire.key} is gone; run the pipeline again to remake it"
        )
    if execution.manifest.outputs[wire.output].digest != wire.digest:
        raise StepFailed(
            f"{wire.step}.{wire.output} was replaced by run {execution.manifest.run} in the meantime; run again to go on "
            f"from what is there now"
        )
    return execution


def open_output(execution: Execution, output: str, kind: type[Artifact]) -> Artifact:
    """A published output as its artifact."""
    return kind(execution.output(output), dict(execution.manifest.outputs[output].properties))


def _asked(order: Order, contract: Contract, store: Store, progress: Progress, parts: PartCache) -> dict[str, Any]:
    """The framework's own arguments of `run`."""
    given: dict[type[Any], Callable[[], Any]] = {
        BeamOptions: lambda: BeamOptions(**{**order.beam, "args": tuple(order.beam.get("args", ()))}),
        Scratch: lambda: Scratch(store.scratch(order.step, order.key)),
        Seed: lambda: Seed(order.seed),
        Baseline: lambda: _baseline(order.baseline, store.scratch(order.step, order.key) / "baseline"),
        Progress: lambda: progress,
        Lineage: lambda: _lineage(order.lineage),
        PlannedFiles: lambda: _planned_files(order.key_parts.get("files", {})),
        PartCache: lambda: parts,
        Earlier: lambda: open_earlier(store, order.key_parts.get("earlier") or {}),
    }
    return {name: given[kind]() for name, kind in contract.asks.items()}


def _planned_files(found: Mapping[str, Any]) -> PlannedFiles:
    return PlannedFiles(
        {
            setting: tuple(InputFile(**{**file, "path": Path(file["path"])}) for file in files)
            for setting, files in found.items()
        }
    )


def _baseline(found: Mapping[str, Any], cache: Path | None = None) -> Baseline:
    """What an order says of it. With a `cache`, a model in an object store is fetched into that and has a path."""
    path, remote = found.get("path"), found.get("remote")
    if remote and cache is not None:
        path = resolve("components.release.object_store.fetch")(parse(remote), cache)
    return Baseline(Path(path) if path else None, found.get("digest"), found.get("version"))


def _lineage(found: Mapping[str, Any]) -> Lineage:
    return Lineage(**{**found, "baseline": _baseline(found.get("baseline", {}))})


_BEAM_SUFFIX = re.compile(r"\s*\[while running '[^']*'\]")
_TF_FRAME = re.compile(r'File "([^"]+)", line (\d+), in (\S+)')


def explain(error: BaseException, order: Order) -> PenstockError:
    """The error to show: the user's file, line and exception first where the user's code is on its way."""
    own, with_component = _user_files(order)
    message = _BEAM_SUFFIX.sub("", _message(error))
    if isinstance(error, PenstockError):
        place = _user_place(error, own)
        return type(error)(f"{place}: {message}") if place else error
    said = f"{type(error).__name__}: {message}" if message else type(error).__name__
    if is_disk_full(error):
        return StoreError(f"the disk is full: {said}. Free space and run again; finished steps are kept")
    place = _user_place(error, with_component)
    return UserCodeError(f"{place}: {said}") if place else StepFailed(said)


def _message(error: BaseException) -> str:
    """The exception's own words. TensorFlow puts the user's frames before them, Beam repeats the error after them."""
    if isinstance(error, KeyError) and error.args:
        return repr(error.args[0])
    text = str(error)
    if "in user code:" in text:
        lines = [line.strip() for line in text.splitlines()]
        own = [i for i, line in enumerate(lines) if line.startswith(f"{type(error).__name__}: ")]
        if own:
            return "\n".join(line for line in lines[own[-1] :] if line).removeprefix(f"{type(error).__name__}: ")
    return text.strip()


def _user_files(order: Order) -> tuple[dict[str, str], dict[str, str]]:
    """Absolute path of each of the user's modules, and the shorter one to show: those behind settings, then all of them.

    The second has a component of the user's own too. What that one raises as an error of ours says where by itself.
    """

    def files(kind: str) -> dict[str, str]:
        modules = order.key_parts.get(kind, {})
        names = [module["file"] for name, module in modules.items() if not is_ours(name)]
        return {str((Path(order.directory) / name).resolve()): name for name in names}

    return files("user_code"), {**files("code"), **files("user_code")}


def _user_place(error: BaseException, files: Mapping[str, str]) -> str | None:
    """'configs/taxi/features.py:41 in fill_missing', the innermost frame of the user's; None when there is none."""
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        current = waiting.pop(0)
        if current is None or id(current) in seen:
            continue
        seen.add(id(current))
        if isinstance(current, SyntaxError) and (shown := files.get(str(Path(current.filename or "").resolve()))):
            return f"{shown}:{current.lineno}"
        for frame in reversed(traceback.extract_tb(current.__traceback__)):
            shown = files.get(str(Path(frame.filename).resolve()))
            if shown:
                return f"{shown}:{frame.lineno} in {frame.name}"
        for file, line, name in reversed(_TF_FRAME.findall(str(current))):
            shown = files.get(str(Path(file).resolve()))
            if shown:
                return f"{shown}:{line} in {name.rstrip('*').strip()}"
        waiting += [current.__cause__, current.__context__]
    return None


def exit_now(code: int) -> None:
    """End this process without the interpreter's shutdown, in which TensorFlow's and Beam's threads have crashed."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
