"""A TFX component that cannot run here is refused with what to do instead."""

from __future__ import annotations

import pytest

from pipeline.contract import read_contract
from schemas.dotted_path import resolve
from schemas.errors import ConfigError


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "InContainer",
            r"InContainer runs in a container of its own \(image registry/say:1\).*Have a function component",
        ),
        ("Driven", r"Driven has a driver of its own, tfx_parts.OwnDriver, .*Do what it does in the executor"),
    ],
)
def test_a_component_that_cannot_run_here_says_what_to_do_instead(parts, name, said):
    with pytest.raises(ConfigError, match=said):
        read_contract(resolve(f"{parts}.{name}"))


def test_an_executor_for_a_cloud_service_is_named_with_what_does_the_same_here():
    kind = resolve("tfx.extensions.google_cloud_ai_platform.trainer.component.Trainer")

    with pytest.raises(ConfigError, match="cloud service .*Use tfx.v1.components.Trainer"):
        read_contract(kind)


def test_another_TFX_than_the_lock_s_is_refused(monkeypatch):
    from components.io import tfx_classes, tfx_components

    monkeypatch.setattr(tfx_classes, "VERSION", "1.21")

    with pytest.raises(ConfigError, match=r"TFX 1\.16\.0 is installed, and its components run here with TFX 1\.21"):
        tfx_components.component_of.__wrapped__(resolve("tfx.v1.components.SchemaGen"))
