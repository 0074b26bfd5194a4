"""The API that tests talk to answers kfp.Client's own methods, and refuses what Kubeflow's API server refuses."""

from __future__ import annotations

import contextlib
import io
import warnings
from pathlib import Path
from typing import Any

import pytest

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
