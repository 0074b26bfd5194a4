"""Anomalies: where the statistics of each split do not fit the schema."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from schemas.artifact import SplitArtifact, splits_in_order

_LISTED = 3  # drifted features that half a line names


@dataclass(frozen=True)
class Anomalies(SplitArtifact):
    """
    ```
    Split-train/SchemaDiff.pb    serialized tensorflow.metadata.v0.Anomalies
    Split-eval/SchemaDiff.pb
    ```
    Properties: `anomalies`, the number of features with an anomaly, per split. Where the data is compared with what it was,
    `drift`: {"on_drift", "newest_span", "served_version", "distances": [{"split", "feature", "against": spans or served, "measure",
    "value", "threshold", "over"}], "over": a sentence for each above its threshold, "notes": what could not be compared}. A
    `value` is null where one side has no values at all. The distances are in SchemaDiff.pb too, as TFDV's drift_skew_info.
    """

    TYPE_NAME: ClassVar[str] = "ExampleAnomalies"
    FILE: ClassVar[str] = "SchemaDiff.pb"

    def file(self, split: str) -> Path:
        """The anomalies file of one split. Raises UnknownSplit."""
        return self.split(split) / self.FILE

    def describe(self) -> str:
        if (
            "anomalies" not in self.properties
        ):  # nobody has read what is in the files, such as those of a DistributionValidator
            return ""
        counts = self.properties["anomalies"]
        found = {split: count for split in splits_in_order(counts) if (count := counts[split])}
        told = ", ".join(f"{split}: {count} with anomalies" for split, count in found.items()) or "no anomalies"
        return f"{told}; {drift}" if (drift := self._drift()) else told

    def _drift(self) -> str:
        found = self.properties.get("drift")
        if found is None:
            return ""
        drifted = [f"{one['split']} {one['feature']}" for one in found["distances"] if one["over"]]
        if drifted:
            more = f" and {len(drifted) - _LISTED} more" if len(drifted) > _LISTED else ""
            return f"drift in {', '.join(dict.fromkeys(drifted[:_LISTED]))}{more}"
        if not found["distances"]:
            return f"drift unknown ({found['notes'][0]})" if found["notes"] else ""
        count = len(found["distances"])
        missing = ", and not everything could be compared" if found["notes"] else ""
        return f"no drift in {count} distance{'s' if count > 1 else ''}{missing}"
