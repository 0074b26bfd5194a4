"""Pipelines and their versions, which are the packages that were uploaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.runners.kubeflow.api.connection import Connection


class Pipelines:
    """The pipelines of one Kubeflow and their versions."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._service = connection.client.pipelines

    def find(self, name: str) -> str | None:
        """The id of the pipeline of exactly this name."""
        return self._connection.id_of(
            name,
            self._service.pipeline_service_list_pipelines,
            "pipelines",
            "pipeline_id",
            doing="list pipelines",
            **self._connection.of_namespace(),
        )

    def create(self, name: str, description: str) -> str:
        """The id of a new pipeline without versions. Raises AlreadyThere when somebody else was quicker."""
        body = self._connection.client.api_models.V2beta1Pipeline(
            display_name=name, description=description, namespace=self._connection.namespace
        )
        made = self._connection.ask(
            self._service.pipeline_service_create_pipeline,
            body,
            doing=f"create the pipeline {name}",
        )
        return str(made.pipeline_id)

    def delete_empty(self, pipeline: str) -> None:
        """Remove a pipeline; KFP refuses when it has versions."""
        self._connection.ask(
            self._service.pipeline_service_delete_pipeline,
            pipeline,
            doing="remove the empty pipeline",
        )

    def find_version(self, pipeline: str, name: str) -> str | None:
        """The id of the pipeline's version of exactly this name."""
        return self._connection.id_of(
            name,
            self._service.pipeline_service_list_pipeline_versions,
            "pipeline_versions",
            "pipeline_version_id",
            pipeline,
            doing="list a pipeline's versions",
        )

    def upload_version(self, pipeline: str, name: str, package: Path, description: str) -> str:
        """The id of a new version of the pipeline. Raises AlreadyThere and PackageRefused."""
        made = self._connection.ask(
            self._connection.client.pipeline_uploads.upload_pipeline_version,
            str(package),
            name=name,
            pipelineid=pipeline,
            description=description,
            doing=f"upload {package}",
        )
        return str(made.pipeline_version_id)

    def version_name(self, pipeline: str, version: str) -> str:
        """What a version is called. Raises NotThere."""
        return str(self._version(pipeline, version).display_name)

    def specification(self, pipeline: str, version: str) -> dict[str, Any]:
        """The package of a version, as KFP keeps it."""
        return dict(self._version(pipeline, version).pipeline_spec or {})

    def _version(self, pipeline: str, version: str) -> Any:
        get = self._service.pipeline_service_get_pipeline_version
        return self._connection.ask(get, pipeline, version, doing="read the pipeline's version")
