"""The API that tests talk to answers kfp.Client's own methods, and refuses what Kubeflow's API server refuses."""

from __future__ import annotations

import contextlib
import io
import warnings
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from kfp_server import fires

Api = Any


@pytest.fixture
def client(kfp_api: Api) -> Any:
    """kfp.Client as it is, with a namespace so that it asks nothing when it is made."""
    from kfp.client import Client

    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield Client(host=kfp_api.url, namespace="ann")


def test_from_an_upload_to_the_end_of_a_run(client: Any, kfp_api: Api, toy_package: Path) -> None:
    pipeline = client.upload_pipeline(str(toy_package), pipeline_name="toy")
    version = client.upload_pipeline_version(str(toy_package), "toy-2", pipeline_id=pipeline.pipeline_id)
    experiment = client.create_experiment("nightly")
    run = client.run_pipeline(
        experiment.experiment_id,
        "monday",
        params={"steps": 20},
        pipeline_id=pipeline.pipeline_id,
        version_id=version.pipeline_version_id,
    )
    kfp_api.on_read[run.run_id] = [lambda workflow: (workflow.start(), workflow.end())]

    ended = client.wait_for_run_completion(run.run_id, timeout=5, sleep_duration=0)

    assert client.get_pipeline_id("toy") == pipeline.pipeline_id
    assert ended.state == "SUCCEEDED"
    assert {"root-driver", "root"} <= {detail.display_name for detail in ended.run_details.task_details}
    assert client.list_runs(experiment_id=experiment.experiment_id).total_size == 1


def test_a_run_of_a_package_that_was_never_uploaded(client: Any, toy_package: Path) -> None:
    started = client.create_run_from_pipeline_package(str(toy_package), experiment_name="nightly")

    assert client.get_run(started.run_id).pipeline_spec["pipelineInfo"] == {"name": "toy"}


def test_lists_come_in_pages_whose_tokens_belong_to_their_query(client: Any, kfp_api: Api) -> None:
    from kfp_server_api import ApiException

    for number in range(5):
        client.create_experiment(f"experiment {number}")

    first = client.list_experiments(page_size=2, sort_by="name desc")
    second = client.list_experiments(page_size=2, sort_by="name desc", page_token=first.next_page_token)
    last = client.list_experiments(page_size=2, sort_by="name desc", page_token=second.next_page_token)

    names = [experiment.display_name for page in (first, second, last) for experiment in page.experiments]
    assert names == [f"experiment {number}" for number in (4, 3, 2, 1, 0)]
    assert last.next_page_token is None
    with pytest.raises(ApiException, match="page token does not match"):
        client.list_experiments(page_size=2, sort_by="name asc", page_token=first.next_page_token)


def test_a_name_can_be_taken_once(client: Any, toy_package: Path) -> None:
    from kfp_server_api import ApiException

    client.upload_pipeline(str(toy_package), pipeline_name="toy")

    with pytest.raises(ApiException, match="already exist") as caught:
        client.upload_pipeline(str(toy_package), pipeline_name="toy")
    assert caught.value.status == 409


def test_parameters_are_checked_as_the_api_server_does(client: Any, toy_package: Path) -> None:
    from kfp_server_api import ApiException

    with pytest.raises(ApiException, match="input parameter steps requires type"):
        client.create_run_from_pipeline_package(str(toy_package), arguments={"steps": "many"})
    with pytest.raises(ApiException, match="parameter other not found"):
        client.create_run_from_pipeline_package(str(toy_package), arguments={"other": 1})


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("schemaVersion: 2.1.0", "schemaVersion: 2.0.0", "KFP only supports schema version 2.1.0"),
        ("pipelineInfo: {name: toy}", "pipelineInfo: {name: _}", "name should consist of lower case alphanumeric"),
        ("executorLabel: exec-push", "executorLabels: exec-push", "invalid v2 pipeline spec"),
    ],
)
def test_packages_are_checked_as_the_api_server_does(
    client: Any, toy_package: Path, old: str, new: str, message: str
) -> None:
    from kfp_server_api import ApiException

    upload = client.pipeline_uploads.upload_pipeline
    text = toy_package.read_text()
    assert old in text
    toy_package.write_text(text.replace(old, new))

    with pytest.raises(ApiException, match=message):
        upload(str(toy_package), name="toy")


@pytest.fixture
def schedule(client: Any, toy_package: Path) -> Any:
    """(name, cron, ...) -> a recurring run, made by kfp.Client."""
    version = client.upload_pipeline(str(toy_package), pipeline_name="toy")
    experiment = client.create_experiment("nightly").experiment_id
    (first,) = client.list_pipeline_versions(version.pipeline_id).pipeline_versions

    def create(name: str = "daily", cron: str = "0 0 3 * * *", **more: Any) -> Any:
        source = {"pipeline_id": version.pipeline_id, "version_id": first.pipeline_version_id}
        return client.create_recurring_run(experiment, name, cron_expression=cron, **source, **more)

    return create


def test_a_recurring_run_from_its_making_to_its_end(client: Any, kfp_api: Api, schedule: Any) -> None:
    made = schedule(params={"steps": 3}, no_catchup=True, service_account="trainer", description="mine")

    found = client.get_recurring_run(made.recurring_run_id)
    assert (found.display_name, found.description, found.status) == ("daily", "mine", "ENABLED")
    assert (found.max_concurrency, found.no_catchup, found.service_account) == ("1", True, "trainer")
    assert found.trigger.cron_schedule.cron == "0 0 3 * * *"
    run = kfp_api.tick(made.recurring_run_id)
    assert run["recurring_run_id"] == made.recurring_run_id
    assert kfp_api.tick(made.recurring_run_id) is None, "one goes on, and more than one are not to"

    client.disable_recurring_run(made.recurring_run_id)
    kfp_api.workflows[run["run_id"]].end()
    assert client.get_recurring_run(made.recurring_run_id).status == "DISABLED"
    assert kfp_api.tick(made.recurring_run_id) is None
    client.enable_recurring_run(made.recurring_run_id)
    assert kfp_api.tick(made.recurring_run_id)["runtime_config"]["parameters"] == {"steps": 3}

    client.delete_recurring_run(made.recurring_run_id)
    assert client.list_recurring_runs().total_size == 0
    states = [run["state"] for run in client.list_runs().to_dict()["runs"]]
    assert states == ["SUCCEEDED", "FAILED"], "Kubernetes removes the pods of the run that went on"


def test_recurring_runs_have_any_names_and_come_in_pages(client: Any, schedule: Any) -> None:
    ids = [schedule().recurring_run_id for _ in range(3)]

    first = client.list_recurring_runs(page_size=2, sort_by="created_at asc")
    last = client.list_recurring_runs(page_size=2, sort_by="created_at asc", page_token=first.next_page_token)

    assert [found.recurring_run_id for page in (first, last) for found in page.recurring_runs] == ids
    assert last.next_page_token is None


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"max_concurrency": 0}, "at least 1 and at most 10. Received 0"),
        ({"max_concurrency": 11}, "at least 1 and at most 10. Received 11"),
        ({"cron": "0 3 * *"}, "Expected 5 to 6 fields, found 4"),
        ({"cron": "0 0 3 * * 7"}, "7 is not between 0 and 6"),
        ({"cron": "0 0 25 * * *"}, "25 is not between 0 and 23"),
        ({"name": ""}, "name cannot be empty"),
        ({"params": {"other": 1}}, "parameter other not found"),
        ({"description": 256 * "x"}, "Data too long for column 'description'"),
    ],
)
def test_recurring_runs_are_checked_as_the_api_server_does(schedule: Any, asked: dict[str, Any], message: str) -> None:
    from kfp_server_api import ApiException

    with pytest.raises(ApiException, match=message):
        schedule(**asked)


@pytest.mark.parametrize(
    ("cron", "expected"),
    [
        ("0 0 3 * * *", ["2026-11-01 03:00:00", "2026-11-02 03:00:00", "2026-11-03 03:00:00"]),
        ("0 3 * * *", ["2026-11-01 00:03:00", "2026-11-01 01:03:00", "2026-11-01 02:03:00"]),
        ("0 0 3 13 * fri", ["2026-11-06 03:00:00", "2026-11-13 03:00:00", "2026-11-20 03:00:00"]),
        ("0 5/20 0 */2 * mon", ["2026-11-09 00:05:00", "2026-11-09 00:25:00", "2026-11-09 00:45:00"]),
    ],
    ids=["six fields", "of five the first is the seconds", "one day or the other", "a star with a step is a star"],
)
def test_expressions_are_read_as_kubeflows_controller_reads_them(cron: str, expected: list[str]) -> None:
    moments = fires(cron, datetime(2026, 11, 1, tzinfo=UTC), 3)

    assert [f"{moment:%Y-%m-%d %H:%M:%S}" for moment in moments] == expected
