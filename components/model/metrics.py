"""Metrics: what TFMA and Keras can compute, by class name, and how a definition asks for one."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from schemas.errors import did_you_mean

DEFAULT = ("AUC", "AUCPrecisionRecall", "BinaryAccuracy", "BinaryCrossentropy", "Precision", "Recall", "MeanLabel")
"""For a label of two classes and a prediction between 0 and 1."""

EXAMPLE_COUNT = "example_count"

# What TFMA 0.47 registers and tf_keras 2.16 adds. Kept here because importing TFMA takes seconds and a definition is
# checked at once; a test compares it with both libraries.
KNOWN = tuple(
    """
    AUC AUCPrecisionRecall Accuracy BalancedAccuracy BinaryAccuracy BinaryCrossEntropy BinaryCrossentropy BinaryIoU Bleu
    BooleanFlipRates COCOAveragePrecision COCOAverageRecall COCOMeanAveragePrecision COCOMeanAverageRecall Calibration
    CalibrationPlot CategoricalAccuracy CategoricalCrossEntropy CategoricalCrossentropy CategoricalHinge
    CoefficientOfDiscrimination ConfusionMatrixAtThresholds ConfusionMatrixPlot CosineSimilarity DiagnosticOddsRatio
    ExactMatch ExampleCount F1Score FBetaScore FN FNR FP FPR FallOut FalseDiscoveryRate FalseNegativeFeatureSampler
    FalseNegatives FalseOmissionRate FalsePositiveFeatureSampler FalsePositives FowlkesMallowsIndex Hinge Informedness
    IoU KLDivergence LogCoshError Markedness MatthewsCorrelationCoefficient MaxRecall Mean MeanAbsoluteAttributions
    MeanAbsoluteError MeanAbsolutePercentageError MeanAttributions MeanIoU MeanLabel MeanPrediction MeanRelativeError
    MeanSquaredError MeanSquaredLogarithmicError MinLabelPosition MissRate ModelCosineSimilarity
    MultiClassConfusionMatrixAtThresholds MultiClassConfusionMatrixPlot MultiLabelConfusionMatrixPlot NDCG NPV
    NegToNegFlipRate NegToPosFlipRate NegativeLikelihoodRatio NegativePredictiveValue ObjectDetectionConfusionMatrixPlot
    ObjectDetectionMaxRecall ObjectDetectionPrecision ObjectDetectionPrecisionAtRecall ObjectDetectionRecall
    ObjectDetectionThresholdAtRecall OneHotIoU OneHotMeanIoU PPV Poisson PosToNegFlipRate PosToPosFlipRate
    PositiveLikelihoodRatio Precision PrecisionAtRecall PredictedPositiveRate Prevalence PrevalenceThreshold
    QueryStatistics R2Score Recall RecallAtFalsePositiveRate RecallAtPrecision RelativeCoefficientOfDiscrimination
    RootMeanSquaredError Rouge ScoreDistributionPlot SemanticSegmentationConfusionMatrix
    SemanticSegmentationFalsePositive SemanticSegmentationTruePositive SensitivityAtSpecificity SetMatchPrecision
    SetMatchRecall SparseCategoricalAccuracy SparseCategoricalCrossentropy SparseTopKCategoricalAccuracy Specificity
    SpecificityAtSensitivity SquaredHinge SquaredPearsonCorrelation Sum SymmetricFlipRate SymmetricPredictionDifference
    TN TNR TP TPR ThreatScore ThresholdAtRecall TopKCategoricalAccuracy TotalAbsoluteAttributions TotalAttributions
    TrueNegatives TruePositives WeightedExampleCount
    """.split()  # noqa: SIM905 (a list of 130 quoted words is no easier to read)
)


@dataclass(frozen=True)
class Metric:
    """One metric to compute. `name` is what results and thresholds call it."""

    class_name: str
    name: str
    config: dict[str, Any] = field(default_factory=dict)  # the class's own arguments

    def to_json(self) -> dict[str, Any]:
        """TFMA's MetricConfig, as protobuf's JSON has it."""
        return {"className": self.class_name, "config": json.dumps({"name": self.name, **self.config}, sort_keys=True)}


def find(name: str, known: Iterable[str] = KNOWN) -> str | None:
    """Which of `known` is meant by `name`: 'auc', 'Auc' and 'AUC' are AUC. None when it is none of them.

    The exact spelling wins where two differ only in case.
    """
    known = tuple(known)
    if name in known:
        return name
    return next((candidate for candidate in known if _plain(candidate) == _plain(name)), None)


def default_name(class_name: str) -> str:
    """What Keras and TFMA call an instance that was given no name: `binary_accuracy` for BinaryAccuracy."""
    split = re.sub(r"(.)([A-Z][a-z0-9]+)", r"\1_\2", class_name)
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", split).lower()


def parse(settings: Iterable[Any]) -> tuple[list[Metric], list[str]]:
    """The metrics that a definition's `metrics` names, and what is wrong with it.

    Each is a class name, or {name: its class, config: {its own arguments}}. The number of examples is always added.
    """
    metrics: list[Metric] = []
    problems: list[str] = []
    for at, setting in enumerate(settings):
        where = f"metrics.{at}"
        config: Any = {}
        name: Any = setting
        if isinstance(setting, dict):
            name, config = setting.get("name"), setting.get("config", {})
            problems += [
                f"{where}.{key}: no such setting.{did_you_mean(key, ('name', 'config'))} A metric has name and config"
                for key in setting
                if key not in ("name", "config")
            ]
        if not isinstance(name, str) or not isinstance(config, dict):
            problems.append(
                f"{where}: {setting!r} is not a metric. Write its class name, or {{name: ..., config: ...}}"
            )
            continue
        class_name = find(name)
        if class_name is None:
            problems.append(f"{where}: neither TFMA nor Keras has a metric '{name}'.{suggestion(name)}")
            continue
        metrics.append(Metric(class_name, str(config.get("name", default_name(class_name))), config))
    if not any(metric.class_name == "ExampleCount" and metric.name == EXAMPLE_COUNT for metric in metrics):
        metrics.append(Metric("ExampleCount", EXAMPLE_COUNT))
    names = [metric.name for metric in metrics]
    problems += [
        f"metrics: two are called '{name}'. Give one of them another, as config: {{name: ...}}"
        for name in dict.fromkeys(names)
        if names.count(name) > 1
    ]
    return metrics, problems


def suggestion(name: str) -> str:
    """' Did you mean ...?' for a metric that nobody knows, whichever way it was written."""
    return did_you_mean(name, KNOWN) or did_you_mean(name, [default_name(known) for known in KNOWN])


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())
