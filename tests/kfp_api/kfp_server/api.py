"""The backend's state, and how it is to behave."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from kfp_server import experiments, health, logs, pipelines, recurring_runs, runs
from kfp_server.calls import (
    INVALID_ARGUMENT,
    PERMISSION_DENIED,
    UNAUTHENTICATED,
    Json,
    Refusal,
    Request,
    Response,
    refusal,
)
from kfp_server.collection import Collection
from kfp_server.workflow import Workflow

_ROUTES = [route for part in (health, pipelines, experiments, runs, recurring_runs, logs) for route in part.ROUTES]


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
    def version(self) -> tuple[int, int]:
        """Of the backend; a tag that is none is of a new one."""
        found = re.match(r"(\d+)\.(\d+)", self.tag_name)
        return (int(found[1]), int(found[2])) if found else (99, 0)

    @property
    def names(self) -> bool:
        """Whether pipelines and versions have a name besides their display name: since 2.14."""
        return self.version >= (2, 14)

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
            return recurring_runs.tick(self, recurring)

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
        for method, pattern, handler in _ROUTES:
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
