"""What Predict, Classify and Regress ask of a signature and of its outputs, with TensorFlow Serving's words when it does not fit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from components.io.saved_model import SERVING_DEFAULT
from components.serving.servable import Arrays, Servable, Signature, TensorInfo
from components.serving.status import Code, Unanswered, invalid

if TYPE_CHECKING:
    import numpy as np

EXAMPLES = "inputs"  # what a classifier and a regressor take: serialized tf.Examples
CLASSES, SCORES = "classes", "scores"  # what a classifier gives, one of them or both
REGRESSIONS = "outputs"  # what a regressor gives


def predict_signature(servable: Servable, name: str) -> Signature:
    """The signature that gRPC's Predict names; the default one for an empty name."""
    name = name or SERVING_DEFAULT
    if name not in servable.signatures:
        raise Unanswered(Code.FAILED_PRECONDITION, f'Serving signature key "{name}" not found.')
    return servable.signatures[name]


def check_inputs(signature: Signature, inputs: Arrays) -> None:
    """Refuse inputs whose names, types or shapes are not the signature's."""
    if inputs.keys() != signature.inputs.keys():
        sent, taken = set(inputs), set(signature.inputs)
        raise invalid(
            f"input size does not match signature: {len(sent)}!={len(taken)} len({_set(sent)}) != len({_set(taken)}). "
            f"Sent extra: {_set(sent - taken)}. Missing but required: {_set(taken - sent)}."
        )
    for name, info in signature.inputs.items():
        value = inputs[name]
        if value.dtype != info.dtype:
            sent = {"object": "string", "float32": "float"}.get(value.dtype.name, value.dtype.name)
            raise invalid(f"input {name} is {sent}, and signature {signature.name} takes {info.type_name}")
        if not _fits(value.shape, info):
            raise invalid(
                f"input {name} has shape {list(value.shape)}, and signature {signature.name} takes {list(info.shape or ())}"
            )


def check_output_filter(signature: Signature, wanted: Sequence[str]) -> None:
    """Refuse an output filter that names what the signature does not give, or something twice."""
    for place, name in enumerate(wanted):
        if name not in signature.outputs:
            raise invalid(
                f"output tensor alias not found in signature: {name} Outputs expected to be in the set "
                f"{_set(signature.outputs)}."
            )
        if name in wanted[:place]:
            raise invalid(f"duplicate output tensor alias: {name}")


def classify_signature(servable: Servable, name: str) -> Signature:
    """The signature that a classification names: tf.Examples to classes, scores or both."""
    signature = _takes_examples(servable, name, "classification")
    if len(signature.outputs) not in (1, 2):
        raise invalid(f"Expected one or two output Tensors, found {len(signature.outputs)}")
    if not signature.outputs.keys() & {CLASSES, SCORES}:
        raise invalid(
            f'Expected classification signature outputs to contain at least one of "{CLASSES}" or "{SCORES}". '
            f"Signature was: {_described(signature)}"
        )
    return signature


def regress_signature(servable: Servable, name: str) -> Signature:
    """The signature that a regression names: tf.Examples to one number each."""
    signature = _takes_examples(servable, name, "regression")
    if len(signature.outputs) != 1:
        raise invalid("Expected one output Tensor.")
    if REGRESSIONS not in signature.outputs:
        raise invalid(f"No regression outputs found in SignatureDef: {_described(signature)}")
    return signature


def examples_input(examples: Sequence[bytes]) -> dict[str, np.ndarray[Any, Any]]:
    """Serialized tf.Examples as the one input of a classifier or regressor."""
    import numpy as np

    if not examples:
        raise invalid("Input is empty.")
    return {EXAMPLES: np.array(examples, dtype=object)}


def classifications(outputs: Arrays, examples: int) -> list[list[tuple[bytes, float]]]:
    """A classifier's outputs, [examples, classes] each, as (label, score) per class and example; what it does not give is empty."""
    import numpy as np

    classes, scores = outputs.get(CLASSES), outputs.get(SCORES)
    for name, tensor, kind in ((CLASSES, classes, "DT_STRING"), (SCORES, scores, "DT_FLOAT")):
        if tensor is None:
            continue
        if tensor.ndim != 2:
            raise invalid(f"Expected Tensor shape: [batch_size num_classes] but got {list(tensor.shape)}")
        if tensor.dtype != (object if name == CLASSES else np.float32):
            raise invalid(f"Expected {name} Tensor of {kind}. Got: {tensor.dtype}")
        if len(tensor) != examples:
            raise invalid(f"Expected {name} output batch size of {examples}. Got: {len(tensor)}")
    if classes is None and scores is not None:
        classes = np.full(scores.shape, b"", dtype=object)
    if scores is None and classes is not None:
        scores = np.zeros(classes.shape, dtype=np.float32)
    assert classes is not None  # classify_signature has seen to one of them
    assert scores is not None
    if classes.shape != scores.shape:
        raise invalid(
            f"Tensors class and score should match in dim_size(1). Got {classes.shape[1]} vs. {scores.shape[1]}"
        )
    return [list(zip(*row, strict=True)) for row in zip(classes.tolist(), scores, strict=True)]


def regressions(outputs: Arrays, examples: int) -> np.ndarray[Any, Any]:
    """A regressor's output, [examples] or [examples, 1], as float32 [examples]."""
    import numpy as np

    value = outputs[REGRESSIONS]
    if value.ndim not in (1, 2) or (value.ndim == 2 and value.shape[1] != 1):
        raise invalid(
            f"Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got {list(value.shape)}"
        )
    if len(value) != examples:
        raise invalid(f"Input batch size did not match output batch size: {examples} vs. {len(value)}")
    if value.dtype != np.float32:
        raise invalid(f"Expected output Tensor of DT_FLOAT.  Got: {value.dtype}")
    return value.reshape(-1)


def _takes_examples(servable: Servable, name: str, purpose: str) -> Signature:
    name = name or SERVING_DEFAULT
    if name not in servable.signatures:
        raise invalid(f"No signature was found with the name: {name}")
    signature = servable.signatures[name]
    if len(signature.inputs) != 1:
        raise invalid("Expected one input Tensor.")
    if EXAMPLES not in signature.inputs:
        raise invalid(f"No {purpose} inputs found in SignatureDef: {_described(signature)}")
    if signature.inputs[EXAMPLES].type_name != "string":
        raise invalid(
            f"Expected {purpose} inputs of serialized tf.Examples, DT_STRING. Signature was: {_described(signature)}"
        )
    return signature


def _fits(shape: tuple[int, ...], info: TensorInfo) -> bool:
    return info.shape is None or (
        len(shape) == len(info.shape)
        and all(asked in (-1, size) for size, asked in zip(shape, info.shape, strict=True))
    )


def _set(names: object) -> str:
    return "{" + ",".join(sorted(names)) + "}"  # type: ignore[call-overload]


def _described(signature: Signature) -> str:
    return f"{signature.name}: {', '.join(signature.inputs)} -> {', '.join(signature.outputs)}"
