"""A directory and an object store hold the same versions, and say the same of them."""

from __future__ import annotations

import hashlib
import shutil
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from components.release import destinations, inspection
from components.release.destinations import Destination
from components.release.rollback import roll_back
from schemas.errors import ArtifactError, ConfigError
from schemas.location import Location, ObjectUrl
from schemas.passport import Passport

FILES = {"saved_model.pb": b"graph", "variables/data": b"weights", "assets/words": b"cash", "assets/empty": b""}

Write = Callable[[Location, bytes], None]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A directory to publish."""
    for name, content in FILES.items():
        file = tmp_path / "source" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    return tmp_path / "source"


@pytest.fixture(params=["directory", "s3", "memory"])
def destination(request: pytest.FixtureRequest, tmp_path: Path) -> Destination:
    """An empty one of each kind."""
    if request.param == "directory":
        return destinations.at(tmp_path / "serving")
    if request.param == "s3":
        return destinations.at(request.getfixturevalue("bucket").taxi)
    return destinations.at(ObjectUrl("memory", f"{tmp_path.name}/taxi"))


@pytest.fixture
def write(request: pytest.FixtureRequest) -> Write:
    """Another tool's way to write there."""

    def to(location: Location, content: bytes) -> None:
        if isinstance(location, Path):
            location.parent.mkdir(parents=True, exist_ok=True)
            location.write_bytes(content)
        elif location.protocol == "s3":
            request.getfixturevalue("bucket").write(location, content)
        else:
            import fsspec

            fsspec.filesystem(location.protocol).pipe_file(location.path, content)

    return to


def passport_of(digest: str) -> Callable[[int, Mapping[str, str]], Passport]:
    def make(version: int, files: Mapping[str, str]) -> Passport:
        return Passport(pipeline="", run="", pushed_at="", version=version, model_digest=digest, files=files)

    return make


def test_what_is_published_is_there_file_by_file(destination: Destination, source: Path) -> None:
    seen: list[int] = []
    assert (destination.exists(), destination.listed(), destination.served()) == (False, [], None)

    version = destination.publish(
        source, passport_of("a"), extra={"assets.extra/requests": b"some"}, before=seen.append
    )

    assert (destination.exists(), destination.listed(), destination.served(), seen) == (
        True,
        [version],
        version,
        [version],
    )
    expected = {name: hashlib.sha256(content).hexdigest() for name, content in FILES.items()}
    expected["assets.extra/requests"] = hashlib.sha256(b"some").hexdigest()
    assert destination.digests(version) == expected
    assert destination.has(version, expected)
    assert not destination.has(version, ["gone"])
    passport = destination.passport(version)
    assert passport is not None
    assert (passport.version, passport.files) == (version, expected)
    with destination.local(version) as path:
        assert {name: (path / name).read_bytes() for name in FILES} == FILES


def test_all_kinds_hold_the_same_files(tmp_path: Path, source: Path, bucket: Any) -> None:
    (source / "link").symlink_to(source / "variables" / "data")
    directory, store = destinations.at(tmp_path / "serving"), destinations.at(bucket.taxi)

    first, second = directory.publish(source, passport_of("a")), store.publish(source, passport_of("a"))

    assert directory.digests(first) == store.digests(second)
    path, passports = tmp_path / "serving" / str(first), [directory.passport(first), store.passport(second)]
    assert passports[0].files == passports[1].files  # type: ignore[union-attr]
    for name in directory.digests(first):
        assert (path / name).read_bytes() == bucket.read(bucket.taxi / f"{second}/{name}")


def test_versions_grow_past_what_another_tool_wrote_and_past_what_was_removed(
    destination: Destination, source: Path, write: Write
) -> None:
    write(destination.location / "09999999999" / "saved_model.pb", b"theirs")

    first = destination.publish(source, passport_of("a"))
    assert destination.retire(1) == []
    second = destination.publish(source, passport_of("b"))
    assert destination.retire(1) == [first]
    third = destination.publish(source, passport_of("c"))

    assert (first, second, third) == (10_000_000_000, 10_000_000_001, 10_000_000_002)


def test_publications_at_work_together_get_numbers_of_their_own(destination: Destination, source: Path) -> None:
    start = threading.Barrier(3)

    def run(number: int) -> int:
        start.wait()
        return destination.publish(source, passport_of(str(number)))

    with ThreadPoolExecutor(3) as pool:
        published = list(pool.map(run, range(3)))

    assert destination.listed() == sorted(set(published))
    assert len(set(published)) == 3
    assert [destination.passport(version).model_digest for version in published] == ["0", "1", "2"]  # type: ignore[union-attr]


def test_what_the_passport_refuses_is_not_published(destination: Destination, source: Path) -> None:
    before = destination.publish(source, passport_of("a"))

    def refuse(version: int, files: Mapping[str, str]) -> Passport:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        destination.publish(source, refuse)

    assert (destination.listed(), destination.served()) == ([before], before)


def test_a_directory_that_is_no_saved_model_is_not_published_to_a_store(bucket: Any, source: Path) -> None:
    (source / "saved_model.pb").unlink()

    with pytest.raises(ArtifactError, match=r"has no saved_model\.pb"):
        destinations.at(bucket.taxi).publish(source, passport_of("a"))

    assert bucket.names(bucket.taxi) == []


def test_the_newest_and_the_protected_stay_and_what_another_tool_pushed(
    destination: Destination, source: Path, write: Write
) -> None:
    write(destination.location / "7" / "saved_model.pb", b"theirs")
    published = [destination.publish(source, passport_of(str(number))) for number in range(4)]

    assert destination.retire(None) == []
    assert destination.retire(1, {published[1]}) == [published[0], published[2]]

    assert destination.listed() == [7, published[1], published[3]]


def test_a_servers_configuration_protects_what_it_labels(
    destination: Destination, source: Path, tmp_path: Path
) -> None:
    first, second = (destination.publish(source, passport_of(digest)) for digest in "ab")
    config = tmp_path / "models.config"
    config.write_text(
        f"model_config_list {{ config {{ name: 'taxi' base_path: 's3://bucket/models/{destination.location.name}' "
        f"version_labels {{ key: 'stable' value: {first} }} }} }}"
    )

    assert destination.protected_by(config) == {first, second}


def test_a_location_means_the_version_that_is_served(destination: Destination, source: Path) -> None:
    first, second = (destination.publish(source, passport_of(digest)) for digest in "ab")
    here = destination.location

    assert inspection.find(here) == here / str(second)
    assert inspection.find(here / str(first)) == here / str(first)
    assert destinations.has_model(here / str(first))
    assert not destinations.has_model(here / "5")
    with pytest.raises(ConfigError, match=rf"5: there is no such directory. There are: {first}, {second}"):
        inspection.find(here / "5")


def test_each_file_that_is_not_as_it_was_pushed_is_named(destination: Destination, source: Path, write: Write) -> None:
    first, second = (destination.publish(source, passport_of(digest)) for digest in "ab")
    write(destination.location / str(first) / "assets" / "words", b"card")
    write(destination.location / str(first) / "assets" / "more", b"more")

    newest, oldest = inspection.verify(destination.location)

    assert (newest.version, newest.served, newest.whole) == (second, True, True)
    assert (oldest.version, oldest.served, oldest.whole) == (first, False, False)
    assert oldest.differences[0] == "assets/more was added after the push"
    assert oldest.differences[1].startswith("assets/words differs: its sha256 is ")


def test_the_model_before_is_published_again(destination: Destination, source: Path) -> None:
    first, second = (destination.publish(source, passport_of(digest)) for digest in "ab")

    done = roll_back(destination.location, by="ada@host")

    assert (done.destination, done.to, done.previous) == (destination.location, first, second)
    assert destination.served() == done.version > second
    passport = destination.passport(done.version)
    assert passport is not None
    assert passport.model_digest == "a"
    assert passport.rollback == {"to": first, "from": second, "by": "ada@host", "withdrawn": ["b"]}
    assert destination.digests(done.version) == destination.digests(first)


def test_a_version_whose_files_changed_is_not_published_again(
    destination: Destination, source: Path, write: Write
) -> None:
    first, second = (destination.publish(source, passport_of(digest)) for digest in "ab")
    write(destination.location / str(first) / "assets" / "words", b"card")

    with pytest.raises(ArtifactError, match=r"not published again:\n  assets/words differs"):
        roll_back(destination.location, first, by="ada@host")

    assert destination.listed() == [first, second]


def test_a_push_of_another_tools_can_be_gone_back_to(destination: Destination, source: Path, write: Write) -> None:
    write(destination.location / "7" / "saved_model.pb", b"theirs")
    destination.publish(source, passport_of("a"))
    shutil.rmtree(source)  # nothing but the destination is needed

    done = roll_back(destination.location, 7, by="ada@host")

    assert destination.digests(done.version) == {"saved_model.pb": hashlib.sha256(b"theirs").hexdigest()}
