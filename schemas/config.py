"""PipelineConfig: the shape of a definition, frozen and closed."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

JsonScalar = bool | int | float | str | None

Cache = Literal[True, False, "latest"]

STEP_ID = r"^[a-z][a-z0-9_]*$"
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]*$", max_length=63)]
StepId = Annotated[str, Field(pattern=STEP_ID, max_length=63)]
Wire = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*\.[a-z][a-z0-9_]*$")]


class _Closed(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, populate_by_name=True)


class BeamConfig(_Closed):
    """Where the data steps' Beam pipelines run."""

    runner: str = "InMemoryRunner"
    args: list[str] = Field(default_factory=list)


class ResourcesConfig(_Closed):
    """What a step's process may take. Nothing here changes what a step makes."""

    memory: str | int | None = None  # as 2GB, 2Gi or 512MB


class StepConfig(_Closed):
    """One step: which component, its settings, and the wires that are not left out."""

    uses: str  # a short name (StatisticsGen) or a dotted path
    inputs: dict[str, Wire] = Field(default_factory=dict)  # port: step.output
    with_: dict[str, Any] = Field(default_factory=dict, alias="with")  # the component's settings
    # False: run every time, whatever the key says; latest, for hyperparameters: what the step made last, whatever it says.
    cache: Cache = True
    beam: BeamConfig | None = None  # None: the pipeline's
    resources: ResourcesConfig = Field(default_factory=ResourcesConfig)


class ReleaseConfig(_Closed):
    """What a model must keep to be released, in one place. Each is a setting of the step that checks it; None: left to that."""

    metrics: dict[str, Any] | None = None  # Evaluator's thresholds
    confidence_intervals: str | None = None  # Evaluator's: jackknife or poisson_bootstrap
    anomalies: str | None = None  # ExampleValidator's on_anomaly: fail or warn
    latency: dict[str, Any] | None = None  # InfraValidator's, at most: p50_ms, p99_ms
    parity: dict[str, Any] | None = None  # InfraValidator's, at most: absolute, relative
    max_size_mb: int | float | None = None  # Pusher's, of the SavedModel's files together


class PipelineConfig(_Closed):
    """A whole definition, as `pipeline.yaml` has it. Paths are relative to the directory the command is run in."""

    name: Name
    root: str = ".penstock"  # artifacts, scratch and ledger
    seed: int | None = Field(default=None, ge=0, lt=2**31)
    ledger: str | None = None  # SQLAlchemy URL; None: ledger.sqlite under the root
    parallel: int | None = Field(default=None, ge=1)  # steps at once; None: one per processor
    parameters: dict[str, JsonScalar] = Field(default_factory=dict)
    beam: BeamConfig = Field(default_factory=BeamConfig)
    release: ReleaseConfig = Field(default_factory=ReleaseConfig)
    steps: dict[StepId, StepConfig] = Field(min_length=1)
