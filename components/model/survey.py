"""Examples and a model -> what is known before an evaluation starts: raw features, and whether the labels can be judged by.

TFMA would end in NaN, or in an error from deep inside Beam. Usually the first batch is enough.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.io import tf_example, tfrecord
from components.model import answers
from components.model.judged import TRANSFORM_SIGNATURE, Judged, listed
from schemas.errors import ConfigError, DataError, did_you_mean

if TYPE_CHECKING:
    from typing import TypeAlias

    import numpy as np
    import pyarrow as pa

    Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]

# Metrics whose labels are texts.
OF_TEXT = ("Bleu", "ExactMatch", "Rouge", "SetMatchPrecision", "SetMatchRecall")


def raw_features(
    files: list[Path],
    split: str,
    judged: list[Judged],
    sliced: set[str],
    *,
    text_labels: bool,
    two_classes: bool,
    batch_size: int,
) -> dict[str, str]:
    """The raw features that were seen, and what values they have: `int64`, `float` or `bytes`.

    Reads until every feature that is needed was seen, and two values of each label; `sliced` are the features to slice
    by. Raises DataError for a split without examples, a label that is absent, always the same, or text where not
    `text_labels`, and a feature that does not exist; ConfigError where the metrics are for `two_classes` and a label is
    seen that is no probability of one.
    """
    candidate = judged[0]
    sliced = sliced - set(candidate.transformed)
    raw_labels = {label for model in judged for label in model.labels if label not in model.transformed}
    weights = {weight for model in judged for weight in model.weights if weight not in model.transformed}
    needed = sliced | raw_labels | weights
    labels_of = {label: _labels_of(candidate, label, split, text_labels) for label in candidate.labels}
    found: dict[str, str] = {}
    values: dict[str, set[Any]] = {label: set() for label in candidate.labels}
    count = 0
    for file in files:
        for records in tfrecord.read_batches(file, batch_size):
            count += len(records)
            batch = tf_example.decode(records)
            for column in batch.schema:
                if str(column.type) != "null":
                    found.setdefault(
                        column.name, str(column.type.value_type).removeprefix("large_").replace("binary", "bytes")
                    )
            for label, values_of in values.items():
                if len(values_of) < 2:
                    values_of.update(_distinct(labels_of[label](records, batch)))
                    if two_classes:
                        _check_two_classes(label, values_of, split)
            if needed <= found.keys() and all(len(values_of) > 1 for values_of in values.values()):
                return found
    if count == 0:
        raise DataError(f"split '{split}' has no examples to evaluate. Give it a larger share in ExampleGen")
    problems = []
    for label in sorted(raw_labels):
        problems += _missing_label(label, found, judged, split)
    for label, values_of in values.items():
        if len(values_of) < 2 and (label in candidate.transformed or label in found):
            only = [f"{one:g}" if isinstance(one, float) else repr(one) for one in values_of]
            same = f"is {only[0]} in all" if only else "has no value in any"
            problems.append(
                f"label '{label}' {same} of the {count:,} examples of split '{split}'. "
                f"A model cannot be judged by a single class: check how the label is made, or split more evenly"
            )
    for what, features in (("slices", sliced), ("example_weight", weights)):
        for feature in sorted(features - found.keys()):
            known = (*sorted(found), *candidate.transformed)
            problems.append(
                f"{what}: no example of split '{split}' has the feature '{feature}'."
                f"{did_you_mean(feature, known)} There are {listed(known)}"
            )
    raise DataError("\n".join(problems))


def _check_two_classes(label: str, values: set[Any], split: str) -> None:
    other = sorted(value for value in values if not 0 <= value <= 1)
    if other:
        raise ConfigError(
            f"metrics: left out, those for a label of 0 and 1 are computed, and label '{label}' is {other[0]:g} in split "
            f"'{split}'. Name others: [MeanSquaredError, MeanAbsoluteError] for numbers, [SparseCategoricalAccuracy] for the "
            f"number of a class"
        )


def _missing_label(label: str, found: dict[str, str], judged: list[Judged], split: str) -> list[str]:
    candidate = judged[0]
    if label in found:
        return []
    if label in candidate.transformed:
        return [
            f"label '{label}' is not in split '{split}', and the model served now, {judged[-1].path}, does not "
            f"give it through '{TRANSFORM_SIGNATURE}' either, so the two cannot be compared. Push to a new destination, "
            f"or remove that version"
        ]
    known = tuple(dict.fromkeys([*candidate.transformed, *sorted(found)]))
    return [
        f"label '{label}' is not in split '{split}', and the model's '{TRANSFORM_SIGNATURE}' does not give "
        f"it.{did_you_mean(label, known)} There are {listed(known)}"
    ]


def _labels_of(
    model: Judged, label: str, split: str, text_labels: bool
) -> Callable[[list[bytes], pa.RecordBatch], Array]:
    """A function that gives a batch's values of `label`, flat; none of them for a batch without the label."""
    import numpy as np

    def refuse_text(values: Array) -> Array:
        if values.dtype.kind not in "biuf" and not text_labels:
            raise DataError(
                f"label '{label}' is text (such as {values.flat[0]!r}), which metrics cannot compare with numbers. "
                f"Make it a number in preprocessing_fn"
            )
        return values

    def raw(records: list[bytes], batch: pa.RecordBatch) -> Array:
        at = batch.schema.get_field_index(label)
        if at < 0 or str(batch.schema.field(at).type) == "null":
            return np.zeros(0)
        return refuse_text(batch.column(at).flatten().to_numpy(zero_copy_only=False))

    if label not in model.transformed:
        return raw

    import tensorflow as tf

    loaded = answers.load(str(model.path))
    signature = loaded.signatures[TRANSFORM_SIGNATURE]

    def transformed(records: list[bytes], batch: pa.RecordBatch) -> Array:
        try:
            given = signature(**{model.transform_input: tf.constant(records)})[label]
        except tf.errors.InvalidArgumentError as error:
            raise DataError(
                f"the model at {model.path} cannot read the examples of split '{split}': "
                f"{str(error.message).splitlines()[0]}. Evaluator takes the raw examples, not the transformed ones"
            ) from error
        dense = given.values if isinstance(given, tf.SparseTensor) else given
        return refuse_text(dense.numpy().reshape(-1))

    return transformed


def _distinct(values: Array) -> set[Any]:
    """The values that differ, numbers as floats; NaN is no value."""
    import numpy as np

    if values.dtype.kind not in "biuf":
        return set(values.tolist())
    numbers = values.astype(np.float64)
    return set(np.unique(numbers[~np.isnan(numbers)]).tolist())
