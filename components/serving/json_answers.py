"""Arrays -> TensorFlow Serving's JSON: the shortest decimals that are the same float32, bytes as b64, NaN and Infinity as such."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import orjson

from components.serving.servable import Arrays
from components.serving.status import Code, Unanswered, invalid

if TYPE_CHECKING:
    import numpy as np

_NUMBERS = "biuf"  # numpy's kinds that JSON has a form for


def predictions(outputs: Arrays, in_rows: bool) -> bytes:
    """`predictions` for a request in rows, `outputs` for one in columns; a single output drops its name.

    Raises Unanswered when rows are asked for and the outputs' first dimensions differ, and for a type that JSON cannot hold.
    """
    if not in_rows:
        columns = {name: _values(name, array) for name, array in outputs.items()}
        return _document("outputs", next(iter(columns.values())) if len(columns) == 1 else columns)
    rows = -1
    for name, array in outputs.items():
        if array.ndim == 0:
            raise invalid(f"Tensor name: {name} has no shape information ")
        if rows not in (-1, len(array)):
            raise invalid(f"Tensor name: {name} has inconsistent batch size: {len(array)} expecting: {rows}")
        rows = len(array)
    columns = {name: _values(name, array) for name, array in outputs.items()}
    if len(columns) == 1:
        return _document("predictions", next(iter(columns.values())))
    parts = zip(*columns.values(), strict=True)
    return _document("predictions", [dict(zip(columns, part, strict=True)) for part in parts])


def classification(results: Sequence[Sequence[tuple[bytes, float]]]) -> bytes:
    """`results`: per example a list of [label, score]."""
    return _document("results", [[[_text("label", label), score] for label, score in one] for one in results])


def regression(values: np.ndarray[Any, Any]) -> bytes:
    """`results`: a number per example."""
    return _document("results", _values("outputs", values))


def error(message: str) -> bytes:
    """The body of every answer that is not one."""
    return orjson.dumps({"error": message.encode(errors="replace").decode()})


def _document(key: str, value: Any) -> bytes:
    text = orjson.dumps({key: value}, option=orjson.OPT_SERIALIZE_NUMPY)
    # orjson writes null where a number is none; no array or string gives a null of its own.
    return json.dumps({key: _plain(value)}).encode() if b"null" in text and not _finite(value) else text


def _values(name: str, array: np.ndarray[Any, Any]) -> Any:
    """What orjson writes as the array."""
    import numpy as np

    if array.dtype.kind in _NUMBERS:
        return np.ascontiguousarray(array) if array.ndim else array[()]
    if array.dtype != object:
        raise invalid(f"Failed to write JSON value for tensor type: {array.dtype}")
    form = _base64 if name.endswith("_bytes") else _text
    flat = [form(name, value) for value in array.ravel().tolist()]
    if array.ndim <= 1:
        return flat if array.ndim else flat[0]
    nested = np.empty(len(flat), dtype=object)
    nested[:] = flat
    return nested.reshape(array.shape).tolist()


def _text(name: str, value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise Unanswered(
            Code.FAILED_PRECONDITION,
            f"output {name} holds bytes that are not UTF-8; an output whose name ends in _bytes is sent as b64",
        ) from error


def _base64(_: str, value: bytes) -> dict[str, str]:
    return {"b64": base64.b64encode(value).decode()}


def _finite(value: Any) -> bool:
    """Whether there is neither NaN nor an infinity in it."""
    import numpy as np

    if isinstance(value, np.ndarray | np.generic):
        return value.dtype.kind != "f" or bool(np.isfinite(value).all())
    if isinstance(value, dict):
        return all(map(_finite, value.values()))
    return not isinstance(value, list | tuple) or all(map(_finite, value))


def _plain(value: Any) -> Any:
    """The same in Python's own types, with the decimals of the array's type."""
    import numpy as np

    if isinstance(value, np.ndarray):
        return [_plain(one) for one in value]
    if isinstance(value, np.floating):
        return float(str(value))
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, list | tuple) else value
