"""Examples: records as serialized tf.Example, one directory of gzipped TFRecord files per split."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from schemas.artifact import SplitArtifact, splits_in_order


@dataclass(frozen=True)
class Examples(SplitArtifact):
    """
    ```
    Split-train/data_tfrecord-00000-of-00002.gz
    Split-eval/data_tfrecord-00000-of-00002.gz
    ```
    Transform's materialised output has the same layout with files called `transformed_examples-*.gz`. An empty split
    has its directory and at least one file without records, so that a reader's glob never fails.

    Properties: `records`, the number of records of each split: `{"train": 9998, "eval": 5004}`.
    """

    TYPE_NAME: ClassVar[str] = "Examples"

    def files(self, split: str) -> list[Path]:
        """The files of one split, in shard order. Raises UnknownSplit."""
        return sorted(p for p in self.split(split).iterdir() if p.is_file() and not p.name.startswith("."))

    def describe(self) -> str:
        records = self.properties.get("records", {})
        return ", ".join(f"{split} {records[split]:,}" for split in splits_in_order(records))


@dataclass(frozen=True)
class TransformedExamples(Examples):
    """Examples whose features are what preprocessing_fn gives. TFX has no type of its own for them."""
