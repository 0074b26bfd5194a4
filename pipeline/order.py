"""Order: everything one step needs to run, as JSON in a file that `pipeline step` takes."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from pipeline.contract import Contract, read_contract
from pipeline.fingerprint import OURS, code_closure, is_file, is_ours, key_of, what_changed
from pipeline.graph import Graph, Step
from pipeline.plan import StepPlan, files_of, parts_of
from pipeline.remembered_digests import RememberedDigests
from pipeline.store import Execution, Store
from schemas.component import BeamOptions
from schemas.dotted_path import dotted_path_of, resolve
from schemas.errors import ConfigError, StoreError

FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class OrderInput:
    """Where one input is: output `output` of execution (`step`, `key`) in the order's root. `kind` is its class."""

    step: str
    key: str
    output: str
    kind: str
    type: str
    digest: str


@dataclass(frozen=True, kw_only=True)
class Order:
    """Everything that one step needs to run, as JSON in a file: what `pipeline step` takes."""

    pipeline: str
    run: str
    step: str
    component: str  # dotted path of the class
    settings: Mapping[str, Any]
    key: str
    key_parts: Mapping[str, Any]
    inputs: Mapping[str, OrderInput]
    root: str  # of the store
    directory: str  # working directory: relative paths and the user's modules start here
    beam: Mapping[str, Any] = field(default_factory=dict)
    seed: int | None = None
    baseline: Mapping[str, Any] = field(default_factory=dict)
    lineage: Mapping[str, Any] = field(default_factory=dict)
    anyway: Mapping[str, str] | None = None  # {"by", "at", "reason"}: whatever the step says of a model, it is blessed
    replace: bool = False  # run and publish although the key is published
    forced: bool = False  # take no part of what earlier executions kept
    format: int = FORMAT

    def write(self, path: Path) -> None:
        """Write the order where `pipeline step` will read it."""
        try:
            path.write_text(json.dumps(asdict(self), indent=1, sort_keys=True) + "\n", encoding="utf-8")
        except OSError as error:
            raise StoreError(f"{path}: cannot be written: {error.strerror}") from error

    @classmethod
    def read(cls, path: Path) -> Order:
        """The order in a file. Raises ConfigError when there is none."""
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            found["inputs"] = {port: OrderInput(**value) for port, value in found["inputs"].items()}
            return cls(**found)
        except FileNotFoundError:
            raise ConfigError(
                f"{path}: there is no such file; a run writes one per step under <root>/runs/<run>/"
            ) from None
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ConfigError(f"{path}: not a step's order: {error}") from error

    def as_of_now(self) -> Order:
        """The order for code, libraries and input files as they are now, under the key that is true for them.

        Inputs, settings, seed and baseline stay as they were ordered. The working directory must be the order's. Raises
        ConfigError when the component has an input now that the order knows nothing of, or code does not exist any more.
        """
        contract = read_contract(resolve(self.component))
        unknown = [port for port, wanted in contract.inputs.items() if port not in self.inputs and not wanted.optional]
        if unknown:
            raise ConfigError(
                f"{self.step}: {self.component} has an input '{unknown[0]}' now, which the order from run {self.run} does "
                f"not know. Run the pipeline instead: `pipeline run`"
            )
        parts = parts_of(
            contract,
            self.component,
            self.settings,
            inputs={port: wire.digest for port, wire in self.inputs.items()},
            seed=self.seed,
            baseline=self.key_parts.get("baseline"),
            properties=self.key_parts.get("properties"),
            anyway=self.anyway,
            earlier=self.key_parts.get("earlier"),
            digest=self._digest,
        )
        libraries = {**self.lineage.get("libraries", {}), **parts["libraries"]}
        lineage = {**self.lineage, "libraries": dict(sorted(libraries.items()))}
        return replace(self, key=key_of(parts), key_parts=parts, lineage=lineage)

    def changes(self, contract: Contract, loaded: Collection[str] = ()) -> tuple[str, ...]:
        """What the key was made from and is different now: input files, and the user's modules but those in `loaded`.

        To a step that reads the files that were planned, files that appeared since then are no change. A module that was
        loaded before it changed does what it did when the key was made.
        """
        paths = contract.paths(self.settings, contract.user_code)
        if self.component.partition(".")[0] not in OURS:
            paths.append(self.component)
        before = {**self.key_parts.get("user_code", {}), **self.key_parts.get("code", {})}
        theirs = {name: module for name, module in before.items() if not is_ours(name)}
        in_memory = {name: module["digest"] for name, module in theirs.items() if name in loaded}
        awaited = [name for name in theirs if name not in loaded and not is_file(name)]
        now = code_closure(paths, in_memory, awaited).modules
        modules = [name for name in {*now, *before} if not is_ours(name) and name not in loaded]
        files = {} if contract.selects_files else self.key_parts.get("files", {})
        others = what_changed(
            {"user_code": {name: before[name] for name in modules if name in before}, "files": files},
            {
                "user_code": {name: now[name].as_json() for name in modules if name in now},
                "files": {} if contract.selects_files else files_of(contract, self.settings, self._digest),
            },
        )
        return (*others, *(self._changed_planned_files() if contract.selects_files else ()))

    @property
    def _digest(self) -> RememberedDigests:
        return RememberedDigests(Path(self.root))

    def _changed_planned_files(self) -> Iterator[str]:
        for files in self.key_parts.get("files", {}).values():
            for file in files:
                path = Path(file["path"])
                if not path.is_file():
                    yield f"{path} is gone"
                elif self._digest(path) != file["digest"]:
                    yield f"{path} changed"


def make_order(
    graph: Graph,
    step: Step,
    plan: StepPlan,
    executions: Mapping[str, Execution],
    *,
    run: str,
    store: Store,
    beam: BeamOptions,
    commit: str | None,
    anyway: Mapping[str, str] | None = None,
) -> Order:
    """The order of a step that a plan decided to run. `executions` holds the steps before it.

    `beam` is where the pipeline's steps run; a step may have another place.
    """
    place = step.beam or beam
    if plan.key is None or plan.parts is None:
        raise ValueError(f"step {step.id} is not decided yet: {', '.join(plan.reasons)}")
    inputs = {}
    for port, wire in step.inputs.items():
        execution = executions[wire.step]
        kind = read_contract(resolve(graph[wire.step].component)).outputs[wire.output]
        output = execution.manifest.outputs[wire.output]
        inputs[port] = OrderInput(
            step=wire.step,
            key=execution.key,
            output=wire.output,
            kind=dotted_path_of(kind),
            type=output.type,
            digest=output.digest,
        )
    baseline = {
        "path": str(plan.baseline.path.absolute()) if plan.baseline.path else None,
        "digest": plan.baseline.digest,
        "version": plan.baseline.version,
        "remote": str(plan.baseline.remote) if plan.baseline.remote else None,
    }
    return Order(
        pipeline=graph.name,
        run=run,
        step=step.id,
        component=step.component,
        settings=dict(step.settings),
        key=plan.key,
        key_parts=plan.parts,
        inputs=inputs,
        root=str(store.root),
        directory=str(Path.cwd()),
        beam={"runner": place.runner, "args": list(place.args), "memory": step.memory},
        seed=graph.seed,
        baseline=baseline,
        lineage=_lineage(graph, step, plan, executions, run=run, commit=commit),
        anyway=anyway if "anyway" in plan.parts else None,
        replace=plan.replace,
        forced=plan.forced,
    )


def _lineage(
    graph: Graph, step: Step, plan: StepPlan, executions: Mapping[str, Execution], *, run: str, commit: str | None
) -> dict[str, Any]:
    """What schemas.component.Lineage holds, of every step before `step`."""
    steps: dict[str, Any] = {}
    libraries: dict[str, str] = dict((plan.parts or {}).get("libraries", {}))
    baseline: dict[str, Any] = {}
    before = graph.ancestors(step.id)
    for ancestor in graph.steps:
        if ancestor.id not in before or ancestor.id not in executions:  # a condition set it aside
            continue
        manifest = executions[ancestor.id].manifest
        steps[ancestor.id] = {
            "key": manifest.key,
            "component": manifest.component,
            "settings": dict(ancestor.settings),
            "inputs": {
                port: {"type": record.type, "digest": record.digest} for port, record in manifest.inputs.items()
            },
            "outputs": {
                port: {"type": record.type, "digest": record.digest, "properties": dict(record.properties)}
                for port, record in manifest.outputs.items()
            },
            "files": [file for files in manifest.key_parts.get("files", {}).values() for file in files],
            "code": {
                name: {"file": module["file"], "digest": module["digest"]}
                for name, module in manifest.key_parts.get("user_code", {}).items()
            },
        }
        libraries |= manifest.key_parts.get("libraries", {})
        baseline = manifest.key_parts.get("baseline") or baseline
    inputs = {}
    for port, wire in step.inputs.items():
        output = executions[wire.step].manifest.outputs[wire.output]
        inputs[port] = {"step": wire.step, "output": wire.output, "type": output.type, "digest": output.digest}
    return {
        "pipeline": graph.name,
        "run": run,
        "graph_digest": graph.digest,
        "git_commit": commit,
        "steps": steps,
        "inputs": inputs,
        "libraries": dict(sorted(libraries.items())),
        "baseline": baseline,
    }


def git_commit(directory: Path) -> str | None:
    """The commit checked out in `directory`, '<sha>+changes' when files differ from it; None outside a checkout."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(directory), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=10).stdout.strip()

    try:
        sha = git("rev-parse", "HEAD")
        return f"{sha}+changes" if git("status", "--porcelain", "--untracked-files=no") else sha
    except (OSError, subprocess.SubprocessError):
        return None
