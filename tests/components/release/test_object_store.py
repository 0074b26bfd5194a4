"""A local copy of a version in an object store, and a Pusher that pushes there."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from components.io import tfrecord
from components.release import warmup
from components.release.object_store import fetch
from components.release.object_versions import CLAIMS, MARKER
from components.release.pusher import Pusher
from schemas.artifacts import Examples, Model, PushedModel, Statistics
from schemas.artifacts.pushed_model import training_statistics
from schemas.component import Publisher, Scratch
from schemas.errors import ArtifactError, NotBlessed
from schemas.location import ObjectUrl
from schemas.passport import Passport

FILES = {"saved_model.pb": b"graph", "variables/data": b"weights", "assets/empty": b""}

Push = Callable[..., PushedModel]


@pytest.fixture
def version(bucket: Any) -> ObjectUrl:
    """A version with a passport."""
    path = bucket.taxi / "7"
    for name, content in FILES.items():
        bucket.write(path / name, content)
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in FILES.items()}
    passport = Passport(pipeline="", run="", pushed_at="", version=7, model_digest="", files=digests)
    bucket.write(path / Passport.FILE, passport.to_bytes())
    bucket.write(path / MARKER, b"7\n")
    return path


def contents(directory: Path) -> dict[str, bytes]:
    return {
        file.relative_to(directory).as_posix(): file.read_bytes() for file in directory.rglob("*") if file.is_file()
    }


def test_a_local_copy_holds_the_models_files(version: ObjectUrl, tmp_path: Path) -> None:
    assert contents(fetch(version, tmp_path / "cache")) == FILES


def test_a_local_copy_is_used_again_unless_it_differs(bucket: Any, version: ObjectUrl, tmp_path: Path) -> None:
    copy = fetch(version, tmp_path)
    (copy / "assets" / "empty").write_bytes(b"damaged")
    assert contents(fetch(version, tmp_path)) == FILES

    bucket.remove(version / "saved_model.pb")  # what is there already is not asked for
    assert fetch(version, tmp_path) == copy
    assert [path.name for path in tmp_path.iterdir()] == [copy.name]


def test_a_version_that_is_not_what_was_pushed_is_compared_with_nothing(
    bucket: Any, version: ObjectUrl, tmp_path: Path
) -> None:
    bucket.write(version / "variables/data", b"w3ights")

    with pytest.raises(ArtifactError, match=r"not what was pushed.*\n  variables/data differs.*\n.*rollback s3://"):
        fetch(version, tmp_path)

    assert list(tmp_path.iterdir()) == []


def test_a_version_of_another_tools_is_copied_as_it_is(bucket: Any, tmp_path: Path) -> None:
    bucket.write(bucket.taxi / "8/saved_model.pb", b"theirs")

    first, second = (fetch(bucket.taxi / "8", tmp_path) for _ in range(2))

    assert first == second
    assert contents(first) == {"saved_model.pb": b"theirs"}


def test_a_version_that_is_gone_is_said(bucket: Any, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="models/taxi/9 is gone"):
        fetch(bucket.taxi / "9", tmp_path)


def test_a_push_to_a_store_is_served_and_held_until_an_object_of_it_is_gone(
    bucket: Any, model: Model, push: Push
) -> None:
    pusher = Pusher(destination=f"{bucket.taxi}/", keep=1)
    assert isinstance(pusher, Publisher)
    assert pusher.served() is None

    push(pusher)
    pushed = push(pusher)

    version = pushed.properties["version"]
    assert pushed.properties["destination"] == str(bucket.taxi)
    assert pushed.describe() == f"{bucket.taxi}/{version}"
    served = pusher.served()
    assert served is not None
    assert (served[0], served[2]) == (version, pushed.version_path)
    assert served[1] is not None
    for name in served[1].files:
        assert bucket.read(bucket.taxi / f"{version}/{name}") == (model.serving / name).read_bytes()
    assert {name.partition("/")[0] for name in bucket.names(bucket.taxi)} == {str(version), CLAIMS}
    assert pusher.holds(pushed)
    assert not Pusher(destination=f"{bucket.taxi}/elsewhere").holds(pushed)
    bucket.remove(bucket.taxi / f"{version}/assets/vocabulary.txt")
    assert not pusher.holds(pushed)


def test_the_statistics_that_a_model_was_trained_on_come_with_the_copy_of_its_version(
    bucket: Any, tmp_path: Path, push: Push, statistics: Statistics
) -> None:
    pushed = push(Pusher(destination=str(bucket.taxi)), statistics=statistics)

    copy = fetch(bucket.taxi / str(pushed.properties["version"]), tmp_path)

    for split in ("train", "eval"):
        kept = training_statistics(copy, split)
        assert kept is not None
        assert kept.read_bytes() == statistics.file(split).read_bytes()


def test_a_repeated_attempt_finds_what_the_killed_one_published_once_it_can_be_loaded(
    bucket: Any, tmp_path: Path, push: Push
) -> None:
    pusher = Pusher(destination=str(bucket.taxi))
    scratch = Scratch(tmp_path / "scratch")

    first = push(pusher, scratch=scratch)
    assert push(pusher, scratch=scratch).properties == first.properties
    bucket.remove(bucket.taxi / f"{first.properties['version']}/saved_model.pb")
    again = push(pusher, scratch=scratch)

    assert again.properties["version"] > first.properties["version"]


def test_a_model_that_is_not_blessed_leaves_the_store_alone(bucket: Any, push: Push) -> None:
    with pytest.raises(NotBlessed, match=f"above max_size_mb.*\n.*{bucket.taxi} serves what it served before"):
        push(Pusher(destination=str(bucket.taxi), max_size_mb=0.001))

    assert bucket.names(bucket.taxi) == []


def test_a_version_in_a_store_has_warm_up_requests(
    bucket: Any, tmp_path: Path, asked: Model, raw: Examples, push: Push
) -> None:
    pushed = push(Pusher(destination=str(bucket.taxi), warmup_requests=2), model=asked, examples=raw)

    (tmp_path / "requests").write_bytes(bucket.read(pushed.version_path / warmup.FILE))
    assert len(list(tfrecord.read(tmp_path / "requests"))) == 4
