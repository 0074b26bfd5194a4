"""Optimizer: what TFMOT reached is in the saved model, which is one like any other; what misses a threshold is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from components.io import saved_model, tfrecord
from components.io.keras import load_keras
from components.model.exporter import Exporter
from components.model.optimizer import Optimizer
from schemas.artifacts import Examples, ExportedModels, Model, TransformGraph
from schemas.component import Lineage, Progress, Scratch, Seed
from schemas.errors import ArtifactError, ConfigError, TooMuchLost

PRUNE = {"steps": 12, "final_sparsity": 0.5, "frequency": 3, "layers": ["words", "hidden"]}
CLUSTER = {"steps": 4, "number_of_clusters": 8, "layers": ["words", "hidden"]}
EVERYTHING = {
    "prune": {**PRUNE, "layers": ["words", "hidden", "big_tip"]},
    "cluster": CLUSTER,
    "quantize": {"steps": 4},
}


@pytest.fixture(scope="module")
def optimize(
    tmp_path_factory: pytest.TempPathFactory, small_model: Model, xf_graph: TransformGraph, xf_transformed: Examples
) -> Callable[..., Model]:
    """Settings -> the optimised model."""

    def run(
        model: Model = small_model,
        scratch: Path | None = None,
        lineage: Lineage | None = None,
        progress: Progress | None = None,
        **settings: Any,
    ) -> Model:
        optimized = Model(tmp_path_factory.mktemp("optimized"))
        Optimizer(**settings).run(
            model,
            xf_transformed,
            xf_graph,
            seed=Seed(13),
            scratch=Scratch(scratch or tmp_path_factory.mktemp("scratch")),
            progress=progress or Progress(),
            lineage=lineage or Lineage(),
            optimized_model=optimized,
        )
        return optimized

    return run


@pytest.fixture(scope="module")
def pruned(optimize: Callable[..., Model]) -> Model:
    return optimize(prune=PRUNE)


@pytest.fixture(scope="module")
def everything(optimize: Callable[..., Model]) -> Model:
    """Pruned, clustered and quantised, one after the other."""
    return optimize(**EVERYTHING)


def kernel(model: Model, layer: str) -> Any:
    found = load_keras(model).get_layer(layer)
    return next(weight for weight in found.weights if weight.shape.rank >= 2).numpy()


def test_pruned_layers_have_the_sparsity_that_was_asked_for_and_others_none(pruned):
    for layer in ("words", "hidden"):
        assert (kernel(pruned, layer) == 0).mean() == pytest.approx(0.5, abs=0.01)
    assert (kernel(pruned, "big_tip") != 0).all()


def test_the_artifact_is_a_model_as_trainer_makes_it(pruned, small_model, xf_examples):
    import tensorflow as tf

    assert sorted(path.name for path in pruned.path.iterdir()) == ["Format-Keras", "Format-Serving"]
    assert saved_model.signatures(pruned.serving) == saved_model.signatures(small_model.serving)
    records = tf.constant(list(tfrecord.read(xf_examples.files("eval")[0])))
    by_signature = [
        saved_model.load(model.serving).signatures["serving_default"](records)["probabilities"].numpy()
        for model in (pruned, small_model)
    ]
    assert by_signature[0].shape == by_signature[1].shape
    assert (by_signature[0] != by_signature[1]).any()
    assert pruned.properties["label"] == "big_tip"
    assert pruned.properties["steps"] == 72


def test_the_report_compares_it_with_the_original(pruned, small_model):
    report = pruned.properties["optimization"]

    assert report["before"]["metrics"]["auc"] == pytest.approx(small_model.properties["metrics"]["val_auc"])
    assert report["after"]["metrics"]["auc"] == pruned.properties["metrics"]["val_auc"]
    assert report["after"]["bytes"]["weights"] < 0.8 * report["before"]["bytes"]["weights"]
    assert report["after"]["bytes"]["size"] < report["before"]["bytes"]["size"]
    assert report["after"]["latency_ms"] > 0
    assert pruned.describe().startswith("72 steps, prune: weights ")
    assert report["reached"]["hidden/kernel"]["sparsity"] == pytest.approx(0.5, abs=0.01)
    assert report["left_alone"]["prune"] == {"big_tip": "not named", "scale": "it does not know Scale"}


def test_several_outputs_are_fine_tuned_with_the_labels_and_weights_of_the_training(two_outputs, hours, tmp_path):
    optimized = Model(tmp_path / "optimized")
    optimized.path.mkdir()
    Optimizer(prune={"steps": 6, "final_sparsity": 0.5, "frequency": 2, "layers": ["hidden", "parts"]}).run(
        two_outputs,
        hours[1],
        hours[0],
        seed=Seed(13),
        scratch=Scratch(tmp_path / "scratch"),
        progress=Progress(),
        lineage=Lineage(),
        optimized_model=optimized,
    )

    trained = {name: value for name, value in two_outputs.properties["metrics"].items() if name.startswith("val_")}
    before = optimized.properties["optimization"]["before"]["metrics"]
    assert {f"val_{name}": pytest.approx(value, rel=1e-5) for name, value in before.items()} == trained
    assert optimized.properties["metrics"].keys() == trained.keys()
    assert optimized.properties["label"] == {"hour": "hour", "parts": "parts"}
    assert optimized.properties["sample_weight"] == "heavy"
    assert [(kernel(optimized, layer) == 0).mean() for layer in ("hidden", "parts")] == [0.5, 0.5]


def test_pruning_is_tfmot_s_own(small_model, optimize, xf_transformed, xf_graph):
    """The same weights as TFMOT's functions give for the same batches."""
    import tensorflow_model_optimization as tfmot
    import tf_keras

    from components.model.computing import make_reproducible
    from components.model.training_data import open_splits

    ours = optimize(
        prune={"steps": 8, "schedule": "constant", "final_sparsity": 0.25, "frequency": 2, "layers": ["hidden"]}
    )

    make_reproducible(13)
    network = load_keras(small_model)
    data = open_splits(network, xf_transformed, xf_graph, "big_tip", 64, "train", "eval")
    schedule = tfmot.sparsity.keras.ConstantSparsity(0.25, 0, frequency=2)
    compiled = network.get_compile_config()
    theirs = tf_keras.models.clone_model(
        network,
        clone_function=lambda layer: (
            tfmot.sparsity.keras.prune_low_magnitude(layer, schedule) if layer.name == "hidden" else layer
        ),
    )
    theirs.compile_from_config(compiled)
    theirs.fit(data.train.shuffled(13, 0, 8), callbacks=[tfmot.sparsity.keras.UpdatePruningStep()], verbose=0)
    stripped = tfmot.sparsity.keras.strip_pruning(theirs)

    for mine, expected in zip(load_keras(ours).get_weights(), stripped.get_weights(), strict=True):
        assert (mine == expected).all()


@pytest.mark.parametrize("centroids", ["linear", "kmeans_plus_plus"])
def test_clustered_layers_have_few_values_and_small_ones_are_left_alone(optimize, centroids):
    clustered = optimize(cluster={"steps": 4, "number_of_clusters": 24, "centroids": centroids})

    for layer in ("words", "hidden"):
        assert len(set(kernel(clustered, layer).ravel())) <= 24
    report = clustered.properties["optimization"]
    assert report["left_alone"]["cluster"] == {
        "big_tip": "it has 20 different weights, fewer than 24 clusters",
        "scale": "it does not know Scale",
    }
    assert report["after"]["bytes"]["weights"] < report["before"]["bytes"]["weights"]


def test_what_was_pruned_and_clustered_is_kept_also_in_layers_that_a_later_technique_leaves_alone(everything):
    for layer in ("hidden", "words"):  # of which the second cannot be quantised
        weights = kernel(everything, layer)
        assert (weights == 0).mean() >= 0.49
        assert len(set(weights.ravel())) <= 8
    last = kernel(everything, "big_tip")  # pruned, quantised, and not clustered
    assert (last == 0).sum() == 10
    assert len(set(last.ravel())) == 11


def test_layers_that_were_left_alone_are_listed_and_all_can_be_trained_again(everything):
    assert everything.properties["optimization"]["left_alone"]["quantize"] == {
        "scale": "it does not know Scale",
        "words": "it does not know Embedding",
    }
    assert all(layer.trainable for layer in load_keras(everything).layers)


def test_a_quantised_model_is_loaded_from_its_archive_as_it_was(everything, xf_examples, xf_transformed):
    import tensorflow as tf

    network = load_keras(everything)
    assert type(network.get_layer("hidden")).__name__ == "QuantizeWrapperV2"
    assert network.output_names == ["big_tip"]
    metrics = everything.properties["metrics"]
    spec = {name: tf.io.FixedLenFeature([1], kind.dtype) for name, kind in network.input.items()}
    spec["big_tip"] = tf.io.FixedLenFeature([1], tf.int64)
    parsed = tf.io.parse_example(list(tfrecord.read(xf_transformed.files("eval")[0])), spec)
    label = parsed.pop("big_tip")

    found = network.evaluate(parsed, label, batch_size=64, verbose=0, return_dict=True)

    assert found["loss"] == pytest.approx(metrics["val_loss"], rel=1e-5)


def test_stopped_in_one_stage_and_another_and_run_again_it_ends_in_the_same_weights(tmp_path, optimize, everything):
    class Stop(Exception):
        pass

    class StopsAt(Progress):
        def __init__(self, step: int) -> None:
            self.step = step

        def __call__(self, done: int, total: int | None = None, unit: str = "rows") -> None:
            if done == self.step:
                raise Stop

    settings = {**EVERYTHING, "checkpoint_steps": 2}
    for step in (7, 19):  # of 12 that prune, 4 that cluster and 4 that quantise
        with pytest.raises(Stop):
            optimize(scratch=tmp_path, progress=StopsAt(step), **settings)
    assert (tmp_path / "checkpoints" / "quantize" / "ckpt-2.index").is_file()
    resumed = optimize(scratch=tmp_path, **settings)

    ours, expected = load_keras(resumed).get_weights(), load_keras(everything).get_weights()
    assert [weight.tobytes() for weight in ours] == [weight.tobytes() for weight in expected]


def test_a_model_that_misses_its_thresholds_is_refused_with_the_figures_and_kept(optimize, tmp_path):
    with pytest.raises(TooMuchLost) as refused:
        optimize(
            prune=PRUNE,
            thresholds={
                "auc": {"min": 0.999},
                "loss": {"max_change": -10},
                "weights": {"max_ratio": 0.1},
                "size": {"max_kb": 1},
                "recall": {"min": 0.5},
            },
        )

    message = str(refused.value)
    for found in (
        "auc 0.",
        "is below 0.999, the original's is 0.",
        "against the original's",
        "is above -10",
        "of the original's",
        "kB is above 1 kB",
        "recall was not computed, so min 0.5 is not kept. There are: auc, loss",
    ):
        assert found in message
    assert refused.value.keep_outputs


def test_a_model_that_keeps_its_thresholds_passes(optimize):
    kept = optimize(prune=PRUNE, thresholds={"auc": {"min_change": -0.5}, "weights": {"max_ratio": 0.9}})

    assert kept.properties["optimization"]["techniques"]["prune"]["final_sparsity"] == 0.5


@pytest.mark.parametrize(
    ("technique", "layer", "message"),
    [
        ("quantize", "words", "quantize.layers: TFMOT cannot quantize layer 'words': it does not know Embedding"),
        ("prune", "scale", "prune.layers: TFMOT cannot prune layer 'scale': it does not know Scale"),
        ("cluster", "flat", "cluster.layers: TFMOT cannot cluster layer 'flat': of Flatten it clusters nothing"),
        ("prune", "hiden", "prune.layers: the model has no layer 'hiden'. Did you mean 'hidden'?"),
    ],
)
def test_a_layer_that_tfmot_cannot_handle_is_named(optimize, technique, layer, message):
    with pytest.raises(ConfigError) as error:
        optimize(**{technique: {"steps": 20, "layers": [layer]}})

    assert str(error.value) == message


def test_a_model_without_its_trainable_form_is_refused_by_the_step_and_setting_that_made_it(optimize, tmp_path):
    lineage = Lineage(
        steps={"trainer": {"settings": {"run_fn": "my.module.run_fn"}}}, inputs={"model": {"step": "trainer"}}
    )

    with pytest.raises(ArtifactError, match=r"step 'trainer' made it with run_fn: my\.module\.run_fn"):
        optimize(model=Model(tmp_path), lineage=lineage, prune=PRUNE)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "prune: nothing to do. Set at least one of prune, cluster and quantize"),
        ({"prune": {}}, "prune.steps: missing, and it has no default"),
        ({"prune": {"steps": 0}}, "prune.steps: 0 is not at least 1"),
        ({"prune": {"steps": 9, "final_sparsity": 1.0}}, "prune.final_sparsity: 1.0 is no fraction of zeros"),
        ({"prune": {"steps": 9, "schedul": "constant"}}, "prune.schedul: no such setting. Did you mean 'schedule'?"),
        ({"prune": {"steps": 9, "schedule": "cubic"}}, "prune.schedule: 'cubic' is not valid here: input should be"),
        ({"prune": {"steps": 100, "end_step": 95}}, "prune.end_step: 95 is no update, .* Set 90"),
        ({"prune": {"steps": 10}}, "prune.steps: 10 are too few for an update every 10 steps from step 0 on"),
        ({"cluster": {"steps": 1, "number_of_clusters": 1}}, "cluster.number_of_clusters: 1 is not at least 3"),
        ({"quantize": {"steps": 1}, "thresholds": {"size": {"max_mb": 1}}}, "thresholds.size.max_mb: no such bound."),
        ({"quantize": {"steps": 1}, "learning_rate": 0.0}, "learning_rate: 0.0 is not above 0"),
    ],
)
def test_settings_say_what_is_wrong_with_them(settings, message):
    with pytest.raises(ConfigError, match=message):
        Optimizer(**settings)


def test_what_was_reached_is_in_the_integers_of_a_tensorflow_lite_model(tmp_path, everything, xf_graph, xf_transformed):
    import numpy as np
    import tensorflow as tf

    exported = ExportedModels(tmp_path)
    Exporter(tflite=("int8",)).run(everything, xf_graph, xf_transformed, lineage=Lineage(), exported_models=exported)

    interpreter = tf.lite.Interpreter(str(exported.export("tflite_int8") / "tflite"))
    interpreter.allocate_tensors()
    kernels = [
        interpreter.get_tensor(detail["index"])
        for detail in interpreter.get_tensor_details()
        if list(detail["shape"]) == [20, 6] and detail["dtype"] == np.int8
    ]
    assert len(kernels) == 1
    assert len(np.unique(kernels[0])) <= 8
    assert (kernels[0] == 0).mean() >= 0.49
