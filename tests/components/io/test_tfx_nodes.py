"""An artifact from outside, which TFX's Importer would take in, is a step."""

from __future__ import annotations

from pipeline.contract import read_contract
from pipeline.fingerprint import key_of
from pipeline.plan import files_of
from schemas.artifacts import FeatureSchema
from schemas.dotted_path import resolve


def test_an_artifact_is_imported_with_its_properties(tmp_path, run, xf_schema):
    copied = run(
        "tfx.types.standard_artifacts.Schema",
        {"source_uri": str(xf_schema.path), "custom_properties": {"by": "hand"}},
    )["result"]

    assert isinstance(copied, FeatureSchema)
    assert copied.file.read_bytes() == xf_schema.file.read_bytes()
    assert copied.properties == {"custom_properties": {"by": "hand"}}


def test_where_a_file_lies_in_what_is_imported_is_part_of_the_key(tmp_path):
    kind = resolve("tfx.types.standard_artifacts.Examples")
    (tmp_path / "Split-eval").mkdir()
    (tmp_path / "Split-eval/data.gz").write_bytes(b"records")

    def key() -> str:
        files = files_of(read_contract(kind), {"source_uri": str(tmp_path)})
        return key_of({"files": files})

    before = key()
    (tmp_path / "Split-eval").rename(tmp_path / "Split-test")

    assert key() != before


def test_a_value_that_is_a_file_is_imported_as_a_value(tmp_path, run):
    (tmp_path / "share.txt").write_text("0.5")

    share = run("tfx.types.standard_artifacts.Float", {"source_uri": str(tmp_path / "share.txt")})["result"]

    assert (share.path / "value").read_text() == "0.5"
