"""A trained network -> one that TFMOT prunes, clusters or quantises while it is trained on, and what is left of it then.

Layers keep their names throughout, since losses, labels and signatures go by the names of a network's outputs. Every
function here gives a new network that is not compiled; the one it is given cannot be used afterwards.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from components.io.quantized_keras import quantize_scope
from components.model.techniques import Clustering, Pruning
from schemas.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    import tf_keras

FOLDED = ("Conv2D", "DepthwiseConv2D", "Dense")  # what TFMOT folds a normalisation that follows into

PRESERVED = ("Conv2D", "Dense")  # whose zeros and few values it keeps while it quantises them


def check_network(network: tf_keras.Model) -> None:
    """Raise ConfigError for a network whose layers TFMOT cannot wrap."""
    import tf_keras

    if not isinstance(network, tf_keras.Sequential) and not getattr(network, "_is_graph_network", False):
        raise ConfigError(
            f"model: {type(network).__name__} is a class of its own, and TFMOT wraps the layers of Sequential and "
            f"functional models. Build it from tf_keras.Input and layers, or leave Optimizer out"
        )


def choose_layers(
    network: tf_keras.Model, where: str, named: tuple[str, ...], unsupported: Mapping[str, str]
) -> tuple[str, ...]:
    """The layers to work on: those `named`, or all but the `unsupported` ones, of which it says why.

    Raises ConfigError for a named layer that does not exist or is not supported, and where none is left.
    """
    names = [layer.name for layer in network.layers]
    problems = []
    for name in named:
        if name not in names:
            problems.append(f"{where}.layers: the model has no layer '{name}'.{did_you_mean(name, names)}")
        elif name in unsupported:
            problems.append(f"{where}.layers: TFMOT cannot {where} layer '{name}': {unsupported[name]}")
    chosen = named or tuple(name for name in names if name not in unsupported)
    if not problems and not chosen:
        listed = "; ".join(f"'{name}': {why}" for name, why in unsupported.items())
        problems.append(f"{where}: TFMOT can {where} no layer of this model. {listed}")
    if problems:
        raise ConfigError(*problems)
    return chosen


def cannot_be_pruned(network: tf_keras.Model) -> dict[str, str]:
    """Why TFMOT does not prune a layer, by its name."""
    from tensorflow_model_optimization.python.core.sparsity.keras import prunable_layer, prune_registry

    def why(layer: Any) -> str:
        registry = prune_registry.PruneRegistry
        if not isinstance(layer, prunable_layer.PrunableLayer) and not hasattr(layer, "get_prunable_weights"):
            if not registry.supports(layer):
                return _unknown(layer)
            registry.make_prunable(layer)
        return "" if layer.get_prunable_weights() else f"of {_kind(layer)} it prunes nothing"

    return _reasons(network, why)


def prune(network: tf_keras.Model, settings: Pruning, names: Collection[str]) -> tf_keras.Model:
    """The network with the named layers pruned as it is trained."""
    import tensorflow_model_optimization as tfmot

    api = tfmot.sparsity.keras
    schedule = (
        api.ConstantSparsity(settings.final_sparsity, settings.begin_step, frequency=settings.frequency)
        if settings.schedule == "constant"
        else api.PolynomialDecay(
            settings.initial_sparsity,
            settings.final_sparsity,
            settings.begin_step,
            settings.last_update,
            frequency=settings.frequency,
        )
    )

    def wrap(layer: Any) -> Any:
        wrapped = api.prune_low_magnitude(layer, pruning_schedule=schedule)
        wrapped._name = layer.name
        return wrapped

    return _wrapped(network, names, wrap)


def callbacks_of_pruning() -> list[Any]:
    """What Keras has to call while a network is pruned."""
    import tensorflow_model_optimization as tfmot

    return [tfmot.sparsity.keras.UpdatePruningStep()]


def pruned(network: tf_keras.Model) -> tf_keras.Model:
    """What `prune` gave, without its wrappers: the zeros stay."""
    import tensorflow_model_optimization as tfmot

    return anew(tfmot.sparsity.keras.strip_pruning(network))


def cannot_be_clustered(network: tf_keras.Model, clusters: int) -> dict[str, str]:
    """Why TFMOT does not cluster a layer into so many values, by its name."""
    import numpy as np
    from tensorflow_model_optimization.python.core.clustering.keras import clusterable_layer, clustering_registry

    def why(layer: Any) -> str:
        registry = clustering_registry.ClusteringRegistry
        if not isinstance(layer, clusterable_layer.ClusterableLayer):
            if not registry.supports(layer):
                return _unknown(layer)
            registry.make_clusterable(layer)
        weights = layer.get_clusterable_weights()
        if not weights:
            return f"of {_kind(layer)} it clusters nothing"
        fewest = min(len(np.unique(weight.numpy())) for _, weight in weights)
        return f"it has {fewest} different weights, fewer than {clusters} clusters" if fewest < clusters else ""

    return _reasons(network, why)


def cluster(
    network: tf_keras.Model, settings: Clustering, names: Collection[str], *, sparse: Collection[str] = ()
) -> tf_keras.Model:
    """The network with the weights of the named layers clustered as it is trained; zeros of the `sparse` ones stay zero."""
    import tensorflow_model_optimization as tfmot
    from tensorflow_model_optimization.python.core.clustering.keras.experimental import cluster as experimental

    initial = tfmot.clustering.keras.CentroidInitialization[settings.centroids.upper()]

    def wrap(layer: Any) -> Any:
        return experimental.cluster_weights(
            layer, settings.number_of_clusters, initial, preserve_sparsity=layer.name in sparse, name=layer.name
        )

    return _wrapped(network, names, wrap)


def clustered(network: tf_keras.Model) -> tf_keras.Model:
    """What `cluster` gave, without its wrappers: the few values stay."""
    import tensorflow_model_optimization as tfmot

    return anew(tfmot.clustering.keras.strip_clustering(network))


def cannot_be_quantized(network: tf_keras.Model, compressed: Collection[str] = ()) -> dict[str, str]:
    """Why TFMOT does not quantise a layer, by its name; `compressed` are those that were pruned or clustered before."""
    import tf_keras
    from tensorflow_model_optimization.python.core.quantization.keras.default_8bit import default_8bit_quantize_registry

    registry = default_8bit_quantize_registry.Default8BitQuantizeRegistry()
    layers = tf_keras.layers

    def why(layer: Any) -> str:
        if layer.name in compressed and registry.supports(layer) and _kind(layer) not in PRESERVED:
            return f"of {_kind(layer)} it would lose what was pruned or clustered"
        if registry.supports(layer) or isinstance(layer, layers.SeparableConv1D | layers.SeparableConv2D):
            return ""
        if isinstance(layer, layers.BatchNormalization):
            before = layer.inbound_nodes[0].inbound_layers
            activation = getattr(getattr(before, "activation", None), "__name__", "")
            if _kind(before) in FOLDED and activation == "linear":
                return ""
            return f"a BatchNormalization has to follow a {', '.join(FOLDED[:-1])} or {FOLDED[-1]} layer without activation"
        return _unknown(layer)

    return _reasons(network, why)


def quantize(
    network: tf_keras.Model, names: Collection[str], *, sparse: Collection[str] = (), few: Collection[str] = ()
) -> tf_keras.Model:
    """The network with the named layers computing as if in 8 bits.

    Of the `sparse` layers the zeros stay zero as it is trained, and the `few` ones keep their few different weights.
    """
    import tensorflow_model_optimization as tfmot

    api = tfmot.quantization.keras
    with quantize_scope():
        annotated = _wrapped(network, names, api.quantize_annotate_layer)
        try:
            return api.quantize_apply(annotated, scheme=_scheme(sparse, few), quantized_layer_name_prefix="")
        except (RuntimeError, ValueError) as error:  # what it finds only when it looks at the whole graph
            raise ConfigError(
                f"quantize: TFMOT cannot quantise this model: {error} Name the layers that it can in quantize.layers"
            ) from error


def quantized(preserving: tf_keras.Model, network: tf_keras.Model, names: Collection[str]) -> tf_keras.Model:
    """What `quantize` gave of `network`, with the zeros and the few values written into the weights themselves.

    The quantisers that preserve them keep masks outside of any variable, so that no archive could restore them. Both
    compute the same.
    """
    plain = quantize(network, names)
    for layer, trained in zip(plain.layers, preserving.layers, strict=True):
        masks = {
            _short(weight, trained): extra["sparsity_mask"]
            for weight, _, extra in getattr(trained, "_weight_vars", ())
            if "sparsity_mask" in extra
        }
        values = {_short(weight, trained): weight for weight in trained.weights}
        for weight in layer.weights:
            name = _short(weight, layer)
            weight.assign(values[name] * masks[name] if name in masks else values[name])
    return plain


def hold(network: tf_keras.Model, names: Collection[str]) -> frozenset[str]:
    """Have the named layers stay as they are while the others are trained; gives those that were trained until now."""
    held = [layer for layer in network.layers if layer.name in names and layer.trainable]
    for layer in held:
        layer.trainable = False
    return frozenset(layer.name for layer in held)


def release(network: tf_keras.Model, held: Collection[str]) -> None:
    """Have the layers be trained again that `hold` gave."""
    for layer in network.layers:
        if layer.name in held:
            layer.trainable = True


def reached(network: tf_keras.Model, names: Collection[str]) -> dict[str, dict[str, float | int]]:
    """Of every tensor of weights of the named layers, by layer/weight: how many, the fraction of zeros, how many values."""
    import numpy as np

    found: dict[str, dict[str, float | int]] = {}
    for layer in network.layers:
        for weight in layer.weights if layer.name in names else ():
            if weight.shape.rank >= 2:
                array = weight.numpy()
                found[f"{layer.name}/{_short(weight, layer)}"] = {
                    "weights": int(array.size),
                    "sparsity": float(np.mean(array == 0)),
                    "values": len(np.unique(array)),
                }
    return found


def _reasons(network: tf_keras.Model, why: Any) -> dict[str, str]:
    import tf_keras

    reasons = {}
    for layer in network.layers:
        reason = f"it is a model of its own ({_kind(layer)})" if isinstance(layer, tf_keras.Model) else ""
        reason = reason or ("it is an input" if isinstance(layer, tf_keras.layers.InputLayer) else why(layer))
        if reason:
            reasons[layer.name] = reason
    return reasons


def _wrapped(network: tf_keras.Model, names: Collection[str], wrap: Any) -> tf_keras.Model:
    import tf_keras

    return tf_keras.models.clone_model(
        network, clone_function=lambda layer: wrap(layer) if layer.name in names else layer
    )


def anew(network: tf_keras.Model) -> tf_keras.Model:
    """The same network in layers of its own, which nothing was done to."""
    import tf_keras

    fresh = tf_keras.models.clone_model(network)
    fresh.set_weights(network.get_weights())
    return fresh


def _scheme(sparse: Collection[str], few: Collection[str]) -> Any:
    """TFMOT's 8-bit scheme, preserving in each layer what there is to preserve.

    TFMOT's own preserving schemes share one quantiser among all layers, and one layer without zeros then turns the
    preserving off for all that follow.
    """
    from tensorflow_model_optimization.python.core.quantization.keras.collab_opts.cluster_preserve import (
        cluster_preserve_quantize_registry as clusters,
    )
    from tensorflow_model_optimization.python.core.quantization.keras.collab_opts.prune_preserve import (
        prune_preserve_quantize_registry as zeros,
    )
    from tensorflow_model_optimization.python.core.quantization.keras.default_8bit import (
        default_8bit_quantize_registry,
        default_8bit_quantize_scheme,
    )

    class Registry(default_8bit_quantize_registry.Default8BitQuantizeRegistry):
        def get_quantize_config(self, layer: Any) -> Any:
            clustered = clusters.Default8bitClusterPreserveQuantizeRegistry(preserve_sparsity=layer.name in sparse)
            pruned = zeros.Default8bitPrunePreserveQuantizeRegistry()
            if layer.name in few and clustered.supports(layer):
                return clustered.get_quantize_config(layer)
            if layer.name in sparse and pruned.supports(layer):
                return pruned.get_quantize_config(layer)
            return super().get_quantize_config(layer)

    class Scheme(default_8bit_quantize_scheme.Default8BitQuantizeScheme):
        def get_quantize_registry(self) -> Any:
            return Registry()

    return Scheme()


def _short(weight: Any, layer: Any) -> str:
    """A variable's own name, without its layer's."""
    name: str = weight.name.split(":")[0].split("/")[-1]
    return name.removeprefix(f"{layer.name}_")


def _kind(layer: Any) -> str:
    return type(layer).__name__


def _unknown(layer: Any) -> str:
    return f"it does not know {_kind(layer)}"
