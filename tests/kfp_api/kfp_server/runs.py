"""The service of runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kfp_server.calls import INVALID_ARGUMENT, PERMISSION_DENIED, Json, Refusal, Request, Routes
from kfp_server.experiments import default_experiment
from kfp_server.packages import check_parameters
from kfp_server.workflow import Workflow

if TYPE_CHECKING:
    from kfp_server.api import KfpApi


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
    return start_run(api, asked)


def start_run(api: KfpApi, asked: Json) -> Json:
    experiment = api.experiments.get(asked.get("experiment_id") or default_experiment(api))
    namespace = experiment["namespace"]
    if namespace in api.denied:
        raise Refusal(PERMISSION_DENIED, f"Failed to create a run due to authorization error. Check {namespace}")
    spec, source = pipeline_of(api, asked)
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


def pipeline_of(api: KfpApi, asked: Json) -> tuple[Json, Json]:
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


ROUTES: Routes = [
    ("GET", r"/apis/v2beta1/runs", list_runs),
    ("POST", r"/apis/v2beta1/runs", create_run),
    ("GET", r"/apis/v2beta1/runs/([^/]+)", get_run),
    ("DELETE", r"/apis/v2beta1/runs/([^/]+)", delete_run),
    ("POST", r"/apis/v2beta1/runs/([^/]+):terminate", terminate_run),
]
