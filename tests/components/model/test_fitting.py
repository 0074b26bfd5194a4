"""A training epoch by epoch: what it keeps, when it ends, and what it says of losses and memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from components.io.keras import spare_libraries_autograph
from components.model.computing import make_reproducible, precision
from components.model.early_stopping import EarlyStopping
from components.model.fitting import Fitting
from components.model.starting_weights import start_from_checkpoint
from components.model.training_data import open_splits, weigh_classes
from components.model.training_logs import TrainingLogs
from schemas.artifacts import TransformedExamples, TransformGraph
from schemas.component import Progress
from schemas.errors import ConfigError, DataError, StepFailed, UserCodeError

Hours = tuple[TransformGraph, TransformedExamples]
EPOCH = 4  # batches of 50 in the train split of 194


def linear(learning_rate: float = 0.01, units: int = 1, activation: str | None = "sigmoid") -> Any:
    """Logistic regression of `late` on `x`, by gradient descent."""
    import tf_keras

    x = tf_keras.layers.Input((1,), name="x")
    scaled = tf_keras.layers.Rescaling(0.1)(x)
    model = tf_keras.Model({"x": x}, tf_keras.layers.Dense(units, activation=activation, name="answer")(scaled))
    loss = "binary_crossentropy" if units == 1 else "categorical_crossentropy"
    model.compile(tf_keras.optimizers.SGD(learning_rate), loss, metrics=["accuracy"])
    return model


@pytest.fixture
def fitting(tmp_path: Path, hours: Hours) -> Callable[..., Fitting]:
    """The training of a model, of two epochs where `settings` do not say otherwise."""

    def make(model: Any, *, label: str = "late", weights: dict[int, float] | None = None, **settings: Any) -> Fitting:
        data = weigh_classes(open_splits(model, hours[1], hours[0], label, 50, "train", "eval"), weights)
        given = {
            "total": 2 * EPOCH,
            "seed": 13,
            "directory": tmp_path / "checkpoints",
            "progress": Progress(),
            "logs": TrainingLogs(tmp_path / "logs", settings.pop("profile", None)),
        }
        return Fitting(model=model, data=data, **{**given, **settings})

    spare_libraries_autograph()
    make_reproducible(13)
    return make


def test_a_validation_ends_every_epoch_and_the_training(fitting):
    one = fitting(linear(), total=2 * EPOCH + 1)

    fitted = one.run()

    assert [(row["step"], row["epoch"]) for row in fitted.curve] == [(4, 1), (8, 2), (9, 3)]
    assert list(fitted.curve[0]) == [
        *("step", "epoch", "learning_rate", "loss", "accuracy", "val_loss", "val_accuracy")
    ]
    assert one.metrics(fitted)["val_loss"] == fitted.curve[-1]["val_loss"]


def test_the_optimizer_counts_the_steps_that_were_trained_and_no_more(fitting):
    # Schedules of the learning rate and Adam's corrections go by this number.
    one = fitting(linear(), total=2 * EPOCH + 1)

    one.run()

    assert int(one.model.optimizer.iterations) == 2 * EPOCH + 1


def test_the_curve_is_that_of_keras_fit(fitting):
    one = fitting(linear())
    weights = one.model.get_weights()
    curve = one.run().curve
    model = linear()
    model.set_weights(weights)

    for epoch in range(2):
        found = model.fit(
            one.data.train.shuffled(13, epoch * EPOCH, EPOCH), validation_data=one.data.evaluation.in_order(), verbose=0
        ).history
        assert {name: curve[epoch][name] for name in found} == {name: value for name, (value,) in found.items()}


def test_class_weights_are_those_of_keras(fitting):
    one = fitting(linear(), weights={1: 3.0})
    weights = one.model.get_weights()
    one.run()
    model = linear()
    model.set_weights(weights)

    unweighted = replace(one.data.train, class_weights=None)
    model.fit(unweighted.shuffled(13, 0, 2 * EPOCH), class_weight={0: 1.0, 1: 3.0}, verbose=0)

    for found, expected in zip(one.model.get_weights(), model.get_weights(), strict=True):
        assert found == pytest.approx(expected, rel=1e-5)


def test_classes_of_one_number_each_are_weighed_too(fitting):
    one = fitting(linear(units=3, activation="softmax"), label="parts", weights={0: 0.0, 1: 0.0, 2: 0.0})
    before = one.model.get_weights()[0].tolist()

    one.run()

    assert one.model.get_weights()[0].tolist() == before


@pytest.mark.parametrize(
    ("label", "weights", "message"),
    [
        ("late", {2: 1.0}, "'late' has no class 2; its classes go from 0 to 1"),
        ("fare_again", {0: 1.0}, "'fare_again' is no class"),
    ],
)
def test_weights_of_classes_that_there_are_not_are_refused(fitting, label, weights, message):
    with pytest.raises(ConfigError, match=f"class_weights: the label {message}"):
        fitting(linear(), label=label, weights=weights)


def test_a_training_that_gets_no_better_ends_with_its_best_weights(fitting):
    rule = EarlyStopping(monitor="val_accuracy", direction="min", patience=2)  # it rises, so the first is the best
    one = fitting(linear(0.5), early_stopping=rule, total=10 * EPOCH)

    fitted = one.run()

    assert fitted.steps < 10 * EPOCH
    assert fitted.steps == fitted.best_step + 2 * EPOCH
    best = next(row for row in fitted.curve if row["step"] == fitted.best_step)
    one.logs.close()
    found = one.model.evaluate(one.data.evaluation.in_order(), verbose=0, return_dict=True)
    assert found == {name.removeprefix("val_"): value for name, value in best.items() if name.startswith("val_")}


def test_the_last_weights_are_kept_where_the_best_are_not_wanted(fitting):
    rule = EarlyStopping(monitor="val_accuracy", direction="min", patience=2, restore_best=False)

    fitted = fitting(linear(0.5), early_stopping=rule, total=10 * EPOCH).run()

    assert fitted.best_step == fitted.steps == fitted.curve[-1]["step"]


def test_a_training_that_was_stopped_early_stays_so(fitting):
    settings = {
        "early_stopping": EarlyStopping(monitor="val_accuracy", direction="min", patience=1),
        "total": 10 * EPOCH,
    }
    first, again = fitting(linear(0.5), **settings), fitting(linear(0.5), **settings)

    fitted = first.run()
    repeated = again.run()

    assert (repeated.steps, repeated.best_step, repeated.curve) == (fitted.steps, fitted.best_step, fitted.curve)
    assert [w.tolist() for w in again.model.get_weights()] == [w.tolist() for w in first.model.get_weights()]


def test_every_epoch_leaves_a_checkpoint(fitting):
    one = fitting(linear(), total=3 * EPOCH, checkpoint_steps=1000)
    one.run()

    assert {file.name for file in one.directory.glob("*.index")} == {"ckpt-8.index", "ckpt-12.index"}


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_keeps_weights_in_float32(fitting, policy):
    with precision(policy):
        model = linear()
    fitting(model).run()

    assert model.layers[-1].compute_dtype == policy.removeprefix("mixed_")
    assert {variable.dtype.name for variable in model.trainable_variables} == {"float32"}
    assert linear().layers[-1].compute_dtype == "float32"


def test_XLA_trains_to_the_same_weights_but_for_rounding(fitting, tmp_path):
    plain, compiled = fitting(linear()), fitting(linear(), directory=tmp_path / "others")
    compiled.model.set_weights(plain.model.get_weights())
    compiled.model.jit_compile = True
    plain.run()
    compiled.run()

    for found, expected in zip(compiled.model.get_weights(), plain.model.get_weights(), strict=True):
        assert found == pytest.approx(expected, rel=1e-4)


def diverging(at: int) -> Any:
    """A learning rate that is fine before step `at` and infinite from there on: the loss shows it one step later."""
    import tf_keras

    model = linear()
    rate = tf_keras.optimizers.schedules.PiecewiseConstantDecay([at - 2], [0.01, float("inf")])
    model.compile(tf_keras.optimizers.SGD(rate), "binary_crossentropy")
    return model


def test_a_loss_that_is_not_a_number_names_the_last_good_checkpoint(fitting):
    one = fitting(diverging(at=6), checkpoint_steps=1)

    with pytest.raises(
        UserCodeError, match=r"not a number at step 7, .* is that of step 5. .* initial_weights: (.*)/ckpt-5\.\*"
    ):
        one.run()


def test_the_way_on_from_a_checkpoint_is_its_weights_with_other_settings(fitting, tmp_path):
    one = fitting(linear())
    one.run()
    other = linear(0.001)
    assert [w.tolist() for w in other.get_weights()] != [w.tolist() for w in one.model.get_weights()]

    start_from_checkpoint(other, f"{one.directory}/ckpt-8.*")

    assert [w.tolist() for w in other.get_weights()] == [w.tolist() for w in one.model.get_weights()]
    assert float(other.optimizer.learning_rate) == pytest.approx(0.001)


def test_weights_of_another_shape_are_told_by_layer(fitting):
    one = fitting(linear())
    one.run()

    with pytest.raises(
        ConfigError, match=r"initial_weights: .* answer/kernel is \[1, 3\] here and \[1, 1\] there; answer/bias"
    ):
        start_from_checkpoint(linear(units=3), f"{one.directory}/ckpt-8.*")


def test_several_checkpoints_at_once_are_refused(fitting):
    one = fitting(linear())
    one.run()

    with pytest.raises(ConfigError, match="are several checkpoints: .*ckpt-4, .*ckpt-8. Name the files of one"):
        start_from_checkpoint(linear(), f"{one.directory}/ckpt-*.*")


def test_too_little_memory_is_told_with_the_batch_size(fitting):
    import tensorflow as tf
    import tf_keras

    class Huge(tf_keras.layers.Layer):
        def call(self, inputs: Any, training: bool = False) -> Any:
            if not training:
                return inputs
            return inputs * tf.reduce_max(tf.random.uniform([2**44 * tf.shape(inputs, tf.int64)[0]]))

    x = tf_keras.layers.Input((1,), name="x")
    model = tf_keras.Model({"x": x}, tf_keras.layers.Dense(1)(Huge()(x)))
    model.compile("sgd", "mse")

    with pytest.raises(StepFailed, match=r"out of memory at step 1 with batch_size 50 \(.* Try batch_size: 25, fewer"):
        fitting(model).run()


def test_a_feature_that_is_not_a_number_is_named_before_the_model_is_blamed(fitting):
    import tf_keras

    inputs = {name: tf_keras.layers.Input((1,), name=name) for name in ("x", "nan")}
    model = tf_keras.Model(inputs, tf_keras.layers.Dense(1)(tf_keras.layers.concatenate(list(inputs.values()))))
    model.compile("sgd", "mse")

    with pytest.raises(DataError, match="not a number at step 1: .* 'nan' in 194 records"):
        fitting(model).run()


def test_tensorboard_reads_metrics_by_step(fitting, tmp_path):
    import tensorflow as tf
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    curve = fitting(linear()).run().curve

    for run, prefix in (("train", ""), ("validation", "val_")):
        events = EventAccumulator(str(tmp_path / "logs" / run))
        events.Reload()
        found = [(one.step, float(tf.make_ndarray(one.tensor_proto))) for one in events.Tensors("loss")]
        assert found == [(row["step"], pytest.approx(row[f"{prefix}loss"])) for row in curve]


def test_the_profile_is_of_the_steps_asked_for(fitting, tmp_path):
    fitting(linear(), profile=(2, 3)).run()

    (file,) = (tmp_path / "logs" / "plugins" / "profile").glob("*/*.xplane.pb")
    assert file.stat().st_size > 0


def test_the_speed_leaves_out_the_first_step_of_each_epoch(fitting):
    fitted = fitting(linear()).run()

    assert fitted.examples_per_s is not None
    assert fitted.examples_per_s > 0
