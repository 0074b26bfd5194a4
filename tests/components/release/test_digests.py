"""Digests of a version's files."""

from __future__ import annotations

import hashlib
from pathlib import Path

from components.release.digests import content_digest, differences, digests
from schemas.passport import Passport


def version(directory: Path) -> Path:
    for name, content in {"saved_model.pb": b"graph", "assets/words": b"cash", Passport.FILE: b"passport"}.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_bytes(content)
    return directory


def test_every_file_but_the_passport_has_its_digest(tmp_path: Path) -> None:
    assert digests(version(tmp_path)) == {
        "assets/words": hashlib.sha256(b"cash").hexdigest(),
        "saved_model.pb": hashlib.sha256(b"graph").hexdigest(),
    }


def test_equal_files_have_one_digest_and_other_names_another(tmp_path: Path) -> None:
    first, second = (version(tmp_path / name) for name in ("7", "12"))
    digest = content_digest(digests(first))

    assert digest == content_digest(digests(second))
    (second / "assets" / "words").rename(second / "assets" / "names")
    assert digest != content_digest(digests(second))


def test_files_that_are_missing_changed_or_added_are_named_in_order() -> None:
    assert differences({"b": "1", "c": "2"}, {"a": "0", "b": "3"}) == (
        "a is missing",
        "b differs: its sha256 is 1, pushed with 3",
        "c was added after the push",
    )
    assert differences({"a": "0"}, {"a": "0"}) == ()
