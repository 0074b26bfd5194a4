"""What TFX's Resolver of latest artifacts becomes: a component for each artifact type, which gives what was found or nothing."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from components.io.tfx_resolvers import path_of
from pipeline.contract import build_component, read_contract
from schemas.artifact import ABSENT
from schemas.artifacts import Model
from schemas.component import Earlier
from schemas.dotted_path import resolve
from schemas.errors import ConfigError

TYPES = """
from tfx.types import artifact


class Tally(artifact.Artifact):
    TYPE_NAME = "TallyOfResolvers"


class Outer:
    class Tally(artifact.Artifact):
        TYPE_NAME = "TallyInside"
"""


@pytest.fixture(scope="module")
def types(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A module with artifact types of the user's."""
    directory = tmp_path_factory.mktemp("types")
    (directory / "types_of_resolvers.py").write_text(TYPES)
    sys.path.append(str(directory))
    yield resolve("types_of_resolvers.Tally")
    sys.path.remove(str(directory))
    sys.modules.pop("types_of_resolvers", None)


def test_there_is_a_component_for_each_type_by_its_path(types: Any) -> None:
    from tfx.types.standard_artifacts import Model as TfxModel

    model, tally = path_of(TfxModel), path_of(types)

    assert model == "components.io.tfx_resolvers.Latest__Model"
    assert tally == "components.io.tfx_resolvers.Latest__types_of_resolvers__Tally"
    assert read_contract(resolve(model)).outputs == {"result": Model}
    assert read_contract(resolve(tally)).outputs["result"].TYPE_NAME == "TallyOfResolvers"
    assert resolve(model) is resolve(model)


def test_a_type_that_no_path_can_name_is_refused(types: Any) -> None:
    with pytest.raises(
        ConfigError, match=r"types_of_resolvers.Outer.Tally is looked for by its name. Define it at the top"
    ):
        path_of(resolve("types_of_resolvers.Outer").Tally)


def test_what_was_found_is_given_with_its_files_and_properties_and_else_nothing(tmp_path: Path) -> None:
    settings = {"looks_for": [{"type": "Model", "step": "trainer"}, {"type": "Schema"}]}
    latest = build_component(resolve("components.io.tfx_resolvers.Latest__Model"), settings)
    (tmp_path / "found" / "Format-Serving").mkdir(parents=True)
    (tmp_path / "found" / "Format-Serving" / "saved_model.pb").write_text("weights")
    (tmp_path / "given").mkdir()
    given, nothing = Model(tmp_path / "given"), Model(tmp_path / "nothing")

    latest.run(earlier=Earlier(tmp_path / "found", {"metrics": {"auc": 0.9}}), result=given)
    latest.run(earlier=Earlier(), result=nothing)

    assert [(one.type, one.step, one.output) for one in latest.sought()] == [
        ("Model", "trainer", None),
        ("Schema", None, None),
    ]
    assert (given.serving / "saved_model.pb").read_text() == "weights"
    assert given.properties == {"metrics": {"auc": 0.9}}
    assert nothing.properties == {ABSENT: True}
