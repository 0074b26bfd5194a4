"""What is known of a schedule outlives the scheduler, and lies where it was looked for."""

from __future__ import annotations

import os
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pipeline.cron import Cron
from pipeline.schedules.state import LastRun, State, States
from schemas.errors import StoreError
from schemas.owner import Owner

_NOBODY = 65534  # a user that is not root
AT = datetime(2026, 8, 14, 3, 0, 0, 250, tzinfo=UTC)
LAST = LastRun(AT, AT, AT + timedelta(minutes=7), "failed", "the disk is full", None, "a/x.log")


@pytest.mark.parametrize(
    "state",
    [
        State.new(Cron.parse("0 3 * * *", "Europe/Berlin"), AT),
        State("@daily", "UTC", AT, True, last=LAST),
        State("@daily", "UTC", AT).begun(AT, AT, AT),
        State("@daily", "UTC", AT, unfinished=AT, began=AT, process=Owner.current().to_json(), last=LAST),
    ],
    ids=["new", "paused", "begun", "running"],
)
def test_a_state_that_is_written_is_read_as_it_was(tmp_path: Path, state: State) -> None:
    states = States(tmp_path)

    states.write("a", state)

    assert states.read("a") == state


def test_of_a_schedule_that_never_was_nothing_is_known(tmp_path: Path) -> None:
    assert States(tmp_path / "nowhere").read("a") is None
    assert not States(tmp_path / "nowhere").is_held()
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("schedule.yaml", "schedule"),
        ("./configs/taxi_daily/schedule.yaml", "configs-taxi_daily-schedule"),
        ("configs/images/../images/schedule.yml", "configs-images-schedule"),
    ],
)
def test_states_lie_in_the_working_directory_named_for_their_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, expected: str
) -> None:
    monkeypatch.chdir(tmp_path)

    assert States.of(Path(file)).directory == Path(".penstock/schedules", expected)
    assert States.of(tmp_path / file).directory == States.of(Path(file)).directory


def test_a_file_elsewhere_is_named_by_its_whole_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    assert States.of(Path("/srv/taxi/schedule.yaml")).directory == Path(".penstock/schedules/srv-taxi-schedule")


def test_two_files_never_share_a_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    files = ("taxi-daily/schedule.yaml", "taxi/daily-schedule.yaml", "taxi/daily/schedule.yaml")

    assert len({States.of(Path(file)).directory for file in files}) == len(files)


def test_a_directory_that_cannot_be_made_is_an_error_that_says_what_to_choose(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with (
        pytest.raises(StoreError, match=r"cannot write .*file/states/.lock: .* choose another --state directory"),
        States(tmp_path / "file" / "states").held(Path("schedule.yaml")),
    ):
        raise AssertionError


def test_who_holds_them_is_seen_while_it_does(tmp_path: Path) -> None:
    states = States(tmp_path / "states")

    with states.held(Path("schedule.yaml")):
        assert states.is_held()
    assert not states.is_held()


def test_a_lock_of_another_users_is_held_by_somebody() -> None:
    with tempfile.TemporaryDirectory() as shared:  # tmp_path is closed to others
        Path(shared).chmod(0o755)
        lock = Path(shared, ".lock")
        lock.write_text("")
        lock.chmod(0o400 if os.geteuid() == 0 else 0)
        states = States(Path(shared))
        child = os.fork()
        if not child:
            code = 2
            try:
                if os.geteuid() == 0:
                    os.setuid(_NOBODY)
                code = 0 if states.is_held() else 1
            finally:
                os._exit(code)
        _, status = os.waitpid(child, 0)

    assert os.waitstatus_to_exitcode(status) == 0
