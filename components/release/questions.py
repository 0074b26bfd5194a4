"""Raw examples -> what a model is asked of them: one row each, in the form of each signature that takes them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from components.io import saved_model, tf_example, tfrecord
from components.model.signatures import MISSING_INTEGER, SERVING_COLUMNS
from schemas.artifacts import Examples


@dataclass(frozen=True)
class Question:
    """One row, asked of one signature. `row` counts the examples from 0; `inputs` has a batch of one for each input."""

    row: int
    signature: str
    inputs: Mapping[str, Any]


class Unaskable(Exception):
    """An example that does not fit a signature: it has values of another kind."""


def split_of(examples: Examples) -> str:
    """The split to ask about: `eval`, or the first where there is none of that name."""
    return "eval" if "eval" in examples.splits else examples.splits[0]


def first(examples: Examples, count: int) -> list[bytes]:
    """The first `count` records of that split, fewer where it has no more."""
    records: list[bytes] = []
    for file in examples.files(split_of(examples)):
        for record in tfrecord.read(file):
            if len(records) == count:
                return records
            records.append(record)
    return records


def questions(loaded: Any, records: list[bytes]) -> Iterator[Question]:
    """Each record asked of `serving_default`, as a serialized tf.Example, then each of `serving_columns`.

    The second where the model has it and it takes one row of values per feature, the first where it takes one string. `loaded`
    is the model as `saved_model.load` gives it.
    """
    if not records:
        return
    takes = inputs_of(loaded, saved_model.SERVING_DEFAULT)
    if len(takes) == 1 and next(iter(takes.values())).dtype.name == "string":
        for row, record in enumerate(records):
            yield Question(row, saved_model.SERVING_DEFAULT, {next(iter(takes)): [record]})
    columns = inputs_of(loaded, SERVING_COLUMNS)
    if columns and all(spec.shape.rank in (1, 2) for spec in columns.values()):
        for row, values in enumerate(tf_example.decode(records).to_pylist()):
            yield Question(
                row, SERVING_COLUMNS, {name: _column(values.get(name), spec) for name, spec in columns.items()}
            )


def inputs_of(loaded: Any, signature: str) -> dict[str, Any]:
    """The tf.TensorSpec of each of a signature's inputs; none where the model has no such signature."""
    if signature not in loaded.signatures:
        return {}
    found: dict[str, Any] = loaded.signatures[signature].structured_input_signature[1]
    return found


def predict_request(loaded: Any, model: str, question: Question) -> Any:
    """A tensorflow.serving.PredictRequest to the model of that name. Raises Unaskable."""
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2

    request = predict_pb2.PredictRequest()
    request.model_spec.name = model
    request.model_spec.signature_name = question.signature
    takes = inputs_of(loaded, question.signature)
    try:
        for key, value in question.inputs.items():
            request.inputs[key].CopyFrom(tf.make_tensor_proto(value, dtype=takes[key].dtype))
    except (TypeError, ValueError) as error:
        raise Unaskable(f"{type(error).__name__}: {str(error).splitlines()[0]}") from error
    return request


def _column(values: list[Any] | None, spec: Any) -> list[Any]:
    """One row of a column of `serving_columns`: see components/model/signatures.py for what stands for a missing value."""
    missing: Any = {"string": b"", "int64": MISSING_INTEGER}.get(spec.dtype.name, float("nan"))
    given = list(values or [])
    if spec.shape.rank == 1:
        return given[:1] or [missing]
    size = spec.shape[1] or max(1, len(given))
    return [(given + [missing] * size)[:size]]
