"""What the pod of each step gets: from the resources file and the definition's `kubeflow` section, and onto a task of KFP."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from pipeline.config import Source, check_shape, read_yaml
from pipeline.definition import Definition
from pipeline.notifications.webhook import ADDRESS, TOKEN
from schemas.config import (
    KubeflowConfig,
    ResourcesFileConfig,
    SecretConfig,
    TaskConfig,
    TaskDefaultsConfig,
    TolerationConfig,
    VolumeConfig,
)
from schemas.dotted_path import resolve
from schemas.errors import ConfigError, did_you_mean
from schemas.memory import in_gb, parse_memory
from schemas.quantities import parse_bytes, parse_cores, parse_duration

if TYPE_CHECKING:
    from kfp.dsl import PipelineTask

TMP = "/tmp"  # the pod's own; KFP's launcher writes below it too, and the root filesystem is read-only
_SECRET = re.compile(r"(^|_)(PASSWORD|PASSWD|SECRET|TOKEN|API_KEY|SECRET_KEY|SECRET_ACCESS_KEY|PRIVATE_KEY)$")
TMP_VOLUME = "penstock-tmp"
_LAUNCHERS = ("/kfp-launcher", "/gcs", "/s3", "/minio", "/.local", "/.cache", "/.config")  # where KFP mounts its own
_IMAGES = ("/app", "/opt/venv")  # where the image has its definitions, Penstock and the libraries
_VOLUME = re.compile(
    r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"
)  # the name of a pod's volume, which KFP takes from what it mounts
_BACKOFF = "30s"
_LONGEST_BACKOFF_S = 3600
T = TypeVar("T")


@dataclass(frozen=True)
class Layer:
    """One place that says what pods get, the weaker before the stronger. `step` is None for defaults."""

    config: TaskConfig
    place: Callable[[tuple[str | int, ...]], str]  # where a part of it was written, for messages
    step: str | None = None


@dataclass(frozen=True)
class Resources:
    """What is said of a definition's pods, in all places together. `unused` are the file's steps that the definition lacks."""

    layers: tuple[Layer, ...]
    unused: tuple[str, ...] = ()

    def of(self, step: str | None) -> TaskConfig:
        """What the pod of a step gets; of the last task, without one."""
        values: dict[str, Any] = {}
        for layer in self.layers_of(step):
            for name in layer.config.model_fields_set & set(TaskConfig.model_fields):
                values[name] = _merged(values.get(name), getattr(layer.config, name))
        return TaskConfig(**values)

    def layers_of(self, step: str | None) -> tuple[Layer, ...]:
        """The places that say something of a step, the strongest last."""
        return tuple(layer for layer in self.layers if layer.step is None or layer.step == step)

    @property
    def service_account(self) -> str | None:
        """Under which a run's pods work. It is said when a run is started; no package holds it."""
        said = [layer.config.service_account for layer in self.layers if isinstance(layer.config, TaskDefaultsConfig)]
        return next((account for account in reversed(said) if account), None)


def _merged(weaker: Any, stronger: Any) -> Any:
    """Mappings are put together key by key, lists item by item (of two with the same identity the stronger); else the stronger."""
    if isinstance(stronger, dict):
        return {**(weaker or {}), **stronger}
    if isinstance(stronger, list):
        return list(
            {
                **{_identity(item): item for item in weaker or ()},
                **{_identity(item): item for item in stronger},
            }.values()
        )
    return stronger


def _identity(item: Any) -> Any:
    if isinstance(item, VolumeConfig):
        return item.path
    if isinstance(item, SecretConfig):
        return item.name
    return item.model_dump_json() if isinstance(item, TolerationConfig) else item


def read_resources(definition: Definition, kubeflow: KubeflowConfig) -> Resources:
    """What the resources file and the section say, step over default and the section over the file.

    Raises ConfigError with every mistake of the file.
    """
    file, source = ResourcesFileConfig(), Source("")
    if kubeflow.resources is not None:
        file, source = _read_file(Path(kubeflow.resources), definition.place("kubeflow", "resources"))
    known = [step.id for step in definition.graph.steps]

    def of_file(*start: str) -> Callable[[tuple[str | int, ...]], str]:
        return lambda path: source.at((*start, *path))

    def of_section(*start: str) -> Callable[[tuple[str | int, ...]], str]:
        return lambda path: definition.place("kubeflow", *start, *path)

    return Resources(
        layers=(
            Layer(file.defaults, of_file("defaults")),
            Layer(kubeflow.defaults, of_section("defaults")),
            *(Layer(config, of_file("steps", step), step) for step, config in file.steps.items() if step in known),
            *(Layer(config, of_section("steps", step), step) for step, config in kubeflow.steps.items()),
        ),
        unused=tuple(step for step in file.steps if step not in known),
    )


def _read_file(file: Path, place: str) -> tuple[ResourcesFileConfig, Source]:
    try:
        raw, lines = read_yaml(file, "a mapping with defaults and steps")
    except ConfigError as error:
        raise ConfigError(*(f"{place}: {problem}" for problem in error.problems)) from error
    source = Source(str(file), lines)
    problems: list[str] = []
    config = check_shape(ResourcesFileConfig, raw, source.at, problems)
    if config is None:
        raise ConfigError(*problems)
    return config, source


def resource_problems(definition: Definition, kubeflow: KubeflowConfig, resources: Resources) -> Iterator[str]:
    """What is wrong with what pods get although its shape is right."""
    known = [step.id for step in definition.graph.steps]
    for step in kubeflow.steps:
        if step not in known:
            place = definition.place("kubeflow", "steps", step)
            yield f"{place}: there is no step '{step}'." + (did_you_mean(step, known) or f" Steps: {', '.join(known)}")
    seen: set[str] = set()  # what is wrong with the defaults is wrong for every step
    for pod in (None, *known):
        for problem in _pod_problems(resources, pod):
            if problem not in seen:
                seen.add(problem)
                yield problem
    for found in definition.graph.steps:
        given = resources.of(found.id).memory
        least = getattr(resolve(found.component), "LEAST_MEMORY", 0)
        if given is not None and parse_memory(given) < least:
            yield (
                f"{_place(resources, found.id, 'memory')}: {given} is given, and {found.component.rpartition('.')[2]} takes "
                f"{in_gb(least)} whatever the data. Give it that or more"
            )


def _pod_problems(resources: Resources, step: str | None) -> Iterator[str]:
    task = resources.of(step)
    for name, read in (("cpu", _cores), ("memory", parse_memory)):
        request, limit = getattr(task, f"{name}_request"), getattr(task, name)
        if request is not None and limit is not None and read(request) > read(limit):
            yield f"{_place(resources, step, f'{name}_request')}: {request} is more than `{name}` is at most, {limit}"
    for toleration in task.tolerations:
        place = _place(resources, step, "tolerations", toleration)
        if toleration.key is None and toleration.operator != "Exists":
            yield f"{place}: without a key the operator is Exists; give the key of the taint, or that operator"
        if toleration.operator == "Exists" and toleration.value is not None:
            yield f"{place}: operator Exists asks for no value, found '{toleration.value}'. Remove it, or use Equal"
        if toleration.seconds is not None and toleration.effect != "NoExecute":
            yield f"{place}: seconds go with effect NoExecute alone"
    for secret in task.secrets:
        if not secret.env and secret.path is None:
            yield (
                f"{_place(resources, step, 'secrets', secret)}: of '{secret.name}' nothing is used. Say which of its keys becomes which "
                f"environment variable, as env: {{VARIABLE: key}}, or where its files go, as path: /etc/{secret.name}"
            )
    mounts: list[tuple[str, VolumeConfig | SecretConfig, str, str]]
    mounts = [("volumes", volume, volume.claim, volume.path) for volume in task.volumes]
    mounts += [("secrets", secret, secret.name, secret.path) for secret in task.secrets if secret.path is not None]
    paths, names = {TMP: TMP_VOLUME, **dict.fromkeys(_LAUNCHERS, "Kubeflow's launcher")}, {TMP_VOLUME: TMP}
    for section, item, name, path in mounts:
        place = _place(resources, step, section, item)
        if path in paths:
            yield f"{place}: '{name}' goes to {path}, where '{paths[path]}' is already. Give it a path of its own"
        elif name in names:
            yield f"{place}: '{name}' goes to {path} and to {names[name]}, and KFP mounts a volume once. Keep one of the two"
        elif hidden := next((own for own in _IMAGES if PurePosixPath(own).is_relative_to(path)), None):
            yield f"{place}: '{name}' goes to {path} and hides {hidden} of the image. Give it another path, as /mnt/{name}"
        if not _VOLUME.fullmatch(name):
            yield (
                f"{place}: KFP calls the pod's volume '{name}' too, and Kubernetes takes at most 63 small letters, digits and '-' for that. "
                f"Give it such a name"
            )
        paths.setdefault(path, name)
        names.setdefault(name, path)
    for name, value in task.env.items():
        if has_password(value) or (_SECRET.search(name) and value and not value.startswith("/")):
            # Which is not repeated here.
            yield (
                f"{_place(resources, step, 'env', name)}: has a password in it, which anybody could read in the package. Take it "
                f"from a secret, as secrets: [{{name: penstock, env: {{{name}: key}}}}]"
            )
    variables: dict[str, str] = dict.fromkeys(task.env, "env")
    for secret in task.secrets:
        for variable in secret.env:
            if variable in variables:
                yield (
                    f"{_place(resources, step, 'secrets', secret)}: {variable} comes from '{secret.name}' and from "
                    f"{variables[variable]}. Keep one of the two"
                )
            variables.setdefault(variable, f"'{secret.name}'")


def has_password(value: str) -> bool:
    """Whether a text is a URL with a password in it."""
    try:
        return urlsplit(value).password is not None
    except ValueError:  # no URL
        return False


def _cores(written: str | float) -> float:
    text = parse_cores(written)
    return float(text[:-1]) / 1000 if text.endswith("m") else float(text)


def _place(resources: Resources, step: str | None, name: str, item: Any = None) -> str:
    """Where the strongest word on a part of a pod stands, or on an item of a list or a key of a mapping in it."""
    layers = [layer for layer in resources.layers_of(step) if name in layer.config.model_fields_set]
    for layer in reversed(layers):
        items = getattr(layer.config, name)
        if item is None:
            return layer.place((name,))
        if item in items:
            return layer.place((name, item if isinstance(items, Mapping) else items.index(item)))
    return name


def apply(resources: TaskConfig, task: PipelineTask) -> None:
    """Have a task of KFP run with these resources, and with a place to write: the root filesystem is read-only."""
    from kfp import kubernetes

    if resources.retries:
        task.set_retry(
            resources.retries,
            backoff_duration=f"{parse_duration(resources.backoff or _BACKOFF)}s",
            backoff_factor=2.0,
            backoff_max_duration=f"{_LONGEST_BACKOFF_S}s",
        )
    if resources.timeout is not None:
        kubernetes.set_timeout(task, parse_duration(resources.timeout))
    _apply_amounts(resources, task)
    kubernetes.empty_dir_mount(
        task, volume_name=TMP_VOLUME, mount_path=TMP, size_limit=_optional(parse_bytes, resources.tmp)
    )
    for name, value in {"HOME": TMP, "TMPDIR": TMP, **resources.env}.items():
        task.set_env_variable(name, value)
    for label, value in resources.node_selector.items():
        kubernetes.add_node_selector(task, label, value)
    for toleration in resources.tolerations:
        kubernetes.add_toleration(
            task,
            key=toleration.key,
            operator=toleration.operator,
            value=toleration.value,
            effect=toleration.effect,
            toleration_seconds=toleration.seconds,
        )
    for volume in resources.volumes:
        kubernetes.mount_pvc(task, volume.claim, volume.path)
    for secret in resources.secrets:
        if secret.env:
            for variable, key in secret.env.items():  # one at a time: a key may become several variables
                kubernetes.use_secret_as_env(task, secret.name, {key: variable})
        if secret.path is not None:
            kubernetes.use_secret_as_volume(task, secret.name, secret.path)
    if resources.image_pull_secrets:
        kubernetes.set_image_pull_secrets(task, list(resources.image_pull_secrets))
    for label, value in resources.labels.items():
        kubernetes.add_pod_label(task, label, value)
    for name, value in resources.annotations.items():
        kubernetes.add_pod_annotation(task, name, value)


def _apply_amounts(resources: TaskConfig, task: PipelineTask) -> None:
    cpu, memory = _optional(parse_cores, resources.cpu), _optional(parse_bytes, resources.memory)
    cpu_request = _optional(parse_cores, resources.cpu_request) or cpu
    memory_request = _optional(parse_bytes, resources.memory_request) or memory
    if cpu_request is not None:
        task.set_cpu_request(cpu_request)
    if cpu is not None:
        task.set_cpu_limit(cpu)
    if memory_request is not None:
        task.set_memory_request(memory_request)
    if memory is not None:
        task.set_memory_limit(memory)
    if resources.accelerator is not None:
        task.set_accelerator_type(resources.accelerator.type)
        task.set_accelerator_limit(resources.accelerator.count)


def _optional(read: Callable[[Any], T], value: Any) -> T | None:
    return None if value is None else read(value)


def apply_notification(kubeflow: KubeflowConfig, task: PipelineTask) -> None:
    """Have the last task know whom to tell, from the environment."""
    from kfp import kubernetes

    if kubeflow.notify is None:
        return
    if kubeflow.notify.webhook is not None:
        task.set_env_variable(ADDRESS, kubeflow.notify.webhook)
    if kubeflow.notify.secret is not None:
        variable = ADDRESS if kubeflow.notify.webhook is None else TOKEN
        kubernetes.use_secret_as_env(task, kubeflow.notify.secret.name, {kubeflow.notify.secret.key: variable})
