"""Model x Examples (x Baseline) -> Evaluation, Blessing: metrics per slice, and whether they keep the thresholds."""

from __future__ import annotations

import copy
import pickle
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from components.io import beam as beam_io
from components.io import saved_model, tf_example, tfrecord
from components.model import answers, evaluation_files, known_metrics, verdict
from components.model import metrics as metrics_of
from components.model import slices as slices_of
from components.model import sums as sums_of
from components.model import thresholds as thresholds_of
from components.model.metrics import Metric
from components.model.row_slices import RowSlices, Unordered
from components.model.slices import OVERALL, Slice
from components.model.thresholds import Threshold
from components.model.verdict import BASELINE, CANDIDATE
from schemas.artifacts import Blessing, Evaluation, Examples, Model
from schemas.component import Baseline, BeamOptions, Out, Progress
from schemas.config import JsonScalar
from schemas.errors import ArtifactError, ConfigError, DataError, did_you_mean

if TYPE_CHECKING:
    from typing import TypeAlias

    import numpy as np
    import pyarrow as pa

    Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]

TRANSFORM_SIGNATURE = "transform_features"  # serialized tf.Example -> transformed features, the label among them


@dataclass(frozen=True, kw_only=True)
class Evaluator:
    """Model x Examples (x Baseline) -> Evaluation, Blessing: metrics per slice, and whether they keep the thresholds.

    The examples are the raw ones, as ExampleGen made them: the model is asked exactly as a server would ask it, through
    `signature`. The label comes from the model's `transform_features` signature where that gives it, else from the
    examples themselves.

    `slices`: `[]` is every example and always computed, `[hour]` every value of a feature, `[hour, {company: Acme}]`
    one value of a second. A feature that preprocessing_fn gives is preferred to a raw one of the same name, as in TFMA.
    `metrics`: classes of TFMA or Keras, by name or as {name: AUC, config: {num_thresholds: 500}}.
    `thresholds`: `{auc: {min: 0.7, min_change: -0.01, slices: [{slice: [hour], min: 0.6}]}}`. Bounds beside `slices` are
    for all examples together, those inside for every slice of that description. `min_change` and `max_change` bound the
    value less the baseline's, `min_relative_change` and `max_relative_change` that as a fraction of the baseline's value.
    Without thresholds nothing is blessed. While nothing is served there is no baseline, and bounds on change are dropped.

    Where every metric is a sum over examples that is known exactly, with one number as label and as prediction, whole
    batches are added up at once. A metric, option or answer of another kind sends the whole evaluation through TFMA's own
    pipeline, example by example; stderr and the evaluation's property `computed_by` say which.
    """

    label: str
    slices: tuple[tuple[str | dict[str, JsonScalar], ...], ...] = ((),)
    metrics: tuple[str | dict[str, Any], ...] = metrics_of.DEFAULT
    thresholds: dict[str, dict[str, Any]] = field(default_factory=dict)
    split: str = "eval"
    label_from: Literal["auto", "transformed", "raw"] = "auto"
    signature: str = "serving_default"  # takes serialized tf.Example
    prediction: str | None = None  # the output to judge, needed when the signature has several
    batch_size: int = 1000  # examples given to the model at once

    def __post_init__(self) -> None:
        problems = [
            f"{name}: is empty. Name {what}"
            for name, what in (("label", "the feature to predict"), ("split", "a split"), ("signature", "a signature"))
            if not getattr(self, name)
        ]
        if self.label_from not in ("auto", "transformed", "raw"):
            problems.append(f"label_from: {self.label_from!r} is none of auto, transformed, raw")
        if self.batch_size < 1:
            problems.append(f"batch_size: {self.batch_size} is not a positive number of examples")
        problems += self._asked()[1]
        if problems:
            raise ConfigError(*problems)

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
        output that the model does not have and a metric that its class refuses to make.
        """
        asked = self._asked()[0]
        files = examples.files(self.split)
        judged = [self._judged(model.serving, CANDIDATE if baseline.path else "")]
        if baseline.path:
            judged.append(self._judged(baseline.path, BASELINE))
        try:
            self._evaluate(asked, files, judged, baseline, beam, progress, evaluation, blessing)
        finally:
            answers.forget()

    def _evaluate(
        self,
        asked: _Asked,
        files: list[Path],
        judged: list[_Judged],
        baseline: Baseline,
        beam: BeamOptions,
        progress: Progress,
        evaluation: Evaluation,
        blessing: Blessing,
    ) -> None:
        kinds = self._survey(files, judged, asked.slices)
        applied = [threshold for threshold in asked.thresholds if baseline.path or not threshold.compares]
        dropped = [threshold for threshold in asked.thresholds if threshold not in applied]
        config = _eval_config(_config(asked.metrics, asked.slices, applied, judged))
        with beam_io.RowCount(progress, unit="examples") as count:
            reason = self._add_up(files, judged, config, kinds, count, beam, evaluation.path, bool(dropped))
        if reason:
            sys.stderr.write(f"Evaluator: TFMA's own pipeline computes, which is slower, because of {reason}\n")
            with beam_io.RowCount(progress, unit="examples") as count:
                read = _ReadBatches(self.batch_size, count)
                _analyse(files, judged, config, read, beam, evaluation.path, bool(dropped))
        evaluation_files.settle(evaluation.path)

        results = verdict.Results.read(evaluation.path, baseline=bool(baseline.path))
        evaluation.properties.update(
            metrics=results.overall(judged[0].name),
            examples=results.examples(()),
            slices=len(results.values),
            computed_by=f"TFMA's pipeline, because of {reason}" if reason else "sums over batches",
        )
        if baseline.path:
            evaluation.properties["baseline_metrics"] = results.overall(BASELINE)
        blessing.write(tuple(verdict.reasons(results, asked.thresholds, applied, evaluation.path)))
        blessing.properties.update(
            thresholds=[threshold.describe() for threshold in applied],
            not_applied=[
                f"{threshold.bound} {threshold.limit:g} of {threshold.metric}"
                f"{'' if threshold.slice == OVERALL else f' on {threshold.slice}'}: there is no baseline to compare with"
                for threshold in dropped
            ],
            baseline={"version": baseline.version, "digest": baseline.digest} if baseline.path else None,
        )

    def _asked(self) -> tuple[_Asked, list[str]]:
        """What the settings ask for, with what follows from it, and what is wrong with them."""
        computed, problems = metrics_of.parse(self.metrics)
        limits, added, wrong = thresholds_of.parse(self.thresholds, computed)
        problems += wrong
        wanted = [OVERALL]
        for at, setting in enumerate(self.slices):
            which, wrong = slices_of.parse(f"slices.{at}", setting)
            problems += wrong
            wanted += [which] if which is not None else []
        wanted += [limit.slice for limit in limits]
        return _Asked(tuple(dict.fromkeys(wanted)), (*computed, *added), tuple(limits)), problems

    def _judged(self, path: Path, name: str) -> _Judged:
        """How the model at `path` is asked. Raises as `run` does."""
        signatures = saved_model.signatures(path)
        if self.signature not in signatures:
            raise ArtifactError(
                f"{path}: the model has no signature '{self.signature}'.{did_you_mean(self.signature, signatures)} "
                f"It has {', '.join(signatures) or 'none'}"
            )
        outputs = signatures[self.signature].outputs
        if self.prediction is None and len(outputs) != 1:
            raise ConfigError(
                f"prediction: the signature '{self.signature}' of {path} gives {', '.join(outputs)}. Name the one to judge"
            )
        if self.prediction is not None and self.prediction not in outputs:
            raise ConfigError(
                f"prediction: the signature '{self.signature}' of {path} gives no '{self.prediction}'."
                f"{did_you_mean(self.prediction, outputs)} It gives {', '.join(outputs)}"
            )
        transform = signatures.get(TRANSFORM_SIGNATURE)
        transformed = transform.outputs if transform is not None else ()
        if self.label_from == "transformed" and self.label not in transformed:
            raise DataError(
                f"label '{self.label}' is not among the transformed features of the model at {path}: "
                f"{_listed(transformed)}.{did_you_mean(self.label, transformed)}"
            )
        return _Judged(
            path=path,
            name=name,
            transformed=transformed,
            transform_input=transform.inputs[0] if transform is not None and transform.inputs else "",
            inputs=(*signatures[self.signature].inputs, *(transform.inputs if transform is not None else ())),
            asked=answers.Asked(
                path=str(path),
                signature=self.signature,
                signature_input=next(iter(signatures[self.signature].inputs), ""),
                prediction=self.prediction or next(iter(outputs), ""),
                transform=TRANSFORM_SIGNATURE,
                transform_input=next(iter(transform.inputs), "") if transform is not None else "",
                transformed=tuple(transformed),
                label=self.label,
            ),
            label_is_raw=self.label_from == "raw" or self.label not in transformed,
            spec={
                **({"name": name} if name else {}),
                **({"isBaseline": True} if name == BASELINE else {}),
                # Asked through its signatures, as a server would, also where Keras could load it with more.
                "modelType": "tf_generic",
                "signatureName": self.signature,
                "labelKey": self.label,
                **({"predictionKey": self.prediction} if self.prediction and len(outputs) > 1 else {}),
                **({"preprocessingFunctionNames": [TRANSFORM_SIGNATURE]} if transform is not None else {}),
            },
        )

    def _survey(self, files: list[Path], judged: list[_Judged], wanted: tuple[Slice, ...]) -> dict[str, str]:
        """Read until every feature that is needed was seen, and two values of the label. Raises DataError otherwise.

        Gives the raw features that were seen, and what values they have: `int64`, `float` or `bytes`.

        TFMA would end in NaN, or in an error from deep inside Beam. Usually the first batch is enough.
        """
        candidate = judged[0]
        sliced = {feature for which in wanted for feature in which.named} - set(candidate.transformed)
        needed = sliced | ({self.label} if any(model.label_is_raw for model in judged) else set())
        labels_of = self._labels_of(candidate)
        found: dict[str, str] = {}
        values: set[float] = set()
        count = 0
        for file in files:
            for records in tfrecord.read_batches(file, self.batch_size):
                count += len(records)
                batch = tf_example.decode(records)
                for column in batch.schema:
                    if str(column.type) != "null":
                        found.setdefault(
                            column.name, str(column.type.value_type).removeprefix("large_").replace("binary", "bytes")
                        )
                if len(values) < 2:
                    values.update(_distinct(labels_of(records, batch)))
                if needed <= found.keys() and len(values) > 1:
                    return found
        if count == 0:
            raise DataError(f"split '{self.split}' has no examples to evaluate. Give it a larger share in ExampleGen")
        problems = []
        if self.label in needed - found.keys() and not candidate.label_is_raw:
            problems.append(
                f"label '{self.label}' is not in split '{self.split}', and the model served now, {judged[-1].path}, does not "
                f"give it through '{TRANSFORM_SIGNATURE}' either, so the two cannot be compared. Push to a new destination, "
                f"or remove that version"
            )
        elif self.label in needed - found.keys():
            known = tuple(dict.fromkeys([*candidate.transformed, *sorted(found)]))
            problems.append(
                f"label '{self.label}' is not in split '{self.split}', and the model's '{TRANSFORM_SIGNATURE}' does not give "
                f"it.{did_you_mean(self.label, known)} There are {_listed(known)}"
            )
        elif len(values) < 2:
            same = f"is {next(iter(values)):g} in all" if values else "has no value in any"
            problems.append(
                f"label '{self.label}' {same} of the {count:,} examples of split '{self.split}'. "
                f"A model cannot be judged by a single class: check how the label is made, or split more evenly"
            )
        for feature in sorted(sliced - found.keys()):
            known = (*sorted(found), *candidate.transformed)
            problems.append(
                f"slices: no example of split '{self.split}' has the feature '{feature}'."
                f"{did_you_mean(feature, known)} There are {_listed(known)}"
            )
        raise DataError("\n".join(problems))

    def _add_up(
        self,
        files: list[Path],
        judged: list[_Judged],
        config: Any,
        kinds: dict[str, str],
        count: beam_io.RowCount,
        beam: BeamOptions,
        output: Path,
        rubber_stamp: bool,
    ) -> str:
        """Compute by sums over whole batches, and write as TFMA does; gives why that would not be exact, and writes nothing."""
        from apache_beam import CombineGlobally, Create, FlatMap, Map
        from tensorflow_model_analysis.utils import config_util

        config = config_util.update_eval_config_with_defaults(
            config, has_baseline=len(judged) > 1, rubber_stamp=rubber_stamp
        )
        try:
            plan = known_metrics.plan(config, tuple(model.name for model in judged))
        except known_metrics.Unknown as unknown:
            return str(unknown)
        for model in judged:
            if len(model.inputs) > 2 or any(name in kinds for name in model.inputs):
                return f"the signatures of {model.path}, which take {', '.join(model.inputs)}"
        slice_by = frozenset(
            feature for spec in config.slicing_specs for feature in (*spec.feature_keys, *spec.feature_values)
        )
        transformed = {feature for model in judged for feature in model.transformed}
        raw = slice_by - transformed
        if any(self.label not in model.transformed for model in judged):
            raw |= {self.label}
        wanted = [
            replace(
                model.asked,
                transformed=tuple(name for name in model.transformed if name in slice_by or name == self.label),
            )
            for model in judged
        ]
        add = _AddUp(
            asked=tuple(wanted),
            raw=tuple((name, kinds[name]) for name in sorted(raw)),
            slice_by=slice_by,
            sums=plan.sums,
            nothing=plan.new(),
            binary=frozenset(plan.binary()),
            config=config.SerializeToString(deterministic=True),
            size=self.batch_size,
            count=count,
        )
        kept = output / "sums"
        with beam_io.pipeline(beam) as pipeline:
            _ = (
                pipeline
                | "Files" >> Create([(part, str(file)) for part, file in enumerate(files)])
                | "AddUp" >> FlatMap(add)
                | "Merge" >> CombineGlobally(sums_of.merged)
                | "Keep" >> Map(_Keep(str(kept)))
            )
        found = pickle.loads(kept.read_bytes())
        kept.unlink()
        if found.refused:
            return str(found.refused)
        evaluation_files.write(
            list(plan.results(found)), config, {model.name: str(model.path) for model in judged}, output, rubber_stamp
        )
        return ""

    def _labels_of(self, model: _Judged) -> Callable[[list[bytes], pa.RecordBatch], Array]:
        """A function that gives a batch's label values, flat; none of them for a batch without the label."""
        import numpy as np

        def refuse_text(values: Array) -> Array:
            if values.dtype.kind not in "biuf":
                raise DataError(
                    f"label '{self.label}' is text (such as {values.flat[0]!r}), which metrics cannot compare with numbers. "
                    f"Make it a number in preprocessing_fn"
                )
            return values

        def raw(records: list[bytes], batch: pa.RecordBatch) -> Array:
            at = batch.schema.get_field_index(self.label)
            if at < 0 or str(batch.schema.field(at).type) == "null":
                return np.zeros(0)
            return refuse_text(batch.column(at).flatten().to_numpy(zero_copy_only=False))

        if model.label_is_raw:
            return raw

        import tensorflow as tf

        loaded = answers.load(str(model.path))
        signature = loaded.signatures[TRANSFORM_SIGNATURE]

        def transformed(records: list[bytes], batch: pa.RecordBatch) -> Array:
            try:
                given = signature(**{model.transform_input: tf.constant(records)})[self.label]
            except tf.errors.InvalidArgumentError as error:
                raise DataError(
                    f"the model at {model.path} cannot read the examples of split '{self.split}': "
                    f"{str(error.message).splitlines()[0]}. Evaluator takes the raw examples, not the transformed ones"
                ) from error
            dense = given.values if isinstance(given, tf.SparseTensor) else given
            return refuse_text(dense.numpy().reshape(-1))

        return transformed


@dataclass(frozen=True)
class _Asked:
    """What the settings ask for. The overall slice is always among the slices, and the number of examples a metric."""

    slices: tuple[Slice, ...]
    metrics: tuple[Metric, ...]
    thresholds: tuple[Threshold, ...]


@dataclass(frozen=True)
class _Judged:
    """One model to ask: where it is, what TFMA is told of it, what it gives besides predictions."""

    path: Path
    name: str  # in the results; empty for a model that is judged alone
    transformed: tuple[str, ...]
    transform_input: str
    label_is_raw: bool
    inputs: tuple[str, ...]  # of both signatures
    asked: answers.Asked  # for all that preprocessing gives
    spec: dict[str, Any]  # TFMA's ModelSpec


@dataclass(frozen=True)
class _ReadBatches:
    """A file of serialized tf.Examples -> Arrow batches that carry the records themselves in one more column.

    Always the same batches for the same file, so that sums are added in the same order.
    """

    size: int
    count: beam_io.RowCount

    def __call__(self, file: str) -> Iterator[pa.RecordBatch]:
        import tensorflow_model_analysis as tfma
        from tfx_bsl.tfxio.record_based_tfxio import AppendRawRecordColumn

        for records in tfrecord.read_batches(Path(file), self.size):
            yield AppendRawRecordColumn(tf_example.decode(records), tfma.ARROW_INPUT_COLUMN, records)
            self.count(len(records))


@dataclass(frozen=True)
class _AddUp:
    """A file of serialized tf.Examples -> the sums over all of them."""

    asked: tuple[answers.Asked, ...]
    raw: tuple[tuple[str, str], ...]
    slice_by: frozenset[str]
    sums: tuple[sums_of.Sum, ...]
    nothing: sums_of.Sums
    binary: frozenset[int]  # models whose label has to be 0 or 1
    config: bytes
    size: int
    count: beam_io.RowCount

    def __call__(self, numbered: tuple[int, str]) -> Iterator[sums_of.Sums]:
        import tensorflow_model_analysis as tfma

        part, file = numbered
        slices = RowSlices.of(tfma.EvalConfig.FromString(self.config))
        result = replace(copy.deepcopy(self.nothing), part=part)
        for records in tfrecord.read_batches(Path(file), self.size):
            try:
                batch = answers.models(self.asked, self.raw, self.slice_by)(records)
            except answers.Different as different:
                result.refused = str(different)
            except Unordered:
                result.refused = "a feature to slice by whose values include NaN or negative zero"
            for number in self.binary:
                if not result.refused and not ((batch.labels[number] == 0) | (batch.labels[number] == 1)).all():
                    result.refused = f"the label '{self.asked[number].label}', which is not always 0 or 1"
            if result.refused:
                break
            members = slices.members(batch.rows, batch.transformed, batch.raw, result.number)
            result.add(self.sums, batch.labels, batch.predictions, members)
            self.count(len(records))
        result.compact()
        yield result


@dataclass(frozen=True)
class _Keep:
    """Writes the sums where the step reads them again, whichever machine merged them."""

    file: str

    def __call__(self, found: sums_of.Sums) -> None:
        Path(self.file).write_bytes(pickle.dumps(found))


def _config(
    metrics: tuple[Metric, ...], slices: tuple[Slice, ...], thresholds: list[Threshold], judged: list[_Judged]
) -> dict[str, Any]:
    """TFMA's EvalConfig, as protobuf's JSON has it."""
    configs = []
    for metric in metrics:
        bounds = [threshold.to_json() for threshold in thresholds if threshold.metric == metric.name]
        configs.append({**metric.to_json(), **({"perSliceThresholds": bounds} if bounds else {})})
    return {
        "modelSpecs": [model.spec for model in judged],
        "slicingSpecs": [which.to_json() for which in slices],
        "metricsSpecs": [{"metrics": configs, "modelNames": [model.name for model in judged]}],
        "options": {"includeDefaultMetrics": False},
    }


def _eval_config(config: dict[str, Any]) -> Any:
    """TFMA's message. Raises ConfigError for a metric whose class does not take its config."""
    import tensorflow_model_analysis as tfma
    from google.protobuf import json_format
    from tensorflow_model_analysis.metrics import metric_specs, metric_types

    eval_config = json_format.ParseDict(config, tfma.EvalConfig())
    problems = []
    for metric in eval_config.metrics_specs[0].metrics:
        try:
            metric_specs.metric_instance(metric, metric_types.registered_metrics())
        except (TypeError, ValueError) as error:
            lines = [line for line in str(error).splitlines() if line.strip()]
            problems.append(
                f"metrics: {metric.class_name} cannot be made with {metric.config}: {lines[-1]}. "
                f"Write {{name: {metric.class_name}, config: {{...}}}}"
            )
    if problems:
        raise ConfigError(*problems)
    return eval_config


def _analyse(
    files: list[Path],
    judged: list[_Judged],
    eval_config: Any,
    read: _ReadBatches,
    beam: BeamOptions,
    output: Path,
    rubber_stamp: bool,
) -> None:
    """Let TFMA compute, validate and write."""
    import tensorflow_model_analysis as tfma
    from apache_beam import Create, FlatMap

    models = [
        tfma.default_eval_shared_model(
            eval_saved_model_path=str(model.path),
            model_name=model.name,
            eval_config=eval_config,
            rubber_stamp=rubber_stamp,
        )
        for model in judged
    ]
    with beam_io.pipeline(beam) as pipeline:
        _ = (
            pipeline
            | "Files" >> Create([str(file) for file in files])
            | "ReadBatches" >> FlatMap(read)
            | "Evaluate"
            >> tfma.ExtractEvaluateAndWriteResults(
                eval_shared_model=models if len(models) > 1 else models[0],
                eval_config=eval_config,
                output_path=str(output),
            )
        )


def _distinct(values: Array) -> set[float]:
    """The values that differ, as numbers; NaN is no value."""
    import numpy as np

    numbers = values.astype(np.float64)
    return set(np.unique(numbers[~np.isnan(numbers)]).tolist())


def _listed(names: tuple[str, ...] | list[str], limit: int = 30) -> str:
    """Names for a message, not more than a reader will look through."""
    shown = ", ".join(names[:limit]) or "none"
    return f"{shown} and {len(names) - limit} more" if len(names) > limit else shown
