"""A Kubeflow Pipelines that was reached and will do: its pipelines, experiments, runs and recurring runs."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.runners.kubeflow.api.access import Access
from pipeline.runners.kubeflow.api.backend import ask_backend, refuse_older
from pipeline.runners.kubeflow.api.connection import Connection, quiet
from pipeline.runners.kubeflow.api.experiments import Experiments
from pipeline.runners.kubeflow.api.pipelines import Pipelines
from pipeline.runners.kubeflow.api.recurring_runs import RecurringRuns
from pipeline.runners.kubeflow.api.runs import Runs
from schemas.errors import ConfigError

if TYPE_CHECKING:
    import kfp


class Api:
    """One endpoint of Kubeflow Pipelines. Every method of its parts raises KubeflowError; Unreachable when asking again may help."""

    def __init__(self, connection: Connection) -> None:
        self.endpoint = connection.endpoint
        self.namespace = connection.namespace  # whose pipelines and runs are meant; None where KFP has one user
        self.pipelines = Pipelines(connection)
        self.experiments = Experiments(connection)
        self.runs = Runs(connection)
        self.recurring_runs = RecurringRuns(connection)


def connect(access: Access, warn: Callable[[str], None] = lambda _: None) -> Api:
    """Reach Kubeflow Pipelines and see that it will do. `warn` hears of a backend whose version is unknown.

    Raises ConfigError for a backend that is too old, a missing endpoint or namespace, and KubeflowError.
    """
    from kfp.client import Client
    from kfp.client.set_volume_credentials import ServiceAccountTokenVolumeCredentials

    class LateClient(Client):  # type: ignore[misc]
        """Leaves it to `ask_backend` to ask the backend for its health, once and with an error that can be read."""

        def get_kfp_healthz(self, sleep_duration: int = 0) -> Any:
            return self.api_models.V2beta1GetHealthzResponse(multi_user=False)

    if access.certificates and not Path(access.certificates).is_file():
        raise ConfigError(f"KFP_SSL_CA_CERT: there is no file {access.certificates}")
    credentials = None
    if access.token_file and not access.token:
        if not Path(access.token_file).is_file():
            raise ConfigError(f"KF_PIPELINES_SA_TOKEN_PATH: there is no file {access.token_file}")
        credentials = ServiceAccountTokenVolumeCredentials(access.token_file)
    endpoint = access.endpoint
    if endpoint and not re.match(r"https?://[^/]", endpoint):
        if "://" in endpoint:
            raise ConfigError(f"--endpoint {endpoint}: expected http:// or https:// and a host")
        endpoint = f"https://{endpoint}"
    with quiet():
        client = LateClient(
            host=endpoint, existing_token=access.token, credentials=credentials, ssl_ca_cert=access.certificates
        )
    connection = Connection(client, access)
    if not endpoint and connection.endpoint == "http://localhost":
        raise ConfigError(
            "where is Kubeflow Pipelines? Give --endpoint URL or set KFP_ENDPOINT; there is no kubeconfig here, and this is no "
            "pod of a cluster. `kubectl port-forward -n kubeflow svc/ml-pipeline-ui 8080:80` makes it http://localhost:8080"
        )
    backend = ask_backend(connection)
    refuse_older(backend.tag, connection.endpoint, warn)
    namespace = access.namespace or client.get_user_namespace() or _namespace_of_pod(client)
    if backend.multi_user and not namespace:
        raise ConfigError(
            f"{connection.endpoint}: this Kubeflow has a namespace for each of its users: say which with --namespace or KFP_NAMESPACE"
        )
    connection.settle(namespace, multi_user=backend.multi_user)
    return Api(connection)


def _namespace_of_pod(client: kfp.Client) -> str:
    """That of the pod this runs in, as kfp.Client finds it; empty elsewhere."""
    try:
        return Path(client._NAMESPACE_PATH).read_text().strip()
    except OSError:
        return ""
