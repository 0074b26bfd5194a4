"""A trained model and its transform graph -> the signatures of the SavedModel that is served and evaluated.

| signature | takes | gives |
|---|---|---|
| `serving_default` | `examples`: serialized tf.Examples, string [batch] | the prediction |
| `serving_columns` | one tensor per raw feature, in the feature's own type (below) | the same prediction |
| `transform_features` | `examples`, as above, with the label's raw features | every transformed feature, the label included |

The prediction of a model with one output is called `probabilities` when its last activation is a sigmoid or a softmax and
`outputs` otherwise, [batch, units]; a model with several outputs keeps their names. The first two signatures take only the
raw features that the model's inputs depend on: what only the label depends on is neither needed nor looked at.

Columns are [batch] for a feature with one value, [batch, values] padded at the end for one with several, and have a fixed
shape where the schema gives one. Where a feature may be missing, NaN, an empty string or -2**63 says that it is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from schemas.artifacts import TransformGraph
from schemas.errors import ConfigError, DataError, did_you_mean

if TYPE_CHECKING:
    import tensorflow as tf
    import tf_keras

SERVING_COLUMNS = "serving_columns"
TRANSFORM_FEATURES = "transform_features"
VARIABLES = "model_variables"  # where a saved model lists its variables, in the order of build_model's model
MISSING_INTEGER = -(2**63)


@dataclass(frozen=True)
class Exported:
    """What a SavedModel is written from: signatures, and a module that tracks all they use."""

    module: tf.Module
    signatures: Mapping[str, Any]


def build(model: tf_keras.Model, features: tuple[str, ...], graph: TransformGraph) -> Exported:
    """The signatures of a model that takes the transformed `features`.

    `serving_columns` is left out when a raw feature is a tf.SparseTensor of several columns or a nested list, for which
    there is no one tensor.
    """
    import tensorflow as tf

    transform = TransformFunction(graph)
    specs = transform.feature_spec
    network = network_function(model)  # which both serving signatures call: the model is traced once

    def transform_features(examples: tf.Tensor) -> dict[str, Any]:
        return transform(tf.io.parse_example(examples, specs), transform.outputs)

    signatures = _of_raw_features(transform, features, network)
    signatures[TRANSFORM_FEATURES] = _traced(transform_features, tf.TensorSpec([None], tf.string, name="examples"))
    module = tracking(model)
    module.transform = transform.loaded
    return Exported(module, signatures)


def build_preprocessing(features: tuple[str, ...], graph: TransformGraph) -> Exported:
    """The two serving signatures with the transformed `features` themselves for an answer, by name."""
    import tensorflow as tf

    transform = TransformFunction(graph)
    module = tf.Module()
    module.transform = transform.loaded
    # A tensor that a graph returns as it got it has no name of its own to be served by.
    return Exported(
        module, _of_raw_features(transform, features, lambda found: tf.nest.map_structure(tf.identity, found))
    )


def tracking(model: tf_keras.Model) -> tf.Module:
    """What a SavedModel of functions that call `model` has to keep of it."""
    import tensorflow as tf

    module = tf.Module()
    setattr(module, VARIABLES, list(model.variables))
    # Lookup tables and their vocabularies, where the model has such layers. The layers themselves are not tracked: Keras
    # would trace every one of them once more, which takes longer than training a small model.
    resource = tf.saved_model.experimental.TrackableResource
    module.resources = [part for part in tf.train.TrackableView(model).descendants() if isinstance(part, resource)]
    return module


def network_function(model: tf_keras.Model) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """The model as a traced function of the transformed features it takes, which gives the served outputs by name."""
    import tensorflow as tf

    @tf.function(autograph=False)
    def network(transformed: dict[str, Any]) -> dict[str, Any]:
        return served_outputs(model, model(as_inputs(model, transformed), training=False))

    function: Callable[[dict[str, Any]], dict[str, Any]] = network
    return function


def _of_raw_features(
    transform: TransformFunction, features: tuple[str, ...], answer: Callable[[dict[str, Any]], dict[str, Any]]
) -> dict[str, Any]:
    """`serving_default` and, where there can be one, `serving_columns`, giving the `answer` to the transformed `features`."""
    import tensorflow as tf

    specs = transform.feature_spec
    needed = {name: specs[name] for name in transform.sources(features)}

    def predict(raw: Mapping[str, Any]) -> dict[str, Any]:
        return answer(transform(raw, features))

    def serve_examples(examples: tf.Tensor) -> dict[str, Any]:
        return predict(tf.io.parse_example(examples, needed))

    def serve_columns(**columns: tf.Tensor) -> dict[str, Any]:
        return predict({name: readers[name].raw(columns[name]) for name in needed})

    signatures = {"serving_default": _traced(serve_examples, tf.TensorSpec([None], tf.string, name="examples"))}
    readers = {name: column for name, spec in needed.items() if (column := Column.of(name, spec, transform.single))}
    if len(readers) == len(needed):
        signatures[SERVING_COLUMNS] = _traced(serve_columns, **{n: c.spec for n, c in readers.items()})
    return signatures


def model_features(model: tf_keras.Model, transformed: tuple[str, ...]) -> tuple[str, ...] | None:
    """The transformed features that the model's inputs name, in the inputs' order; None for a model without named inputs.

    Raises ConfigError when an input is not a transformed feature.
    """
    inputs = getattr(model, "input_names", None)
    if not inputs:
        return None
    unknown = [name for name in inputs if name not in transformed]
    if unknown:
        raise ConfigError(
            *(
                f"build_model: the model's input '{name}' is not a transformed feature."
                f"{did_you_mean(name, transformed)} There are: {', '.join(transformed)}"
                for name in unknown
            )
        )
    return tuple(inputs)


class TransformFunction:
    """A transform graph as a function, of the raw features that the wanted outputs depend on and of no others."""

    def __init__(self, graph: TransformGraph) -> None:
        import tensorflow as tf
        import tensorflow_transform as tft
        from tensorflow_transform import tf2_utils

        output = tft.TFTransformOutput(str(graph.path))
        self.feature_spec: dict[str, Any] = output.raw_feature_spec()
        # Inferred schemas say of every feature how many values a record has.
        self.single = {f.name for f in output.raw_metadata.schema.feature if f.value_count.max == 1}
        self.loaded = tf.saved_model.load(str(graph.transform_fn))
        if not hasattr(self.loaded, "transform_fn"):
            raise DataError(f"{graph.transform_fn} was written by TensorFlow 1; run Transform again")
        function = self.loaded.transform_fn
        self._function = getattr(function, "concrete_functions", [function])[0]
        self._inputs = dict(tf2_utils.get_structured_inputs_from_func_graph(self._function.graph))
        traced = self._function.graph
        self._outputs: dict[str, Any] = tf.nest.pack_sequence_as(
            traced.structured_outputs, traced.outputs, expand_composites=True
        )

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of all transformed features."""
        return tuple(sorted(self._outputs))

    def sources(self, features: tuple[str, ...]) -> tuple[str, ...]:
        """The raw features that the transformed `features` depend on, sorted."""
        import tensorflow as tf
        from tensorflow_transform import graph_tools

        parts = [part for name in features for part in tf.nest.flatten(self._outputs[name], expand_composites=True)]
        found = graph_tools.retrieve_sources([part.op for part in parts], ignore_control_dependencies=True)
        return tuple(
            name
            for name, value in sorted(self._inputs.items())
            if any(part in found for part in tf.nest.flatten(value, expand_composites=True))
        )

    def __call__(self, raw: Mapping[str, Any], features: tuple[str, ...]) -> dict[str, Any]:
        """The transformed `features` of a batch; raw features that are not given are fed empty.

        The caller gives all of `sources(features)`, so that nothing of the result depends on what is empty.
        """
        import tensorflow as tf

        batch = _batch_size(next(iter(raw.values())))
        fed: dict[str, Any] = {
            name: raw[name] if name in raw else _empty(value, batch) for name, value in self._inputs.items()
        }
        transformed = self._function(*tf.nest.flatten(fed, expand_composites=True))
        return {name: transformed[name] for name in features}


@dataclass(frozen=True)
class Column:
    """How one raw feature looks as a typed column, and how it becomes what the transform graph takes."""

    spec: tf.TensorSpec
    raw: Callable[[tf.Tensor], Any]

    @classmethod
    def of(cls, name: str, feature: Any, single: set[str]) -> Column | None:
        """The column of a feature spec; None when one tensor cannot hold it. `single` features have at most one value."""
        import tensorflow as tf

        if isinstance(feature, tf.io.FixedLenFeature):
            shape = list(feature.shape)
            if math.prod(shape) == 1:
                return cls(
                    tf.TensorSpec([None], feature.dtype, name=name), lambda column: tf.reshape(column, [-1, *shape])
                )
            return cls(tf.TensorSpec([None, *shape], feature.dtype, name=name), lambda column: column)
        if isinstance(feature, tf.io.VarLenFeature):
            if name in single:
                return cls(tf.TensorSpec([None], feature.dtype, name=name), _sparse)
            return cls(
                tf.TensorSpec([None, None], feature.dtype, name=name), lambda column: _packed(column).to_sparse()
            )
        if isinstance(feature, tf.io.RaggedFeature) and not feature.partitions:
            return cls(tf.TensorSpec([None, None], feature.dtype, name=name), _packed)
        return None


def _packed(column: tf.Tensor) -> tf.RaggedTensor:
    """The values of [batch, values] that are there."""
    import tensorflow as tf

    return tf.ragged.boolean_mask(column, _present(column))


def _sparse(column: tf.Tensor) -> tf.SparseTensor:
    """The values of [batch] that are there, as parsing gives them: [batch, 1], or [batch, 0] when there is none."""
    import tensorflow as tf

    rows = tf.where(_present(column))
    widest = tf.minimum(tf.shape(rows, tf.int64)[0], 1)
    shape = tf.stack([tf.shape(column, tf.int64)[0], widest])
    return tf.SparseTensor(tf.pad(rows, [[0, 0], [0, 1]]), tf.gather_nd(column, rows), shape)


def _present(column: tf.Tensor) -> tf.Tensor:
    """Which values are there: bool, of the column's shape."""
    import tensorflow as tf

    if column.dtype == tf.string:
        return column != ""
    if column.dtype.is_floating:
        return tf.logical_not(tf.math.is_nan(column))
    return column != MISSING_INTEGER


def _traced(function: Callable[..., Any], *specs: Any, **named: Any) -> Any:
    import tensorflow as tf

    # Graph code throughout: AutoGraph has nothing to convert and would take its time.
    return tf.function(function, autograph=False).get_concrete_function(*specs, **named)


def _batch_size(tensor: Any) -> tf.Tensor:
    import tensorflow as tf

    if isinstance(tensor, tf.SparseTensor):
        return tensor.dense_shape[0]
    if isinstance(tensor, tf.RaggedTensor):
        return tensor.nrows(out_type=tf.int64)
    return tf.shape(tensor, out_type=tf.int64)[0]


def _empty(like: Any, batch: tf.Tensor) -> Any:
    """A batch without values of what `like` has: no values where they may be missing, zeros where they may not."""
    import tensorflow as tf

    if isinstance(like, tf.SparseTensor):
        rank = like.shape.rank
        shape = tf.concat([[batch], tf.zeros([rank - 1], tf.int64)], axis=0)
        return tf.SparseTensor(tf.zeros([0, rank], tf.int64), tf.zeros([0], like.dtype), shape)
    if isinstance(like, tf.RaggedTensor):
        return tf.RaggedTensor.from_row_lengths(tf.zeros([0], like.dtype), tf.zeros([batch], like.row_splits.dtype))
    shape = [batch, *(size or 1 for size in like.shape[1:])]
    return tf.zeros(shape, like.dtype)


def as_inputs(model: tf_keras.Model, transformed: dict[str, Any]) -> Any:
    """What the model is called with, of the features that it takes: a model with one unnamed input (Sequential) takes the tensor itself."""
    names = getattr(model, "input_names", None)
    return transformed[names[0]] if names and not isinstance(model.input, dict) and len(names) == 1 else transformed


def named_outputs(model: tf_keras.Model, predicted: Any) -> dict[str, Any]:
    """The outputs of a model by the names that its losses, labels and signatures have for them; a single one has ''.

    A model that gives a list and names nothing (a subclassed one) has `output_1`, `output_2`, ..., as in Keras.
    """
    if isinstance(predicted, Mapping):
        return dict(predicted)
    if isinstance(predicted, list | tuple):
        names = getattr(model, "output_names", None) or [f"output_{n + 1}" for n in range(len(predicted))]
        return dict(zip(names, predicted, strict=True))
    return {"": predicted}


def served_outputs(model: tf_keras.Model, predicted: Any) -> dict[str, Any]:
    """The outputs of a model by the names that its serving signatures have for them."""
    import tensorflow as tf

    # Who asks knows nothing of the precision that the network computes with.
    half = (tf.float16, tf.bfloat16)
    predicted = tf.nest.map_structure(lambda one: tf.cast(one, tf.float32) if one.dtype in half else one, predicted)
    named = named_outputs(model, predicted)
    if named.keys() != {""}:
        return named
    last = model.layers[-1] if model.layers else model
    activation = getattr(getattr(last, "activation", None), "__name__", "")
    return {"probabilities" if activation in ("sigmoid", "softmax") else "outputs": predicted}
