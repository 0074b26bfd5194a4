"""A run is started once for what it would be made of, however often and from wherever it is asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.runners.kubeflow.once import Once, start_once
from schemas.errors import ConfigError, Unreachable

Api = Any

NAME = "toy-span-41"


def start(package: Path, name: str = NAME, **asked: Any) -> Once:
    return start_once(str(package), name=name, **asked)


def end(api: Api, run: str | None, phase: str = "Succeeded") -> None:
    """Kubeflow has come to the end of a run."""
    api.workflows[run].start()
    api.workflows[run].end(phase)


def test_a_run_is_started_under_its_name_with_what_it_is_made_of(kfp_api: Api, toy_package: Path) -> None:
    said = start(toy_package, overrides=["parameters.steps=3"], digest="abc")

    (run,) = kfp_api.runs.items.values()
    assert (said.state, said.started, said.run) == ("started", True, run["run_id"])
    assert said.url == f"{kfp_api.url}/#/runs/details/{run['run_id']}"
    assert run["display_name"] == NAME
    assert run["description"] == "Penstock's run of data abc"
    assert run["runtime_config"]["parameters"] == {"steps": 3}


def test_while_it_goes_on_no_other_is_started(kfp_api: Api, toy_package: Path) -> None:
    first = start(toy_package, digest="abc")
    posts = len(kfp_api.calls("POST"))

    again = start(toy_package, digest="abc")
    of_newer_data = start(toy_package, digest="def")

    assert (again.state, again.run) == (of_newer_data.state, of_newer_data.run) == ("busy", first.run)
    assert len(kfp_api.calls("POST")) == posts, "nothing was uploaded either"
    assert len(kfp_api.runs.items) == 1


def test_after_it_has_succeeded_none_is_started_until_the_data_is_other(kfp_api: Api, toy_package: Path) -> None:
    first = start(toy_package, digest="abc")
    end(kfp_api, first.run)

    assert (start(toy_package, digest="abc").state, start(toy_package).state) == ("skipped", "skipped")
    again = start(toy_package, digest="def")

    assert again.state == "started"
    assert again.run != first.run


def test_a_run_that_a_person_started_under_that_name_counts(kfp_api: Api, toy_package: Path) -> None:
    end(kfp_api, start(toy_package).run)

    assert start(toy_package, digest="abc").state == "skipped"


def test_one_that_failed_is_tried_again_and_then_left_to_a_person(kfp_api: Api, toy_package: Path) -> None:
    for _ in range(2):
        end(kfp_api, start(toy_package, attempts=2, digest="abc").run, "Failed")

    said = start(toy_package, attempts=2, digest="abc")

    assert said.state == "skipped"
    assert said.reason == (
        f"'{NAME}' has failed 2 times in Kubeflow: look why, and start it with `pipeline kubeflow run`"
    )
    assert start(toy_package, attempts=2, digest="def").started
    assert start(toy_package, name="toy-span-42", attempts=2, digest="abc").started


def test_its_run_is_found_behind_hundreds_of_others(kfp_api: Api, toy_package: Path) -> None:
    kfp_api.ignores_filters = True
    first = start(toy_package)
    end(kfp_api, first.run)
    model = kfp_api.runs.items[first.run]
    for number in range(250):
        made = kfp_api.runs.add({**model, "run_id": f"run-{number}", "display_name": f"{NAME}{number}"}, "")
        kfp_api.workflows[made["run_id"]] = kfp_api.workflows[first.run]

    assert (start(toy_package).state, start(toy_package).run) == ("skipped", first.run)


@pytest.mark.parametrize("theirs_is", ["first", "last"])
def test_of_two_at_the_same_time_one_run_is_left(kfp_api: Api, toy_package: Path, theirs_is: str) -> None:
    theirs: list[Once] = []

    def race(request: Any) -> None:
        runs = len(kfp_api.runs.items)
        about_to_create = (request.method, request.path) == ("POST", "/apis/v2beta1/runs")
        has_created = (request.method, request.path, runs) == ("GET", "/apis/v2beta1/runs", 1)
        if about_to_create if theirs_is == "first" else has_created:
            kfp_api.before = None
            # They have looked before there was ours: of what they would see now there is nothing.
            hidden = dict(kfp_api.runs.items)
            kfp_api.runs.items.clear()
            kfp_api.before = lambda request: show(request, hidden)
            theirs.append(start(toy_package))

    def show(request: Any, hidden: dict[str, Any]) -> None:
        if request.method == "POST" and request.path == "/apis/v2beta1/runs":
            kfp_api.before = None
            kfp_api.runs.items.update(hidden)

    kfp_api.before = race
    ours = start(toy_package)

    going = [run for run, item in kfp_api.runs.items.items() if item["state"] != "CANCELED"]
    assert len(kfp_api.runs.items) == 2
    assert len(going) == 1
    if theirs_is == "first":
        assert (ours.state, ours.run, theirs[0].state) == ("busy", going[0], "started")
        assert "was started from somewhere else at the same time" in ours.reason
    else:
        assert (ours.state, theirs[0].state, theirs[0].run) == ("started", "busy", going[0])


def test_a_mistake_in_a_parameter_starts_nothing(kfp_api: Api, toy_package: Path) -> None:
    with pytest.raises(ConfigError, match="no parameter 'stepps'"):
        start(toy_package, overrides=["parameters.stepps=1"])

    assert kfp_api.calls("POST") == []


def test_a_server_that_does_not_answer_is_told(kfp_api: Api, toy_package: Path) -> None:
    kfp_api.refusals["POST /apis/v2beta1/runs"] = None

    with pytest.raises(Unreachable, match=f"Whether the run '{NAME}' has started is not known"):
        start(toy_package)


def test_a_definition_is_compiled_only_when_a_run_is_to_be_started(
    kfp_api: Api, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KFP_ENDPOINT")
    definition = project / "pipeline.yaml"
    section = f"""
kubeflow:
  image: registry.example.com/team/toy:1
  endpoint: {kfp_api.url}
  experiment: weekly
  parameters: {{numbers: /mnt/penstock/numbers.txt}}
  defaults: {{service_account: trainer, volumes: [{{claim: penstock, path: /mnt/penstock}}]}}
"""
    text = definition.read_text().replace("numbers.txt", '"${parameters.numbers}"')
    definition.write_text(text.replace("{most: 100}", "{most: 100, numbers: numbers.txt}") + section)

    started = start(Path("pipeline.yaml"), digest="abc")

    run = kfp_api.runs.items[started.run]
    assert run["service_account"] == "trainer"
    assert kfp_api.experiments.items[run["experiment_id"]]["display_name"] == "weekly"
    end(kfp_api, started.run)
    definition.write_text(
        definition.read_text().replace("/mnt/penstock/numbers.txt", "numbers.txt")
    )  # does not compile
    assert start(Path("pipeline.yaml"), digest="abc").state == "skipped"
