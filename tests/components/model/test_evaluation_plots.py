"""The plots of an Evaluation, as a ROC curve and a confusion matrix."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from google.protobuf import text_format

from components.io import tfrecord
from components.model import evaluation_plots

TWO_CLASSES = """
slice_key {}
plot_keys_and_values {
  key { name: "confusion_matrix_plot" model_name: "candidate" }
  value { confusion_matrix_at_thresholds {
    matrices { threshold: -1e-6 true_positives: 4 false_positives: 6 true_negatives: 0 false_negatives: 0 }
    matrices { threshold: 0.5 true_positives: 3 false_positives: 1 true_negatives: 5 false_negatives: 1 }
    matrices { threshold: 1.000001 true_positives: 0 false_positives: 0 true_negatives: 6 false_negatives: 4 }
  } }
}
"""


def write(directory: Path, *texts: str) -> Path:
    from tensorflow_model_analysis.proto import metrics_for_slice_pb2

    messages: list[Any] = [text_format.Parse(text, metrics_for_slice_pb2.PlotsForSlice()) for text in texts]
    tfrecord.write(directory / "plots-00000-of-00001.tfrecord", [message.SerializeToString() for message in messages])
    return directory


def test_of_two_classes_are_a_curve_and_the_matrix_in_its_middle(tmp_path: Path) -> None:
    plots = evaluation_plots.read(write(tmp_path, TWO_CLASSES))

    assert plots.roc == ((1.0, 0.0, 0.0), (0.5, pytest.approx(1 / 6), 0.75), (0.0, 1.0, 1.0))
    assert plots.classes == ("0", "1")
    assert plots.matrix == ((5, 1), (1, 3))  # row: what it is, column: what it is taken for


def test_of_many_classes_are_a_matrix_with_the_undecided_last(tmp_path: Path) -> None:
    text = """
    slice_key {}
    plot_keys_and_values { value { multi_class_confusion_matrix_at_thresholds { matrices { threshold: 0.5
      entries { actual_class_id: 0 predicted_class_id: 2 num_weighted_examples: 1.5 }
      entries { actual_class_id: 2 predicted_class_id: 2 num_weighted_examples: 4 }
      entries { actual_class_id: 2 predicted_class_id: -1 num_weighted_examples: 2 }
    } } } }
    """

    plots = evaluation_plots.read(write(tmp_path, text))

    assert plots.roc == ()
    assert plots.classes == ("0", "2", "none")
    assert plots.matrix == ((0, 1.5, 0), (0, 4, 2), (0, 0, 0))


def test_of_a_slice_or_of_the_baseline_are_not_the_models(tmp_path: Path) -> None:
    of_slice = TWO_CLASSES.replace("slice_key {}", 'slice_key { single_slice_keys { column: "a" int64_value: 1 } }')
    of_baseline = TWO_CLASSES.replace('"candidate"', '"baseline"')

    assert evaluation_plots.read(write(tmp_path, of_slice, of_baseline)) == evaluation_plots.Plots()


def test_a_curve_of_one_class_is_none(tmp_path: Path) -> None:
    text = (
        TWO_CLASSES.replace("true_positives: 4 ", "")
        .replace("true_positives: 3 ", "")
        .replace("false_negatives: 1", "")
    )

    assert evaluation_plots.read(write(tmp_path, text.replace("false_negatives: 4", ""))).roc == ()


def test_a_curve_of_many_thresholds_keeps_its_ends(tmp_path: Path) -> None:
    matrices = "".join(
        f"matrices {{ threshold: {i / 1000} true_positives: {1000 - i} false_negatives: {i} "
        f"false_positives: {1000 - i} true_negatives: {i} }}"
        for i in range(1001)
    )
    text = f"slice_key {{}} plot_keys_and_values {{ value {{ confusion_matrix_at_thresholds {{ {matrices} }} }} }}"

    roc = evaluation_plots.read(write(tmp_path, text)).roc

    assert len(roc) == 200
    assert (roc[0], roc[-1]) == ((1.0, 0.0, 0.0), (0.0, 1.0, 1.0))
    assert [point[1] for point in roc] == sorted(point[1] for point in roc)


def test_without_plots_there_is_nothing_to_draw(tmp_path: Path) -> None:
    assert evaluation_plots.read(tmp_path) == evaluation_plots.Plots()
