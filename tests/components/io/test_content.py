"""Equal content and equal values have equal names, and others have others."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from components.io.content import digest, name


def test_a_files_digest_is_the_sha256_of_its_content_wherever_it_lies(tmp_path: Path) -> None:
    for file in ("one", "other"):
        (tmp_path / file).write_bytes(bytes(range(256)) * 9000)

    assert digest(tmp_path / "one") == digest(tmp_path / "other")
    assert digest(tmp_path / "one") == hashlib.sha256(bytes(range(256)) * 9000).hexdigest()


def test_equal_values_have_equal_names() -> None:
    assert name("x", 1.5, None, {"a": [1], "b": "ä"}) == name("x", 1.5, None, {"b": "ä", "a": [1]})
    assert len(name()) == 64


@pytest.mark.parametrize("values", [("a", "bc"), ("ab", "c", None), ("abc",), (["ab", "c"],), ("ab", "C")])
def test_other_values_have_other_names(values: tuple) -> None:
    assert name(*values) != name("ab", "c")
