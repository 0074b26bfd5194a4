"""`pipeline kubeflow schedule apply` makes Kubeflow's recurring runs what a file says, and leaves those of others alone."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from kfp_server import fires

from pipeline.cli.kubeflow_apply import apply_schedules

Command = Any
Api = Any

RECURRING = "/apis/v2beta1/recurringruns"
SECTION = """
kubeflow:
  image: registry.example.com/team/toy:1
  parameters: {numbers: /mnt/penstock/numbers.txt}
  defaults: {service_account: trainer, volumes: [{claim: penstock, path: /mnt/penstock}]}
"""
DAILY = """
  toy-daily:
    pipeline: pipeline.yaml
    cron: "0 3 * * *"
"""
WEEKLY = """
  toy-weekly:
    pipeline: pipeline.yaml
    cron: "30 4 * * 7"
"""

Write = Callable[..., Path]


@pytest.fixture
def write(project: Path) -> Write:
    """`write(DAILY, WEEKLY, timezone="UTC")` -> the schedule file with these, beside a definition for Kubeflow."""
    definition = project / "pipeline.yaml"
    text = definition.read_text().replace("numbers.txt", '"${parameters.numbers}"')
    definition.write_text(text.replace("{most: 100}", "{most: 100, numbers: numbers.txt}") + SECTION)

    def call(*schedules: str, timezone: str = "UTC", file: str = "schedules.yaml") -> Path:
        (project / file).write_text(f"timezone: {timezone}\nschedules:{''.join(schedules)}")
        return Path(file)

    return call


@pytest.fixture
def applied(command: Command, kfp_api: Api, write: Write) -> Any:
    """The schedule toy-daily, as Kubeflow has it after the first `apply`."""
    assert command("kubeflow", "schedule", "apply", str(write(DAILY))).code == 0
    return the_only(kfp_api)


def the_only(api: Api) -> dict[str, Any]:
    (found,) = api.recurring.items.values()
    return found  # type: ignore[no-any-return]


def on(api: Api, name: str = "toy-daily") -> list[str]:
    """The ids of the recurring runs of a name that fire."""
    found = api.recurring.items.values()
    return [item["recurring_run_id"] for item in found if (item["display_name"], item["status"]) == (name, "ENABLED")]


def changing(api: Api) -> list[str]:
    """The requests that were no reads."""
    return [request for request in api.requests if not request.startswith("GET")]


def run_of(api: Api, recurring: str) -> str:
    """A run that a recurring run has started, and that goes on."""
    run = api.tick(recurring)
    api.workflows[run["run_id"]].start()
    return str(run["run_id"])


def foreign(api: Api, model: dict[str, Any], name: str) -> dict[str, Any]:
    """A recurring run that somebody made in the UI."""
    item = {key: value for key, value in model.items() if key not in ("recurring_run_id", "created_at")}
    return api.recurring.add({**item, "display_name": name, "description": "mine"}, "")  # type: ignore[no-any-return]


def test_a_schedule_becomes_a_recurring_run_with_six_fields(command: Command, kfp_api: Api, write: Write) -> None:
    file = write(DAILY + "    parameters: {most: 7}\n", timezone="Etc/UTC")

    said = command("kubeflow", "schedule", "apply", str(file))

    made, (version,) = the_only(kfp_api), kfp_api.versions.items.values()
    assert said.code == 0, said.err
    assert made["display_name"] == "toy-daily"
    assert made["trigger"] == {"cron_schedule": {"cron": "0 0 3 * * *"}}
    assert (made["status"], made["max_concurrency"], made["no_catchup"]) == ("ENABLED", "1", True)
    assert made["runtime_config"] == {"parameters": {"most": 7}}
    assert made["service_account"] == "trainer"
    assert kfp_api.experiments.items[made["experiment_id"]]["display_name"] == "toy"
    assert made["pipeline_version_reference"]["pipeline_version_id"] == version["pipeline_version_id"]
    head, what, times, *_, summary = said.out.splitlines()
    assert head == "toy-daily  created"
    assert what == f"  0 3 * * * Etc/UTC, in Kubeflow 0 0 3 * * *: {version['name']}"
    assert times.startswith("  next: 2")
    assert times.count(" 03:00 UTC") == 3
    assert summary == f"schedules.yaml at {kfp_api.url}: 1 created"


@pytest.mark.parametrize(
    "cron", ["30 4 * * 1-5", "0 3 13 * fri", "*/20 6-7 1,15 jan,jul *", "0 0 * * 5-7", "5 0 */9 * *"]
)
@pytest.mark.parametrize("timezone", ["UTC", "Asia/Tokyo"])
def test_it_fires_when_it_is_said_to(kfp_api: Api, write: Write, cron: str, timezone: str) -> None:
    now = datetime.fromisoformat("2026-11-22T08:34:07+00:00")
    file = write(DAILY.replace("0 3 * * *", cron), timezone=timezone)

    said = apply_schedules(file, controller_timezone=timezone, now=lambda: now).as_json()

    from zoneinfo import ZoneInfo

    given = the_only(kfp_api)["trigger"]["cron_schedule"]["cron"]
    expected = fires(given, now.astimezone(ZoneInfo(timezone)), 3)
    assert [datetime.fromisoformat(each) for each in said["schedules"][0]["next"]] == expected


def test_what_is_as_it_should_be_is_left_alone(command: Command, kfp_api: Api, applied: Any) -> None:
    kfp_api.requests.clear()

    said = command("kubeflow", "schedule", "apply", "schedules.yaml", "--json")

    assert changing(kfp_api) == []
    assert (said.code, said.data["outcome"]) == (0, "applied")
    (one,) = said.data["schedules"]
    assert (one["action"], one["recurring_run"]) == ("unchanged", applied["recurring_run_id"])


@pytest.mark.parametrize(
    ("more", "because"),
    [
        ('cron: "0 4 * * *"', "cron 0 4 * * * UTC"),
        ("parameters: {most: 7}", "parameters most=7"),
        ("kubeflow: {concurrency: 2}", "concurrency 2"),
        ("kubeflow: {catch_up: true}", "catch_up true"),
        ("kubeflow: {experiment: nightly}", "experiment 'nightly'"),
        ("kubeflow: {service_account: other}", "another service account or time"),
        ("kubeflow: {start: 2026-01-01}", "another service account or time"),
    ],
)
def test_a_change_replaces_it(
    command: Command, kfp_api: Api, write: Write, applied: Any, more: str, because: str
) -> None:
    text = DAILY.replace('    cron: "0 3 * * *"\n', "") if more.startswith("cron") else DAILY
    write(f"{text}    {more}\n")
    kfp_api.requests.clear()

    said = command("kubeflow", "schedule", "apply", "schedules.yaml")

    old, new = applied["recurring_run_id"], the_only(kfp_api)
    assert said.code == 0, said.err
    assert said.out.splitlines()[0].startswith(f"toy-daily  replaced: {because}")
    assert new["recurring_run_id"] != old
    assert new["status"] == "ENABLED"
    assert [request for request in changing(kfp_api) if "recurringruns" in request] == [
        f"POST {RECURRING}",
        f"POST {RECURRING}/{old}:disable",
        f"DELETE {RECURRING}/{old}",
    ], "the new one fires before the old one ceases to"


def test_another_definition_is_another_version_that_the_schedule_runs(
    command: Command, kfp_api: Api, applied: Any
) -> None:
    definition = Path("pipeline.yaml")
    definition.write_text(definition.read_text().replace("team/toy:1", "team/toy:2"))

    said = command("kubeflow", "schedule", "apply", "schedules.yaml")

    assert said.out.splitlines()[0] == "toy-daily  replaced: another package"
    assert len(kfp_api.pipelines.items) == 1
    versions = {item["pipeline_version_id"]: item["name"] for item in kfp_api.versions.items.values()}
    assert len(versions) == 2
    assert versions[the_only(kfp_api)["pipeline_version_reference"]["pipeline_version_id"]] in said.out


def test_a_version_that_was_deleted_is_uploaded_again(command: Command, kfp_api: Api, applied: Any) -> None:
    kfp_api.versions.items.clear()
    assert "which was deleted: no run can start" in command("kubeflow", "schedule", "show", "toy-daily").out

    said = command("kubeflow", "schedule", "apply", "schedules.yaml")

    assert said.out.splitlines()[0] == "toy-daily  replaced: another package"
    assert kfp_api.tick(the_only(kfp_api)["recurring_run_id"])


def test_it_is_found_behind_hundreds_of_others(command: Command, kfp_api: Api, write: Write, applied: Any) -> None:
    for number in range(250):
        foreign(kfp_api, applied, f"theirs-{number}")
    assert (
        command("kubeflow", "schedule", "apply", "schedules.yaml", "--json").data["schedules"][0]["action"]
        == "unchanged"
    )
    kfp_api.recurring.items[applied["recurring_run_id"]] = kfp_api.recurring.items.pop(applied["recurring_run_id"])
    applied["created_at"] = "2099-01-01T00:00:00Z"  # the last of the last page

    write(DAILY.replace("0 3", "0 4"))
    said = command("kubeflow", "schedule", "apply", "schedules.yaml", "--prune", "--json")

    assert [one["action"] for one in said.data["schedules"]] == ["replace"]
    assert len(kfp_api.recurring.items) == 251
    assert len(on(kfp_api)) == 1
    assert len(command("kubeflow", "schedule", "list", "--json").data["schedules"]) == 251


@pytest.mark.parametrize("ours_as_well", [False, True])
def test_a_recurring_run_of_somebody_elses_is_never_touched(
    command: Command, kfp_api: Api, write: Write, applied: Any, ours_as_well: bool
) -> None:
    theirs = foreign(kfp_api, applied, "toy-daily")
    if not ours_as_well:
        del kfp_api.recurring.items[applied["recurring_run_id"]]
    write(DAILY.replace("0 3", "0 4"), WEEKLY)
    before, kfp_api.requests[:] = dict(kfp_api.recurring.items), []

    said = command("kubeflow", "schedule", "apply", "schedules.yaml", "--prune")

    assert said.code == 2
    assert (
        f"'toy-daily' is the name of a recurring run that Penstock did not make ({theirs['recurring_run_id']})"
        in said.err
    )
    assert "choose another name for the schedule, or delete that one in Kubeflow's UI" in said.err
    assert changing(kfp_api) == []
    assert kfp_api.recurring.items == before


@pytest.mark.parametrize("verb", ["pause", "resume", "delete"])
def test_no_verb_changes_one_of_somebody_elses(command: Command, kfp_api: Api, applied: Any, verb: str) -> None:
    foreign(kfp_api, applied, "theirs")
    kfp_api.requests.clear()

    said = command("kubeflow", "schedule", verb, "theirs")

    assert said.code == 2
    assert "'theirs' is a recurring run that Penstock did not make" in said.err
    assert changing(kfp_api) == []


def test_a_name_of_another_files_is_not_taken_from_it(
    command: Command, kfp_api: Api, write: Write, applied: Any
) -> None:
    write(DAILY.replace("0 3", "0 4"), file="other.yaml")

    said = command("kubeflow", "schedule", "apply", "other.yaml")

    assert said.code == 2
    assert (
        "'toy-daily' is a schedule of schedules.yaml, not of other.yaml: choose another name, or give --scope "
        "schedules.yaml if that is the same file under its old name" in said.err
    )
    assert the_only(kfp_api) == applied
    assert command("kubeflow", "schedule", "apply", "other.yaml", "--scope", "schedules.yaml").code == 0
    assert the_only(kfp_api)["trigger"] == {"cron_schedule": {"cron": "0 0 4 * * *"}}


def test_prune_deletes_what_is_no_longer_in_the_file_and_nothing_of_others(
    command: Command, kfp_api: Api, write: Write
) -> None:
    apply = ("kubeflow", "schedule", "apply")
    command(*apply, str(write(DAILY, WEEKLY)))
    command(*apply, str(write(DAILY.replace("toy-daily", "toy-hourly"), file="other.yaml")))
    foreign(kfp_api, next(iter(kfp_api.recurring.items.values())), "theirs")
    write(DAILY)
    assert "toy-weekly" not in command(*apply, "schedules.yaml").out, "nothing goes without --prune"

    said = command(*apply, "schedules.yaml", "--prune")

    names = {item["display_name"] for item in kfp_api.recurring.items.values()}
    assert names == {"toy-daily", "toy-hourly", "theirs"}
    assert "toy-weekly  deleted" in said.out
    assert said.out.splitlines()[-1] == f"schedules.yaml at {kfp_api.url}: 1 unchanged, 1 deleted"


def test_a_dry_run_says_what_would_be_done_and_changes_nothing(command: Command, kfp_api: Api, write: Write) -> None:
    new = DAILY.replace("toy-daily", "toy-new")
    off, same = WEEKLY.replace("toy-weekly", "toy-off"), WEEKLY.replace("toy-weekly", "toy-same")
    command("kubeflow", "schedule", "apply", str(write(DAILY, WEEKLY, off, same)))
    write(DAILY.replace("0 3", "0 4"), off + "    paused: true\n", new, same)
    before, kfp_api.requests[:] = repr(kfp_api.recurring.items), []

    said = command("kubeflow", "schedule", "apply", "schedules.yaml", "--prune", "--dry-run", "--json")

    assert said.data["outcome"] == "planned"
    assert {one["name"]: one["action"] for one in said.data["schedules"]} == {
        "toy-daily": "replace",
        "toy-off": "pause",
        "toy-new": "create",
        "toy-same": "unchanged",
        "toy-weekly": "delete",
    }
    assert kfp_api.requests
    assert changing(kfp_api) == []
    assert repr(kfp_api.recurring.items) == before
    text = command("kubeflow", "schedule", "apply", "schedules.yaml", "--prune", "--dry-run").out
    assert text.splitlines()[-1].endswith(
        "1 to replace, 1 to pause, 1 to create, 1 unchanged, 1 to delete; nothing was changed"
    )


def test_a_dry_run_on_an_empty_kubeflow_uploads_nothing(command: Command, kfp_api: Api, write: Write) -> None:
    said = command("kubeflow", "schedule", "apply", str(write(DAILY)), "--dry-run")

    assert said.out.splitlines()[0] == "toy-daily  create"
    assert said.out.count(" 03:00 UTC") == 3
    assert changing(kfp_api) == []


def test_paused_in_the_file_is_paused_in_kubeflow_and_nothing_is_replaced(
    command: Command, kfp_api: Api, write: Write, applied: Any
) -> None:
    write(DAILY + "    paused: true\n")
    said = command("kubeflow", "schedule", "apply", "schedules.yaml")
    assert said.out.splitlines()[0] == "toy-daily  paused"
    assert "paused: it does not fire" in said.out
    assert (the_only(kfp_api)["recurring_run_id"], on(kfp_api)) == (applied["recurring_run_id"], [])

    write(DAILY)
    said = command("kubeflow", "schedule", "apply", "schedules.yaml")
    assert said.out.splitlines()[0] == "toy-daily  resumed"
    assert on(kfp_api) == [applied["recurring_run_id"]]


def test_one_that_is_created_paused_never_fires(command: Command, kfp_api: Api, write: Write) -> None:
    command("kubeflow", "schedule", "apply", str(write(DAILY + "    paused: true\n")))

    assert the_only(kfp_api)["status"] == "DISABLED"
    assert kfp_api.calls(f"POST {RECURRING}") == [f"POST {RECURRING}"]


def test_pause_and_resume_and_the_next_apply(command: Command, kfp_api: Api, applied: Any) -> None:
    said = command("kubeflow", "schedule", "pause", "toy-daily")
    assert said.out.splitlines() == [
        "toy-daily  paused",
        "  `apply` turns it on again, unless its file says paused: true",
    ]
    assert kfp_api.tick(applied["recurring_run_id"]) is None

    assert (
        "  resumed\n  Kubeflow makes up for the latest firing"
        in command("kubeflow", "schedule", "resume", "toy-daily").out
    )
    assert kfp_api.tick(applied["recurring_run_id"])

    command("kubeflow", "schedule", "pause", "toy-daily")
    said = command("kubeflow", "schedule", "apply", "schedules.yaml")
    assert "toy-daily  resumed" in said.out, "the file says that it is not paused"


def test_while_a_run_goes_on_the_old_one_is_off_and_stays(
    command: Command, kfp_api: Api, write: Write, applied: Any
) -> None:
    old = applied["recurring_run_id"]
    run = run_of(kfp_api, old)
    write(DAILY.replace("0 3", "0 4"))

    said = command("kubeflow", "schedule", "apply", "schedules.yaml")

    note = f"the old one stays, turned off, until its run {run} has ended: then `apply` or `delete` removes it"
    (new,) = on(kfp_api)
    assert note in said.out
    assert kfp_api.workflows[run].phase == "Running"
    assert set(kfp_api.recurring.items) == {old, new}
    kfp_api.requests.clear()
    again = command("kubeflow", "schedule", "apply", "schedules.yaml")
    assert again.out.splitlines()[0] == "toy-daily  unchanged"
    assert note in again.out
    assert changing(kfp_api) == []

    kfp_api.workflows[run].end()
    last = command("kubeflow", "schedule", "apply", "schedules.yaml")

    assert last.out.splitlines()[0] == "toy-daily  cleaned up"
    assert list(kfp_api.recurring.items) == [new]


def test_delete_waits_for_a_run_that_goes_on(command: Command, kfp_api: Api, applied: Any) -> None:
    run = run_of(kfp_api, applied["recurring_run_id"])

    said = command("kubeflow", "schedule", "delete", "toy-daily", "--json")

    assert (said.code, said.data["outcome"], said.data["waiting_for_runs"]) == (0, "turned off", [run])
    assert (on(kfp_api), kfp_api.workflows[run].phase) == ([], "Running")
    kfp_api.workflows[run].end()
    assert command("kubeflow", "schedule", "delete", "toy-daily").out == "toy-daily  deleted\n"
    assert kfp_api.recurring.items == {}


@pytest.mark.slow
def test_killed_at_any_moment_one_fires_and_the_next_apply_ends_it(
    kfp_api: Api, write: Write, applied: Any, children: Any
) -> None:
    """`apply` is killed before its first request that changes something, before its second, ... until it survives."""
    doomed: list[int] = []
    allowed = -1
    status = -signal.SIGKILL

    def kill(request: Any) -> None:
        if request.method != "GET" and len(changing(kfp_api)) > allowed:
            os.kill(doomed[-1], signal.SIGKILL)
            raise ConnectionAbortedError  # what was asked for does not happen

    while status == -signal.SIGKILL:
        allowed += 1
        hour = f"{4 + allowed}"
        file = write(DAILY.replace("0 3", f"0 {hour}"))
        kfp_api.requests.clear()
        kfp_api.before = kill
        with kfp_api.lock:  # the child asks nothing before its pid is known
            doomed.append(children.start(lambda file=file: apply_schedules(file)))
        status = children.status(doomed[-1])
        kfp_api.before = None

        assert on(kfp_api), "there is never none that fires"
        apply_schedules(file)
        assert the_only(kfp_api)["trigger"] == {"cron_schedule": {"cron": f"0 0 {hour} * * *"}}
        assert on(kfp_api) == list(kfp_api.recurring.items)
    assert (status, allowed) == (0, 3), "it was killed before it could create, disable and delete"


@pytest.mark.parametrize("call", ["POST {old}:disable", "DELETE {old}", "POST"])
@pytest.mark.parametrize(
    "answer", [(503, {"code": 14, "message": "upstream connect error"}), None], ids=["503", "none"]
)
def test_a_server_that_fails_on_the_way_is_told_and_the_next_apply_goes_on(
    command: Command, kfp_api: Api, write: Write, applied: Any, call: str, answer: Any
) -> None:
    write(WEEKLY, DAILY.replace("0 3", "0 4"))
    method, _, rest = call.partition(" ")
    refused = f"{method} {RECURRING}" + (f"/{rest.format(old=applied['recurring_run_id'])}" if rest else "")
    if not rest:  # the second that is created
        command("kubeflow", "schedule", "apply", str(write(DAILY, WEEKLY)))
        write(WEEKLY, DAILY.replace("0 3", "0 4"))
    kfp_api.refusals[refused] = answer

    said = command("kubeflow", "schedule", "apply", "schedules.yaml", "--json")

    assert said.code == 1
    assert said.data["error"] == "Unreachable"
    (problem,) = said.data["problems"]
    assert problem.startswith(kfp_api.url)
    assert "Done: toy-weekly. 'toy-daily' may be half done: repeat the command, which goes on from there" in problem
    assert on(kfp_api)
    kfp_api.refusals.clear()
    assert command("kubeflow", "schedule", "apply", "schedules.yaml").code == 0
    assert len(kfp_api.recurring.items) == 2
    assert [kfp_api.recurring.items[one]["trigger"]["cron_schedule"]["cron"] for one in on(kfp_api)] == ["0 0 4 * * *"]


@pytest.mark.parametrize("same", [True, False], ids=["the same file", "another file of this name"])
def test_of_two_at_the_same_time_one_schedule_is_left(kfp_api: Api, write: Write, same: bool) -> None:
    ours = write(DAILY)
    theirs = write(DAILY if same else DAILY.replace("0 3", "0 5"), file="theirs.yaml")

    def race(request: Any) -> None:
        # We have looked and found nothing, and are about to make it: then somebody else does.
        if (request.method, request.path) == ("POST", RECURRING):
            kfp_api.before = None
            apply_schedules(theirs, scope="schedules.yaml")

    kfp_api.before = race
    apply_schedules(ours)

    assert the_only(kfp_api)["trigger"] == {"cron_schedule": {"cron": "0 0 3 * * *"}}
    assert on(kfp_api) == list(kfp_api.recurring.items)


def test_the_time_zone_has_to_be_the_controllers(
    command: Command, kfp_api: Api, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = str(write(DAILY, timezone="Europe/Berlin"))

    said = command("kubeflow", "schedule", "apply", file)

    assert (said.code, kfp_api.requests) == (2, [])
    assert (
        "schedules.toy-daily.timezone: Europe/Berlin, and Kubeflow's controller has one zone for all schedules, here UTC"
        in said.err
    )
    assert "say so with --controller-timezone Europe/Berlin; else write the schedule in UTC" in said.err
    monkeypatch.setenv("CRON_SCHEDULE_TIMEZONE", "Europe/Berlin")
    text = command("kubeflow", "schedule", "apply", file).out
    assert text.count(" 03:00 Europe/Berlin (0") == 3
    listed = command("kubeflow", "schedule", "list", "--controller-timezone", "Asia/Tokyo", "--json").data["schedules"]
    assert listed[0]["timezone"] == "Europe/Berlin"
    assert command("kubeflow", "schedule", "apply", file, "--controller-timezone", "Europe/Paris").code == 2
    assert (
        "--controller-timezone: " in command("kubeflow", "schedule", "list", "--controller-timezone", "Mars/Base").err
    )


def test_what_kubeflow_cannot_do_is_refused_at_once_with_everything_else_that_is_wrong(
    command: Command, kfp_api: Api, write: Write
) -> None:
    asks = DAILY + "    if_new_data: true\n"
    bounded = WEEKLY + "    kubeflow: {start: 2026-03-01, end: 2026-02-01}\n"
    unable = DAILY.replace("toy-daily", "toy-other").replace("pipeline.yaml", "local.yaml")
    Path("local.yaml").write_text(Path("pipeline.yaml").read_text().partition("\nkubeflow:")[0])

    said = command("kubeflow", "schedule", "apply", str(write(asks, bounded, unable)))

    assert (said.code, kfp_api.requests) == (2, [])
    assert (
        "schedules.toy-daily.if_new_data: a recurring run of Kubeflow starts at every firing and cannot ask first"
        in said.err
    )
    assert "use the CronJob in kubeflow/trigger, which asks" in said.err
    assert "schedules.toy-weekly.kubeflow.end: 2026-02-01 is not after start, 2026-03-01" in said.err
    assert "schedules.toy-other: " in said.err


def test_a_missed_firing_cannot_be_skipped_and_that_is_said(command: Command, kfp_api: Api, write: Write) -> None:
    said = command("kubeflow", "schedule", "apply", str(write(DAILY + "    missed: skip\n")))

    assert said.code == 0
    assert "toy-daily.missed: skip is not to be had on Kubeflow" in said.err


def test_a_window_of_time_is_kubeflows_and_what_is_said_to_come(kfp_api: Api, write: Write) -> None:
    file = write(DAILY + "    kubeflow: {start: 2026-12-01T03:00:00, end: 2026-12-02T04:00:00}\n")
    now = datetime.fromisoformat("2026-11-22T08:34:07+00:00")

    (said,) = apply_schedules(file, now=lambda: now).as_json()["schedules"]
    (later,) = apply_schedules(file, now=lambda: now + timedelta(days=30)).as_json()["schedules"]

    assert said["next"] == ["2026-12-01T03:00:00+00:00", "2026-12-02T03:00:00+00:00"]
    # Kubeflow's first firing is after its start, never at it.
    assert the_only(kfp_api)["trigger"]["cron_schedule"] == {
        "cron": "0 0 3 * * *",
        "start_time": "2026-12-01T02:59:59+00:00",
        "end_time": "2026-12-02T04:00:00+00:00",
    }
    assert (later["action"], later["next"]) == ("unchanged", [])


def test_definitions_that_name_several_clusters_need_a_word(
    command: Command, kfp_api: Api, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = Path("pipeline.yaml").read_text()
    for name, endpoint in (("pipeline", kfp_api.url), ("other", "http://elsewhere.invalid")):
        Path(f"{name}.yaml").write_text(text.replace("  image:", f"  endpoint: {endpoint}\n  image:"))
    file = str(write(DAILY, WEEKLY.replace("pipeline.yaml", "other.yaml")))
    monkeypatch.delenv("KFP_ENDPOINT")

    said = command("kubeflow", "schedule", "apply", file)

    assert (said.code, kfp_api.requests) == (2, [])
    assert "the schedules' definitions name more than one endpoint: " in said.err
    assert command("kubeflow", "schedule", "apply", file, "--endpoint", kfp_api.url).code == 0
    assert command("kubeflow", "schedule", "apply", str(write(DAILY))).code == 0, "the definition says where"


def test_list_shows_ours_and_those_of_others(command: Command, kfp_api: Api, write: Write, applied: Any) -> None:
    assert command("kubeflow", "schedule", "apply", str(write(DAILY, WEEKLY + "    paused: true\n"))).code == 0
    theirs = foreign(kfp_api, applied, "clicked")
    theirs["trigger"] = {"periodic_schedule": {"interval_second": "3600"}}
    misread = foreign(kfp_api, applied, "misread")
    misread["trigger"] = {"cron_schedule": {"cron": "0 3 * * *"}}

    lines = command("kubeflow", "schedule", "list").out.splitlines()

    rows = [line.split() for line in lines[1:]]
    assert lines[0].split() == ["NAME", "STATE", "CRON", "TIMEZONE", "NEXT,", "UTC", "OF"]
    assert rows[0] == ["clicked", "on", "every", "3600", "s", "UTC", "not", "Penstock's"]
    assert rows[1] == ["misread", "on", "0", "3", "*", "*", "*", "(seconds", "first)", "UTC", "not", "Penstock's"]
    assert rows[2][:8] == ["toy-daily", "on", "0", "3", "*", "*", "*", "UTC"]
    assert rows[2][-2:] == ["03:00", "schedules.yaml"]
    assert rows[3] == ["toy-weekly", "paused", "30", "4", "*", "*", "0", "UTC", "schedules.yaml"]


def test_an_empty_kubeflow_has_no_schedules(command: Command, kfp_api: Api) -> None:
    assert command("kubeflow", "schedule", "list").out == "no schedules\n"
    assert command("kubeflow", "schedule", "list", "--json").data == {"outcome": "done", "schedules": []}


def test_show_has_what_it_runs_and_how_its_last_runs_ended(
    command: Command, kfp_api: Api, write: Write, applied: Any
) -> None:
    assert "no runs yet" in command("kubeflow", "schedule", "show", "toy-daily").out
    first = run_of(kfp_api, applied["recurring_run_id"])
    kfp_api.workflows[first].end("Failed")
    second = run_of(kfp_api, applied["recurring_run_id"])
    (version,) = kfp_api.versions.items.values()

    said = command("kubeflow", "schedule", "show", "toy-daily")
    data = command("kubeflow", "schedule", "show", "toy-daily", "--json").data

    for line in (
        f"toy-daily  {applied['recurring_run_id']}",
        "  of          schedules.yaml",
        "  state       on",
        "  cron        0 3 * * * UTC, in Kubeflow 0 0 3 * * *",
        f"  runs        {version['name']}",
        "  parameters  none",
        "  at once     1 run",
        "  missed      one run for the latest",
        "  account     trainer",
    ):
        assert line in said.out.splitlines()
    assert said.out.count(" 03:00 UTC") == 3
    assert [(run["run"], run["outcome"]) for run in data["runs"]] == [(second, "running"), (first, "failed")]
    assert data["runs"][0]["finished_at"] is None


def test_only_the_newest_runs_are_asked_for(command: Command, kfp_api: Api, applied: Any) -> None:
    for _ in range(230):
        kfp_api.workflows[run_of(kfp_api, applied["recurring_run_id"])].end()
    kfp_api.requests.clear()

    data = command("kubeflow", "schedule", "show", "toy-daily", "--json").data

    assert len(data["runs"]) == 5
    assert len(kfp_api.calls("GET /apis/v2beta1/runs")) == 1


@pytest.mark.parametrize("verb", ["show", "pause", "resume", "delete"])
def test_a_name_that_is_not_there_is_told_with_those_that_are(
    command: Command, kfp_api: Api, applied: Any, verb: str
) -> None:
    said = command("kubeflow", "schedule", verb, "toy-dayly")

    assert said.code == 2
    assert "there is no schedule 'toy-dayly'. Did you mean 'toy-daily'?" in said.err


@pytest.mark.parametrize("verb", ["apply", "list", "show", "pause", "resume", "delete"])
def test_a_server_that_nobody_answers_at_is_told(command: Command, kfp_api: Api, write: Write, verb: str) -> None:
    file = str(write(DAILY))
    given = {"apply": [file], "list": []}.get(verb, ["toy-daily"])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        closed = f"http://127.0.0.1:{free.getsockname()[1]}"
        said = command("kubeflow", "schedule", verb, *given, "--endpoint", closed)

    assert said.code == 1
    assert f"error: {closed}: nothing listens there (connection refused)" in said.err
    assert "kubectl port-forward" in said.err


def test_each_user_has_schedules_of_their_own(command: Command, kfp_api: Api, write: Write) -> None:
    kfp_api.multi_user = True
    file = str(write(DAILY))

    for namespace in ("ann", "bob"):
        assert command("kubeflow", "schedule", "apply", file, "--namespace", namespace).code == 0

    assert {item["namespace"] for item in kfp_api.recurring.items.values()} == {"ann", "bob"}
    assert len(command("kubeflow", "schedule", "list", "--namespace", "ann", "--json").data["schedules"]) == 1
    kfp_api.denied = ("bob",)
    said = command("kubeflow", "schedule", "delete", "toy-daily", "--namespace", "bob")
    assert said.code == 1
    assert "you may not do that in the namespace bob" in said.err


def test_a_scope_that_would_not_fit_is_refused(command: Command, kfp_api: Api, write: Write) -> None:
    file = str(write(DAILY))

    said = command("kubeflow", "schedule", "apply", file, "--scope", 151 * "x")

    assert (said.code, kfp_api.requests) == (2, [])
    assert "give a name of at most 150 characters" in said.err
    assert (
        command("kubeflow", "schedule", "apply", file, "--scope", 150 * "x", "--controller-timezone", "UTC").code == 0
    )
