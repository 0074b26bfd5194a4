"""What `kubectl kustomize` makes of kubeflow/, which is what `kubectl apply -k` sends to a cluster."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
from ruamel.yaml import YAML

pytestmark = [
    pytest.mark.kubectl,
    pytest.mark.skipif(shutil.which("kubectl") is None, reason="needs kubectl"),
]

MANIFESTS = Path(__file__).parents[2] / "kubeflow"


def rendered(directory: Path) -> list[Mapping[str, Any]]:
    """The objects that `kubectl kustomize DIRECTORY` prints."""
    ran = subprocess.run(["kubectl", "kustomize", directory], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    return list(YAML(typ="safe").load_all(ran.stdout))


@pytest.mark.parametrize("name", [".", "trigger", "serving", "kserve"])
def test_everything_is_as_written_in_the_namespace_of_the_kustomization(name: str, manifests: list[Any]) -> None:
    objects = rendered(MANIFESTS / name)

    assert {each["metadata"]["namespace"] for each in objects} == {"kubeflow"}
    for each in objects:
        if each["kind"] != "InferenceService":
            kubernetes_validate.validate(each, "1.29", strict=True)
        del each["metadata"]["namespace"]
        for subject in each.get("subjects", ()):
            assert subject.pop("namespace") == "kubeflow", "Kubernetes refuses an account without a namespace"
        assert each in manifests


def test_a_teams_own_kustomization_moves_everything_to_its_namespace(tmp_path: Path) -> None:
    """Also whom the role is bound to. `bases` is what `resources` was called where Debian 12's kubectl comes from."""
    above = os.path.relpath(MANIFESTS, tmp_path)
    (tmp_path / "kustomization.yaml").write_text(f"namespace: profile\nbases: [{above}, {above}/serving]\n")

    objects = rendered(tmp_path)

    assert {each["kind"] for each in objects} >= {"PersistentVolumeClaim", "RoleBinding", "Deployment"}
    assert set(_namespaces(objects)) == {"profile"}


def _namespaces(found: Any) -> Iterator[str]:
    if isinstance(found, Mapping):
        yield from (value for key, value in found.items() if key == "namespace")
        found = found.values()
    if not isinstance(found, str | int | float | None):
        for each in found:
            yield from _namespaces(each)
