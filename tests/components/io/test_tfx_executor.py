"""A TFX executor gets our artifacts as TFX's launcher gives it its own, and what it writes elsewhere is found."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.contract import artifact_class
from schemas.artifact import Artifact
from schemas.artifacts import FeatureSchema, Statistics
from schemas.dotted_path import resolve
from schemas.errors import ArtifactError


def test_a_function_component_reads_ours_and_what_it_says_is_kept(parts, run, xf_examples):
    made = run(f"{parts}.CountFiles", {"factor": 3}, examples=xf_examples)

    files = sum(len(xf_examples.files(split)) for split in xf_examples.splits)
    assert made["tally"].properties == {"files": 3 * files, "custom_properties": {"made_by": "CountFiles"}}
    assert json.loads((made["tally"].path / "tally.json").read_text()) == ["train", "eval"]
    assert (made["share"].path / "value").read_text() == str(files / 4)


def test_a_value_that_one_component_returns_is_an_argument_of_the_next(parts, run, xf_examples):
    share = run(f"{parts}.CountFiles", examples=xf_examples)["share"]

    doubled = run(f"{parts}.TakeShare", share=share)["doubled"]

    assert float((doubled.path / "value").read_text()) == 2 * float((share.path / "value").read_text())


def test_a_class_with_an_executor_gets_the_artifact_with_all_its_properties(parts, run, xf_examples):
    tally = run(f"{parts}.CountFiles", examples=xf_examples)["tally"]

    said = run(f"{parts}.Say", {"greeting": "good day"}, tally=tally)["said"]

    files = tally.properties["files"]
    assert json.loads((said.path / "said.json").read_text()) == ["good day", files, "PartsTally", "CountFiles", "tmp"]


def test_a_Beam_component_gets_a_pipeline_that_runs(parts, run, xf_examples):
    tally = run(f"{parts}.CountRows", examples=xf_examples)["tally"]

    assert int((tally.path / "rows").read_text()) == xf_examples.properties["records"]["train"]


def test_TFX_s_statistics_of_our_examples_and_its_schema_of_them_are_read_by_ours(run, xf_examples):
    statistics = run("tfx.v1.components.StatisticsGen", examples=xf_examples)["statistics"]

    schema = run("tfx.v1.components.SchemaGen", statistics=statistics)["schema"]

    assert isinstance(statistics, Statistics)
    assert statistics.splits == ("train", "eval")
    assert statistics.file("train").is_file()
    assert json.loads(statistics.properties["split_names"]) == ["train", "eval"]
    assert isinstance(schema, FeatureSchema)
    assert 'name: "trip_miles"' in schema.file.read_text()


def test_parameters_that_are_called_like_methods_of_ours_reach_the_executor_and_messages_are_kept_as_properties(
    parts, run, tmp_path
):
    from components.io.tfx_artifacts import to_tfx

    noted = run(f"{parts}.Note", {"lookup_file": "none", "parameters": "half"})["noted"]

    written = json.loads(json.dumps(noted.properties))  # as a manifest keeps it
    theirs = to_tfx(resolve(f"{parts}.Noted"), type(noted)(noted.path, written))
    assert [split.name for split in theirs.source.splits] == ["half"]
    assert theirs.table == {"rows": [1, 2]}


def test_an_output_of_several_artifacts_is_an_error(parts, run):
    with pytest.raises(ArtifactError, match="output 'noted' is 2 artifacts, and a step makes one"):
        run(f"{parts}.Note", {"lookup_file": "none", "execute": "twice"})


def test_an_output_that_its_executor_takes_out_is_one_that_nobody_made(parts, run):
    noted = run(f"{parts}.Note", {"lookup_file": "none", "execute": "not"})["noted"]

    assert noted.properties == {"absent": True}


def test_an_output_that_lies_elsewhere_is_an_error_that_says_where(parts, run, xf_examples):
    tally = run(f"{parts}.CountFiles", examples=xf_examples)["tally"]

    with pytest.raises(ArtifactError, match="output 'said' was written to /somewhere/else, outside the step's own"):
        run(f"{parts}.Astray", tally=tally)


@pytest.fixture
def tally(parts, tmp_path: Path) -> Artifact:
    """An artifact that an earlier step published."""
    found = artifact_class(f"{parts}.Tally")(tmp_path / "tally", {"files": 2})
    found.path.mkdir()
    (found.path / "tally.json").write_text('["train"]')
    return found


def test_what_an_executor_writes_into_an_input_is_taken_out_and_named(parts, run, tally):
    with pytest.raises(
        ArtifactError,
        match=r"input 'tally' belongs to an earlier step, and \S*tally/mine\.json appeared in it .*removed again",
    ):
        run(f"{parts}.Wander", {"greeting": "input"}, tally=tally)

    assert [file.name for file in tally.path.iterdir()] == ["tally.json"]


def test_what_a_failed_executor_wrote_into_an_input_is_taken_out(parts, run, tally):
    with pytest.raises(ValueError, match="no more"):
        run(f"{parts}.Wander", {"greeting": "fails"}, tally=tally)

    assert [file.name for file in tally.path.iterdir()] == ["tally.json"]


def test_an_input_s_file_that_an_executor_writes_over_is_named(parts, run, tally):
    with pytest.raises(
        ArtifactError, match=r"\S*tally/tally\.json was changed or removed .* run the earlier step again"
    ):
        run(f"{parts}.Wander", {"greeting": "over the input"}, tally=tally)


def test_a_file_beside_the_outputs_is_named(parts, run, tally):
    with pytest.raises(ArtifactError, match=r"outputs/said\.json was written beside the outputs.*below the uri"):
        run(f"{parts}.Wander", {"greeting": "beside"}, tally=tally)


def test_an_output_that_stays_empty_is_named_with_what_appeared_where_the_executor_runs(
    parts, run, tally, tmp_path, monkeypatch
):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")

    with pytest.raises(
        ArtifactError, match=r"output 'said' is empty: .*; said\.json appeared in the working directory"
    ):
        run(f"{parts}.Wander", {"greeting": "here"}, tally=tally)


@pytest.mark.parametrize("made", ["a property", "an empty split"])
def test_an_output_may_be_a_property_or_an_empty_split(parts, run, tally, made):
    assert run(f"{parts}.Wander", {"greeting": made}, tally=tally)["said"].path.is_dir()
