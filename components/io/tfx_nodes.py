"""What TFX's nodes without an executor become: an Importer, and the Resolver of the latest blessed model."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from components.io.links import link
from components.io.tfx_artifacts import CUSTOM, artifact_of, location, out
from schemas.artifact import ABSENT, Artifact
from schemas.artifacts import Model
from schemas.component import Baseline, Earlier, InputFiles, Out, PlannedFiles, Sought
from schemas.errors import ConfigError
from schemas.input_files import FoundFile, check_readable, nearest

RESULT = "result"  # what an Importer's output is called


@dataclass(frozen=True, kw_only=True)
class LatestBlessedModel:
    """-> Model: the last model that was blessed and pushed, which is what the pipeline's Pusher serves now.

    `candidate` is the model that will be compared with it: where that very model serves already, the one that it was compared
    with then is given again, so that an unchanged run changes nothing. Where nothing serves, the output is there and empty.
    """

    EXPLICIT_INPUTS: ClassVar[bool] = True
    PASSES_ON: ClassVar[bool] = True

    def run(
        self,
        candidate: Model | None = None,
        *,
        baseline: Baseline,
        model: Out[Model],
    ) -> None:
        """Put a second name to the served model's files."""
        if baseline.path is None:
            model.properties[ABSENT] = True
            return
        link_tree(baseline.path, model.serving)


@dataclass(frozen=True, kw_only=True)
class LatestBlessedModelToGoOnFrom:
    """-> Model: the same, where no model is compared with it: one is made out of it, and serves next.

    Then that would be the one to go on from, and so on for ever. So it is given once something that the run is made of has
    changed, and until then the one before is given again.
    """

    EXPLICIT_INPUTS: ClassVar[bool] = True
    PASSES_ON: ClassVar[bool] = True

    def sought(self) -> Sequence[Sought]:
        """Nothing but whether the run is made of something new."""
        return ()

    def run(self, *, baseline: Baseline, earlier: Earlier, model: Out[Model]) -> None:
        """Put a second name to the served model's files."""
        LatestBlessedModel().run(baseline=baseline, model=model)


class Importer:
    """Files -> an artifact: a copy of what lies at `source_uri`, or a second name for it, with properties."""

    ARTIFACT: ClassVar[type[Any]]

    source_uri: str
    properties: Mapping[str, Any]
    custom_properties: Mapping[str, Any]

    def __post_init__(self) -> None:
        declared = self.ARTIFACT.PROPERTIES or {}
        unknown = [name for name in self.properties if name not in declared]
        if unknown:
            raise ConfigError(
                f"properties.{unknown[0]}: {self.ARTIFACT.TYPE_NAME} declares no such property. It has: "
                f"{', '.join(declared) or 'none'}; others go into custom_properties"
            )

    def select_files(self) -> Mapping[str, list[FoundFile]]:
        """Every file of the artifact. Raises DataError."""
        from schemas.errors import DataError

        source = Path(self.source_uri).expanduser()
        found = [source] if source.is_file() else sorted(path for path in source.rglob("*") if path.is_file())
        if not found:
            raise DataError(f"{self.source_uri}: there is nothing to import.{nearest(source)}")
        check_readable(found)
        root = _root(source)
        return {"source_uri": [FoundFile(file, name=str(file.relative_to(root))) for file in found]}

    def run(self, files: PlannedFiles, *, result: Artifact) -> None:
        """Copy the files that were planned, or all there are where nobody planned."""
        source = Path(self.source_uri).expanduser()
        root = _root(source)
        planned = [file.path for file in files.by_setting.get("source_uri", ())]
        for file in planned or [found.path for found in self.select_files()["source_uri"]]:
            place = result.path / file.relative_to(root)
            if source.is_file():  # which may be all there is of an artifact of the type
                place = alone if (alone := location(self.ARTIFACT, result.path)) != result.path else place
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(file, place)
        result.properties.update(self.properties)
        if self.custom_properties:
            result.properties[CUSTOM] = dict(self.custom_properties)


@functools.cache
def importer_of(kind: type[Any]) -> type[Any]:
    """The component that imports an artifact of TFX's class `kind`, under the class's own dotted path."""
    import dataclasses

    def run(self: Any, files: PlannedFiles, *, result: Artifact) -> None:
        Importer.run(self, files, result=result)

    run.__annotations__ = {"files": PlannedFiles, RESULT: out(artifact_of(kind))}
    made = dataclasses.make_dataclass(
        kind.__name__,
        [
            ("source_uri", InputFiles),
            ("properties", dict[str, Any], field(default_factory=dict)),
            ("custom_properties", dict[str, Any], field(default_factory=dict)),
        ],
        bases=(Importer,),
        frozen=True,
        kw_only=True,
        namespace={
            "run": run,
            "ARTIFACT": kind,
            "RUN_BY": ("components.io.tfx_nodes.Importer",),
            "__doc__": f"Files -> {kind.__name__}: imported as they are.",
        },
    )
    made.__module__, made.__qualname__ = kind.__module__, kind.__qualname__
    return made


def _root(source: Path) -> Path:
    return source.parent if source.is_file() else source


def link_tree(source: Path, target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    for path in sorted(source.rglob("*")):
        place = target / path.relative_to(source)
        if path.is_dir():
            place.mkdir(exist_ok=True)
        else:
            link(path, place)
