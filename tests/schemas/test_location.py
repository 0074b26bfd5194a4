"""Locations are put together and taken apart in one way, wherever they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from schemas.location import ObjectUrl, nearest, parse


@pytest.mark.parametrize("text", ["s3://bucket/models/taxi", " s3://bucket/models/taxi/", "S3://bucket/models/taxi"])
def test_an_address_has_one_form(text: str) -> None:
    assert parse(text) == ObjectUrl("s3", "bucket/models/taxi")
    assert str(parse(text)) == "s3://bucket/models/taxi"


def test_what_has_no_scheme_is_a_path() -> None:
    assert parse("serving/taxi") == Path("serving/taxi")
    assert parse("s3:/bucket") == Path("s3:/bucket")


def test_an_address_is_joined_and_taken_apart_as_a_path_is() -> None:
    version = parse("s3://bucket/models/taxi") / "5" / "assets/words"

    assert (str(version), version.name, str(version.parent.parent)) == (
        "s3://bucket/models/taxi/5/assets/words",
        "words",
        "s3://bucket/models/taxi/5",
    )
    assert isinstance(version, ObjectUrl)
    assert (version.bucket, version.absolute()) == ("bucket", version)


def test_a_path_below_the_working_directory_is_shown_without_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    assert nearest(tmp_path / "serving" / "5") == Path("serving/5")
    assert nearest(Path("/srv/5")) == Path("/srv/5")
    assert nearest(ObjectUrl("s3", "bucket/5")) == ObjectUrl("s3", "bucket/5")
