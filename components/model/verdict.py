"""What TFMA's files say of a model: its metrics per slice, and a sentence for every threshold that it misses."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from components.model import slices as slices_of
from components.model import thresholds as thresholds_of
from components.model.metrics import EXAMPLE_COUNT
from components.model.slices import CrossSlice, Slice
from components.model.thresholds import Threshold

CANDIDATE, BASELINE = "candidate", "baseline"  # TFMA's own names, used where there are two models
LEVEL = 0.95  # of the confidence intervals in TFMA's files


@dataclass(frozen=True)
class CrossKey:
    """The key of a comparison: the metrics of the slice `baseline` less those of `other`."""

    baseline: tuple[tuple[str, Any], ...]
    other: tuple[tuple[str, Any], ...]


SliceKey = tuple[tuple[str, Any], ...] | CrossKey


@dataclass(frozen=True)
class Interval:
    """A confidence interval of Student's t distribution, as TFMA writes it: at LEVEL from `low` to `high`."""

    low: float
    high: float
    standard_error: float
    degrees_of_freedom: int

    def at(self, level: float) -> tuple[float, float]:
        """Its ends at another level, 0 < level < 1."""
        if level == LEVEL:
            return self.low, self.high
        from scipy import stats

        middle = (self.low + self.high) / 2
        reach = self.standard_error * float(stats.t.ppf((1 + level) / 2, self.degrees_of_freedom))
        return middle - reach, middle + reach


@dataclass(frozen=True)
class Number:
    """One metric of one model on one slice; `interval` where one was asked for and could be computed."""

    value: float
    interval: Interval | None = None


@dataclass(frozen=True)
class Results:
    """What TFMA wrote: of each slice, (model, metric, whether it is a difference) -> number."""

    values: dict[SliceKey, dict[tuple[str, str, bool], Number]]
    candidate: str
    plots: int = 0  # over all slices
    baseline: str = BASELINE  # what TFMA calls it unless the EvalConfig does

    @classmethod
    def read(cls, directory: Path, *, candidate: str, baseline: str = BASELINE) -> Results:
        import tensorflow_model_analysis as tfma

        values: dict[SliceKey, dict[tuple[str, str, bool], Number]] = {}
        for of_slice in tfma.load_metrics(str(directory)):
            numbers = values.setdefault(slice_key(of_slice), {})
            for item in of_slice.metric_keys_and_values:
                if item.value.WhichOneof("type") == "double_value":
                    key = item.key.model_name, metric_name(item.key), item.key.is_diff
                    numbers[key] = Number(item.value.double_value.value, _interval(item))
        plots = sum(len(of_slice.plot_keys_and_values) for of_slice in tfma.load_plots(str(directory)))
        return cls(values, candidate, plots, baseline)

    def overall(self, model: str) -> dict[str, float | None]:
        """Each metric over all examples, by name; None where it is not a finite number."""
        return {metric: number.value if math.isfinite(number.value) else None for metric, number in self._of(model, ())}

    def intervals(self, model: str) -> dict[str, list[float]]:
        """The ends of each confidence interval over all examples, by the metric's name."""
        return {
            metric: [number.interval.low, number.interval.high]
            for metric, number in self._of(model, ())
            if number.interval is not None and math.isfinite(number.interval.low + number.interval.high)
        }

    def _of(self, model: str, key: SliceKey) -> Iterator[tuple[str, Number]]:
        for (of, metric, is_change), number in sorted(self.values.get(key, {}).items(), key=lambda item: item[0]):
            if of == model and not is_change and metric != EXAMPLE_COUNT:
                yield metric, number

    def number(self, key: SliceKey, model: str, metric: str, *, change: bool = False) -> Number | None:
        return self.values.get(key, {}).get((model, metric, change))

    def numbers(self, key: SliceKey, model: str, metric: str, *, change: bool = False) -> Iterator[tuple[str, Number]]:
        """(name, number) of a metric that may be of several outputs or classes, whose names are in brackets after its own."""
        for (of, name, is_change), number in self.values.get(key, {}).items():
            if of == model and is_change == change and (name == metric or name.startswith(f"{metric} (")):
                yield name, number

    def value(self, key: SliceKey, model: str, metric: str, *, change: bool = False) -> float | None:
        number = self.number(key, model, metric, change=change)
        return None if number is None else number.value

    def examples(self, key: SliceKey) -> int | None:
        """How many are in a slice; None for a comparison of two, and where nobody asked TFMA to count."""
        if isinstance(key, CrossKey):
            return None
        counted = self.value(key, self.candidate, EXAMPLE_COUNT)
        return None if counted is None else int(counted)


def described(results: Results, *, compared: bool) -> dict[str, Any]:
    """The properties of an Evaluation that follow from its results, the baseline's metrics among them where one was `compared`."""
    intervals = results.intervals(results.candidate)
    return {
        "metrics": results.overall(results.candidate),
        **({"intervals": intervals} if intervals else {}),
        "examples": results.examples(()),
        "slices": len(results.values),
        **({"plots": results.plots} if results.plots else {}),
        **({"baseline_metrics": results.overall(results.baseline)} if compared else {}),
    }


def reasons(
    results: Results, thresholds: tuple[Threshold, ...], applied: list[Threshold], directory: Path
) -> list[str]:
    """Why the model is not blessed, a sentence for each missed threshold; empty for a model that keeps them all."""
    import tensorflow_model_analysis as tfma

    if not thresholds:
        return [
            "no thresholds are set, and nothing is blessed without. Set some, for example thresholds: {auc: {min: 0.7}}"
        ]
    if not applied:
        return []  # only bounds on change, and nothing to compare with: the first model is as good as it gets
    verdict = tfma.load_validation_result(str(directory))
    sentences: list[tuple[bool, str, str]] = []
    missed: set[tuple[SliceKey, str, str]] = set()
    for of_slice in verdict.metric_validations_per_slice:
        key = slice_key(of_slice)
        for failure in of_slice.failures:
            for threshold in _missed(failure, results.value(key, results.candidate, metric_name(failure.metric_key))):
                missed.add((key, threshold.metric, threshold.bound))
                sentences.append((key != (), key_name(key), _sentence(results, key, threshold)))
    missing = {str(slice_of(spec)) for spec in verdict.missing_slices}
    missing |= {str(cross_slice_of(spec)) for spec in verdict.missing_cross_slices if not _is_compared(spec, results)}
    for threshold in applied:
        if threshold.slice is not None and str(threshold.slice) in missing:
            text = thresholds_of.sentence(threshold, slice_name=threshold.where, examples=0, value=None)
            sentences.append((True, threshold.where, text))
    found = [text for _, _, text in sorted(sentences, key=in_reading_order)]
    if not (verdict.validation_ok or verdict.missing_cross_slices or found):
        found = [f"TFMA does not validate the model: {verdict}"]
    return found + _uncertain(results, applied, missed)


def _is_compared(spec: Any, results: Results) -> bool:
    """Whether two slices were compared as a CrossSlicingSpec says. TFMA 0.47 reports each that has a bound as missing."""
    from tensorflow_model_analysis.slicer import slicer_lib

    return any(
        slicer_lib.is_cross_slice_applicable((key.baseline, key.other), spec)
        for key in results.values
        if isinstance(key, CrossKey)
    )


def _sentence(results: Results, key: SliceKey, threshold: Threshold) -> str:
    metric, candidate = threshold.metric, results.candidate
    bounded = results.number(key, candidate, metric, change=threshold.compares)
    return thresholds_of.sentence(
        threshold,
        slice_name=key_name(key),
        examples=results.examples(key),
        value=results.value(key, candidate, metric),
        change=results.value(key, candidate, metric, change=True),
        baseline=results.value(key, results.baseline, metric),
        interval=bounded.interval.at(LEVEL) if bounded is not None and bounded.interval is not None else None,
    )


def _uncertain(results: Results, applied: list[Threshold], missed: set[tuple[SliceKey, str, str]]) -> list[str]:
    """A sentence for each bound that is kept by a value and not by its whole confidence interval, where that is asked."""
    sentences: list[tuple[bool, str, str]] = []
    for threshold in applied:
        if threshold.confidence is None:
            continue
        lower = threshold.bound.startswith("min")
        for key in results.values:
            if not _applies(threshold.slice, key):
                continue
            for metric, number in results.numbers(key, results.candidate, threshold.metric, change=threshold.compares):
                ends = number.interval.at(threshold.confidence) if number.interval is not None else None
                kept = ends is not None and (ends[0] >= threshold.limit if lower else ends[1] <= threshold.limit)
                if kept or (key, metric, threshold.bound) in missed:
                    continue
                text = thresholds_of.uncertain(
                    replace(threshold, metric=metric),
                    slice_name=key_name(key),
                    examples=results.examples(key),
                    value=number.value,
                    interval=ends,
                )
                sentences.append((key != (), key_name(key), text))
    return [text for _, _, text in sorted(sentences, key=in_reading_order)]


def _applies(where: Slice | CrossSlice | None, key: SliceKey) -> bool:
    """Whether a threshold for `where` is for the slice `key`, by TFMA's own rule."""
    from google.protobuf import json_format
    from tensorflow_model_analysis.proto import config_pb2
    from tensorflow_model_analysis.slicer.slicer_lib import SingleSliceSpec

    if isinstance(key, CrossKey) or not isinstance(where, Slice):
        return False
    spec = json_format.ParseDict(where.to_json(), config_pb2.SlicingSpec())
    return bool(SingleSliceSpec(spec=spec).is_slice_applicable(key))


def in_reading_order(item: tuple[bool, str, str]) -> tuple[Any, ...]:
    """Overall first, then slices by name with hour:9 before hour:10."""
    of_slice, name, text = item
    return of_slice, [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name)], text


def _missed(failure: Any, value: float | None) -> list[Threshold]:
    """The bounds that one of TFMA's failures is about; where its message holds two, the one that is missed."""
    name, found = metric_name(failure.metric_key), failure.metric_threshold
    if found.HasField("value_threshold"):
        limits = thresholds_of.bounds_of(found.value_threshold)
        missed = [
            (bound, limit)
            for bound, limit in limits
            if value is not None and (value < limit if bound == "min" else value > limit)
        ]
    else:
        limits = missed = thresholds_of.bounds_of(found.change_threshold)
    return [Threshold(name, bound, limit) for bound, limit in missed or limits]


def slice_of(spec: Any) -> Slice:
    """Which examples TFMA's SlicingSpec is of; one in SQL is not told from all of them."""
    return Slice(tuple(sorted(spec.feature_keys)), tuple(sorted(spec.feature_values.items())))


def cross_slice_of(spec: Any) -> CrossSlice:
    """Which comparison TFMA's CrossSlicingSpec is of."""
    return CrossSlice(slice_of(spec.baseline_spec), tuple(map(slice_of, spec.slicing_specs)))


def slice_key(message: Any) -> SliceKey:
    """The key of one of TFMA's messages that are of a slice, or of a comparison of two."""
    if message.HasField("cross_slice_key"):
        cross = message.cross_slice_key
        return CrossKey(_single(cross.baseline_slice_key), _single(cross.comparison_slice_key))
    return _single(message.slice_key)


def _single(key: Any) -> tuple[tuple[str, Any], ...]:
    return tuple((part.column, getattr(part, part.WhichOneof("kind"))) for part in key.single_slice_keys)


def key_name(key: SliceKey) -> str:
    """How a slice is called: `trip_start_hour:3`, `overall`, `overall less trip_start_hour:3`."""
    if isinstance(key, CrossKey):
        return f"{slices_of.key_name(key.baseline)} less {slices_of.key_name(key.other)}"
    return slices_of.key_name(key)


def _interval(item: Any) -> Interval | None:
    if not item.HasField("confidence_interval"):
        return None
    found = item.confidence_interval
    if found.lower_bound.WhichOneof("type") != "double_value":
        return None
    return Interval(
        found.lower_bound.double_value.value,
        found.upper_bound.double_value.value,
        found.standard_error.double_value.value,
        found.degrees_of_freedom.value,
    )


def metric_name(key: Any) -> str:
    """A metric's name, with the output, the class, the top k or the average it is about where it has one."""
    parts = [key.output_name] if key.output_name else []
    if key.HasField("sub_key"):
        parts += [
            f"{field.name}:{value.value:g}" for field, value in key.sub_key.ListFields() if hasattr(value, "value")
        ]
    if key.HasField("aggregation_type"):
        parts += [field.name for field, _ in key.aggregation_type.ListFields()]
    return f"{key.name} ({', '.join(parts)})" if parts else str(key.name)
