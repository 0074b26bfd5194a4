"""TFX's taxi example (`taxi_utils_native_keras.py`) with the features and the architecture of configs/taxi.

A module file as TFX's Transform and Trainer take it. What surrounds the model is as in TFX's example: its strategy, callback,
input function and signatures. `tf.keras` is what the process has: Keras 3 unless TF_USE_LEGACY_KERAS is set.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf
import tensorflow_transform as tft
from tfx_bsl.tfxio import dataset_options

from configs.taxi.features import (
    CATEGORIES,
    LABEL,
    NUMBERS,
    OOV_BUCKETS,
    PLACE_BUCKETS,
    PLACES,
    VOCABULARY_SIZE,
    WORDS,
    transformed,
)
from configs.taxi.features import preprocessing_fn as preprocessing_fn  # Transform looks for it here

BATCH_SIZE = 64
ONLY_FOR_THE_LABEL = "tips"


def run_fn(fn_args: Any) -> None:
    """Train and save, as TFX's Trainer calls it; `custom_config: {"strategy": false}` leaves the strategy out."""
    output = tft.TFTransformOutput(fn_args.transform_output)
    train, evaluation = (_input_fn(files, fn_args, output) for files in (fn_args.train_files, fn_args.eval_files))
    if (fn_args.custom_config or {}).get("strategy", True):
        with tf.distribute.MirroredStrategy().scope():
            model = build_model()
    else:
        model = build_model()
    model.fit(
        train,
        steps_per_epoch=fn_args.train_steps,
        validation_data=evaluation,
        validation_steps=fn_args.eval_steps,
        callbacks=[tf.keras.callbacks.TensorBoard(log_dir=fn_args.model_run_dir, update_freq="epoch")],
        verbose=0,
    )
    signatures = {
        "serving_default": _serve_examples(model, output),
        "transform_features": _transform_features(model, output),
    }
    tf.saved_model.save(model, fn_args.serving_model_dir, signatures=signatures)


def build_model() -> Any:
    """configs.taxi.model.build_model with its default hyperparameters."""
    layers = tf.keras.layers
    sizes = dict.fromkeys(PLACES, PLACE_BUCKETS)
    sizes |= dict.fromkeys(WORDS, VOCABULARY_SIZE + OOV_BUCKETS)
    sizes |= CATEGORIES
    numbers = {transformed(name): layers.Input((1,), name=transformed(name)) for name in NUMBERS}
    categories = {transformed(name): layers.Input((1,), name=transformed(name), dtype="int64") for name in sizes}
    wide = [
        layers.Flatten()(layers.Embedding(size, 1, embeddings_initializer="zeros")(categories[transformed(name)]))
        for name, size in sizes.items()
    ]
    deep = layers.concatenate(
        [
            *numbers.values(),
            *(
                layers.Flatten()(layers.Embedding(size, 4)(categories[transformed(name)]))
                for name, size in sizes.items()
            ),
        ]
    )
    for _ in range(2):
        deep = layers.Dense(32, activation="relu")(deep)
    score = layers.add([*wide, layers.Dense(1)(deep)])
    model = tf.keras.Model(numbers | categories, layers.Activation("sigmoid", name="big_tip")(score))
    model.compile(
        optimizer=tf.keras.optimizers.Adam(1e-3),
        loss="binary_crossentropy",
        metrics=[tf.keras.metrics.BinaryAccuracy(name="accuracy"), tf.keras.metrics.AUC(name="auc")],
    )
    return model


def _input_fn(files: list[str], fn_args: Any, output: Any) -> Any:
    options = dataset_options.TensorFlowDatasetOptions(batch_size=BATCH_SIZE, label_key=LABEL)
    return fn_args.data_accessor.tf_dataset_factory(files, options, output.transformed_metadata.schema).repeat()


def _serve_examples(model: Any, output: Any) -> Any:
    model.tft_layer_inference = output.transform_features_layer()

    @tf.function(input_signature=[tf.TensorSpec(shape=[None], dtype=tf.string, name="examples")])
    def serve(examples):  # type: ignore[no-untyped-def]
        spec = output.raw_feature_spec()
        spec.pop(ONLY_FOR_THE_LABEL)
        features = model.tft_layer_inference(tf.io.parse_example(examples, spec))
        return {"outputs": model(features)}

    return serve


def _transform_features(model: Any, output: Any) -> Any:
    model.tft_layer_eval = output.transform_features_layer()

    @tf.function(input_signature=[tf.TensorSpec(shape=[None], dtype=tf.string, name="examples")])
    def transform_features(examples):  # type: ignore[no-untyped-def]
        return model.tft_layer_eval(tf.io.parse_example(examples, output.raw_feature_spec()))

    return transform_features
