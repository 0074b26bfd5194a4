"""Executions are published whole or not at all, found cheaply, verified on request, and removed only when nobody needs them."""

from __future__ import annotations

import errno
import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from pipeline import locks
from pipeline.manifest import InputRecord
from pipeline.staging import remove
from pipeline.store import Execution, Store
from schemas.errors import ArtifactError, StoreError

Children = Any  # of conftest.py, which cannot be imported

KEY = "ab" * 32
OTHER_KEY = "cd" * 32


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "root")


def publish(store: Store, text: str = "weights", *, key: str = KEY, step: str = "trainer", **changes: Any) -> Execution:
    with store.stage(step, key) as staging:
        variables = staging.output("model") / "variables"
        variables.mkdir()
        (variables / "data").write_text(text)
        (staging.output("model") / "saved_model.pb").write_text("graph")
        how: dict[str, Any] = {
            "component": "components.model.trainer.Trainer",
            "pipeline": "taxi",
            "run": "run-1",
            "seconds": 1.5,
            "key_parts": {"settings": "1234"},
            "inputs": {"examples": InputRecord("transform", OTHER_KEY, "examples", "Examples", "sha256:0")},
            "outputs": {"model": ("Model", {"metrics": {"auc": 0.75}})},
        }
        return staging.publish(**(how | changes))


class TestPublish:
    def test_makes_an_execution_that_is_found_and_verified(self, store: Store) -> None:
        published = publish(store)

        found = store.find("trainer", KEY)

        assert found == published
        assert (published.output("model") / "variables" / "data").read_text() == "weights"
        assert published.path == store.root / "store" / "trainer" / KEY
        assert published.manifest.outputs["model"].properties == {"metrics": {"auc": 0.75}}
        store.verify(published)

    def test_leaves_no_staging_and_no_locks(self, store: Store) -> None:
        publish(store)

        assert list((store.root / "staging").iterdir()) == []
        assert list((store.root / "locks").iterdir()) == []

    def test_gives_equal_digests_for_equal_content_under_other_keys(self, store: Store) -> None:
        one, other = publish(store), publish(store, key=OTHER_KEY)

        assert one.manifest.outputs == other.manifest.outputs

    def test_keeps_what_another_run_published_first(self, store: Store) -> None:
        theirs = publish(store, "theirs")

        ours = publish(store, "ours")

        assert ours == theirs
        assert (ours.output("model") / "variables" / "data").read_text() == "theirs"

    def test_puts_a_forced_execution_in_place_of_the_old_one(self, store: Store) -> None:
        publish(store, "old")

        publish(store, "new", replace=True)

        found = store.find("trainer", KEY)
        assert found is not None
        store.verify(found)
        assert (found.output("model") / "variables" / "data").read_text() == "new"
        assert list((store.root / "staging").iterdir()) == []

    def test_replaces_where_the_system_cannot_exchange_directories(
        self, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("pipeline.disk.exchange", lambda one, other: False)  # as on NFS
        publish(store, "old")

        publish(store, "new", replace=True)

        found = store.find("trainer", KEY)
        assert found is not None
        assert (found.output("model") / "variables" / "data").read_text() == "new"

    def test_replaces_a_corrupt_execution(self, store: Store) -> None:
        (publish(store).path / "manifest.json").unlink()

        publish(store, "new", replace=True)

        assert store.find("trainer", KEY) is not None

    def test_refuses_an_output_that_is_gone(self, store: Store) -> None:
        with pytest.raises(ArtifactError, match=r"trainer\.history: the step ended without its output"):
            publish(store, outputs={"history": ("History", {})})

        assert store.find("trainer", KEY) is None

    def test_refuses_properties_that_are_not_json(self, store: Store) -> None:
        with pytest.raises(ArtifactError, match=r"trainer\.model: its properties are not JSON data: .*set"):
            publish(store, outputs={"model": ("Model", {"labels": {1, 2}})})

    def test_keeps_nothing_of_a_step_that_fails(self, store: Store) -> None:
        def fail() -> None:
            with store.stage("trainer", KEY) as staging:
                (staging.output("model") / "half").write_text("half")
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            fail()

        assert store.find("trainer", KEY) is None
        assert list((store.root / "staging").iterdir()) == []

    def test_is_all_or_nothing_whenever_the_process_is_killed(self, store: Store, children: Children) -> None:
        store.open()
        outcomes = set()
        for _ in children.killed_before_each_call(lambda: publish(store, "new")):
            found = store.find("trainer", KEY)
            outcomes.add(found is not None)
            if found is not None:
                store.verify(found)
                store.discard(found.step, found.key)
            store.remove_dead_staging()
            assert list((store.root / "staging").iterdir()) == []

        assert outcomes == {False, True}

    def test_replaces_all_or_nothing_whenever_the_process_is_killed(self, store: Store, children: Children) -> None:
        publish(store, "old")
        found_texts = set()
        for _ in children.killed_before_each_call(lambda: publish(store, "new", replace=True)):
            found = store.find("trainer", KEY)
            assert found is not None
            store.verify(found)
            found_texts.add((found.output("model") / "variables" / "data").read_text())
            store.remove_dead_staging()
            assert list((store.root / "staging").iterdir()) == []
            publish(store, "old", replace=True)

        assert found_texts - {"old"} == {"new"}

    def test_of_one_key_by_several_processes_at_once_has_one_winner(self, store: Store, children: Children) -> None:
        store.open()
        for attempt in range(5):
            key = f"{attempt:064x}"
            start, go = os.pipe()

            def race(text: str, key: str = key, start: int = start, go: int = go) -> None:
                os.close(go)
                os.read(start, 1)  # returns when the parent closes its end
                ours = publish(store, text, key=key)
                store.verify(ours)
                (store.root / f"{key}-{text}").write_text((ours.output("model") / "variables" / "data").read_text())

            racers = [children.start(lambda text=text: race(text)) for text in "abcd"]
            os.close(start)
            os.close(go)
            assert [children.status(pid) for pid in racers] == [0] * 4
            assert len({(store.root / f"{key}-{text}").read_text() for text in "abcd"}) == 1


class TestFind:
    def test_refuses_a_manifest_of_a_newer_format(self, store: Store) -> None:
        file = publish(store).path / "manifest.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | {"format": 2}))

        with pytest.raises(ArtifactError, match="format 2 and this Penstock reads up to 1"):
            store.find("trainer", KEY)

    def test_gives_nothing_for_an_unknown_key_and_an_absent_root(self, store: Store) -> None:
        assert store.find("trainer", KEY) is None
        assert store.latest("trainer", "taxi") is None
        assert store.executions() == []
        assert not store.root.exists()

    def test_says_which_file_has_another_size_and_how_to_rebuild(self, store: Store) -> None:
        execution = publish(store)
        (execution.output("model") / "variables" / "data").write_text("weights and more")

        with pytest.raises(ArtifactError) as caught:
            store.find("trainer", KEY)

        message = str(caught.value)
        assert "trainer.model in the store is corrupt: model/variables/data has 16 bytes" in message
        assert "its manifest says 7 bytes" in message
        assert f"remove {execution.path}" in message
        assert "--force trainer" in message

    def test_says_which_file_is_missing(self, store: Store) -> None:
        (publish(store).output("model") / "saved_model.pb").unlink()

        with pytest.raises(ArtifactError, match=r"model/saved_model\.pb is missing"):
            store.find("trainer", KEY)

    @pytest.mark.parametrize("content", [None, "", "{", "[]", '{"format": 1}'])
    def test_refuses_an_execution_without_a_readable_manifest(self, store: Store, content: str | None) -> None:
        file = publish(store).path / "manifest.json"
        file.unlink()
        if content is not None:
            file.write_text(content)

        with pytest.raises(ArtifactError, match=r"trainer in the store is corrupt: .*manifest\.json"):
            store.find("trainer", KEY)

    def test_refuses_an_execution_that_was_moved_to_another_key(self, store: Store) -> None:
        path = publish(store).path
        path.rename(path.with_name(OTHER_KEY))

        with pytest.raises(ArtifactError, match=f"is that of trainer {KEY}"):
            store.find("trainer", OTHER_KEY)

    def test_does_not_read_content_but_verify_does(self, store: Store) -> None:
        execution = publish(store)
        (execution.output("model") / "variables" / "data").write_text("WEIGHTS")

        assert store.find("trainer", KEY) == execution
        with pytest.raises(ArtifactError, match="model/variables/data has sha256 .*, its manifest says"):
            store.verify(execution)

    def test_verify_names_a_file_that_was_added(self, store: Store) -> None:
        execution = publish(store)
        (execution.output("model") / "notes").write_text("mine")

        with pytest.raises(ArtifactError, match="model/notes was not there when it was published"):
            store.verify(execution)

    def test_latest_is_the_pipelines_newest_whatever_its_key(self, store: Store) -> None:
        publish(store)
        newest = publish(store, key=OTHER_KEY)
        publish(store, step="evaluator")
        publish(store, key="2" * 64, pipeline="housing")

        assert store.latest("trainer", "taxi") == newest.manifest
        assert [e.step for e in store.executions()] == ["trainer", "trainer", "evaluator", "trainer"]

    def test_discarded_executions_are_not_found(self, store: Store) -> None:
        execution = publish(store)

        store.discard(execution.step, execution.key)

        assert store.find("trainer", KEY) is None
        assert not execution.path.exists()

    def test_never_finds_half_an_execution_whenever_discarding_is_killed(
        self, store: Store, children: Children
    ) -> None:
        execution = publish(store)
        for _ in children.killed_before_each_call(lambda: store.discard(execution.step, execution.key)):
            found = store.find("trainer", KEY)
            if found is not None:
                store.verify(found)
            else:
                publish(store)


class TestRoot:
    def test_that_is_a_file_is_refused_with_the_path_and_the_cause(self, tmp_path: Path) -> None:
        (tmp_path / "root").write_text("not a directory")

        with pytest.raises(
            StoreError, match=r"cannot write .*root.* \((ENOTDIR|EEXIST); [\d,]+ bytes are free there\)"
        ):
            Store(tmp_path / "root").open()

    def test_that_this_user_may_not_write_is_refused(self, tmp_path: Path, children: Children) -> None:
        root = tmp_path / "root"
        Store(root).open()
        said = tmp_path / "said"
        said.touch()
        for path in (root, *root.iterdir()):
            path.chmod(0o555)

        def as_nobody() -> None:
            with said.open("w") as answer:
                if os.geteuid() == 0:
                    os.seteuid(65534)  # permissions do not bind root
                try:
                    Store(root).open()
                except StoreError as error:
                    answer.write(str(error))

        assert children.status(children.start(as_nobody)) == 0
        assert "EACCES" in said.read_text()
        assert "--root" in said.read_text()

    def test_is_found_after_a_change_of_directory(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        store = Store("root")
        publish(store)
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(tmp_path / "elsewhere")

        assert store.find("trainer", KEY) is not None

    def test_with_a_limit_on_file_sizes_says_so_and_publishes_nothing(
        self, store: Store, tmp_path: Path, children: Children
    ) -> None:
        store.open()
        said = tmp_path / "said"

        def limited() -> None:
            with said.open("w") as answer:
                resource.setrlimit(resource.RLIMIT_FSIZE, (300, 300))
                try:
                    publish(store)
                except StoreError as error:
                    answer.write(str(error)[:300])

        assert children.status(children.start(limited)) == 0
        assert "EFBIG" in said.read_text()
        assert store.find("trainer", KEY) is None

    def test_on_a_full_disk_says_so_and_publishes_nothing(self, tmp_path: Path) -> None:
        script = tmp_path / "fill.py"
        script.write_text(
            "import sys\n"
            "from pathlib import Path\n"
            "from pipeline.store import Store\n"
            "from schemas.errors import StoreError\n"
            "store = Store(sys.argv[1]).open()\n"
            "with store.stage('trainer', 'ab' * 32) as staging:\n"
            "    staging.output('model')\n"
            "    with open(store.root / 'ballast', 'wb', buffering=0) as ballast:\n"
            "        try:\n"
            "            while ballast.write(b'x' * 512): pass\n"
            "        except OSError: pass\n"
            "    try:\n"
            "        staging.publish(component='c', pipeline='p', run='r', seconds=1, key_parts={'a': 'b' * 9999}, inputs={},\n"
            "                        outputs={'model': ('Model', {})})\n"
            "    except StoreError as error:\n"
            "        print(error)\n"
            "assert store.find('trainer', 'ab' * 32) is None\n"
        )
        disk = tmp_path / "disk"
        disk.mkdir()
        # A file system of its own, in a mount namespace of its own.
        command = 'mount -t tmpfs -o size=256k none "$1" && exec "$2" "$3" "$1"'
        arguments = ["unshare", "-rm", "sh", "-c", command, "sh", str(disk), sys.executable, str(script)]
        if subprocess.run(
            [*arguments[:4], 'mount -t tmpfs none "$1"', "sh", str(disk)], capture_output=True
        ).returncode:
            pytest.skip("this machine does not let users mount in a namespace of their own")

        done = subprocess.run(arguments, capture_output=True, text=True, cwd=Path(__file__).parents[2])

        assert done.returncode == 0, done.stderr
        assert "ENOSPC; 0 bytes are free there" in done.stdout
        assert "`pipeline gc`" in done.stdout


class TestExecutionLock:
    def test_lets_one_process_work_at_a_time_and_says_who_does(self, store: Store, children: Children) -> None:
        store.open()
        ready, told = os.pipe()
        end, asked = os.pipe()

        def hold() -> None:
            os.close(asked)
            with store.execution_lock("trainer", KEY, run="run-7"):
                os.write(told, b".")
                os.read(end, 1)

        holder = children.start(hold)
        os.read(ready, 1)
        messages: list[str] = []

        def waits(message: str) -> None:
            messages.append(message)
            os.close(asked)  # now the holder may end

        with store.execution_lock("trainer", KEY, waits, run="run-8"):
            pass

        assert children.status(holder) == 0
        assert messages == [f"process {holder} (run run-7) is making the same trainer"]
        assert list((store.root / "locks").iterdir()) == []

    def test_is_free_at_once_when_its_holder_is_killed(self, store: Store, children: Children) -> None:
        store.open()
        ready, told = os.pipe()

        def hold() -> None:
            with store.execution_lock("trainer", KEY):
                os.write(told, b".")
                time.sleep(600)

        holder = children.start(hold)
        os.read(ready, 1)
        os.kill(holder, signal.SIGKILL)
        assert children.status(holder) == -signal.SIGKILL

        messages: list[str] = []
        with store.execution_lock("trainer", KEY, messages.append):
            pass
        assert messages == []

    def test_can_be_interrupted_while_it_waits(self, store: Store, children: Children) -> None:
        store.open()
        ready, told = os.pipe()

        def wait() -> None:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            try:
                with store.execution_lock("trainer", KEY, lambda _: os.write(told, b".") and None):
                    os._exit(2)
            except KeyboardInterrupt:
                os._exit(130)

        with store.execution_lock("trainer", KEY):
            waiter = children.start(wait)
            os.read(ready, 1)
            os.kill(waiter, signal.SIGINT)
            assert children.status(waiter) == 130

    def test_of_another_key_is_not_waited_for(self, store: Store) -> None:
        with store.execution_lock("trainer", KEY), store.execution_lock("trainer", OTHER_KEY):
            assert len(list((store.root / "locks").iterdir())) == 2

    def test_is_not_got_through_a_file_that_its_holder_removed(self, tmp_path: Path, children: Children) -> None:
        path = tmp_path / "lock"
        opened, told = os.pipe()
        go, asked = os.pipe()

        def try_late() -> None:
            def pause(event: str, arguments: tuple[Any, ...]) -> None:
                nonlocal paused
                if event == "fcntl.flock" and not paused:  # the file is open and not yet locked
                    paused = True
                    os.write(told, b".")
                    os.read(go, 1)

            paused = False
            sys.addaudithook(pause)
            assert locks.try_lock(path) is None

        first = locks.try_lock(path)
        assert first is not None
        late = children.start(try_late)
        os.read(opened, 1)
        locks.unlock(first, path)
        second = locks.try_lock(path)
        os.write(asked, b".")

        assert second is not None
        assert children.status(late) == 0

    def test_makes_several_processes_take_turns(self, store: Store, children: Children) -> None:
        store.open()
        counter = store.root / "counter"
        counter.write_text("0")

        def count() -> None:
            for _ in range(5):
                with store.execution_lock("trainer", KEY):
                    counter.write_text(str(int(counter.read_text()) + 1))

        started = [children.start(count) for _ in range(3)]
        assert [children.status(pid) for pid in started] == [0, 0, 0]
        assert counter.read_text() == "15"


class TestDeadStaging:
    def killed_at_work(self, store: Store, children: Children) -> Path:
        def work() -> None:
            with store.stage("trainer", KEY, run="run-1") as staging:
                (staging.output("model") / "half").write_text("half")
                os.kill(os.getpid(), signal.SIGKILL)

        assert children.status(children.start(work)) == -signal.SIGKILL
        (left,) = (store.root / "staging").iterdir()
        return left

    def test_of_a_killed_process_is_removed(self, store: Store, children: Children) -> None:
        left = self.killed_at_work(store, children)

        assert store.remove_dead_staging() == [left]
        assert not left.exists()

    def test_of_a_living_process_is_kept(self, store: Store) -> None:
        with store.stage("trainer", KEY) as staging:
            assert store.remove_dead_staging() == []
            assert staging.execution_path.is_dir()

    @pytest.mark.parametrize(
        ("change", "removed"),
        [
            ({"host": "another"}, True),  # a container on this very kernel: its lock was free
            ({"boot_id": "before"}, True),  # this host before it was started again
            ({"host": "another", "boot_id": "other"}, False),  # another machine: nobody here can tell
        ],
    )
    def test_is_removed_only_with_proof_of_death(
        self, store: Store, change: dict[str, str], removed: bool, children: Children
    ) -> None:
        left = self.killed_at_work(store, children)
        owner = left / "owner.json"
        owner.write_text(json.dumps(json.loads(owner.read_text()) | change))

        store.remove_dead_staging()

        assert left.exists() is not removed

    @pytest.mark.parametrize(
        ("ended", "removed"), [(("run-1", "trainer"), True), (("run-2", "trainer"), False), (("run-1", "tuner"), False)]
    )
    def test_of_another_machine_is_removed_when_its_run_and_step_are_known_to_have_ended(
        self, store: Store, ended: tuple[str, str], removed: bool, children: Children
    ) -> None:
        left = self.killed_at_work(store, children)
        owner = left / "owner.json"
        owner.write_text(json.dumps(json.loads(owner.read_text()) | {"host": "another", "boot_id": "other"}))

        assert store.remove_dead_staging(ended) == ([left] if removed else [])
        assert left.exists() is not removed

    def test_of_a_process_that_is_taken_for_dead_while_it_works_is_kept_as_far_as_its_lock_is_seen(
        self, store: Store
    ) -> None:
        with store.stage("trainer", KEY, run="run-1") as staging:
            assert store.remove_dead_staging(("run-1", "trainer")) == []
            assert staging.execution_path.is_dir()

    def test_that_was_removed_under_its_owner_publishes_nothing(self, store: Store) -> None:
        with store.stage("trainer", KEY) as staging:
            output = staging.output("model")
            remove(staging.execution_path.parent)
            with pytest.raises(ArtifactError, match="the directory it was given is gone"):
                staging.publish(
                    component="",
                    pipeline="",
                    run="",
                    seconds=0,
                    key_parts={},
                    inputs={},
                    outputs={"model": ("Model", {})},
                )

        assert not output.exists()
        assert store.find("trainer", KEY) is None

    def test_whose_owner_is_not_known_is_kept(self, store: Store, children: Children) -> None:
        left = self.killed_at_work(store, children)
        (left / "owner.json").unlink()

        assert store.remove_dead_staging() == []
        assert left.exists()

    def test_is_removed_at_last_whenever_its_removal_is_killed(self, store: Store, children: Children) -> None:
        self.killed_at_work(store, children)
        for _ in children.killed_before_each_call(lambda: store.remove_dead_staging() and None):
            pass

        store.remove_dead_staging()

        assert list((store.root / "staging").iterdir()) == []


class TestScratch:
    def test_survives_its_process_and_is_dropped_on_request(self, store: Store) -> None:
        (store.scratch("trainer", KEY) / "checkpoint").write_text("400")

        assert (Store(store.root).scratch("trainer", KEY) / "checkpoint").read_text() == "400"
        store.drop_scratch("trainer", KEY)
        assert not (store.root / "scratch" / "trainer").exists()

    def test_of_another_key_is_left_alone(self, store: Store) -> None:
        store.scratch("trainer", KEY)
        other = store.scratch("trainer", OTHER_KEY)

        store.drop_scratch("trainer", KEY)

        assert other.is_dir()


class TestRuns:
    def test_records_are_read_back_and_unreadable_ones_left_out(self, store: Store) -> None:
        store.write_run("run-1", {"outcome": "failed"})
        store.write_run("run-1", {"outcome": "done"})
        (store.run_directory("run-2") / "run.json").write_text("{")
        store.run_directory("run-3")

        assert store.run_records() == {"run-1": {"outcome": "done"}}
        assert [p.name for p in store.run_directory("run-1").iterdir()] == ["run.json"]
        assert store.order_path("run-1", "trainer") == store.root / "runs" / "run-1" / "trainer.order.json"
        assert store.log_path("run-1", "trainer") == store.root / "runs" / "run-1" / "trainer.log"


def test_disk_errors_keep_their_cause(tmp_path: Path) -> None:
    (tmp_path / "root").touch()

    with pytest.raises(StoreError) as caught:
        Store(tmp_path / "root").open()

    assert isinstance(caught.value.__cause__, OSError)
    assert caught.value.__cause__.errno in (errno.ENOTDIR, errno.EEXIST)
