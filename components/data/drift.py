"""Drift: how far the splits of statistics are from the spans before and from what the served model was trained on."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from components.data.distances import Against, Comparison, Distance, Thresholds, merge, read_statistics, with_thresholds
from schemas.artifacts import Statistics
from schemas.artifacts.pushed_model import training_statistics
from schemas.component import Baseline
from schemas.errors import DriftFound, NotNeeded
from schemas.passport import Passport
from schemas.spans import shown

if TYPE_CHECKING:
    from tensorflow_metadata.proto.v0 import anomalies_pb2, schema_pb2, statistics_pb2

_SHOWN = 20  # distances that a message shows; all are in the artifact


@dataclass
class Drift:
    """How far the splits are from what they were, as it is found out split by split.

    `asked` are the thresholds that take the place of the schema's own, by what is compared with; None where nothing is.
    """

    on_drift: str  # warn, fail or retrain
    asked: Mapping[Against, Thresholds | None]
    schema: schema_pb2.Schema
    statistics: Statistics
    baseline: Baseline

    def __post_init__(self) -> None:
        self.distances: list[Distance] = []
        self.notes: list[str] = []
        self.incomplete = False  # a split could not be compared with what the served model was trained on
        newest = self.statistics.properties.get("newest_span")
        self.newest = f"span {newest}" if newest is not None else "the data"
        self.served = f"version {self.baseline.version}" + _of_spans(self.baseline)
        self.sides: dict[Against, str] = {
            "spans": f"{self.newest} against the spans before it",
            "served": f"{self.newest} against what {self.served} was trained on",
        }

    def add(
        self, split: str, data: statistics_pb2.DatasetFeatureStatisticsList, found: anomalies_pb2.Anomalies
    ) -> anomalies_pb2.Anomalies:
        """`found`, the anomalies of a split's `data`, with the distances and what is above a threshold."""
        if not self.is_asked:
            return found
        newest = self.statistics.newest(split)
        now = read_statistics(newest) if newest else data
        before = self._before(split)
        for against in [one for one, past in before.items() if not _records(past)]:
            del before[against]
            self._note(against, f"{split}: no records to compare ({self.sides[against]})")
        if not _records(now):
            self.incomplete = True
            self.notes.append(f"{split}: {self.newest} has no records")
            return found
        schema, notes = with_thresholds(self.schema, self.asked, [now, *before.values()])
        self._add_notes(notes)
        if not before:
            return found
        said, distances, unmeasured = Comparison(split, now, before, schema).measured()
        self.distances += distances
        self._add_notes(unmeasured)
        if newest is None:
            return said
        merge(found, said)
        return found

    def _before(self, split: str) -> dict[Against, statistics_pb2.DatasetFeatureStatisticsList]:
        before: dict[Against, statistics_pb2.DatasetFeatureStatisticsList] = {}
        if self.asked["spans"] is not None:
            previous = self.statistics.previous(split)
            if previous is not None:
                before["spans"] = read_statistics(previous)
            else:
                self._note(
                    "spans", f"{self.newest} is the only one of the window: there is none before it to compare with"
                )
        if self.asked["served"] is not None:
            if self.baseline.digest is None:
                self._note("served", "no model serves yet whose training data could be compared with")
            elif self.baseline.path is None:
                self._note("served", f"{self.served} is not there any more to compare with")
            else:
                file = training_statistics(self.baseline.path, split)
                if file is not None:
                    before["served"] = read_statistics(file)
                else:
                    self._note(
                        "served",
                        f"{split}: {self.served} keeps no statistics of what it was trained on, so nothing is compared with "
                        f"it. The next version that Pusher makes keeps them, where a StatisticsGen is wired to it",
                    )
        return before

    def _note(self, against: Against, note: str) -> None:
        self.incomplete = self.incomplete or against == "served"
        self._add_notes([note])

    def _add_notes(self, notes: Iterable[str]) -> None:
        self.notes += [note for note in dict.fromkeys(notes) if note not in self.notes]

    @property
    def is_asked(self) -> bool:
        """Whether anything is compared with anything."""
        return any(thresholds is not None for thresholds in self.asked.values())

    @property
    def over(self) -> list[str]:
        """A sentence for each distance above its threshold."""
        return [distance.sentence(self.sides) for distance in self.distances if distance.over]

    def found(self) -> dict[str, Any]:
        """What the artifact's properties say."""
        return {
            "on_drift": self.on_drift,
            "newest_span": self.statistics.properties.get("newest_span"),
            "served_version": self.baseline.version,
            "distances": [distance.as_json() for distance in self.distances],
            "over": self.over,
            "notes": self.notes,
        }

    def judge(self) -> None:
        """Raise DriftFound or NotNeeded where the settings want it; say on stderr what was found otherwise."""
        over = self.over
        if over and self.on_drift == "fail":
            raise DriftFound(_drifted(over) + _ON_FAIL)
        for line in (_drifted(over) if over else "").splitlines() + self.notes:
            print(line, file=sys.stderr)
        if self.on_drift == "retrain" and self.baseline.digest and self.distances and not over and not self.incomplete:
            nearest = max(self.distances, key=lambda one: (one.value or 0.0) - one.threshold)
            raise NotNeeded(
                f"nothing has drifted, so there is no need to train: {len(self.distances)} distances are within their thresholds\n"
                f"the nearest to its own is {nearest.sentence(self.sides)}"
            )


def _records(statistics: statistics_pb2.DatasetFeatureStatisticsList) -> int:
    return int(statistics.datasets[0].num_examples)


def _of_spans(baseline: Baseline) -> str:
    """' (spans 35 to 41)' where the passport of the served model says so."""
    passport = Passport.read(baseline.path) if baseline.path is not None else None
    for record in passport.steps.values() if passport is not None else ():
        for output in record.get("outputs", {}).values():
            spans = output.get("properties", {}).get("spans", ())
            if output.get("type") == "Examples" and spans:
                told = shown([span["label"] for span in spans], [span["span"] for span in spans])
                return f" (span{'s' if len(spans) > 1 else ''} {told})"
    return ""


def _drifted(over: list[str]) -> str:
    lines = [f"the data has drifted in {len(over)} place{'s' if len(over) != 1 else ''}:"]
    lines += [f"  {sentence}" for sentence in over[:_SHOWN]]
    if len(over) > _SHOWN:
        lines.append(f"  and {len(over) - _SHOWN} more, in the Anomalies artifact")
    return "\n".join(lines)


_ON_FAIL = (
    "\nLook at the data. Where it is wrong, correct it; where it is right, raise the threshold, or set on_drift: warn to train on it "
    "regardless, or on_drift: retrain to train only when there is drift."
)
