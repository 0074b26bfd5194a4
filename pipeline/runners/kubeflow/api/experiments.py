"""Experiments, which hold runs together."""

from __future__ import annotations

from pipeline.runners.kubeflow.api.connection import Connection


class Experiments:
    """The experiments of one Kubeflow."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._service = connection.client.experiments

    def find(self, name: str) -> str | None:
        """The id of the experiment of exactly this name."""
        return self._connection.id_of(
            name,
            self._service.experiment_service_list_experiments,
            "experiments",
            "experiment_id",
            doing="list experiments",
            **self._connection.of_namespace(),
        )

    def create(self, name: str) -> str:
        """The id of a new experiment. Raises AlreadyThere when somebody else was quicker."""
        body = self._connection.client.api_models.V2beta1Experiment(
            display_name=name, namespace=self._connection.namespace
        )
        made = self._connection.ask(
            self._service.experiment_service_create_experiment,
            body,
            doing=f"create the experiment {name}",
        )
        return str(made.experiment_id)
