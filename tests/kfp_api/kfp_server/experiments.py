"""The service of experiments."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kfp_server.calls import INVALID_ARGUMENT, Json, Refusal, Request, Routes

if TYPE_CHECKING:
    from kfp_server.api import KfpApi


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


def default_experiment(api: KfpApi) -> str:
    for experiment in api.experiments.items.values():
        if experiment["display_name"] == "Default":
            return str(experiment["experiment_id"])
    if api.multi_user:
        raise Refusal(INVALID_ARGUMENT, "Experiment id can not be empty in multi-user mode")
    return str(
        api.experiments.add({"name": "Default", "display_name": "Default", "namespace": ""}, "")["experiment_id"]
    )


ROUTES: Routes = [
    ("GET", r"/apis/v2beta1/experiments", list_experiments),
    ("POST", r"/apis/v2beta1/experiments", create_experiment),
    ("GET", r"/apis/v2beta1/experiments/([^/]+)", get_experiment),
]
