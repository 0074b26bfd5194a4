"""Examples -> Statistics: counts, moments and quantiles of every feature, per split."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from components.io import tf_example, tfrecord
from components.io.beam import RowCount, pipeline
from schemas.artifacts import Examples, FeatureSchema, Statistics
from schemas.component import BeamOptions, Out, Progress
from schemas.errors import ConfigError, UnknownSplit, did_you_mean

if TYPE_CHECKING:
    import pyarrow as pa

_RECORDS = 8192  # per Arrow batch


@dataclass(frozen=True, kw_only=True)
class StatisticsGen:
    """Examples -> Statistics: counts, moments and quantiles of every feature, per split.

    The numbers are TFDV's with its default options, as in TFX's StatisticsGen. A schema, where one is wired, adds what only it
    knows: which integers are categories, which text is natural language.
    """

    skip_splits: tuple[str, ...] = ()
    sample_rate: float = 1.0  # fraction of rows, 0 < rate <= 1; the same rows each time

    def __post_init__(self) -> None:
        problems = []
        if not 0 < self.sample_rate <= 1:
            problems.append(f"sample_rate: {self.sample_rate} is not a fraction of rows: give more than 0, at most 1")
        if len(set(self.skip_splits)) < len(self.skip_splits):
            problems.append(f"skip_splits: {', '.join(self.skip_splits)} has a split twice")
        if problems:
            raise ConfigError(*problems)

    def run(
        self,
        examples: Examples,
        beam: BeamOptions,
        progress: Progress,
        statistics: Out[Statistics],
        schema: FeatureSchema | None = None,
    ) -> None:
        """Write FeatureStats.pb for each split that is not skipped; a split without records has statistics that say so.

        Raises UnknownSplit when a split to skip is not there, DataError for a broken file.
        """
        import apache_beam
        import tensorflow_data_validation as tfdv
        from tensorflow_metadata.proto.v0 import statistics_pb2

        splits = kept_splits(examples, self.skip_splits)
        options = tfdv.StatsOptions(schema=tfdv.load_schema_text(str(schema.file)) if schema else None)
        counts = examples.properties.get("records", {})
        total = sum(counts[split] for split in splits) if set(splits) <= set(counts) else None
        with RowCount(progress, total) as rows, pipeline(beam) as running:
            for split in splits:
                file = statistics.split_path(split) / Statistics.FILE
                file.parent.mkdir(parents=True, exist_ok=True)
                shards = [(number, str(shard)) for number, shard in enumerate(examples.files(split))]
                _ = (
                    running
                    | f"Files[{split}]" >> apache_beam.Create(shards)
                    | f"OneByOne[{split}]" >> apache_beam.Reshuffle()
                    | f"Read[{split}]" >> apache_beam.FlatMap(_batches, self.sample_rate, rows)
                    | f"Compute[{split}]" >> tfdv.GenerateStatistics(options)
                    | f"Write[{split}]" >> apache_beam.Map(_write, file)
                )
        first = statistics_pb2.DatasetFeatureStatisticsList.FromString(statistics.file(splits[0]).read_bytes())
        statistics.properties["features"] = len(first.datasets[0].features)


def kept_splits(artifact: Examples | Statistics, skipped: tuple[str, ...]) -> tuple[str, ...]:
    """The splits of `artifact` without `skipped`. Raises UnknownSplit for one that is not there, or when none remains."""
    for split in skipped:
        if split not in artifact.splits:
            raise UnknownSplit(
                f"skip_splits: there is no split '{split}': {artifact.TYPE_NAME} has {', '.join(artifact.splits)}."
                + did_you_mean(split, artifact.splits)
            )
    kept = tuple(split for split in artifact.splits if split not in skipped)
    if not kept:
        raise UnknownSplit(f"{artifact.TYPE_NAME} at {artifact.path}: no split is left of {artifact.splits or 'none'}")
    return kept


def _batches(shard: tuple[int, str], sample_rate: float, rows: RowCount) -> Iterator[pa.RecordBatch]:
    import numpy as np
    import pyarrow as pa

    number, file = shard
    # TFDV's own sampling keeps or drops whole batches, which would be all or nothing with large ones.
    random = np.random.default_rng(number)
    for records in tfrecord.read_batches(Path(file), _RECORDS):
        batch = tf_example.decode(records)
        if sample_rate < 1:
            batch = batch.filter(pa.array(random.random(batch.num_rows) < sample_rate))
        yield batch
        rows(len(records))


def _write(found: object, file: Path) -> None:
    file.write_bytes(found.SerializeToString(deterministic=True))  # type: ignore[attr-defined]
