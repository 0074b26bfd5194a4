"""Statistics + FeatureSchema -> Anomalies: where the data of each split does not fit its schema, and how far it has drifted."""

from __future__ import annotations

from dataclasses import dataclass, field
from textwrap import shorten
from typing import TYPE_CHECKING, Annotated

from components.data.distances import Against, Thresholds, asked_of, threshold_problems
from components.data.drift import Drift
from components.data.statistics_gen import kept_splits
from schemas.artifacts import Anomalies, FeatureSchema, Statistics
from schemas.component import Baseline, MayEndRunMarker, Out, WantsBaselineMarker
from schemas.errors import AnomaliesFound, ConfigError, did_you_mean

if TYPE_CHECKING:
    from tensorflow_metadata.proto.v0 import anomalies_pb2, schema_pb2

ON_ANOMALY = ("fail", "warn")
ON_DRIFT = ("warn", "fail", "retrain")
OWN = "schema"  # instead of thresholds: those of the schema
_NO_MODEL = Baseline()
_LISTED = 12  # values of a domain that a message names
_SHOWN = 20  # anomalies that a message shows; all are in the artifact
_LONGEST = 300  # characters of one of them


@dataclass(frozen=True, kw_only=True)
class ExampleValidator:
    """Statistics + FeatureSchema -> Anomalies: where the data of each split does not fit its schema, and how far it has drifted.

    TFDV's checks: types, presence, number of values, domains, ranges, columns that are new or gone. With `on_anomaly: fail`
    the first anomaly stops the run, after all of them are written; with `warn` they are written and the run goes on.

    `drift` compares the newest span with the spans before it; `skew` compares it (without spans, all data) with what the model
    that serves was trained on. Both map features to thresholds: `{fare: 0.1}` is of the L-infinity distance where the values
    are categories and of the Jensen-Shannon divergence where they are numbers, `{fare: {jensen_shannon_divergence: 0.1}}` of
    the one that is named. For a feature that is not there the schema's drift_comparator and skew_comparator count, the latter
    only where the served model is asked for: by thresholds in `skew`, by `skew: schema`, or by `on_drift: retrain`.

    With `on_drift: warn` a distance above its threshold is written and the run goes on; `fail` refuses it. `retrain` makes
    drift the reason to train: the run ends here, skipped, where a model serves and nothing has drifted; the steps below wait
    until that is known.
    """

    on_anomaly: str = "fail"  # fail or warn
    drift: dict[str, float | dict[str, float]] = field(default_factory=dict)  # 0 <= threshold <= 1, of the newest span
    skew: Annotated[dict[str, float | dict[str, float]] | str, WantsBaselineMarker()] = field(default_factory=dict)
    on_drift: Annotated[str, WantsBaselineMarker("retrain"), MayEndRunMarker("retrain")] = (
        "warn"  # warn, fail or retrain
    )
    skip_splits: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        problems = []
        for setting, known in (("on_anomaly", ON_ANOMALY), ("on_drift", ON_DRIFT)):
            value = getattr(self, setting)
            if value not in known:
                problems.append(f"{setting}: '{value}' is not one of {', '.join(known)}." + did_you_mean(value, known))
        problems += threshold_problems("drift", self.drift)
        if isinstance(self.skew, str) and self.skew != OWN:
            problems.append(
                f"skew: '{self.skew}' is not '{OWN}', for the schema's own thresholds, nor thresholds by feature"
            )
        elif not isinstance(self.skew, str):
            problems += threshold_problems("skew", self.skew)
        if len(set(self.skip_splits)) < len(self.skip_splits):
            problems.append(f"skip_splits: {', '.join(self.skip_splits)} has a split twice")
        if problems:
            raise ConfigError(*problems)

    def run(
        self,
        statistics: Statistics,
        schema: FeatureSchema,
        anomalies: Out[Anomalies],
        baseline: Baseline = _NO_MODEL,
    ) -> None:
        """Write SchemaDiff.pb for each split that is not skipped.

        Besides `anomalies`, the number per split, the properties get `reasons`: for each split what was found, as dicts of
        `feature`, `found` and `expected`; and where drift is asked for `drift` (schemas/artifacts/anomalies.py). Raises
        AnomaliesFound when there is an anomaly and `on_anomaly` is fail; DriftFound when there is drift and `on_drift` is fail;
        NotNeeded when there is none and `on_drift` is retrain; ConfigError for thresholds that the data has no use for.
        """
        import tensorflow_data_validation as tfdv

        expected = tfdv.load_schema_text(str(schema.file))
        asked = self._asked(expected, statistics)
        drift = Drift(self.on_drift, asked, expected, statistics, baseline)
        reasons: dict[str, list[dict[str, str]]] = {}
        for split in kept_splits(statistics, self.skip_splits):
            data = tfdv.load_stats_binary(str(statistics.file(split)))
            found = tfdv.validate_statistics(data, expected)
            reasons[split] = reasons_of(found, expected)
            found = drift.add(split, data, found)
            directory = anomalies.split_path(split)
            directory.mkdir(parents=True, exist_ok=True)
            (directory / Anomalies.FILE).write_bytes(found.SerializeToString(deterministic=True))
        anomalies.properties.update(anomalies={split: len(found) for split, found in reasons.items()}, reasons=reasons)
        if drift.is_asked:
            anomalies.properties["drift"] = drift.found()
        if self.on_anomaly == "fail" and any(reasons.values()):
            raise AnomaliesFound(_message(reasons))
        drift.judge()

    def _asked(self, schema: schema_pb2.Schema, statistics: Statistics) -> dict[Against, Thresholds | None]:
        """The thresholds that take the place of the schema's own, by what is compared with; None where nothing is."""
        problems = []
        has_spans = "newest_span" in statistics.properties
        if self.drift and not has_spans:
            problems.append(
                "drift: the data has no spans to compare. Give ExampleGen a source with {SPAN} and a window of 2 or more; to compare "
                "with what the served model was trained on, set skew"
            )
        own = {against: any(asked_of(feature, against) for feature in schema.feature) for against in _SIDES}
        asked: dict[Against, Thresholds | None] = {"spans": None, "served": None}
        if has_spans and (self.drift or own["spans"]):
            asked["spans"] = self.drift
        if self.skew == OWN and not own["served"]:
            problems.append(
                "skew: no feature of the schema has a skew_comparator. Write one, or thresholds here: {fare: 0.1}"
            )
        if (self.skew or self.on_drift == "retrain") and (own["served"] or self.skew):
            asked["served"] = {} if isinstance(self.skew, str) else self.skew
        if self.on_drift == "retrain" and not problems and asked == {"spans": None, "served": None}:
            problems.append(
                "on_drift: retrain needs something that may drift. Give thresholds in skew (against what the served model was trained "
                "on) or in drift (against the spans before the newest one), as skew: {fare: 0.1}"
            )
        if problems:
            raise ConfigError(*problems)
        return asked


_SIDES: tuple[Against, ...] = ("spans", "served")


def reasons_of(found: anomalies_pb2.Anomalies, schema: schema_pb2.Schema) -> list[dict[str, str]]:
    """One entry per feature with an anomaly, in the order of their names, after those for the split as a whole."""
    features = {feature.name: feature for feature in schema.feature}
    domains = {domain.name: list(domain.value) for domain in schema.string_domain}
    reasons = []
    if found.data_missing:
        # TFDV reports nothing else then, and a split without records would pass for a valid one.
        reasons.append(
            {"feature": "", "found": "There are no records.", "expected": "records to compare with the schema"}
        )
    if found.HasField("dataset_anomaly_info"):
        reasons.append({"feature": "", "found": _found(found.dataset_anomaly_info), "expected": ""})
    for name, info in sorted(found.anomaly_info.items()):
        feature = features.get(name)
        expected = expectation(feature, domains) if feature is not None else "no such feature"
        reasons.append({"feature": name, "found": _found(info), "expected": expected})
    return reasons


def _found(info: anomalies_pb2.AnomalyInfo) -> str:
    texts = [reason.description for reason in info.reason] or [info.description]
    return " ".join(text.strip().rstrip(".") + "." for text in texts)


def expectation(feature: schema_pb2.Feature, domains: dict[str, list[str]]) -> str:
    """What the schema asks of a feature, in words: `INT, in every record, one value each, from 1 to 12`.

    `domains` are the values of the schema's string domains by name.
    """
    from tensorflow_metadata.proto.v0 import schema_pb2

    parts = [schema_pb2.FeatureType.Name(feature.type)] if feature.type else []
    presence = feature.presence
    if presence.min_fraction >= 1:
        parts.append("in every record")
    elif presence.min_fraction > 0:
        parts.append(f"in at least {presence.min_fraction:.4g} of the records")
    elif presence.min_count > 0:
        parts.append(f"in at least {presence.min_count:,} records")
    if feature.HasField("shape"):
        sizes = [dim.size for dim in feature.shape.dim]
        parts.append("one value each" if sizes in ([1], []) else f"of shape {sizes}")
    elif feature.HasField("value_count"):
        least, most = feature.value_count.min, feature.value_count.max
        range_ = f"{least} or more" if not most else f"{least} to {most}" if least < most else f"{most}"
        parts.append("one value each" if range_ == "1" else f"{range_} values each")
    for numbers in (feature.int_domain, feature.float_domain):
        ends = [(word, end) for word, end in (("from", "min"), ("to", "max")) if numbers.HasField(end)]
        parts += [" ".join(f"{word} {_number(getattr(numbers, end))}" for word, end in ends)] if ends else []
    if feature.float_domain.disallow_nan:
        parts.append("never NaN")
    values = list(feature.string_domain.value) or domains.get(feature.domain, [])
    if values:
        more = f" and {len(values) - _LISTED} others" if len(values) > _LISTED else ""
        parts.append(f"one of {', '.join(values[:_LISTED])}{more}")
    return ", ".join(parts) or "anything"


def _number(value: int | float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.15g}"


def _message(reasons: dict[str, list[dict[str, str]]]) -> str:
    total = sum(map(len, reasons.values()))
    lines = [f"the data does not fit the schema in {total} place{'s' if total != 1 else ''}:"]
    for split, found in reasons.items():
        for reason in found:
            where = f"  {split}: {reason['feature'] or 'the whole split'}"
            wanted = f" Expected: {reason['expected']}." if reason["expected"] else ""
            lines.append(f"{where}: {shorten(reason['found'], _LONGEST, placeholder=' ...')}{wanted}")
    if len(lines) > _SHOWN + 1:
        lines[_SHOWN + 1 :] = [f"  and {total - _SHOWN} more, in the Anomalies artifact"]
    lines.append(
        "Correct the data; or, where the data is right, the schema (write one, with its real domains, and name it in"
        " ImportSchema); or set on_anomaly: warn to go on regardless."
    )
    return "\n".join(lines)
