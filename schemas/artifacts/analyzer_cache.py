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
    train-1f0c.../MADE_OF.json                   number of a file -> digest of what led to it, or null
    ```
    One directory for each data set, a span or all of a split, named for the split and the digest of its records and of the
    features' types and shapes. The same records have the same name in every window of spans.
    The layout is that of `tensorflow_transform.beam.analyzer_cache`, 1.16, which reads it, but for MADE_OF.json: TFT's keys
    stay the same after some changes of preprocessing_fn, the digests do not. Without its digest nothing is taken from a cache.

    Properties: `analyzers`, how many are kept, each once for every data set; `reused`, how many of them came from the cache that
    the step was wired to.
    """

    TYPE_NAME: ClassVar[str] = "TransformCache"
    EXPLICIT: ClassVar[bool] = True  # two Transforms of one pipeline do not wait for each other unasked
    MADE_OF: ClassVar[str] = "MADE_OF.json"

    def data_set(self, key: str) -> Path:
        """Where what is known of one data set is or will be written."""
        return self.path / key
