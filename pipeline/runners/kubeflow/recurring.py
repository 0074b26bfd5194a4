"""A schedule as a recurring run of Kubeflow Pipelines: what it is made of, and the mark by which ours are known.

KFP cannot change a recurring run and lets any number have one name. So the description of each of ours says whose it is and, by a
digest, what it was made of.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pipeline.runners.kubeflow.api import Api, NotThere
from pipeline.runners.kubeflow.follow import outcome_of

LONGEST_SCOPE = 150
"""Characters. MySQL has 255 for the whole description."""

_MARK = re.compile(r"Penstock schedule (?P<digest>[0-9a-f]{12}) of (?P<scope>.+) in (?P<timezone>\S+)")


@dataclass(frozen=True, kw_only=True)
class Spec:
    """All that a recurring run is made of, and that it keeps as long as it is there."""

    name: str
    version: str  # name of the pipeline's version, which holds its content's digest
    cron: str  # six fields, seconds first
    timezone: str
    arguments: Mapping[str, Any]
    concurrency: int  # runs at once, 1 to 10
    catch_up: bool  # a run for every firing that was missed; else one for the latest
    experiment: str
    service_account: str | None
    start: str | None = None  # ISO, in UTC: it fires after this
    end: str | None = None  # and until this

    @property
    def digest(self) -> str:
        """12 hex digits, another when anything here is."""
        text = json.dumps({**vars(self), "arguments": dict(self.arguments)}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Mark:
    """What the description of a recurring run of ours says. `scope` tells those of one schedule file from those of others."""

    digest: str
    scope: str
    timezone: str

    def as_text(self) -> str:
        """The description."""
        return f"Penstock schedule {self.digest} of {self.scope} in {self.timezone}"

    @classmethod
    def read(cls, description: str) -> Mark | None:
        """The mark in a description; None in somebody else's."""
        found = _MARK.fullmatch(description)
        return cls(found["digest"], found["scope"], found["timezone"]) if found else None


@dataclass(frozen=True)
class Recurring:
    """A recurring run in Kubeflow, ours or not."""

    id: str
    name: str
    mark: Mark | None  # None: somebody else's
    on: bool
    said: Mapping[str, Any] = field(repr=False)  # as the API writes it

    @classmethod
    def of(cls, said: Mapping[str, Any]) -> Recurring:
        """What the API says of one."""
        return cls(
            id=str(said["recurring_run_id"]),
            name=str(said.get("display_name") or ""),
            mark=Mark.read(str(said.get("description") or "")),
            on=said.get("status") == "ENABLED",
            said=said,
        )

    @property
    def age(self) -> tuple[str, str]:
        """What they are ordered by, the newest last: the API's clock has whole seconds."""
        return str(self.said.get("created_at") or ""), self.id

    @property
    def cron(self) -> str | None:
        """Its expression, of six fields when it is right; None of one that counts seconds."""
        return _cron_schedule(self.said, "cron")

    @property
    def start(self) -> str | None:
        """ISO: it fires after this."""
        return _cron_schedule(self.said, "start_time")

    @property
    def end(self) -> str | None:
        """ISO: it fires until this."""
        return _cron_schedule(self.said, "end_time")

    @property
    def version(self) -> str | None:
        """The id of the pipeline's version that it runs; None where it has a package of its own."""
        return (self.said.get("pipeline_version_reference") or {}).get("pipeline_version_id")

    @property
    def experiment(self) -> str:
        """The id of its experiment."""
        return str(self.said.get("experiment_id") or "")

    @property
    def arguments(self) -> Mapping[str, Any]:
        """The values of parameters that it gives."""
        found: Mapping[str, Any] = (self.said.get("runtime_config") or {}).get("parameters") or {}
        return found

    @property
    def concurrency(self) -> int:
        """How many of its runs may go on at once."""
        return int(self.said.get("max_concurrency") or 0)

    @property
    def catch_up(self) -> bool:
        """Whether it starts a run for every firing that was missed."""
        return not self.said.get("no_catchup")


def recurring_runs(api: Api, name: str | None = None) -> list[Recurring]:
    """All of them, or those of one name, oldest first."""
    return sorted((Recurring.of(said) for said in api.recurring_runs.find(name)), key=lambda found: found.age)


def goes_on(api: Api, recurring: Recurring) -> str | None:
    """The id of a run that it started and that has not ended."""
    runs = api.runs.of_recurring(recurring.id)
    return next((str(run["run_id"]) for run in runs if outcome_of(run.get("state")) == "running"), None)


def retire(api: Api, recurring: Iterable[Recurring]) -> dict[str, str]:
    """Let them start no more runs, and remove those of which no run goes on: Kubernetes would remove its pods, too.

    All are off before the first is removed. May be repeated, and done by several at once. Gives what had to stay: the ids of
    recurring runs, and of a run of each that goes on. A run that began seconds ago, and that Kubeflow does not list yet, is
    not seen.
    """
    retired = list(recurring)
    for old in retired:
        if old.on:
            with contextlib.suppress(NotThere):
                api.recurring_runs.switch(old.id, on=False)
    kept = {old.id: run for old in retired if (run := goes_on(api, old))}
    for old in retired:
        if old.id not in kept:
            with contextlib.suppress(NotThere):
                api.recurring_runs.delete(old.id)
    return kept


def _cron_schedule(said: Mapping[str, Any], key: str) -> str | None:
    found = (said.get("trigger") or {}).get("cron_schedule", {}).get(key)
    return str(found) if found else None
