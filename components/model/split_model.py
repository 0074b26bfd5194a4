"""A network and its transform graph -> two SavedModels that together do what the served one does: preprocessing, network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from components.io import saved_model
from components.model import signatures
from components.model.input_data import transformed_spec
from schemas.artifacts import ExportedModels, TransformGraph
from schemas.artifacts.exported_models import NETWORK, PREPROCESSING
from schemas.errors import ConfigError

if TYPE_CHECKING:
    import tf_keras


def input_specs(features: tuple[str, ...], graph: TransformGraph) -> dict[str, Any]:
    """What the network takes when it stands alone: a tf.TensorSpec [batch, ...] of each transformed feature, by name.

    Raises ConfigError for features that are no dense tensors.
    """
    import tensorflow as tf

    spec = transformed_spec(graph)
    problems = [
        f"model: the network takes '{name}', which has no fixed number of values in a record, and no other runtime takes such "
        f"inputs. Have preprocessing_fn make it dense"
        for name in features
        if not isinstance(spec[name], tf.io.FixedLenFeature)
    ]
    if problems:
        raise ConfigError(*problems)
    return {name: tf.TensorSpec([None, *spec[name].shape], spec[name].dtype, name=name) for name in sorted(features)}


def save_preprocessing(features: tuple[str, ...], graph: TransformGraph, to: ExportedModels) -> None:
    """The transform graph for the network's features: `serving_default` takes tf.Examples, `serving_columns` typed columns."""
    exported = signatures.build_preprocessing(features, graph)
    saved_model.save(exported.module, to.export(PREPROCESSING), exported.signatures)


def save_network(network: tf_keras.Model, specs: dict[str, Any], to: ExportedModels) -> None:
    """The network alone: `serving_default` takes each transformed feature by name and gives the served outputs."""
    import tensorflow as tf

    function = signatures.network_function(network)

    def predict(**transformed: tf.Tensor) -> dict[str, Any]:
        return function(transformed)

    traced = tf.function(predict, autograph=False).get_concrete_function(**specs)
    saved_model.save(signatures.tracking(network), to.export(NETWORK), {saved_model.SERVING_DEFAULT: traced})
