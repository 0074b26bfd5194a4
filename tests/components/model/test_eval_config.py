"""Whatever TFMA's EvalConfig can say: asked by our settings or taken whole, the results are TFMA's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from components.io import tfrecord
from components.model.evaluator import Evaluator
from schemas.artifacts import Blessing, Evaluation, Examples, Model
from schemas.component import Baseline, BeamOptions, Progress
from schemas.errors import ConfigError, DataError

ROWS = 60


@pytest.fixture(scope="module")
def sales(tmp_path_factory: pytest.TempPathFactory) -> Examples:
    """Sixty things on sale, of three kinds, in two shards; `search` is who was shown them together."""
    import numpy as np
    import tensorflow as tf

    random = np.random.default_rng(3)
    examples = Examples(tmp_path_factory.mktemp("sales"))
    directory = examples.split_path("eval")
    directory.mkdir()

    def record(row: int) -> bytes:
        traits = [row % 2, row // 2 % 2]
        floats = {"x": random.normal(size=3), "price": [random.gamma(2.0)], "weight": [1 + row % 3], "traits": traits}
        ints = {"kind": [int(random.integers(3))], "sold": [int(random.random() < 0.4)], "shelf": [row % 2]}
        texts = {"search": [b"query %d" % (row // 5)], "said": [b"a b" if row % 3 else b"c"]}
        features = {name: tf.train.Feature(float_list={"value": value}) for name, value in floats.items()}
        features |= {name: tf.train.Feature(int64_list={"value": value}) for name, value in ints.items()}
        features |= {name: tf.train.Feature(bytes_list={"value": value}) for name, value in texts.items()}
        return tf.train.Example(features={"feature": features}).SerializeToString(deterministic=True)

    records = [record(row) for row in range(ROWS)]
    for shard, some in enumerate((records[:25], records[25:])):
        tfrecord.write(directory / f"data_tfrecord-0000{shard}-of-00002.gz", some)
    return examples


def save(path: Path, answers: Callable[[Any], dict[str, Any]]) -> None:
    import tensorflow as tf

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="examples")])
    def serve(examples: Any) -> dict[str, Any]:
        return answers(tf.io.parse_example(examples, {"x": tf.io.FixedLenFeature([3], tf.float32)})["x"])

    module = tf.Module()
    module.serve = serve
    tf.saved_model.save(module, str(path), signatures={"serving_default": serve})


@pytest.fixture(scope="module")
def of_kinds(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """Gives a probability for each of three kinds."""
    import tensorflow as tf

    model = Model(tmp_path_factory.mktemp("of_kinds"))
    save(model.serving, lambda x: {"scores": tf.nn.softmax(x)})
    return model


@pytest.fixture(scope="module")
def of_two(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """Gives a price and whether it is sold."""
    import tensorflow as tf

    model = Model(tmp_path_factory.mktemp("of_two"))
    save(model.serving, lambda x: {"amount": tf.exp(x[:, :1]), "is_sold": tf.sigmoid(x[:, 1:2])})
    return model


@pytest.fixture(scope="module")
def of_kind_and_traits(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """Gives a probability for each of three kinds, of which one is right, and for each of two traits."""
    import tensorflow as tf

    model = Model(tmp_path_factory.mktemp("of_kind_and_traits"))
    save(model.serving, lambda x: {"kind": tf.nn.softmax(x), "traits": tf.sigmoid(x[:, :2])})
    return model


@pytest.fixture(scope="module")
def of_sold(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """Gives one number: whether it is sold."""
    import tensorflow as tf

    model = Model(tmp_path_factory.mktemp("of_sold"))
    save(model.serving, lambda x: {"is_sold": tf.sigmoid(x[:, 1:2])})
    return model


@pytest.fixture(scope="module")
def of_sold_before(tmp_path_factory: pytest.TempPathFactory) -> Model:
    import tensorflow as tf

    model = Model(tmp_path_factory.mktemp("of_sold_before"))
    save(model.serving, lambda x: {"is_sold": tf.sigmoid(x[:, 2:3])})
    return model


def ours(
    directory: Path, examples: Examples, model: Model, baseline: Model | None = None, **settings: Any
) -> tuple[Evaluation, Blessing]:
    evaluation, blessing = Evaluation(directory / "evaluation"), Blessing(directory / "blessing")
    for artifact in (evaluation, blessing):
        artifact.path.mkdir(parents=True)
    served = Baseline(baseline.serving, "sha256:served", 7) if baseline else Baseline()
    Evaluator(**settings).run(examples, model, served, BeamOptions(), Progress(), evaluation, blessing)
    return evaluation, blessing


def theirs(
    directory: Path, examples: Examples, config: str | Path, model: Model, baseline: Model | None = None
) -> Path:
    """TFMA's own result for an EvalConfig in text form, as TFX's Evaluator asks for it."""
    import tensorflow_model_analysis as tfma
    from apache_beam.options.pipeline_options import PipelineOptions
    from google.protobuf import text_format

    text = config.read_text() if isinstance(config, Path) else config
    asked = text_format.Parse(text, tfma.EvalConfig())
    asked = tfma.utils.update_eval_config_with_defaults(asked, has_baseline=baseline is not None, rubber_stamp=True)
    models = []
    for spec in asked.model_specs:
        judged = baseline if spec.is_baseline and baseline else model
        models.append(
            tfma.default_eval_shared_model(
                eval_saved_model_path=str(judged.serving), model_name=spec.name, eval_config=asked
            )
        )
    tfma.run_model_analysis(
        eval_shared_model=models if len(models) > 1 else models[0],
        eval_config=asked,
        data_location=str(examples.split_path("eval") / "*.gz"),
        output_path=str(directory),
        pipeline_options=PipelineOptions(
            ["--runner=apache_beam.runners.portability.fn_api_runner.FnApiRunner", "--no_pipeline_type_check"]
        ),
    )
    return directory


def values(directory: Path) -> dict[bytes, dict[bytes, list[Any]]]:
    """Everything that was written, by slice and by metric or plot; whole numbers of examples are left out."""
    import tensorflow_model_analysis as tfma

    found: dict[bytes, dict[bytes, list[Any]]] = {}
    for of_slice in tfma.load_metrics(str(directory)):
        key = of_slice.slice_key.SerializeToString(True) + b"|" + of_slice.cross_slice_key.SerializeToString(True)
        for item in of_slice.metric_keys_and_values:
            if item.key.name == "example_count":
                continue
            found.setdefault(key, {})[item.key.SerializeToString(True)] = list(leaves(item.value))
    for plots in tfma.load_plots(str(directory)):
        for plot in plots.plot_keys_and_values:
            key = plots.slice_key.SerializeToString(True) + b"|" + plots.cross_slice_key.SerializeToString(True)
            found.setdefault(key, {})[b"plot" + plot.key.SerializeToString(True)] = list(leaves(plot.value))
    return found


def leaves(message: Any) -> Iterator[Any]:
    """Every number and text in a message, in the order of its fields."""
    for field, value in message.ListFields():
        for one in value if field.label == field.LABEL_REPEATED else [value]:
            yield from leaves(one) if field.message_type else [one]


def assert_equal(one: Path, other: Path) -> None:
    found, expected = values(one), values(other)
    assert expected
    assert found.keys() == expected.keys()
    for key, numbers in expected.items():
        assert found[key].keys() == numbers.keys()
        for name, value in numbers.items():
            assert found[key][name] == pytest.approx(value, rel=1e-5, abs=1e-7, nan_ok=True)


@pytest.mark.slow
def test_classes_top_ks_averages_and_weights(sales: Examples, of_kinds: Model, tmp_path: Path) -> None:
    each = {"class_ids": [0, 2]}
    weights = {"macro_average": True, "class_weights": {0: 1.0, 1: 2.0, 2: 1.0}}
    evaluation, blessing = ours(
        tmp_path / "ours",
        sales,
        of_kinds,
        label="kind",
        example_weight="weight",
        metrics=(
            "SparseCategoricalAccuracy",
            "MultiClassConfusionMatrixPlot",
            "WeightedExampleCount",
            {"name": "Precision", "binarize": each},
            {"name": "F1Score", "binarize": each, "aggregate": weights},
            {"name": "Recall", "binarize": {"top_k_list": [2]}},
            {"name": "Precision", "aggregate": {"micro_average": True}, "example_weights": {"unweighted": True}},
        ),
        thresholds={"precision": {"min": 0.99}, "f1_score": {"min": 0.01}},
    )

    expected = theirs(
        tmp_path / "theirs",
        sales,
        """
        model_specs { label_key: "kind" example_weight_key: "weight" signature_name: "serving_default" }
        metrics_specs {
          metrics { class_name: "SparseCategoricalAccuracy" } metrics { class_name: "WeightedExampleCount" }
          metrics { class_name: "MultiClassConfusionMatrixPlot" }
        }
        metrics_specs { metrics { class_name: "Precision" } binarize { class_ids { values: [0, 2] } } }
        metrics_specs {
          metrics { class_name: "F1Score" } binarize { class_ids { values: [0, 2] } }
          aggregate {
            macro_average: true
            class_weights { key: 0 value: 1 } class_weights { key: 1 value: 2 } class_weights { key: 2 value: 1 }
          }
        }
        metrics_specs { metrics { class_name: "Recall" } binarize { top_k_list { values: [2] } } }
        metrics_specs {
          metrics { class_name: "Precision" } aggregate { micro_average: true } example_weights { unweighted: true }
        }
        """,
        of_kinds,
    )
    assert_equal(evaluation.path, expected)
    assert evaluation.properties["computed_by"] == "TFMA's pipeline, because of example weights"
    assert evaluation.properties["examples"] == ROWS
    assert evaluation.properties["plots"] == 1
    assert {"precision (class_id:0)", "precision (micro_average)", "recall (top_k:2)", "f1_score (macro_average)"} <= (
        evaluation.properties["metrics"].keys()
    )
    assert [reason.split(" 0.")[0] for reason in blessing.reasons] == [
        "precision (class_id:0)",
        "precision (class_id:2)",
        "precision (micro_average)",
    ]


@pytest.mark.slow
def test_a_label_for_each_output(sales: Examples, of_two: Model, tmp_path: Path) -> None:
    evaluation, blessing = ours(
        tmp_path / "ours",
        sales,
        of_two,
        label={"amount": "price", "is_sold": "sold"},
        metrics=(
            {"name": "MeanSquaredError", "output_names": ["amount"]},
            {"name": "SquaredPearsonCorrelation", "output_names": ["amount"]},
            {"name": "BinaryAccuracy", "output_names": ["is_sold"]},
            "Calibration",
        ),
        thresholds={"binary_accuracy": {"min": 0.0}, "mean_squared_error": {"max": 0.001}},
    )

    expected = theirs(
        tmp_path / "theirs",
        sales,
        """
        model_specs {
          label_keys { key: "amount" value: "price" } label_keys { key: "is_sold" value: "sold" }
          signature_name: "serving_default"
        }
        metrics_specs {
          metrics { class_name: "MeanSquaredError" } metrics { class_name: "SquaredPearsonCorrelation" }
          output_names: "amount"
        }
        metrics_specs { metrics { class_name: "BinaryAccuracy" } output_names: "is_sold" }
        metrics_specs { metrics { class_name: "Calibration" } output_names: ["amount", "is_sold"] }
        """,
        of_two,
    )
    assert_equal(evaluation.path, expected)
    assert evaluation.properties["computed_by"] == "TFMA's pipeline, because of labels of several outputs"
    assert len(blessing.reasons) == 1
    assert blessing.reasons[0].startswith("mean_squared_error (amount) ")


@pytest.mark.slow
def test_one_class_of_several_beside_several_labels_at_once(
    sales: Examples, of_kind_and_traits: Model, tmp_path: Path
) -> None:
    evaluation, blessing = ours(
        tmp_path / "ours",
        sales,
        of_kind_and_traits,
        label={"kind": "kind", "traits": "traits"},
        metrics=(
            {"name": "SparseCategoricalAccuracy", "output_names": ["kind"]},
            {"name": "SparseCategoricalCrossentropy", "output_names": ["kind"]},
            {"name": "AUC", "output_names": ["traits"], "binarize": {"class_ids": [0, 1]}},
            "BinaryAccuracy",
        ),
        slices=((), ("shelf",)),
        thresholds={
            "SparseCategoricalAccuracy (kind)": {"min": 0.99, "slices": [{"slice": ["shelf"], "min": 0.0}]},
            "binary_accuracy (traits)": {"max": 0.01},
            "BinaryCrossentropy (traits)": {"min": 0.0},
            "binary_accuracy": {"min": 0.0},
        },
    )

    expected = theirs(
        tmp_path / "theirs",
        sales,
        """
        model_specs {
          label_keys { key: "kind" value: "kind" } label_keys { key: "traits" value: "traits" }
          signature_name: "serving_default"
        }
        slicing_specs {} slicing_specs { feature_keys: "shelf" }
        metrics_specs {
          metrics { class_name: "SparseCategoricalAccuracy" } metrics { class_name: "SparseCategoricalCrossentropy" }
          output_names: "kind"
        }
        metrics_specs {
          metrics { class_name: "AUC" } output_names: "traits" binarize { class_ids { values: [0, 1] } }
        }
        metrics_specs { metrics { class_name: "BinaryAccuracy" } output_names: ["kind", "traits"] }
        metrics_specs { metrics { class_name: "BinaryCrossentropy" } output_names: ["traits"] }
        """,
        of_kind_and_traits,
    )
    assert_equal(evaluation.path, expected)
    assert evaluation.properties["metrics"].keys() == {
        "sparse_categorical_accuracy (kind)",
        "sparse_categorical_crossentropy (kind)",
        "auc (traits, class_id:0)",
        "auc (traits, class_id:1)",
        "binary_accuracy (kind)",
        "binary_accuracy (traits)",
        "binary_crossentropy (traits)",
    }
    missed = [reason.split(" 0.")[0] for reason in blessing.reasons]
    assert missed == ["binary_accuracy (traits)", "sparse_categorical_accuracy (kind)"]


@pytest.mark.slow
def test_metrics_of_rankings_and_plots(sales: Examples, of_sold: Model, tmp_path: Path) -> None:
    ranked = {"gain_key": "price", "top_k_list": [1, 3], "name": "ndcg"}
    evaluation, _ = ours(
        tmp_path / "ours",
        sales,
        of_sold,
        label="sold",
        metrics=(
            {"name": "NDCG", "config": ranked, "query_key": "search"},
            {"name": "QueryStatistics", "query_key": "search"},
            {"name": "MinLabelPosition", "config": {"label_key": "shelf"}, "query_key": "search"},
            "CalibrationPlot",
            "ConfusionMatrixPlot",
            "ScoreDistributionPlot",
            {"name": "ConfusionMatrixAtThresholds", "config": {"thresholds": [0.3, 0.7]}},
            "MeanAbsoluteError",
            "RootMeanSquaredError",
        ),
    )

    expected = theirs(
        tmp_path / "theirs",
        sales,
        """
        model_specs { label_key: "sold" signature_name: "serving_default" }
        metrics_specs {
          metrics { class_name: "NDCG" config: '{"gain_key": "price", "top_k_list": [1, 3], "name": "ndcg"}' }
          metrics { class_name: "QueryStatistics" }
          metrics { class_name: "MinLabelPosition" config: '{"label_key": "shelf"}' }
          query_key: "search"
        }
        metrics_specs {
          metrics { class_name: "CalibrationPlot" } metrics { class_name: "ConfusionMatrixPlot" }
          metrics { class_name: "ScoreDistributionPlot" }
          metrics { class_name: "ConfusionMatrixAtThresholds" config: '{"thresholds": [0.3, 0.7]}' }
          metrics { class_name: "MeanAbsoluteError" } metrics { class_name: "RootMeanSquaredError" }
        }
        """,
        of_sold,
    )
    assert_equal(evaluation.path, expected)
    assert evaluation.properties["computed_by"] == "TFMA's pipeline, because of metrics by query_key"
    assert "ndcg (top_k:3)" in evaluation.properties["metrics"]


WHOLE = """
model_specs { label_key: "sold" signature_name: "serving_default" }
slicing_specs {} slicing_specs { feature_keys: "shelf" }
cross_slicing_specs { baseline_spec {} slicing_specs { feature_keys: "shelf" } }
metrics_specs {
  metrics {
    class_name: "AUC"
    threshold {
      value_threshold { lower_bound { value: 0.01 } upper_bound { value: 0.02 } }
      change_threshold { direction: HIGHER_IS_BETTER absolute { value: 0.9 } }
    }
    cross_slice_thresholds {
      cross_slicing_specs { baseline_spec {} slicing_specs { feature_keys: "shelf" } }
      threshold { value_threshold { upper_bound { value: 0.9 } } }
    }
  }
  metrics {
    class_name: "MeanPrediction"
    per_slice_thresholds {
      slicing_specs { feature_values { key: "shelf" value: "1" } }
      threshold { value_threshold { upper_bound { value: 0.1 } } }
    }
    per_slice_thresholds {
      slicing_specs { feature_values { key: "shelf" value: "5" } }
      threshold { value_threshold { upper_bound { value: 1.0 } } }
    }
    cross_slice_thresholds {
      cross_slicing_specs { baseline_spec {} slicing_specs { feature_values { key: "shelf" value: "0" } } }
      threshold { value_threshold { upper_bound { value: -0.9 } } }
    }
  }
  thresholds { key: "binary_accuracy" value { value_threshold { lower_bound { value: 0.0 } } } }
}
metrics_specs { metrics { class_name: "BinaryAccuracy" } }
"""


@pytest.mark.slow
def test_an_eval_config_whole_with_a_baseline(
    sales: Examples, of_sold: Model, of_sold_before: Model, tmp_path: Path
) -> None:
    (tmp_path / "asked.pbtxt").write_text(WHOLE)

    evaluation, blessing = ours(
        tmp_path / "ours", sales, of_sold, of_sold_before, eval_config_file=str(tmp_path / "asked.pbtxt")
    )

    expected = theirs(tmp_path / "theirs", sales, tmp_path / "asked.pbtxt", of_sold, of_sold_before)
    assert_equal(evaluation.path, expected)
    assert evaluation.properties["computed_by"] == "TFMA's pipeline, because of the option cross_slicing_specs"
    assert evaluation.properties["baseline_metrics"].keys() == evaluation.properties["metrics"].keys()
    opened = [reason.split(" 0.")[0] for reason in blessing.reasons]
    assert opened.count("auc") == 6  # overall and two slices, each too good for its upper bound and not enough better
    compared = [reason for reason in blessing.reasons if "overall less" in reason]
    assert len(compared) == 1  # the bound on the comparison of AUCs is kept
    assert compared[0].startswith("mean_prediction ")
    assert "on overall less shelf:0 is above -0.9" in compared[0]
    assert any("is above 0.02" in reason for reason in blessing.reasons)
    assert any("the least allowed is +0.9" in reason for reason in blessing.reasons)
    assert any(
        reason.startswith("mean_prediction ") and "on shelf:1 (30 examples)" in reason for reason in blessing.reasons
    )
    assert "mean_prediction was not computed on shelf:5 (0 examples), so max 1 is not kept" in " ".join(
        blessing.reasons
    )
    assert {"metric": "auc", "slice": "every slice", "bound": "min_change", "limit": 0.9} in (
        blessing.properties["thresholds"]
    )


def test_an_eval_config_in_yaml_takes_the_quick_way_where_it_can(
    sales: Examples, of_sold: Model, tmp_path: Path
) -> None:
    asked = {
        "model_specs": [{"label_key": "sold"}],
        "slicing_specs": [{}, {"feature_keys": ["shelf"]}],
        "metrics_specs": [
            {
                "metrics": [
                    {
                        "class_name": "AUC",
                        "config": {"num_thresholds": 200, "name": "auc"},
                        "threshold": {
                            "value_threshold": {"lower_bound": 0.1},
                            "change_threshold": {"direction": "HIGHER_IS_BETTER", "absolute": 0.0},
                        },
                    }
                ]
            }
        ],
    }

    whole, blessing = ours(tmp_path / "whole", sales, of_sold, eval_config=asked)
    settings, _ = ours(
        tmp_path / "settings",
        sales,
        of_sold,
        label="sold",
        slices=(("shelf",),),
        metrics=({"name": "AUC", "config": {"num_thresholds": 200}},),
    )

    assert whole.properties == settings.properties
    assert whole.properties["computed_by"] == "sums over batches"
    assert_equal(whole.path, settings.path)
    assert blessing.blessed
    assert blessing.properties["not_applied"] == [
        "min_change 0 of auc on every slice: there is no baseline to compare with"
    ]


def test_the_eval_config_that_tfma_wrote_can_be_asked_again(sales: Examples, of_sold: Model, tmp_path: Path) -> None:
    first, _ = ours(tmp_path / "first", sales, of_sold, label="sold", metrics=("AUC",), thresholds={"auc": {"min": 0}})

    again, blessing = ours(tmp_path / "again", sales, of_sold, eval_config_file=str(first.path / "eval_config.json"))

    assert {file.name: file.read_bytes() for file in again.path.iterdir()} == {
        file.name: file.read_bytes() for file in first.path.iterdir()
    }
    assert blessing.blessed


def test_labels_that_are_texts_are_for_metrics_of_texts(sales: Examples, of_sold: Model, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="label 'said' is text"):
        ours(tmp_path, sales, of_sold, eval_config=asking("AUC", label="said"))


def asking(class_name: str, label: str = "sold", **more: Any) -> dict[str, Any]:
    return {
        "model_specs": [{"label_key": label}],
        "metrics_specs": [{"metrics": [{"class_name": class_name, **more}]}],
    }


@pytest.mark.parametrize(
    ("asked", "problem"),
    [
        (
            {"model_spec": []},
            "eval_config.model_spec: TFMA's EvalConfig has no such field. Did you mean 'model_specs'?",
        ),
        ({"model_specs": []}, "eval_config: without metrics_specs there is nothing to compute"),
    ],
)
def test_what_no_eval_config_says_is_found_at_once(asked: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Evaluator(eval_config=asked)

    assert len(caught.value.problems) == 1
    assert caught.value.problems[0].startswith(problem)


def test_settings_that_an_eval_config_says_already_are_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        Evaluator(eval_config=asking("AUC"), label="sold", thresholds={"auc": {"min": 0}}, example_weight="weight")

    assert [problem.split(":")[0] for problem in caught.value.problems] == ["label", "thresholds", "example_weight"]
    with pytest.raises(ConfigError, match="eval_config_file: eval_config is set as well"):
        Evaluator(eval_config=asking("AUC"), eval_config_file="asked.pbtxt")


@pytest.mark.parametrize(
    ("asked", "problem"),
    [
        (asking("AUC", confg="{}"), "eval_config: .*no field named .confg."),
        (asking("AUCC"), "eval_config: AUCC cannot be made with no config: "),
        ({"metrics_specs": [{"metrics": [{"class_name": "AUC"}]}]}, "eval_config: model_specs is missing"),
        (
            asking("AUC") | {"model_specs": [{"label_key": "sold", "label_keys": {"a": "b"}}]},
            "eval_config: only one of label_key or label_keys",
        ),
        (
            asking("AUC") | {"model_specs": [{"label_key": "sold", "name": name} for name in "abc"]},
            "eval_config: model_specs has 3 models",
        ),
    ],
)
def test_an_eval_config_that_tfma_does_not_take_says_where(
    asked: dict[str, Any], problem: str, sales: Examples, of_sold: Model, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=problem):
        ours(tmp_path, sales, of_sold, eval_config=asked)


def test_a_file_that_is_no_eval_config_is_named(sales: Examples, of_sold: Model, tmp_path: Path) -> None:
    (tmp_path / "asked.pbtxt").write_text("metrics_spec {}")

    with pytest.raises(ConfigError, match=r"eval_config_file: .*asked\.pbtxt: .*metrics_spec"):
        ours(tmp_path / "ours", sales, of_sold, eval_config_file=str(tmp_path / "asked.pbtxt"))


def test_one_file_of_several_has_to_be_named(sales: Examples, of_sold: Model, tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / f"{name}.pbtxt").write_text(WHOLE)

    with pytest.raises(ConfigError, match=r"eval_config_file: .*\*\.pbtxt matches 2 files. Name one"):
        ours(tmp_path / "ours", sales, of_sold, eval_config_file=str(tmp_path / "*.pbtxt"))


def test_what_tfma_cannot_compute_is_said_in_its_words(sales: Examples, of_sold: Model, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="metrics: TFMA cannot compute what is asked: ValueError: .*nope"):
        ours(tmp_path, sales, of_sold, label="sold", metrics=({"name": "AUC", "output_names": ["nope"]},))
