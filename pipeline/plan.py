"""Plan: which steps run and which are reused, and why."""

from __future__ import annotations

import functools
import hashlib
import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pipeline.conditions import needs_of, unmet, with_what_is_there, without
from pipeline.contract import Contract, build_component, read_contract
from pipeline.earlier import find_earlier
from pipeline.fingerprint import code_closure, file_digest, key_of, what_changed
from pipeline.graph import Condition, Graph, Step, as_anywhere, canonical_json
from pipeline.remembered_digests import RememberedDigests
from pipeline.store import Execution, Store
from schemas.artifacts import Hyperparameters
from schemas.component import Baseline, Earlier, Publisher, Seed
from schemas.dotted_path import resolve
from schemas.errors import ArtifactError, ConfigError, DataError, NotNeeded
from schemas.location import Location, ObjectUrl
from schemas.passport import Passport

NEVER_RAN = "it never ran"
NOTHING_CHANGED = "nothing changed"
_HAS_MODEL = "components.release.destinations.has_model"

Action = Literal["run", "reuse", "refused", "no need", "skipped", "wait"]


@dataclass(frozen=True)
class StepPlan:
    """What happens to one step, and why.

    `action`: `run`; `reuse`, the store holds its outputs; `refused`, the store holds a gate's no to exactly this; `no need`,
    it holds that nothing asks for what comes after this; `wait`, a step before it runs, and only what that makes decides
    (reused when it turns out unchanged). `skipped`, a condition of the step does not hold, or of one whose
    outputs it needs; `refused` without a key, a condition does not hold for want of a blessing. Others run all the same then.
    """

    step: str
    action: Action
    reasons: tuple[str, ...]
    key: str | None = None
    parts: Mapping[str, Any] | None = None
    execution: Execution | None = None  # what the store holds under the key
    baseline: Baseline = field(default_factory=Baseline)
    replace: bool = False  # the step runs although something is under its key, which its outputs take the place of
    forced: bool = False  # the step runs whatever the store holds, of it or of parts of its work

    @property
    def set_aside(self) -> bool:
        """Whether the step does not run because of a condition, its own or one of a step before it."""
        return self.key is None and self.action in ("refused", "skipped")


def make_plan(graph: Graph, store: Store, force: Collection[str] = ()) -> tuple[StepPlan, ...]:
    """The plan of every step, in order, without running or writing anything.

    Raises ConfigError, DataError (input files) and ArtifactError (a corrupt artifact that would be reused).
    """
    plans: list[StepPlan] = []
    executions: dict[str, Execution] = {}
    aside: set[str] = set()
    for whole in graph.steps:
        missing = needs_of(whole, aside)
        if missing:
            plans.append(StepPlan(whole.id, "skipped", (without(missing),)))
            aside.add(whole.id)
            continue
        step = with_what_is_there(whole, aside)
        kept = None if step.when else _kept(graph, step, store, force)  # whatever is kept, its conditions come first
        undecided = [wire.step for wire in (*step.inputs.values(), *step.asked) if wire.step not in executions]
        if kept is not None and undecided:
            plans.append(StepPlan(step.id, "reuse", (_origin(kept),), kept.key, execution=kept))
            executions[step.id] = kept
            continue
        if undecided:
            forced = step.id in force and not step.when
            reason = "forced" if forced else f"after {', '.join(dict.fromkeys(undecided))}"
            plans.append(StepPlan(step.id, "run" if forced else "wait", (reason,)))
            continue
        plan = decide(graph, step, executions, store, force)
        if plan.action == "reuse" and plan.execution is not None:
            executions[step.id] = plan.execution
        elif plan.set_aside:
            aside.add(step.id)
        plans.append(plan)
    return tuple(plans)


def never_ran(graph: Graph, store: Store) -> bool:
    """Whether the store holds nothing of this pipeline's steps: who runs it has not seen what there is to know of it."""
    return all(store.latest(step.id, graph.name) is None for step in graph.steps)


def decide(
    graph: Graph,
    step: Step,
    executions: Mapping[str, Execution],
    store: Store,
    force: Collection[str] = (),
    anyway: Mapping[str, str] | None = None,
    run: str | None = None,
) -> StepPlan:
    """The plan of one step whose inputs are all there. `executions` holds the steps before it; `run` is the run, if it has begun.

    `anyway` is {"by", "at", "reason"} of who has models blessed whatever the gates say.

    A corrupt execution under the step's key raises ArtifactError, unless the step runs whatever the store holds. Raises
    what a condition raises that cannot say whether it holds.
    """
    against = unmet(graph, step, executions)
    if against is not None:
        return StepPlan(step.id, "skipped" if isinstance(against, NotNeeded) else "refused", (str(against),))
    contract = read_contract(resolve(step.component))
    earlier = _find_earlier(graph, step, contract, store, run)
    takes_baseline = contract.takes_baseline(step.settings)
    baseline = find_baseline(graph, step, contract, executions, store, earlier) if takes_baseline else Baseline()
    parts = key_parts(graph, step, contract, executions, store, baseline, anyway, earlier)
    key = key_of(parts)
    kept = _kept(graph, step, store, force)
    if kept is not None and kept.key != key:
        changes = what_changed(kept.manifest.key_parts, parts)
        although = (f"although {', '.join(changes)}",) if changes else ()
        return StepPlan(step.id, "reuse", (_origin(kept), *although), kept.key, execution=kept)
    forced = "forced" if step.id in force else None if step.cache else "cache: false"
    corrupt = False
    try:
        found = store.find(step.id, key)
    except ArtifactError:
        if forced is None:
            raise
        found, corrupt = None, True

    def plan(action: Action, *reasons: str) -> StepPlan:
        replace = action == "run" and (corrupt or found is not None)
        return StepPlan(step.id, action, reasons, key, parts, found, baseline, replace, forced is not None)

    if forced is not None:
        return plan("run", forced)
    if found is None:
        latest = store.latest(step.id, graph.name)
        reasons = what_changed(latest.key_parts, parts) if latest else (NEVER_RAN,)
        return plan("run", *(reasons or ("its outputs are not in the store",)))
    if found.manifest.refusal is not None:
        since = "it was refused" if found.manifest.refusal.action == "refused" else "it found no need to go on"
        return plan(found.manifest.refusal.action, f"nothing changed since {since}")
    gone = _published_is_gone(step, contract, found)
    return plan("run", gone) if gone else plan("reuse", NOTHING_CHANGED)


def _kept(graph: Graph, step: Step, store: Store, force: Collection[str]) -> Execution | None:
    """What a step with `cache: latest` takes whatever its key: its newest execution. None for others, and where none is."""
    if step.cache != "latest" or step.id in force:
        return None
    latest = store.latest(step.id, graph.name)
    return store.find(step.id, latest.key) if latest is not None else None


def _origin(kept: Execution) -> str:
    """'reuses the winner of run 20261121-220503-edb2 (best of 12)'."""
    (made,) = kept.manifest.outputs.items()  # a lint rule asks for hyperparameters alone
    winner = Hyperparameters(kept.output(made[0]), dict(made[1].properties))
    return f"reuses the winner of run {kept.manifest.run} ({winner.provenance() or 'of a tuner_fn'})"


def key_parts(
    graph: Graph,
    step: Step,
    contract: Contract,
    executions: Mapping[str, Execution],
    store: Store,
    baseline: Baseline,
    anyway: Mapping[str, str] | None = None,
    earlier: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Everything the step's outputs depend on, as JSON data; `fingerprint.key_of` turns it into the key."""
    read = {port: executions[wire.step].manifest.outputs[wire.output] for port, wire in step.inputs.items()}
    return parts_of(
        contract,
        step.component,
        step.settings,
        inputs={port: found.digest for port, found in read.items()},
        properties=contract.properties_read({port: found.properties for port, found in read.items()}),
        seed=graph.seed,
        baseline={"digest": baseline.digest, "version": baseline.version} if baseline.digest else None,
        anyway=anyway,
        earlier=earlier,
        digest=RememberedDigests(store.root),
    )


def _find_earlier(
    graph: Graph, step: Step, contract: Contract, store: Store, run: str | None
) -> Mapping[str, Any] | None:
    if contract.ask(Earlier) is None:
        return None
    whole = graph.whole or graph
    # On a cluster the pod of this step may see none of the files that another's reads.
    found = _files_of_run(store, run) if run is not None else None
    digest = digest_of_run(whole, RememberedDigests(store.root), found)
    return find_earlier(whole, step, contract, store, digest, run)


def _files_of_run(store: Store, run: str) -> Callable[[str], Mapping[str, Any]]:
    """Gives the input files of each step by setting, as the run has found them so far; none of one that it has not come to."""

    def of(step: str) -> Mapping[str, Any]:
        record = store.run_records({run}).get(run, {})
        keys = [str(one.get("key") or "") for one in record.get("steps", ()) if one.get("step") == step]
        execution = store.find(step, keys[0]) if keys and keys[0] else None
        found: Mapping[str, Any] = execution.manifest.key_parts.get("files", {}) if execution else {}
        return found

    return of


def parts_of(
    contract: Contract,
    component: str,
    settings: Mapping[str, Any],
    *,
    inputs: Mapping[str, str],
    seed: int | None,
    baseline: Mapping[str, Any] | None,
    properties: Mapping[str, Any] | None = None,
    anyway: Mapping[str, str] | None = None,
    earlier: Mapping[str, Any] | None = None,
    digest: Callable[[Path], str] = file_digest,
    files: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The parts of a key: what is given, and code, libraries and input files as they are now, or the `files` that were found.

    `inputs` maps each wired port to its digest, `properties` some to what else of the artifact decides. Settings that name files or
    the user's code count by content, not by name; those that choose among the files count by what they chose. What is not written
    for us has absolute paths of a checkout in its settings, and has the same key in another (`as_anywhere`).
    That somebody has the model blessed anyway counts for a step that blesses: who and why, not when, so that saying it again
    reuses it.
    Raises ConfigError for a module that does not exist, DataError for input files that do not.
    """
    ours = code_closure([component, *contract.run_by])
    theirs = code_closure(contract.paths(settings, contract.user_code))
    counted = {
        name: value for name, value in settings.items() if name not in (*contract.input_files, *contract.chooses_files)
    }
    parts: dict[str, Any] = {
        "component": component,
        "code": ours.as_json(),
        "user_code": {name: module for name, module in theirs.as_json().items() if name not in ours.modules},
        "settings": as_anywhere(counted) if contract.run_by else counted,
        "libraries": {**ours.libraries, **theirs.libraries},
        "python": f"{sys.version_info.major}.{sys.version_info.minor}",
        "inputs": dict(inputs),
        "files": dict(files) if files is not None else files_of(contract, settings, digest),
    }
    if properties:
        parts["properties"] = dict(properties)
    if contract.ask(Seed):
        parts["seed"] = seed
    if contract.takes_baseline(settings):
        parts["baseline"] = baseline
    if contract.ask(Earlier):
        parts["earlier"] = earlier
    if anyway and contract.blesses:
        parts["anyway"] = {"by": anyway["by"], "reason": anyway["reason"]}
    return parts


def digest_of_run(
    graph: Graph,
    digest: Callable[[Path], str] = file_digest,
    found: Callable[[str], Mapping[str, Any]] | None = None,
) -> str:
    """sha256, in hex, of everything that a run begun now would be made of.

    That is each step's code, that of its conditions, the user's code, settings, libraries, seed and files, but not the settings that
    only choose files, nor the model that is served. `found` gives the files of a step where they cannot be read from here. Raises
    ConfigError and DataError as a plan does.
    """
    of_steps = {}
    for step in graph.steps:
        contract = read_contract(resolve(step.component))
        as_now = functools.partial(
            parts_of, contract, step.component, step.settings, inputs={}, seed=graph.seed, baseline=None
        )
        try:
            parts = as_now(digest=digest)
        except DataError:
            if found is None:
                raise
            parts = as_now(files=found(step.id))
        of_steps[step.id] = [
            key_of(parts),
            sorted((port, str(wire)) for port, wire in step.inputs.items()),
            *([condition.as_json(), _code_of(condition)] for condition in step.when),
        ]
    return hashlib.sha256(canonical_json([graph.name, of_steps]).encode()).hexdigest()


def _code_of(condition: Condition) -> dict[str, str]:
    return {name: module.digest for name, module in code_closure([condition.component]).modules.items()}


def files_of(
    contract: Contract, settings: Mapping[str, Any], digest: Callable[[Path], str] = file_digest
) -> dict[str, list[dict[str, Any]]]:
    """The input files behind each setting that names some, with their digests and spans.

    Raises DataError when there are none, and for one that cannot be read to its end.
    """
    return {
        name: [
            _counted(file.path, digest)
            | ({} if file.span is None else {"span": file.span, "version": file.version, "label": file.label})
            | ({} if file.name is None else {"name": file.name})
            for file in found
        ]
        for name, found in contract.files(settings).items()
    }


def _counted(file: Path, digest: Callable[[Path], str]) -> dict[str, Any]:
    try:
        return {"path": str(file), "digest": digest(file), "bytes": file.stat().st_size}
    except FileNotFoundError:
        raise DataError(
            f"{file}: it was removed while the input files were read. Where it was replaced by another, run again"
        ) from None
    except OSError as error:
        raise DataError(
            f"{file}: cannot be read: {error.strerror}. Look at the disk or the network behind it"
        ) from error


def find_baseline(
    graph: Graph,
    step: Step,
    contract: Contract,
    executions: Mapping[str, Execution],
    store: Store,
    earlier: Mapping[str, Any] | None = None,
) -> Baseline:
    """The model that the serving directory of the graph's first publishing step serves now.

    Where that is the very candidate (its passport names the digest of the Model that `step` takes), the baseline is the one
    recorded in the passport, so that an unchanged run changes nothing. For the same reason a step that made the served model
    itself, out of what it would be given now, keeps the baseline that it had then. With several publishing steps the first
    one below `step` counts. `earlier` is what it is given of earlier runs, as its key has it.
    """
    publisher = _publisher_below(graph, step)
    served = publisher.served() if publisher else None
    if served is None:
        return Baseline()
    version, passport, path = served
    if passport is None:  # pushed by another tool: its version is all there is to know it by
        return _baseline(path, f"version:{version}", version)
    before = _baseline_before(graph, step, contract, executions, store, passport, earlier)
    if before is not None:
        return Baseline() if not before else _recorded(before, path.parent)
    candidates = {
        executions[wire.step].manifest.outputs[wire.output].digest
        for wire in step.inputs.values()
        if graph[wire.step].outputs[wire.output] == "Model"
    }
    if passport.model_digest not in candidates:
        return _baseline(path, passport.model_digest, version)
    if passport.baseline is None:
        return Baseline()
    return _recorded(passport.baseline, path.parent)


def _recorded(baseline: Mapping[str, Any], serving: Location) -> Baseline:
    """A baseline that was recorded by version and digest, as it is now where it was pushed to."""
    path = serving / str(baseline["version"])
    # When the recorded version has been removed since, its digest still finds what was made of it.
    there = path.is_dir() if isinstance(path, Path) else resolve(_HAS_MODEL)(path)
    return _baseline(path if there else None, baseline["digest"], baseline["version"])


def _baseline(location: Location | None, digest: str, version: int) -> Baseline:
    if isinstance(location, ObjectUrl):
        return Baseline(digest=digest, version=version, remote=location)
    return Baseline(path=location, digest=digest, version=version)


def _baseline_before(
    graph: Graph,
    step: Step,
    contract: Contract,
    executions: Mapping[str, Execution],
    store: Store,
    passport: Passport,
    earlier: Mapping[str, Any] | None,
) -> Mapping[str, Any] | None:
    """What `step` recorded as its baseline, {} for none, when it made the served model; None when it did not.

    It did when the passport names the key that the step has with the baseline that it had.
    """
    made = passport.steps.get(step.id, {}).get("key")
    try:
        execution = store.find(step.id, made) if made else None
    except ArtifactError:
        return None
    if execution is None:
        return None
    recorded: Mapping[str, Any] = execution.manifest.key_parts.get("baseline") or {}
    then = Baseline(digest=recorded.get("digest"), version=recorded.get("version"))
    now = key_of(key_parts(graph, step, contract, executions, store, then, earlier=earlier))
    return recorded if now == made else None


def _publisher_below(graph: Graph, step: Step) -> Publisher | None:
    found = publishing_below(graph, step)
    publisher: Publisher | None = build_component(resolve(found.component), found.settings) if found else None
    return publisher


def publishing_below(graph: Graph, step: Step) -> Step | None:
    """The first step below `step` that publishes: whose serving directory holds the baseline of `step`.

    One without a condition goes before: those with one may be for models that are not to serve.
    In a graph that was cut it may be one that was cut off: a step makes the same with what comes after it and without.
    """
    graph = graph.whole or graph
    below = graph.descendants(step.id)
    found = [other for other in graph.steps if other.id in below and read_contract(resolve(other.component)).publishes]
    return min(found, key=lambda other: bool(other.when), default=None)


def _published_is_gone(step: Step, contract: Contract, found: Execution) -> str | None:
    """For a publishing step: why what it pushed is not there any more. None when it is, and for every other step."""
    from schemas.artifacts import PushedModel

    if not contract.publishes:
        return None
    publisher: Publisher = build_component(contract.component, step.settings)
    for output, record in found.manifest.outputs.items():
        pushed = PushedModel(found.output(output), dict(record.properties))
        if record.type == PushedModel.TYPE_NAME and not publisher.holds(pushed):
            return f"{pushed.version_path} is gone"
    return None


def reach_destinations(graph: Graph) -> None:
    """Raise what a publishing step raises where its destination cannot be read: before the first step, not at the last."""
    for step in graph.steps:
        kind = resolve(step.component)
        if read_contract(kind).publishes:
            publisher: Publisher = build_component(kind, step.settings)
            publisher.served()


def check_steps(graph: Graph, names: Collection[str]) -> None:
    """Raise ConfigError unless every name is a step of `graph`."""
    problems: list[str] = []
    for name in names:
        try:
            graph[name]
        except ConfigError as error:
            problems.extend(error.problems)
    if problems:
        raise ConfigError(*problems)
