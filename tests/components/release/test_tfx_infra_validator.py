"""TFX's InfraValidator: a model that its server cannot serve is refused with what the server's side raised."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.contract import build_component, read_contract
from schemas.artifacts import InfraBlessing
from schemas.component import BeamOptions, Lineage, Scratch
from schemas.dotted_path import resolve


def test_a_server_that_does_not_start_is_the_reason(
    model, outputs_of, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/no.sock")
    kind = resolve("tfx.v1.components.InfraValidator")
    outputs = outputs_of(kind, tmp_path / "outputs")
    asked: dict[type, Any] = {BeamOptions: BeamOptions(), Scratch: Scratch(tmp_path), Lineage: Lineage()}
    asks = {name: asked[ask] for name, ask in read_contract(kind).asks.items()}
    settings = {
        "serving_spec": {"tensorflow_serving": {"tags": ["2.16.1"]}, "local_docker": {}},
        "validation_spec": {"num_tries": 1},
    }

    build_component(kind, settings).run(model=model, examples=None, **outputs, **asks)

    blessing: InfraBlessing = outputs["blessing"]
    assert not blessing.blessed
    assert not blessing.servable
    assert blessing.reasons[0].startswith("the model server did not serve it: DockerException: ")
    assert blessing.describe().startswith("not blessed; the model server did not serve it")
