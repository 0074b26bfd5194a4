"""Which version a path means, and whether it is what was pushed."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from components.release import inspection
from schemas.errors import ArtifactError, ConfigError
from schemas.passport import Passport

FILES = {"saved_model.pb": b"graph", "variables/data": b"weights", "assets/words": b"cash"}


@pytest.fixture
def serving(tmp_path: Path) -> Path:
    """Versions 7 and 12 with passports, and 13, which holds no model."""
    for version in (7, 12):
        for name, content in FILES.items():
            file = tmp_path / str(version) / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
        digests = {name: hashlib.sha256(content).hexdigest() for name, content in FILES.items()}
        Passport(pipeline="", run="", pushed_at="", version=version, model_digest="", files=digests).write(
            tmp_path / str(version)
        )
    (tmp_path / "13").mkdir()
    return tmp_path


def test_a_serving_directory_means_the_version_that_is_served(serving: Path) -> None:
    assert inspection.find(serving) == serving / "12"
    assert inspection.find(serving / "7") == serving / "7"


def test_a_path_may_be_relative(serving: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(serving)

    assert inspection.find(Path("7")) == serving / "7"


def test_a_version_that_is_not_there_is_an_error_with_those_that_are(serving: Path) -> None:
    with pytest.raises(ConfigError, match=r"8: there is no such directory. There are: 7, 12, 13"):
        inspection.find(serving / "8")
    with pytest.raises(ConfigError, match="no version is served from it"):
        inspection.find(serving / "13")


def test_versions_as_they_were_pushed_are_whole(serving: Path) -> None:
    checked = inspection.verify(serving)

    assert [(found.version, found.served, found.whole) for found in checked] == [
        (13, False, False),  # without a passport there is nothing to compare with
        (12, True, True),
        (7, False, True),
    ]
    assert [found.version for found in inspection.verify(serving / "7")] == [7]


def test_each_file_that_is_not_as_it_was_pushed_is_named(serving: Path) -> None:
    (serving / "12" / "saved_model.pb").write_bytes(b"Graph")
    (serving / "12" / "variables" / "data").unlink()
    (serving / "12" / "assets" / "more").touch()

    newest = inspection.verify(serving)[1]

    assert not newest.whole
    assert newest.differences == (
        "assets/more was added after the push",
        f"saved_model.pb differs: its sha256 is {hashlib.sha256(b'Graph').hexdigest()}, pushed with "
        f"{hashlib.sha256(b'graph').hexdigest()}",
        "variables/data is missing",
    )


def test_a_passport_that_cannot_be_read_is_an_error(serving: Path) -> None:
    (serving / "12" / Passport.FILE).write_text("{")

    with pytest.raises(ArtifactError, match="not a passport"):
        inspection.verify(serving)
