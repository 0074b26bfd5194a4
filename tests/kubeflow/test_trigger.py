"""The CronJob in kubeflow/trigger: a command that there is, at most one at a time, with rights for what it asks and no others."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from pipeline.cli.main import main
from pipeline.cron import Cron
from pipeline.loading import load

CHECKOUT = Path(__file__).parents[2]

The = Callable[[str, str], Mapping[str, Any]]


@pytest.fixture
def job(the: The) -> Mapping[str, Any]:
    """The CronJob's specification."""
    return the("CronJob", "penstock-trigger")["spec"]


@pytest.fixture
def container(pods: Mapping[str, Any]) -> Mapping[str, Any]:
    (found,) = pods["CronJob/penstock-trigger"]["containers"]
    return found


def accepted(arguments: list[str]) -> int:
    """The exit code of a command that would only say what it may be asked: 0 where it knows all that it is asked."""
    with pytest.raises(SystemExit) as ended:
        main([*arguments, "--help"])
    return ended.value.code or 0  # type: ignore[return-value]


def test_its_command_is_one_that_pipeline_trigger_knows(container: Mapping[str, Any]) -> None:
    program, *arguments = container["args"]

    assert "command" not in container, "the image's own entry point runs what it is given"
    assert (program, arguments[0]) == ("pipeline", "trigger")
    assert accepted(arguments) == 0
    assert accepted([*arguments, "--if-new-span"]) == 2


def test_its_definition_is_in_the_image_and_runs_on_kubeflow(
    container: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(CHECKOUT)

    definition = load(container["args"][2])

    assert definition.kubeflow is not None
    assert definition.kubeflow.image == container["image"]
    assert (CHECKOUT / "docker" / "Dockerfile").read_text(encoding="utf-8").count("COPY configs configs/") == 1


def test_one_looks_at_a_time_and_none_are_made_up_for(job: Mapping[str, Any]) -> None:
    assert job["concurrencyPolicy"] == "Forbid"
    assert job["suspend"] is False
    assert Cron.parse(job["schedule"], job["timeZone"]).five_fields() == "*/10 * * * *"
    # Kubernetes counts the firings that were missed: above a hundred it stops starting jobs, unless they lie further back than this.
    assert 10 < job["startingDeadlineSeconds"] < 600
    assert job["successfulJobsHistoryLimit"] + job["failedJobsHistoryLimit"] < 10


def test_what_will_not_go_away_by_itself_is_not_tried_again(job: Mapping[str, Any], pods: Mapping[str, Any]) -> None:
    from schemas.errors import ConfigError, Refused

    spec = job["jobTemplate"]["spec"]
    (rule,) = spec["podFailurePolicy"]["rules"]

    assert rule == {
        "action": "FailJob",
        "onExitCodes": {"operator": "In", "values": [ConfigError.exit_code, Refused.exit_code]},
    }
    assert pods["CronJob/penstock-trigger"]["restartPolicy"] == "Never", "Kubernetes takes no policy with another"
    assert spec["backoffLimit"] == 1


def test_it_may_ask_kubeflow_for_runs_and_kubernetes_for_nothing(
    the: The, pods: Mapping[str, Any], container: Mapping[str, Any]
) -> None:
    pod = pods["CronJob/penstock-trigger"]
    rules = the("Role", "penstock-trigger")["rules"]
    binding = the("RoleBinding", "penstock-trigger")

    assert {group for rule in rules for group in rule["apiGroups"]} == {"pipelines.kubeflow.org"}
    assert {(resource, verb) for rule in rules for resource in rule["resources"] for verb in rule["verbs"]} == {
        *((resource, verb) for resource in ("pipelines", "experiments", "runs") for verb in ("get", "list", "create")),
        ("runs", "terminate"),
    }
    assert binding["roleRef"]["name"] == "penstock-trigger"
    assert [each["name"] for each in binding["subjects"]] == [pod["serviceAccountName"]]
    assert the("ServiceAccount", pod["serviceAccountName"])
    (token,) = [volume["projected"]["sources"] for volume in pod["volumes"] if volume["name"] == "token"]
    (mount,) = [mount for mount in container["volumeMounts"] if mount["name"] == "token"]
    environment = {variable["name"]: variable for variable in container["env"]}
    (source,) = token
    assert source["serviceAccountToken"]["audience"] == "pipelines.kubeflow.org"
    path = f"{mount['mountPath']}/{source['serviceAccountToken']['path']}"
    assert environment["KF_PIPELINES_SA_TOKEN_PATH"]["value"] == path


def test_secrets_are_examples_and_may_be_missing(the: The, container: Mapping[str, Any]) -> None:
    references = [
        variable["valueFrom"]["secretKeyRef"]
        for variable in container["env"]
        if "secretKeyRef" in variable.get("valueFrom", {})
    ]

    assert references
    for reference in references:
        assert reference["optional"] is True
        assert reference["key"] in the("Secret", reference["name"])["stringData"]
