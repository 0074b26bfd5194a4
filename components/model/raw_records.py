"""Raw records, TransformGraph -> transformed features, batch by batch: what parsing the transformed records would give."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from schemas.artifacts import TransformGraph
from schemas.errors import ConfigError

if TYPE_CHECKING:
    import tensorflow as tf

Read = Callable[["tf.Tensor"], dict[str, Any]]
"""Serialized records, [batch] -> their transformed features by name."""


class RawRecords:
    """A graph that is loaded once, and applied to as many raw features as are needed."""

    def __init__(self, graph: TransformGraph) -> None:
        import tensorflow as tf
        from tensorflow_transform.saved.saved_transform_io_v2 import SavedModelLoader

        self._graph = graph
        with tf.init_scope(), tf.device("CPU:0"):  # where tf.data looks words up
            self._loaded = SavedModelLoader(str(graph.transform_fn))
        self._inputs = self._loaded._structured_inputs
        self._outputs = self._loaded.structured_outputs

    def read(self, spec: Mapping[str, Any]) -> Read:
        """How to make the transformed features of `spec`, from those raw ones alone that they need.

        Raises ConfigError for raw features that only Transform can read.
        """
        import tensorflow as tf
        from tensorflow.python.eager import wrap_function

        names = sorted(spec)
        raw = self._raw_spec(names)
        outputs = [self._outputs[name] for name in names]
        columns = sorted(raw)
        given = tf.nest.flatten([self._inputs[name] for name in columns], expand_composites=True)
        pruned = wrap_function.WrappedFunction(
            self._loaded._func_graph, variable_holder=wrap_function.VariableHolder(share_variables=True)
        ).prune(given, tf.nest.flatten(outputs, expand_composites=True))

        def read(serialized: tf.Tensor, alive: Any = self._loaded) -> dict[str, Any]:
            parsed = tf.io.parse_example(serialized, raw)
            made = pruned(*tf.nest.flatten([parsed[name] for name in columns], expand_composites=True))
            features = tf.nest.pack_sequence_as(outputs, made, expand_composites=True)
            rows = tf.size(serialized, tf.int64)
            return {name: _as_parsed(one, spec[name], rows) for name, one in zip(names, features, strict=True)}

        return read

    def _raw_spec(self, names: list[str]) -> dict[str, Any]:
        """How to parse the raw features that these transformed ones hang on."""
        from google.protobuf import text_format
        from tensorflow_metadata.proto.v0 import schema_pb2
        from tensorflow_transform import graph_tools, impl_helper
        from tensorflow_transform.tf_metadata import schema_utils

        needed = graph_tools.get_dependent_inputs(
            self._loaded._func_graph, self._inputs, [self._outputs[name] for name in names]
        )
        schema = text_format.Parse(self._graph.raw_schema.read_text(encoding="utf-8"), schema_pb2.Schema())
        every = schema_utils.schema_as_feature_spec(schema).feature_spec
        spec = {name: every[name] for name in sorted(needed) if name in every}
        parsed = impl_helper.get_type_specs_from_feature_specs(spec)
        taken = self._loaded._wrapped_function.structured_input_signature[0][0]
        unread = [
            name for name in sorted(needed) if name not in spec or not parsed[name].is_compatible_with(taken[name])
        ]
        if unread:
            raise ConfigError(
                f"examples: raw examples cannot be transformed while they are trained on, since {', '.join(unread)} can only be "
                f"read by Transform. Set its materialize to true"
            )
        return spec


def _as_parsed(tensor: Any, spec: Any, rows: tf.Tensor) -> Any:
    """A transformed feature in the form in which it comes out of a record that it was written to."""
    import tensorflow as tf

    if isinstance(spec, tf.io.FixedLenFeature):
        return tf.reshape(tensor, [-1, *spec.shape])
    if isinstance(spec, tf.io.VarLenFeature):
        return tf.RaggedTensor.from_value_rowids(
            tensor.values, tensor.indices[:, 0], nrows=rows, validate=False
        ).to_sparse()
    if isinstance(spec, tf.io.RaggedFeature):
        return tensor.with_row_splits_dtype(spec.row_splits_dtype)
    return tf.SparseTensor(tensor.indices, tensor.values, [rows, *tf.nest.flatten(spec.size)])
