"""The service of pipelines and their versions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kfp_server.calls import INVALID_ARGUMENT, Json, Refusal, Request, Routes
from kfp_server.packages import check_package

if TYPE_CHECKING:
    from kfp_server.api import KfpApi


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


def _shown(api: KfpApi, item: Json) -> Json:
    return item if api.names else {key: value for key, value in item.items() if key != "name"}


ROUTES: Routes = [
    ("POST", r"/apis/v2beta1/pipelines/upload", upload_pipeline),
    ("POST", r"/apis/v2beta1/pipelines/upload_version", upload_version),
    ("GET", r"/apis/v2beta1/pipelines", list_pipelines),
    ("POST", r"/apis/v2beta1/pipelines", create_pipeline),
    ("GET", r"/apis/v2beta1/pipelines/([^/]+)", get_pipeline),
    ("DELETE", r"/apis/v2beta1/pipelines/([^/]+)", delete_pipeline),
    ("GET", r"/apis/v2beta1/pipelines/([^/]+)/versions", list_versions),
    ("GET", r"/apis/v2beta1/pipelines/([^/]+)/versions/([^/]+)", get_version),
    ("DELETE", r"/apis/v2beta1/pipelines/([^/]+)/versions/([^/]+)", delete_version),
]
