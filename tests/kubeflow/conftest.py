"""The manifests in kubeflow/, as they are written."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

MANIFESTS = Path(__file__).parents[2] / "kubeflow"
NOT_KUBERNETES = {"resources.yaml"}  # what `pipeline kubeflow compile` reads

Manifest = Mapping[str, Any]


def documents(file: Path) -> Iterator[Manifest]:
    """What a YAML file holds, one document after the other."""
    yield from YAML(typ="safe").load_all(file)


@pytest.fixture(scope="session")
def manifests() -> list[Manifest]:
    """Every object in kubeflow/ that a cluster would be given, examples included."""
    files = [file for file in sorted(MANIFESTS.rglob("*.yaml")) if file.name not in NOT_KUBERNETES]
    found = [each for file in files if file.name != "kustomization.yaml" for each in documents(file)]
    assert found
    return found


@pytest.fixture(scope="session")
def the(manifests: list[Manifest]) -> Callable[[str, str], Manifest]:
    """(kind, name) -> the one such object."""

    def find(kind: str, name: str) -> Manifest:
        (found,) = [each for each in manifests if (each["kind"], each["metadata"]["name"]) == (kind, name)]
        return found

    return find


def pod_of(manifest: Manifest) -> Manifest | None:
    """The specification of the pods that an object makes, None where it makes none."""
    spec = manifest.get("spec", {})
    if manifest["kind"] == "Pod":
        return spec
    if manifest["kind"] == "InferenceService":  # its predictor is a pod's specification, with `model` for the container
        return {**spec["predictor"], "containers": [{"name": "model", **spec["predictor"]["model"]}]}
    if manifest["kind"] == "CronJob":
        spec = spec["jobTemplate"]["spec"]
    return spec.get("template", {}).get("spec")


@pytest.fixture(scope="session")
def pods(manifests: list[Manifest]) -> dict[str, Manifest]:
    """The specification of every object's pods, by kind/name."""
    found = {f"{each['kind']}/{each['metadata']['name']}": pod_of(each) for each in manifests}
    return {name: pod for name, pod in found.items() if pod is not None}
