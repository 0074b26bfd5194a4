"""Predictions of any form of a network, batch by batch -> the metrics that the network was compiled with."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import tf_keras


def of(
    network: tf_keras.Model, batches: Iterable[Any], predict: Callable[[Mapping[str, Any]], Mapping[str, Any]]
) -> dict[str, float]:
    """Loss and metrics by name, as `network.evaluate` computes them from the network's own predictions.

    Batches are (features, label) or (features, label, weight); `predict` gives the outputs by the name that the signatures
    have for them.
    """
    network.reset_metrics()
    for features, label, *weight in batches:
        given = _as_keras_has_them(network, predict(features))
        weights = weight[0] if weight else None
        network.compute_loss(y=label, y_pred=given, sample_weight=weights)
        network.compute_metrics(None, label, given, weights)
    found = {name: float(value) for name, value in network.get_metrics_result().items()}
    network.reset_metrics()
    return found


def _as_keras_has_them(network: tf_keras.Model, outputs: Mapping[str, Any]) -> Any:
    import tensorflow as tf

    tensors = {name: tf.convert_to_tensor(value) for name, value in outputs.items()}
    made = getattr(network, "output", None)
    if isinstance(made, Mapping):
        return tensors
    if isinstance(made, list | tuple):
        return [tensors[name] for name in network.output_names]
    return next(iter(tensors.values()))
