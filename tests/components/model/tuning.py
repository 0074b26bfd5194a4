"""A process that tunes what it is asked to, in which nothing but Tuner uses TensorFlow, as in a step's.

Each line that it reads is a request in JSON, each that it writes the answer: the artifact's properties and the reports of
progress, or an error.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from pathlib import Path
from typing import Any

from components.io.keras import arrange, keras_tuner
from components.model.tuner import Tuner
from schemas.artifacts import Hyperparameters, TransformedExamples, TransformGraph
from schemas.component import Progress, Scratch, Seed


class Kept(Progress):
    def __init__(self) -> None:
        self.seen: list[Any] = []

    def __call__(self, done: int, total: int | None = None, unit: str = "rows") -> None:
        self.seen.append([done, total, unit])


def answer(request: dict[str, Any]) -> dict[str, Any]:
    sys.path.insert(0, request["modules"])
    found, progress = Hyperparameters(Path(request["to"])), Kept()
    try:
        Tuner(**request["settings"]).run(
            TransformedExamples(Path(request["examples"])),
            TransformGraph(Path(request["graph"])),
            seed=Seed(request["seed"]),
            scratch=Scratch(Path(request["scratch"])),
            progress=progress,
            hyperparameters=found,
        )
    except Exception as error:  # noqa: BLE001 it is raised in the test
        return {"error": type(error).__name__, "message": str(error), "cause": str(error.__cause__)}
    return {"properties": found.properties, "progress": progress.seen}


if __name__ == "__main__":
    arrange()
    keras_tuner()  # what trials need is imported before they are forked
    importlib.import_module("tensorflow_transform")
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a search prints is no answer
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), file=answers, flush=True)
