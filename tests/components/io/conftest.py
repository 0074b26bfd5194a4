"""Runs a component as a step's process does, but for the store."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.contract import build_component, read_contract
from schemas.artifact import Artifact
from schemas.component import BeamOptions, Lineage, PlannedFiles, Progress, Scratch, Seed
from schemas.dotted_path import resolve


@pytest.fixture(scope="session")
def run_in(outputs_of: Callable[[type, Path], dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    """(directory, dotted path, settings, inputs) -> the outputs by name, under the directory like the scratch space."""

    def run(
        place: Path, dotted: str, settings: dict[str, Any] | None = None, **given: Artifact | Any
    ) -> dict[str, Any]:
        kind = resolve(dotted)
        component = build_component(kind, settings or {})
        outputs = outputs_of(kind, place / "outputs")
        (place / "scratch").mkdir()
        asked: dict[type, Any] = {
            BeamOptions: BeamOptions(),
            Scratch: Scratch(place / "scratch"),
            Lineage: Lineage(),
            PlannedFiles: PlannedFiles(),
            Progress: Progress(),
            Seed: Seed(1),
        }
        asks = {name: asked[ask] for name, ask in read_contract(kind).asks.items() if ask in asked}
        component.run(**{**asks, **outputs, **given})
        return outputs

    return run
