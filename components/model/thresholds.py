"""Thresholds: the bounds a model's metrics must keep, as settings, as TFMA's messages and as sentences."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from components.model import metrics as known_metrics
from components.model import slices
from components.model.metrics import Metric
from components.model.slices import OVERALL, CrossSlice, Slice
from schemas.errors import did_you_mean

BOUNDS = ("min", "max", "min_change", "max_change", "min_relative_change", "max_relative_change")
"""The value itself; the value less the baseline's; that difference as a fraction of the baseline's value."""


@dataclass(frozen=True)
class Threshold:
    """One bound of one metric on one slice. The bound itself is allowed."""

    metric: str  # the metric's name, of every output; or what the results call it, of one: `auc (sold)`
    bound: str  # one of BOUNDS
    limit: float
    slice: Slice | CrossSlice | None = OVERALL  # None: every slice that is computed
    # 0 < confidence < 1: the whole confidence interval of that level keeps the bound; None: the value does
    confidence: float | None = None

    @property
    def compares(self) -> bool:
        """Whether it takes a baseline to check it."""
        return self.bound.endswith("change")

    @property
    def where(self) -> str:
        """Which slices it is for, in words."""
        return "every slice" if self.slice is None else str(self.slice)

    def to_json(self) -> dict[str, Any]:
        """TFMA's PerSliceMetricThreshold, as protobuf's JSON has it.

        Always per slice: what TFMA calls a metric's plain threshold holds for every slice that is computed. TFMA has no
        thresholds on intervals: its verdict is on the value.
        """
        assert isinstance(self.slice, Slice), "only thresholds that were settings of ours are written"
        lower = self.bound.startswith("min")
        if self.compares:
            threshold = {
                "changeThreshold": {
                    "direction": "HIGHER_IS_BETTER" if lower else "LOWER_IS_BETTER",
                    "relative" if "relative" in self.bound else "absolute": self.limit,
                }
            }
        else:
            threshold = {"valueThreshold": {"lowerBound" if lower else "upperBound": self.limit}}
        return {"slicingSpecs": [self.slice.to_json()], "threshold": threshold}

    def describe(self) -> dict[str, Any]:
        """JSON for manifests and passports."""
        found = {"metric": self.metric, "slice": self.where, "bound": self.bound, "limit": self.limit}
        return found if self.confidence is None else {**found, "confidence": self.confidence}


def parse(
    settings: Mapping[str, Any], computed: Iterable[Metric], outputs: Iterable[str] = ()
) -> tuple[list[Threshold], list[Metric], list[str]]:
    """The thresholds of a definition, the metrics they need beyond those `computed`, and what is wrong with them.

    `{auc: {min: 0.7, min_change: -0.01, slices: [{slice: [trip_start_hour], min: 0.6}]}}`: bounds beside `slices` are
    for all examples together, those inside for every slice that `slice` describes. `confidence: 0.95` beside bounds asks
    that the whole confidence interval keeps them. A metric may be named by its name or its class, in any case. Of a model
    with several `outputs` it is the metric of each, or of one as the results call it: `auc (sold)`.
    """
    thresholds: list[Threshold] = []
    added: list[Metric] = []
    problems: list[str] = []
    computed, outputs = list(computed), tuple(outputs)
    for key, setting in settings.items():
        where = f"thresholds.{key}"
        plain, output = _of_output(key) if outputs else (key, "")
        if output and output not in outputs:
            problems.append(
                f"{where}: no output '{output}' has a label.{did_you_mean(output, outputs)} There are {', '.join(outputs)}"
            )
            continue
        metric = _named(plain, [one for one in (*computed, *added) if not output or output in (one.outputs or outputs)])
        if metric is None:
            class_name = known_metrics.find(plain)
            if class_name is None:
                hint = did_you_mean(plain, [m.name for m in computed]) or known_metrics.suggestion(plain)
                problems.append(f"{where}: neither a metric of this step nor one that TFMA or Keras has.{hint}")
                continue
            options = {"output_names": [output]} if output else {}
            metric = Metric(class_name, known_metrics.default_name(class_name), options=options)
            added.append(metric)
        name = known_metrics.of_output(metric.name, output) if output else metric.name
        found, wrong = _bounds(where, name, OVERALL, setting, extra=("slices",))
        thresholds += found
        problems += wrong
        per_slice = setting.get("slices", ()) if isinstance(setting, Mapping) else ()
        if not isinstance(per_slice, list | tuple):
            problems.append(f"{where}.slices: {per_slice!r} is not a list. Write [{{slice: [feature], min: 0.6}}]")
            per_slice = ()
        for at, item in enumerate(per_slice):
            inside = f"{where}.slices.{at}"
            if not isinstance(item, Mapping) or "slice" not in item:
                problems.append(f"{inside}: {item!r} does not say which slice. Write {{slice: [feature], min: 0.6}}")
                continue
            which, wrong = slices.parse(f"{inside}.slice", item["slice"])
            problems += wrong
            found, wrong = _bounds(inside, name, which or OVERALL, item, extra=("slice",))
            thresholds += found
            problems += wrong
    return thresholds, added, problems


def bounds_of(message: Any) -> list[tuple[str, float]]:
    """(bound, limit) of each that TFMA's GenericValueThreshold or GenericChangeThreshold sets."""
    from tensorflow_model_analysis.proto import config_pb2

    if isinstance(message, config_pb2.GenericValueThreshold):
        fields = (("lower_bound", "min"), ("upper_bound", "max"))
    else:
        side = "min" if message.direction == config_pb2.MetricDirection.HIGHER_IS_BETTER else "max"
        fields = (("absolute", f"{side}_change"), ("relative", f"{side}_relative_change"))
    return [(bound, getattr(message, field).value) for field, bound in fields if message.HasField(field)]


def sentence(
    threshold: Threshold,
    *,
    slice_name: str,
    examples: int | None,
    value: float | None,
    change: float | None = None,
    baseline: float | None = None,
    interval: tuple[float, float] | None = None,
) -> str:
    """Why one threshold was missed: metric, slice, value, threshold, number of examples.

    `change` is `value` less `baseline`'s and is needed where the threshold compares; None stands for a value that was
    not computed. The numbers are given with as many digits as it takes to see that the threshold is missed. `interval` is
    the 95 % confidence interval of what is bounded, the value or the change, and is shown in brackets.
    """
    on, lower = _on(slice_name, examples), threshold.bound.startswith("min")
    within = "" if interval is None else f" [{interval[0]:.4g}, {interval[1]:.4g}]"
    if value is None or math.isnan(value):
        what = "was not computed" if value is None else "is not a number"
        return (
            f"{threshold.metric} {what} {on}, so {threshold.bound} {_exact(threshold.limit)} is not kept: "
            f"too few examples, or all of one class?"
        )
    if not threshold.compares:
        shown = _shown(value, threshold.limit)
        side = "below" if lower else "above"
        return f"{threshold.metric} {shown}{within} {on} is {side} {_exact(threshold.limit)}"
    opening = f"{threshold.metric} {value:.4g} {on}"
    if change is None or baseline is None or math.isnan(change):
        return f"{opening} cannot be compared with the baseline, which has no value there"
    allowed = f"the {'least' if lower else 'most'} allowed is"
    if "relative" in threshold.bound:
        if baseline == 0:
            return f"{opening} cannot be compared with the baseline's 0 by a fraction of it; use {threshold.bound.replace('_relative', '')}"
        shown = _shown(100 * change / baseline, 100 * threshold.limit, signed=True)
        return (
            f"{opening} changed by {shown} % from the baseline's {baseline:.4g}; {allowed} {100 * threshold.limit:+g} %"
        )
    shown = _shown(change, threshold.limit, signed=True)
    return (
        f"{opening} changed by {shown}{within} from the baseline's {baseline:.4g}; {allowed} "
        f"{_exact(threshold.limit, signed=True)}"
    )


def uncertain(
    threshold: Threshold, *, slice_name: str, examples: int | None, value: float, interval: tuple[float, float] | None
) -> str:
    """Why a value that keeps a threshold with `confidence` does not keep it surely enough.

    `interval` is that of the threshold's confidence, of what is bounded: the value or the change; None for none.
    """
    what = f"{'the change of ' if threshold.compares else ''}{threshold.metric}"
    opening = f"{what} {value:.4g} {_on(slice_name, examples)}"
    limit = f"{threshold.bound} {_exact(threshold.limit)}"
    if interval is None or math.isnan(interval[0]) or math.isnan(interval[1]):
        return f"{opening} has no confidence interval, so {limit} is not kept with confidence: too few examples?"
    end, past = (interval[0], "below") if threshold.bound.startswith("min") else (interval[1], "above")
    level = f"{100 * (threshold.confidence or 0):g} %"
    return (
        f"{opening} keeps {limit}, but not surely enough: its {level} confidence interval "
        f"[{interval[0]:.4g}, {interval[1]:.4g}] reaches {_shown(end, threshold.limit)}, {past} the bound"
    )


def _on(slice_name: str, examples: int | None) -> str:
    count = "" if examples is None else f" ({examples:,} {'example' if examples == 1 else 'examples'})"
    return f"{'overall' if slice_name == 'overall' else f'on {slice_name}'}{count}"


def _bounds(
    where: str, metric: str, which: Slice, setting: Any, *, extra: tuple[str, ...]
) -> tuple[list[Threshold], list[str]]:
    if not isinstance(setting, Mapping):
        return [], [f"{where}: {setting!r} is not a mapping of bounds. Write {{min: ...}}"]
    found: list[Threshold] = []
    problems: list[str] = []
    confidence = setting.get("confidence")
    extra = (*extra, "confidence")
    if confidence is not None and (
        isinstance(confidence, bool) or not isinstance(confidence, int | float) or not 0 < confidence < 1
    ):
        problems.append(f"{where}.confidence: {confidence!r} is not between 0 and 1. Write 0.95")
        confidence = None
    for name, limit in setting.items():
        if name in extra:
            continue
        if name not in BOUNDS:
            hint = did_you_mean(str(name), (*BOUNDS, *extra))
            problems.append(f"{where}.{name}: no such bound.{hint} There are {', '.join(BOUNDS)}")
        elif isinstance(limit, bool) or not isinstance(limit, int | float) or not math.isfinite(limit):
            problems.append(f"{where}.{name}: {limit!r} is not a finite number")
        elif confidence is not None and "relative" in name:
            problems.append(
                f"{where}.{name}: a relative change has no confidence interval. Bound {name.replace('_relative', '')}, or "
                f"leave 'confidence' out"
            )
        else:
            found.append(Threshold(metric, name, float(limit), which, confidence))
    limits = {threshold.bound: threshold.limit for threshold in found}
    for kind in ("", "_change", "_relative_change"):
        least, most = limits.get(f"min{kind}"), limits.get(f"max{kind}")
        if least is not None and most is not None and least > most:
            problems.append(
                f"{where}: min{kind} {_exact(least)} is above max{kind} {_exact(most)}; nothing can keep both"
            )
    if not found and not problems and "slices" not in setting:
        problems.append(f"{where}: sets no bound. There are {', '.join(BOUNDS)}")
    return found, problems


def _of_output(key: str) -> tuple[str, str]:
    """(metric, output) of `auc (sold)`; the output is empty where none is named."""
    name, opened, output = key.removesuffix(")").partition(" (")
    return (name, output) if opened and key.endswith(")") else (key, "")


def _named(key: str, candidates: list[Metric]) -> Metric | None:
    """The metric that `key` means: by its name first, then by its class where only one has it."""
    name = known_metrics.find(key, [metric.name for metric in candidates])
    if name is not None:
        return next(metric for metric in candidates if metric.name == name)
    class_name = known_metrics.find(key, [metric.class_name for metric in candidates])
    same = [metric for metric in candidates if metric.class_name == class_name]
    return same[0] if len(same) == 1 else None


def _shown(value: float, limit: float, *, signed: bool = False) -> str:
    """`value` in four digits, or in as many as it takes to stay on its side of `limit`."""
    sign = "+" if signed else ""
    for digits in range(4, 17):
        text = f"{value:{sign}.{digits}g}"
        if (float(text) < limit) == (value < limit) and (float(text) > limit) == (value > limit):
            return text
    return f"{value:{sign}.17g}"


def _exact(limit: float, *, signed: bool = False) -> str:
    text = repr(limit).removesuffix(".0")
    return f"+{text}" if signed and limit > 0 else text
