"""Metrics: what TFMA and Keras can compute, by class name, and how a definition asks for one."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
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


OPTIONS = ("output_names", "output_weights", "binarize", "aggregate", "example_weights", "query_key")
"""What TFMA's MetricsSpec says of the metrics in it, as a definition may say it of one."""


NAMELESS = ("BooleanFlipRates", "QueryStatistics")
"""Of these each gives several metrics with names of their own, and takes none."""


@dataclass(frozen=True)
class Metric:
    """One metric to compute. `name` is what results and thresholds call it."""

    class_name: str
    name: str
    config: dict[str, Any] = field(default_factory=dict)  # the class's own arguments
    options: dict[str, Any] = field(default_factory=dict)  # of OPTIONS, as protobuf's JSON has them

    def to_json(self) -> dict[str, Any]:
        """TFMA's MetricConfig, as protobuf's JSON has it."""
        named = {} if self.class_name in NAMELESS else {"name": self.name}
        return {"className": self.class_name, "config": json.dumps({**named, **self.config}, sort_keys=True)}

    @property
    def outputs(self) -> tuple[str, ...]:
        """The outputs that it is of; none where the model has a single one."""
        return tuple(self.options.get("output_names", ()))

    @property
    def in_results(self) -> str:
        """What the results call it, where it is of one output: `binary_accuracy (sold)`."""
        return of_output(self.name, self.outputs[0]) if len(self.outputs) == 1 else self.name

    def of(self, outputs: tuple[str, ...], *, weighted: bool) -> tuple[Metric, ...]:
        """The metric for a model with these outputs, none for the only one, and with weights of examples or without.

        It is of every output unless its options say which, and then one of each; only what weighs outputs against each other
        stays one. The number of examples is of the model, and never weighted.
        """
        if self == COUNT:
            return (replace(self, options={"exampleWeights": {"unweighted": True}}) if weighted else self,)
        names = self.outputs or outputs
        if not names or "output_weights" in self.options:
            return (replace(self, options={**self.options, "output_names": list(names)}) if names else self,)
        return tuple(replace(self, options={**self.options, "output_names": [name]}) for name in names)


COUNT = Metric("ExampleCount", EXAMPLE_COUNT)


def of_output(name: str, output: str) -> str:
    """What the results of a model with several outputs call a metric of one of them."""
    return f"{name} ({output})"


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

    Each is a class name, or {name: its class, config: {its own arguments}}, with any of OPTIONS beside them:
    {name: Precision, binarize: {class_ids: [0, 2]}}. The number of examples is always added.
    """
    metrics: list[Metric] = []
    problems: list[str] = []
    for at, setting in enumerate(settings):
        where = f"metrics.{at}"
        config: Any = {}
        name: Any = setting
        options: dict[str, Any] = {}
        if isinstance(setting, dict):
            name, config = setting.get("name"), setting.get("config", {})
            options = {key: _as_messages(value) for key, value in setting.items() if key in OPTIONS}
            problems += [
                f"{where}.{key}: no such setting.{did_you_mean(key, ('name', 'config', *OPTIONS))} "
                f"A metric has name, config, {', '.join(OPTIONS)}"
                for key in setting
                if key not in ("name", "config", *OPTIONS)
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
        metrics.append(Metric(class_name, str(config.get("name", default_name(class_name))), config, options))
    if not any(metric.class_name == "ExampleCount" and metric.name == EXAMPLE_COUNT for metric in metrics):
        metrics.append(COUNT)
    called = [(metric.name, json.dumps(metric.options, sort_keys=True)) for metric in metrics]
    problems += [
        f"metrics: two are called '{name}'. Give one of them another, as config: {{name: ...}}"
        for name, options_of in dict.fromkeys(called)
        if called.count((name, options_of)) > 1
    ]
    return metrics, problems


def _as_messages(value: Any) -> Any:
    """An option as protobuf's JSON has it: a list inside a message is a message with `values`, keys are text."""
    if not isinstance(value, dict):
        return value
    return {
        str(key): {"values": inner} if isinstance(inner, list | tuple) else _as_messages(inner)
        for key, inner in value.items()
    }


def suggestion(name: str) -> str:
    """' Did you mean ...?' for a metric that nobody knows, whichever way it was written."""
    return did_you_mean(name, KNOWN) or did_you_mean(name, [default_name(known) for known in KNOWN])


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())
