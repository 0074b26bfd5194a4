"""Limits: what a smaller form of a model may lose, weigh and take, as settings and as sentences where one is missed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from schemas.errors import did_you_mean

BOUNDS: Mapping[str, tuple[str, ...]] = {
    "size": ("max_kb", "max_ratio"),
    "weights": ("max_kb", "max_ratio"),
    "latency": ("max_ms", "max_ratio"),
}
"""Of everything that is no metric; 1 kB is 1,000 bytes, and a ratio is to the original."""
METRIC_BOUNDS = ("min", "max", "min_change", "max_change")
"""The value itself; the value less the original's, as in Evaluator's thresholds."""


@dataclass(frozen=True)
class Limit:
    """One bound of a metric, or of `size`, `weights` or `latency`. The bound itself is allowed."""

    of: str
    bound: str
    limit: float


@dataclass(frozen=True)
class Figures:
    """What was measured of one form of a model. What was not, is absent."""

    metrics: Mapping[str, float] = field(default_factory=dict)  # on the eval split
    bytes: Mapping[str, int] = field(default_factory=dict)  # of `size`, `weights`
    latency_ms: float | None = None  # of one call with one record, the median

    def as_json(self) -> dict[str, Any]:
        """JSON for manifests and reports."""
        latency = {} if self.latency_ms is None else {"latency_ms": round(self.latency_ms, 4)}
        return {"metrics": dict(self.metrics), "bytes": dict(self.bytes), **latency}


def parse(where: str, settings: Mapping[str, Any], measured: Iterable[str] = BOUNDS) -> tuple[list[Limit], list[str]]:
    """The limits of a definition, and what is wrong with them; `where` is the setting's name.

    `{auc: {min_change: -0.01}, size: {max_ratio: 0.5}, latency: {max_ms: 2}}`: all but the names that BOUNDS has are
    metrics. Of those names only the `measured` ones may stand there.
    """
    limits: list[Limit] = []
    problems: list[str] = []
    for name, bounds in settings.items():
        at = f"{where}.{name}"
        if name in BOUNDS and name not in measured:
            problems.append(f"{at}: is not measured here. There are: {', '.join(measured)}, and the model's metrics")
            continue
        known = BOUNDS.get(name, METRIC_BOUNDS)
        if not isinstance(bounds, Mapping) or not bounds:
            problems.append(f"{at}: {bounds!r} bounds nothing. Write {{{known[-1]}: 0.5}}")
            continue
        for bound, limit in bounds.items():
            if bound not in known:
                hint = did_you_mean(bound, known) or f" There are: {', '.join(known)}"
                problems.append(f"{at}.{bound}: no such bound.{hint}")
            elif isinstance(limit, bool) or not isinstance(limit, int | float) or not math.isfinite(limit):
                problems.append(f"{at}.{bound}: {limit!r} is not a number")
            elif name in BOUNDS and limit <= 0:
                problems.append(f"{at}.{bound}: {limit:g} can be kept by nothing. Give a number above 0")
            else:
                limits.append(Limit(name, bound, float(limit)))
    return limits, problems


def missed(limits: Iterable[Limit], found: Figures, original: Figures) -> list[str]:
    """A sentence for each limit that `found` does not keep. A metric that was not computed keeps none.

    Every limit but those of metrics is of something that is in both figures.
    """
    sentences = (_sentence(limit, found, original) for limit in limits)
    return [sentence for sentence in sentences if sentence]


def _sentence(limit: Limit, found: Figures, original: Figures) -> str:
    if limit.of in BOUNDS:
        after, before, unit = _amounts(limit.of, found, original)
        value = after / before if limit.bound == "max_ratio" else after
        if value <= limit.limit:
            return ""
        if limit.bound == "max_ratio":
            return (
                f"{limit.of} {after:.4g} {unit} is {_shown(value, limit.limit)} of the original's {before:.4g} {unit}, "
                f"above {limit.limit:g}"
            )
        return f"{limit.of} {_shown(value, limit.limit)} {unit} is above {limit.limit:g} {unit}"
    after_metric, before_metric = found.metrics.get(limit.of), original.metrics.get(limit.of)
    if after_metric is None or before_metric is None:
        there = ", ".join(sorted(found.metrics)) or "none"
        return f"{limit.of} was not computed, so {limit.bound} {limit.limit:g} is not kept. There are: {there}"
    compares = limit.bound.endswith("change")
    value = after_metric - before_metric if compares else after_metric
    keeps = value >= limit.limit if limit.bound.startswith("min") else value <= limit.limit
    if keeps:  # false for what is not a number
        return ""
    side = "below" if limit.bound.startswith("min") else "above"
    if compares:
        return (
            f"{limit.of} {after_metric:.4g}, {_shown(value, limit.limit, sign='+')} against the original's "
            f"{before_metric:.4g}, is {side} {limit.limit:+g}"
        )
    return f"{limit.of} {_shown(value, limit.limit)} is {side} {limit.limit:g}, the original's is {before_metric:.4g}"


def _amounts(of: str, found: Figures, original: Figures) -> tuple[float, float, str]:
    if of == "latency":
        assert found.latency_ms is not None
        assert original.latency_ms is not None
        return found.latency_ms, original.latency_ms, "ms"
    return found.bytes[of] / 1000, original.bytes[of] / 1000, "kB"


def _shown(value: float, limit: float, sign: str = "") -> str:
    """With as many digits as it takes to see that the limit is missed."""
    for digits in range(4, 17):
        shown = f"{value:{sign}.{digits}g}"
        if float(shown) != limit:
            return shown
    return repr(value)
