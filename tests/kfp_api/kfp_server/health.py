"""Whether the backend is there and what it is: its version and mode, and the page of its UI."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kfp_server.calls import Json, Request, Response, Routes

if TYPE_CHECKING:
    from kfp_server.api import KfpApi


def healthz(api: KfpApi, request: Request) -> Json | Response | None:
    """Version and mode. v2beta1 is since 2.0."""
    if "v2beta1" in request.path and api.version < (2, 0):
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


def page(api: KfpApi, request: Request) -> Response | None:
    """The UI itself."""
    html = b"<!doctype html><html><head><title>Kubeflow Pipelines</title></head></html>"
    return Response(html, headers={"Content-Type": "text/html"}) if api.ui else None


ROUTES: Routes = [
    ("GET", r"/", page),
    ("GET", r"/apis/v[12]beta1/healthz", healthz),
]
