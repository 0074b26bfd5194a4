"""Digits from files to a served model with two outputs: labels, reuse, metrics per output, answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from configs.digits.features import MADE_OF, PIXELS, STROKES, preprocessing_fn
from schemas.artifacts import Examples, Model


@pytest.fixture(scope="module")
def ran(problem: Callable[..., Any]) -> Any:
    limits = "{sparse_categorical_accuracy (digit): {min: 0.3}, binary_accuracy (strokes): {min: 0.5}}"
    digits = problem("digits", "parameters.epochs=1", f"release.metrics={limits}", "release.latency={}")
    assert {step["action"] for step in digits.run().values()} == {"run"}
    return digits


def test_pixels_become_an_image_and_the_digit_its_strokes() -> None:
    import numpy as np
    import tensorflow as tf

    columns = {name: tf.constant([[at % 17], [0]], tf.int64) for at, name in enumerate(PIXELS)}

    made = preprocessing_fn({**columns, "digit": tf.constant([[9], [3]], tf.int64)})

    assert made["image"].shape == (2, 8, 8, 1)
    assert made["image"].numpy()[0].ravel().tolist() == pytest.approx([at % 17 / 16 for at in range(64)])
    assert made["strokes"].numpy().tolist() == [[1, 1], [0, 0]]
    assert np.shape(MADE_OF) == (10, len(STROKES))


@pytest.mark.slow
def test_an_unchanged_second_run_reuses_every_step(ran: Any) -> None:
    assert {step["action"] for step in ran.run().values()} == {"reuse"}


@pytest.mark.slow
def test_every_output_is_judged_by_the_label_that_preprocessing_gives_it(ran: Any) -> None:
    import numpy as np
    import tensorflow as tf

    from components.io import tfrecord
    from pipeline.store import Store

    examples, model = Examples(ran.made("example_gen", "examples")), Model(ran.made("trainer", "model"))
    records = tf.constant([record for file in examples.files("eval") for record in tfrecord.read(file)])
    signatures = tf.saved_model.load(str(model.serving)).signatures
    labels, answers = signatures["transform_features"](records), signatures["serving_default"](records)
    right = np.argmax(answers["digit"], axis=1) == labels["digit"].numpy().ravel()
    kept = (answers["strokes"].numpy() > 0.5) == labels["strokes"].numpy()

    (evaluated,) = (one for one in Store(ran.root).executions() if one.step == "evaluator")

    metrics = evaluated.manifest.outputs["evaluation"].properties["metrics"]
    assert metrics["sparse_categorical_accuracy (digit)"] == pytest.approx(right.mean(), rel=1e-6)
    assert metrics["binary_accuracy (strokes)"] == pytest.approx(kept.mean(), rel=1e-6)
    assert {"auc (strokes, class_id:0)", "auc (strokes, class_id:1)"} <= metrics.keys()


@pytest.mark.slow
def test_both_outputs_of_the_server_are_compared_with_the_trained_model_s(ran: Any) -> None:
    from pipeline.store import Store

    (validated,) = (one for one in Store(ran.root).executions() if one.step == "infra_validator")

    parity = validated.manifest.outputs["infra_blessing"].properties["parity"]
    assert parity["compared_with"] == "the trained Keras model's in process"
    assert {name: (found["rows"], found["differ"]) for name, found in parity["signatures"].items()} == {
        "serving_default": (100, 0),
        "serving_columns": (100, 0),
    }


@pytest.mark.slow
def test_a_server_answers_a_row_of_pixels_with_both_outputs(ran: Any) -> None:
    with ran.served() as ask:
        (answer,) = ask({"signature_name": "serving_columns", "instances": [dict.fromkeys(PIXELS, 8)]})

    assert {name: len(values) for name, values in answer.items()} == {"digit": 10, "strokes": 2}
    assert sum(answer["digit"]) == pytest.approx(1, rel=1e-5)
    assert all(0 < value < 1 for value in answer["strokes"])
