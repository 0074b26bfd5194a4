"""Evaluation -> points of the ROC curve and a confusion matrix over all examples, where its metrics asked for such plots."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.io import tfrecord
from components.model.verdict import BASELINE, slice_key

_POINTS = 200  # of a curve at most: more cannot be told apart on a screen
_CLASSES = 100
_MIDDLE = 0.5  # the threshold of a confusion matrix of two classes, or the nearest that there is


@dataclass(frozen=True)
class Plots:
    """What can be drawn of a classifier: nothing, one of the two, or both.

    `roc` are (threshold, false positive rate, recall) by falling threshold; `matrix[i][j]` is how much weight the examples of
    class i have that were taken for class j.
    """

    roc: tuple[tuple[float, float, float], ...] = ()
    classes: tuple[str, ...] = ()
    matrix: tuple[tuple[float, ...], ...] = ()


def read(directory: Path) -> Plots:
    """The plots in an Evaluation's directory that are of the candidate, over all examples; of several outputs, the first's."""
    roc: tuple[tuple[float, float, float], ...] = ()
    of_two: tuple[tuple[float, ...], ...] = ()
    of_many: tuple[tuple[str, ...], tuple[tuple[float, ...], ...]] = (), ()
    for data in _overall(directory):
        at_thresholds = data.confusion_matrix_at_thresholds.matrices
        if at_thresholds and not roc:
            roc = _curve(at_thresholds)
            middle = min(at_thresholds, key=lambda at: abs(at.threshold - _MIDDLE))
            of_two = (
                (middle.true_negatives, middle.false_positives),
                (middle.false_negatives, middle.true_positives),
            )
        matrices = data.multi_class_confusion_matrix_at_thresholds.matrices
        if matrices and not of_many[0]:
            of_many = _matrix(min(matrices, key=lambda at: abs(at.threshold - _MIDDLE)))
    classes, matrix = of_many if of_many[0] else (("0", "1") if of_two else (), of_two)
    return Plots(roc, classes, matrix)


def _overall(directory: Path) -> Iterator[Any]:
    records = [record for file in sorted(directory.glob("plots-*-of-*.tfrecord")) for record in tfrecord.read(file)]
    if not records:
        return
    from tensorflow_model_analysis.proto import metrics_for_slice_pb2

    for record in records:
        found = metrics_for_slice_pb2.PlotsForSlice.FromString(record)
        if slice_key(found) != ():
            continue
        for item in found.plot_keys_and_values:
            if item.key.model_name != BASELINE:
                yield item.value


def _curve(matrices: Any) -> tuple[tuple[float, float, float], ...]:
    points = []
    for at in matrices:
        negatives, positives = at.false_positives + at.true_negatives, at.true_positives + at.false_negatives
        if negatives > 0 and positives > 0:
            # TFMA's outermost thresholds lie a little outside of what a probability can be.
            threshold = min(max(at.threshold, 0.0), 1.0)
            points.append((threshold, at.false_positives / negatives, at.true_positives / positives))
    points.sort(key=lambda point: (-point[0], point[1], point[2]))
    if len(points) <= _POINTS:
        return tuple(points)
    return tuple(points[round(i * (len(points) - 1) / (_POINTS - 1))] for i in range(_POINTS))


def _matrix(found: Any) -> tuple[tuple[str, ...], tuple[tuple[float, ...], ...]]:
    weights = {
        (entry.actual_class_id, entry.predicted_class_id): entry.num_weighted_examples for entry in found.entries
    }
    ids = sorted({of_pair for pair in weights for of_pair in pair}, key=lambda id_: (id_ < 0, id_))
    if not ids or len(ids) > _CLASSES:
        return (), ()
    names = tuple("none" if id_ < 0 else str(id_) for id_ in ids)  # TFMA's -1: no class was above the threshold
    return names, tuple(tuple(weights.get((row, column), 0.0) for column in ids) for row in ids)
