"""Statistics + FeatureSchema -> Anomalies: where the data of each split does not fit its schema."""

from __future__ import annotations

from dataclasses import dataclass
from textwrap import shorten
from typing import TYPE_CHECKING

from components.data.statistics_gen import kept_splits
from schemas.artifacts import Anomalies, FeatureSchema, Statistics
from schemas.component import Out
from schemas.errors import AnomaliesFound, ConfigError, did_you_mean

if TYPE_CHECKING:
    from tensorflow_metadata.proto.v0 import anomalies_pb2, schema_pb2

ON_ANOMALY = ("fail", "warn")
_LISTED = 12  # values of a domain that a message names
_SHOWN = 20  # anomalies that a message shows; all are in the artifact
_LONGEST = 300  # characters of one of them


@dataclass(frozen=True, kw_only=True)
class ExampleValidator:
    """Statistics + FeatureSchema -> Anomalies: where the data of each split does not fit its schema.

    TFDV's checks: types, presence, number of values, domains, ranges, columns that are new or gone. With `on_anomaly: fail`
    the first anomaly stops the run, after all of them are written; with `warn` they are written and the run goes on.
    """

    on_anomaly: str = "fail"  # fail or warn
    skip_splits: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        problems = []
        if self.on_anomaly not in ON_ANOMALY:
            problems.append(
                f"on_anomaly: '{self.on_anomaly}' is not one of {', '.join(ON_ANOMALY)}."
                + did_you_mean(self.on_anomaly, ON_ANOMALY)
            )
        if len(set(self.skip_splits)) < len(self.skip_splits):
            problems.append(f"skip_splits: {', '.join(self.skip_splits)} has a split twice")
        if problems:
            raise ConfigError(*problems)

    def run(self, statistics: Statistics, schema: FeatureSchema, anomalies: Out[Anomalies]) -> None:
        """Write SchemaDiff.pb for each split that is not skipped.

        Besides `anomalies`, the number per split, the properties get `reasons`: for each split what was found, as dicts of
        `feature`, `found` and `expected`. Raises AnomaliesFound when there is one and `on_anomaly` is fail.
        """
        import tensorflow_data_validation as tfdv

        expected = tfdv.load_schema_text(str(schema.file))
        reasons: dict[str, list[dict[str, str]]] = {}
        for split in kept_splits(statistics, self.skip_splits):
            found = tfdv.validate_statistics(tfdv.load_stats_binary(str(statistics.file(split))), expected)
            directory = anomalies.split_path(split)
            directory.mkdir(parents=True, exist_ok=True)
            (directory / Anomalies.FILE).write_bytes(found.SerializeToString(deterministic=True))
            reasons[split] = _reasons(found, expected)
        anomalies.properties.update(anomalies={split: len(found) for split, found in reasons.items()}, reasons=reasons)
        if self.on_anomaly == "fail" and any(reasons.values()):
            raise AnomaliesFound(_message(reasons))


def _reasons(found: anomalies_pb2.Anomalies, schema: schema_pb2.Schema) -> list[dict[str, str]]:
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
