"""Examples: records as serialized tf.Example, one directory of gzipped TFRecord files per split."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from schemas.artifact import SplitArtifact, splits_in_order
from schemas.spans import shown


@dataclass(frozen=True)
class Examples(SplitArtifact):
    """
    ```
    Split-train/data_tfrecord-00000-of-00002.gz
    Split-eval/data_tfrecord-00000-of-00002.gz
    columns/train/00000-of-00002.parquet
    columns/eval/00000-of-00002.parquet
    spans.json    where the source has spans: [{"span": 41, "shards": [12, 14]}]
    ```
    `columns` holds what the records do, so that no later step decodes them; TFX does not look there, and an artifact of TFX's
    has none. Each Parquet file has the rows of the record file with its number, in the same order: a column for each feature
    that one of them has, by name, of type large_list<int64>, large_list<float> or large_list<large_binary>, null where a
    record lacks the feature and empty where the record has it without values; or of type null, where no record of the file
    says of which kind the feature is. That is what tfx_bsl's decoder gives for these records. A file without records has no
    column.

    Transform's materialised output has the same layout with files called `transformed_examples-*.gz`. An empty split
    has its directory and at least one file without records, so that a reader's glob never fails.

    Properties: `records`, the number of records of each split: `{"train": 9998, "eval": 5004}`; `columns`, whether they are
    kept; and where the source has spans, `spans`, ascending: `[{"span": 41, "version": 2, "label": "41", "shards": [12, 14]}]`, where
    `shards` is the half-open range of the shards that hold the span, the same in every split, and `version` may be null. Later
    steps make something else of the same shards in other spans, so `spans.json` has that content differ, too.
    """

    TYPE_NAME: ClassVar[str] = "Examples"
    SPANS: ClassVar[str] = "spans.json"

    def files(self, split: str) -> list[Path]:
        """The files of one split, in shard order. Raises UnknownSplit."""
        return sorted(p for p in self.split(split).iterdir() if p.is_file() and not p.name.startswith("."))

    def columns(self, split: str) -> list[Path] | None:
        """The Parquet files of one split, in shard order, one for every file in `files`; None when they are not all there.

        Raises UnknownSplit.
        """
        shards = len(self.files(split))
        found = [self.columns_path(split) / f"{shard:05d}-of-{shards:05d}.parquet" for shard in range(shards)]
        return found if found and all(file.is_file() for file in found) else None

    def columns_path(self, split: str) -> Path:
        """Where the columns of one split are or will be written."""
        return self.path / "columns" / split

    def describe(self) -> str:
        records = self.properties.get("records", {})
        held = [f"{split} {records[split]:,}" for split in splits_in_order(records)]
        spans = self.properties.get("spans", [])
        if spans:
            labels = shown([span["label"] for span in spans], [span["span"] for span in spans])
            held.insert(0, f"{'span' if len(spans) == 1 else 'spans'} {labels}")
        return ", ".join(held)


@dataclass(frozen=True)
class TransformedExamples(Examples):
    """Examples whose features are what preprocessing_fn gives. TFX has no type of its own for them.

    Properties: `materialized`, False where Transform wrote none: each split has one file without records then, and who trains
    transforms the raw examples itself; absent otherwise.
    """

    @property
    def materialized(self) -> bool:
        return bool(self.properties.get("materialized", True))

    def describe(self) -> str:
        return super().describe() if self.materialized else "not materialized"
