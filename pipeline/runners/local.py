"""Runs a graph on this machine: independent steps at once, each in a process of its own."""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import multiprocessing.connection
import multiprocessing.forkserver
import multiprocessing.resource_tracker
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal

from pipeline import log, temporary_files
from pipeline.conditions import needs_of, with_what_is_there, without
from pipeline.contract import read_contract
from pipeline.execute import Outcome, exit_now, open_output, run_order
from pipeline.fingerprint import code_closure
from pipeline.graph import Graph, Step, Wire
from pipeline.interrupts import KeptBack, ctrl_c_blocked, unblock_ctrl_c
from pipeline.ledger import Action, Ledger, StepRecord
from pipeline.order import Order, git_commit, make_order
from pipeline.plan import NEVER_RAN, NOTHING_CHANGED, StepPlan, decide
from pipeline.progress import SpacedProgress
from pipeline.runners.warm import MODULES as WARMED
from pipeline.store import Execution, Store
from schemas.artifacts import Verdict
from schemas.component import BeamOptions
from schemas.dotted_path import resolve
from schemas.errors import PenstockError
from schemas.exit_code import how_its_process_died
from schemas.location import nearest, parse
from schemas.owner import is_at_work

WARM_MODULES = (
    "components.io.keras",
    "tensorflow",
    "apache_beam",
    "tensorflow_data_validation",
    "tensorflow_transform.beam",
    "tensorflow_model_analysis",
)
"""What the process that steps are forked from has imported. It runs no TensorFlow operation, which makes forking safe."""
_WARM_TFX = "components.io.tfx_warm"  # besides, where components run that are written for TFX

_WARM_ALWAYS = ("pydantic.type_adapter",)  # what a light step needs of others' code: it checks the settings

_HEAVY = {"tensorflow", "tensorflow-data-validation", "tensorflow-transform", "tensorflow-model-analysis", "tfx"}
_GRACE_S = 5.0  # between asking a step's process to end and ending it
_PROGRESS_S = 0.1  # at most one report of progress in this time
_LOOK_S = 1.0  # how often it is looked whether a silent step's process is still there


@dataclass
class _Running:
    """One step's process, and what is known of it."""

    step: Step
    plan: StepPlan
    process: Any  # multiprocessing's Process classes share no type
    connection: Connection
    started: float
    temporary: contextlib.ExitStack  # the directory of its temporary files
    outcome: Outcome | None = None


@dataclass
class LocalRun:
    """A run in progress; `execute` does it once. How each step ended goes to the ledger and to `listener`."""

    graph: Graph
    store: Store
    ledger: Ledger
    run: str  # its id, started in the ledger
    listener: Callable[[log.Event], None]
    beam: BeamOptions = field(default_factory=BeamOptions)
    parallel: int | None = None  # steps at once; None: one per processor
    force: Collection[str] = ()
    anyway: Mapping[str, str] | None = None  # {"by", "at", "reason"} of who has models blessed whatever the gates say
    warm: Sequence[str] = WARM_MODULES  # what the process that heavy steps are forked from imports

    def __post_init__(self) -> None:
        self.executions: dict[str, Execution] = {}
        self.actions: dict[str, Action] = {}
        self.messages: dict[str, str] = {}
        self.aside: set[str] = set()  # steps that a condition keeps from running: what does not need them does run
        self.running: dict[str, _Running] = {}
        self.stopping = False  # a step failed, was refused or found no need to go on: start nothing more
        self._forked: frozenset[str] | None = None  # steps whose processes are forked; None: nothing has run yet
        self._commit = git_commit(Path.cwd())
        self._held = contextlib.ExitStack()
        self._signals = KeptBack()

    def execute(self) -> None:
        """Run or reuse every step; how each ended is in `actions`.

        Raises KeyboardInterrupt after stopping every step's process and removing what it had staged. Raises PenstockError
        for what keeps a step from being planned (an input file that vanished, a corrupt artifact).
        """
        with self._signals, self._held:
            try:
                self._loop()
            except BaseException:
                self._stop_all()
                raise

    def _loop(self) -> None:
        limit = self.parallel or os.cpu_count() or 1
        waiting = list(self.graph.steps)
        unplanned: PenstockError | None = None
        while waiting or self.running:
            progressed = False
            for step in [s for s in waiting if all(p in self.executions or p in self.aside for p in s.parents)]:
                if self.stopping or len(self.running) >= limit:
                    break
                waiting.remove(step)
                try:
                    self._begin(step)
                except PenstockError as error:
                    # What runs beside it is nobody's fault: let it finish, and be reused.
                    unplanned, self.stopping = error, True
                progressed = True
            if self.running:
                self._listen()
            elif self.stopping or not progressed:
                break
        for step in waiting:
            self._note(step, None, "skipped")
        if unplanned is not None:
            raise unplanned

    def _begin(self, whole: Step) -> None:
        missing = needs_of(whole, self.aside)
        if missing:
            plan = StepPlan(whole.id, "skipped", (without(missing),))
            self.aside.add(whole.id)
            self._note(whole, plan, "skipped")
            self.listener(log.StepFinished(whole.id, "skipped", reason=without(missing)))
            return
        step = with_what_is_there(whole, self.aside)
        with self._signals.allowed():  # input files may take long to read
            plan = decide(self.graph, step, self.executions, self.store, self.force, self.anyway, self.run)
        if plan.set_aside:
            self._set_aside(step, plan)
            return
        assert plan.key is not None
        # From here to the end of the run, `pipeline gc` in another process leaves the execution alone.
        self._held.enter_context(self.store.in_use(step.id, plan.key))
        if plan.action == "reuse" and (found := self.store.find(step.id, plan.key)):
            self._finished(step, plan, found, "reuse", 0.0)
        elif plan.execution and plan.action != "run" and (refusal := plan.execution.manifest.refusal):
            self._said_no(step, plan, refusal.action, refusal.message, 0.0)
        else:
            self._start(step, plan)

    def _set_aside(self, step: Step, plan: StepPlan) -> None:
        """Go on without a step whose condition does not hold."""
        self.aside.add(step.id)
        (why,) = plan.reasons
        if plan.action == "refused":
            self._say_no(step, plan, "refused", why, 0.0, step.asked)
        else:
            self._note(step, plan, "skipped", message=why)
            self.listener(log.StepFinished(step.id, "skipped", reason=why))

    def _start(self, step: Step, plan: StepPlan) -> None:
        if self._forked is None:
            self._forked = self._warm_up()
        order = make_order(
            self.graph,
            step,
            plan,
            self.executions,
            run=self.run,
            store=self.store,
            beam=self.beam,
            commit=self._commit,
            anyway=self.anyway,
        )
        path = self.store.order_path(self.run, step.id)
        order.write(path)
        temporary = contextlib.ExitStack()
        place = temporary.enter_context(temporary_files.directory())
        ours, theirs = multiprocessing.Pipe()
        arguments = theirs, str(path), str(self.store.log_path(self.run, step.id)), str(place)
        try:
            self.listener(log.StepStarted(step.id))
            process = self._start_process(step, arguments)
        except BaseException:
            ours.close()  # a process that comes to life all the same ends on seeing this
            temporary.close()
            raise
        finally:
            theirs.close()
        self.running[step.id] = _Running(step, plan, process, ours, time.monotonic(), temporary)

    def _warm_up(self) -> frozenset[str]:
        """Start the process that steps are forked from, and say which steps are.

        Those that import much, where there are any: a light one need not wait until that is imported. Else all, since a fork
        takes a third of what a new interpreter does; a single step alone would win nothing.
        """
        left = [step for step in self.graph.steps if step.id not in self.executions]
        heavy = frozenset(step.id for step in left if _is_heavy(step))
        forked = heavy or (frozenset(step.id for step in left) if len(left) > 1 else frozenset())
        if forked:
            # At the first step that runs, so that the imports go on beside it when it is a light one.
            chatter = self.store.run_directory(self.run) / "warm-process.log"
            self._held.enter_context(_warm_process(chatter, self._warm_modules() if heavy else _WARM_ALWAYS))
        return forked

    def _warm_modules(self) -> tuple[str, ...]:
        """What the warm process imports: TFX, half of whose time is its own, only where a step is of TFX's."""
        return (*self.warm, *((_WARM_TFX,) if any(map(_is_of_tfx, self.graph.steps)) else ()))

    def _start_process(self, step: Step, arguments: tuple[Any, ...]) -> Any:
        if self._forked and step.id in self._forked:
            process = multiprocessing.get_context("forkserver").Process(
                target=_step_process, args=arguments, name=step.id
            )
            try:
                # The warm process answers when its imports are done, which nobody who wants to stop should wait for.
                with self._signals.allowed(), _without_main():
                    process.start()
            except (EOFError, ConnectionError):
                pass  # it died of its imports: started cold, the step's own log says why
            else:
                return process
        cold = multiprocessing.get_context("spawn").Process(target=_step_process, args=arguments, name=step.id)
        with ctrl_c_blocked(), _without_main():
            cold.start()
        return cold

    def _listen(self) -> None:
        """Take in what the running steps say, until one of them has ended."""
        by_connection: dict[Any, _Running] = {running.connection: running for running in self.running.values()}
        with self._signals.allowed():
            told = multiprocessing.connection.wait(list(by_connection), _LOOK_S)
        for ready in told:
            running = by_connection[ready]
            try:
                kind, *said = running.connection.recv()
            except (EOFError, ConnectionError):
                self._ended(running)
                continue
            if kind == "progress":
                self.listener(log.StepProgress(running.step.id, *said))
            elif kind == "waiting":
                self.listener(log.StepWaiting(running.step.id, *said))
            elif kind == "outcome":
                running.outcome = Outcome(**said[0])
        for running in list(self.running.values()):
            # A process that the step started and that outlives it may hold the connection open.
            if _is_gone(running.process) and not running.connection.poll():
                self._ended(running)

    def _ended(self, running: _Running) -> None:
        """The step's process is at its end: take its outcome, or say how it died."""
        if running.outcome is None:
            _signal_group(running.process, signal.SIGKILL)  # what it had started has nobody to work for
        running.process.join()
        running.connection.close()
        running.temporary.close()
        step, plan, outcome = running.step, running.plan, running.outcome
        del self.running[step.id]
        seconds = time.monotonic() - running.started
        if outcome is None:
            self._failed(step, plan, how_its_process_died(running.process.exitcode, "an outcome"), seconds)
            self.store.remove_dead_staging()
        elif outcome.action == "failed":
            self._failed(step, plan, outcome.message, seconds)
        elif outcome.action == "refused" or outcome.action == "no need":
            self._said_no(step, plan, outcome.action, outcome.message, seconds)
        else:
            assert plan.key is not None
            execution = self.store.find(step.id, plan.key)
            if execution is None:
                self._failed(step, plan, "its outputs were removed right after they were published", seconds)
            else:
                self._finished(step, plan, execution, "reuse" if outcome.action == "reuse" else "run", seconds)

    def _finished(
        self, step: Step, plan: StepPlan, execution: Execution, action: Literal["run", "reuse"], seconds: float
    ) -> None:
        self.executions[step.id] = execution
        self._note(step, plan, action, seconds, execution=execution)
        outputs = [
            (name, kind.__name__, open_output(execution, name, kind).describe())
            for name, kind in read_contract(resolve(step.component)).outputs.items()
        ]
        reason = "made by another run" if action == "reuse" and seconds else ", ".join(plan.reasons)
        if reason in (NEVER_RAN, NOTHING_CHANGED):
            reason = ""  # says nothing while it runs
        self.listener(log.StepFinished(step.id, action, seconds, outputs, reason))

    def _failed(self, step: Step, plan: StepPlan, message: str, seconds: float) -> None:
        self.stopping = True
        self._note(step, plan, "failed", seconds, message)
        order = self.store.order_path(self.run, step.id)
        self.listener(
            log.StepFailed(
                step.id,
                message,
                str(nearest(self.store.log_path(self.run, step.id))),
                f"pipeline step {nearest(order)}",
                seconds,
            )
        )

    def _said_no(
        self, step: Step, plan: StepPlan, action: Literal["refused", "no need"], message: str, seconds: float
    ) -> None:
        self.stopping = True
        self._say_no(step, plan, action, message, seconds, step.inputs.values())

    def _say_no(
        self,
        step: Step,
        plan: StepPlan,
        action: Literal["refused", "no need"],
        message: str,
        seconds: float,
        looked_at: Iterable[Wire],
    ) -> None:
        self._note(step, plan, action, seconds, message)
        # Where the verdict was made: there are the metrics of every slice, the thresholds, the anomalies.
        judges = [wire for wire in looked_at if _is_verdict(self.graph, wire)]
        judged = next((wire.step for wire in sorted(judges, key=self._blessed)), step.id)
        root = "" if self.store.root == Path.cwd() / ".penstock" else f" --root {nearest(self.store.root)}"
        more = f"pipeline show {self.run} {judged}{root}"
        event = log.StepRefused if action == "refused" else log.StepFoundNoNeed
        reused = plan.action == action and plan.key is not None
        self.listener(event(step.id, message, seconds, reused=reused, more=more))

    def _blessed(self, verdict: Wire) -> bool:
        return bool(self.executions[verdict.step].manifest.outputs[verdict.output].properties.get("blessed"))

    def _note(
        self,
        step: Step,
        plan: StepPlan | None,
        action: Action,
        seconds: float = 0.0,
        message: str = "",
        execution: Execution | None = None,
    ) -> None:
        self.actions[step.id] = action
        self.messages[step.id] = message
        record = StepRecord(
            step=step.id,
            key=(plan.key or "") if plan else "",
            action=action,
            reason=", ".join(plan.reasons) if plan else "",
            seconds=round(seconds, 3),
            message=message,
        )
        self.ledger.record_step(self.run, record, execution)

    def _stop_all(self) -> None:
        """End every step's process and remove what it had staged. Scratch stays, for the next run to go on from."""
        for running in self.running.values():
            _signal_group(running.process, signal.SIGTERM)
        deadline = time.monotonic() + _GRACE_S
        for running in self.running.values():
            running.process.join(max(0.0, deadline - time.monotonic()))
            _signal_group(running.process, signal.SIGKILL)
            running.process.join(_GRACE_S)
            running.connection.close()
            running.temporary.close()
        # The processes first: what follows may fail, and is not what the run ends for.
        with contextlib.suppress(PenstockError):
            self.store.remove_dead_staging()
        for running in self.running.values():
            seconds = time.monotonic() - running.started
            with contextlib.suppress(PenstockError):
                self._note(running.step, running.plan, "skipped", seconds, "the run was stopped")
        self.running.clear()


def _is_verdict(graph: Graph, wire: Wire) -> bool:
    return issubclass(read_contract(resolve(graph[wire.step].component)).outputs[wire.output], Verdict)


def _is_heavy(step: Step) -> bool:
    """Whether the step is better forked from the warm process: it takes data, or is TFX's, and its code imports a heavy library.

    A step of ours without inputs reads files, which takes little but Beam: it is under way while the warm process still imports.
    One of TFX's would import all of TFX beside the warm process, to begin no sooner.
    """
    if not step.inputs and not _is_of_tfx(step):
        return False
    return bool(_HEAVY & set(code_closure([step.component]).libraries))


def _is_of_tfx(step: Step) -> bool:
    return bool(read_contract(resolve(step.component)).run_by)


_warm_users = 0  # runs in this process that share the warm process; two may go on in threads
_warm_lock = threading.Lock()
_warm_temporary = contextlib.ExitStack()  # the directory of its temporary files


@contextlib.contextmanager
def _warm_process(chatter: Path, modules: Sequence[str]) -> Iterator[None]:
    """Have a process that heavy steps are forked from, for one run: a later one may have other code and environment.

    What its imports print goes to `chatter`, not to the terminal.
    """
    global _warm_users, _warm_temporary
    with _warm_lock:
        if _warm_users == 0:
            with contextlib.ExitStack() as temporary:
                _start_warm_process(chatter, modules, temporary.enter_context(temporary_files.directory()))
                _warm_temporary = temporary.pop_all()
        _warm_users += 1
    try:
        yield
    finally:
        with _warm_lock:
            _warm_users -= 1
            if _warm_users == 0:
                _end_warm_process()


def _start_warm_process(chatter: Path, modules: Sequence[str], temporary: Path) -> None:
    environment = {
        **temporary_files.environment(temporary),
        "TF_USE_LEGACY_KERAS": "1",
        "TF_CPP_MIN_LOG_LEVEL": os.environ.get("TF_CPP_MIN_LOG_LEVEL", "1"),
        WARMED: " ".join([__name__, *modules]),  # the first: what a step's process runs
    }
    before = {name: os.environ.get(name) for name in environment}
    multiprocessing.get_context("forkserver").set_forkserver_preload(["pipeline.runners.warm"])
    with ctrl_c_blocked():
        # On this process's standard error, as multiprocessing means it: whoever reads that to its end has seen its end too.
        multiprocessing.resource_tracker.ensure_running()
    sys.stdout.flush()
    sys.stderr.flush()
    saved = os.dup(1), os.dup(2)
    with chatter.open("ab") as file:
        try:
            os.environ.update(environment)
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
            with ctrl_c_blocked(), temporary_files.sockets_in(temporary):
                multiprocessing.forkserver.ensure_running()
        finally:
            for descriptor, standard in zip(saved, (1, 2), strict=True):
                os.dup2(descriptor, standard)
                os.close(descriptor)
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value


def _end_warm_process() -> None:
    server: Any = multiprocessing.forkserver._forkserver
    if server._forkserver_pid is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(server._forkserver_pid, signal.SIGKILL)  # it may still import, and would end only after that
        server._stop()
    _warm_temporary.close()


_main_lock = threading.Lock()


@contextlib.contextmanager
def _without_main() -> Iterator[None]:
    """Hide __main__ while a process starts: multiprocessing would import it again in the child.

    The child needs nothing of it, and a user's script or notebook that runs a pipeline need not be importable.
    """
    with _main_lock:  # another run in a thread would take what is hidden for what there was
        main = sys.modules["__main__"]
        spec, file = getattr(main, "__spec__", None), getattr(main, "__file__", None)
        main.__spec__ = main.__file__ = None
        try:
            yield
        finally:
            main.__spec__, main.__file__ = spec, file


class _Runner:
    """The runner, as a step's process talks to it: from any thread, one message at a time."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._lock = threading.Lock()

    def tell(self, kind: str, *said: Any) -> None:
        """Send a message. Raises OSError when the runner is gone."""
        with self._lock:
            self._connection.send((kind, *said))

    def is_gone(self, timeout_s: float | None = 0.0) -> bool:
        """Whether the runner's end is closed; it never sends, so that readable means just that. None waits for it."""
        return bool(multiprocessing.connection.wait([self._connection], timeout_s))


def _step_process(connection: Connection, order: str, log_file: str, temporary: str) -> None:
    """What a step's process does: its own output into its log, its outcome to the runner, then out."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the runner decides what ends
    unblock_ctrl_c()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.setpgid(0, 0)  # a group of its own, so that what the step starts ends with it
    with Path(log_file).open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # what was printed before a crash is what one looks for
    runner = _Runner(connection)
    if runner.is_gone():
        os._exit(1)
    temporary_files.put_into(Path(temporary))
    threading.Thread(target=_end_with_runner, args=(runner,), daemon=True).start()
    progress = SpacedProgress(lambda *how: runner.tell("progress", *how), _PROGRESS_S)
    outcome = run_order(Order.read(Path(order)), progress, on_wait=lambda who: runner.tell("waiting", who))
    runner.tell("outcome", asdict(outcome))
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.killpg(0, signal.SIGTERM)
    exit_now(0)


def _end_with_runner(runner: _Runner) -> None:
    """End this process and what it started when the runner is gone, however it went: nobody would take the outcome."""
    runner.is_gone(None)
    os.killpg(0, signal.SIGKILL)


def _signal_group(process: Any, number: int) -> None:
    """Send a signal to a step's process and to everything it started."""
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:  # it has no group yet, or is gone
        if process.exitcode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, number)


def _is_gone(process: Any) -> bool:
    """Whether a process has ended. Not by its exit code alone: that of a forked one is lost when the warm process dies."""
    return process.exitcode is not None and not is_at_work(process.pid)


def summary(graph: Graph, executions: Mapping[str, Execution]) -> tuple[dict[str, float | None], dict[str, str]]:
    """(metrics of the last evaluation, or of the last model where none was made; what was made where).

    What a step only passes on of an earlier run was not made.
    """
    metrics: dict[str, float | None] = {}
    paths: dict[str, str] = {}
    making = [step for step in graph.steps if not getattr(resolve(step.component), "PASSES_ON", False)]
    for wanted in ("ModelEvaluation", "Model"):
        for step in making:
            for output, record in executions[step.id].manifest.outputs.items() if step.id in executions else ():
                if record.type == wanted and not metrics:
                    metrics = dict(record.properties.get("metrics", {}))
                if record.type in ("ModelEvaluation", "Model") and wanted == "Model":
                    paths[f"{step.id}.{output}"] = str(nearest(executions[step.id].output(output)))
                if record.type == "PushedModel" and "version" in record.properties:  # TFX has some that are elsewhere
                    version = parse(record.properties["destination"]) / str(record.properties["version"])
                    paths["serving"] = str(nearest(version))
    return metrics, paths
