"""Argo's workflow of a run, and what its pods wrote: of the API server, or of the UI's."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from kfp_server.calls import Json, Request, Response, Routes

if TYPE_CHECKING:
    from kfp_server.api import KfpApi


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


ROUTES: Routes = [
    ("GET", r"/apis/v1beta1/runs/([^/]+)", get_run_v1),
    ("GET", r"/apis/v1alpha1/runs/([^/]+)/nodes/([^/]+)/log", read_log),
    ("GET", r"/k8s/pod/logs", pod_log),
]
