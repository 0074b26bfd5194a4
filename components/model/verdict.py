"""What TFMA's files say of a model: its metrics per slice, and a sentence for every threshold that it misses."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.model import slices as slices_of
from components.model import thresholds as thresholds_of
from components.model.metrics import EXAMPLE_COUNT
from components.model.slices import Slice
from components.model.thresholds import Threshold

CANDIDATE, BASELINE = "candidate", "baseline"  # TFMA's own names, used where there are two models

SliceKey = tuple[tuple[str, Any], ...]


@dataclass(frozen=True)
class Results:
    """What TFMA wrote: of each slice, (model, metric, whether it is a difference) -> number."""

    values: dict[SliceKey, dict[tuple[str, str, bool], float]]
    candidate: str

    @classmethod
    def read(cls, directory: Path, *, baseline: bool) -> Results:
        import tensorflow_model_analysis as tfma

        values: dict[SliceKey, dict[tuple[str, str, bool], float]] = {}
        for of_slice in tfma.load_metrics(str(directory)):
            numbers = values.setdefault(slice_key(of_slice.slice_key), {})
            for item in of_slice.metric_keys_and_values:
                if item.value.WhichOneof("type") == "double_value":
                    numbers[item.key.model_name, _metric_name(item.key), item.key.is_diff] = (
                        item.value.double_value.value
                    )
        return cls(values, CANDIDATE if baseline else "")

    def overall(self, model: str) -> dict[str, float | None]:
        """Each metric over all examples, by name; None where it is not a finite number."""
        return {
            metric: value if math.isfinite(value) else None
            for (of, metric, is_change), value in sorted(self.values.get((), {}).items())
            if of == model and not is_change and metric != EXAMPLE_COUNT
        }

    def number(self, key: SliceKey, model: str, metric: str, *, change: bool = False) -> float | None:
        return self.values.get(key, {}).get((model, metric, change))

    def examples(self, key: SliceKey) -> int:
        return int(self.number(key, self.candidate, EXAMPLE_COUNT) or 0)


def reasons(
    results: Results, thresholds: tuple[Threshold, ...], applied: list[Threshold], directory: Path
) -> list[str]:
    """Why the model is not blessed, a sentence for each missed threshold; empty for a model that keeps them all."""
    import tensorflow_model_analysis as tfma

    if not thresholds:
        return [
            "no thresholds are set, and nothing is blessed without. Set some, for example thresholds: {auc: {min: 0.7}}"
        ]
    verdict = tfma.load_validation_result(str(directory))
    if not applied or verdict.validation_ok:
        return []  # only bounds on change, and nothing to compare with: the first model is as good as it gets
    sentences: list[tuple[bool, str, str]] = []
    for of_slice in verdict.metric_validations_per_slice:
        key = slice_key(of_slice.slice_key)
        name = slices_of.key_name(key)
        for failure in of_slice.failures:
            missed, metric = _missed(failure), _metric_name(failure.metric_key)
            text = thresholds_of.sentence(
                missed,
                slice_name=name,
                examples=results.examples(key),
                value=results.number(key, results.candidate, metric),
                change=results.number(key, results.candidate, metric, change=True),
                baseline=results.number(key, BASELINE, metric),
            )
            sentences.append((key != (), name, text))
    missing = {str(_slice_of(spec)) for spec in verdict.missing_slices}
    for threshold in applied:
        if str(threshold.slice) in missing:
            text = thresholds_of.sentence(threshold, slice_name=str(threshold.slice), examples=0, value=None)
            sentences.append((True, str(threshold.slice), text))
    return [text for _, _, text in sorted(sentences, key=in_reading_order)] or [
        f"TFMA does not validate the model: {verdict}"
    ]


def in_reading_order(item: tuple[bool, str, str]) -> tuple[Any, ...]:
    """Overall first, then slices by name with hour:9 before hour:10."""
    of_slice, name, text = item
    return of_slice, [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name)], text


def _missed(failure: Any) -> Threshold:
    """The threshold that one of TFMA's failures is about; each message holds one bound, as we wrote it."""
    import tensorflow_model_analysis as tfma

    name = _metric_name(failure.metric_key)
    found = failure.metric_threshold
    if found.HasField("value_threshold"):
        lower = found.value_threshold.HasField("lower_bound")
        limit = found.value_threshold.lower_bound if lower else found.value_threshold.upper_bound
        return Threshold(name, "min" if lower else "max", limit.value)
    change = found.change_threshold
    relative = change.HasField("relative")
    side = "min" if change.direction == tfma.MetricDirection.HIGHER_IS_BETTER else "max"
    limit = change.relative if relative else change.absolute
    return Threshold(name, f"{side}_relative_change" if relative else f"{side}_change", limit.value)


def _slice_of(spec: Any) -> Slice:
    return Slice(tuple(sorted(spec.feature_keys)), tuple(sorted(spec.feature_values.items())))


def slice_key(key: Any) -> SliceKey:
    return tuple((part.column, getattr(part, part.WhichOneof("kind"))) for part in key.single_slice_keys)


def _metric_name(key: Any) -> str:
    """A metric's name, with the class or the top k it is about where it has one."""
    if not key.HasField("sub_key"):
        return str(key.name)
    parts = [f"{field.name}:{value.value:g}" for field, value in key.sub_key.ListFields() if hasattr(value, "value")]
    return f"{key.name} ({', '.join(parts)})" if parts else str(key.name)
