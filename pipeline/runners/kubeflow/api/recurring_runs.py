"""Recurring runs, which start runs by the clock: there is no way to change one, and their names may repeat."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.runners.kubeflow.api.connection import Connection, equal


class RecurringRuns:
    """The recurring runs of one Kubeflow."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._service = connection.client.recurring_runs

    def find(self, name: str | None = None) -> list[dict[str, Any]]:
        """All of them, or those of exactly this name, oldest first, each as the API writes it."""
        listed = self._connection.pages(
            self._service.recurring_run_service_list_recurring_runs,
            "recurringRuns",
            doing="list recurring runs",
            sort_by="created_at asc",
            **({"filter": equal("name", name)} if name is not None else {}),
            **self._connection.of_namespace(),
        )
        return [found for found in listed if name is None or found.get("display_name") == name]

    def create(
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
        models = self._connection.client.api_models
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
        create = self._service.recurring_run_service_create_recurring_run
        return str(self._connection.ask(create, body, doing=f"create the recurring run {name}").recurring_run_id)

    def switch(self, recurring: str, *, on: bool) -> None:
        """Let it start runs, or none. Raises NotThere."""
        service = self._service
        method = (
            service.recurring_run_service_enable_recurring_run
            if on
            else service.recurring_run_service_disable_recurring_run
        )
        self._connection.ask(method, recurring, doing=f"{'enable' if on else 'disable'} the recurring run {recurring}")

    def delete(self, recurring: str) -> None:
        """Remove it, and with it the pods of a run of it that goes on. Raises NotThere."""
        delete = self._service.recurring_run_service_delete_recurring_run
        self._connection.ask(delete, recurring, doing=f"delete the recurring run {recurring}")
