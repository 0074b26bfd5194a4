"""The manifests in kubeflow/: valid for Kubernetes, and of one mind with each other, with docker/ and with what Pusher writes."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
from ruamel.yaml import YAML

from components.serving.model_config import read_models_config

CHECKOUT = Path(__file__).parents[2]
MANIFESTS = CHECKOUT / "kubeflow"
CUSTOM = {"InferenceService"}  # KServe's; Kubernetes has no schema for it

The = Callable[[str, str], Mapping[str, Any]]


@pytest.mark.parametrize("version", ["1.29", "newest"])
def test_kubernetes_accepts_every_manifest(version: str, manifests: list[Any]) -> None:
    version = kubernetes_validate.latest_version() if version == "newest" else version

    for manifest in manifests:
        if manifest["kind"] not in CUSTOM:
            kubernetes_validate.validate(manifest, version, strict=True)


def test_a_misspelt_key_is_refused(the: The) -> None:
    """Kubernetes itself only warns of it."""
    claim = the("PersistentVolumeClaim", "penstock")

    with pytest.raises(kubernetes_validate.ValidationError, match="storageClass"):
        kubernetes_validate.validate({**claim, "spec": {**claim["spec"], "storageClass": "nfs"}}, "1.29", strict=True)


def test_every_manifest_belongs_to_a_kustomization_or_is_applied_by_hand() -> None:
    listed = {
        (file.parent / name).relative_to(MANIFESTS).as_posix()
        for file in MANIFESTS.rglob("kustomization.yaml")
        for name in YAML(typ="safe").load(file)["resources"]
    }
    there = {file.relative_to(MANIFESTS).as_posix() for file in MANIFESTS.rglob("*.yaml")}

    by_hand = {"secrets.example.yaml", "shell.yaml", "resources.yaml"}
    assert {name for name in there - by_hand if not name.endswith("kustomization.yaml")} == listed


def test_no_manifest_names_a_namespace(manifests: list[Any]) -> None:
    """The kustomization does, in one line, and a team's own changes it there."""
    assert [each["metadata"]["name"] for each in manifests if "namespace" in each["metadata"]] == []


def test_secrets_in_the_repository_are_examples(manifests: list[Any]) -> None:
    """A value is a placeholder, or the address of an example."""
    values = [value for each in manifests if each["kind"] == "Secret" for value in each["stringData"].values()]

    assert values
    assert [value for value in values if "REPLACE-ME" not in value and ".example.com" not in value] == []


def test_the_account_of_a_run_may_do_what_kfps_own_parts_need_and_no_more(the: The) -> None:
    binding, role = the("RoleBinding", "penstock"), the("Role", "penstock")

    assert binding["roleRef"] == {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "penstock"}
    assert [(each["kind"], each["name"]) for each in binding["subjects"]] == [("ServiceAccount", "penstock")]
    assert the("ServiceAccount", "penstock")
    assert {
        (group, resource, verb, *rule.get("resourceNames", ()))
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    } == {
        ("argoproj.io", "workflowtaskresults", "create"),
        ("argoproj.io", "workflowtaskresults", "patch"),
        ("", "pods", "get"),
        ("", "configmaps", "get", "kfp-launcher"),
        ("", "secrets", "get", "mlpipeline-minio-artifact"),
    }


def test_claims_and_config_maps_that_pods_mount_exist_and_every_mount_has_its_volume(
    pods: dict[str, Any], the: The
) -> None:
    for name, pod in pods.items():
        volumes = {volume["name"]: volume for volume in pod.get("volumes", ())}
        for volume in volumes.values():
            if "persistentVolumeClaim" in volume:
                assert the("PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"])
            if "configMap" in volume:
                assert the("ConfigMap", volume["configMap"]["name"])
        for container in pod["containers"]:
            mounted = {mount["name"] for mount in container.get("volumeMounts", ())}
            assert mounted == set(volumes), name


def test_the_volume_is_written_to_from_several_nodes(the: The) -> None:
    assert the("PersistentVolumeClaim", "penstock")["spec"]["accessModes"] == ["ReadWriteMany"]


def test_the_services_selectors_and_ports_lead_to_the_servers_pods(the: The) -> None:
    deployment, service = the("Deployment", "tf-serving"), the("Service", "tf-serving")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}

    for selector in (
        service["spec"]["selector"],
        deployment["spec"]["selector"]["matchLabels"],
        the("PodDisruptionBudget", "tf-serving")["spec"]["selector"]["matchLabels"],
        the("NetworkPolicy", "tf-serving")["spec"]["podSelector"]["matchLabels"],
    ):
        assert selector.items() <= labels.items()
    assert {port["targetPort"]: port["port"] for port in service["spec"]["ports"]} == ports
    assert {rule["port"] for rule in the("NetworkPolicy", "tf-serving")["spec"]["ingress"][0]["ports"]} == set(ports)
    target = the("HorizontalPodAutoscaler", "tf-serving")["spec"]["scaleTargetRef"]
    assert target == {"apiVersion": "apps/v1", "kind": "Deployment", "name": "tf-serving"}
    assert "replicas" not in deployment["spec"], "applying the manifest again would undo the autoscaler's work"


def test_the_server_is_started_as_docker_compose_starts_it(the: The) -> None:
    """docker/serving.Dockerfile is what the contract tests were written for."""
    dockerfile = (CHECKOUT / "docker" / "serving.Dockerfile").read_text(encoding="utf-8")
    (container,) = the("Deployment", "tf-serving")["spec"]["template"]["spec"]["containers"]

    assert [*container["command"], *container["args"]] == re.findall(r'"([^"]+)"', dockerfile.split("ENTRYPOINT")[1])
    assert container["image"] == f"tensorflow/serving:{re.findall('TAG=(.*)', dockerfile)[0]}"
    assert str(the("InferenceService", "taxi")["spec"]["predictor"]["model"]["runtimeVersion"]) in container["image"]
    arguments = dict(argument.removeprefix("--").partition("=")[::2] for argument in container["args"])
    assert {port["name"]: str(port["containerPort"]) for port in container["ports"]} == {
        "grpc": arguments["port"],
        "rest": arguments["rest_api_port"],
    }


def test_the_servers_files_are_keys_of_the_config_map_and_change_with_it(the: The) -> None:
    pod = the("Deployment", "tf-serving")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    config = the("ConfigMap", "tf-serving")["data"]
    (mount,) = [mount for mount in container["volumeMounts"] if mount["name"] == "config"]

    files = [argument.partition("=")[2] for argument in container["args"] if "_config_file=" in argument]
    assert files == [f"{mount['mountPath']}/{key}" for key in config]
    assert "subPath" not in mount, "a file that is mounted by itself never changes"
    assert "items" not in pod["volumes"][0]["configMap"]


def test_the_servers_models_lie_on_the_volume_and_a_pod_is_ready_by_one_of_them(tmp_path: Path, the: The) -> None:
    (container,) = the("Deployment", "tf-serving")["spec"]["template"]["spec"]["containers"]
    (mount,) = [mount for mount in container["volumeMounts"] if mount["name"] == "penstock"]
    config = the("ConfigMap", "tf-serving")["data"]
    (tmp_path / "models.config").write_text(config["models.config"].replace("/mnt/penstock", str(tmp_path)))
    (tmp_path / "serving" / "taxi").mkdir(parents=True)

    (model,) = read_models_config(tmp_path / "models.config")

    assert config["models.config"].count(f"'{mount['mountPath']}/") == 1
    assert mount["readOnly"] is True
    assert container["readinessProbe"]["httpGet"] == {"path": f"/v1/models/{model.name}/metadata", "port": "rest"}


def test_whether_a_pod_lives_does_not_depend_on_its_models(the: The) -> None:
    """Nothing is gained by starting a server anew because a version is missing or cannot be loaded."""
    (container,) = the("Deployment", "tf-serving")["spec"]["template"]["spec"]["containers"]
    monitoring = the("ConfigMap", "tf-serving")["data"]["monitoring.config"]
    (path,) = re.findall(r"path: '([^']+)'", monitoring)

    for probe in ("startupProbe", "livenessProbe"):
        assert container[probe]["httpGet"] == {"path": path, "port": "rest"}
    annotations = the("Deployment", "tf-serving")["spec"]["template"]["metadata"]["annotations"]
    assert annotations == {
        "prometheus.io/scrape": "true",
        "prometheus.io/port": "8501",
        "prometheus.io/path": path,
    }


def test_what_resources_yaml_gives_to_pods_is_in_the_manifests(pods: dict[str, Any], the: The) -> None:
    """Its comments, too: they are what a team will copy."""
    text = (MANIFESTS / "resources.yaml").read_text(encoding="utf-8")
    defaults = YAML(typ="safe").load(text)["defaults"]
    (volume,) = defaults["volumes"]

    assert the("ServiceAccount", defaults["service_account"])
    assert the("PersistentVolumeClaim", volume["claim"])
    for pod in pods.values():
        mounts = [mount for container in pod["containers"] for mount in container.get("volumeMounts", ())]
        assert {mount["mountPath"] for mount in mounts if mount["name"] == "penstock"} <= {volume["path"]}
    secrets = re.findall(r"name: (penstock-[a-z-]+), env: {(.*?)}", text)
    assert secrets
    for name, keys in secrets:
        assert {pair.split(": ")[1] for pair in keys.split(", ")} <= set(the("Secret", name)["stringData"])


def test_the_examples_image_and_destination_are_the_manifests(pods: dict[str, Any], the: The) -> None:
    kubeflow = YAML(typ="safe").load(CHECKOUT / "configs" / "taxi" / "pipeline.yaml")["kubeflow"]

    (shell,) = pods["Pod/penstock-shell"]["containers"]
    assert shell["image"] == kubeflow["image"]
    assert (
        f"base_path: '{kubeflow['parameters']['destination']}'"
        in the("ConfigMap", "tf-serving")["data"]["models.config"]
    )


def test_kserves_model_is_one_released_version_on_the_volume(the: The) -> None:
    service = the("InferenceService", "taxi")
    model = service["spec"]["predictor"]["model"]

    assert service["apiVersion"] == "serving.kserve.io/v1beta1"
    assert model["modelFormat"] == {"name": "tensorflow"}
    claim, _, path = model["storageUri"].removeprefix("pvc://").partition("/")
    assert the("PersistentVolumeClaim", claim)
    # Not the serving directory, which has several versions: one of their own for each release.
    assert re.fullmatch(r"releases/taxi-\d+", path)


def test_steps_the_shell_and_the_servers_are_the_same_user(pods: dict[str, Any]) -> None:
    """What one writes the others can read, and it is the image's user."""
    (user,) = re.findall(r"^USER (.*)", (CHECKOUT / "docker" / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE)

    for pod in pods.values():
        assert f"{pod['securityContext']['runAsUser']}:{pod['securityContext']['runAsGroup']}" == user
