"""What the pod of each step gets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from pipeline.runners.kubeflow.checks import check_on_cluster
from pipeline.runners.kubeflow.package import Package
from schemas.errors import ConfigError

RESOURCES = """\
defaults:
  service_account: penstock
  retries: 1
  cpu: 1
  memory: 2Gi
  env: {A: file, B: file}
  volumes: [{claim: penstock, path: /mnt/penstock}]
  secrets: [{name: ledger, env: {PENSTOCK_LEDGER: url}}]
steps:
  fit:
    cpu: 4
    env: {C: step}
    accelerator: {type: nvidia.com/gpu, count: 2}
    node_selector: {pool: gpu}
    tolerations: [{key: nvidia.com/gpu, operator: Exists, effect: NoSchedule}]
  tuner: {cpu: 8}
"""

SECTION = """\
  resources: resources.yaml
  defaults:
    retries: 2
    backoff: 1m
    timeout: 1h30m
    memory_request: 512Mi
    tmp: 5Gi
    env: {B: section}
    secrets: [{name: keys, path: /etc/keys}]
    image_pull_secrets: [registry]
    labels: {team: taxi}
    annotations: {sidecar.istio.io/inject: "false"}
  steps:
    fit: {memory: 16Gi, timeout: 2h, volumes: [{claim: scratch, path: /mnt/scratch}], env: {HOME: /mnt/scratch}}
"""


@pytest.fixture
def described(toy: Path) -> Path:
    (toy.parent / "resources.yaml").write_text(RESOURCES)
    old = "  defaults: {volumes: [{claim: penstock, path: /mnt/penstock}]}\n"
    toy.write_text(toy.read_text().replace(old, SECTION))
    return toy


def of(file: Path, step: str) -> dict[str, Any]:
    found: dict[str, Any] = check_on_cluster(str(file)).resources.of(step).model_dump(exclude_defaults=True)
    return found


def found(file: Path) -> tuple[str, ...]:
    try:
        return check_on_cluster(str(file)).errors
    except ConfigError as error:
        return error.problems


def test_steps_win_over_defaults_and_the_section_over_the_file(described: Path) -> None:
    fit, count = of(described, "fit"), of(described, "count")

    assert (count["cpu"], count["memory"], count["retries"], count["timeout"]) == (1, "2Gi", 2, "1h30m")
    assert (fit["cpu"], fit["memory"], fit["retries"], fit["timeout"]) == (4, "16Gi", 2, "2h")


def test_lists_and_mappings_are_added_to(described: Path) -> None:
    fit, count = of(described, "fit"), of(described, "count")

    assert count["env"] == {"A": "file", "B": "section"}
    assert fit["env"] == {"A": "file", "B": "section", "C": "step", "HOME": "/mnt/scratch"}
    assert [volume["claim"] for volume in fit["volumes"]] == ["penstock", "scratch"]
    assert [secret["name"] for secret in fit["secrets"]] == ["ledger", "keys"]
    assert "tolerations" not in count


def test_steps_of_a_shared_file_that_a_definition_lacks_are_told_apart(described: Path) -> None:
    checked = check_on_cluster(str(described))

    assert checked.errors == ()
    assert checked.resources.unused == ("tuner",)
    assert checked.resources.service_account == "penstock"


def test_every_resource_reaches_its_task(described: Path, compiled: Callable[[object], Package]) -> None:
    pipeline, platform = YAML(typ="safe").load_all(compiled(described).text)
    container = pipeline["deploymentSpec"]["executors"]["exec-fit"]["container"]
    pod = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]["exec-fit"]
    task = pipeline["components"]["comp-exit-handler-1"]["dag"]["tasks"]["fit"]

    resources = container["resources"]
    assert (resources["resourceCpuLimit"], resources["resourceCpuRequest"]) == ("4", "4")
    assert (resources["resourceMemoryLimit"], resources["resourceMemoryRequest"]) == ("16Gi", "512Mi")
    assert resources["accelerator"]["resourceType"] == "nvidia.com/gpu"
    assert resources["accelerator"]["resourceCount"] == "2"
    assert task["retryPolicy"] == {
        "maxRetryCount": 2,
        "backoffDuration": "60s",
        "backoffFactor": 2.0,
        "backoffMaxDuration": "3600s",
    }
    assert {entry["name"]: entry["value"] for entry in container["env"]} == {
        "HOME": "/mnt/scratch",
        "TMPDIR": "/tmp",
        "A": "file",
        "B": "section",
        "C": "step",
    }
    assert pod["activeDeadlineSeconds"] == "7200"
    assert pod["emptyDirMounts"] == [{"mountPath": "/tmp", "volumeName": "penstock-tmp", "sizeLimit": "5Gi"}]
    assert pod["nodeSelector"]["labels"] == {"pool": "gpu"}
    assert pod["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    assert [(mount["constant"], mount["mountPath"]) for mount in pod["pvcMount"]] == [
        ("penstock", "/mnt/penstock"),
        ("scratch", "/mnt/scratch"),
    ]
    assert pod["secretAsEnv"][0]["secretName"] == "ledger"
    assert pod["secretAsEnv"][0]["keyToEnv"] == [{"envVar": "PENSTOCK_LEDGER", "secretKey": "url"}]
    assert (pod["secretAsVolume"][0]["secretName"], pod["secretAsVolume"][0]["mountPath"]) == ("keys", "/etc/keys")
    assert pod["imagePullSecret"][0]["secretName"] == "registry"
    assert pod["podMetadata"] == {"labels": {"team": "taxi"}, "annotations": {"sidecar.istio.io/inject": "false"}}


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        pytest.param(
            "cpu: 1",
            "cpus: 1",
            "resources.yaml:4: defaults.cpus: no such setting. Did you mean 'cpu'?",
            id="an unknown key of the file",
        ),
        pytest.param(
            "memory: 2Gi",
            "memory: 2GB",
            "resources.yaml:5: defaults.memory: '2GB' is no amount of memory that Kubernetes reads: write it as 8Gi, 512Mi or 16G",
            id="an amount that Kubernetes does not read",
        ),
        pytest.param(
            "operator: Exists,",
            "operator: Exists, value: x,",
            "resources.yaml:15: steps.fit.tolerations.0: operator Exists asks for no value, found 'x'. Remove it, or use Equal",
            id="a toleration with too much",
        ),
        pytest.param(
            "memory: 2Gi",
            "memory: 256Mi",
            "pipeline.yaml:13: kubeflow.defaults.memory_request: 512Mi is more than `memory` is at most, 256Mi",
            id="a request above the limit",
        ),
        pytest.param(
            "env: {PENSTOCK_LEDGER: url}",
            "env: {A: url}",
            "resources.yaml:8: defaults.secrets.0: A comes from 'ledger' and from env. Keep one of the two",
            id="a variable from two places",
        ),
    ],
)
def test_a_mistake_in_resources_has_its_place(described: Path, old: str, new: str, expected: str) -> None:
    file = described.parent / "resources.yaml"
    text = file.read_text()
    assert text.count(old) == 1
    file.write_text(text.replace(old, new))

    assert found(described) == (expected,)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        pytest.param(
            "{claim: scratch, path: /mnt/scratch}",
            "{claim: penstock, path: /mnt/scratch}",
            "pipeline.yaml:21: kubeflow.steps.fit.volumes.0: 'penstock' goes to /mnt/scratch and to /mnt/penstock, and KFP mounts a "
            "volume once. Keep one of the two",
            id="a volume twice",
        ),
        pytest.param(
            "path: /etc/keys",
            "path: /mnt/penstock",
            "pipeline.yaml:16: kubeflow.defaults.secrets.0: 'keys' goes to /mnt/penstock, where 'penstock' is already. Give it a path of "
            "its own",
            id="two at one path",
        ),
        pytest.param(
            "path: /etc/keys",
            "path: /minio",
            "pipeline.yaml:16: kubeflow.defaults.secrets.0: 'keys' goes to /minio, where 'Kubeflow's launcher' is already. Give it a path "
            "of its own",
            id="where the launcher is",
        ),
        pytest.param(
            "path: /etc/keys",
            "path: /opt",
            "pipeline.yaml:16: kubeflow.defaults.secrets.0: 'keys' goes to /opt and hides /opt/venv of the image. Give it another path, "
            "as /mnt/keys",
            id="over the image",
        ),
        pytest.param(
            "{claim: scratch, path: /mnt/scratch}",
            "{claim: team.scratch, path: /mnt/scratch}",
            "pipeline.yaml:21: kubeflow.steps.fit.volumes.0: KFP calls the pod's volume 'team.scratch' too, and Kubernetes takes at most "
            "63 small letters, digits and '-' for that. Give it such a name",
            id="a name that no volume has",
        ),
        pytest.param(
            "{name: keys, path: /etc/keys}",
            "{name: keys}",
            "pipeline.yaml:16: kubeflow.defaults.secrets.0: of 'keys' nothing is used. Say which of its keys becomes which environment "
            "variable, as env: {VARIABLE: key}, or where its files go, as path: /etc/keys",
            id="a secret for nothing",
        ),
        pytest.param(
            "resources: resources.yaml",
            "resources: resuorces.yaml",
            "pipeline.yaml:8: kubeflow.resources: resuorces.yaml: there is no such file",
            id="no file",
        ),
    ],
)
def test_a_mistake_in_the_section_has_its_place(described: Path, old: str, new: str, expected: str) -> None:
    text = described.read_text()
    assert text.count(old) == 1
    described.write_text(text.replace(old, new))

    assert found(described) == (expected,)


def test_a_password_in_the_environment_is_refused_and_not_repeated(described: Path) -> None:
    described.write_text(
        described.read_text().replace("env: {B: section}", "env: {LEDGER: 'postgresql://me:hunter2@db/x'}")
    )

    (problem,) = found(described)

    assert problem.startswith("pipeline.yaml:15: kubeflow.defaults.env.LEDGER: has a password in it")
    assert "hunter2" not in problem


def test_less_memory_than_a_component_takes_is_refused(described: Path) -> None:
    text = (described.parent / "project_release.py").read_text()
    text = text.replace(
        '    """Model -> Evaluation."""', '    """Model -> Evaluation."""\n\n    LEAST_MEMORY = 3_000_000_000'
    )
    (described.parent / "project_release.py").write_text(text)

    assert check_on_cluster(str(described)).errors == (
        "resources.yaml:5: defaults.memory: 2Gi is given, and Evaluate takes 3 GB whatever the data. Give it that or more",
    )
