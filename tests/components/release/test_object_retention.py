"""What goes from an object store besides old versions: what killed pushes left, when they are provably over."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import fsspec
import pytest

from components.io.objects import Objects
from components.release import object_retention
from components.release.object_versions import CLAIMS, MARKER, OWNER, PUSHING
from schemas.location import ObjectUrl
from schemas.owner import Owner
from schemas.passport import Passport

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)

DEAD = dataclasses.replace(Owner.current(), started="0")  # this process's number, taken by an earlier process
ELSEWHERE = dataclasses.replace(Owner.current(), boot_id="another machine's")  # of the same name

Put = Callable[..., None]


@pytest.fixture
def objects(tmp_path: Path) -> Objects:
    return Objects(ObjectUrl("memory", f"{tmp_path.name}/taxi"))


@pytest.fixture
def put(objects: Objects) -> Put:
    """`put("5/saved_model.pb", b"graph", hours_ago=25)`."""

    def write(name: str, content: bytes = b"", hours_ago: float = 0) -> None:
        store = fsspec.filesystem("memory")
        path = f"/{objects.root.path}/{name}"
        store.pipe_file(path, content)
        store.store[path].created = NOW - timedelta(hours=hours_ago)

    return write


@pytest.fixture
def version(put: Put) -> Callable[..., None]:
    """`version(5, MARKER, says=b"graph")`: some of a version's objects, and the content that its passport says."""

    def write(number: int, *names: str, says: bytes = b"graph", hours_ago: float = 0) -> None:
        files = {"saved_model.pb": hashlib.sha256(says).hexdigest()}
        passport = Passport(pipeline="", run="", pushed_at="", version=number, model_digest="", files=files)
        contents = {Passport.FILE: passport.to_bytes(), "saved_model.pb": b"graph"}
        for name in names:
            put(f"{number}/{name}", contents.get(name, b""), hours_ago)

    return write


def owner(process: Owner) -> bytes:
    return json.dumps(process.to_json()).encode()


def names(objects: Objects) -> list[str]:
    return sorted(objects.listed())


def test_of_a_dead_push_nothing_stays_but_the_largest_number(objects: Objects, put: Put, version: Any) -> None:
    put(f"{PUSHING}1/{OWNER}", owner(DEAD))
    put(f"{PUSHING}1/version/saved_model.pb")
    for number in (5, 6):
        put(f"{CLAIMS}/{number}", owner(DEAD), hours_ago=0.2)
        version(number, "variables/data", Passport.FILE, hours_ago=0.2)
    version(7, "saved_model.pb", MARKER)

    object_retention.retire(objects, keep=5)

    assert names(objects) == [f"{CLAIMS}/6", f"7/{MARKER}", "7/saved_model.pb"]


def test_of_a_dead_push_the_number_stays_while_its_last_request_may_be_under_way(
    objects: Objects, put: Put, version: Any
) -> None:
    put(f"{PUSHING}1/{OWNER}", owner(DEAD))
    put(f"{CLAIMS}/5", owner(DEAD), hours_ago=0.2)
    version(5, "variables/data", Passport.FILE, hours_ago=0.1)
    version(6, "saved_model.pb", MARKER)

    object_retention.retire(objects, keep=5)

    assert [name for name in names(objects) if not name.startswith("6/")] == [
        f"{CLAIMS}/5",
        f"5/{Passport.FILE}",
        "5/variables/data",
    ]


@pytest.mark.parametrize("process", [Owner.current(), ELSEWHERE], ids=["alive", "elsewhere"])
def test_a_push_that_may_be_going_on_is_left_alone(objects: Objects, put: Put, version: Any, process: Owner) -> None:
    put(f"{PUSHING}1/{OWNER}", owner(process), hours_ago=30)
    put(f"{PUSHING}1/version/saved_model.pb", hours_ago=23)
    put(f"{CLAIMS}/5", owner(process), hours_ago=23)
    version(5, "variables/data", hours_ago=23)
    version(6, "saved_model.pb", Passport.FILE, MARKER)
    before = names(objects)

    object_retention.retire(objects, keep=5)

    assert names(objects) == before


def test_a_push_that_was_silent_for_a_day_by_the_stores_clock_is_over(objects: Objects, put: Put, version: Any) -> None:
    put(f"{PUSHING}1/{OWNER}", owner(ELSEWHERE), hours_ago=30)
    put(f"{PUSHING}1/version/saved_model.pb", hours_ago=25)
    put(f"{PUSHING}2/version/saved_model.pb", hours_ago=25)  # of its removal, cut short
    put(f"{CLAIMS}/5", owner(ELSEWHERE), hours_ago=25)
    version(5, "variables/data", hours_ago=25)
    version(6, "saved_model.pb", Passport.FILE, MARKER)

    object_retention.retire(objects, keep=5)

    assert names(objects) == [f"{CLAIMS}/5", f"6/{Passport.FILE}", f"6/{MARKER}", "6/saved_model.pb"]


def test_a_version_that_a_dead_push_had_all_but_marked_is_marked(objects: Objects, put: Put, version: Any) -> None:
    put(f"{CLAIMS}/5", owner(DEAD))
    version(5, "saved_model.pb", Passport.FILE)

    object_retention.retire(objects, keep=5)

    assert f"5/{MARKER}" in names(objects)


def test_a_version_of_a_dead_push_that_is_not_what_its_passport_says_goes(
    objects: Objects, put: Put, version: Any
) -> None:
    put(f"{CLAIMS}/5", owner(DEAD), hours_ago=0.2)
    version(5, "saved_model.pb", Passport.FILE, says=b"another", hours_ago=0.2)
    version(6, "saved_model.pb", MARKER)

    object_retention.retire(objects, keep=5)

    assert names(objects) == [f"{CLAIMS}/5", f"6/{MARKER}", "6/saved_model.pb"]


def test_another_tools_version_in_a_number_that_was_claimed_stays(objects: Objects, put: Put, version: Any) -> None:
    put(f"{CLAIMS}/5", owner(DEAD))
    version(5, "saved_model.pb")

    object_retention.retire(objects, keep=5)

    assert names(objects) == [f"{CLAIMS}/5", "5/saved_model.pb"]


def test_a_removal_that_was_cut_short_is_finished(objects: Objects, version: Any) -> None:
    version(5, "variables/data", MARKER)
    version(6, "saved_model.pb", Passport.FILE, MARKER)

    assert object_retention.retire(objects, keep=5) == []

    assert names(objects) == [f"6/{Passport.FILE}", f"6/{MARKER}", "6/saved_model.pb"]


def test_the_served_version_stays_below_a_newer_one_that_nobody_can_load(objects: Objects, version: Any) -> None:
    version(4, "saved_model.pb", MARKER)
    version(5, "saved_model.pb", MARKER)
    version(6, "variables/data")

    assert object_retention.retire(objects, keep=1) == [4]

    assert names(objects) == [f"5/{MARKER}", "5/saved_model.pb", "6/variables/data"]


def test_what_the_store_does_not_let_us_remove_stays_and_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    objects = Objects(ObjectUrl("abfs", "bucket/taxi"))  # whose driver is not installed

    assert object_retention.retire(objects, keep=1) == []
    object_retention.remove_quietly(objects, "5")

    said = capsys.readouterr().err
    assert "old versions could not be removed: the driver for abfs:// is not installed" in said
    assert "abfs://bucket/taxi/5 is left for a later push to remove" in said
