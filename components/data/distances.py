"""Distances between what a feature's values are now and what they were: in the spans before, and in what a served model was trained on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from schemas.errors import ArtifactError, ConfigError, did_you_mean

if TYPE_CHECKING:
    from tensorflow_metadata.proto.v0 import anomalies_pb2, schema_pb2, statistics_pb2

Thresholds = Mapping[str, float | Mapping[str, float]]
"""By feature: a threshold of the measure that suits its type, or one of each measure that is named."""

Against = Literal["spans", "served"]
"""What is compared with: the spans before the newest one (drift), or what the served model was trained on (skew)."""

MEASURES = {
    "infinity_norm": "L-infinity distance",
    "jensen_shannon_divergence": "Jensen-Shannon divergence",
    "normalized_abs_difference": "normalized absolute difference",
}
"""The measures of a schema's comparators, and what they are called. All are between 0, no difference, and 1."""

ASKED = ("infinity_norm", "jensen_shannon_divergence")  # that a setting may name
_OF_CATEGORIES = ("infinity_norm", "normalized_abs_difference")  # TFDV gives 0 for the numbers that it should refuse
_COMPARATORS: Mapping[Against, str] = {"spans": "drift_comparator", "served": "skew_comparator"}
_SETTINGS: Mapping[Against, str] = {"spans": "drift", "served": "skew"}
_MEASUREMENTS: Mapping[Against, str] = {"spans": "drift_measurements", "served": "skew_measurements"}


@dataclass(frozen=True, kw_only=True)
class Distance:
    """How far one feature of one split is from what it was. `value` is None where one of the two sides has no values at all."""

    split: str
    feature: str
    against: Against
    measure: str  # one of MEASURES
    value: float | None
    threshold: float
    over: bool

    def as_json(self) -> dict[str, Any]:
        """As an artifact's properties have it."""
        return dict(vars(self))

    def sentence(self, sides: Mapping[Against, str]) -> str:
        """'train: fare: Jensen-Shannon divergence 0.174 is above 0.05 (span 41 against the spans before it)'."""
        where = f"{self.split}: {self.feature}"
        if self.value is None:
            return f"{where}: has values on one side alone ({sides[self.against]})"
        how = "is above" if self.over else "is within"
        return f"{where}: {MEASURES[self.measure]} {self.value:.3g} {how} {self.threshold:g} ({sides[self.against]})"


def threshold_problems(setting: str, thresholds: object) -> Iterator[str]:
    """What is wrong with a setting that gives thresholds, whatever the data."""
    if not isinstance(thresholds, Mapping):
        yield f"{setting}: {thresholds!r} is no thresholds by feature, as {{fare: 0.1}}"
        return
    for feature, wanted in thresholds.items():
        if isinstance(wanted, Mapping):
            if not wanted:
                yield f"{setting}.{feature}: names no measure. Give one: {', '.join(ASKED)}"
            for measure, threshold in wanted.items():
                if measure not in ASKED:
                    there = did_you_mean(str(measure), ASKED) or f" There are: {', '.join(ASKED)}"
                    yield f"{setting}.{feature}.{measure}: no such measure.{there}"
                else:
                    yield from _range_problem(f"{setting}.{feature}.{measure}", threshold)
        else:
            yield from _range_problem(f"{setting}.{feature}", wanted)


def _range_problem(place: str, threshold: object) -> Iterator[str]:
    if isinstance(threshold, bool) or not isinstance(threshold, int | float) or not 0 <= threshold <= 1:
        yield f"{place}: {threshold!r} is no threshold: distances are between 0, no difference, and 1"


def read_statistics(file: Path) -> statistics_pb2.DatasetFeatureStatisticsList:
    """The statistics in a file. Raises ArtifactError when it holds none."""
    from google.protobuf.message import DecodeError
    from tensorflow_metadata.proto.v0 import statistics_pb2

    try:
        found = statistics_pb2.DatasetFeatureStatisticsList.FromString(file.read_bytes())
    except (OSError, DecodeError) as error:
        raise ArtifactError(f"{file}: no statistics can be read there ({error})") from error
    if not found.datasets:
        raise ArtifactError(f"{file}: there are no statistics in it")
    return found


@dataclass(frozen=True)
class Comparison:
    """What is asked of a split, with the statistics that answer it.

    `before` has the sides that there are. `schema` has the comparators that are asked, and no others.
    """

    split: str
    now: statistics_pb2.DatasetFeatureStatisticsList
    before: Mapping[Against, statistics_pb2.DatasetFeatureStatisticsList]
    schema: schema_pb2.Schema

    def measured(self) -> tuple[anomalies_pb2.Anomalies, tuple[Distance, ...], tuple[str, ...]]:
        """What TFDV says of `now`, the distance of each feature, and what could not be compared."""
        import tensorflow_data_validation as tfdv

        said = tfdv.validate_statistics(
            self.now,
            self.schema,
            previous_statistics=self.before.get("spans"),
            serving_statistics=self.before.get("served"),
        )
        distances: list[Distance] = []
        notes: list[str] = []
        measured = dict(_measured(said))
        for feature in self.schema.feature:
            for against, before in self.before.items():
                for measure, threshold in asked_of(feature, against):
                    value = measured.get((feature.name, against, measure))
                    sides = [_has_values(statistics, feature.name) for statistics in (self.now, before)]
                    if sides == [True, True] and value is None:
                        notes.append(f"{self.split}: {feature.name}: TFDV gives no {MEASURES[measure]} of it")
                    elif any(sides):
                        distance = value if all(sides) else None
                        distances.append(
                            Distance(
                                split=self.split,
                                feature=feature.name,
                                against=against,
                                measure=measure,
                                value=distance,
                                threshold=threshold,
                                over=distance is None or distance > threshold,
                            )
                        )
        return said, tuple(distances), tuple(notes)


def _measured(said: anomalies_pb2.Anomalies) -> Iterator[tuple[tuple[str, Against, str], float]]:
    from tensorflow_metadata.proto.v0 import anomalies_pb2

    types = anomalies_pb2.DriftSkewInfo.Measurement
    names = {
        types.L_INFTY: "infinity_norm",
        types.JENSEN_SHANNON_DIVERGENCE: "jensen_shannon_divergence",
        types.NORMALIZED_ABSOLUTE_DIFFERENCE: "normalized_abs_difference",
    }
    for info in said.drift_skew_info:
        for against, measurements in _MEASUREMENTS.items():
            for found in getattr(info, measurements):
                yield (".".join(info.path.step), against, names.get(found.type, "")), found.value


def asked_of(feature: schema_pb2.Feature, against: Against) -> list[tuple[str, float]]:
    """(measure, threshold) of each that a feature's comparator asks for."""
    comparator = getattr(feature, _COMPARATORS[against])
    return [(name, getattr(comparator, name).threshold) for name in MEASURES if comparator.HasField(name)]


def with_thresholds(
    schema: schema_pb2.Schema,
    asked: Mapping[Against, Thresholds | None],
    statistics: Sequence[statistics_pb2.DatasetFeatureStatisticsList],
) -> tuple[schema_pb2.Schema, list[str]]:
    """The schema with the comparators that count, and what of its own cannot be measured.

    What `asked` says of a feature takes the place of the schema's own; None for a side drops every comparator of it.
    `statistics` tell which features are categories and which are numbers: those of the first that has values of the feature count.
    Raises ConfigError with every feature that is not there, and every measure that the values of a feature have not.
    """
    from tensorflow_metadata.proto.v0 import schema_pb2

    found = schema_pb2.Schema()
    found.CopyFrom(schema)
    features = {feature.name: feature for feature in found.feature}
    problems: list[str] = []
    notes: list[str] = []
    for against, comparator in _COMPARATORS.items():
        thresholds, setting = asked[against], _SETTINGS[against]
        for feature in found.feature:
            if thresholds is None:
                feature.ClearField(comparator)
            for measure, _ in asked_of(feature, against) if feature.name not in (thresholds or {}) else ():
                if measure in _OF_CATEGORIES and not _is_categorical(feature, statistics):
                    getattr(feature, comparator).ClearField(measure)
                    notes.append(f"{feature.name}: {_for_categories(measure)}; the schema's {comparator} asks for it")
        for name, wanted in (thresholds or {}).items():
            if name not in features:
                there = did_you_mean(name, features) or f" There are: {', '.join(features)}"
                problems.append(f"{setting}.{name}: the schema has no such feature.{there}")
                continue
            categorical = _is_categorical(features[name], statistics)
            if not isinstance(wanted, Mapping):
                wanted = {"infinity_norm" if categorical else "jensen_shannon_divergence": wanted}
            getattr(features[name], comparator).Clear()
            for measure, threshold in wanted.items():
                if measure in _OF_CATEGORIES and not categorical:
                    problems.append(
                        f"{setting}.{name}: {_for_categories(measure)}. Give jensen_shannon_divergence, or a number alone"
                    )
                getattr(getattr(features[name], comparator), measure).threshold = threshold
    if problems:
        raise ConfigError(*problems)
    return found, notes


def _for_categories(measure: str) -> str:
    return (
        f"its values are counted as numbers, and {measure} compares categories (integers are counted as such where the schema "
        f"says so and is wired to StatisticsGen)"
    )


def _is_categorical(
    feature: schema_pb2.Feature, statistics: Sequence[statistics_pb2.DatasetFeatureStatisticsList]
) -> bool:
    from tensorflow_metadata.proto.v0 import schema_pb2

    for one in statistics:
        counted = _statistics_of(one, feature.name)
        if counted is not None and _has_values(one, feature.name):  # of a column without values nobody knows the type
            return counted.HasField("string_stats")
    return feature.type == schema_pb2.BYTES


def _statistics_of(
    statistics: statistics_pb2.DatasetFeatureStatisticsList, feature: str
) -> statistics_pb2.FeatureNameStatistics | None:
    found = (one for one in statistics.datasets[0].features if (one.name or ".".join(one.path.step)) == feature)
    return next(found, None)


def _has_values(statistics: statistics_pb2.DatasetFeatureStatisticsList, feature: str) -> bool:
    counted = _statistics_of(statistics, feature)
    if counted is None:
        return False
    if counted.HasField("string_stats"):
        return bool(counted.string_stats.rank_histogram.buckets)
    return any(bucket.sample_count for histogram in counted.num_stats.histograms for bucket in histogram.buckets)


def merge(into: anomalies_pb2.Anomalies, said: anomalies_pb2.Anomalies) -> None:
    """Add the distances, and what is above a threshold, to the anomalies of other statistics of the same features."""
    from tensorflow_metadata.proto.v0 import anomalies_pb2

    into.baseline.CopyFrom(said.baseline)
    into.drift_skew_info.extend(said.drift_skew_info)
    for name, info in said.anomaly_info.items():
        reasons = [
            reason
            for reason in info.reason
            if anomalies_pb2.AnomalyInfo.Type.Name(reason.type).startswith("COMPARATOR_")
        ]
        if not reasons:
            continue
        there = into.anomaly_info[name]
        there.path.CopyFrom(info.path)
        there.severity = max(there.severity, info.severity)
        there.reason.extend(reasons)
        several = len(there.reason) > 1
        there.short_description = "Multiple errors" if several else reasons[0].short_description
        there.description = " ".join(reason.description for reason in there.reason)
