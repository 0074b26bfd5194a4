"""A process that runs the steps it is asked to, in which nothing but they use TensorFlow: their own processes are forked, as a step's are.

Each line that it reads is a request in JSON, each that it writes the answer: the artifact's properties or an error, the reports
of progress, and how many processes the step left.
"""

from __future__ import annotations

import importlib
import json
import multiprocessing
import os
import signal
import sys
from pathlib import Path
from typing import Any

from components.io.keras import arrange, keras_tuner
from components.model.trainer import Trainer
from components.model.tuner import Tuner
from schemas.artifacts import Examples, Hyperparameters, Model, TransformedExamples, TransformGraph
from schemas.component import Progress, Scratch, Seed

STEPS: dict[str, tuple[Any, str, Any]] = {
    "Trainer": (Trainer, "model", Model),
    "Tuner": (Tuner, "hyperparameters", Hyperparameters),
}


class Ended(Exception):
    pass


class Kept(Progress):
    """Keeps what it is told; ends the step, or kills the process, once so much is done."""

    def __init__(self, end_at: int | None, kill_at: int | None) -> None:
        self._end_at, self._kill_at = end_at, kill_at
        self.seen: list[Any] = []

    def __call__(self, done: int, total: int | None = None, unit: str = "rows") -> None:
        self.seen.append([done, total, unit])
        if self._kill_at is not None and done >= self._kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        if self._end_at is not None and done >= self._end_at:
            raise Ended


def answer(request: dict[str, Any]) -> dict[str, Any]:
    sys.path.insert(0, request["modules"])
    component, name, kind = STEPS[request["step"]]
    made, progress = kind(Path(request["to"])), Kept(request.get("end_at"), request.get("kill_at"))
    examples = Examples if request.get("raw") else TransformedExamples
    given: dict[str, Any] = {"properties": made.properties}
    try:
        component(**request["settings"]).run(
            examples(Path(request["examples"])),
            TransformGraph(Path(request["graph"])),
            seed=Seed(request["seed"]),
            scratch=Scratch(Path(request["scratch"])),
            progress=progress,
            **{name: made},
        )
    except Exception as error:  # noqa: BLE001 it is raised in the test
        given = {"error": type(error).__name__, "message": str(error), "cause": str(error.__cause__)}
    return {**given, "progress": progress.seen, "left": len(multiprocessing.active_children())}


if __name__ == "__main__":
    arrange()
    keras_tuner()  # what the steps' processes need is imported before they are forked
    importlib.import_module("tensorflow_transform")
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a step prints is no answer
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), file=answers, flush=True)
