"""When Kubeflow starts a schedule's next runs, in words, and the time zone in which it counts."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import UTC, datetime

from pipeline.cron import check_timezone
from pipeline.runners.kubeflow.wanted import same_timezone
from schemas.errors import ConfigError


def controller_zone(given: str | None) -> str:
    try:
        return check_timezone(given or os.environ.get("CRON_SCHEDULE_TIMEZONE") or "UTC")
    except ConfigError as error:
        raise ConfigError(f"--controller-timezone: {error}") from error


def next_text(moments: Sequence[datetime], timezone: str, *, paused: bool) -> str:
    if paused:
        return "paused: it does not fire"
    return "next: " + (", ".join(_moment_text(moment, timezone) for moment in moments) or "never, its end has passed")


def _moment_text(moment: datetime, timezone: str) -> str:
    local, utc = f"{moment:%Y-%m-%d %H:%M}", moment.astimezone(UTC)
    if same_timezone(timezone, "UTC"):
        return f"{local} UTC"
    return (
        f"{local} {timezone} ({utc:%H:%M} UTC)"
        if utc.date() == moment.date()
        else f"{local} {timezone} ({utc:%Y-%m-%d %H:%M} UTC)"
    )
