"""Transformed or raw examples, a compiled model -> the batches that it is trained and validated on, checked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from components.model import signatures
from components.model.input_data import InputData, keep, transformed_spec
from components.model.labels import (
    Label,
    check_fits,
    check_labels,
    check_weights,
    choose_label,
    count_classes,
    count_labels,
    label_features,
)
from components.model.raw_records import RawRecords, Read
from schemas.artifacts import Examples, TransformedExamples, TransformGraph
from schemas.errors import ConfigError

if TYPE_CHECKING:
    import tf_keras


@dataclass(frozen=True)
class TrainingData:
    """What a model is fitted with. `features` are the transformed features it takes; `label` is settled.

    `classes` is how many the label tells, numbered from 0; None for one that is no class, and for several labels.
    """

    features: tuple[str, ...]
    label: Label
    train: InputData
    evaluation: InputData | None  # None when the eval split is empty
    classes: int | None = None


def open_splits(
    model: tf_keras.Model,
    examples: Examples,
    graph: TransformGraph,
    label: Label | None,
    batch_size: int,
    train_split: str,
    eval_split: str,
    sample_weight: str | None = None,
) -> TrainingData:
    """The two splits with the features that `model` takes, its label and the records' weights, checked.

    Raw examples are transformed by the graph batch by batch, each time they are read. Raises UnknownSplit; ConfigError when the model's inputs or the label cannot be told, or its outputs do not fit the
    label; DataError when the train split is empty, a label is the same in all of it, or a weight is no weight.
    """
    check_records(examples)
    raw = None if isinstance(examples, TransformedExamples) else RawRecords(graph)
    spec = transformed_spec(graph)
    transformed = tuple(sorted(spec))
    inputs = signatures.model_features(model, transformed)
    chosen = choose_label(label, transformed, inputs, sample_weight)
    answers = label_features(chosen)
    weights = (sample_weight,) if sample_weight is not None else ()
    features = inputs if inputs is not None else tuple(name for name in transformed if name not in (*answers, *weights))
    wanted = {name: spec[name] for name in (*features, *answers, *weights)}
    if sample_weight is not None:
        _check_weight_s_shape(sample_weight, spec[sample_weight])

    def read(names: Iterable[str]) -> Read | None:
        return raw.read({name: spec[name] for name in names}) if raw is not None else None

    def data(files: list[Path], rows: int) -> InputData:
        kept = keep(files, wanted, rows, reads)
        return InputData(tuple(map(str, files)), wanted, chosen, batch_size, rows, kept, reads, sample_weight)

    reads = read(wanted)

    train_files, eval_files = examples.files(train_split), examples.files(eval_split)
    counts = count_labels(train_files, {name: spec[name] for name in (*answers, *weights)}, read((*answers, *weights)))
    for name in answers:
        check_labels(counts[name], name, train_split)
    for name in weights:
        check_weights(counts[name], name, train_split)
    train = data(train_files, counts[answers[0]].rows)
    check_fits(model, _outputs(model, train), chosen, spec, counts)
    eval_rows = count_labels(eval_files, {answers[0]: spec[answers[0]]}, read(answers[:1]))[answers[0]].rows
    return TrainingData(
        features,
        chosen,
        train,
        data(eval_files, eval_rows) if eval_rows else None,
        count_classes(counts[chosen], spec[chosen]) if isinstance(chosen, str) else None,
    )


def check_records(examples: Examples) -> None:
    """Raise ConfigError for transformed examples that Transform did not write."""
    if isinstance(examples, TransformedExamples) and not examples.materialized:
        raise ConfigError(
            "examples: the transformed examples have no records, since Transform's materialize is false. Take the raw ones, as in "
            "inputs: {examples: example_gen.examples}: they are transformed while they are read. Or set materialize to true"
        )


def weigh_classes(data: TrainingData, weights: Mapping[int, float] | None) -> TrainingData:
    """The data with the examples of each class weighed in training; a class that `weights` leaves out weighs 1.

    Raises ConfigError for classes that the label does not have, and for a label that has none.
    """
    if weights is None:
        return data
    if isinstance(data.label, dict):
        raise ConfigError(
            "class_weights: the model has several outputs. Give the weight of each record in a transformed feature instead, "
            "and name it in sample_weight"
        )
    if data.classes is None:
        raise ConfigError(
            f"class_weights: the label '{data.label}' is no class: it must be a whole number from 0 on, or one of several "
            f"that is 1"
        )
    unknown = [number for number in weights if number >= data.classes]
    if unknown:
        raise ConfigError(
            f"class_weights: the label '{data.label}' has no class {unknown[0]}; its classes go from 0 to {data.classes - 1}"
        )
    every = tuple(float(weights.get(number, 1.0)) for number in range(data.classes))
    return replace(data, train=replace(data.train, class_weights=every))


def _outputs(model: tf_keras.Model, data: InputData) -> dict[str, object]:
    """What the model gives, by name, at least symbolically: one that has seen no data yet is called on a batch."""
    known = model.output if getattr(model, "outputs", None) else model(next(iter(data.in_order(1)))[0], training=False)
    return signatures.named_outputs(model, known)


def _check_weight_s_shape(name: str, spec: object) -> None:
    import math

    import tensorflow as tf

    if not isinstance(spec, tf.io.FixedLenFeature) or math.prod(spec.shape) != 1 or spec.dtype == tf.string:
        raise ConfigError(
            f"sample_weight: '{name}' is not one number a record. Have preprocessing_fn give such a feature"
        )
