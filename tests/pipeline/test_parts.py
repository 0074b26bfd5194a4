"""Parts are found by the executions of the code that kept them, whole or not at all, and removed once nobody uses them."""

from __future__ import annotations

import os
import resource
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.garbage import collect, find_garbage
from pipeline.order import Order
from pipeline.parts import UNUSED_AFTER_S, StoredParts, remove_unused, stored_parts
from pipeline.store import Execution, Store
from schemas.errors import ArtifactError, StoreError

Children = Any  # of conftest.py, which cannot be imported

KEY = "ab" * 32
NAME = "cd" * 32
KEY_PARTS = {
    "component": "components.data.statistics_gen.StatisticsGen",
    "code": {"components.data.statistics_gen": {"file": "statistics_gen.py", "digest": "1", "definitions": {}}},
    "libraries": {"numpy": "1.26.4"},
    "python": "3.11",
    "user_code": {},
    "settings": {"sample_rate": 1.0},
}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "root")


def order(store: Store, *, forced: bool = False, **changes: Any) -> Order:
    return Order(
        pipeline="taxi",
        run="run-1",
        step="statistics_gen",
        component=str(KEY_PARTS["component"]),
        settings={},
        key=KEY,
        key_parts=KEY_PARTS | changes,
        inputs={},
        root=str(store.root),
        directory=str(store.root),
        forced=forced,
    )


def parts_of(store: Store, **changes: Any) -> StoredParts:
    return StoredParts(store, order(store, **changes))


def keep(parts: StoredParts, text: str = "counts", name: str = NAME) -> None:
    with parts.keep(name) as directory:
        (directory / "below").mkdir()
        (directory / "below" / "counts").write_text(text)
        (directory / "rows").write_text("3")


def found(parts: StoredParts, name: str = NAME) -> str | None:
    directory = parts.find(name)
    return None if directory is None else (directory / "below" / "counts").read_text()


def publish(store: Store, parts: StoredParts, fill: Callable[[Path], None] = lambda _: None) -> Execution:
    with store.stage("statistics_gen", KEY) as staging:
        fill(staging.output("statistics"))
        return staging.publish(
            component="StatisticsGen",
            pipeline="taxi",
            run="run-1",
            seconds=1.5,
            key_parts={},
            inputs={},
            outputs={"statistics": ("ExampleStatistics", {})},
            parts=parts.used,
        )


def directories(store: Store) -> list[Path]:
    return sorted((store.root / "parts").iterdir())


def age(path: Path, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(path, (then, then))


class TestAPart:
    def test_is_found_by_another_execution_of_the_same_code_byte_for_byte(self, store: Store) -> None:
        keep(parts_of(store))

        later = parts_of(store, settings={"sample_rate": 0.5}, user_code={"features": {"digest": "2"}})

        assert found(later) == "counts"
        assert found(later, "ef" * 32) is None

    @pytest.mark.parametrize(
        "change",
        [
            {"component": "project.Statistics"},
            {"code": {"components.data.statistics_gen": {"digest": "2"}}},
            {"code": {**KEY_PARTS["code"], "components.io.columns": {"digest": "1"}}},
            {"libraries": {"numpy": "2.0.0"}},
            {"python": "3.12"},
        ],
        ids=["component", "code", "module", "library", "python"],
    )
    def test_is_not_found_by_other_code(self, store: Store, change: dict[str, Any]) -> None:
        keep(parts_of(store))

        assert found(parts_of(store, **change)) is None

    def test_is_not_there_before_it_is_whole_and_not_after_a_failure(self, store: Store) -> None:
        parts = parts_of(store)

        def fail() -> None:
            with parts.keep(NAME) as directory:
                (directory / "rows").write_text("3")
                assert parts.find(NAME) is None
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            fail()

        assert parts.find(NAME) is None
        assert parts.used == ()
        assert list((store.root / "staging").iterdir()) == []

    def test_of_which_two_keep_the_same_is_that_of_the_first(self, store: Store) -> None:
        one, other = parts_of(store), parts_of(store)

        with one.keep(NAME) as directory:
            keep(other, "theirs")
            (directory / "rows").write_text("ours")

        assert found(one) == "theirs"
        assert one.used == other.used
        assert list((store.root / "staging").iterdir()) == []

    def test_may_hold_no_file(self, store: Store) -> None:
        with parts_of(store).keep(NAME):
            pass

        directory = parts_of(store).find(NAME)

        assert directory is not None
        assert list(directory.iterdir()) == []

    @pytest.mark.parametrize("name", ["", "abc", "AB" * 32, "../" + NAME, NAME + "/x"])
    def test_has_a_digest_for_its_name(self, store: Store, name: str) -> None:
        with pytest.raises(ValueError, match="hexadecimal"):
            parts_of(store).find(name)

    def test_that_leads_out_of_its_directory_is_refused(self, store: Store) -> None:
        def keep_a_link() -> None:
            with parts_of(store).keep(NAME) as directory:
                (directory / "data").symlink_to("/etc")

        with pytest.raises(ArtifactError, match="outside the artifact"):
            keep_a_link()

    def test_is_neither_found_nor_left_as_it_is_by_a_forced_execution(self, store: Store) -> None:
        keep(parts_of(store), "old")
        forced = parts_of(store, forced=True)

        assert found(forced) is None
        keep(forced, "new")

        assert found(forced) == "new"
        assert found(parts_of(store)) == "new"

    def test_is_whole_or_not_there_whenever_the_process_is_killed(self, store: Store, children: Children) -> None:
        store.open()
        seen = set()
        for _ in children.killed_before_each_call(lambda: keep(parts_of(store))):
            seen.add(found(parts_of(store)))
            store.remove_dead_staging()
            assert list((store.root / "staging").iterdir()) == []
        assert seen == {None, "counts"}

    def test_that_a_killed_process_half_made_is_removed_once_it_is_dead(self, store: Store, children: Children) -> None:
        def half() -> None:
            with parts_of(store).keep(NAME) as directory:
                (directory / "rows").write_text("3")
                os.kill(os.getpid(), signal.SIGKILL)

        assert children.status(children.start(half)) == -signal.SIGKILL
        assert len(list((store.root / "staging").iterdir())) == 1

        store.remove_dead_staging()

        assert list((store.root / "staging").iterdir()) == []
        assert parts_of(store).find(NAME) is None


def spoil(how: str, part: Path) -> None:
    file = part / "content" / "below" / "counts"
    if how == "flipped":
        file.write_text("c0unts")
    elif how == "truncated":
        file.write_text("co")
    elif how == "missing":
        file.unlink()
    elif how == "added":
        (part / "content" / "more").write_text("x")
    elif how == "no manifest":
        (part / "manifest.json").unlink()
    elif how == "half a manifest":
        (part / "manifest.json").write_text('{"format": 1, "files')
    elif how == "another's manifest":
        (part / "manifest.json").write_text("[]")


@pytest.mark.parametrize(
    "how", ["flipped", "truncated", "missing", "added", "no manifest", "half a manifest", "another's manifest"]
)
def test_a_part_that_is_not_what_was_kept_is_removed_and_said_to_be(
    store: Store, capsys: pytest.CaptureFixture[str], how: str
) -> None:
    keep(parts_of(store))
    (part,) = directories(store)
    spoil(how, part)
    parts = parts_of(store)

    assert parts.find(NAME) is None

    assert f"{part} is not what was kept" in capsys.readouterr().err
    assert directories(store) == []
    assert parts.used == ()
    keep(parts)
    assert found(parts) == "counts"


class TestCollecting:
    def test_removes_the_parts_that_no_kept_execution_names_once_nobody_used_them_for_a_day(self, store: Store) -> None:
        named, dropped, recent = (parts_of(store, python=version) for version in ("3.11", "3.12", "3.13"))
        for parts in (named, dropped, recent):
            keep(parts)
        publish(store, named)
        for path in directories(store):
            age(path, UNUSED_AFTER_S + 60)
        assert found(recent) == "counts"

        garbage = find_garbage(store, {("statistics_gen", KEY)})

        assert [item.path.name for item in garbage] == list(dropped.used)
        assert "nobody used it for a day" in garbage[0].why
        assert collect(store, garbage) == garbage
        assert found(named) == found(recent) == "counts"
        assert dropped.find(NAME) is None
        assert list((store.root / "locks").iterdir()) == []

    def test_removes_a_part_whose_execution_is_not_kept_any_more(self, store: Store) -> None:
        parts = parts_of(store)
        keep(parts)
        execution = publish(store, parts)
        (part,) = directories(store)
        age(part, UNUSED_AFTER_S + 60)

        garbage = find_garbage(store, set())

        assert {item.path for item in garbage} == {execution.path, part}
        assert collect(store, garbage) == garbage
        assert directories(store) == []

    def test_leaves_parts_alone_while_an_execution_of_their_code_is_at_work(self, store: Store) -> None:
        with stored_parts(store, order(store)) as parts:
            keep(parts)
            (part,) = directories(store)
            age(part, UNUSED_AFTER_S + 60)
            assert find_garbage(store, set()) == []
            assert not remove_unused(store, part)

        assert remove_unused(store, part)
        assert directories(store) == []

    def test_leaves_alone_what_was_used_since_it_was_listed(self, store: Store) -> None:
        keep(parts_of(store))
        (part,) = directories(store)
        age(part, UNUSED_AFTER_S + 60)
        garbage = find_garbage(store, set())

        assert found(parts_of(store)) == "counts"

        assert collect(store, garbage) == []
        assert found(parts_of(store)) == "counts"

    def test_counts_a_file_that_an_output_shares_with_a_part_once_and_where_its_last_name_goes(
        self, store: Store
    ) -> None:
        parts = parts_of(store)
        with parts.keep(NAME) as directory:
            (directory / "data").write_bytes(bytes(1_000_000))
        kept = parts.find(NAME)
        assert kept is not None
        publish(store, parts, lambda output: os.link(kept / "data", output / "data"))
        (part,) = directories(store)

        (alone,) = find_garbage(store, set())
        assert alone.bytes < 100_000

        age(part, UNUSED_AFTER_S + 60)
        assert 1_000_000 < sum(item.bytes for item in find_garbage(store, set())) < 1_100_000


def test_a_part_that_cannot_be_written_is_an_error_that_says_where(store: Store) -> None:
    store.root.mkdir()
    (store.root / "parts").write_text("a file where the directory should be")

    with pytest.raises(StoreError, match=f"cannot write {store.root}/parts/"):
        keep(parts_of(store))


def test_a_part_for_which_there_is_no_room_is_an_error_and_is_not_there(
    store: Store, tmp_path: Path, children: Children
) -> None:
    store.open()
    said = tmp_path / "said"

    def limited() -> None:
        with said.open("w") as answer:
            resource.setrlimit(resource.RLIMIT_FSIZE, (300, 300))
            try:
                keep(parts_of(store))
            except StoreError as error:
                answer.write(str(error)[:300])

    assert children.status(children.start(limited)) == 0
    assert "EFBIG" in said.read_text()
    assert parts_of(store).find(NAME) is None
    assert list((store.root / "staging").iterdir()) == []
