"""What a model is trained towards: the labels settled, counted, and compared with the model's outputs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.model.input_data import parsed_all, parsing
from components.model.raw_records import Read
from schemas.errors import ConfigError, DataError, did_you_mean

if TYPE_CHECKING:
    import tf_keras

Label = str | dict[str, str]
"""A transformed feature; for a model of several outputs, {output's name: transformed feature}."""


@dataclass(frozen=True)
class LabelCounts:
    """What one pass over a split found of one label: `rows`, and how often each of the first few values occurs.

    A value is a number or a text; of a label with several numbers a record (multi-label, [batch, labels]) it is the tuple
    of them. `least` and `most` are the smallest and the largest number, None for a text.
    """

    rows: int
    values: dict[Any, int]
    least: float | None = None
    most: float | None = None


def problems_of_label(label: Any, sample_weight: str | None) -> list[str]:
    """What is wrong with the settings `label` and `sample_weight` on their own."""
    problems = []
    if label is not None and not all(_features_of(label)):
        problems.append("label: names no feature. Give a transformed feature, or {output: transformed feature}")
    if isinstance(label, dict) and not label:
        problems.append("label: names no output. Give {output: transformed feature}, or leave label out")
    if sample_weight is not None and (not sample_weight or sample_weight in _features_of(label)):
        found = "is empty" if not sample_weight else f"'{sample_weight}' is the label"
        problems.append(f"sample_weight: {found}. Give another transformed feature, or leave sample_weight out")
    return problems


def label_features(label: Label) -> tuple[str, ...]:
    """The transformed features that are labels, each once."""
    return tuple(dict.fromkeys(_features_of(label)))


def choose_label(
    label: Label | None,
    transformed: tuple[str, ...],
    features: tuple[str, ...] | None,
    sample_weight: str | None = None,
) -> Label:
    """The label named, else the only transformed feature that is no input of the model and no weight.

    `features` are the model's inputs, None when it names none. Raises ConfigError listing the candidates when the choice
    is not clear, DataError when what is named is not among the transformed features.
    """
    for setting, name in [("sample_weight", sample_weight), *(("label", name) for name in _features_of(label))]:
        if name is None:
            continue
        if name not in transformed:
            raise DataError(
                f"{setting}: there is no transformed feature '{name}'.{did_you_mean(name, transformed)} "
                f"preprocessing_fn gives: {', '.join(transformed)}"
            )
        if features is not None and name in features:
            why = (
                ", so the model would be told the answer" if setting == "label" else ". Leave it out of one of the two"
            )
            raise ConfigError(f"{setting}: '{name}' is an input of the model too{why}")
    if label is not None:
        return label
    rest = tuple(name for name in transformed if name != sample_weight)
    if features is None:
        raise ConfigError(
            f"label: not set, and the model does not name its inputs. Set it to one of: {', '.join(rest)}"
        )
    candidates = [name for name in rest if name not in features]
    if len(candidates) != 1:
        raise ConfigError(
            "label: not set, and "
            + (
                f"the model does not take several transformed features: {', '.join(candidates)}. Set it to one of them"
                if candidates
                else "the model takes every transformed feature as an input, the answer among them. Leave one out"
            )
        )
    return candidates[0]


def count_labels(files: list[Path], spec: Mapping[str, Any], read: Read | None = None) -> dict[str, LabelCounts]:
    """One pass over a split for its size and each label (or weight) in `spec`, by name. Raw records are read by `read`.

    Once two values are known of a label, further ones are only counted as rows.
    """
    import numpy as np

    values: dict[str, dict[Any, int]] = {name: {} for name in spec}
    ends: dict[str, tuple[float, float]] = {}
    rows = 0
    for several, features in parsed_all(files, read or parsing(spec)):
        rows += int(several)
        for name, parsed in features.items():
            found = getattr(parsed, "values", parsed).numpy()
            if found.size and found.dtype != object:  # texts have no order here; fmin and fmax pass over NaN
                seen = (*ends.get(name, ()), float(np.fmin.reduce(found, None)), float(np.fmax.reduce(found, None)))
                ends[name] = min(seen), max(seen)
            if len(values[name]) < 2:
                for value, count in _different(found):
                    values[name][value] = values[name].get(value, 0) + count
    return {name: LabelCounts(rows, values[name], *ends.get(name, (None, None))) for name in spec}


def count_classes(found: LabelCounts, spec: Any) -> int | None:
    """How many classes a label tells, numbered from 0 or one number each; None for one that tells no classes."""
    shape = _shape(spec)
    if shape is not None and math.prod(shape) > 1:
        return shape[0] if len(shape) == 1 else None
    whole = all(isinstance(value, int | float) and value == int(value) for value in found.values)
    if not whole or found.least is None or found.most is None or found.least < 0:
        return None
    return int(found.most) + 1


def check_labels(found: LabelCounts, label: str, split: str) -> None:
    """Raise DataError when there is nothing to learn: no rows, no labels, or the same in every row.

    A label with several numbers a record may well have some that never change, as rare classes do.
    """
    if found.rows == 0:
        raise DataError(f"split '{split}' has no records to train on. Give it a weight in ExampleGen's splits")
    if not found.values:
        raise DataError(f"label '{label}' has no value in any of the {found.rows:,} records of split '{split}'")
    if len(found.values) == 1:
        value, count = next(iter(found.values.items()))
        single = "a single value" if isinstance(value, float | tuple) else "a single class"
        shown = list(value) if isinstance(value, tuple) else value
        raise DataError(
            f"label '{label}' has {single} in split '{split}': all {count:,} records have the value {shown!r}, so "
            f"there is nothing to learn. Look at how preprocessing_fn makes '{label}', or at the data"
        )


def check_weights(found: LabelCounts, weight: str, split: str) -> None:
    """Raise DataError for weights that no loss can be weighed with: below zero, or zero in every row."""
    if found.least is None or found.most is None:
        raise DataError(
            f"sample_weight: '{weight}' has no number in any of the {found.rows:,} records of split '{split}'"
        )
    if found.least < 0:
        raise DataError(
            f"sample_weight: '{weight}' is {found.least:g} in a record of split '{split}'. A weight is 0 or more; look at "
            f"how preprocessing_fn makes it"
        )
    if found.most == 0:
        raise DataError(
            f"sample_weight: '{weight}' is 0 in every record of split '{split}', so nothing would be learnt"
        )


def check_fits(
    model: tf_keras.Model,
    outputs: Mapping[str, Any],
    label: Label,
    spec: Mapping[str, Any],
    counts: Mapping[str, LabelCounts],
) -> None:
    """Raise ConfigError, with both shapes, when the model's `outputs` (tensors by name) do not fit the label.

    Shapes are compared as each output's loss compares them where it is one of Keras': a sparse one takes the number of a
    class for [batch, classes], every other takes a label of the output's own shape. A loss of the user's own is left to it.
    """
    labels = label if isinstance(label, dict) else dict.fromkeys(outputs, label)
    problems = _problems_of_names(model, tuple(outputs), label)
    if problems:
        raise ConfigError(*problems)
    for output, name in labels.items():
        loss = _loss_of(model, output, tuple(outputs))
        shape, wanted = tuple(outputs[output].shape[1:]), _shape(spec[name])
        where = f"output '{output}' of the model" if len(outputs) > 1 else "the model's output"
        if wanted is None:
            problems.append(
                f"label: '{name}' has no fixed number of values in a record. Have preprocessing_fn make it dense"
            )
        elif loss == "sparse_categorical_crossentropy":
            classes, most, least = shape[-1] if shape else None, counts[name].most, counts[name].least
            if not _alike(wanted, shape[:-1]):
                problems.append(
                    f"build_model: {where} is {_batch(shape)} and its label '{name}' {_batch(wanted)}: {loss} takes the "
                    f"number of one class for each, {_batch(shape[:-1])}. Use categorical_crossentropy or "
                    f"binary_crossentropy for a label of this shape, or have preprocessing_fn give the number"
                )
            elif classes is not None and most is not None and least is not None and not 0 <= least <= most < classes:
                problems.append(
                    f"build_model: {where} is {_batch(shape)}, {classes} classes numbered from 0, and its label '{name}' "
                    f"goes from {least:g} to {most:g}. Give the last layer {most + 1:g} units, or number the classes from 0"
                )
        elif loss is not None and not _alike(shape, wanted):
            hint = (
                "Give the last layer as many units as the label has values"
                if loss != "categorical_crossentropy" or not _alike(wanted, ())
                else f"Use sparse_{loss} for the number of a class"
            )
            problems.append(
                f"build_model: {where} is {_batch(shape)} and its label '{name}' {_batch(wanted)}: {loss} compares equal "
                f"shapes. {hint}"
            )
    if problems:
        raise ConfigError(*problems)


def _features_of(label: Any) -> tuple[str, ...]:
    return tuple(label.values()) if isinstance(label, dict) else () if label is None else (label,)


def _different(found: Any) -> list[tuple[Any, int]]:
    """The different rows of an array, and how often each occurs: a value, or a tuple where a row has several."""
    import numpy as np

    if found.ndim < 2 or found[0:1].size == 1 or found.dtype == object:
        different, counts = np.unique(found.ravel(), return_counts=True)
        values = [value.decode(errors="replace") if isinstance(value, bytes) else value.item() for value in different]
    else:
        different, counts = np.unique(found.reshape(len(found), -1), axis=0, return_counts=True)
        values = [tuple(row) for row in different.tolist()]
    return list(zip(values, map(int, counts), strict=True))


def _problems_of_names(model: tf_keras.Model, outputs: tuple[str, ...], label: Label) -> list[str]:
    if outputs == ("",) and isinstance(label, dict):
        return [
            f"label: the model has a single output, without a name. Give the feature alone: {next(iter(label.values()))}"
        ]
    if not isinstance(label, dict):
        if len(outputs) < 2:
            return []
        return [
            f"label: the model has {len(outputs)} outputs. Give each its own: {{{', '.join(f'{name}: ...' for name in outputs)}}}"
        ]
    problems = [
        f"label.{name}: the model has no output '{name}'.{did_you_mean(name, outputs)} It has: {', '.join(outputs)}"
        for name in label
        if name not in outputs
    ]
    trained = model.loss if isinstance(model.loss, Mapping) else outputs
    problems += [
        f"label: the model's output '{name}' has none. Add '{name}: <transformed feature>', or compile the model without a "
        f"loss for it"
        for name in outputs
        if name in trained and name not in label
    ]
    return problems


def _loss_of(model: tf_keras.Model, output: str, outputs: tuple[str, ...]) -> str | None:
    """The name of the loss of an output, None when it has none or one that is not of Keras' own."""
    import tf_keras

    loss = model.loss
    if isinstance(loss, Mapping):
        loss = loss.get(output)
    elif isinstance(loss, list | tuple):
        loss = loss[outputs.index(output)]
    if isinstance(loss, str):
        loss = tf_keras.losses.get(loss)
    function = getattr(loss, "fn", loss)  # what a Loss object wraps
    own = getattr(function, "__module__", "") or ""
    return function.__name__ if own.startswith("tf_keras.") and hasattr(function, "__name__") else None


def _shape(spec: Any) -> tuple[int, ...] | None:
    """The shape of one record's values, None where it is not fixed."""
    import tensorflow as tf

    return tuple(spec.shape) if isinstance(spec, tf.io.FixedLenFeature) else None


def _alike(one: tuple[int | None, ...], other: tuple[int | None, ...]) -> bool:
    """Whether losses take the two shapes for the same: [batch] is [batch, 1], and None is any size."""
    one, other = (shape[:-1] if shape[-1:] == (1,) else shape for shape in (one, other))
    return len(one) == len(other) and all(a == b or None in (a, b) for a, b in zip(one, other, strict=True))


def _batch(shape: tuple[int | None, ...]) -> str:
    return f"[{', '.join(['batch', *('?' if size is None else str(size) for size in shape)])}]"
