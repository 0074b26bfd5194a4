"""ScheduleFile: which definitions run when, on this machine or on Kubeflow, frozen and closed."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from schemas.component import JsonScalar
from schemas.config import Duration, KubernetesName, Name, Text

Missed = Literal["once", "skip"]


class _Closed(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


def _moment(written: str) -> str:
    try:
        datetime.fromisoformat(written)
    except ValueError:
        raise ValueError(f"'{written}' is no moment: write it as 2026-08-01 or 2026-08-01T03:00:00Z") from None
    return written


Moment = Annotated[str, AfterValidator(_moment)]  # ISO 8601; without an offset, in the schedule's time zone


class KubeflowScheduleConfig(_Closed):
    """What only Kubeflow's recurring runs have."""

    catch_up: bool = False  # one run for each firing that was missed, not one for all
    concurrency: int = Field(default=1, ge=1, le=10)  # runs at once; Kubeflow takes no others
    experiment: Text | None = None  # under which runs are listed; None: the definition's
    service_account: KubernetesName | None = None  # whose rights the pods have; None: the definition's
    start: Moment | None = None  # nothing fires before
    end: Moment | None = None  # nothing fires after


class ScheduleConfig(_Closed):
    """When one definition runs, and what is given to it."""

    pipeline: Text  # a pipeline.yaml, from the directory the command is run in; or module:object
    cron: Text  # five fields: minute, hour, day of month, month, day of week
    timezone: Text | None = None  # None: the file's
    if_new_data: bool = False  # run only when there is something that the served model was not trained on
    parameters: dict[str, JsonScalar] = Field(default_factory=dict)  # other values of the definition's own
    missed: Missed = "once"  # of all firings that were missed: one run, or none
    grace: Duration = "5m"  # a firing that is later than this was missed
    paused: bool = False
    kubeflow: KubeflowScheduleConfig = Field(default_factory=KubeflowScheduleConfig)


class ScheduleFile(_Closed):
    """Several schedules, each under its name."""

    timezone: Text = "UTC"
    schedules: dict[Name, ScheduleConfig] = Field(min_length=1)
