"""SavedModels: a directory that TensorFlow, TensorFlow Serving and TFMA open."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from schemas.errors import ArtifactError

if TYPE_CHECKING:
    import tensorflow as tf

SERVING_DEFAULT = "serving_default"  # the signature a client gets when it names none
FILE = "saved_model.pb"  # without it nothing loads
SERVE = "serve"  # the tag that TensorFlow Serving looks for


@dataclass(frozen=True)
class Signature:
    """One function that a server can be asked to call: the names of what it takes and gives, sorted."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def exists(path: Path) -> bool:
    """Whether `path` holds a SavedModel."""
    return (path / FILE).is_file()


def signatures(path: Path) -> dict[str, Signature]:
    """The signatures of the SavedModel at `path`, by name. Nothing of the graph is loaded.

    Raises ArtifactError when there is no SavedModel, it cannot be read, or nothing in it has the tag `serve`.
    """
    graph = _serving_graph(path)
    return {
        name: Signature(tuple(sorted(signature.inputs)), tuple(sorted(signature.outputs)))
        for name, signature in sorted(graph.signature_def.items())
        if not name.startswith("__")
    }


def unregistered_ops(path: Path) -> tuple[str, ...]:
    """The operations of the SavedModel at `path`, those inside functions too, that this process's TensorFlow does not have.

    What a library of custom operations has added to the process counts as TensorFlow's. Raises ArtifactError as `signatures`.
    """
    from tensorflow.python.framework import op_def_registry

    graph = _serving_graph(path).graph_def
    functions = graph.library.function
    used = {node.op for node in graph.node} | {node.op for function in functions for node in function.node_def}
    used -= {function.signature.name for function in functions}  # a call by name is an operation, too
    return tuple(sorted(op for op in used if op_def_registry.get(op) is None))


def tensors(path: Path, signature: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """JSON of a signature's inputs and of its outputs, each sorted: `name`, `type` and `shape`, -1 for any size.

    Raises ArtifactError when there is no SavedModel or it lacks the signature.
    """
    found = _serving_graph(path).signature_def
    if signature not in found:
        raise ArtifactError(f"{path} has no signature '{signature}': it has {', '.join(sorted(found)) or 'none'}")
    from tensorflow.core.framework import types_pb2

    def described(infos: Mapping[str, Any]) -> list[dict[str, Any]]:
        return [
            {
                "name": name,
                "type": types_pb2.DataType.Name(info.dtype).removeprefix("DT_").lower(),
                "shape": [size.size for size in info.tensor_shape.dim],
            }
            for name, info in sorted(infos.items())
        ]

    return described(found[signature].inputs), described(found[signature].outputs)


def load(path: Path) -> Any:
    """The SavedModel at `path`, loaded as a server does; its signatures are in `.signatures`.

    Raises ArtifactError when it is not there, lacks the tag `serve`, or TensorFlow cannot load it.
    """
    _serving_graph(path)
    import tensorflow as tf  # slow to import

    try:
        return tf.saved_model.load(str(path), tags=[SERVE])
    except (tf.errors.OpError, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = str(error).strip().splitlines()
        raise ArtifactError(
            f"{path}: TensorFlow cannot load this SavedModel ({type(error).__name__}: {reason[0] if reason else ''}). "
            f"Train the model again"
        ) from error


def save(module: tf.Module, path: Path, signatures: Mapping[str, Any]) -> None:
    """Write `module`, with everything that the concrete functions `signatures` capture tracked in it, once."""
    import tensorflow as tf

    # The names of Python functions in the graph help nobody who serves it and change with every run.
    options = tf.saved_model.SaveOptions(save_debug_info=False)
    tf.saved_model.save(module, str(path), signatures=dict(signatures), options=options)


def _serving_graph(path: Path) -> Any:
    """The MetaGraphDef that is tagged `serve`."""
    if not exists(path):
        raise ArtifactError(f"{path} has no saved_model.pb: it is not a SavedModel. Train the model again")
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf import saved_model_pb2

    file = path / "saved_model.pb"
    model = saved_model_pb2.SavedModel()
    try:
        model.ParseFromString(file.read_bytes())
    except DecodeError as error:
        raise ArtifactError(f"{file}: not a SavedModel, or cut short ({error}). Train the model again") from error
    tags = [sorted(graph.meta_info_def.tags) for graph in model.meta_graphs]
    for graph, tagged in zip(model.meta_graphs, tags, strict=True):
        if SERVE in tagged:
            return graph
    found = "; ".join(", ".join(tagged) or "no tag" for tagged in tags) or "no graph at all"
    raise ArtifactError(f"{file}: nothing in it has the tag '{SERVE}' (found: {found}). Export it with signatures")
