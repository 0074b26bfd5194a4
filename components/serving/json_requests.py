"""TensorFlow Serving's JSON -> arrays and tf.Examples, with its words for what does not fit.

The forms are those of https://www.tensorflow.org/tfx/serving/api_rest: rows (`instances`), columns (`inputs`), `examples` with a
`context`, bytes as `{"b64": "..."}`, and the tokens NaN, Infinity and -Infinity.
"""

from __future__ import annotations

import binascii
import json
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

import orjson

from components.serving.servable import Servable, Signature, TensorInfo
from components.serving.status import Code, Unanswered, invalid

if TYPE_CHECKING:
    import numpy as np

_SHOWN = 256  # characters of a value in an error
_DEEPEST = 32  # dimensions, numpy's own limit
_INTEGERS = frozenset({"int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"})
_KINDS = {  # the JSON types that a tensor's type takes
    "float": frozenset({int, float}),
    "float64": frozenset({int, float}),
    "bool": frozenset({bool}),
    "string": frozenset({str, dict}),
    **dict.fromkeys(_INTEGERS, frozenset({int})),
}
_NAMES = {type(None): "Null", dict: "Object", list: "Array", str: "String", int: "Number", float: "Number"}


def parse(body: bytes) -> dict[str, Any]:
    """The JSON object that a request is. Raises Unanswered, INVALID_ARGUMENT, when it is none."""
    if not body:
        raise invalid("JSON Parse error: The document is empty")
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        document = _parse_generously(body)
    if type(document) is not dict:
        raise invalid(f"JSON Value: {_shown(document)} Is not object")
    return document


def predict_request(
    document: Mapping[str, Any], servable: Servable
) -> tuple[Signature, dict[str, np.ndarray[Any, Any]], bool]:
    """The signature that a predict request names, its inputs, and whether they came in rows."""
    name = signature_name(document) or "serving_default"
    signature = servable.signatures.get(name)
    if signature is None:
        raise invalid(f'Serving signature name: "{name}" not found in signature def')
    rows = document.get("instances", _ABSENT)
    columns = document.get("inputs", _ABSENT)
    if rows is not _ABSENT and columns is not _ABSENT:
        raise invalid(
            f"JSON Value: {_shown(document)} Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist "
        )
    if rows is not _ABSENT:
        if type(rows) is not list:
            raise invalid(f"JSON Value: {_shown(document)} Expecting 'instances' to be an list/array")
        if not rows:
            raise invalid(f"JSON Value: {_shown(document)} No values in 'instances' array")
        return signature, _from_rows(rows, signature), True
    if columns is not _ABSENT:
        return signature, _from_columns(columns, signature), False
    raise invalid("Missing 'inputs' or 'instances' key")


def signature_name(document: Mapping[str, Any]) -> str:
    """The signature that a request names, empty when it names none."""
    name = document.get("signature_name", "")
    if type(name) is not str:
        raise invalid(
            f"JSON Value: {_shown(document)} not formatted correctly. 'signature_name' key must be a string value."
        )
    return name


def examples(document: Mapping[str, Any]) -> list[bytes]:
    """The serialized tf.Examples of a classify or regress request, each with the context if there is one."""
    # Joined bytes of two messages are their merge.
    context = _example(document["context"]) if "context" in document else b""
    given = document.get("examples", _ABSENT)
    if given is _ABSENT:
        raise invalid(
            f"JSON Value: {_shown(document)} When method is classify, key 'examples' is expected and was not found"
        )
    if type(given) is not list:
        raise invalid(f"JSON Value: {_shown(document)} Expecting 'examples' value to be an list/array")
    if not given:
        raise invalid(f"JSON Value: {_shown(document)} 'examples' value is an empty array")
    return [context + _example(one) for one in given]


_ABSENT = object()


def _parse_generously(body: bytes) -> Any:
    """What strict JSON is not: with NaN and Infinity, and with anything after the document's end."""
    try:
        text = body.decode()
        return json.JSONDecoder().raw_decode(text, len(text) - len(text.lstrip()))[0]
    except UnicodeDecodeError as error:
        raise invalid(f"JSON Parse error: Invalid encoding in string. at offset: {error.start}") from error
    except json.JSONDecodeError as error:
        raise invalid(f"JSON Parse error: {error.msg} at offset: {error.pos}") from error
    except (RecursionError, ValueError) as error:  # lists in lists in lists; an integer of thousands of digits
        raise invalid(f"JSON Parse error: {error}") from error


def _from_rows(rows: list[Any], signature: Signature) -> dict[str, np.ndarray[Any, Any]]:
    """`instances`: objects with one key per input, or bare values when there is one input."""
    inputs = signature.inputs
    if not _is_object(rows[0]):
        if len(inputs) > 1:
            raise invalid(
                "instances is a plain list, but expecting list of objects as multiple input tensors required as per "
                "tensorinfo_map"
            )
        ((name, info),) = inputs.items()
        try:
            return {name: _column(rows, info, "")}
        except Unanswered:
            for place, row in enumerate(rows):
                if _is_object(row):
                    raise invalid(f"Expecting value/list but got object at item {place} of input list") from None
            raise
    for place, row in enumerate(rows):
        if not _is_object(row):
            raise invalid(f"Expecting object but got list at item {place} of input list")
        if row.keys() != inputs.keys():
            _refuse_keys(row, place, inputs)
    return {name: _column([row[name] for row in rows], info, f" key: {name}") for name, info in inputs.items()}


def _refuse_keys(row: Mapping[str, Any], place: int, inputs: Mapping[str, TensorInfo]) -> None:
    for name in row:
        if name not in inputs:
            raise invalid(
                f"Failed to process element: {place} key: {name} of 'instances' list. Error: INVALID_ARGUMENT: "
                f"JSON object: does not have named input: {name}"
            )
    raise invalid(
        f"Failed to process element: {place} of 'instances' list. JSON object: {_shown(row)} keys must be equal to: "
        f"{','.join(inputs)}"
    )


def _column(values: list[Any], info: TensorInfo, key: str) -> np.ndarray[Any, Any]:
    """One input of all rows. What is wrong is said of the first row that is."""
    try:
        return _array(values, info)
    except Unanswered:
        first: tuple[int, ...] | None = None
        for place, value in enumerate(values):
            where = f"Failed to process element: {place}{key} of 'instances' list. Error: "
            try:
                array = _array(value, info)
            except Unanswered as error:
                raise Unanswered(error.code, f"{where}{error.code.name}: {error.message}") from error
            first = array.shape if first is None else first
            if array.shape != first:
                raise invalid(
                    f"{where}INVALID_ARGUMENT: Expecting shape {_shape(first)} but got: {_shape(array.shape)}"
                ) from None
        raise


def _from_columns(columns: Any, signature: Signature) -> dict[str, np.ndarray[Any, Any]]:
    """`inputs`: an object with one key per input, or a bare value when there is one input."""
    inputs = signature.inputs
    if not _is_object(columns):
        if len(inputs) > 1:
            raise invalid(
                "inputs is a plain value/list, but expecting an object as multiple input tensors required as per "
                "tensorinfo_map"
            )
        ((name, info),) = inputs.items()
        return {name: _array(columns, info)}
    for name in inputs:
        if name not in columns:
            raise invalid(f"Missing named input: {name} in 'inputs' object.")
    return {name: _array(columns[name], info) for name, info in inputs.items()}


def _array(value: Any, info: TensorInfo) -> np.ndarray[Any, Any]:
    """A value or nested lists of values as an array, a whole level at a time."""
    leaves: list[Any] = [value]
    shape: list[int] = []
    while leaves and type(leaves[0]) is list:
        if len(shape) == _DEEPEST:
            raise invalid(f"Encountered list at unexpected level: {_DEEPEST} expected < {_DEEPEST}")
        sizes = set(map(len, leaves)) if set(map(type, leaves)) == {list} else ()
        if len(sizes) != 1:
            _refuse_ragged(value)
        shape.append(len(leaves[0]))
        leaves = leaves[0] if len(leaves) == 1 else list(chain.from_iterable(leaves))
    return _leaves(leaves, info, len(shape)).reshape(shape)


def _leaves(values: list[Any], info: TensorInfo, depth: int) -> np.ndarray[Any, Any]:
    import numpy as np

    taken = _KINDS.get(info.type_name)
    if taken is None:
        raise Unanswered(
            Code.UNIMPLEMENTED,
            f"Conversion of JSON Value: {_shown(values[0] if values else [])} to type: {info.type_name}",
        )
    if not taken.issuperset(map(type, values)):
        wrong = next(value for value in values if type(value) not in taken)
        if type(wrong) is list:
            raise invalid(f"Encountered list at unexpected level: {depth} expected < {depth}")
        raise _wrong_type(wrong, info)
    if info.type_name == "string":
        out = np.empty(len(values), dtype=object)
        out[:] = [_bytes(value) for value in values]
        return out
    try:
        if info.type_name not in _INTEGERS:
            with np.errstate(over="ignore"):  # beyond float32 is infinity
                return np.array(values, dtype=info.dtype)
        wide = np.array(values, dtype=np.uint64 if info.type_name == "uint64" else np.int64)
    except OverflowError as error:
        raise _wrong_type(max(values, key=abs), info) from error
    narrow = wide.astype(info.dtype)
    if not np.array_equal(narrow, wide):
        raise _wrong_type(values[int(np.argmax(narrow != wide))], info)
    return narrow


def _bytes(value: Any) -> bytes:
    """A string as UTF-8, or what {"b64": "..."} holds."""
    if type(value) is str:
        try:
            return value.encode()
        except UnicodeEncodeError as error:  # half of a surrogate pair
            raise invalid(f"JSON Value: {_shown(value)} is not Unicode ({error.reason})") from error
    if not _is_base64(value):
        raise invalid(f"JSON Value: {_shown(value)} not formatted correctly for base64 data")
    return _decoded(value["b64"])


def _decoded(text: str) -> bytes:
    """Base64 with or without its padding, as TensorFlow Serving takes it."""
    try:
        return binascii.a2b_base64(text + "=" * (-len(text) % 4), strict_mode=True)
    except (binascii.Error, ValueError) as error:
        raise invalid("Unable to base64 decode") from error


def _is_base64(value: Any) -> bool:
    return type(value) is dict and len(value) == 1 and type(value.get("b64")) is str


def _is_object(value: Any) -> bool:
    return type(value) is dict and not _is_base64(value)


def _refuse_ragged(value: list[Any]) -> None:
    """Raise what is wrong with lists that do not make a tensor; their first elements say what shape was meant."""
    shape: list[int] = []
    first: Any = value
    while type(first) is list and len(shape) <= _DEEPEST:
        shape.append(len(first))
        first = first[0] if first else None

    def walk(one: Any, level: int) -> None:
        if type(one) is not list:
            if level != len(shape):
                raise invalid(
                    f"JSON Value: {_shown(one)} found at incorrect level: {level + 1} in the JSON DOM. "
                    f"Expected at level: {len(shape)}"
                )
            return
        if level >= len(shape):
            raise invalid(f"Encountered list at unexpected level: {level} expected < {len(shape)}")
        if len(one) != shape[level]:
            raise invalid(
                f"Encountered list at unexpected size: {len(one)} at level: {level} expected size: {shape[level]}"
            )
        for part in one:
            walk(part, level + 1)

    walk(value, 0)
    raise invalid(f"JSON Value: {_shown(value)} is not a tensor")


def _example(value: Any) -> bytes:
    """One serialized tf.Example: whole numbers and booleans are int64, other numbers floats, strings and b64 bytes."""
    import tensorflow as tf

    if type(value) is not dict:
        raise invalid(f"Example must be JSON object but got JSON {_named(value)}")
    example = tf.train.Example()
    features = example.features.feature
    for name, content in value.items():
        _fill(features[name], content if type(content) is list else [content], name)
    return bytes(example.SerializeToString())


def _fill(feature: Any, values: Sequence[Any], name: str) -> None:
    kinds = set(map(type, values))
    try:
        if kinds <= {int, bool}:
            if values:
                feature.int64_list.value.extend(values)
        elif kinds == {float}:
            feature.float_list.value.extend(values)
        elif kinds <= {str, dict} and all(type(value) is str or _is_base64(value) for value in values):
            feature.bytes_list.value.extend([_bytes(value) for value in values])
        elif odd := [value for value in values if type(value) in (type(None), list) or _is_object(value)]:
            raise invalid(f"Feature: {name} has element with unexpected JSON type: {_named(odd[0])}")
        else:
            expected = {int: "int64", bool: "int64", float: "float", str: "bytes", dict: "bytes"}[type(values[0])]
            raise invalid(f"Unexpected element type in feature: {name} expecting type: {expected}")
    except ValueError as error:
        raise invalid(f"Feature: {name} has uint64_t element. Only int64_t is supported.") from error


def _wrong_type(value: Any, info: TensorInfo) -> Unanswered:
    kind = "double" if info.type_name == "float64" else info.type_name
    return invalid(f"JSON Value: {_shown(value)} Type: {_named(value)} is not of expected type: {kind}")


def _named(value: Any) -> str:
    """The JSON type of a value."""
    return str(value) if type(value) is bool else _NAMES[type(value)]


def _shape(sizes: tuple[int, ...]) -> str:
    return f"[{','.join(map(str, sizes))}]"


def _shown(value: Any) -> str:
    """A value in an error, no longer than TensorFlow Serving shows it."""
    text = ""
    try:
        for part in json.JSONEncoder().iterencode(value):
            text += part
            if len(text) >= _SHOWN:
                break
    except RecursionError:  # deeper than Python goes; what it begins with says enough
        pass
    return text[:_SHOWN]
