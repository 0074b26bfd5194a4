"""AnalyzerCache: what TFT's analyzers accumulated of each data set, so that it need not be read again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from schemas.artifact import Artifact


@dataclass(frozen=True)
class AnalyzerCache(Artifact):
    """
    ```
    train-1f0c.../MANIFEST                       pickled dict: key of an analyzer -> number of its file
    train-1f0c.../0-00000-of-00001.gz            TFRecord file of what it accumulated, encoded by its own coder
    train-1f0c.../METADATA-00000-of-00001        TFRecord file of one pickled dict: dataset_size, bytes in memory
    ```
    One directory for each data set, named for its split and the digest of its content and schema. The layout is that of
    `tensorflow_transform.beam.analyzer_cache`, 1.16, which reads and writes it as well. Keys are TFT's: they change with the
    part of preprocessing_fn that leads to the analyzer.

    Properties: `analyzers`, how many are kept in all; `reused`, how many of them came from another cache.
    """

    TYPE_NAME: ClassVar[str] = "TransformCache"

    def data_set(self, key: str) -> Path:
        """Where what is known of one data set is or will be written."""
        return self.path / key
