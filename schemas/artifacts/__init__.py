"""The artifacts that steps exchange, each with its layout on disk (TFX's own)."""

from schemas.artifacts.analyzer_cache import AnalyzerCache
from schemas.artifacts.anomalies import Anomalies
from schemas.artifacts.blessing import Blessing, Verdict
from schemas.artifacts.evaluation import Evaluation
from schemas.artifacts.examples import Examples, TransformedExamples
from schemas.artifacts.exported_models import ExportedModels
from schemas.artifacts.feature_schema import FeatureSchema
from schemas.artifacts.hyperparameters import Hyperparameters
from schemas.artifacts.infra_blessing import InfraBlessing
from schemas.artifacts.model import Model
from schemas.artifacts.model_run import ModelRun
from schemas.artifacts.pushed_model import PushedModel
from schemas.artifacts.statistics import Statistics
from schemas.artifacts.transform_graph import TransformGraph
from schemas.artifacts.transform_statistics import TransformAnomalies, TransformSchema, TransformStatistics

__all__ = [
    "AnalyzerCache",
    "Anomalies",
    "Blessing",
    "Evaluation",
    "Examples",
    "ExportedModels",
    "FeatureSchema",
    "Hyperparameters",
    "InfraBlessing",
    "Model",
    "ModelRun",
    "PushedModel",
    "Statistics",
    "TransformAnomalies",
    "TransformGraph",
    "TransformSchema",
    "TransformStatistics",
    "TransformedExamples",
    "Verdict",
]
