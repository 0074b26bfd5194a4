"""Model x TransformedExamples -> Model: pruned, clustered or quantised while it is trained on, and no worse than allowed."""

from __future__ import annotations

import functools
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from components.io import saved_model
from components.io.keras import arrange, save_keras, spare_libraries_autograph
from components.model import compression, latency, limits, signatures, sizes
from components.model.computing import make_reproducible, settled_seed, share_accelerators
from components.model.fine_tuning import FineTuning, compiled_as
from components.model.fitting import evaluate
from components.model.labels import Label, problems_of_label
from components.model.limits import Figures, Limit
from components.model.techniques import Clustering, Pruning, Quantization, parse
from components.model.trained_network import known, load_trained
from components.model.training_data import TrainingData, open_splits
from components.model.training_settings import problems_of_counts
from schemas.artifacts import Examples, Model, TransformedExamples, TransformGraph
from schemas.component import Lineage, Out, Progress, Scratch, Seed, UserCode
from schemas.errors import ConfigError, TooMuchLost

if TYPE_CHECKING:
    import tf_keras


@dataclass(frozen=True, kw_only=True)
class Optimizer:
    """Model x TransformedExamples -> Model: pruned, clustered or quantised while it is trained on, and no worse than allowed.

    `prune`, `cluster` and `quantize` are TFMOT's, each with its own `steps` of fine-tuning and its own settings
    (components/model/techniques.py). Several are done in this order, and what an earlier one reached is kept by the later
    ones: a layer of which they could not keep it stays as it is. Each works on all layers that TFMOT can, or on the
    `layers` named in it; which were left alone, and why, is among the properties. The model must have its trainable form,
    and be Sequential or functional.

    `thresholds` compare the result with the model it was made of:
    `{auc: {min_change: -0.01}, size: {max_ratio: 0.5}, weights: {max_kb: 100}, latency: {max_ratio: 1.1}}`. A metric is a
    compiled one, on the eval split; `size` is that of the SavedModel's files and `weights` that of the network's weights,
    both compressed, since pruning and clustering shrink nothing else; `latency` is of the network with one record.
    """

    prune: dict[str, Any] | None = None
    cluster: dict[str, Any] | None = None
    quantize: dict[str, Any] | None = None
    thresholds: dict[str, dict[str, Any]] = field(default_factory=dict)
    learning_rate: float | None = None  # None: what the model was trained with, from the start of its schedule
    batch_size: int = 64
    label: Label | None = None  # None: what the model was trained with
    sample_weight: str | None = None  # a transformed feature that weighs the examples; None: as the model was trained
    eval_steps: int | None = None  # batches to evaluate on; None: the whole eval split
    custom_objects: tuple[UserCode, ...] = ()  # the user's layers, losses and metrics that Keras has to find
    checkpoint_steps: int = 200  # a killed run resumes from at most this many steps back
    train_split: str = "train"
    eval_split: str = "eval"

    def __post_init__(self) -> None:
        problems = self._asked()[1]
        if not any((self.prune, self.cluster, self.quantize)):
            problems.append("prune: nothing to do. Set at least one of prune, cluster and quantize")
        problems += problems_of_label(self.label, self.sample_weight)
        problems += problems_of_counts(self, "batch_size", "eval_steps", "checkpoint_steps")
        if self.learning_rate is not None and self.learning_rate <= 0:
            problems.append(f"learning_rate: {self.learning_rate} is not above 0")
        if problems:
            raise ConfigError(*problems)

    def run(
        self,
        model: Model,
        examples: TransformedExamples | Examples,
        transform_graph: TransformGraph,
        *,
        seed: Seed,
        scratch: Scratch,
        progress: Progress,
        lineage: Lineage,
        optimized_model: Out[Model],
    ) -> None:
        """Fine-tune and write the smaller model, then judge it. Equal inputs and an equal seed give equal weights.

        Killed and run again with the same scratch, it goes on from its last checkpoint and ends in the same weights. Raises
        ArtifactError for a model without its trainable form, ConfigError for layers that TFMOT cannot handle and for
        classes of the user's that Keras does not find, and TooMuchLost, once the model is written, where it misses a
        threshold.
        """
        arrange()
        spare_libraries_autograph()
        share_accelerators()
        value = settled_seed(seed, scratch)
        make_reproducible(value)
        asked = self._asked()[0]
        weight = self.sample_weight or model.properties.get("sample_weight")
        with known(self.custom_objects):
            original, network = load_trained(model, "model", lineage), load_trained(model, "model", lineage)
            compression.check_network(network)
            data = open_splits(
                original,
                examples,
                transform_graph,
                self.label or model.properties.get("label"),
                self.batch_size,
                self.train_split,
                self.eval_split,
                weight,
            )
            tuning = FineTuning(
                data=data,
                original=original,
                learning_rate=self.learning_rate,
                seed=value,
                checkpoint_steps=self.checkpoint_steps,
                scratch=scratch,
                progress=progress,
                total=sum(technique.steps for technique in asked.techniques.values()),
            )
            made = _compressed(network, asked, tuning)
            compiled_as(made.network, original, self.learning_rate)

            exported = signatures.build(made.network, data.features, transform_graph)
            saved_model.save(exported.module, optimized_model.serving, exported.signatures)
            save_keras(made.network, optimized_model)
            before, after = self._measured(original, made.network, data, model, optimized_model)
        if weight is not None:
            optimized_model.properties["sample_weight"] = weight
        optimized_model.properties.update(
            {name: model.properties[name] for name in ("hyperparameters",) if name in model.properties},
            metrics={f"val_{name}": value for name, value in after.metrics.items()},
            steps=model.properties.get("steps", 0) + tuning.done,
            label=data.label,
            optimization={
                "techniques": {name: asdict(technique) for name, technique in asked.techniques.items()},
                "left_alone": made.left_alone,
                "reached": compression.reached(
                    made.network, {name for names in made.layers.values() for name in names}
                ),
                "before": before.as_json(),
                "after": after.as_json(),
            },
        )
        reasons = limits.missed(asked.limits, after, before)
        if reasons:
            raise TooMuchLost(
                "the optimised model misses its thresholds:\n  "
                + "\n  ".join(reasons)
                + "\nFine-tune for more steps, compress less, or change the thresholds"
            )

    def _measured(
        self, original: tf_keras.Model, network: tf_keras.Model, data: TrainingData, model: Model, optimized: Model
    ) -> tuple[Figures, Figures]:
        """The figures of the model as it was and as it is now, from one run."""
        import tensorflow as tf

        record = next(iter(replace(data.evaluation or data.train, batch_size=1, label=None, weight=None).in_order(1)))
        record = {name: tf.constant(record[name]) for name in data.features}
        calls = {
            name: functools.partial(signatures.network_function(net), record)
            for name, net in (("before", original), ("after", network))
        }
        took = latency.medians_ms(calls)

        def figures(net: tf_keras.Model, artifact: Model, milliseconds: float) -> Figures:
            metrics = evaluate(net, data, self.eval_steps, train=False)
            return Figures(
                metrics={name.removeprefix("val_"): value for name, value in metrics.items()},
                bytes={
                    "size": sizes.compressed_directory(artifact.serving),
                    "weights": sizes.compressed_weights(net),
                },
                latency_ms=milliseconds,
            )

        return figures(original, model, took["before"]), figures(network, optimized, took["after"])

    def _asked(self) -> tuple[_Asked, list[str]]:
        """What the settings ask for, and what is wrong with them."""
        techniques: dict[str, Any] = {}
        problems: list[str] = []
        kinds: tuple[tuple[str, Any], ...] = (("prune", Pruning), ("cluster", Clustering), ("quantize", Quantization))
        for name, kind in kinds:
            given = getattr(self, name)
            if given is not None:
                technique, wrong = parse(kind, name, given)
                problems += wrong
                if technique is not None:
                    techniques[name] = technique
        bounds, wrong = limits.parse("thresholds", self.thresholds)
        return _Asked(techniques, bounds), problems + wrong


@dataclass(frozen=True)
class _Asked:
    """What the settings ask for; the techniques in the order in which they are done."""

    techniques: dict[str, Any]
    limits: list[Limit]


@dataclass(frozen=True)
class _Made:
    """A smaller network, not compiled; by technique, the layers worked on, and why others were left alone."""

    network: tf_keras.Model
    layers: dict[str, tuple[str, ...]]
    left_alone: dict[str, dict[str, str]]


def _compressed(network: tf_keras.Model, asked: _Asked, tuning: FineTuning) -> _Made:
    """Do what is asked, one technique after the other."""
    layers: dict[str, tuple[str, ...]] = {}
    left_alone: dict[str, dict[str, str]] = {}

    def choose(name: str, technique: Any, unsupported: dict[str, str]) -> tuple[str, ...]:
        chosen = compression.choose_layers(network, name, technique.layers, unsupported)
        weighty = {layer.name for layer in network.layers if layer.weights and layer.name not in chosen}
        left_alone[name] = {layer: unsupported.get(layer, "not named") for layer in sorted(weighty)}
        layers[name] = chosen
        tuning.begin()
        return chosen

    for name, technique in asked.techniques.items():
        match technique:
            case Pruning():
                chosen = choose(name, technique, compression.cannot_be_pruned(network))
                network = compression.prune(network, technique, chosen)
                tuning.train(name, network, technique.steps, compression.callbacks_of_pruning())
                network = compression.pruned(network)
            case Clustering():
                sparse = set(layers.get("prune", ()))
                chosen = choose(name, technique, compression.cannot_be_clustered(network, technique.number_of_clusters))
                held = compression.hold(network, sparse - set(chosen))
                network = compression.cluster(network, technique, chosen, sparse=sparse)
                tuning.train(name, network, technique.steps)
                network = compression.clustered(network)
                compression.release(network, held)
            case Quantization():
                sparse, few = set(layers.get("prune", ())), set(layers.get("cluster", ()))
                chosen = choose(name, technique, compression.cannot_be_quantized(network, sparse | few))
                before = compression.anew(network)
                compression.hold(network, (sparse | few) - set(chosen))
                network = compression.quantize(network, chosen, sparse=sparse, few=few)
                tuning.train(name, network, technique.steps)
                network = compression.quantized(network, before, chosen)
    return _Made(network, layers, left_alone)
