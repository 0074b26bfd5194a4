"""TensorFlow Serving's messages and numpy arrays, both ways."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from components.serving.status import invalid

if TYPE_CHECKING:
    import numpy as np

_FIELDS = {  # of a TensorProto, by the name of its type; what is not here goes as bytes
    "float32": "float_val",
    "float64": "double_val",
    "int64": "int64_val",
    "int32": "int_val",
    "int16": "int_val",
    "int8": "int_val",
    "uint8": "int_val",
    "uint16": "int_val",
    "uint32": "uint32_val",
    "uint64": "uint64_val",
    "bool": "bool_val",
    "object": "string_val",
}


def to_array(tensor: Any, name: str, most_bytes: int = 1 << 31) -> np.ndarray[Any, Any]:
    """A TensorProto as an array; strings are bytes in an object array.

    One value may stand for all, as TensorFlow has it, so a small message may mean a large tensor: more than `most_bytes` is
    refused, as are a type that is none and values that do not fill the shape.
    """
    import numpy as np
    from tensorflow.python.framework import dtypes, tensor_util

    try:
        kind = np.dtype(dtypes.as_dtype(tensor.dtype).as_numpy_dtype)
        sizes = [dimension.size for dimension in tensor.tensor_shape.dim]
        if tensor.tensor_shape.unknown_rank or min(sizes, default=0) < 0:
            raise invalid(f"input {name}: its shape is not known in full")
        if math.prod(sizes) * kind.itemsize > most_bytes:
            raise invalid(f"input {name}: a tensor of shape {sizes} is larger than {most_bytes} bytes")
        return np.asarray(tensor_util.MakeNdarray(tensor), dtype=kind)
    except (TypeError, ValueError) as error:
        raise invalid(f"input {name}: not a tensor ({error})") from error


def from_array(array: np.ndarray[Any, Any]) -> Any:
    """A TensorProto with the values in the typed field, as TensorFlow Serving answers, since clients read `float_val`."""
    from tensorflow.python.framework import tensor_util

    field = _FIELDS.get(array.dtype.name)
    if field is None:
        return tensor_util.make_tensor_proto(array)
    from tensorflow.core.framework import tensor_pb2
    from tensorflow.python.framework import dtypes

    kind = dtypes.string if array.dtype == object else dtypes.as_dtype(array.dtype)
    proto = tensor_pb2.TensorProto(dtype=kind.as_datatype_enum)
    for size in array.shape:
        proto.tensor_shape.dim.add(size=size)
    getattr(proto, field).extend(array.ravel().tolist())
    return proto


def examples(given: Any) -> list[bytes]:
    """The tf.Examples of an Input, serialized, each with the context if there is one."""
    if given.WhichOneof("kind") == "example_list_with_context":
        context = given.example_list_with_context.context.SerializeToString()
        # Joined bytes of two messages are their merge.
        return [context + example.SerializeToString() for example in given.example_list_with_context.examples]
    return [example.SerializeToString() for example in given.example_list.examples]
