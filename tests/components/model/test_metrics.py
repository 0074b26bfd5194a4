"""Metrics as a definition names them."""

from __future__ import annotations

import inspect
import json
from typing import Any

import pytest

from components.model import metrics
from components.model.metrics import Metric


def test_the_known_metrics_are_those_of_tfma_and_keras() -> None:
    import tensorflow as tf
    import tensorflow_model_analysis  # noqa: F401 (registers its metrics)
    from tensorflow_model_analysis.metrics import metric_types

    keras = {
        name
        for name, value in vars(tf.keras.metrics).items()
        if inspect.isclass(value) and issubclass(value, tf.keras.metrics.Metric)
    }
    bases = {"Metric", "MeanMetricWrapper", "MeanTensor"}  # to make metrics of, not to ask for

    assert set(metrics.KNOWN) == (keras | set(metric_types.registered_metrics())) - bases


@pytest.mark.parametrize("written", ["AUC", "auc", "Auc"])
def test_a_metric_is_found_in_any_case(written: str) -> None:
    found, problems = metrics.parse([written])

    assert problems == []
    assert found[0] == Metric("AUC", "auc")


@pytest.mark.parametrize("written", ["binary_accuracy", "BinaryAccuracy", "binary-accuracy"])
def test_a_metric_is_found_in_snake_case(written: str) -> None:
    assert metrics.parse([written])[0][0] == Metric("BinaryAccuracy", "binary_accuracy")


def test_the_exact_spelling_wins_over_one_that_differs_in_case() -> None:
    assert metrics.find("BinaryCrossentropy") == "BinaryCrossentropy"
    assert metrics.find("BinaryCrossEntropy") == "BinaryCrossEntropy"


def test_a_default_name_is_the_one_that_keras_gives() -> None:
    import tensorflow as tf

    for kind in (tf.keras.metrics.BinaryAccuracy, tf.keras.metrics.AUC, tf.keras.metrics.TopKCategoricalAccuracy):
        assert metrics.default_name(kind.__name__) == kind().name
    assert metrics.default_name("AUCPrecisionRecall") == "auc_precision_recall"
    assert metrics.default_name("F1Score") == "f1_score"


def test_a_metric_takes_the_arguments_of_its_class() -> None:
    found, problems = metrics.parse([{"name": "AUC", "config": {"name": "auc_pr", "curve": "PR"}}])

    assert problems == []
    assert found[0].name == "auc_pr"
    written = found[0].to_json()
    assert written["className"] == "AUC"
    assert json.loads(written["config"]) == {"name": "auc_pr", "curve": "PR"}


def test_the_number_of_examples_is_always_counted_and_once() -> None:
    assert [metric.name for metric in metrics.parse(["AUC"])[0]] == ["auc", "example_count"]
    assert [metric.name for metric in metrics.parse(["ExampleCount"])[0]] == ["example_count"]


@pytest.mark.parametrize(
    ("setting", "problem"),
    [
        ("AUCC", "metrics.0: neither TFMA nor Keras has a metric 'AUCC'. Did you mean 'AUC'?"),
        (
            "binary_acuracy",
            "metrics.0: neither TFMA nor Keras has a metric 'binary_acuracy'. Did you mean 'BinaryAccuracy'?",
        ),
        (3, "metrics.0: 3 is not a metric"),
        ({"config": {}}, "metrics.0: {'config': {}} is not a metric"),
        ({"name": "AUC", "confg": {}}, "metrics.0.confg: no such setting. Did you mean 'config'?"),
    ],
)
def test_what_is_no_metric_is_refused_with_its_place(setting: Any, problem: str) -> None:
    _, problems = metrics.parse([setting])

    assert len(problems) == 1
    assert problems[0].startswith(problem)


def test_two_metrics_of_one_name_are_refused() -> None:
    _, problems = metrics.parse(["AUC", {"name": "AUC", "config": {"curve": "PR"}}])

    assert problems == ["metrics: two are called 'auc'. Give one of them another, as config: {name: ...}"]


def test_options_of_tfmas_specs_stand_beside_a_metric() -> None:
    settings = [
        "Precision",
        {"name": "Precision", "binarize": {"class_ids": [0, 2]}},
        {"name": "AUC", "aggregate": {"macro_average": True, "class_weights": {0: 1.0}}, "query_key": "user"},
    ]

    found, problems = metrics.parse(settings)

    assert problems == []
    assert [metric.options for metric in found[:3]] == [
        {},
        {"binarize": {"class_ids": {"values": [0, 2]}}},
        {"aggregate": {"macro_average": True, "class_weights": {"0": 1.0}}, "query_key": "user"},
    ]


def test_metrics_without_a_name_are_those_that_take_none() -> None:
    import inspect

    from tensorflow_model_analysis.metrics import metric_types

    takes_none = {
        name
        for name, kind in metric_types.registered_metrics().items()
        if not {"name", "kwargs"} & inspect.signature(kind.__init__).parameters.keys()
    }

    assert takes_none & set(metrics.KNOWN) == set(metrics.NAMELESS)
    assert metrics.Metric("QueryStatistics", "query_statistics").to_json()["config"] == "{}"


def test_of_several_outputs_each_is_measured_and_examples_are_counted_once() -> None:
    auc = metrics.Metric("AUC", "auc")

    assert [one.in_results for one in auc.of(("a", "b"), weighted=True)] == ["auc (a)", "auc (b)"]
    assert [one.options for one in auc.of(("a", "b"), weighted=True)] == [
        {"output_names": ["a"]},
        {"output_names": ["b"]},
    ]
    assert auc.of((), weighted=True) == (auc,)
    assert metrics.COUNT.of(("a", "b"), weighted=False) == (metrics.COUNT,)
    assert metrics.COUNT.of((), weighted=True)[0].options == {"exampleWeights": {"unweighted": True}}


def test_a_metric_is_of_the_outputs_that_it_names_and_whole_where_it_weighs_them() -> None:
    of_one = metrics.Metric("AUC", "auc", options={"output_names": ["b"]})
    weighing = metrics.Metric("AUC", "auc", options={"output_weights": {"a": 1.0, "b": 2.0}})

    assert of_one.of(("a", "b"), weighted=False) == (of_one,)
    assert [one.outputs for one in weighing.of(("a", "b"), weighted=False)] == [("a", "b")]
