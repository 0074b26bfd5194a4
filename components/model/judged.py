"""Models under evaluation: what TFMA is told of each, and how the quick way asks it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.io import saved_model
from components.io.saved_model import Signature
from components.model import answers
from components.model.verdict import BASELINE
from schemas.errors import ArtifactError, ConfigError, DataError, did_you_mean

TRANSFORM_SIGNATURE = "transform_features"  # serialized tf.Example -> transformed features, the label among them


@dataclass(frozen=True)
class Judged:
    """One model to ask: where it is, what of it is in the examples, what it gives besides predictions."""

    path: Path
    name: str  # in the results; empty for a model that is judged alone
    labels: tuple[str, ...]  # features, one per output; none for metrics that need none
    weights: tuple[str, ...]  # features with the weight of an example
    transformed: tuple[str, ...]  # what its preprocessing gives, where it is asked
    transform_input: str
    inputs: tuple[str, ...]  # of both signatures
    asked: answers.Asked | None  # for all that preprocessing gives; None where only TFMA can ask
    only_tfma: str  # why
    is_baseline: bool


def model_spec(
    path: Path,
    name: str,
    *,
    signature: str,
    label: str | Mapping[str, str],
    label_from: str,
    prediction: str | None,
    example_weight: str | None,
) -> dict[str, Any]:
    """TFMA's ModelSpec for the model at `path`, as protobuf's JSON has it, from an Evaluator's own settings.

    Raises ArtifactError for a model without the signature, ConfigError for outputs that it does not have, DataError for
    a label that its preprocessing should give and does not.
    """
    signatures = _signatures(path, signature)
    outputs = signatures[signature].outputs
    of_outputs = label if isinstance(label, Mapping) else {}
    wanted = [("prediction", prediction)] if prediction is not None else [("label", name) for name in of_outputs]
    for setting, output in wanted:
        if output not in outputs:
            raise ConfigError(
                f"{setting}: the signature '{signature}' of {path} gives no '{output}'."
                f"{did_you_mean(output, outputs)} It gives {', '.join(outputs)}"
            )
    if not wanted and len(outputs) != 1:
        raise ConfigError(
            f"prediction: the signature '{signature}' of {path} gives {', '.join(outputs)}. Name the one to judge, or "
            f"give a label for each: label: {{{outputs[0] if outputs else 'output'}: ...}}"
        )
    transform = signatures.get(TRANSFORM_SIGNATURE)
    transformed = transform.outputs if transform is not None else ()
    labels = (label,) if isinstance(label, str) else tuple(label.values())
    for one in labels if label_from == "transformed" else ():
        if one not in transformed:
            raise DataError(
                f"label '{one}' is not among the transformed features of the model at {path}: "
                f"{listed(transformed)}.{did_you_mean(one, transformed)}"
            )
    # TFMA prefers what preprocessing gives to a raw feature of the same name.
    hidden = label_from == "raw" and any(one in transformed for one in labels)
    return {
        **({"name": name} if name else {}),
        **({"isBaseline": True} if name == BASELINE else {}),
        # Asked through its signatures, as a server would, also where Keras could load it with more.
        "modelType": "tf_generic",
        "signatureName": signature,
        **({"labelKey": label} if isinstance(label, str) else {"labelKeys": dict(label)}),
        **({"predictionKey": prediction} if prediction and len(outputs) > 1 else {}),
        **({"exampleWeightKey": example_weight} if example_weight else {}),
        **({"preprocessingFunctionNames": [TRANSFORM_SIGNATURE]} if transform is not None and not hidden else {}),
    }


def judged(spec: Any, path: Path) -> Judged:
    """How the model at `path` is asked, by TFMA's ModelSpec. Raises ArtifactError for a model without the signature."""
    signatures = _signatures(path, spec.signature_name)
    signature = signatures[spec.signature_name]
    preprocesses = TRANSFORM_SIGNATURE in spec.preprocessing_function_names
    transform = signatures.get(TRANSFORM_SIGNATURE) if preprocesses else None
    labels = (spec.label_key,) if spec.label_key else tuple(spec.label_keys[name] for name in sorted(spec.label_keys))
    only_tfma = _only_tfma(spec, signature)
    prediction = spec.prediction_key or next(iter(signature.outputs), "")
    return Judged(
        path=path,
        name=spec.name,
        labels=tuple(dict.fromkeys(labels)),
        weights=tuple(dict.fromkeys(filter(None, (spec.example_weight_key, *spec.example_weight_keys.values())))),
        transformed=transform.outputs if transform is not None else (),
        transform_input=next(iter(transform.inputs), "") if transform is not None else "",
        inputs=(*signature.inputs, *(transform.inputs if transform is not None else ())),
        asked=None
        if only_tfma
        else answers.Asked(
            path=str(path),
            signature=spec.signature_name,
            signature_input=next(iter(signature.inputs), ""),
            prediction=prediction,
            transform=TRANSFORM_SIGNATURE,
            transform_input=next(iter(transform.inputs), "") if transform is not None else "",
            transformed=transform.outputs if transform is not None else (),
            label=spec.label_key,
        ),
        only_tfma=only_tfma,
        is_baseline=spec.is_baseline,
    )


def _only_tfma(spec: Any, signature: Signature) -> str:
    """Why only TFMA's own pipeline can ask a model; empty where the quick way can."""
    if spec.model_type != "tf_generic":
        return f"the model type '{spec.model_type}'"
    if spec.example_weight_key or spec.example_weight_keys:
        return "example weights"
    if spec.label_keys or spec.prediction_keys:
        return "labels of several outputs"
    if not spec.label_key:
        return "a model without a label"
    if (spec.prediction_key or len(signature.outputs) != 1) and spec.prediction_key not in signature.outputs:
        return f"a prediction that is none of the signature's outputs, {', '.join(signature.outputs)}"
    others = [name for name in spec.preprocessing_function_names if name != TRANSFORM_SIGNATURE]
    if others:
        return f"the preprocessing {', '.join(others)}"
    return "padding" if spec.HasField("padding_options") else ""


def _signatures(path: Path, signature: str) -> dict[str, Signature]:
    signatures = saved_model.signatures(path)
    if signature not in signatures:
        raise ArtifactError(
            f"{path}: the model has no signature '{signature}'.{did_you_mean(signature, signatures)} "
            f"It has {', '.join(signatures) or 'none'}"
        )
    return signatures


def listed(names: tuple[str, ...] | list[str], limit: int = 30) -> str:
    """Names for a message, not more than a reader will look through."""
    shown = ", ".join(names[:limit]) or "none"
    return f"{shown} and {len(names) - limit} more" if len(names) > limit else shown


def has_metrics(saved_model: Path) -> bool:
    """Whether a SavedModel is one that Keras can load, with the metrics that it was compiled with: TFMA computes those as well."""
    if not (saved_model / "keras_metadata.pb").is_file():
        return False
    import tf_keras

    try:
        model = tf_keras.models.load_model(saved_model)
    except Exception:  # noqa: BLE001 as TFMA asks: a class that nobody knows here raises what it likes
        return False
    return isinstance(model, tf_keras.Model) and bool(model.metrics)
