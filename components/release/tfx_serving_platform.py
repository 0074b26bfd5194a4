"""Where TFX's InfraValidator starts its model server: a Docker engine or a cluster, which has to be there before a model is judged."""

from __future__ import annotations

import importlib
import os
from typing import Any

from schemas.errors import ConfigError

_INSTEAD = "our InfraValidator needs none, since it starts a model server of its own: uses: InfraValidator"
_LIBRARIES = ("docker", "kubernetes", "requests", "urllib3")  # the latter two carry what the former two ask


def check_reachable(serving_spec: str) -> None:
    """Raise ConfigError where the serving platform of a ServingSpec, as JSON, does not answer. TFX would blame the model."""
    from google.protobuf import json_format
    from tfx.proto import infra_validator_pb2

    spec: Any = json_format.Parse(serving_spec, infra_validator_pb2.ServingSpec())  # type: ignore[attr-defined]
    platform = spec.WhichOneof("serving_platform")
    if platform == "local_docker":
        _check_docker(spec.local_docker)
    elif platform == "kubernetes":
        _check_cluster()


def is_platforms(error: BaseException) -> bool:
    """Whether an error is the platform's, which says nothing of the model: an image that is not there, a request refused."""
    return any(kind.__module__.partition(".")[0] in _LIBRARIES for kind in type(error).__mro__)


def _check_docker(config: Any) -> None:
    docker: Any = importlib.import_module("docker")  # the SDK; to mypy it is the directory of images in this repository

    given = {
        "base_url": config.client_base_url,
        "version": config.client_api_version,
        "timeout": config.client_timeout_seconds,
    }
    try:
        client = docker.DockerClient(**{name: value for name, value in given.items() if value})
        try:
            client.ping()
        finally:
            client.close()
    except (docker.errors.DockerException, OSError) as error:
        raise ConfigError(
            f"serving_spec: local_docker: no Docker engine answers ({error}). Start one, or name it in client_base_url; {_INSTEAD}"
        ) from error


def _check_cluster() -> None:
    from kubernetes.client.rest import ApiException
    from kubernetes.config import ConfigException
    from tfx.utils import kube_utils
    from urllib3.exceptions import HTTPError

    where = "serving_spec: kubernetes"
    try:
        api = kube_utils.make_core_v1_api()
    except ConfigException as error:
        raise ConfigError(
            f"{where}: no cluster is known here ({error}). Run the step in one, or write a kubeconfig; {_INSTEAD}"
        ) from error
    if not kube_utils.is_inside_cluster():
        raise ConfigError(
            f"{where}: TFX starts its server from a pod on Kubeflow alone, and this process is in none, though it knows a cluster. "
            f"Run the pipeline there; {_INSTEAD}"
        )
    missing = [name for name in (kube_utils.KFP_POD_NAME, kube_utils.KFP_NAMESPACE) if name not in os.environ]
    if missing:
        raise ConfigError(
            f"{where}: TFX looks for its own pod by the environment variables {kube_utils.KFP_POD_NAME} and "
            f"{kube_utils.KFP_NAMESPACE}, and there is no {' and no '.join(missing)}. Kubeflow sets the first; the second is for the "
            f"step's env, under kubeflow.steps; {_INSTEAD}"
        )
    try:
        kube_utils.get_current_kfp_pod(api)
    except (ApiException, HTTPError) as error:
        said = " ".join(str(error).split())
        raise ConfigError(
            f"{where}: the cluster does not show this pod to its service account, and TFX asks for it ({said}). Let it read and "
            f"create pods; {_INSTEAD}"
        ) from error
