"""Tensors of a graph -> a digest of all that their values hang on but the data.

TFT's own cache key does not tell x + 2 from x * 2, or lower case from upper case: of an operation it counts the attributes
only, not which one it is.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from components.features.tracing import Tracing

# What they give is decided outside of the graph.
_OPAQUE = ("PyFunc", "PyFuncStateless", "EagerPyFunc", "Placeholder", "PlaceholderWithDefault")
# TensorFlow takes them for stateful, and what they give is in the graph all the same; what else is stateful draws random numbers.
_SETTLED = (
    "LookupTableFindV2",
    "LookupTableSizeV2",
    "StatefulPartitionedCall",
    "If",
    "While",
    "Case",
    "Assert",
    "PrintV2",
)
# How a function is run, not what it does.
_RUN = ("config", "config_proto", "executor_type")


def digests(tracing: Tracing) -> Callable[[Sequence[Any]], str | None]:
    """Tensors of the graph -> their digest; None where some of it is not in the graph: a variable, Python code, chance.

    A lookup table counts by what it holds.
    """
    import numpy as np
    import tensorflow as tf

    graph = tracing.graph
    library = {function.signature.name: function for function in graph.as_graph_def().library.function}
    functions = _Functions(library)
    given: dict[str, str | None] = {
        component.op.name: f"feature {name} {number}"
        for name, feature in tracing.inputs.items()
        for number, component in enumerate(tf.nest.flatten(feature, expand_composites=True))
    }
    for outside, inside in graph.captures:
        known = isinstance(outside, tf.Tensor) and outside.dtype not in (tf.resource, tf.variant)
        given[inside.op.name] = (
            _hashed(outside.dtype.name, repr(np.asarray(outside.numpy()).tolist()))
            if known
            else _table(outside, inside)
        )
    found: dict[str, str | None] = {}
    for operation in graph.get_operations():  # in the order they were made, so inputs come first
        if operation.name in given:
            found[operation.name] = given[operation.name]
            continue
        inputs = [_joined(found.get(tensor.op.name), str(tensor.value_index)) for tensor in operation.inputs]
        found[operation.name] = _joined(_operation(operation.type, operation.node_def.attr, functions), *inputs)
    return lambda tensors: _joined(*(_joined(found[tensor.op.name], str(tensor.value_index)) for tensor in tensors))


def digest_of(tracing: Tracing) -> str | None:
    """The digest of everything that the function gives, by name; None where `digests` gives none of some of it."""
    import tensorflow as tf

    digest = digests(tracing)
    parts = [
        (name, type(output).__name__, digest(tf.nest.flatten(output, expand_composites=True)))
        for name, output in sorted(tracing.outputs.items())
    ]
    return _joined(*(part for described in parts for part in described))


def described(settings: Mapping[str, Any]) -> str | None:
    """Settings of an analyzer as text that is the same in every process; None where there is no such text."""
    parts = [f"{name}={_text(value)}" for name, value in sorted(settings.items()) if not inspect.ismethod(value)]
    text = ", ".join(parts)
    return None if " at 0x" in text or "<lambda>" in text else text


def _text(value: Any) -> str:
    if isinstance(value, functools.partial):
        return f"{_text(value.func)}({value.args}, {value.keywords})"
    if callable(value):
        return f"{value.__module__}.{value.__qualname__}"
    return repr(value.tolist()) if hasattr(value, "tolist") else repr(value)


def _table(handle: Any, inside: Any) -> str | None:
    """What a lookup table holds, whatever the order; None for another resource, and for a table that nobody looks up."""
    import tensorflow as tf

    lookup = next((one for one in inside.consumers() if one.type == "LookupTableFindV2"), None)
    if lookup is None:
        return None
    kinds = lookup.get_attr("Tin"), lookup.get_attr("Tout")
    try:
        keys, values = tf.raw_ops.LookupTableExportV2(table_handle=handle, Tkeys=kinds[0], Tvalues=kinds[1])
    except tf.errors.OpError:
        return None
    pairs = sorted(zip(keys.numpy().tolist(), values.numpy().tolist(), strict=True))
    return _hashed("table", *(kind.name for kind in kinds), repr(pairs))


class _Functions:
    """The functions of a graph, by digests without any names, which are numbered anew with each tracing."""

    def __init__(self, library: Mapping[str, Any]) -> None:
        self._library = library
        self._found: dict[str, str | None] = {}

    def __call__(self, name: str) -> str | None:
        if name not in self._found:
            self._found[name] = self._digest(self._library[name]) if name in self._library else None
        return self._found[name]

    def _digest(self, function: Any) -> str | None:
        arguments = function.signature.input_arg
        found: dict[str, str | None] = {
            argument.name: f"argument {number} {argument.type}" for number, argument in enumerate(arguments)
        }
        waiting = list(function.node_def)
        while waiting:
            later = []
            for node in waiting:
                inputs = [name.partition(":") for name in node.input if not name.startswith("^")]
                if all(name in found for name, _, _ in inputs):
                    given = [_joined(found[name], output) for name, _, output in inputs]
                    found[node.name] = _joined(_operation(node.op, node.attr, self), *given)
                else:
                    later.append(node)
            if len(later) == len(waiting):
                return None
            waiting = later
        results = [function.ret[result.name].partition(":") for result in function.signature.output_arg]
        return _joined(*(_joined(found[name], output) for name, _, output in results))


def _operation(kind: str, attributes: Mapping[str, Any], functions: Callable[[str], str | None]) -> str | None:
    """The operation by itself, without its inputs."""
    from tensorflow.python.framework import op_def_registry

    known = op_def_registry.get(kind)  # None for a function that is called by its name
    if kind in _OPAQUE or (known is not None and known.is_stateful and kind not in _SETTLED):
        return None
    parts: list[str | None] = [kind]
    for name, value in sorted(attributes.items()):
        if name.startswith("_") or name in _RUN:
            continue
        called = [value.func, *value.list.func] if value.HasField("func") else list(value.list.func)
        parts += [name, *(functions(function.name) for function in called)]
        if not called:
            parts.append(value.SerializeToString(deterministic=True).hex())
    return _joined(*parts)


def _joined(*parts: str | None) -> str | None:
    known = [part for part in parts if part is not None]
    return _hashed(*known) if len(known) == len(parts) else None


def _hashed(*parts: str) -> str:
    return hashlib.sha256("\0".join(f"{len(part)} {part}" for part in parts).encode()).hexdigest()
