"""One loaded version of a model: its signatures, called as TensorFlow Serving calls them, in a session of its own."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.io import saved_model
from schemas.errors import ArtifactError

if TYPE_CHECKING:
    import numpy as np

Arrays = Mapping[str, "np.ndarray[Any, Any]"]

_VARIABLES = frozenset({"VarHandleOp", "VariableV2", "Variable"})


@dataclass(frozen=True)
class TensorInfo:
    """One input or output: the tensor's name in the graph, its type, and its shape, -1 where any size goes, None for any rank.

    `type_name` is TensorFlow's name of the type, `float` for float32. The numpy type of strings is object, holding bytes.
    """

    tensor: str
    dtype: np.dtype[Any]
    type_name: str
    shape: tuple[int, ...] | None


@dataclass(frozen=True)
class Signature:
    """One function of the model; inputs and outputs are sorted by name."""

    name: str
    inputs: Mapping[str, TensorInfo]
    outputs: Mapping[str, TensorInfo]

    @cached_property
    def by_rows(self) -> bool:
        """Whether everything it takes and gives has a first dimension of any size, so that rows of several calls may be one call."""
        tensors = (*self.inputs.values(), *self.outputs.values())
        return all(tensor.shape is not None and tensor.shape[:1] == (-1,) for tensor in tensors)


class Servable:
    """A version that can be asked. Threads may call it together.

    Who uses it beyond the moment of looking it up does so between `acquire` and `release`: a retired servable is closed when
    its last user has released it.
    """

    def __init__(self, name: str, version: int, session: Any, meta_graph: Any) -> None:
        self.name = name
        self.version = version
        self.signature_defs: Mapping[str, Any] = dict(
            meta_graph.signature_def
        )  # as in the SavedModel, for GetModelMetadata
        self.signatures = {
            key: Signature(key, inputs, outputs)
            for key, definition in meta_graph.signature_def.items()
            if (inputs := _tensors(definition.inputs)) and (outputs := _tensors(definition.outputs))
        }
        self.closed = False
        self._session = session
        self._callables: dict[str, Any] = {}
        self._lock = threading.Lock()
        self._users = 0
        self._retired = False
        if saved_model.SERVING_DEFAULT in self.signatures:
            self._callable(self.signatures[saved_model.SERVING_DEFAULT])

    def run(self, signature: Signature, inputs: Arrays) -> dict[str, np.ndarray[Any, Any]]:
        """All outputs of `signature` for inputs whose names, types and shapes fit it. Raises TensorFlow's OpError."""
        import numpy as np

        function = self._callables.get(signature.name) or self._callable(signature)
        outputs = function(*(inputs[name] for name in signature.inputs))
        return {name: np.asarray(value) for name, value in zip(signature.outputs, outputs, strict=True)}

    def acquire(self) -> bool:
        """Keep it open until `release`. False when it is closed already: look the model up again."""
        with self._lock:
            if self.closed:
                return False
            self._users += 1
            return True

    def release(self) -> None:
        """Undo one `acquire`."""
        with self._lock:
            self._users -= 1
            self._close_if_unused()

    def retire(self) -> None:
        """Close it, now or when the last request that uses it is answered."""
        with self._lock:
            self._retired = True
            self._close_if_unused()

    def _close_if_unused(self) -> None:
        if self._retired and not self._users and not self.closed:
            self.closed = True
            self._callables.clear()
            self._session.close()

    def _callable(self, signature: Signature) -> Any:
        from tensorflow.core.protobuf import config_pb2

        with self._lock:
            if signature.name not in self._callables:
                options = config_pb2.CallableOptions(
                    feed=[tensor.tensor for tensor in signature.inputs.values()],
                    fetch=[tensor.tensor for tensor in signature.outputs.values()],
                )
                # In the caller's thread: handing a small graph to other threads takes longer than running it.
                options.run_options.inter_op_thread_pool = -1
                # The only way to a session that does not build a feed dictionary for every call.
                self._callables[signature.name] = self._session._make_callable_from_options(options)
            return self._callables[signature.name]


def load(name: str, version: int, path: Path) -> Servable:
    """The SavedModel at `path`, its variables and tables ready.

    Raises ArtifactError when it is not one, lacks the tag `serve` or a file, or TensorFlow cannot load it.
    """
    saved_model.signatures(path)  # says better than TensorFlow what is wrong with the file
    import tensorflow as tf
    from tensorflow.python.saved_model.loader_impl import SavedModelLoader

    graph = tf.Graph()
    session = tf.compat.v1.Session(graph=graph)
    try:
        with graph.as_default():
            meta_graph = SavedModelLoader(str(path)).load(session, [saved_model.SERVE])
        if not (path / "variables" / "variables.index").is_file() and any(
            operation.type in _VARIABLES for operation in graph.get_operations()
        ):
            raise ArtifactError(
                f"{path}: the model has variables, and variables/variables.index is not there. Push it again"
            )
        return Servable(name, version, session, meta_graph)
    except (tf.errors.OpError, OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        session.close()
        reason = str(error).strip().splitlines()
        raise ArtifactError(
            f"{path}: TensorFlow cannot load this SavedModel ({type(error).__name__}: {reason[0] if reason else ''}). "
            f"Push it again"
        ) from error
    except ArtifactError:
        session.close()
        raise


def _tensors(infos: Mapping[str, Any]) -> dict[str, TensorInfo]:
    """Inputs or outputs by name; nothing when one of them is not a plain tensor."""
    import numpy as np
    import tensorflow as tf

    found = {}
    for name, info in sorted(infos.items()):
        if not info.name:
            return {}
        kind = tf.dtypes.as_dtype(info.dtype)
        shape = info.tensor_shape
        sizes = None if shape.unknown_rank else tuple(dimension.size for dimension in shape.dim)
        found[name] = TensorInfo(info.name, np.dtype(kind.as_numpy_dtype), kind.name.replace("float32", "float"), sizes)
    return found
