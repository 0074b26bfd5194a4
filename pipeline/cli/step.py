"""`pipeline step`: one step in this process, from its order, or as a task of Kubeflow's."""

from __future__ import annotations

import contextlib
import importlib
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.execute import Outcome, prepare_process, run_order
from pipeline.fingerprint import is_ours
from pipeline.order import Order
from pipeline.store import Store
from pipeline.temporary_files import own_directory
from schemas.errors import ConfigError

if TYPE_CHECKING:
    from pipeline.runners.kubeflow.task import TaskResult


@dataclass(frozen=True)
class StepRun:
    """How the step ended, and where its outputs are."""

    order: Order
    outcome: Outcome
    outputs: dict[str, Path]

    @property
    def exit_code(self) -> int:
        """0 done, reused, or no need to go on; 1 failed, 3 refused by a gate."""
        return {"failed": 1, "refused": 3}.get(self.outcome.action, 0)

    def as_json(self) -> dict[str, Any]:
        """What `--json` prints."""
        return {
            "step": self.order.step,
            "outcome": {"run": "done", "reuse": "nothing new"}.get(self.outcome.action, self.outcome.action),
            "seconds": round(self.outcome.seconds, 3),
            "error": self.outcome.error,
            "message": self.outcome.message,
            "outputs": {name: str(path) for name, path in self.outputs.items()},
        }

    def as_text(self) -> str:
        """One line for the step and one per output, or the error."""
        if self.outcome.action in ("failed", "refused", "no need"):
            return f"{self.order.step} {self.outcome.action}: {self.outcome.message}"
        verb = "reused" if self.outcome.action == "reuse" else f"done in {self.outcome.seconds:.1f} s"
        return "\n".join([f"{self.order.step} {verb}", *(f"  {name}  {path}" for name, path in self.outputs.items())])


def run_step(order: Path, *, force: bool = False) -> StepRun:
    """Run the step that an order file describes, in this process, and publish its outputs; reuse what the store has.

    What runs is the code, libraries and input files as they are now, under the key that is true for them: a function that
    was mended since the order was written is what the outputs are made with, and `pipeline run` finds them. Everything else
    stays as ordered. What goes wrong in the step is in the result. Raises ConfigError when the file is no order, or orders
    what does not exist any more.
    """
    started = time.monotonic()
    ordered = Order.read(order)
    with contextlib.chdir(ordered.directory):
        _forget_modules(ordered)
        prepare_process(ordered)
        # A run that asked for the step anew (--force) has done so; by hand it is repeated only when that is said again.
        current = replace(ordered.as_of_now(), replace=force, forced=force)
        with own_directory():
            outcome = run_order(current, on_wait=print)
    execution = Store(current.root).find(current.step, current.key) if outcome.published else None
    outputs = {name: execution.output(name) for name in execution.manifest.outputs} if execution else {}
    return StepRun(current, replace(outcome, seconds=time.monotonic() - started), outputs)


def run_step_as_task(
    target: str,
    step: str,
    *,
    root: str | None,
    expect: str | None,
    executor_input: str | None,
    overrides: Iterable[str] = (),
    force: bool = False,
) -> TaskResult:
    """Run a step of the definition that `target` names as a task of Kubeflow's: `runners.kubeflow.task.run_task`.

    Raises ConfigError when what a package always gives is missing, or `force` asked, and what `run_task` raises.
    """
    from pipeline.runners.kubeflow.task import run_task

    if root is None or executor_input is None:
        missing = [name for name, given in (("--root", root), ("--executor-input", executor_input)) if given is None]
        raise ConfigError(
            f"pipeline step {target} {step}: a task of Kubeflow's also has {' and '.join(missing)}. On this machine, run "
            f"`pipeline run {target} --to {step}`, or a step from its order: `pipeline step <root>/runs/<run>/{step}.order.json`"
        )
    if force:
        raise ConfigError(
            f"--force: a task of Kubeflow's runs what is not in the store. To have {step} run each time, write `cache: false`"
        )
    return run_task(target, step, root=root, expect=expect, executor_input=executor_input, overrides=overrides)


def _forget_modules(order: Order) -> None:
    """Have the user's modules imported anew: in a notebook they may have been imported before they were mended."""
    known = {**order.key_parts.get("user_code", {}), **order.key_parts.get("code", {})}
    for name in known:
        if not is_ours(name):
            sys.modules.pop(name, None)
    importlib.invalidate_caches()
