"""Amounts as Kubernetes and Kubeflow Pipelines write them: cores, bytes and times."""

from __future__ import annotations

import re

from schemas.errors import ConfigError

_CORES = re.compile(r"\d+(?:\.\d+)?|\d+m")
_BYTES = re.compile(r"\d+(?:[KMGT]i?)?")  # no fractions, and no small k: KFP refuses both
_DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?")
_SECONDS = (86_400, 3_600, 60, 1)


def parse_cores(written: str | float) -> str:
    """Processor cores as text: '2', '0.5' or '500m'. Raises ConfigError for anything else, and for none at all."""
    return _some(written, _CORES, "number of cores: write it as 2, 0.5 or 500m")


def parse_bytes(written: str | int) -> str:
    """Bytes as text: '8Gi', '512Mi', '16G' or a plain number. Raises ConfigError for anything else, and for none at all."""
    return _some(written, _BYTES, "amount of memory that Kubernetes reads: write it as 8Gi, 512Mi or 16G")


def _some(written: str | float, pattern: re.Pattern[str], wanted: str) -> str:
    text = str(written).strip()
    if not pattern.fullmatch(text):
        raise ConfigError(f"'{written}' is no {wanted}")
    if not re.search(r"[1-9]", text):
        raise ConfigError(f"'{written}' is nothing at all: give what the step needs, or leave it out")
    return text


def parse_duration(written: str | int) -> int:
    """Seconds in '90s', '30m', '2h', '1h30m', '1d' or a plain number. Raises ConfigError for anything else, and for no time."""
    text = str(written).strip()
    found = _DURATION.fullmatch(text)
    if text.isdecimal():
        seconds = int(text)
    elif text and found:
        seconds = sum(int(part) * unit for part, unit in zip(found.groups(), _SECONDS, strict=True) if part)
    else:
        raise ConfigError(f"'{written}' is no length of time: write it as 90s, 30m, 2h or 1h30m")
    if seconds == 0:
        raise ConfigError(f"'{written}' is no time at all: give a length of time, or leave it out")
    return seconds
