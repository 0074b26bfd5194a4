"""Kubeflow Pipelines' API as the verbs of `pipeline kubeflow` use it: `kfp.Client`, with errors that can be acted on."""

from __future__ import annotations

import base64
import binascii
import contextlib
import io
import json
import logging
import os
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote, urlsplit

from schemas.errors import ConfigError, KubeflowError, Unreachable

if TYPE_CHECKING:
    import kfp
    from kfp_server_api import ApiException
    from urllib3.exceptions import HTTPError

    from schemas.config import KubeflowConfig

OLDEST = "2.5.0"
"""The oldest backend that keeps the platform document: older ones silently drop volumes, secrets and tolerations."""

_CONNECT_S, _READ_S = 10, 60
_PAGE = 100
_EQUALS = 1  # FilterPredicate's operation
_T = TypeVar("_T")


@dataclass(frozen=True)
class Access:
    """Where Kubeflow Pipelines is, and as whom. What is None is left to kfp.Client: its environment, the cluster, kubeconfig."""

    endpoint: str | None = None
    namespace: str | None = None
    token: str | None = None
    token_file: str | None = None  # read again for every request, since the kubelet renews it
    certificates: str | None = None  # file of the authorities to trust

    @classmethod
    def found(
        cls,
        endpoint: str | None = None,
        namespace: str | None = None,
        *,
        section: KubeflowConfig | None = None,
        environ: Mapping[str, str] = os.environ,
    ) -> Access:
        """What was given on the command line, else in the environment, else in the definition's `kubeflow` section."""
        return cls(
            endpoint=endpoint or environ.get("KFP_ENDPOINT") or (section.endpoint if section else None),
            namespace=namespace or environ.get("KFP_NAMESPACE") or (section.namespace if section else None),
            token=environ.get("KFP_TOKEN") or environ.get("KFP_EXISTING_TOKEN") or None,
            token_file=environ.get("KF_PIPELINES_SA_TOKEN_PATH") or None,
            certificates=environ.get("KFP_SSL_CA_CERT") or None,
        )


@dataclass(frozen=True)
class Backend:
    """What the backend says of itself."""

    tag: str  # 'unknown' where its build does not say
    multi_user: bool


class NotThere(KubeflowError):
    """The API knows no such thing (404)."""


class AlreadyThere(KubeflowError):
    """A thing of this name is there already (409)."""


class PackageRefused(KubeflowError):
    """The API server found a mistake in what it was given (400)."""


class Api:
    """One endpoint of Kubeflow Pipelines. Every method raises KubeflowError; Unreachable when asking again may help."""

    def __init__(self, client: kfp.Client, access: Access) -> None:
        from urllib3 import Retry

        self._client = client
        self._access = access
        self._http = client.runs.api_client
        self._http.rest_client.pool_manager.connection_pool_kw["retries"] = Retry(
            total=None, connect=1, read=1, redirect=10, other=0
        )
        self.endpoint: str = self._http.configuration.host
        self.backend = Backend("unknown", False)
        self._namespace = ""

    @property
    def namespace(self) -> str | None:
        """Whose pipelines and runs are meant; None where KFP has one user, and takes no namespace."""
        return self._namespace if self.backend.multi_user else None

    def check(self, warn: Callable[[str], None]) -> None:
        """Find out what the backend is. Raises ConfigError when it is too old, or wants a namespace."""
        self.backend = self._ask_backend()
        refuse_older(self.backend.tag, self.endpoint, warn)
        self._namespace = self._access.namespace or self._client.get_user_namespace() or self._pods_namespace()
        if self.backend.multi_user and not self._namespace:
            raise ConfigError(
                f"{self.endpoint}: this Kubeflow has a namespace for each of its users: say which with --namespace or KFP_NAMESPACE"
            )

    def _pods_namespace(self) -> str:
        """That of the pod this runs in, as kfp.Client finds it; empty elsewhere."""
        try:
            return Path(self._client._NAMESPACE_PATH).read_text().strip()
        except OSError:
            return ""

    def _ask_backend(self) -> Backend:
        try:
            self._ask(self._client.healthzs.healthz_service_get_healthz, doing="find out its version")
            said = json.loads(self._http.last_response.data)
        except NotThere:
            # Before 2.0 there was only this one.
            said = self._get("/apis/v1beta1/healthz", doing="find out its version")
        if not isinstance(said, dict):
            raise KubeflowError(f"{self.endpoint}: it answered {said!r:.80} where Kubeflow's API says its version")
        if said.get("apiServerReady") is False:
            raise Unreachable(
                f"{self.endpoint}: Kubeflow's UI answers, and says that the API server behind it does not"
            )
        # The UI's server does not pass this question on, and has other names in its answer.
        tag = said.get("tag_name") or said.get("apiServerTagName")
        return Backend(str(tag or "unknown"), bool(said.get("multi_user") or said.get("apiServerMultiUser")))

    # Pipelines and their versions

    def find_pipeline(self, name: str) -> str | None:
        """The id of the pipeline of exactly this name."""
        listed = self._pages(
            self._client.pipelines.pipeline_service_list_pipelines,
            "pipelines",
            doing="list pipelines",
            filter=_equal("name", name),
            **self._of_namespace(),
        )
        return _named(listed, name, "pipeline_id")

    def create_pipeline(self, name: str, description: str) -> str:
        """The id of a new pipeline without versions. Raises AlreadyThere when somebody else was quicker."""
        body = self._client.api_models.V2beta1Pipeline(
            display_name=name, description=description, namespace=self.namespace
        )
        made = self._ask(
            self._client.pipelines.pipeline_service_create_pipeline, body, doing=f"create the pipeline {name}"
        )
        return str(made.pipeline_id)

    def delete_empty_pipeline(self, pipeline: str) -> None:
        """Remove a pipeline; KFP refuses when it has versions."""
        self._ask(self._client.pipelines.pipeline_service_delete_pipeline, pipeline, doing="remove the empty pipeline")

    def find_version(self, pipeline: str, name: str) -> str | None:
        """The id of the pipeline's version of exactly this name."""
        listed = self._pages(
            self._client.pipelines.pipeline_service_list_pipeline_versions,
            "pipeline_versions",
            pipeline,
            doing="list a pipeline's versions",
            filter=_equal("name", name),
        )
        return _named(listed, name, "pipeline_version_id")

    def upload_version(self, pipeline: str, name: str, package: Path, description: str) -> str:
        """The id of a new version of the pipeline. Raises AlreadyThere and PackageRefused."""
        made = self._ask(
            self._client.pipeline_uploads.upload_pipeline_version,
            str(package),
            name=name,
            pipelineid=pipeline,
            description=description,
            doing=f"upload {package}",
        )
        return str(made.pipeline_version_id)

    def version_name(self, pipeline: str, version: str) -> str:
        """What a version is called. Raises NotThere."""
        get = self._client.pipelines.pipeline_service_get_pipeline_version
        return str(self._ask(get, pipeline, version, doing="read the pipeline's version").display_name)

    def specification(self, pipeline: str, version: str) -> dict[str, Any]:
        """The package of a version, as KFP keeps it."""
        found = self._ask(
            self._client.pipelines.pipeline_service_get_pipeline_version,
            pipeline,
            version,
            doing="read the pipeline's version",
        )
        return dict(found.pipeline_spec or {})

    # Experiments

    def find_experiment(self, name: str) -> str | None:
        """The id of the experiment of exactly this name."""
        listed = self._pages(
            self._client.experiments.experiment_service_list_experiments,
            "experiments",
            doing="list experiments",
            filter=_equal("name", name),
            **self._of_namespace(),
        )
        return _named(listed, name, "experiment_id")

    def create_experiment(self, name: str) -> str:
        """The id of a new experiment. Raises AlreadyThere when somebody else was quicker."""
        body = self._client.api_models.V2beta1Experiment(display_name=name, namespace=self.namespace)
        made = self._ask(
            self._client.experiments.experiment_service_create_experiment, body, doing=f"create the experiment {name}"
        )
        return str(made.experiment_id)

    # Runs

    def create_run(
        self,
        name: str,
        *,
        pipeline: str,
        version: str,
        experiment: str,
        arguments: Mapping[str, Any],
        service_account: str | None,
        description: str = "",
    ) -> str:
        """The id of a new run."""
        models = self._client.api_models
        body = models.V2beta1Run(
            display_name=name,
            experiment_id=experiment,
            pipeline_version_reference=models.V2beta1PipelineVersionReference(
                pipeline_id=pipeline, pipeline_version_id=version
            ),
            runtime_config=models.V2beta1RuntimeConfig(parameters=dict(arguments)),
            service_account=service_account,
            description=description,
        )
        try:
            return str(self._ask(self._client.runs.run_service_create_run, body, doing="start a run").run_id)
        except Unreachable as error:
            # Only a connection that was never made is tried again by itself: a second run would do everything twice.
            raise Unreachable(
                f"{error}. Whether the run '{name}' has started is not known: look before you start another"
            ) from error

    def run(self, run: str) -> Any:
        """The run of this id, as kfp_server_api.V2beta1Run. Raises NotThere."""
        return self._ask(self._client.runs.run_service_get_run, run, doing=f"read the run {run}")

    def runs_named(self, name: str) -> list[dict[str, Any]]:
        """The runs of exactly this name, newest first, each as the API writes it."""
        listed = self._runs("name", name, doing="list runs")
        return [found for found in listed if found.get("display_name") == name]

    def terminate_run(self, run: str) -> None:
        """End a run before it has ended by itself. Raises NotThere."""
        self._ask(self._client.runs.run_service_terminate_run, run, doing=f"end the run {run}")

    # Recurring runs: there is no way to change one, and their names may repeat

    def recurring_runs(self, name: str | None = None) -> list[dict[str, Any]]:
        """All of them, or those of exactly this name, oldest first, each as the API writes it."""
        listed = self._pages(
            self._client.recurring_runs.recurring_run_service_list_recurring_runs,
            "recurringRuns",
            doing="list recurring runs",
            sort_by="created_at asc",
            **({"filter": _equal("name", name)} if name is not None else {}),
            **self._of_namespace(),
        )
        return [found for found in listed if name is None or found.get("display_name") == name]

    def create_recurring_run(
        self,
        name: str,
        *,
        description: str,
        pipeline: str,
        version: str,
        experiment: str,
        arguments: Mapping[str, Any],
        service_account: str | None,
        cron: str,
        concurrency: int,
        catch_up: bool,
        start: str | None = None,
        end: str | None = None,
        enabled: bool,
    ) -> str:
        """The id of a new one.

        `cron` has six fields, seconds first; `description` at most 255 characters; `start` and `end` are ISO moments in UTC.
        """
        models = self._client.api_models
        body = models.V2beta1RecurringRun(
            display_name=name,
            description=description,
            experiment_id=experiment,
            pipeline_version_reference=models.V2beta1PipelineVersionReference(
                pipeline_id=pipeline, pipeline_version_id=version
            ),
            runtime_config=models.V2beta1RuntimeConfig(parameters=dict(arguments)),
            service_account=service_account,
            trigger=models.V2beta1Trigger(cron_schedule=models.V2beta1CronSchedule(start, end, cron)),
            max_concurrency=concurrency,
            no_catchup=not catch_up,
            mode=models.RecurringRunMode.ENABLE if enabled else models.RecurringRunMode.DISABLE,
        )
        create = self._client.recurring_runs.recurring_run_service_create_recurring_run
        return str(self._ask(create, body, doing=f"create the recurring run {name}").recurring_run_id)

    def switch_recurring_run(self, recurring: str, *, on: bool) -> None:
        """Let it start runs, or none. Raises NotThere."""
        service = self._client.recurring_runs
        method = (
            service.recurring_run_service_enable_recurring_run
            if on
            else service.recurring_run_service_disable_recurring_run
        )
        self._ask(method, recurring, doing=f"{'enable' if on else 'disable'} the recurring run {recurring}")

    def delete_recurring_run(self, recurring: str) -> None:
        """Remove it, and with it the pods of a run of it that goes on. Raises NotThere."""
        delete = self._client.recurring_runs.recurring_run_service_delete_recurring_run
        self._ask(delete, recurring, doing=f"delete the recurring run {recurring}")

    def runs_of(self, recurring: str) -> Iterator[dict[str, Any]]:
        """The runs that a recurring run has started, newest first, each as the API writes it; asked for as they are taken."""
        listed = self._runs("recurring_run_id", recurring, doing="list the runs of a recurring run")
        return (found for found in listed if found.get("recurring_run_id") == recurring)

    def _runs(self, field: str, value: str, *, doing: str) -> Iterator[dict[str, Any]]:
        """The runs of which `field` has this value as far as the API's filter tells, newest first, asked for as they are taken."""
        return self._pages(
            self._client.runs.run_service_list_runs,
            "runs",
            doing=doing,
            filter=_equal(field, value),
            sort_by="created_at desc",
            **self._of_namespace(),
        )

    def workflow(self, run: str) -> dict[str, Any]:
        """Argo's record of a run, which names its pods and says why they ended; empty while there is none, and where KFP has no such thing."""
        try:
            said = self._get(f"/apis/v1beta1/runs/{quote(run)}", doing=f"read the run {run}")
            # A run of 2.x has the one that was submitted in pipeline_manifest, and what became of it in workflow_manifest.
            text = said.get("pipeline_runtime", {}).get("workflow_manifest") if isinstance(said, dict) else None
            found = json.loads(text) if text else {}
        except (NotThere, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def pod_log(self, run: str, pod: str, namespace: str, created: str) -> str:
        """What a pod's main container wrote. Raises NotThere when it is gone.

        The API server has a log under a run's node; the UI's server, which passes the rest of the API on, has it elsewhere.
        """
        try:
            return self._log(f"/apis/v1alpha1/runs/{quote(run)}/nodes/{quote(pod)}/log", pod)
        except _NoSuchPath:
            pass
        query = f"podname={quote(pod)}&runid={quote(run)}&podnamespace={quote(namespace)}&createdat={quote(created)}"
        try:
            return self._log(f"/k8s/pod/logs?{query}", pod)
        except _NoSuchPath:
            raise KubeflowError(
                f"{self.endpoint}: neither Kubeflow's API server nor its UI gives logs there; "
                f"`kubectl logs -n {namespace or 'NAMESPACE'} {pod} -c main` does"
            ) from None

    def page_of(self, run: str) -> str | None:
        """Where the UI shows a run; None where the endpoint is the API server's, which has no pages."""
        ui = os.environ.get("KF_PIPELINES_UI_ENDPOINT")
        if not ui:
            try:
                response = self._raw("/", doing="look for the UI")
            except KubeflowError:
                return None
            if "html" not in response.headers.get("Content-Type", ""):
                return None
            ui = self.endpoint
        return f"{ui.rstrip('/')}/#/runs/details/{run}"

    # Below: one way to ask, and what can go wrong

    def _of_namespace(self) -> dict[str, Any]:
        return {"namespace": self.namespace} if self.namespace else {}

    def _pages(
        self, method: Callable[..., Any], field: str, *args: Any, doing: str, **kwargs: Any
    ) -> Iterator[dict[str, Any]]:
        """The items of a list, page after page, as the API wrote them: the generated models of this client know no names."""
        token = ""
        while True:
            self._ask(method, *args, doing=doing, page_token=token, page_size=_PAGE, **kwargs)
            page = json.loads(self._http.last_response.data)
            yield from page.get(field) or ()
            token = page.get("next_page_token") or ""
            if not token:
                return

    def _ask(self, method: Callable[..., _T], *args: Any, doing: str, **kwargs: Any) -> _T:
        with self._translated(doing):
            answer = method(*args, _request_timeout=(_CONNECT_S, _READ_S), **kwargs)
            last = self._http.last_response
            if not _is_json(last.data):
                raise self._something_else(last.data)
            return answer

    def _get(self, path: str, *, doing: str) -> Any:
        data = self._raw(path, doing=doing).data
        try:
            return json.loads(data)
        except ValueError:
            raise self._something_else(data) from None

    def _raw(self, path: str, *, doing: str) -> Any:
        with self._translated(doing):
            return self._http.call_api(
                path,
                "GET",
                header_params={"Accept": "*/*"},
                response_type="bytes",
                auth_settings=["Bearer"],
                _preload_content=False,
                _request_timeout=(_CONNECT_S, _READ_S),
            )

    def _log(self, path: str, pod: str) -> str:
        try:
            text: str = self._raw(path, doing=f"read the log of {pod}").data.decode("utf-8", errors="replace")
        except _NoSuchPath:
            raise
        except NotThere as error:
            raise NotThere(str(error)) from error
        except Unreachable:
            raise
        except KubeflowError as error:
            if "Could not get main container logs" in str(error):  # the UI's server, a 500 for whatever went wrong
                raise NotThere(str(error)) from error
            raise
        # The API server says 200 before it looks, and then writes the error behind what it has written.
        said, _, last = text.rpartition('{"error_message":')
        if last:
            with contextlib.suppress(ValueError):
                error_message = json.loads('{"error_message":' + last)["error_message"]
                if said:
                    return said
                raise NotThere(str(error_message))
        if text.lstrip()[:15].lower().startswith(("<!doctype html", "<html")):
            raise _NoSuchPath(self.endpoint)  # a page of the UI
        return text

    @contextlib.contextmanager
    def _translated(self, doing: str) -> Iterator[None]:
        from kfp_server_api import ApiException
        from urllib3.exceptions import HTTPError

        try:
            with _quiet():
                yield
        except ApiException as error:
            raise self._refusal(error, doing) from error
        except HTTPError as error:
            raise self._unreachable(error) from error
        except (AttributeError, ValueError, TypeError) as error:
            # The generated client stumbles over answers that are not what they should be.
            raise KubeflowError(f"{self.endpoint}: an answer that is not Kubeflow's, to: {doing} ({error})") from error

    def _refusal(self, error: ApiException, doing: str) -> KubeflowError:
        status, body = error.status, error.body or ""
        said = _message(body) or error.reason or "without a reason"
        where = f"{self.endpoint}: could not {doing}"
        if status == 401 or (status == 403 and _is_page(body)):
            return KubeflowError(f"{where} ({status}: {said.rstrip('.')}): {self._token_wanted()}")
        if status == 403:
            namespace = f" in the namespace {self._namespace}" if self._namespace else ""
            token = "" if self._has_token() else f", and {self._token_wanted()}"
            return KubeflowError(
                f"{where}: you may not do that{namespace} (403: {said.rstrip('.')}). Ask who runs this Kubeflow for the role "
                f"kubeflow-edit there, or give another --namespace{token}"
            )
        if status == 404:
            if _is_kubeflows(body):
                return NotThere(f"{where}: {said}")
            return _NoSuchPath(
                f"{self.endpoint}: there is no API of Kubeflow Pipelines there (404 to: {doing}). Give the address under which "
                "/apis/v2beta1 lies, as http://localhost:8080 or https://kubeflow.example.com/pipeline"
            )
        if status == 409:
            return AlreadyThere(f"{where}: {said} (409)")
        if status == 400:
            return PackageRefused(f"{where}: {said}")
        if status == 429 or status in (502, 503, 504):
            return Unreachable(f"{where}: it says {status}: {said}")
        if status == 0:
            return self._untrusted(said)
        return KubeflowError(f"{where}: it says {status}: {said}")

    def _has_token(self) -> bool:
        """Whether there is one that may still be good."""
        token = self._http.configuration.api_key.get("authorization")
        ended = _expiry(token) if token else None
        return bool(token) and not (ended and ended < datetime.now(UTC))

    def _token_wanted(self) -> str:
        """What is known of the token, and where another comes from."""
        token = self._http.configuration.api_key.get("authorization")
        ended = _expiry(token) if token else None
        if not token:
            found = "no token was given"
        elif ended and ended < datetime.now(UTC):
            found = f"the token expired at {ended:%Y-%m-%d %H:%M} UTC"
        else:
            found = "the token given is not accepted"
        namespace = self._namespace or self._access.namespace or "NAMESPACE"
        return (
            f"{found}. Set KFP_TOKEN to a new one; `kubectl create token default-editor -n {namespace} "
            "--audience pipelines.kubeflow.org` makes one where Kubeflow takes Kubernetes' own"
        )

    def _something_else(self, data: bytes | str) -> KubeflowError:
        text = data.decode("utf-8", errors="replace") if isinstance(data, bytes) else str(data)
        title = re.search(r"<title[^>]*>\s*([^<]*?)\s*</title>", text, re.IGNORECASE)
        if _is_page(text):
            called = f" ('{title[1]}')" if title else ""
            return KubeflowError(
                f"{self.endpoint}: a web page{called} answered instead of Kubeflow's API, as a login does, or the address is "
                f"another's: {self._token_wanted()}"
            )
        return KubeflowError(
            f"{self.endpoint}: what answers there is not Kubeflow's API: it says {text.strip()!r:.100}"
        )

    def _unreachable(self, error: HTTPError) -> KubeflowError:
        reason: Any = getattr(error, "reason", None) or error
        host, kind, text = urlsplit(self.endpoint).netloc or self.endpoint, type(reason).__name__, str(reason)
        if "too many redirects" in text:
            return KubeflowError(
                f"{self.endpoint}: it sends from page to page, as a login does: {self._token_wanted()}"
            )
        if "SSL" in kind or "SSL" in text or "certificate" in text.lower():
            return self._untrusted(text)
        if kind == "NameResolutionError" or "name resolution" in text or "Name or service" in text:
            return Unreachable(f"{self.endpoint}: nobody knows the name {host}: check --endpoint or KFP_ENDPOINT")
        if "refused" in text:
            return Unreachable(
                f"{self.endpoint}: nothing listens there (connection refused). If it is a forwarded port: is "
                "`kubectl port-forward -n kubeflow svc/ml-pipeline-ui 8080:80` still running?"
            )
        if "Timeout" in kind or "timed out" in text:
            return Unreachable(
                f"{self.endpoint}: no answer in {_CONNECT_S} s: is it reached from here (VPN, firewall)?"
            )
        if "RemoteDisconnected" in text or "ConnectionReset" in text or "IncompleteRead" in text:
            return Unreachable(f"{self.endpoint}: the connection broke before there was an answer")
        return Unreachable(f"{self.endpoint}: the connection failed: {text}")

    def _untrusted(self, reason: str) -> KubeflowError:
        if "WRONG_VERSION_NUMBER" in reason or "wrong version number" in reason:
            return KubeflowError(f"{self.endpoint}: it does not speak TLS: give it with http:// instead of https://")
        found = re.search(r"(certificate verify failed: [^(\]]*|[^']*doesn't match[^']*)", reason)
        return KubeflowError(
            f"{self.endpoint}: its certificate is not trusted ({(found[1] if found else reason).strip()}). "
            "Set KFP_SSL_CA_CERT to the file of the authority that signed it"
        )


class _NoSuchPath(NotThere):
    """404 from something that is not Kubeflow's API, or a part that this server has not."""


def connect(access: Access, warn: Callable[[str], None] = lambda _: None) -> Api:
    """Reach Kubeflow Pipelines and see that it will do. `warn` hears of a backend whose version is unknown.

    Raises ConfigError for a backend that is too old, a missing endpoint or namespace, and KubeflowError.
    """
    from kfp.client import Client
    from kfp.client.set_volume_credentials import ServiceAccountTokenVolumeCredentials

    class LateClient(Client):  # type: ignore[misc]
        """Leaves it to `Api.check` to ask the backend for its health, once and with an error that can be read."""

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
    with _quiet():
        client = LateClient(
            host=endpoint, existing_token=access.token, credentials=credentials, ssl_ca_cert=access.certificates
        )
    api = Api(client, access)
    if not endpoint and api.endpoint == "http://localhost":
        raise ConfigError(
            "where is Kubeflow Pipelines? Give --endpoint URL or set KFP_ENDPOINT; there is no kubeconfig here, and this is no "
            "pod of a cluster. `kubectl port-forward -n kubeflow svc/ml-pipeline-ui 8080:80` makes it http://localhost:8080"
        )
    api.check(warn)
    return api


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


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep what kfp and urllib3 print, warn and log from our output."""
    loggers = [logging.getLogger(name) for name in ("urllib3.connectionpool", "root")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _equal(key: str, value: str) -> str:
    # The API decodes it once more than any other value of a query: a plus or a percent sign in a name would be lost.
    return quote(json.dumps({"predicates": [{"operation": _EQUALS, "key": key, "stringValue": value}]}), safe="")


def _name(item: Mapping[str, Any]) -> str:
    """What is unique. Before 2.14 there was only what the UI shows."""
    return str(item.get("name") or item.get("display_name"))


def _named(listed: Iterable[Mapping[str, Any]], name: str, key: str) -> str | None:
    return next((str(item[key]) for item in listed if _name(item) == name), None)


def _is_json(data: bytes | str) -> bool:
    try:
        json.loads(data)
    except ValueError:
        return False
    return True


def _is_page(text: str) -> bool:
    return bool(re.match(r"\s*<(!doctype|html)", text, re.IGNORECASE))


def _is_kubeflows(body: str) -> bool:
    """Whether an error comes from a service of the API, and not from its router or from something in front of it."""
    try:
        said = json.loads(body)
    except ValueError:
        return False
    return isinstance(said, dict) and ("error_message" in said or bool(said.get("details")))


def _message(body: str) -> str:
    """What an error of the API says, in one line, the trace of Go wrappings left out."""
    try:
        said = json.loads(body)
    except ValueError:
        return "" if _is_page(body) else " ".join(body.split())[:300]
    if not isinstance(said, dict):
        return str(said)
    text = said.get("message") or said.get("error_message") or said.get("error") or ""
    return " ".join(str(text).split())


def _expiry(token: str) -> datetime | None:
    """When a JWT ends; None for a token of another kind."""
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
        return datetime.fromtimestamp(float(claims["exp"]), UTC)
    except (ValueError, KeyError, TypeError, binascii.Error, OSError):
        return None
