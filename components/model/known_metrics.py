"""TFMA's metrics that are sums over examples: what to add up for them, and TFMA's own results from the sums.

TFMA computes a metric in two parts: combiners, which see every example, and results derived from what those gathered, per
slice. Here only the combiners are replaced, by sums over whole batches. What is derived from them (AUC from a histogram,
precision from a confusion matrix), differences to a baseline, and verdicts are TFMA's own functions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from components.model.sums import Counts, Sum, Sums, Totals

if TYPE_CHECKING:
    from typing import TypeAlias

    import numpy as np

    Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]

# Keras' metrics that are the mean of one number per example.
_KERAS_MEANS = ("BinaryCrossentropy", "Hinge", "LogCoshError", "Poisson", "SquaredHinge")


class Unknown(Exception):
    """A metric, or an option of one, that is not known to be a sum; the message says which."""


@dataclass(frozen=True)
class _Computation:
    """One combiner of TFMA's, replaced: what it gives for a slice."""

    sum: int | None  # which one; None for the number of examples
    values: Callable[[Any], dict[Any, Any]]  # totals [columns], a histogram [bins, 3] or a count -> {MetricKey: value}


@dataclass(frozen=True)
class Plan:
    """How the metrics of an EvalConfig are computed from sums."""

    sums: tuple[Sum, ...]
    computations: tuple[_Computation, ...]
    derived: tuple[Any, ...]
    baseline: str | None
    jackknife: bool  # whether confidence intervals are wanted

    def new(self) -> Sums:
        """Nothing added up yet."""
        return Sums(tuple(2 * one.size if isinstance(one, Counts) else 0 for one in self.sums))

    def binary(self) -> set[int]:
        """The models whose label has to be 0 or 1."""
        return {one.model for one in self.sums if isinstance(one, Counts)}

    def results(self, sums: Sums) -> Iterator[tuple[Any, dict[Any, Any]]]:
        """(slice key, {MetricKey: value}) of every slice, as TFMA's evaluator gives them."""
        for key, number in sums.slices.items():
            yield key, self.values(sums, [number])

    def values(self, sums: Sums, numbers: list[int]) -> dict[Any, Any]:
        """{MetricKey: value} of the examples in the slices `numbers` together, no example being in two of them."""
        found: dict[Any, Any] = {}
        for computation in self.computations:
            at = computation.sum
            gathered: Any
            if at is None:
                gathered = sum(sums.examples[number] for number in numbers)
            elif isinstance(self.sums[at], Counts):
                gathered = sums.histogram(at, numbers)
            else:
                gathered = sums.total(at, numbers)
            found.update(computation.values(gathered))
        for one in self.derived:
            found.update(one.result(found))
        if self.baseline:
            found.update(self._changes(found))
        return {key: value for key, value in found.items() if not _private(key)}

    def _changes(self, found: dict[Any, Any]) -> dict[Any, Any]:
        changes = {}
        for key, value in found.items():
            if _private(key) or key.is_diff or key.model_name == self.baseline:
                continue
            before = found.get(key.make_baseline_key(self.baseline))
            if before is not None:
                changes[key.make_diff_key()] = value - before
        return changes


def plan(config: Any, models: tuple[str, ...]) -> Plan:
    """For an EvalConfig with its defaults, and the names of its models. Raises Unknown."""
    from tensorflow_model_analysis.metrics import metric_specs, metric_types
    from tensorflow_model_analysis.utils import model_util

    options = {field.name for field, _ in config.options.ListFields()} - {"include_default_metrics"}
    intervals = {"compute_confidence_intervals", "confidence_intervals"}
    methods = type(config.options.confidence_intervals)
    jackknife = config.options.compute_confidence_intervals.value
    if not jackknife or config.options.confidence_intervals.method == methods.JACKKNIFE:
        options -= intervals
    if options or config.cross_slicing_specs:
        raise Unknown(f"the option {', '.join(sorted(options)) or 'cross_slicing_specs'}")
    if any(spec.slice_keys_sql for spec in config.slicing_specs):
        raise Unknown("a slice in SQL")
    if any(spec.query_key for spec in config.metrics_specs):
        raise Unknown("metrics by query_key")
    baseline = model_util.get_baseline_model_spec(config)
    sums: list[Sum] = []
    computations: list[_Computation] = []
    derived = []
    seen = set()
    for one in metric_specs.to_computations(list(config.metrics_specs), eval_config=config):
        if one in seen:
            continue
        seen.add(one)
        if type(one) is metric_types.MetricComputation:
            computations += _computations(one, models, sums)
        elif type(one) is metric_types.DerivedMetricComputation:
            unknown = [key for key in one.keys if not _private(key) and type(key) is not metric_types.MetricKey]
            if unknown:
                raise Unknown(f"the plot '{unknown[0].name}'")
            derived.append(_quick(one))
        else:
            raise Unknown(_named(one))
    return Plan(tuple(sums), tuple(computations), tuple(derived), baseline.name if baseline else None, jackknife)


@dataclass(frozen=True)
class _QuickMatrices:
    """TFMA's derivation of confusion matrices from a histogram, without its loops over thousands of thresholds.

    Counts are whole numbers, so that the order of adding does not matter and the result is the very same.
    """

    given: Any  # key of the histogram
    key: Any  # of the matrices
    thresholds: list[float]

    def result(self, found: dict[Any, Any]) -> dict[Any, Any]:
        import numpy as np
        from tensorflow_model_analysis.metrics import binary_confusion_matrices, calibration_histogram

        buckets = found[self.given]
        number = calibration_histogram.DEFAULT_NUM_BUCKETS
        ids = np.array([bucket.bucket_id for bucket in buckets], np.int64)
        positive = np.array([bucket.weighted_labels for bucket in buckets])
        negative = np.array([bucket.weighted_examples for bucket in buckets]) - positive
        # As in TFMA: buckets are [start, end) and matrices (start, end], and bounds that are missing are added.
        epsilon = binary_confusion_matrices._EPSILON
        bounds = [bound + epsilon if bound != 0 else bound for bound in self.thresholds]
        offset = 1 if self.thresholds[0] >= 0 else 0
        if offset:
            bounds.insert(0, -epsilon)
        if self.thresholds[-1] < 1.0:
            bounds.append(1.0 + epsilon)
        starts = np.where(ids == 0, -np.inf, np.where(ids > number, np.inf, (ids - 1) / number))
        places = np.maximum(np.searchsorted(np.array(bounds), starts, side="right") - 1, 0)
        if len(self.thresholds) == 1 and len(bounds) > 1:
            offset = 1
        kept = slice(offset, offset + len(self.thresholds))
        rates = []
        for values in (positive, negative):
            binned = np.bincount(places, weights=values, minlength=len(bounds))
            below = np.cumsum(binned) - binned
            rates.append(((binned.sum() - below)[kept], below[kept]))
        (tp, fn), (fp, tn) = rates
        above = np.array(self.thresholds) >= 1.0 + epsilon
        tp[above], fp[above] = 0.0, 0.0
        fn[above], tn[above] = tp[0], fp[0]
        lists = (values.tolist() for values in (tp, tn, fp, fn))
        return {self.key: binary_confusion_matrices.Matrices(self.thresholds, *lists)}


def _quick(derived: Any) -> Any:
    """A derivation with the same result, quicker where it makes confusion matrices from a histogram."""
    import inspect

    from tensorflow_model_analysis.metrics import binary_confusion_matrices

    if derived.result.__module__ != binary_confusion_matrices.__name__:
        return derived
    inside = inspect.getclosurevars(derived.result).nonlocals
    thresholds = inside.get("thresholds")
    known = {"use_histogram", "input_metric_key", "matrices_key"} <= inside.keys()
    if not known or not inside["use_histogram"] or not thresholds or thresholds != sorted(thresholds):
        return derived
    if len(thresholds) == 1 and thresholds[0] < 0:  # of the best k predictions
        return derived
    return _QuickMatrices(inside["input_metric_key"], inside["matrices_key"], list(thresholds))


def _computations(one: Any, models: tuple[str, ...], sums: list[Sum]) -> list[_Computation]:
    """What replaces a combiner; adds to `sums` what it needs."""
    combiner, kind = one.combiner, type(one.combiner).__name__
    for attribute in ("_aggregation_type", "_class_weights", "_example_weighted"):
        if getattr(combiner, attribute, None):
            raise Unknown(_named(one))
    if any(key.sub_key or key.output_name for key in one.keys):
        raise Unknown(_named(one))
    if kind == "_ExampleCountCombiner":
        return [_Computation(None, lambda count: {key: float(count) for key in one.keys})]
    if one.preprocessors:
        raise Unknown(_named(one))

    def added(what: Sum, values: Callable[[Any], Any], key: Any = None) -> _Computation:
        key = one.keys[0] if key is None else key
        sums.append(what)
        return _Computation(len(sums) - 1, lambda gathered: {key: values(gathered)})

    if kind == "_CompilableMetricsCombiner":
        from tensorflow_model_analysis.metrics.metric_types import MetricKey

        combiner.setup()
        found = []
        for output, metrics in combiner._metrics.items():
            for metric in metrics:
                if output or combiner._sub_key or type(metric).__name__ not in _KERAS_MEANS:
                    raise Unknown(f"the metric '{metric.name}' ({type(metric).__name__})")
                key = MetricKey(name=metric.name, model_name=combiner._model_name, example_weighted=False)
                model = models.index(combiner._model_name)
                found.append(added(Totals(model, _KerasLoss(metric)), _mean32, key))
        return found
    model = models.index(one.keys[0].model_name)
    if kind == "_CalibrationHistogramCombiner":
        if not combiner._fractional_labels or not combiner._prediction_based_bucketing:
            raise Unknown(_named(one))
        buckets = _Buckets(combiner._left, combiner._range, combiner._num_buckets)
        return [added(Counts(model, buckets, combiner._num_buckets + 2), _histogram)]
    if kind == "_BinaryConfusionMatrixCombiner":
        thresholds = list(combiner._binary_confusion_matrices._thresholds)
        if not combiner._enable_fractional_labels or combiner._example_id_key:
            raise Unknown(_named(one))
        return [added(Counts(model, _Above(tuple(sorted(thresholds))), len(thresholds) + 1), _Matrices(thresholds))]
    if kind == "_WeightedLabelsPredictionsExamplesCombiner":
        return [added(Totals(model, _labels_predictions), _filled(combiner, _LABELS_PREDICTIONS))]
    if kind == "_TjurDiscriminationCombiner":
        return [added(Totals(model, _discrimination), _filled(combiner, _DISCRIMINATION))]
    if kind == "_SquaredPearsonCorrelationCombiner":
        return [added(Totals(model, _products), _extracted(combiner, one.keys[0], _PRODUCTS))]
    errors = {
        "_MeanAbsoluteErrorCombiner": _absolute_error,
        "_MeanSquaredErrorCombiner": _squared_error,
        "_MeanAbsolutePercentageErrorCombiner": _percentage_error,
        "_MeanSquaredLogarithmicErrorCombiner": _logarithmic_error,
    }
    if kind in errors:
        names = ("total_regression_error", "total_example_weights")
        return [added(Totals(model, errors[kind]), _extracted(combiner, one.keys[0], names))]
    if kind == "_BinaryCrossEntropyCombiner":
        entropy = _CrossEntropy(combiner._from_logits, combiner._label_smoothing)
        names = ("total_cross_entropy", "total_example_weights")
        return [added(Totals(model, entropy), _extracted(combiner, one.keys[0], names))]
    raise Unknown(_named(one))


def _named(computation: Any) -> str:
    names = [key.name for key in computation.keys]
    public = [name for name in names if not name.startswith("_")]
    kind = type(getattr(computation, "combiner", computation)).__name__
    return f"the metric '{public[0]}'" if public else f"a metric that needs {kind.strip('_')} with options of its own"


def _private(key: Any) -> bool:
    return key.name.startswith("_") and not key.name.startswith("__")


@dataclass(frozen=True)
class _Buckets:
    """TFMA's calibration histogram: buckets of equal width, one below and one above them."""

    left: float
    width: float
    number: int

    def __call__(self, prediction: Array) -> Array:
        import numpy as np

        place = (prediction - self.left) / self.width * self.number + 1
        return np.clip(place, 0, self.number + 1).astype(np.int64)


@dataclass(frozen=True)
class _Above:
    """How many of the thresholds, which rise, a prediction is above."""

    thresholds: tuple[float, ...]

    def __call__(self, prediction: Array) -> Array:
        import numpy as np

        return np.searchsorted(np.array(self.thresholds), prediction, side="left")


def _histogram(found: Array) -> list[Any]:
    from tensorflow_model_analysis.metrics.calibration_histogram import Bucket

    # The sum of predictions is not kept: of what is derived from a histogram, only plots need it.
    return [
        Bucket(bin_, float(positive), 0.0, float(negative + positive)) for bin_, negative, positive in found.tolist()
    ]


@dataclass(frozen=True)
class _Matrices:
    thresholds: list[float]

    def __call__(self, found: Array) -> dict[float, Any]:
        import numpy as np
        from tensorflow_model_analysis.contrib.aggregates import binary_confusion_matrices as matrices

        counts = np.zeros((len(self.thresholds) + 1, 2), np.int64)
        counts[found[:, 0]] = found[:, 1:]
        up_to = np.cumsum(counts, axis=0)
        result = {}
        for at, threshold in enumerate(sorted(self.thresholds)):
            (tn, fn), (fp, tp) = up_to[at].tolist(), (up_to[-1] - up_to[at]).tolist()
            matrix = matrices.Matrix(tp=float(tp), tn=float(tn), fp=float(fp), fn=float(fn))
            result[threshold] = matrices._ThresholdEntry(matrix, [], [], [], [])
        return result


def _filled(combiner: Any, names: tuple[str, ...]) -> Callable[[list[float]], Any]:
    """A function that gives the combiner's accumulator with these totals in it."""

    def fill(totals: list[float]) -> Any:
        accumulator = combiner.create_accumulator()
        for name, total in zip(names, totals, strict=True):
            setattr(accumulator, name, total)
        return accumulator

    return fill


def _extracted(combiner: Any, key: Any, names: tuple[str, ...]) -> Callable[[list[float]], Any]:
    """A function that gives the combiner's own result from these totals."""
    fill = _filled(combiner, names)
    return lambda totals: combiner.extract_output(fill(totals))[key]


def _mean32(totals: list[float]) -> Any:
    import numpy as np

    total, count = totals
    return np.float32(total / count if count else 0.0)


_LABELS_PREDICTIONS = ("total_weighted_labels", "total_weighted_predictions", "total_weighted_examples")


def _labels_predictions(label: Array, prediction: Array) -> list[Array]:
    return [_wide(label), _wide(prediction), _ones(label)]


_DISCRIMINATION = (
    "total_negative_weighted_labels",
    "total_positive_weighted_labels",
    "total_negative_weighted_predictions",
    "total_positive_weighted_predictions",
)


def _discrimination(label: Array, prediction: Array) -> list[Array]:
    label, prediction = _wide(label), _wide(prediction)
    return [1.0 - label, label, (1.0 - label) * prediction, label * prediction]


_PRODUCTS = (
    "total_weighted_labels",
    "total_weighted_predictions",
    "total_weighted_squared_labels",
    "total_weighted_squared_predictions",
    "total_weighted_labels_times_predictions",
    "total_weighted_examples",
)


def _products(label: Array, prediction: Array) -> list[Array]:
    label, prediction = _wide(label), _wide(prediction)
    return [label, prediction, label**2, prediction**2, label * prediction, _ones(label)]


# The errors are taken in the types that the model gives, as TFMA takes them, and squared in 64 bits.
def _absolute_error(label: Array, prediction: Array) -> list[Array]:
    return _without_nan(_wide(abs(label - prediction)))


def _squared_error(label: Array, prediction: Array) -> list[Array]:
    return _without_nan(_wide(abs(label - prediction)) ** 2)


def _percentage_error(label: Array, prediction: Array) -> list[Array]:
    import numpy as np

    with np.errstate(divide="ignore", invalid="ignore"):
        return _without_nan(np.where(label == 0, np.nan, 100 * _wide(abs((label - prediction) / label))))


def _logarithmic_error(label: Array, prediction: Array) -> list[Array]:
    import numpy as np

    with np.errstate(divide="ignore", invalid="ignore"):
        return _without_nan(_wide(abs(np.log(label + 1) - np.log(prediction + 1))) ** 2)


@dataclass(frozen=True)
class _CrossEntropy:
    """TFMA's own BinaryCrossEntropy."""

    from_logits: bool
    smoothing: float

    def __call__(self, label: Array, prediction: Array) -> list[Array]:
        import numpy as np

        label = label * (1.0 - self.smoothing) + 0.5 * self.smoothing
        with np.errstate(divide="ignore", invalid="ignore"):
            if self.from_logits:
                each = np.maximum(prediction, 0) - prediction * label + np.log(1 + np.exp(-np.abs(prediction)))
            else:
                each = -(label * np.log(prediction)) - (1 - label) * np.log(1 - prediction)
        return [_wide(each), _ones(label)]


@dataclass(frozen=True)
class _KerasLoss:
    """What a metric of Keras takes the mean of."""

    metric: Any

    def __call__(self, label: Array, prediction: Array) -> list[Array]:
        import tensorflow as tf

        dtype = self.metric.dtype
        each = self.metric._fn(
            tf.cast(label[:, None], dtype), tf.cast(prediction[:, None], dtype), **self.metric._fn_kwargs
        )
        return [_wide(each.numpy()), _ones(label)]

    def __reduce__(self) -> tuple[Any, ...]:
        return _keras_loss, (type(self.metric).__name__, self.metric.get_config())


def _keras_loss(class_name: str, config: dict[str, Any]) -> _KerasLoss:
    import tf_keras

    return _KerasLoss(getattr(tf_keras.metrics, class_name).from_config(config))


def _without_nan(errors: Array) -> list[Array]:
    import numpy as np

    counted = ~np.isnan(errors)
    return [np.where(counted, errors, 0.0), _wide(counted)]


def _wide(values: Array) -> Array:
    import numpy as np

    return values.astype(np.float64)


def _ones(label: Array) -> Array:
    import numpy as np

    return np.ones(len(label))
