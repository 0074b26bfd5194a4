"""The lineage of a run: its steps with their settings, what each read and what each made, for those who write it elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

State = Literal["complete", "cached", "failed", "canceled", "running"]


@dataclass(frozen=True, kw_only=True)
class MadeArtifact:
    """An output of an execution, in the directory `path` of the store. It may be gone from there since.

    `component` is the dotted path of what made it and `output` its name there; None and no properties where only a reader of
    it is left to tell of it. `original` is what this is a second name for, where a step passed on what an earlier run had made.
    """

    path: Path
    type: str  # TFX's name of it
    digest: str
    output: str
    component: str | None
    properties: Mapping[str, Any] = field(default_factory=dict)
    made_at: datetime | None = None
    is_there: bool = True
    original: MadeArtifact | None = None


@dataclass(frozen=True, kw_only=True)
class RanStep:
    """A step of a run that began, or found its outputs in the store."""

    step: str  # what TFX calls the node, where the pipeline is one of TFX's
    state: State
    component: str  # dotted path; the step's id where nothing tells
    settings: Mapping[str, Any] = field(default_factory=dict)
    began_at: datetime
    ended_at: datetime
    message: str = ""  # the error or refusal
    facts: Mapping[str, Any] = field(
        default_factory=dict
    )  # key, action, reason, files: what ML Metadata has no field for
    inputs: Mapping[str, MadeArtifact] = field(default_factory=dict)
    outputs: Mapping[str, MadeArtifact] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class RunLineage:
    """One run. Steps are in the order in which each comes after those it read from."""

    run: str
    pipeline: str  # as TFX calls it
    began_at: datetime
    ended_at: datetime | None  # None: it goes on, or was stopped before it could say
    steps: tuple[RanStep, ...]
