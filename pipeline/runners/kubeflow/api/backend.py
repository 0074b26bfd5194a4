"""What a Kubeflow Pipelines backend says of itself, and whether it will do."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from pipeline.runners.kubeflow.api.connection import Connection
from pipeline.runners.kubeflow.api.errors import NotThere
from schemas.errors import ConfigError, KubeflowError, Unreachable

OLDEST = "2.5.0"
"""The oldest backend that keeps the platform document: older ones silently drop volumes, secrets and tolerations."""


@dataclass(frozen=True)
class Backend:
    """What the backend says of itself."""

    tag: str  # 'unknown' where its build does not say
    multi_user: bool


def ask_backend(connection: Connection) -> Backend:
    """What answers at the endpoint. Raises KubeflowError where that is not Kubeflow Pipelines' API."""
    try:
        connection.ask(connection.client.healthzs.healthz_service_get_healthz, doing="find out its version")
        said = connection.said()
    except NotThere:
        # Before 2.0 there was only this one.
        said = connection.get("/apis/v1beta1/healthz", doing="find out its version")
    if not isinstance(said, dict):
        raise KubeflowError(f"{connection.endpoint}: it answered {said!r:.80} where Kubeflow's API says its version")
    if said.get("apiServerReady") is False:
        raise Unreachable(
            f"{connection.endpoint}: Kubeflow's UI answers, and says that the API server behind it does not"
        )
    # The UI's server does not pass this question on, and has other names in its answer.
    tag = said.get("tag_name") or said.get("apiServerTagName")
    return Backend(str(tag or "unknown"), bool(said.get("multi_user") or said.get("apiServerMultiUser")))


def refuse_older(tag: str, endpoint: str, warn: Callable[[str], None]) -> None:
    """Raises ConfigError for a backend older than 2.5.0; `warn` hears of one whose version cannot be read."""
    found = re.match(r"v?(\d+)\.(\d+)\b", tag)
    if not found:
        warn(f"{endpoint}: its version is '{tag}', so nobody knows whether it is at least {OLDEST}")
    elif (int(found[1]), int(found[2])) < (2, 5):
        raise ConfigError(
            f"{endpoint}: this is Kubeflow Pipelines {tag}, and at least {OLDEST} is needed: older ones drop volumes, secrets "
            "and tolerations of a package without a word. Ask for an upgrade, or give another --endpoint"
        )
