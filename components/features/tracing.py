"""preprocessing_fn -> TensorFlow graphs of it, by TFT's own tracing."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

# What follows leans on private names of TFT 1.16: how it traces, and how a graph knows what takes an analyzer's place.


@dataclass(frozen=True)
class Binding:
    """What takes the place of an analyzer's tensor: its value, which for a vocabulary is the path of its file."""

    value: Any
    dtype: int  # a tf.DType as its enum


@dataclass(frozen=True)
class Tracing:
    """preprocessing_fn as a TensorFlow graph, with what is known so far in the place of its analyzers."""

    graph: Any
    inputs: Mapping[str, Any]  # placeholders by feature
    outputs: Mapping[str, Any]
    alive: Any = field(repr=False)  # what the graph refers to without owning it: tables, variables

    def needed(self, tensors: Sequence[Any]) -> list[str]:
        """The raw features that `tensors` depend on, sorted."""
        from tensorflow_transform import graph_tools

        return sorted(graph_tools.get_dependent_inputs(self.graph, self.inputs, list(tensors)))

    def function(self, columns: Sequence[str], wanted: Mapping[str, Any]) -> Function:
        """The part of the graph that makes `wanted` from the features `columns`."""
        import tensorflow as tf
        from tensorflow.python.eager import wrap_function

        names = sorted(wanted)
        tensors = [wanted[name] for name in names]
        holder = wrap_function.VariableHolder(share_variables=True)
        pruned = wrap_function.WrappedFunction(self.graph, variable_holder=holder).prune(
            tf.nest.flatten([self.inputs[name] for name in columns], expand_composites=True),
            tf.nest.flatten(tensors, expand_composites=True),
        )

        def call(features: Mapping[str, Any], alive: Any = self.alive) -> dict[str, Any]:
            given = tf.nest.flatten([features[name] for name in columns], expand_composites=True)
            made = tf.nest.pack_sequence_as(tensors, pruned(*given), expand_composites=True)
            return dict(zip(names, made, strict=True))

        return call


Function = Callable[[Mapping[str, Any]], Mapping[str, Any]]
"""A batch of raw features by name -> tensors by name."""


class InThisProcess:
    """A function that is traced already where the step runs, and made anew, once, in a worker elsewhere.

    Beam pickles what a transform holds. Pickled, this is its key and how to make it.
    """

    _made: ClassVar[dict[str, Any]] = {}
    _making: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self, make: Callable[[], Function]) -> None:
        self._key, self._make = uuid.uuid4().hex, make

    @contextmanager
    def holding(self, function: Function) -> Iterator[InThisProcess]:
        """While the block lasts, `function` is what this process has."""
        self._made[self._key] = function
        try:
            yield self
        finally:
            self._made.pop(self._key, None)

    def __call__(self, features: Mapping[str, Any]) -> Mapping[str, Any]:
        with self._making:  # a worker may have several shards in hand at once
            function: Function | None = self._made.get(self._key)
            if function is None:
                function = self._made[self._key] = self._make()
        return function(features)


def trace(
    preprocessing: Callable[..., Any], specs: Mapping[str, Any], temporary: Path, found: Mapping[str, Binding]
) -> Tracing:
    """Trace the function once, with `found` by the names of the analyzers' tensors."""
    import tensorflow as tf
    from tensorflow_transform import annotators, impl_helper
    from tensorflow_transform.saved import saved_transform_io_v2

    module = tf.Module()
    traced = impl_helper.get_traced_transform_fn(preprocessing, dict(specs), context_with(module, temporary, found))
    resources, objects = saved_transform_io_v2.tracking.ResourceTracker(), annotators.ObjectTracker()
    with (
        saved_transform_io_v2.tracking.resource_tracker_scope(resources),
        annotators.object_tracker_scope(objects),
    ):
        concrete = traced.get_concrete_function()
    return tracing_of(concrete, (module, resources, objects))


def context_with(module: Any, temporary: Path, found: Mapping[str, Binding]) -> Any:
    import tensorflow as tf
    from tensorflow_transform import graph_context

    constants = {name: tf.constant(binding.value, tf.dtypes.as_dtype(binding.dtype)) for name, binding in found.items()}
    return graph_context.TFGraphContext(
        module_to_export=module, temp_dir=str(temporary), evaluated_replacements=constants
    )


def tracing_of(concrete: Any, alive: Any) -> Tracing:
    from tensorflow_transform import tf2_utils

    inputs = tf2_utils.get_structured_inputs_from_func_graph(concrete.graph)
    return Tracing(concrete.graph, inputs, concrete.structured_outputs, (concrete, alive))
