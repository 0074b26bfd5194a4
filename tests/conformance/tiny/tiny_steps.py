"""Five light steps of a user's: numbers are read and scaled, their sum is the model, which is judged and pushed."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path

from schemas.artifacts import Blessing, Examples, Model, PushedModel, TransformedExamples
from schemas.component import InputFiles, Lineage, Out, Scratch, UserCode
from schemas.dotted_path import resolve
from schemas.errors import NotBlessed
from schemas.passport import Passport


@dataclass(frozen=True, kw_only=True)
class Read:
    """Files -> Examples: the numbers in the lines of a file."""

    source: InputFiles

    def run(self, examples: Out[Examples]) -> None:
        lines = [int(line) for line in Path(self.source).read_text().split()]
        examples.split_path("train").mkdir()
        (examples.split_path("train") / "numbers.json").write_text(json.dumps(lines))
        examples.properties["records"] = {"train": len(lines)}
        examples.properties["span"] = 3


@dataclass(frozen=True, kw_only=True)
class Scale:
    """Examples -> TransformedExamples: the user's function of every number."""

    function: UserCode

    def run(self, examples: Examples, transformed_examples: Out[TransformedExamples]) -> None:
        numbers = json.loads((examples.split("train") / "numbers.json").read_text())
        transformed_examples.split_path("train").mkdir()
        scaled = [resolve(self.function)(number) for number in numbers]
        (transformed_examples.split_path("train") / "numbers.json").write_text(json.dumps(scaled))


@dataclass(frozen=True, kw_only=True)
class Fit:
    """TransformedExamples -> Model: the sum, one number at a time, kept in scratch; it waits while there is a file `hold`."""

    times: int
    hold: str

    def run(self, examples: TransformedExamples, scratch: Scratch, model: Out[Model]) -> None:
        numbers = json.loads((examples.split("train") / "numbers.json").read_text())
        position = scratch.path / "position.json"
        done, total = json.loads(position.read_text()) if position.exists() else (0, 0)
        print(f"going on from {done}", flush=True)
        for number in numbers[done:]:
            done, total = done + 1, total + number * self.times
            staged = scratch.path / "position.new"
            staged.write_text(json.dumps([done, total]))
            staged.rename(position)
            while done == 2 and Path(self.hold).exists():
                time.sleep(0.01)
        model.serving.mkdir()
        (model.serving / "saved_model.pb").write_text(str(total))
        model.properties["metrics"] = {"sum": total}


@dataclass(frozen=True, kw_only=True)
class Judge:
    """Model -> Blessing: whether the sum is large enough."""

    least: float

    def run(self, model: Model, blessing: Out[Blessing]) -> None:
        total = int((model.serving / "saved_model.pb").read_text())
        blessing.write((f"sum {total} is below {self.least}",) if total < self.least else ())


@dataclass(frozen=True, kw_only=True)
class Push:
    """Model, Blessing -> PushedModel: versions 1, 2, ... with a passport."""

    destination: str

    def run(self, model: Model, blessing: Blessing, lineage: Lineage, pushed_model: Out[PushedModel]) -> None:
        if not blessing.blessed:
            raise NotBlessed(", ".join(blessing.reasons))
        served = self.served()
        version = served[0] + 1 if served else 1
        directory = Path(self.destination) / str(version)
        directory.mkdir(parents=True)
        (directory / "saved_model.pb").write_text((model.serving / "saved_model.pb").read_text())
        digest = lineage.inputs["model"]["digest"]
        passport = Passport(
            pipeline=lineage.pipeline,
            run=lineage.run,
            pushed_at="",
            version=version,
            model_digest=digest,
            files={},
            steps=lineage.steps,
        )
        passport.write(directory)
        pushed_model.write(directory.parent, version, digest)

    def served(self) -> tuple[int, Passport | None, Path] | None:
        versions = sorted(int(path.name) for path in Path(self.destination).glob("[0-9]*"))
        if not versions:
            return None
        directory = Path(self.destination) / str(versions[-1])
        return versions[-1], Passport.read(directory), directory

    def holds(self, pushed: PushedModel) -> bool:
        return pushed.version_path.is_dir()
