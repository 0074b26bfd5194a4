"""Serialized examples -> models' answers: predictions, labels and the features to slice by, one graph call per batch."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.io import saved_model
from components.model.row_slices import Column
from schemas.errors import DataError

if TYPE_CHECKING:
    from typing import TypeAlias

    import numpy as np

    Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]

_loaded: dict[str, Any] = {}
_models: dict[Any, Models] = {}


def load(path: str) -> Any:
    """The SavedModel at `path`, loaded once in this process until `forget`."""
    if path not in _loaded:
        _loaded[path] = saved_model.load(Path(path))
    return _loaded[path]


def models(asked: tuple[Asked, ...], raw: tuple[tuple[str, str], ...], slice_by: frozenset[str]) -> Models:
    """`Models`, made once in this process until `forget`."""
    key = asked, raw, slice_by
    if key not in _models:
        _models[key] = Models(asked, dict(raw), slice_by)
    return _models[key]


def forget() -> None:
    """Let go of the models that are kept."""
    _loaded.clear()
    _models.clear()


class Different(Exception):
    """Answers that are not one number per example; the message says which."""


@dataclass(frozen=True)
class Asked:
    """What one model is asked: names of signatures, of their only inputs, and of what is wanted of their outputs."""

    path: str
    signature: str
    signature_input: str
    prediction: str
    transform: str
    transform_input: str
    transformed: tuple[str, ...]  # features to slice by, and the label where preprocessing gives it
    label: str


@dataclass(frozen=True)
class Batch:
    """Answers for a batch of rows. `labels` and `predictions` are one [rows] per model."""

    rows: int
    labels: list[Array]
    predictions: list[Array]
    transformed: list[dict[str, Column]]  # one per model
    raw: dict[str, Column]


class Models:
    """Several models that are asked together. `raw` are features to read from the examples, with their kinds.

    The kinds are `int64`, `float` and `bytes`, the lists of a tf.train.Feature.
    """

    def __init__(self, asked: Sequence[Asked], raw: dict[str, str], slice_by: frozenset[str]) -> None:
        import tensorflow as tf

        self._asked, self._raw, self._slice_by = tuple(asked), raw, slice_by
        loaded = [load(one.path) for one in asked]
        for one, model in zip(asked, loaded, strict=True):
            names = (one.signature, one.transform) if one.transformed else (one.signature,)
            for name in names:
                _, inputs = model.signatures[name].structured_input_signature
                if [spec.dtype for spec in inputs.values()] != [tf.string]:
                    raise Different(f"the signature '{name}' of {one.path}, which does not take serialized examples")
        kinds = {"int64": tf.int64, "float": tf.float32, "bytes": tf.string}
        spec = {name: tf.io.VarLenFeature(kinds[kind]) for name, kind in raw.items()}

        # One graph: TensorFlow then computes nothing that is not asked for.
        def ask(records: tf.Tensor) -> dict[str, Any]:
            answers: dict[str, Any] = {"raw": tf.io.parse_example(records, spec) if spec else {}}
            for number, (one, model) in enumerate(zip(self._asked, loaded, strict=True)):
                given = model.signatures[one.signature](**{one.signature_input: records})
                answers[f"prediction {number}"] = given[one.prediction]
                if one.transformed:
                    given = model.signatures[one.transform](**{one.transform_input: records})
                    answers[f"transformed {number}"] = {name: given[name] for name in one.transformed}
            return answers

        self._ask = tf.function(ask, autograph=False, input_signature=[tf.TensorSpec([None], tf.string)])

    def __call__(self, records: list[bytes]) -> Batch:
        """Ask about one batch. Raises DataError for examples that a model cannot read, Different and Unordered."""
        import tensorflow as tf

        try:
            answers = self._ask(tf.constant(records))
        except tf.errors.InvalidArgumentError as error:
            # TensorFlow's last lines name the node, those before the first the Python stack.
            lines = [line for line in str(error.message).splitlines() if line.strip() and "[[{{node" not in line]
            line = lines[-1] if lines else type(error).__name__
            mixed = [
                name
                for name in self._raw
                if re.search(rf"Key: {re.escape(name)}[.,] ", line) and "Data types don't match" in line
            ]
            if mixed:
                raise Different(f"the feature '{mixed[0]}', which has several types") from error
            raise DataError(
                f"the model at {self._asked[0].path} cannot read the examples: {line}. Evaluator takes the raw examples, not "
                f"the transformed ones"
            ) from error
        rows = len(records)
        raw = {
            name: Column.sparse(*_flat(value), rows) for name, value in answers["raw"].items() if name in self._slice_by
        }
        labels, predictions, transformed = [], [], []
        for number, one in enumerate(self._asked):
            dense = {name: _dense(value) for name, value in answers.get(f"transformed {number}", {}).items()}
            transformed.append({name: Column.dense(dense[name]) for name in dense if name in self._slice_by})
            if one.label in dense:
                labels.append(_one_each(dense[one.label], rows, f"the label '{one.label}'"))
            else:
                values, of_row = _flat(answers["raw"][one.label])
                if len(of_row) != rows or (of_row[1:] == of_row[:-1]).any():
                    raise Different(f"the label '{one.label}', which is not one number in every example")
                labels.append(_one_each(values, rows, f"the label '{one.label}'"))
            predicted = _dense(answers[f"prediction {number}"])
            predictions.append(_one_each(predicted, rows, f"the prediction '{one.prediction}'"))
        return Batch(rows, labels, predictions, transformed, raw)


def _dense(tensor: Any) -> Array:
    """As TFMA makes it, so that slices are the same."""
    import tensorflow as tf

    if isinstance(tensor, tf.SparseTensor):
        tensor = tf.sparse.to_dense(tensor)
    elif isinstance(tensor, tf.RaggedTensor):
        tensor = tensor.to_tensor()
    array: Array = tensor.numpy()
    return array


def _flat(sparse: Any) -> tuple[Array, Array]:
    """(values, their rows) of a SparseTensor [rows, values]."""
    return sparse.values.numpy(), sparse.indices.numpy()[:, 0]


def _one_each(values: Array, rows: int, what: str) -> Array:
    import numpy as np

    if values.shape not in ((rows,), (rows, 1)) or values.dtype.kind not in "if":
        shape = "x".join(str(size) for size in values.shape[1:])
        raise Different(f"{what}, which is {shape or 'one'} {values.dtype} per example and not one number")
    flat = values.reshape(rows)
    if flat.dtype.kind == "f" and np.isnan(flat).any():
        raise Different(f"{what}, which is not a number in some example")
    return flat
