"""Runs, what Argo says of them, and what their pods wrote."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

from pipeline.runners.kubeflow.api.connection import Connection, equal
from pipeline.runners.kubeflow.api.errors import NoSuchPath, NotThere
from schemas.errors import KubeflowError, Unreachable


class Runs:
    """The runs of one Kubeflow."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._service = connection.client.runs

    def create(
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
        models = self._connection.client.api_models
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
            return str(self._connection.ask(self._service.run_service_create_run, body, doing="start a run").run_id)
        except Unreachable as error:
            # Only a connection that was never made is tried again by itself: a second run would do everything twice.
            raise Unreachable(
                f"{error}. Whether the run '{name}' has started is not known: look before you start another"
            ) from error

    def get(self, run: str) -> Any:
        """The run of this id, as kfp_server_api.V2beta1Run. Raises NotThere."""
        return self._connection.ask(self._service.run_service_get_run, run, doing=f"read the run {run}")

    def named(self, name: str) -> list[dict[str, Any]]:
        """The runs of exactly this name, newest first, each as the API writes it."""
        listed = self._having("name", name, doing="list runs")
        return [found for found in listed if found.get("display_name") == name]

    def of_recurring(self, recurring: str) -> Iterator[dict[str, Any]]:
        """The runs that a recurring run has started, newest first, each as the API writes it; asked for as they are taken."""
        listed = self._having("recurring_run_id", recurring, doing="list the runs of a recurring run")
        return (found for found in listed if found.get("recurring_run_id") == recurring)

    def _having(self, field: str, value: str, *, doing: str) -> Iterator[dict[str, Any]]:
        """The runs of which `field` has this value as far as the API's filter tells, newest first, asked for as they are taken."""
        return self._connection.pages(
            self._service.run_service_list_runs,
            "runs",
            doing=doing,
            filter=equal(field, value),
            sort_by="created_at desc",
            **self._connection.of_namespace(),
        )

    def terminate(self, run: str) -> None:
        """End a run before it has ended by itself. Raises NotThere."""
        self._connection.ask(self._service.run_service_terminate_run, run, doing=f"end the run {run}")

    def page_of(self, run: str) -> str | None:
        """Where the UI shows a run; None where the endpoint is the API server's, which has no pages."""
        ui = os.environ.get("KF_PIPELINES_UI_ENDPOINT")
        if not ui:
            try:
                response = self._connection.raw("/", doing="look for the UI")
            except KubeflowError:
                return None
            if "html" not in response.headers.get("Content-Type", ""):
                return None
            ui = self._connection.endpoint
        return f"{ui.rstrip('/')}/#/runs/details/{run}"

    def workflow(self, run: str) -> dict[str, Any]:
        """Argo's record of a run, which names its pods and says why they ended; empty while there is none, and where KFP has no such thing."""
        try:
            said = self._connection.get(f"/apis/v1beta1/runs/{quote(run)}", doing=f"read the run {run}")
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
        except NoSuchPath:
            pass
        query = f"podname={quote(pod)}&runid={quote(run)}&podnamespace={quote(namespace)}&createdat={quote(created)}"
        try:
            return self._log(f"/k8s/pod/logs?{query}", pod)
        except NoSuchPath:
            raise KubeflowError(
                f"{self._connection.endpoint}: neither Kubeflow's API server nor its UI gives logs there; "
                f"`kubectl logs -n {namespace or 'NAMESPACE'} {pod} -c main` does"
            ) from None

    def _log(self, path: str, pod: str) -> str:
        try:
            text: str = self._connection.raw(path, doing=f"read the log of {pod}").data.decode(
                "utf-8", errors="replace"
            )
        except NoSuchPath:
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
            raise NoSuchPath(self._connection.endpoint)  # a page of the UI
        return text
