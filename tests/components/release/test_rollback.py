"""Rollback: an earlier model is published again, never below what served."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.release import inspection, versions
from components.release.publication import publish
from components.release.pusher import Pusher
from components.release.rollback import RolledBack, roll_back
from schemas.artifacts import Model, PushedModel
from schemas.component import Lineage, Scratch
from schemas.errors import ArtifactError, ConfigError, NotBlessed
from schemas.passport import Passport


@pytest.fixture
def serving(tmp_path: Path) -> Path:
    """A serving directory of models a, b and c, pushed in that order, and the versions' numbers in `versions.listed`."""
    for name in "abc":
        publish_model(tmp_path / "serving", name)
    return tmp_path / "serving"


def publish_model(serving: Path, name: str) -> int:
    source = serving.parent / name
    (source / "assets").mkdir(parents=True, exist_ok=True)
    (source / "saved_model.pb").write_text(name)
    (source / "assets" / "words").write_text("cash")
    return publish(
        source,
        serving,
        lambda version, files: Passport(
            pipeline="taxi", run=f"run-{name}", pushed_at="then", version=version, model_digest=name, files=files
        ),
    )


def served(serving: Path) -> tuple[Path, Passport]:
    path = inspection.find(serving)
    passport = Passport.read(path)
    assert passport is not None
    return path, passport


def test_the_model_before_serves_again_as_the_newest_version(serving: Path) -> None:
    _, second, third = versions.listed(serving)

    done = roll_back(serving, by="ada@host")

    path, passport = served(serving)
    assert done == RolledBack(serving, int(path.name), second, third)
    assert int(path.name) > third
    assert (path / "saved_model.pb").read_text() == "b"
    assert (path / "assets" / "words").read_text() == "cash"
    assert (passport.version, passport.model_digest, passport.run) == (int(path.name), "b", "run-b")
    assert passport.rollback == {"to": second, "from": third, "by": "ada@host", "withdrawn": ["c"]}
    assert passport.pushed_at != "then"


def test_twice_goes_back_twice_and_not_forth(serving: Path) -> None:
    roll_back(serving, by="ada@host")
    roll_back(serving, by="ada@host")

    path, passport = served(serving)
    assert (path / "saved_model.pb").read_text() == "a"
    assert passport.rollback is not None
    assert passport.rollback["withdrawn"] == ["c", "b"]
    with pytest.raises(ConfigError, match="there is no earlier model to go back to"):
        roll_back(serving, by="ada@host")


def test_a_model_that_was_pushed_twice_is_one_model(serving: Path) -> None:
    publish_model(serving, "c")

    roll_back(serving, by="ada@host")

    assert (served(serving)[0] / "saved_model.pb").read_text() == "b"


def test_a_named_version_is_gone_back_to_and_what_was_withdrawn_can_be_named_too(serving: Path) -> None:
    first, _, third = versions.listed(serving)

    roll_back(serving, first, by="ada@host")
    assert (served(serving)[0] / "saved_model.pb").read_text() == "a"
    roll_back(serving, third, by="ada@host")

    path, passport = served(serving)
    assert (path / "saved_model.pb").read_text() == "c"
    assert passport.rollback is not None
    assert passport.rollback["withdrawn"] == ["a"]


def test_what_serves_already_is_not_published_again(serving: Path) -> None:
    newest = versions.listed(serving)[-1]

    done = roll_back(serving, newest, by="ada@host")

    assert done.version == done.previous == newest
    assert versions.listed(serving)[-1] == newest


def test_a_version_that_another_tool_pushed_can_be_gone_back_to(serving: Path) -> None:
    (serving / "7").mkdir()
    (serving / "7" / "saved_model.pb").write_text("theirs")

    roll_back(serving, 7, by="ada@host")

    path, passport = served(serving)
    assert (path / "saved_model.pb").read_text() == "theirs"
    assert passport.rollback is not None
    assert passport.rollback["to"] == 7
    assert passport.model_digest.startswith("sha256:")


def test_a_version_whose_files_changed_is_not_published_again_and_the_file_is_named(serving: Path) -> None:
    first = versions.listed(serving)[0]
    (serving / str(first) / "assets" / "words").write_text("card")
    before = versions.listed(serving)

    with pytest.raises(ArtifactError, match=r"not published again:\n  assets/words differs: its sha256 is"):
        roll_back(serving, first, by="ada@host")

    assert versions.listed(serving) == before


@pytest.mark.parametrize(
    ("path", "to", "message"),
    [
        ("serving", 12, r"^--to 12: .* has no such version.* There are: \d+, \d+, \d+"),
        ("gone", None, "there is no such directory"),
        ("empty", None, "no version is served from it"),
    ],
)
def test_what_cannot_be_gone_back_to_is_said(serving: Path, path: str, to: int | None, message: str) -> None:
    (serving.parent / "empty").mkdir()

    with pytest.raises(ConfigError, match=message):
        roll_back(serving.parent / path, to, by="ada@host")


def test_one_version_is_no_serving_directory(serving: Path) -> None:
    first = versions.listed(serving)[0]

    with pytest.raises(ConfigError, match=f"is a version. Name its serving directory: {serving} --to {first}"):
        roll_back(serving / str(first), by="ada@host")


def test_a_withdrawn_model_is_not_pushed_again_until_it_is_gone_back_to(tmp_path: Path, model: Model) -> None:
    pusher = Pusher(destination=str(tmp_path / "serving"), require_blessing=False)

    def push(number: int, digest: str) -> int:
        pushed = PushedModel(tmp_path / f"pushed-{number}")
        lineage = Lineage(inputs={"model": {"digest": digest}})
        pusher.run(model, lineage=lineage, scratch=Scratch(tmp_path / f"scratch-{number}"), pushed_model=pushed)
        return int(pushed.properties["version"])

    push(1, "good")
    bad = push(2, "bad")
    roll_back(tmp_path / "serving", by="ada@host")

    with pytest.raises(
        NotBlessed, match=r"this very model was withdrawn .* by ada@host, who rolled back to version \d+"
    ):
        push(3, "bad")
    push(4, "better")
    roll_back(tmp_path / "serving", bad, by="ada@host")
    assert push(5, "bad") > bad
