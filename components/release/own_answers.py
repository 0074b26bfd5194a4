"""Raw examples -> what a model answers in this process: as it was trained, or from its SavedModel where that is all there is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from components.io.keras import arrange, load_keras
from components.model import signatures
from components.release.questions import Question, inputs_of
from schemas.artifacts import Model, TransformGraph
from schemas.errors import ArtifactError, ConfigError

if TYPE_CHECKING:
    import numpy as np

    Outputs = dict[str, np.ndarray[Any, Any]]
    Answer = Outputs | str  # a text is what the model said instead of an answer

BATCH = 100  # rows that the trained model is given at once


class NotTrained(Exception):
    """There is no trained form of the model that raw examples can be given to; why."""


def of_trained(model: Model, graph: TransformGraph | None, records: Sequence[bytes]) -> list[Answer]:
    """What network(transform(raw)) answers each record: the Keras model that was trained, fed by TFT's own layer.

    Nothing of the exported SavedModel takes part, and rows come in batches. Raises NotTrained; ConfigError for a graph that
    does not make what the model takes.
    """
    import tensorflow as tf
    import tensorflow_transform as tft

    if graph is None:
        raise NotTrained("no transform graph is wired")
    arrange()  # a layer of the user's own brings the user's module along
    try:
        network = load_keras(model, compiled=False)
    except ArtifactError as error:
        raise NotTrained("it has no Format-Keras") from error
    except (ValueError, TypeError) as error:  # it has classes or functions that only the user's own module knows
        raise NotTrained(f"its Format-Keras does not load ({str(error).strip().splitlines()[0]})") from error
    output = tft.TFTransformOutput(str(graph.path))
    try:
        features = signatures.model_features(network, tuple(sorted(output.transformed_feature_spec())))
    except ConfigError as error:
        raise ConfigError(
            f"transform_graph: is not the one that the model was trained with ({error}). Wire the Transform before its Trainer"
        ) from error
    if features is None:
        raise NotTrained("its inputs have no names")
    spec, layer = output.raw_feature_spec(), output.transform_features_layer()

    def ask(batch: Sequence[bytes]) -> Outputs:
        transformed = layer(tf.io.parse_example(list(batch), spec))
        taken = {name: transformed[name] for name in features}
        predicted = signatures.served_outputs(network, network(signatures.as_inputs(network, taken), training=False))
        return {name: value.numpy() for name, value in predicted.items()}

    return [answer for start in range(0, len(records), BATCH) for answer in _each(ask, records[start : start + BATCH])]


def of_saved_model(loaded: Any, questions: Sequence[Question]) -> list[Answer]:
    """What the SavedModel answers each question, asked as a server is asked: one row at a time."""
    import tensorflow as tf

    def ask(question: Question) -> Outputs:
        takes = inputs_of(loaded, question.signature)
        inputs = {name: tf.constant(value, takes[name].dtype) for name, value in question.inputs.items()}
        return {name: value.numpy() for name, value in loaded.signatures[question.signature](**inputs).items()}

    return [_answer(ask, question) for question in questions]


def _each(ask: Callable[[Sequence[bytes]], Outputs], batch: Sequence[bytes]) -> list[Answer]:
    """The answers of a batch by row. When it is not answered as a whole, each row alone."""
    answer = _answer(ask, batch)
    if not isinstance(answer, str):
        return [_row(answer, at) for at in range(len(batch))]
    return [answer] if len(batch) == 1 else [_answer(ask, [record]) for record in batch]


def _row(outputs: Mapping[str, np.ndarray[Any, Any]], at: int) -> Outputs:
    return {name: value[at : at + 1] for name, value in outputs.items()}


def _answer(ask: Callable[[Any], Outputs], asked: Any) -> Answer:
    import tensorflow as tf

    try:
        return ask(asked)
    except (tf.errors.OpError, ValueError, TypeError) as error:
        said = str(error).strip().splitlines()
        return f"{type(error).__name__}: {said[0] if said else ''}"
