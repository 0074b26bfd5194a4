"""A small Kubeflow Pipelines API (v2beta1, and what kfp.Client and logs need of the older ones) over real HTTP.

It answers as the Go API server does (backend/src/apiserver in kubeflow/pipelines): paths, field names, error bodies, unique
names, filters, page tokens that belong to their query, checks of packages and of parameters. A new service is a `Collection`
and its routes: see `ROUTES` at the end.
"""

from __future__ import annotations

import base64
import email
import email.policy
import json
import re
import ssl
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, unquote_plus, urlsplit

Json = dict[str, Any]

# gRPC codes and the HTTP status that grpc-gateway makes of them.
INVALID_ARGUMENT, NOT_FOUND, ALREADY_EXISTS, PERMISSION_DENIED, ABORTED, INTERNAL, UNAVAILABLE, UNAUTHENTICATED = (
    3, 5, 6, 7, 10, 13, 14, 16,
)  # fmt: skip
STATUS = {3: 400, 5: 404, 6: 409, 7: 403, 10: 409, 13: 500, 14: 503, 16: 401}


class Refusal(Exception):
    """What a service of the API answers instead of the thing asked for."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


@dataclass
class Request:
    """One call."""

    method: str
    path: str
    query: dict[str, str]
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Json:
        """The body."""
        found: Json = json.loads(self.body or b"{}")
        return found

    @property
    def file(self) -> bytes:
        """The part `uploadfile` of a multipart body."""
        head = f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode()
        message = email.message_from_bytes(head + self.body, policy=email.policy.default)
        for part in message.iter_parts():
            if part.get_param("name", header="content-disposition") == "uploadfile":
                return bytes(part.get_payload(decode=True) or b"")
        raise Refusal(INVALID_ARGUMENT, "Failed to read pipeline from file")


@dataclass
class Response:
    """What goes back. A body that is no bytes is written as JSON."""

    body: Any
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Collection:
    """The things of one kind: their ids, the names that may be there once, lists in pages."""

    kind: str  # 'Pipeline', for messages
    plural: str  # field of a list's answer
    id: str  # field of the id
    unique: tuple[str, ...] = ("name", "namespace")  # together; empty where names may repeat
    items: dict[str, Json] = field(default_factory=dict)

    def add(self, item: Json, taken: str) -> Json:
        """Keep a new thing, or refuse it since its name is `taken`."""
        if self.unique and any(
            all(old.get(key) == item.get(key) for key in self.unique) for old in self.items.values()
        ):
            raise Refusal(ALREADY_EXISTS, taken)
        item = {self.id: str(uuid.uuid4()), **item, "created_at": now()}
        self.items[item[self.id]] = item
        return item

    def get(self, key: str) -> Json:
        """The thing of this id."""
        if key not in self.items:
            raise Refusal(NOT_FOUND, f"{self.kind} {key} not found")
        return self.items[key]

    def page(self, request: Request, within: Mapping[str, Any] = {}) -> Json:
        """A page of what the query asks for, with the token of the next. A token of another query is refused."""
        query = {name: request.query.get(name, "") for name in ("filter", "sort_by")}
        size = min(int(request.query.get("page_size") or 20) or 20, 200)
        begin = 0
        if token := request.query.get("page_token"):
            said = json.loads(base64.b64decode(token))
            begin = said.pop("begin")
            if any(query.values()) and said != query:
                raise Refusal(
                    INVALID_ARGUMENT, "page token does not match the supplied sort by and/or filtering criteria"
                )
        found = [
            item for item in self.items.values() if all(item.get(key, "") == value for key, value in within.items())
        ]
        found = [item for item in found if _matches(item, query["filter"])]
        key, _, direction = query["sort_by"].partition(" ")
        found.sort(key=lambda item: item.get(key or "created_at", ""), reverse=direction == "desc")
        answer: Json = {self.plural: found[begin : begin + size], "total_size": len(found)}
        if begin + size < len(found):
            answer["next_page_token"] = base64.b64encode(json.dumps({"begin": begin + size, **query}).encode()).decode()
        return answer


def _matches(item: Json, text: str) -> bool:
    for predicate in json.loads(unquote_plus(text)).get("predicates", []) if text else []:
        key, operation = predicate["key"], predicate["operation"]
        if key not in (
            "id",
            "name",
            "display_name",
            "namespace",
            "state",
            "storage_state",
            "experiment_id",
            "recurring_run_id",
            "description",
            "created_at",
        ):
            raise Refusal(INVALID_ARGUMENT, f"key {key!r} is not a field")
        if operation not in (1, "EQUALS", 2, "NOT_EQUALS", 9, "IS_SUBSTRING"):
            raise Refusal(INVALID_ARGUMENT, f"operation {operation!r} is not in this fake")
        wanted = next(value for name, value in predicate.items() if name.lower().replace("_", "").endswith("value"))
        has = item.get(key) if key in item else item.get("display_name")
        if operation in (1, "EQUALS") and has != wanted:
            return False
        if operation in (2, "NOT_EQUALS") and has == wanted:
            return False
        if operation in (9, "IS_SUBSTRING") and str(wanted) not in str(has):
            return False
    return True


class Workflow:
    """What Argo makes of a run: a node for every pod and group, named and numbered as Argo does."""

    def __init__(self, name: str, spec: Json, namespace: str) -> None:
        self.name = name
        self.namespace = namespace
        self.nodes: dict[str, Json] = {}
        self.phase = ""
        self._paths = {"root": f"{name}.root", **_paths(spec, spec.get("root", {}), f"{name}.root")}
        self._retried = _retried(spec)
        self._clock = datetime.now(UTC).replace(microsecond=0)

    def start(self) -> None:
        """The run begins."""
        self.phase = "Running"
        self._node(self.name, "DAG", "Running", "entrypoint")
        self._node(f"{self.name}.root-driver", "Pod", "Succeeded", "system-dag-driver")
        self._node(f"{self.name}.root", "DAG", "Running", "root")

    def prepare(self, task: str, phase: str = "Running", message: str = "") -> None:
        """A task's or a group's driver runs."""
        self._node(f"{self._paths[task]}-driver", "Pod", phase, "system-container-driver", message)

    def run(self, task: str, message: str = "") -> None:
        """A task's container runs, or with a message waits to."""
        self.prepare(task, "Succeeded")
        self._node(self._paths[task], "DAG", "Running", "system-container-executor")
        if task in self._retried:
            self._node(f"{self._paths[task]}.executor", "Retry", "Running", "retry-system-container-impl")
        self._attempt(task, len(self.attempts(task)), "Pending" if message else "Running", message)

    def finish(self, task: str, phase: str = "Succeeded", message: str = "") -> None:
        """A task's container has ended; begun too if it had not."""
        if not self.attempts(task):
            self.run(task)
        attempts = self.attempts(task)
        self._attempt(task, len(attempts) - 1, phase, message)
        if task in self._retried:
            self._node(f"{self._paths[task]}.executor", "Retry", phase, "retry-system-container-impl", message)
        self._node(self._paths[task], "DAG", phase, "system-container-executor")

    def fail(self, task: str, message: str = "Error (exit code 1)") -> None:
        """A task's last attempt has failed."""
        self.finish(task, "Failed", message)

    def retry(self, task: str, message: str) -> None:
        """A task's attempt has failed and another is made."""
        self._attempt(task, len(self.attempts(task)) - 1, "Failed", message)
        self._attempt(task, len(self.attempts(task)), "Running", "")

    def enter(self, group: str) -> None:
        """A group's condition was true."""
        self.prepare(group, "Succeeded")
        self._node(self._paths[group], "DAG", "Running", f"comp-{group}")

    def leave(self, group: str, phase: str = "Succeeded") -> None:
        """All of a group has ended."""
        self._node(self._paths[group], "DAG", phase, f"comp-{group}")

    def skip(self, group: str) -> None:
        """A group's condition was false."""
        self.prepare(group, "Succeeded")
        self._node(self._paths[group], "Skipped", "Skipped", f"comp-{group}", "when 'false != false' evaluated false")

    def omit(self, task: str) -> None:
        """What a task depends on has not succeeded."""
        self._node(
            self._paths[task], "Skipped", "Omitted", "system-container-executor", "omitted: depends condition not met"
        )

    def end(self, phase: str = "Succeeded") -> None:
        """The run has ended."""
        self.phase = phase
        self._node(f"{self.name}.root", "DAG", phase, "root")
        self._node(self.name, "DAG", phase, "entrypoint")

    def attempts(self, task: str) -> list[str]:
        """The names of a task's pods."""
        path = re.escape(self._paths[task])
        return [
            self.pod_name(node) for node in self.nodes.values() if re.fullmatch(rf"{path}\.executor(\(\d+\))?", node["name"])
            and node["type"] == "Pod"
        ]  # fmt: skip

    def pod_name(self, node: Json) -> str:
        """As Argo names them since 3.4."""
        return f"{self.name}-{node['templateName']}-{node['id'].rpartition('-')[2]}"

    def manifest(self) -> Json:
        """The workflow."""
        return {
            "apiVersion": "argoproj.io/v1alpha1",
            "kind": "Workflow",
            "metadata": {
                "name": self.name,
                "namespace": self.namespace,
                "creationTimestamp": stamp(self._clock),
                "annotations": {"workflows.argoproj.io/pod-name-format": "v2"},
            },
            "status": {"phase": self.phase, "nodes": self.nodes},
        }

    def details(self, run: str) -> list[Json]:
        """`task_details` of v2beta1: every node, without its own id; an unknown phase, as 'Omitted', is unspecified."""
        states = ("PENDING", "RUNNING", "SUCCEEDED", "SKIPPED", "FAILED")
        return [
            {
                "run_id": run,
                "task_id": str(uuid.uuid5(uuid.NAMESPACE_URL, node["id"])),
                "display_name": node["displayName"],
                "create_time": stamp(self._clock),
                "start_time": node["startedAt"],
                "end_time": node.get("finishedAt") or "0001-01-01T00:00:00Z",
                "state": node["phase"].upper() if node["phase"].upper() in states else "RUNTIME_STATE_UNSPECIFIED",
                "child_tasks": [{"pod_name": child} for child in node["children"]],
            }
            for node in sorted(self.nodes.values(), key=lambda node: node["id"])
        ]

    def _attempt(self, task: str, number: int, phase: str, message: str) -> None:
        path = f"{self._paths[task]}.executor"
        if task in self._retried:
            self._node(f"{path}({number})", "Pod", phase, "retry-system-container-impl", message)
        else:
            self._node(path, "Pod", phase, "system-container-impl", message)

    def _node(self, name: str, kind: str, phase: str, template: str, message: str = "") -> None:
        self._clock += timedelta(seconds=1)  # each change takes a second
        node_id = self.name if name == self.name else f"{self.name}-{_fnv1a(name)}"
        node = self.nodes.setdefault(
            node_id,
            {
                "id": node_id,
                "name": name,
                "displayName": name.removeprefix(f"{self.name}.").rpartition(".")[2],
                "type": kind,
                "templateName": template,
                "startedAt": stamp(self._clock),
                "children": [],
            },
        )
        parent = self.nodes.get(f"{self.name}-{_fnv1a(name.rpartition('.')[0])}")
        if parent and node_id not in parent["children"]:
            parent["children"].append(node_id)
        node.update(phase=phase, message=message, type=kind)
        if phase in ("Succeeded", "Failed", "Error", "Skipped", "Omitted"):
            node["finishedAt"] = stamp(self._clock)


@dataclass
class KfpApi:
    """The backend's state, and how it is to behave. Change what you like between two calls."""

    tag_name: str = "2.14.0"
    multi_user: bool = False
    token: str | None = None  # the only one that is let in
    denied: tuple[str, ...] = ()  # namespaces that nobody may use
    login_page: bool = False  # whoever asks is sent to a page
    ui: bool = True  # the UI's server is what listens, and passes the API on; else it is the API server itself
    ready: bool = True  # whether the API server behind the UI answers
    has_v1: bool = True  # whether v1beta1's runs and v1alpha1's logs are there
    logs: dict[str, str | None] = field(
        default_factory=dict
    )  # by pod: None starts yet, and one that is not here is gone
    requests: list[str] = field(default_factory=list)  # 'GET /apis/v2beta1/runs/...', as they came
    faults: list[Callable[[Request], Response | None] | None] = field(default_factory=list)
    """Each is used up by one call: what it answers instead; None closes the connection without an answer."""
    refusals: dict[str, tuple[int, Any] | None] = field(default_factory=dict)
    """Status and body by call, as 'POST /apis/v2beta1/runs', for as long as they are here; None: no answer at all."""
    ignores_filters: bool = False  # lists hold everything
    before: Callable[[Request], None] | None = None  # called at the beginning of each call, outside the lock
    on_read: dict[str, list[Callable[[Workflow], None]]] = field(default_factory=dict)
    """By run: what happens to its workflow before each of the next times it is read."""

    def __post_init__(self) -> None:
        self.url = ""
        self.lock = threading.RLock()
        self.pipelines = Collection("Pipeline", "pipelines", "pipeline_id")
        self.versions = Collection(
            "PipelineVersion", "pipeline_versions", "pipeline_version_id", ("name", "pipeline_id")
        )
        self.experiments = Collection("Experiment", "experiments", "experiment_id")
        self.runs = Collection("Run", "runs", "run_id", unique=())
        self.recurring = Collection("RecurringRun", "recurringRuns", "recurring_run_id", unique=())
        self.workflows: dict[str, Workflow] = {}

    @property
    def names(self) -> bool:
        """Whether pipelines and versions have a name besides their display name: since 2.14."""
        return _version(self.tag_name) >= (2, 14)

    def fail(self, times: int, status: int, body: Any = b"", headers: Mapping[str, str] | None = None) -> None:
        """Answer the next `times` calls with this status."""
        self.faults += [lambda _: Response(body, status, headers or {})] * times

    def drop(self, times: int) -> None:
        """Close the next `times` connections without an answer."""
        self.faults += [None] * times

    def calls(self, begin: str) -> list[str]:
        """The requests that begin so, as 'POST /apis/v2beta1/runs'."""
        return [request for request in self.requests if request.startswith(begin)]

    def tick(self, recurring: str) -> Json | None:
        """The controller finds that a recurring run is due: the run that it starts, None when it is off or has enough that go on."""
        with self.lock:
            item = self.recurring.get(recurring)
            mine = [run for run in self.runs.items.values() if run.get("recurring_run_id") == recurring]
            going = [run for run in mine if shown_run(self, run)["state"] in ("PENDING", "RUNNING")]
            if item["status"] != "ENABLED" or len(going) >= int(item["max_concurrency"]):
                return None
            name = f"{_resource_name(item)}-{len(mine) + 1}"
            asked = {key: item[key] for key in ("experiment_id", "runtime_config", "service_account") if key in item}
            source = {key: item[key] for key in ("pipeline_spec", "pipeline_version_reference") if key in item}
            return _start_run(
                self, {**asked, **source, "display_name": f"{name}-{_fnv1a(name)}", "recurring_run_id": recurring}
            )

    def answer(self, request: Request) -> Response | None:
        """What goes back; None closes the connection."""
        # kubectl's proxy, which kfp.Client uses when it has a kubeconfig and no endpoint.
        request.path = re.sub(r"^/api/v1/namespaces/[^/]+/services/ml-pipeline:http/proxy/+", "/", request.path)
        with self.lock:
            self.requests.append(f"{request.method} {request.path}")
            fault = self.faults.pop(0) if self.faults else False
        if fault is None:
            return None
        if fault and (response := fault(request)) is not None:
            return response
        if self.before:
            self.before(request)
        if (call := f"{request.method} {request.path}") in self.refusals:
            said = self.refusals[call]
            return Response(said[1], said[0]) if said else None
        if self.ignores_filters:
            request.query.pop("filter", None)
        with self.lock:
            return self._route(request)

    def _route(self, request: Request) -> Response:
        if self.login_page:
            page = b"<!doctype html><html><head><title>Log in to Your Account</title></head></html>"
            if request.path.startswith("/dex"):
                return Response(page, headers={"Content-Type": "text/html"})
            return Response(b"", 302, {"Location": f"{self.url}/dex/auth?client_id=kubeflow"})
        if self.token and request.headers.get("Authorization") != f"Bearer {self.token}":
            return refusal(Refusal(UNAUTHENTICATED, "Request header error: there is no user identity header."), request)
        for method, pattern, handler in ROUTES:
            found = re.fullmatch(pattern, request.path)
            if method == request.method and found:
                try:
                    answer = handler(self, request, *(unquote(group) for group in found.groups()))
                except Refusal as error:
                    return refusal(error, request, upload="upload" in request.path, old=not self.names)
                if answer is not None:
                    return answer if isinstance(answer, Response) else Response(answer)
        if request.path.startswith(("/apis/v2beta1/", "/apis/v1beta1/")):
            return Response({"code": 5, "message": "Not Found", "details": []}, 404)
        return Response(b"404 page not found\n", 404, {"Content-Type": "text/plain; charset=utf-8"})

    def namespace(self, given: str | None) -> str:
        """Which is meant: with one user, none."""
        if not self.multi_user:
            return ""
        if not given:
            raise Refusal(INVALID_ARGUMENT, "Invalid input error: Namespace cannot be empty in multi-user mode")
        if given in self.denied:
            raise Refusal(
                PERMISSION_DENIED,
                f"Failed to authorize with API: User 'ann@example.com' is not authorized with reason: (request: "
                f"&ResourceAttributes{{Namespace:{given},Verb:list,Group:pipelines.kubeflow.org}})",
            )
        return given


# Services


def healthz(api: KfpApi, request: Request) -> Json | Response | None:
    """Version and mode. v2beta1 is since 2.0."""
    if "v2beta1" in request.path and _version(api.tag_name) < (2, 0):
        return None
    if api.ui:  # answers itself, with what it hears from the API server
        return {
            "buildDate": "",
            "frontendTagName": api.tag_name,
            "apiServerReady": api.ready,
            **({"apiServerTagName": api.tag_name, "apiServerMultiUser": api.multi_user} if api.ready else {}),
            **({"multi_user": api.multi_user} if api.ready else {}),
        }
    return {"commit_sha": "0123456", "tag_name": api.tag_name, "multi_user": api.multi_user}


def list_pipelines(api: KfpApi, request: Request) -> Json:
    """Those of a namespace."""
    page = api.pipelines.page(request, {"namespace": api.namespace(request.query.get("namespace"))})
    return {**page, "pipelines": [_shown(api, item) for item in page["pipelines"]]}


def create_pipeline(api: KfpApi, request: Request) -> Json:
    """One without versions."""
    asked = request.json
    name = (asked.get("name") if api.names else "") or asked.get("display_name") or ""
    if not name:
        raise Refusal(INVALID_ARGUMENT, "Failed to create a pipeline due to server error: name is required")
    return _shown(api, _add_pipeline(api, name, asked.get("description", ""), api.namespace(asked.get("namespace"))))


def _add_pipeline(api: KfpApi, name: str, description: str, namespace: str) -> Json:
    return api.pipelines.add(
        {"name": name, "display_name": name, "description": description, "namespace": namespace},
        f"Already exist error: Failed to create a new pipeline. The name {name} already exist. Please specify a new name",
    )


def get_pipeline(api: KfpApi, request: Request, pipeline: str) -> Json:
    """One."""
    return _shown(api, api.pipelines.get(pipeline))


def delete_pipeline(api: KfpApi, request: Request, pipeline: str) -> Json:
    """One that is empty."""
    api.pipelines.get(pipeline)
    for version in api.versions.items.values():
        if version["pipeline_id"] == pipeline:
            raise Refusal(
                INVALID_ARGUMENT, f"Failed to delete pipeline with id {pipeline} as it has existing pipeline versions"
            )
    del api.pipelines.items[pipeline]
    return {}


def list_versions(api: KfpApi, request: Request, pipeline: str) -> Json:
    """Those of a pipeline."""
    api.pipelines.get(pipeline)
    page = api.versions.page(request, {"pipeline_id": pipeline})
    return {**page, "pipeline_versions": [_shown(api, item) for item in page["pipeline_versions"]]}


def get_version(api: KfpApi, request: Request, pipeline: str, version: str) -> Json:
    """One, with its package."""
    return _shown(api, api.versions.get(version))


def delete_version(api: KfpApi, request: Request, pipeline: str, version: str) -> Json:
    """Forget it."""
    api.versions.get(version)
    del api.versions.items[version]
    return {}


def upload_pipeline(api: KfpApi, request: Request) -> Json:
    """A pipeline with its first version, of the same name."""
    name = request.query.get("name") or request.query.get("display_name") or "package.yaml"
    spec = check_package(request.file)
    made = _add_pipeline(api, name, request.query.get("description", ""), api.namespace(request.query.get("namespace")))
    _add_version(api, made["pipeline_id"], name, request, spec)
    return _shown(api, made)


def upload_version(api: KfpApi, request: Request) -> Json:
    """A further version of a pipeline."""
    pipeline = request.query.get("pipelineid", "")
    api.pipelines.get(pipeline)
    name = request.query.get("name") or "package.yaml"
    return _shown(api, _add_version(api, pipeline, name, request, check_package(request.file)))


def _add_version(api: KfpApi, pipeline: str, name: str, request: Request, spec: Json) -> Json:
    return api.versions.add(
        {
            "pipeline_id": pipeline,
            "name": name,
            "display_name": name,
            "description": request.query.get("description", ""),
            "pipeline_spec": spec,
        },
        f"Already exist error: Failed to create a new pipeline version. The name {name} already exist. Specify a new name",
    )


def list_experiments(api: KfpApi, request: Request) -> Json:
    """Those of a namespace."""
    return api.experiments.page(request, {"namespace": api.namespace(request.query.get("namespace"))})


def create_experiment(api: KfpApi, request: Request) -> Json:
    """One."""
    asked = request.json
    name = asked.get("display_name", "")
    if not name:
        raise Refusal(INVALID_ARGUMENT, "Experiment name is empty. Please specify a valid experiment name")
    return api.experiments.add(
        {
            "name": name,
            "display_name": name,
            "namespace": api.namespace(asked.get("namespace")),
            "storage_state": "AVAILABLE",
        },
        f"Already exist error: Failed to create a new experiment. The name {name} already exists. Please specify a new name",
    )


def get_experiment(api: KfpApi, request: Request, experiment: str) -> Json:
    """One."""
    return api.experiments.get(experiment)


def list_runs(api: KfpApi, request: Request) -> Json:
    """Those of a namespace or an experiment."""
    within = {"namespace": api.namespace(request.query.get("namespace"))}
    if experiment := request.query.get("experiment_id"):
        within["experiment_id"] = experiment
    page = api.runs.page(request, within)
    return {**page, "runs": [shown_run(api, item) for item in page["runs"]]}


def create_run(api: KfpApi, request: Request) -> Json:
    """Start one."""
    asked = request.json
    if not asked.get("display_name"):
        raise Refusal(INVALID_ARGUMENT, "The run name is empty. Please specify a valid name")
    return _start_run(api, asked)


def _start_run(api: KfpApi, asked: Json) -> Json:
    experiment = api.experiments.get(asked.get("experiment_id") or _default_experiment(api))
    namespace = experiment["namespace"]
    if namespace in api.denied:
        raise Refusal(PERMISSION_DENIED, f"Failed to create a run due to authorization error. Check {namespace}")
    spec, source = _pipeline_of(api, asked)
    check_parameters(spec, (asked.get("runtime_config") or {}).get("parameters") or {})
    made = api.runs.add(
        {
            "display_name": asked["display_name"],
            "experiment_id": experiment["experiment_id"],
            "namespace": namespace,
            "service_account": asked.get("service_account") or "pipeline-runner",
            "runtime_config": asked.get("runtime_config") or {},
            "storage_state": "AVAILABLE",
            "state": "PENDING",
            **({"description": asked["description"]} if asked.get("description") else {}),
            **({"recurring_run_id": asked["recurring_run_id"]} if asked.get("recurring_run_id") else {}),
            **source,
        },
        "",
    )
    name = f"{spec['pipelineInfo']['name']}-{made['run_id'][:5]}"
    api.workflows[made["run_id"]] = Workflow(name, spec, namespace or "kubeflow")
    return shown_run(api, made)


def _pipeline_of(api: KfpApi, asked: Json) -> tuple[Json, Json]:
    """The pipeline that is asked for, and what names it."""
    spec = asked.get("pipeline_spec")
    source: Json = {"pipeline_spec": spec}
    if reference := asked.get("pipeline_version_reference"):
        version = api.versions.get(reference["pipeline_version_id"])
        spec = version["pipeline_spec"]
        source = {"pipeline_version_reference": reference}
    if not spec:
        raise Refusal(INVALID_ARGUMENT, "Failed to fetch a template with an empty pipeline spec manifest")
    return spec.get("pipeline_spec", spec), source


def _default_experiment(api: KfpApi) -> str:
    for experiment in api.experiments.items.values():
        if experiment["display_name"] == "Default":
            return str(experiment["experiment_id"])
    if api.multi_user:
        raise Refusal(INVALID_ARGUMENT, "Experiment id can not be empty in multi-user mode")
    return str(
        api.experiments.add({"name": "Default", "display_name": "Default", "namespace": ""}, "")["experiment_id"]
    )


def get_run(api: KfpApi, request: Request, run: str) -> Json:
    """One, as far as it has come."""
    item = api.runs.get(run)
    coming = api.on_read.get(run)
    if coming:
        coming.pop(0)(api.workflows[run])
    return shown_run(api, item)


def delete_run(api: KfpApi, request: Request, run: str) -> Json:
    """Forget it."""
    api.runs.get(run)
    del api.runs.items[run]
    return {}


def terminate_run(api: KfpApi, request: Request, run: str) -> Json:
    """Stop it. Argo ends what has not begun at once, and what has in its time."""
    api.runs.get(run)["state"] = "CANCELING" if api.workflows[run].phase else "CANCELED"
    return {}


def shown_run(api: KfpApi, item: Json) -> Json:
    """A run with the state of its workflow. Times that are not yet are 1970 for a run and the year 1 for a task."""
    workflow = api.workflows[item["run_id"]]
    state = item["state"] if item["state"] in ("CANCELING", "CANCELED") else workflow.phase.upper() or "PENDING"
    ended = workflow.nodes.get(workflow.name, {}).get("finishedAt") or "1970-01-01T00:00:00Z"
    shown = {key: value for key, value in item.items() if key not in ("namespace",)}
    details = workflow.details(item["run_id"])
    return {
        **shown,
        "state": state,
        "scheduled_at": item["created_at"],
        "finished_at": ended,
        **({"run_details": {"task_details": details}} if details else {}),
    }


def list_recurring(api: KfpApi, request: Request) -> Json:
    """Those of a namespace or an experiment."""
    within = {"namespace": api.namespace(request.query.get("namespace"))}
    if experiment := request.query.get("experiment_id"):
        within["experiment_id"] = experiment
    page = api.recurring.page(request, within)
    return {**page, "recurringRuns": [_shown_recurring(item) for item in page["recurringRuns"]]}


def create_recurring(api: KfpApi, request: Request) -> Json:
    """One, of any name: they may repeat."""
    asked = request.json
    if not asked.get("display_name"):
        raise Refusal(INTERNAL, "Failed to convert a API recurring run to its internal representation: Recurring run's name cannot be empty")  # fmt: skip
    concurrency = int(asked.get("max_concurrency") or 0)
    if not 1 <= concurrency <= 10:
        raise Refusal(INVALID_ARGUMENT, f"Max concurrency of a recurring run must be at least 1 and at most 10. Received {concurrency}")  # fmt: skip
    trigger = asked.get("trigger") or {}
    if "cron_schedule" in trigger:
        parse_cron(trigger["cron_schedule"].get("cron", ""))
    elif int((trigger.get("periodic_schedule") or {}).get("interval_second") or 0) < 1:
        raise Refusal(INVALID_ARGUMENT, "Found invalid period schedule interval 0. Set at interval to least 1 second")
    for name in ("display_name", "description"):
        if len(asked.get(name) or "") > 255:  # MySQL's column
            raise Refusal(INTERNAL, f"Failed to add recurring run to recurring runs table: Data too long for column '{name}'")  # fmt: skip
    experiment = api.experiments.get(asked.get("experiment_id") or _default_experiment(api))
    namespace = experiment["namespace"]
    if namespace in api.denied:
        raise Refusal(PERMISSION_DENIED, f"Failed to create a recurring run due to authorization error. Check if you have write permission to namespace {namespace}")  # fmt: skip
    spec, source = _pipeline_of(api, asked)
    check_parameters(spec, (asked.get("runtime_config") or {}).get("parameters") or {})
    made = api.recurring.add(
        {
            "display_name": asked["display_name"],
            "description": asked.get("description") or "",
            "experiment_id": experiment["experiment_id"],
            "namespace": namespace,
            "service_account": asked.get("service_account") or "pipeline-runner",
            "runtime_config": asked.get("runtime_config") or {},
            "max_concurrency": str(concurrency),
            "no_catchup": bool(asked.get("no_catchup")),
            "trigger": trigger,
            **source,
        },
        "",
    )
    _switch(made, enabled=asked.get("mode") == "ENABLE")
    return _shown_recurring(made)


def get_recurring(api: KfpApi, request: Request, recurring: str) -> Json:
    """One."""
    return _shown_recurring(api.recurring.get(recurring))


def delete_recurring(api: KfpApi, request: Request, recurring: str) -> Json:
    """Forget it. Kubernetes removes what it owned: the workflows of its runs that go on, which is their end."""
    api.recurring.get(recurring)
    del api.recurring.items[recurring]
    for run in api.runs.items.values():
        if run.get("recurring_run_id") == recurring and shown_run(api, run)["state"] in ("PENDING", "RUNNING"):
            api.workflows[run["run_id"]].end("Failed")
    return {}


def enable_recurring(api: KfpApi, request: Request, recurring: str) -> Json:
    """Let it start runs."""
    _switch(api.recurring.get(recurring), enabled=True)
    return {}


def disable_recurring(api: KfpApi, request: Request, recurring: str) -> Json:
    """Let it start none."""
    _switch(api.recurring.get(recurring), enabled=False)
    return {}


def _switch(item: Json, *, enabled: bool) -> None:
    item.update(status="ENABLED" if enabled else "DISABLED", mode="ENABLE" if enabled else "DISABLE", updated_at=now())


def _shown_recurring(item: Json) -> Json:
    """Numbers of 64 bits are text, and what is false or empty is left out: protobuf's JSON."""
    return {key: value for key, value in item.items() if value not in (False, "", {})}


def _resource_name(item: Json) -> str:
    """Kubernetes' name of what stands for a recurring run."""
    plain = re.sub(r"[^a-z0-9]", "", item["display_name"].lower())
    return f"{plain[:20]}{item['recurring_run_id'][:5]}"


def get_run_v1(api: KfpApi, request: Request, run: str) -> Json | None:
    """v1beta1's: with Argo's workflow."""
    if not api.has_v1:
        return None
    item = api.runs.get(run)
    workflow = api.workflows[run]
    manifest = json.dumps(workflow.manifest()) if workflow.nodes else ""
    return {
        "run": {"id": run, "name": item["display_name"]},
        "pipeline_runtime": {"pipeline_manifest": "{}", "workflow_manifest": manifest},
    }


def read_log(api: KfpApi, request: Request, run: str, pod: str) -> Response | None:
    """v1alpha1's, of the API server alone: it says 200 before it looks, and then writes the error behind."""
    if api.ui or not api.has_v1:
        return None
    text = api.logs.get(pod)
    if text is not None:
        return Response(text.encode(), headers={"Content-Type": "text/plain; charset=utf-8"})
    message = (
        f"Failed to read logs for run {run}: Failed to read logs from pod {pod} due to error opening log stream: "
        f"{_no_log(api, pod)}"
    )
    body = json.dumps({"error_message": message, "error_details": message}, separators=(",", ":"))
    return Response(body.encode(), headers={"Content-Type": "text/plain; charset=utf-8"})


def pod_log(api: KfpApi, request: Request) -> Response | None:
    """The UI's."""
    if not api.ui:
        return None
    pod = request.query.get("podname", "")
    text = api.logs.get(pod)
    if text is not None:
        return Response(text.encode(), headers={"Content-Type": "text/html; charset=utf-8"})
    said = f"Could not get main container logs: Error: {_no_log(api, pod)}"
    return Response(said.encode(), 500, {"Content-Type": "text/html; charset=utf-8"})


def _no_log(api: KfpApi, pod: str) -> str:
    """Kubernetes' words."""
    if pod in api.logs:
        return f'container "main" in pod "{pod}" is waiting to start: ContainerCreating'
    return f'pods "{pod}" not found'


def page(api: KfpApi, request: Request) -> Response | None:
    """The UI itself."""
    html = b"<!doctype html><html><head><title>Kubeflow Pipelines</title></head></html>"
    return Response(html, headers={"Content-Type": "text/html"}) if api.ui else None


ROUTES: list[tuple[str, str, Callable[..., Any]]] = [
    ("GET", r"/", page),
    ("GET", r"/apis/v[12]beta1/healthz", healthz),
    ("POST", r"/apis/v2beta1/pipelines/upload", upload_pipeline),
    ("POST", r"/apis/v2beta1/pipelines/upload_version", upload_version),
    ("GET", r"/apis/v2beta1/pipelines", list_pipelines),
    ("POST", r"/apis/v2beta1/pipelines", create_pipeline),
    ("GET", r"/apis/v2beta1/pipelines/([^/]+)", get_pipeline),
    ("DELETE", r"/apis/v2beta1/pipelines/([^/]+)", delete_pipeline),
    ("GET", r"/apis/v2beta1/pipelines/([^/]+)/versions", list_versions),
    ("GET", r"/apis/v2beta1/pipelines/([^/]+)/versions/([^/]+)", get_version),
    ("DELETE", r"/apis/v2beta1/pipelines/([^/]+)/versions/([^/]+)", delete_version),
    ("GET", r"/apis/v2beta1/experiments", list_experiments),
    ("POST", r"/apis/v2beta1/experiments", create_experiment),
    ("GET", r"/apis/v2beta1/experiments/([^/]+)", get_experiment),
    ("GET", r"/apis/v2beta1/runs", list_runs),
    ("POST", r"/apis/v2beta1/runs", create_run),
    ("GET", r"/apis/v2beta1/runs/([^/]+)", get_run),
    ("DELETE", r"/apis/v2beta1/runs/([^/]+)", delete_run),
    ("POST", r"/apis/v2beta1/runs/([^/]+):terminate", terminate_run),
    ("GET", r"/apis/v2beta1/recurringruns", list_recurring),
    ("POST", r"/apis/v2beta1/recurringruns", create_recurring),
    ("GET", r"/apis/v2beta1/recurringruns/([^/:]+)", get_recurring),
    ("DELETE", r"/apis/v2beta1/recurringruns/([^/:]+)", delete_recurring),
    ("POST", r"/apis/v2beta1/recurringruns/([^/:]+):enable", enable_recurring),
    ("POST", r"/apis/v2beta1/recurringruns/([^/:]+):disable", disable_recurring),
    ("GET", r"/apis/v1beta1/runs/([^/]+)", get_run_v1),
    ("GET", r"/apis/v1alpha1/runs/([^/]+)/nodes/([^/]+)/log", read_log),
    ("GET", r"/k8s/pod/logs", pod_log),
]


# Rules


def check_package(content: bytes) -> Json:
    """The package as KFP keeps it: the pipeline alone, or with its platform. Refused as v2_template.go does."""
    import yaml
    from google.protobuf import json_format
    from kfp.pipeline_spec import pipeline_spec_pb2

    try:
        documents = [document for document in yaml.safe_load_all(content) if document]
    except yaml.YAMLError as error:
        raise Refusal(INVALID_ARGUMENT, f"unable to decode yaml document: {error}") from error
    spec: Json | None = None
    platform: Json | None = None
    for document in documents:
        if isinstance(document, dict) and "pipelineInfo" in document:
            if spec is not None:
                raise Refusal(INVALID_ARGUMENT, "multiple pipeline specs provided")
            spec = document
        elif isinstance(document, dict) and "platforms" in document:
            platform = document
    if spec is None:
        raise Refusal(INVALID_ARGUMENT, "no pipeline spec is provided")
    try:
        json_format.ParseDict(spec, pipeline_spec_pb2.PipelineSpec())
    except json_format.ParseError as error:
        raise Refusal(INVALID_ARGUMENT, f"invalid v2 pipeline spec: {error}") from error
    if spec.get("schemaVersion") != "2.1.0":
        version = spec.get("schemaVersion")
        raise Refusal(
            INVALID_ARGUMENT, f"KFP only supports schema version 2.1.0, but the pipeline spec has version {version}"
        )
    if not re.search(r"[a-z0-9]", spec["pipelineInfo"].get("name", "")):
        raise Refusal(
            INVALID_ARGUMENT,
            "invalid v2 pipeline spec: name should consist of lower case alphanumeric characters, '-' or '.', "
            "and must start and end with an alphanumeric character",
        )
    if "root" not in spec:
        raise Refusal(INVALID_ARGUMENT, "invalid v2 pipeline spec: root component is empty")
    return {"pipeline_spec": spec, "platform_spec": platform} if platform else spec


CRON_FIELDS = (
    ("second", 0, 59, ()),
    ("minute", 0, 59, ()),
    ("hour", 0, 23, ()),
    ("day", 1, 31, ()),
    ("month", 1, 12, ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")),
    ("weekday", 0, 6, ("sun", "mon", "tue", "wed", "thu", "fri", "sat")),
)


def parse_cron(text: str) -> list[set[int]]:
    """The seconds, minutes, hours, days, months and weekdays of an expression; 0 is Sunday, and -1 marks a star.

    As robfig/cron 1.2 reads it, with which KFP is built: of five fields the first is the seconds, and the last is a star.
    """
    refused = "Schedule cron is not a supported format(https://godoc.org/github.com/robfig/cron). Error: "
    fields = text.split()
    if not 5 <= len(fields) <= 6:
        raise Refusal(INVALID_ARGUMENT, f"{refused}Expected 5 to 6 fields, found {len(fields)}: {text}")
    found = []
    for (_, least, most, names), written in zip(CRON_FIELDS, [*fields, "*"], strict=False):
        values: set[int] = set()
        for part in written.lower().split(","):
            spread, _, step = part.partition("/")
            low, _, high = spread.partition("-")
            try:
                if low in ("*", "?"):
                    values.add(-1)
                    first, last = least, most
                else:
                    first = names.index(low) + least if low in names else int(low)
                    last = (names.index(high) + least if high in names else int(high)) if high else first
                    last = most if step and not high else last
                every = int(step) if step else 1
            except ValueError:
                raise Refusal(INVALID_ARGUMENT, f"{refused}Failed to parse int from {part}") from None
            if first < least or last > most or first > last or every < 1:
                raise Refusal(INVALID_ARGUMENT, f"{refused}{part} is not between {least} and {most}")
            values.update(range(first, last + 1, every))
        found.append(values)
    return found


def fires(text: str, after: datetime, count: int) -> list[datetime]:
    """When KFP's controller starts a run for an expression: the next `count` times, in the zone of `after`, which is the controller's."""
    fields = parse_cron(text)
    found: list[datetime] = []
    while len(found) < count:
        found.append(_next_firing(fields, found[-1] if found else after))
    return found


def _next_firing(fields: list[set[int]], after: datetime) -> datetime:
    """As robfig's SpecSchedule.Next: hours and less go on as time does, so that summer time leaves out and repeats hours."""
    seconds, minutes, hours, days, months, weekdays = fields
    zone = after.tzinfo

    def later(moment: datetime, **by: int) -> datetime:
        return (moment.astimezone(UTC) + timedelta(**by)).astimezone(zone)

    def day_fits(moment: datetime) -> bool:
        by_day, by_weekday = moment.day in days, moment.isoweekday() % 7 in weekdays
        return (by_day and by_weekday) if -1 in days or -1 in weekdays else (by_day or by_weekday)

    moment = later(after.replace(microsecond=0), seconds=1)
    while True:
        if moment.month not in months or not day_fits(moment):
            moment = moment.replace(hour=0, minute=0, second=0, fold=0) + timedelta(days=1)  # on the wall
        elif moment.hour not in hours:
            moment = later(moment.replace(minute=0, second=0), hours=1)
        elif moment.minute not in minutes:
            moment = later(moment.replace(second=0), minutes=1)
        elif moment.second not in seconds:
            moment = later(moment, seconds=1)
        else:
            return moment


def check_parameters(spec: Json, given: Json) -> None:
    """Refused as validatePipelineJobInputs does."""
    known: Json = spec.get("root", {}).get("inputDefinitions", {}).get("parameters", {})
    kinds: Mapping[str, tuple[type, ...]] = {
        "NUMBER_DOUBLE": (int, float),
        "NUMBER_INTEGER": (int, float),
        "STRING": (str,),
        "BOOLEAN": (bool,),
        "LIST": (list,),
        "STRUCT": (dict,),
    }
    for name, wanted in known.items():
        if name not in given:
            if not wanted.get("isOptional") and "defaultValue" not in wanted:
                raise Refusal(
                    INVALID_ARGUMENT,
                    f"parameter {name} is not optional, yet has neither default value nor user provided value",
                )
            continue
        kind = wanted["parameterType"]
        if not isinstance(given[name], kinds[kind]) or (isinstance(given[name], bool) and kind != "BOOLEAN"):
            raise Refusal(INVALID_ARGUMENT, f"input parameter {name} requires type {kind.lower()}")
    extra = sorted(set(given) - set(known))
    if extra:
        raise Refusal(INVALID_ARGUMENT, f"parameter {', '.join(extra)} not found in the pipeline's input definitions")


def refusal(error: Refusal, request: Request, *, upload: bool = False, old: bool = False) -> Response:
    """An error's body: of the gateway, or of uploads, which have their own. Before 2.14 an upload's mistakes were 500."""
    if upload:
        status = 500 if old and error.code == INVALID_ARGUMENT else STATUS[error.code]
        said = {
            "error_message": f"Failed to create a pipeline version: {error.message}",
            "error_details": error.message,
        }
        return Response(said, status)
    detail = {"@type": "type.googleapis.com/google.rpc.Status", "code": error.code, "message": error.message}
    body: Json = {"code": error.code, "message": error.message, "details": [detail]}
    return Response({"error": error.message, **body} if old else body, STATUS[error.code])


def _shown(api: KfpApi, item: Json) -> Json:
    return item if api.names else {key: value for key, value in item.items() if key != "name"}


def _paths(spec: Json, component: Json, at: str) -> dict[str, str]:
    """Argo's names of a pipeline's tasks and groups; those of an exit task lie under a hook of what it waits for."""
    found = {}
    for key, task in component.get("dag", {}).get("tasks", {}).items():
        last = task.get("triggerPolicy", {}).get("strategy") == "ALL_UPSTREAM_TASKS_COMPLETED"
        place = f"{at}.{task['dependentTasks'][0]}.onExit" if last and task.get("dependentTasks") else at
        found[key] = f"{place}.{key}"
        inner = spec.get("components", {}).get(task["componentRef"]["name"], {})
        found.update(_paths(spec, inner, found[key]))
    return found


def _retried(spec: Json) -> set[str]:
    components = [spec.get("root", {}), *spec.get("components", {}).values()]
    tasks = [item for component in components for item in component.get("dag", {}).get("tasks", {}).items()]
    return {key for key, task in tasks if "retryPolicy" in task}


def _version(tag: str) -> tuple[int, int]:
    found = re.match(r"(\d+)\.(\d+)", tag)
    return (int(found[1]), int(found[2])) if found else (99, 0)


def _fnv1a(text: str) -> int:
    value = 0x811C9DC5
    for byte in text.encode():
        value = (value ^ byte) * 0x01000193 % 2**32
    return value


def now() -> str:
    """As the API writes it: whole seconds, and here parts of them so that the order of making is kept."""
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")


def stamp(moment: datetime) -> str:
    """As the API writes it."""
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"


class Handler(BaseHTTPRequestHandler):
    """HTTP for a KfpApi."""

    protocol_version = "HTTP/1.1"
    server: Server
    disable_nagle_algorithm = True

    def _call(self) -> None:
        parts = urlsplit(self.path)
        length = int(self.headers.get("Content-Length") or 0)
        request = Request(
            self.command,
            parts.path,
            {name: values[-1] for name, values in parse_qs(parts.query).items()},
            self.headers,
            self.rfile.read(length) if length else b"",
        )
        response = self.server.api.answer(request)
        if response is None:
            self.close_connection = True
            return
        body = response.body if isinstance(response.body, bytes) else json.dumps(response.body).encode()
        self.send_response(response.status)
        headers = {"Content-Type": "application/json", **response.headers, "Content-Length": str(len(body))}
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_DELETE = do_PUT = do_PATCH = _call  # noqa: N815 http.server's names

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Say nothing."""


class Server(ThreadingHTTPServer):
    """Serves one KfpApi."""

    daemon_threads = True
    api: KfpApi

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is none of ours."""


@contextmanager
def serving(api: KfpApi, certificate: Path | None = None) -> Iterator[KfpApi]:
    """`api` at its `url` while the context lasts; over TLS with a file that has a certificate and its key."""
    server = Server(("127.0.0.1", 0), Handler)
    server.api = api
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    api.url = f"{'https' if certificate else 'http'}://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield api
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
