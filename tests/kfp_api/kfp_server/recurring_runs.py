"""The service of recurring runs, and the controller that starts their runs."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from kfp_server.calls import INTERNAL, INVALID_ARGUMENT, PERMISSION_DENIED, Json, Refusal, Request, Routes
from kfp_server.collection import now
from kfp_server.cron import parse_cron
from kfp_server.experiments import default_experiment
from kfp_server.packages import check_parameters
from kfp_server.runs import pipeline_of, shown_run, start_run
from kfp_server.workflow import fnv1a

if TYPE_CHECKING:
    from kfp_server.api import KfpApi


def tick(api: KfpApi, recurring: str) -> Json | None:
    """What the controller does when a recurring run is due."""
    item = api.recurring.get(recurring)
    mine = [run for run in api.runs.items.values() if run.get("recurring_run_id") == recurring]
    going = [run for run in mine if shown_run(api, run)["state"] in ("PENDING", "RUNNING")]
    if item["status"] != "ENABLED" or len(going) >= int(item["max_concurrency"]):
        return None
    name = f"{_resource_name(item)}-{len(mine) + 1}"
    asked = {key: item[key] for key in ("experiment_id", "runtime_config", "service_account") if key in item}
    source = {key: item[key] for key in ("pipeline_spec", "pipeline_version_reference") if key in item}
    return start_run(api, {**asked, **source, "display_name": f"{name}-{fnv1a(name)}", "recurring_run_id": recurring})


def _resource_name(item: Json) -> str:
    """Kubernetes' name of what stands for a recurring run."""
    plain = re.sub(r"[^a-z0-9]", "", item["display_name"].lower())
    return f"{plain[:20]}{item['recurring_run_id'][:5]}"


def list_recurring(api: KfpApi, request: Request) -> Json:
    """Those of a namespace or an experiment."""
    within = {"namespace": api.namespace(request.query.get("namespace"))}
    if experiment := request.query.get("experiment_id"):
        within["experiment_id"] = experiment
    page = api.recurring.page(request, within)
    return {**page, "recurringRuns": [_shown_recurring(item) for item in page["recurringRuns"]]}


def create_recurring(api: KfpApi, request: Request) -> Json:
    """One, of any name: they may repeat."""
    asked = request.json
    if not asked.get("display_name"):
        raise Refusal(INTERNAL, "Failed to convert a API recurring run to its internal representation: Recurring run's name cannot be empty")  # fmt: skip
    concurrency = int(asked.get("max_concurrency") or 0)
    if not 1 <= concurrency <= 10:
        raise Refusal(INVALID_ARGUMENT, f"Max concurrency of a recurring run must be at least 1 and at most 10. Received {concurrency}")  # fmt: skip
    trigger = asked.get("trigger") or {}
    if "cron_schedule" in trigger:
        parse_cron(trigger["cron_schedule"].get("cron", ""))
    elif int((trigger.get("periodic_schedule") or {}).get("interval_second") or 0) < 1:
        raise Refusal(INVALID_ARGUMENT, "Found invalid period schedule interval 0. Set at interval to least 1 second")
    for name in ("display_name", "description"):
        if len(asked.get(name) or "") > 255:  # MySQL's column
            raise Refusal(INTERNAL, f"Failed to add recurring run to recurring runs table: Data too long for column '{name}'")  # fmt: skip
    experiment = api.experiments.get(asked.get("experiment_id") or default_experiment(api))
    namespace = experiment["namespace"]
    if namespace in api.denied:
        raise Refusal(PERMISSION_DENIED, f"Failed to create a recurring run due to authorization error. Check if you have write permission to namespace {namespace}")  # fmt: skip
    spec, source = pipeline_of(api, asked)
    check_parameters(spec, (asked.get("runtime_config") or {}).get("parameters") or {})
    made = api.recurring.add(
        {
            "display_name": asked["display_name"],
            "description": asked.get("description") or "",
            "experiment_id": experiment["experiment_id"],
            "namespace": namespace,
            "service_account": asked.get("service_account") or "pipeline-runner",
            "runtime_config": asked.get("runtime_config") or {},
            "max_concurrency": str(concurrency),
            "no_catchup": bool(asked.get("no_catchup")),
            "trigger": trigger,
            **source,
        },
        "",
    )
    _switch(made, enabled=asked.get("mode") == "ENABLE")
    return _shown_recurring(made)


def get_recurring(api: KfpApi, request: Request, recurring: str) -> Json:
    """One."""
    return _shown_recurring(api.recurring.get(recurring))


def delete_recurring(api: KfpApi, request: Request, recurring: str) -> Json:
    """Forget it. Kubernetes removes what it owned: the workflows of its runs that go on, which is their end."""
    api.recurring.get(recurring)
    del api.recurring.items[recurring]
    for run in api.runs.items.values():
        if run.get("recurring_run_id") == recurring and shown_run(api, run)["state"] in ("PENDING", "RUNNING"):
            api.workflows[run["run_id"]].end("Failed")
    return {}


def enable_recurring(api: KfpApi, request: Request, recurring: str) -> Json:
    """Let it start runs."""
    _switch(api.recurring.get(recurring), enabled=True)
    return {}


def disable_recurring(api: KfpApi, request: Request, recurring: str) -> Json:
    """Let it start none."""
    _switch(api.recurring.get(recurring), enabled=False)
    return {}


def _switch(item: Json, *, enabled: bool) -> None:
    item.update(status="ENABLED" if enabled else "DISABLED", mode="ENABLE" if enabled else "DISABLE", updated_at=now())


def _shown_recurring(item: Json) -> Json:
    """Numbers of 64 bits are text, and what is false or empty is left out: protobuf's JSON."""
    return {key: value for key, value in item.items() if value not in (False, "", {})}


ROUTES: Routes = [
    ("GET", r"/apis/v2beta1/recurringruns", list_recurring),
    ("POST", r"/apis/v2beta1/recurringruns", create_recurring),
    ("GET", r"/apis/v2beta1/recurringruns/([^/:]+)", get_recurring),
    ("DELETE", r"/apis/v2beta1/recurringruns/([^/:]+)", delete_recurring),
    ("POST", r"/apis/v2beta1/recurringruns/([^/:]+):enable", enable_recurring),
    ("POST", r"/apis/v2beta1/recurringruns/([^/:]+):disable", disable_recurring),
]
