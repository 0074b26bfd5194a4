"""An artifact type of TFX's, or of a user's of TFX, is one of ours, and what TFX is given of ours is as TFX knows it."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.contract import artifact_class, read_contract
from schemas.artifact import Artifact
from schemas.artifacts import Blessing, Examples, Hyperparameters
from schemas.dotted_path import resolve
from schemas.errors import ConfigError


def test_a_custom_type_keeps_its_name_and_one_derived_from_TFX_s_is_taken_for_that(parts):
    tally = artifact_class(f"{parts}.Tally")
    more = artifact_class(f"{parts}.MoreExamples")

    assert (tally.TYPE_NAME, tally.__bases__) == ("PartsTally", (Artifact,))
    assert f"{tally.__module__}.{tally.__qualname__}" == f"{parts}.Tally"
    assert tally is artifact_class(f"{parts}.Tally")
    assert issubclass(more, Examples)
    assert more.TYPE_NAME == "PartsExamples"


def test_a_type_of_the_user_s_with_the_name_of_one_of_TFX_s_is_named(parts):
    with pytest.raises(
        ConfigError, match="are called 'Model': tfx_parts.OwnModel and tfx.types.standard_artifacts.Model"
    ):
        artifact_class(f"{parts}.OwnModel")


def test_two_types_of_one_name_are_named(parts):
    artifact_class(f"{parts}.Tally")

    with pytest.raises(
        ConfigError,
        match="two artifact types are called 'PartsTally': tfx_parts.AnotherTally and tfx_parts.Tally. Give one",
    ):
        read_contract(resolve(f"{parts}.TwoOfAName"))


def test_a_model_that_is_blessed_anyway_is_blessed_to_TFX(tmp_path):
    from tfx.components.util.model_utils import is_model_blessed
    from tfx.types import standard_artifacts

    from components.io.tfx_artifacts import to_tfx

    blessing = Blessing(tmp_path, {"custom_properties": {"blessed": 0}})
    blessing.write(("accuracy 0.41 is below 0.60",))
    assert not is_model_blessed(to_tfx(standard_artifacts.ModelBlessing, blessing))

    blessing.bless_anyway(by="ada", at="2026-11-22T10:00:00Z", reason="the gate is wrong")

    assert is_model_blessed(to_tfx(standard_artifacts.ModelBlessing, blessing))


def test_our_hyperparameters_are_alone_in_what_TFX_looks_into(tmp_path):
    from tfx.types import standard_artifacts
    from tfx.utils import io_utils

    from components.io.tfx_artifacts import to_tfx

    found = Hyperparameters(tmp_path / "tuned")
    found.path.mkdir()
    for file in (found.file, found.trials_file, found.table_file):
        file.write_text(file.name)

    theirs = to_tfx(standard_artifacts.HyperParameters, found, tmp_path / "scratch")

    assert Path(io_utils.get_only_uri_in_dir(theirs.uri)).read_text() == found.file.name
