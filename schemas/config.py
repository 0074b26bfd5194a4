"""PipelineConfig: the shape of a definition, frozen and closed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from schemas.component import JsonScalar
from schemas.errors import ConfigError
from schemas.quantities import parse_bytes, parse_cores, parse_duration

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


class ConditionConfig(_Closed):
    """What decides, from artifacts that earlier steps made, whether a step runs: a Condition by its dotted path."""

    uses: str
    with_: dict[str, Any] = Field(default_factory=dict, alias="with")  # its settings
    reads: list[Wire] = Field(min_length=1)


class StepConfig(_Closed):
    """One step: which component, its settings, and the wires that are not left out."""

    uses: str  # a short name (StatisticsGen) or a dotted path
    inputs: dict[str, Wire | None] = Field(
        default_factory=dict
    )  # port: step.output; none: left unwired, whatever would fit
    with_: dict[str, Any] = Field(default_factory=dict, alias="with")  # the component's settings
    # False: run every time, whatever the key says; latest, for hyperparameters: what the step made last, whatever it says.
    cache: Cache = True
    beam: BeamConfig | None = None  # None: the pipeline's
    when: list[ConditionConfig] = Field(default_factory=list)  # it runs where all of them hold
    resources: ResourcesConfig = Field(default_factory=ResourcesConfig)


class ReleaseConfig(_Closed):
    """What a model must keep to be released, in one place. Each is a setting of the step that checks it; None: left to that."""

    metrics: dict[str, Any] | None = None  # Evaluator's thresholds
    confidence_intervals: str | None = None  # Evaluator's: jackknife or poisson_bootstrap
    anomalies: str | None = None  # ExampleValidator's on_anomaly: fail or warn
    drift: str | None = None  # ExampleValidator's on_drift: warn, fail or retrain
    latency: dict[str, Any] | None = None  # InfraValidator's, at most: p50_ms, p99_ms
    parity: dict[str, Any] | None = None  # InfraValidator's, at most: absolute, relative
    max_size_mb: int | float | None = None  # Pusher's, of the SavedModel's files together


def _readable(parse: Callable[[Any], Any]) -> AfterValidator:
    """The value as it was written, once `parse` could read it."""

    def check(value: Any) -> Any:
        try:
            parse(value)
        except ConfigError as error:
            raise ValueError(str(error)) from error
        return value

    return AfterValidator(check)


Cores = Annotated[str | int | float, _readable(parse_cores)]
Bytes = Annotated[str | int, _readable(parse_bytes)]
Duration = Annotated[str | int, _readable(parse_duration)]
AbsolutePath = Annotated[str, Field(pattern=r"^/.*[^/]$")]
KubernetesName = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", max_length=253)]
EnvironmentName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
Text = Annotated[str, Field(min_length=1)]
LabelKey = Annotated[
    str,
    Field(pattern=r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$", max_length=317),
]
LabelValue = Annotated[str, Field(pattern=r"^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$", max_length=63)]


class AcceleratorConfig(_Closed):
    """What a step's node must have: a resource of that type, so many of it."""

    type: Text  # as nvidia.com/gpu
    count: Literal[1, 2, 4, 8, 16] = 1  # KFP takes no others


class TolerationConfig(_Closed):
    """A taint of nodes on which a step's pod may be placed nevertheless, as Kubernetes writes it."""

    key: str | None = None  # None: of any key, with operator Exists
    operator: Literal["Equal", "Exists"] = "Equal"
    value: str | None = None
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None  # None: of any effect
    seconds: int | None = Field(default=None, ge=0)  # with NoExecute, for how long


class VolumeConfig(_Closed):
    """A PersistentVolumeClaim, and where a step's pod has it."""

    claim: KubernetesName
    path: AbsolutePath


class SecretConfig(_Closed):
    """A Kubernetes Secret, as environment variables or as files."""

    name: KubernetesName
    env: dict[EnvironmentName, Text] = Field(default_factory=dict)  # environment variable: key in the secret
    path: AbsolutePath | None = None  # where its keys lie as files


class SecretKeyConfig(_Closed):
    """One key of a Kubernetes Secret."""

    name: KubernetesName
    key: Text


class TaskConfig(_Closed):
    """What a step's pod gets on Kubeflow. What a step says wins over the defaults; its lists and mappings add to theirs."""

    retries: int | None = Field(default=None, ge=0, le=100)
    backoff: Duration | None = (
        None  # before the first retry, 30 s where nothing is said; twice as long before each later one
    )
    timeout: Duration | None = None  # of one attempt, as 30m or 2h; then the pod is killed
    cpu: Cores | None = None  # the most, as 2 or 500m
    cpu_request: Cores | None = None  # what is set aside; None: as much as `cpu`
    memory: Bytes | None = None  # the most, as 8Gi
    memory_request: Bytes | None = None  # what is set aside; None: as much as `memory`
    tmp: Bytes | None = None  # the most that HOME and TMPDIR may hold; None: what the node has
    accelerator: AcceleratorConfig | None = None
    node_selector: dict[LabelKey, LabelValue] = Field(default_factory=dict)
    tolerations: list[TolerationConfig] = Field(default_factory=list)
    volumes: list[VolumeConfig] = Field(default_factory=list)
    secrets: list[SecretConfig] = Field(default_factory=list)
    image_pull_secrets: list[KubernetesName] = Field(default_factory=list)
    env: dict[EnvironmentName, str] = Field(default_factory=dict)
    labels: dict[LabelKey, LabelValue] = Field(default_factory=dict)
    annotations: dict[LabelKey, str] = Field(default_factory=dict)


class TaskDefaultsConfig(TaskConfig):
    """What every pod of a run gets where its step says nothing else."""

    service_account: KubernetesName | None = None  # of the whole run: KFP knows none of a single task


class ResourcesFileConfig(_Closed):
    """`kubeflow/resources.yaml`: what pods get, for several definitions."""

    defaults: TaskDefaultsConfig = Field(default_factory=TaskDefaultsConfig)
    steps: dict[StepId, TaskConfig] = Field(default_factory=dict)


class NotifyConfig(_Closed):
    """Whom the last task of a run tells how it ended.

    The address stands here, or in the secret when nobody may read it. Beside an address that stands here the secret has what is
    sent with it, as `Authorization: Bearer ...`.
    """

    webhook: Annotated[str, Field(pattern=r"^https?://")] | None = None
    secret: SecretKeyConfig | None = None


class KubeflowConfig(_Closed):
    """How the definition runs on Kubeflow Pipelines. Nothing here changes what a step makes, or its key."""

    image: Annotated[str, Field(pattern=r"^[^\s{}]+$")]  # which holds Penstock and the definition's files
    endpoint: Text | None = None  # of Kubeflow's API; KFP_ENDPOINT and --endpoint win
    namespace: Text | None = None  # of the user whose runs they are; KFP_NAMESPACE and --namespace win
    experiment: Text | None = None  # under which runs are listed; None: the pipeline's name
    root: Text = "/mnt/penstock/.penstock"  # instead of the definition's, on a volume that every pod mounts
    ledger: Text | None = None  # a URL without a password, or none; None: the definition's, or none
    parameters: dict[str, JsonScalar] = Field(default_factory=dict)  # other defaults of the definition's own
    resources: Text | None = None  # a file with the two next; what stands here wins over it
    defaults: TaskDefaultsConfig = Field(default_factory=TaskDefaultsConfig)
    steps: dict[StepId, TaskConfig] = Field(default_factory=dict)
    gate: bool = True  # steps that publish run only if every verdict before them is a blessing
    exit_handler: bool = True  # a last task ends the run's record, marks what was killed, and notifies
    notify: NotifyConfig | None = None


class NotificationConfig(_Closed):
    """Whom a run on this machine tells how it ended. Nothing here changes what a step makes, or its key.

    The webhook's address may come from PENSTOCK_WEBHOOK instead, and what is sent with it, as `Authorization: Bearer ...`, from
    PENSTOCK_WEBHOOK_TOKEN: neither need stand where others read it. Runs on Kubeflow have `kubeflow.notify`.
    """

    webhook: Annotated[str, Field(pattern=r"^https?://")] | None = None  # is sent the JSON of the run by POST
    command: Annotated[list[Text], Field(min_length=1)] | None = (
        None  # a program and its arguments; gets it on standard input
    )
    # Of which outcomes; None: of all but nothing new.
    on: list[Literal["done", "nothing new", "skipped", "refused", "failed", "interrupted"]] | None = None


class TfxConfig(_Closed):
    """A pipeline that was written for TFX, whose nodes come before the definition's own steps."""

    pipeline: Annotated[str, Field(pattern=r"^[^\s:/]+:[^\s:/]+$")] | None = None  # module:object
    arguments: dict[str, Any] = Field(default_factory=dict)  # of the function that it is, and its RuntimeParameters
    fast: bool = False  # TFX's components for which there is an equal one of ours are swapped for that


class PipelineConfig(_Closed):
    """A whole definition, as `pipeline.yaml` has it. Paths are relative to the directory the command is run in."""

    name: Name
    root: str = ".penstock"  # artifacts, scratch and ledger
    seed: int | None = Field(default=None, ge=0, lt=2**31)
    ledger: str | None = (
        None  # SQLAlchemy URL; None: ledger.sqlite under the root; none, in words: no index but the store
    )
    parallel: int | None = Field(default=None, ge=1)  # steps at once; None: one per processor
    parameters: dict[str, JsonScalar] = Field(default_factory=dict)
    beam: BeamConfig = Field(default_factory=BeamConfig)
    release: ReleaseConfig = Field(default_factory=ReleaseConfig)
    notify: NotificationConfig | None = None
    kubeflow: KubeflowConfig | None = None
    tfx: TfxConfig | None = None
    steps: dict[StepId, StepConfig] = Field(default={}, validate_default=True)  # none only where `tfx` brings some

    @field_validator("steps")
    @classmethod
    def _has_steps(cls, steps: dict[str, StepConfig], info: ValidationInfo) -> dict[str, StepConfig]:
        tfx = info.data.get("tfx")
        if not steps and "tfx" in info.data and (tfx is None or tfx.pipeline is None):
            raise ValueError("there are no steps: give some, or a TFX pipeline's as `tfx: {pipeline: module:object}`")
        return steps
