"""The passport of a pushed model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.errors import ArtifactError
from schemas.passport import Passport

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
OBJECTS = st.dictionaries(st.text(), JSON, max_size=3)


def passport(**given: object) -> Passport:
    fields: dict[str, object] = {
        "pipeline": "taxi",
        "run": "r1",
        "pushed_at": "2026-11-21T12:00:00+00:00",
        "version": 7,
        "model_digest": "sha256:m",
        "files": {"saved_model.pb": "00"},
    }
    return Passport(**(fields | given))  # type: ignore[arg-type]


@settings(max_examples=30)
@given(metrics=OBJECTS, steps=OBJECTS, gates=st.lists(OBJECTS, max_size=2), baseline=st.none() | OBJECTS)
def test_what_is_written_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, metrics: dict, steps: dict, gates: list, baseline: dict | None
) -> None:
    version = tmp_path_factory.mktemp("version")
    written = passport(metrics=metrics, steps=steps, gates=tuple(gates), baseline=baseline)

    file = written.write(version)

    assert file == version / "assets.extra" / "passport.json"
    assert Passport.read(version) == written


def test_a_version_without_a_passport_has_none(tmp_path: Path) -> None:
    assert Passport.read(tmp_path) is None


@pytest.mark.parametrize("content", ["", "{", "null", "[]", "{}", '{"version": 7}', "\xff"])
def test_a_file_that_is_no_passport_is_named(tmp_path: Path, content: str) -> None:
    file = tmp_path / Passport.FILE
    file.parent.mkdir()
    file.write_bytes(content.encode("latin-1"))

    with pytest.raises(ArtifactError, match=r"passport\.json: not a passport"):
        Passport.read(tmp_path)


def test_a_field_of_the_wrong_type_is_named(tmp_path: Path) -> None:
    file = passport().write(tmp_path)
    file.write_text(json.dumps(json.loads(file.read_text()) | {"version": "seven"}))

    with pytest.raises(ArtifactError, match="wrong type of version"):
        Passport.read(tmp_path)


def test_a_newer_format_asks_for_an_update(tmp_path: Path) -> None:
    passport(format=2).write(tmp_path)

    with pytest.raises(ArtifactError, match="Update Penstock"):
        Passport.read(tmp_path)


def test_fields_that_are_not_known_yet_are_passed_over(tmp_path: Path) -> None:
    file = passport().write(tmp_path)
    file.write_text(json.dumps(json.loads(file.read_text()) | {"signed_by": "somebody"}))

    assert Passport.read(tmp_path) == passport()


def test_a_passport_from_before_slices_and_rollbacks_is_read(tmp_path: Path) -> None:
    file = passport().write(tmp_path)
    old = {k: v for k, v in json.loads(file.read_text()).items() if k not in ("slices", "rollback", "warmup_requests")}
    file.write_text(json.dumps(old))

    assert Passport.read(tmp_path) == passport()
