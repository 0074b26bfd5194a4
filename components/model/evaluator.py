"""Model x Examples (x Baseline) -> Evaluation, Blessing: metrics per slice, and whether they keep the thresholds."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from components.io import beam as beam_io
from components.model import added_up, answers, eval_config, evaluation_files, survey, tfma_pipeline, verdict
from components.model import judged as judged_of
from components.model import metrics as metrics_of
from components.model import slices as slices_of
from components.model import thresholds as thresholds_of
from components.model.judged import Judged
from components.model.metrics import Metric
from components.model.slices import OVERALL, Slice
from components.model.thresholds import Threshold
from components.model.verdict import BASELINE, CANDIDATE
from schemas.artifacts import Blessing, Evaluation, Examples, Model
from schemas.component import Baseline, BeamOptions, InputFiles, JsonScalar, Out, Progress, WantsBaseline
from schemas.errors import ConfigError, did_you_mean
from schemas.input_files import expand

METHODS = ("jackknife", "poisson_bootstrap")  # TFMA's, for confidence intervals


@dataclass(frozen=True, kw_only=True)
class Evaluator:
    """Model x Examples (x Baseline) -> Evaluation, Blessing: metrics per slice, and whether they keep the thresholds.

    The examples are the raw ones, as ExampleGen made them: the model is asked exactly as a server would ask it, through
    `signature`. The label comes from the model's `transform_features` signature where that gives it, else from the
    examples themselves. A model with several outputs has a label for each: `label: {price: price_xf, sold: sold_xf}`. Its
    metrics are of every output, or of those in `output_names`, and are called `auc (sold)` in results and in `thresholds`,
    where `auc` alone means that of each output.

    `slices`: `[]` is every example and always computed, `[hour]` every value of a feature, `[hour, {company: Acme}]`
    one value of a second. A feature that preprocessing_fn gives is preferred to a raw one of the same name, as in TFMA.
    `metrics`: classes of TFMA or Keras, by name or as {name: AUC, config: {num_thresholds: 500}}; beside them may stand
    what TFMA's MetricsSpec has: {name: Precision, binarize: {class_ids: [0, 2]}}, `aggregate`, `query_key`,
    `output_names`, `output_weights`, `example_weights`. Metrics are weighted where `example_weight` names a feature.
    `thresholds`: `{auc: {min: 0.7, min_change: -0.01, slices: [{slice: [hour], min: 0.6}]}}`. Bounds beside `slices` are
    for all examples together, those inside for every slice of that description. `min_change` and `max_change` bound the
    value less the baseline's, `min_relative_change` and `max_relative_change` that as a fraction of the baseline's value.
    Without thresholds nothing is blessed. While nothing is served there is no baseline, and bounds on change are dropped.

    `confidence_intervals` computes TFMA's 95 % intervals as well. Thresholds are about the values all the same, as in TFMA;
    with `confidence: 0.95` beside its bounds the whole interval of that level has to keep them.

    `eval_config`, or `eval_config_file` in protobuf's text form or in JSON, is TFMA's EvalConfig instead of `label`,
    `slices`, `metrics`, `thresholds` and the like, as people who come from TFX have it, and says all that TFMA can. As in TFX
    a model spec without a name is used for the baseline too. Left out it may have the signature and the model's type. With
    `keras_metrics` that is Keras' where a model brings metrics of its own, as TFMA has it by default in TFX; that is slower.

    Where every metric is a sum over examples that is known exactly, with one number as label and as prediction, whole
    batches are added up at once. A metric, option or answer of another kind sends the whole evaluation through TFMA's own
    pipeline, example by example; stderr and the evaluation's property `computed_by` say which.
    """

    LEAST_MEMORY: ClassVar[int] = 1_000_000_000  # bytes

    label: str | dict[str, str] = ""
    slices: tuple[tuple[str | dict[str, JsonScalar], ...], ...] = ((),)
    metrics: tuple[str | dict[str, Any], ...] = metrics_of.DEFAULT
    thresholds: dict[str, dict[str, Any]] = field(default_factory=dict)
    confidence_intervals: Literal["jackknife", "poisson_bootstrap"] | None = None
    example_weight: str | None = None  # a feature
    eval_config: dict[str, Any] | None = None
    eval_config_file: InputFiles | None = None
    split: str = "eval"
    label_from: Literal["auto", "transformed", "raw"] = "auto"
    signature: str = "serving_default"  # takes serialized tf.Example
    prediction: str | None = None  # the output to judge, needed when the signature has several
    batch_size: int = 1000  # examples given to the model at once
    compare: WantsBaseline = True  # with the model that serves, where there is one
    keras_metrics: bool = (
        False  # with eval_config: also those that a model was compiled with, unless that says otherwise
    )

    def __post_init__(self) -> None:
        problems = [
            f"{name}: is empty. Name {what}"
            for name, what in (("split", "a split"), ("signature", "a signature"))
            if not getattr(self, name)
        ]
        if self.label_from not in ("auto", "transformed", "raw"):
            problems.append(f"label_from: {self.label_from!r} is none of auto, transformed, raw")
        if self.batch_size < 1:
            problems.append(f"batch_size: {self.batch_size} is not a positive number of examples")
        if self.keras_metrics and not self._is_whole:
            problems.append("keras_metrics: goes with eval_config alone. Name the metrics in 'metrics'")
        problems += self._problems_of_eval_config() if self._is_whole else self._problems()
        if problems:
            raise ConfigError(*problems)

    @property
    def _is_whole(self) -> bool:
        return self.eval_config is not None or self.eval_config_file is not None

    def _problems(self) -> list[str]:
        problems = []
        labels = self.label.values() if isinstance(self.label, dict) else [self.label]
        if not self.label or not all(labels):
            problems.append("label: is empty. Name the feature to predict")
        if isinstance(self.label, dict) and self.prediction is not None:
            problems.append("prediction: every output has a label, so that none is the one to judge. Leave it out")
        if self.confidence_intervals not in (None, *METHODS):
            problems.append(f"confidence_intervals: {self.confidence_intervals!r} is none of {', '.join(METHODS)}")
        asked, wrong = self._asked()
        if self.confidence_intervals is None and any(limit.confidence is not None for limit in asked.thresholds):
            wrong.append(
                "thresholds: 'confidence' needs confidence intervals. Set confidence_intervals: jackknife as well"
            )
        return problems + wrong

    def _problems_of_eval_config(self) -> list[str]:
        if self.eval_config is not None and self.eval_config_file is not None:
            return ["eval_config_file: eval_config is set as well. Leave one of them out"]
        name = "eval_config" if self.eval_config is not None else "eval_config_file"
        plain = {
            "label": self.label == "",
            "slices": self.slices == ((),),
            "metrics": self.metrics == metrics_of.DEFAULT,
            "thresholds": not self.thresholds,
            "confidence_intervals": self.confidence_intervals is None,
            "example_weight": self.example_weight is None,
            "label_from": self.label_from == "auto",
            "prediction": self.prediction is None,
        }
        problems = [
            f"{setting}: {name} says it all. Move it there, or leave {name} out"
            for setting, left_out in plain.items()
            if not left_out
        ]
        return problems + (eval_config.problems(self.eval_config) if self.eval_config is not None else [])

    def run(
        self,
        examples: Examples,
        model: Model,
        baseline: Baseline,
        beam: BeamOptions,
        progress: Progress,
        evaluation: Out[Evaluation],
        blessing: Out[Blessing],
    ) -> None:
        """Evaluate split `split` and judge the model.

        Raises UnknownSplit; DataError for a split without examples, a label that is absent, text or always the same, and
        a slice by a feature that does not exist; ArtifactError for a model without the signature; ConfigError for an
        output that the model does not have, a metric that its class refuses to make, and what TFMA cannot compute.
        """
        files = examples.files(self.split)
        question = self._of_eval_config(model, baseline) if self._is_whole else self._of_settings(model, baseline)
        try:
            self._evaluate(question, files, baseline, beam, progress, evaluation, blessing)
        finally:
            answers.forget()

    def _evaluate(
        self,
        question: _Question,
        files: list[Path],
        baseline: Baseline,
        beam: BeamOptions,
        progress: Progress,
        evaluation: Evaluation,
        blessing: Blessing,
    ) -> None:
        judged, config = question.judged, question.config
        classes = {metric.class_name for spec in config.metrics_specs for metric in spec.metrics}
        kinds = survey.raw_features(
            files,
            self.split,
            judged,
            eval_config.sliced_by(config),
            text_labels=not classes.isdisjoint(survey.OF_TEXT),
            two_classes=not self._is_whole and self.metrics == metrics_of.DEFAULT,
            batch_size=self.batch_size,
        )
        with beam_io.RowCount(progress, unit="examples") as count:
            reason = added_up.evaluate(
                files,
                judged,
                config,
                kinds,
                count,
                beam,
                evaluation.path,
                batch_size=self.batch_size,
                rubber_stamp=question.rubber_stamp,
            )
        if reason:
            sys.stderr.write(f"Evaluator: TFMA's own pipeline computes, which is slower, because of {reason}\n")
            with beam_io.RowCount(progress, unit="examples") as count:
                tfma_pipeline.evaluate(
                    files,
                    judged,
                    config,
                    count,
                    beam,
                    evaluation.path,
                    batch_size=self.batch_size,
                    rubber_stamp=question.rubber_stamp,
                )
        evaluation_files.settle(evaluation.path)

        compared = len(judged) > 1
        baseline_name = judged[1].name if compared else BASELINE
        results = verdict.Results.read(evaluation.path, candidate=judged[0].name, baseline=baseline_name)
        evaluation.properties.update(
            verdict.described(results, compared=compared),
            computed_by=f"TFMA's pipeline, because of {reason}" if reason else "sums over batches",
        )
        limits, applied = question.thresholds, question.applied
        blessing.write(tuple(verdict.reasons(results, limits, applied, evaluation.path)))
        blessing.properties.update(
            thresholds=[threshold.describe() for threshold in applied],
            not_applied=[
                f"{threshold.bound} {threshold.limit:g} of {threshold.metric}"
                f"{'' if threshold.slice == OVERALL else f' on {threshold.where}'}: there is no baseline to compare with"
                for threshold in limits
                if threshold not in applied
            ],
            baseline={"version": baseline.version, "digest": baseline.digest} if compared else None,
        )

    def _of_settings(self, model: Model, baseline: Baseline) -> _Question:
        asked = self._asked()[0]
        places = [(model.serving, CANDIDATE if baseline.path else "")]
        if baseline.path:
            places.append((baseline.path, BASELINE))
        specs = [
            judged_of.model_spec(
                path,
                name,
                signature=self.signature,
                label=self.label,
                label_from=self.label_from,
                prediction=self.prediction,
                example_weight=self.example_weight,
            )
            for path, name in places
        ]
        applied = [threshold for threshold in asked.thresholds if baseline.path or not threshold.compares]
        config = eval_config.made(specs, asked.metrics, asked.slices, applied, self.confidence_intervals)
        judged = [judged_of.judged(spec, path) for spec, (path, _) in zip(config.model_specs, places, strict=True)]
        return _Question(config, judged, asked.thresholds, applied, rubber_stamp=len(applied) < len(asked.thresholds))

    def _of_eval_config(self, model: Model, baseline: Baseline) -> _Question:
        given = eval_config.read(self.eval_config, self._file_of_eval_config())
        config = eval_config.completed(given, self.signature, has_baseline=bool(baseline.path))
        defaults = config.options.include_default_metrics
        own_metrics = self.keras_metrics and (not config.options.HasField("include_default_metrics") or defaults.value)
        judged = []
        for spec in sorted(config.model_specs, key=lambda spec: spec.is_baseline):
            path = baseline.path if spec.is_baseline else model.serving
            assert path is not None, "without a baseline, the specs of one are removed"
            own = own_metrics and not spec.model_type and judged_of.has_metrics(path)
            spec.model_type = spec.model_type or ("tf_keras" if own else "tf_generic")
            judged.append(judged_of.judged(spec, path))
        applied = eval_config.thresholds_of(config)
        dropped = [] if baseline.path else [one for one in eval_config.thresholds_of(given) if one.compares]
        return _Question(config, judged, (*applied, *dropped), applied, rubber_stamp=False)

    def _file_of_eval_config(self) -> Path | None:
        if self.eval_config_file is None:
            return None
        files = expand(self.eval_config_file)
        if len(files) > 1:
            raise ConfigError(f"eval_config_file: {self.eval_config_file} matches {len(files)} files. Name one")
        return files[0]

    def _asked(self) -> tuple[_Asked, list[str]]:
        """What the settings ask for, with what follows from it, and what is wrong with them."""
        computed, problems = metrics_of.parse(self.metrics)
        outputs = tuple(self.label) if isinstance(self.label, dict) else ()
        limits, added, wrong = thresholds_of.parse(self.thresholds, computed, outputs)
        problems += wrong
        problems += [
            f"metrics: {metric.name} is of the output '{output}', which has no label.{did_you_mean(output, outputs)} "
            f"There are labels for {', '.join(outputs)}"
            for metric in computed
            for output in metric.outputs
            if outputs and output not in outputs
        ]
        wanted = [OVERALL]
        for at, setting in enumerate(self.slices):
            which, wrong = slices_of.parse(f"slices.{at}", setting)
            problems += wrong
            wanted += [which] if which is not None else []
        wanted += [limit.slice for limit in limits if isinstance(limit.slice, Slice)]
        weighted = bool(self.example_weight)
        metrics = tuple(one for metric in (*computed, *added) for one in metric.of(outputs, weighted=weighted))
        return _Asked(tuple(dict.fromkeys(wanted)), metrics, tuple(limits)), problems


@dataclass(frozen=True)
class _Asked:
    """What the settings ask for. The overall slice is always among the slices, and the number of examples a metric."""

    slices: tuple[Slice, ...]
    metrics: tuple[Metric, ...]
    thresholds: tuple[Threshold, ...]


@dataclass(frozen=True)
class _Question:
    """What is asked of TFMA: an EvalConfig and the models in it, the one to judge first."""

    config: Any
    judged: list[Judged]
    thresholds: tuple[Threshold, ...]
    applied: list[Threshold]  # without those that compare, where there is nothing to compare with
    rubber_stamp: bool  # TFMA's word for leaving out bounds on change
