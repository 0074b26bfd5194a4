"""Warm-up requests: what a server answers before it takes traffic, made from raw examples and tried out first.

TensorFlow Serving replays `assets.extra/tf_serving_warmup_requests`, a TFRecord of tensorflow.serving.PredictionLog, when it
loads a version, and one record that fails keeps the whole version from being served
(https://www.tensorflow.org/tfx/serving/saved_model_warmup).
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from components.io import saved_model, tfrecord
from components.release.questions import Unaskable, first, inputs_of, predict_request, questions
from schemas.artifacts import Examples
from schemas.artifacts.infra_blessing import WARMUP_REQUESTS
from schemas.errors import ArtifactError, DataError

FILE = WARMUP_REQUESTS
MOST = 1000  # records that TensorFlow Serving accepts


def write(loaded: Any, name: str, examples: Examples, count: int, file: Path) -> int:
    """Write requests made from the first `count` examples to `file`, gives how many; `name` is the model's for a server.

    Each example is asked of `serving_default` alone, as a serialized tf.Example, and of `serving_columns` where the model
    has that and it takes one row of values per feature. `loaded` is the model as `saved_model.load` gives it; it answers every
    request here first, and what it does not answer is left out, which stderr says. No file is written without requests. Raises
    ArtifactError for a model that answers none of the examples.
    """
    from tensorflow_serving.apis import prediction_log_pb2

    failures: list[str] = []
    requests = []
    for question in questions(loaded, first(examples, count)):
        try:
            request = prediction_log_pb2.PredictionLog(predict_log={"request": predict_request(loaded, name, question)})
            _answer(loaded, request)
        except (Unaskable, _Failed) as failed:
            failures.append(f"{question.signature}: {failed}")
        else:
            requests.append(request)
    if failures and not requests:
        raise ArtifactError(
            f"the model answers none of {len(failures)} requests made from raw examples ({examples.path}): {failures[0]}. "
            f"Wire `examples` to what ExampleGen made, or leave it out for a push without warm-up requests"
        )
    if failures:
        sys.stderr.write(f"{len(failures)} warm-up requests are left out, such as {failures[0]}\n")
    if requests:
        file.parent.mkdir(parents=True, exist_ok=True)
        tfrecord.write(file, [request.SerializeToString(deterministic=True) for request in requests])
    return len(requests)


def replay(loaded: Any, file: Path) -> int:
    """Have the model answer every request in a warm-up file, gives how many; raises ArtifactError where a server would not load it."""
    from google.protobuf.message import DecodeError
    from tensorflow_serving.apis import prediction_log_pb2

    number = 0
    try:
        for number, record in enumerate(tfrecord.read(file), 1):  # noqa: B007 what is counted
            _answer(loaded, prediction_log_pb2.PredictionLog.FromString(record))
    except (_Failed, DecodeError) as error:
        raise ArtifactError(
            f"{file}: request {number} fails ({error}), and a server would not load the model. Export it with requests that "
            f"it answers, or without"
        ) from error
    except DataError as error:
        raise ArtifactError(str(error)) from error
    if number > MOST:
        raise ArtifactError(
            f"{file}: {number:,} requests; a server takes {MOST:,} at most and would not load the model"
        )
    return number


def count(file: Path) -> int:
    """How many requests a warm-up file has, which nobody tries again. Raises DataError for a file that is cut short."""
    return sum(1 for _ in tfrecord.read(file))


class _Failed(Exception):
    """The model did not answer a request."""


def _answer(loaded: Any, log: Any) -> None:
    """Ask the model. Raises _Failed."""
    import tensorflow as tf

    kind = log.WhichOneof("log_type")
    if kind not in ("predict_log", "classify_log", "regress_log"):
        raise _Failed(f"its kind is {kind or 'none'}, which cannot be tried out before the push")
    request = getattr(log, kind).request
    signature = request.model_spec.signature_name or saved_model.SERVING_DEFAULT
    if signature not in loaded.signatures:
        raise _Failed(f"the model has no signature '{signature}'")
    takes = inputs_of(loaded, signature)
    if kind == "predict_log":
        inputs = {key: tf.make_ndarray(value) for key, value in request.inputs.items()}
    else:
        examples = request.input.example_list.examples or request.input.example_list_with_context.examples
        inputs = {key: [example.SerializeToString() for example in examples] for key in takes}
    if inputs.keys() != takes.keys():
        raise _Failed(
            f"'{signature}' takes {', '.join(sorted(takes))}, and is given {', '.join(sorted(inputs)) or 'nothing'}"
        )
    try:
        loaded.signatures[signature](**{key: tf.constant(value, takes[key].dtype) for key, value in inputs.items()})
    except (tf.errors.OpError, ValueError, TypeError) as error:
        said = str(error).strip().splitlines()
        raise _Failed(f"{type(error).__name__}: {said[0] if said else ''}") from error
