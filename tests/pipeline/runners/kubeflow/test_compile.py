"""What stands in a compiled package."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from pipeline.runners.kubeflow.expectation import Expectation, expected
from pipeline.runners.kubeflow.on_cluster import load_on_cluster
from pipeline.runners.kubeflow.package import Package

Compile = Callable[[object], Package]
GOLDEN = Path(__file__).parent / "golden"
CHECKOUT = Path(__file__).parents[4]
EXAMPLES = {
    "taxi": "configs/taxi/pipeline.yaml",
    "taxi-edge": "configs/taxi/edge.yaml",
    "housing": "configs/housing/pipeline.yaml",
    "digits": "configs/digits/pipeline.yaml",
}


def read(text: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The pipeline's document and the executors of the platform's."""
    pipeline, platform = YAML(typ="safe").load_all(text)
    return pipeline, platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]


def tasks_of(pipeline: Mapping[str, Any], group: str | None = None) -> dict[str, Any]:
    """The tasks of the root, or of a group."""
    tasks: dict[str, Any] = (pipeline["components"][group] if group else pipeline["root"])["dag"]["tasks"]
    return tasks


def set_in(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert text.count(old) == 1
    file.write_text(text.replace(old, new))


def as_golden(package: Package) -> str:
    """What a task expects of the image changes with every edit of an example: it is not in the golden files."""
    return re.sub(r"^(\s*- )'\{\"code\":.*\}'$", r"\1EXPECTATION", package.text, flags=re.MULTILINE)


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_compiles_to_its_golden_package(
    name: str, compiled: Compile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RENEW_GOLDEN=1 writes the files anew: read what git then shows, and commit it."""
    monkeypatch.chdir(CHECKOUT)
    text, golden = as_golden(compiled(EXAMPLES[name])), GOLDEN / f"{name}.yaml"
    if os.environ.get("RENEW_GOLDEN"):
        golden.write_text(text, encoding="utf-8")

    assert "EXPECTATION" in text
    assert text == golden.read_text(encoding="utf-8"), f"{golden} is another: RENEW_GOLDEN=1 renews it"


def test_the_python_example_has_the_package_of_its_yaml(compiled: Compile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(CHECKOUT)
    target = "configs.taxi.definition:taxi"

    text = as_golden(compiled(target)).replace(target, EXAMPLES["taxi"])

    assert text == (GOLDEN / "taxi.yaml").read_text(encoding="utf-8")


def test_every_process_compiles_the_same_bytes(toy: Path, compiled: Compile) -> None:
    code = f"from pipeline.runners.kubeflow.compile import compile_package as c; print(c('{toy}').text, end='')"
    environment = {**os.environ, "PYTHONHASHSEED": "7", "PYTHONPATH": os.pathsep.join(sys.path)}
    other = subprocess.run([sys.executable, "-c", code], env=environment, check=True, capture_output=True, text=True)

    text = compiled(toy).text

    assert compiled(toy).text == text
    assert other.stdout == text


def test_a_task_runs_its_step_and_expects_the_code_behind_it(toy: Path, compiled: Compile) -> None:
    pipeline, _ = read(compiled(toy).text)

    container = pipeline["deploymentSpec"]["executors"]["exec-apply"]["container"]

    assert container["command"] == ["pipeline", "step"]
    assert container["image"] == "registry.example.com/toy:1"
    *start, expectation, flag, placeholder = container["args"]
    assert start == ["pipeline.yaml", "apply", "--root", "/mnt/penstock/.penstock", "--expect"]
    assert (flag, placeholder) == ("--executor-input", "{{$}}")
    assert Expectation.from_json(expectation) == expected(load_on_cluster(str(toy)), "apply")
    assert "project_functions" in expectation


def test_a_task_takes_all_parameters_the_run_and_what_its_parents_did(toy: Path, compiled: Compile) -> None:
    pipeline, _ = read(compiled(toy).text)

    component = pipeline["components"]["comp-judge"]
    task = tasks_of(pipeline, "comp-exit-handler-1")["judge"]

    types = {name: spec["parameterType"] for name, spec in component["inputDefinitions"]["parameters"].items()}
    assert types == {
        "most": "NUMBER_INTEGER",
        "rate": "NUMBER_DOUBLE",
        "quick": "BOOLEAN",
        "destination": "STRING",
        "source": "STRING",
        "penstock_run": "STRING",
        "penstock_from_count": "STRING",
    }
    assert task["inputs"]["parameters"]["penstock_run"] == {"runtimeValue": {"constant": "{{$.pipeline_job_uuid}}"}}
    assert task["inputs"]["parameters"]["penstock_from_count"]["taskOutputParameter"] == {
        "outputParameterKey": "executions",
        "producerTask": "count",
    }
    assert task["inputs"]["artifacts"]["statistics"]["taskOutputArtifact"] == {
        "outputArtifactKey": "statistics",
        "producerTask": "count",
    }
    assert task["taskInfo"]["name"] == "judge"


def test_parameters_have_the_defaults_of_the_cluster(toy: Path, compiled: Compile) -> None:
    package = compiled(toy)
    pipeline, _ = read(package.text)

    defaults = {name: spec["defaultValue"] for name, spec in pipeline["root"]["inputDefinitions"]["parameters"].items()}

    assert defaults == dict(package.parameters)
    assert defaults["destination"] == "/mnt/penstock/serving/toy"
    assert defaults["most"] == 50
    assert defaults["quick"] is True


def test_outputs_are_typed_for_the_ui(toy: Path, compiled: Compile) -> None:
    pipeline, _ = read(compiled(toy).text)

    def outputs(task: str) -> dict[str, str]:
        definitions = pipeline["components"][f"comp-{task}"]["outputDefinitions"]
        artifacts = {name: spec["artifactType"]["schemaTitle"] for name, spec in definitions["artifacts"].items()}
        return artifacts | {name: spec["parameterType"] for name, spec in definitions["parameters"].items()}

    said = {"outcome": "STRING", "executions": "STRING", "summary": "system.Markdown"}
    assert outputs("read") == {"examples": "system.Dataset", **said}
    assert outputs("count") == {"statistics": "system.Dataset", **said}
    assert outputs("fit") == {"model": "system.Model", "metrics": "system.Metrics", **said}
    assert outputs("evaluate") == {
        "evaluation": "system.Artifact",
        "metrics": "system.Metrics",
        "roc": "system.ClassificationMetrics",
        **said,
    }
    assert outputs("bless") == {"blessing": "system.Artifact", "blessed": "BOOLEAN", **said}
    assert outputs("push") == {"pushed_model": "system.Model", **said}


def test_what_publishes_and_what_follows_waits_for_the_blessing(toy: Path, compiled: Compile) -> None:
    pipeline, _ = read(compiled(toy).text)
    outside = tasks_of(pipeline, "comp-exit-handler-1")
    (group,) = (name for name in outside if name.startswith("condition-"))

    assert set(tasks_of(pipeline, f"comp-{group}")) == {"push", "announce"}
    assert set(outside) - {group} == {"read", "count", "judge", "apply", "fit", "evaluate", "bless"}
    assert outside[group]["triggerPolicy"]["condition"] == (
        "inputs.parameter_values['pipelinechannel--bless-blessed'] == true"
    )
    assert outside[group]["taskInfo"]["name"] == "bless-blessed"


def test_each_of_two_publishers_waits_for_every_verdict_before_it(toy: Path, compiled: Compile) -> None:
    set_in(
        toy,
        "  announce: {uses: project_release.Announce}\n",
        "  announce: {uses: project_release.Announce}\n"
        "  probe: {uses: project_release.Probe}\n"
        "  push_again: {uses: project_release.Push, with: {destination: /mnt/penstock/other}}\n",
    )
    pipeline, _ = read(compiled(toy).text)
    outside = tasks_of(pipeline, "comp-exit-handler-1")
    (first,) = (name for name in outside if name.startswith("condition-"))
    inner = tasks_of(pipeline, f"comp-{first}")
    (second,) = (name for name in inner if name.startswith("condition-"))

    assert set(inner) - {second} == {"push", "announce"}
    assert set(tasks_of(pipeline, f"comp-{second}")) == {"push-again"}
    assert outside[first]["taskInfo"]["name"] == "bless-blessed"
    assert inner[second]["taskInfo"]["name"] == "probe-blessed"
    assert "probe" in outside


def test_without_gate_and_exit_handler_all_tasks_stand_side_by_side(toy: Path, compiled: Compile) -> None:
    set_in(toy, "  image:", "  gate: false\n  exit_handler: false\n  image:")
    package = compiled(toy)
    pipeline, _ = read(package.text)

    assert set(tasks_of(pipeline)) == set(package.tasks)


def test_the_last_task_runs_however_the_others_end(toy: Path, compiled: Compile) -> None:
    set_in(toy, "  image:", "  notify: {secret: {name: chat, key: url}}\n  image:")
    pipeline, platform = read(compiled(toy).text)
    last = tasks_of(pipeline)["ended"]

    assert last["triggerPolicy"]["strategy"] == "ALL_UPSTREAM_TASKS_COMPLETED"
    assert set(last["inputs"]["parameters"]) == {"most", "rate", "quick", "destination", "source", "penstock_run"}
    container = pipeline["deploymentSpec"]["executors"]["exec-ended"]["container"]
    assert container["command"] == ["pipeline", "kubeflow", "ended"]
    assert container["args"][:4] == ["pipeline.yaml", "--root", "/mnt/penstock/.penstock", "--expect"]
    assert Expectation.from_json(container["args"][4]).code == {}
    (secret,) = platform["exec-ended"]["secretAsEnv"]
    assert secret["secretName"] == "chat"
    assert secret["keyToEnv"] == [{"envVar": "PENSTOCK_WEBHOOK", "secretKey": "url"}]
    assert "secretAsEnv" not in platform["exec-fit"]


def test_the_secret_beside_a_webhook_is_what_is_sent_with_it(toy: Path, compiled: Compile) -> None:
    notify = "{webhook: https://chat.example.com/runs, secret: {name: chat, key: token}}"
    set_in(toy, "  image:", f"  notify: {notify}\n  image:")
    pipeline, platform = read(compiled(toy).text)

    assert {"name": "PENSTOCK_WEBHOOK", "value": "https://chat.example.com/runs"} in (
        pipeline["deploymentSpec"]["executors"]["exec-ended"]["container"]["env"]
    )
    (secret,) = platform["exec-ended"]["secretAsEnv"]
    assert secret["keyToEnv"] == [{"envVar": "PENSTOCK_WEBHOOK_TOKEN", "secretKey": "token"}]


def test_no_task_is_cached_by_kfp_and_all_write_to_a_volume_of_their_own(toy: Path, compiled: Compile) -> None:
    pipeline, platform = read(compiled(toy).text)
    groups = [component["dag"]["tasks"] for component in pipeline["components"].values() if "dag" in component]
    tasks = {name: task for group in (*groups, tasks_of(pipeline)) for name, task in group.items()}
    executed = {name: task for name, task in tasks.items() if f"exec-{name}" in platform}

    assert len(executed) == 10
    for name, task in executed.items():
        assert task["cachingOptions"] == {}, name  # enableCache is false where nothing is said
        assert platform[f"exec-{name}"]["emptyDirMounts"] == [{"mountPath": "/tmp", "volumeName": "penstock-tmp"}]
        environment = pipeline["deploymentSpec"]["executors"][f"exec-{name}"]["container"]["env"]
        assert {"name": "HOME", "value": "/tmp"} in environment
        assert {"name": "TMPDIR", "value": "/tmp"} in environment
