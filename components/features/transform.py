"""Examples -> TransformGraph, TransformedExamples, statistics: preprocessing_fn analysed on one split, applied to all."""

from __future__ import annotations

import shutil
import sys
import uuid
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from components.features import analyzer_cache as cache_files
from components.features import transform_statistics
from components.features.analysis import Analysis
from components.features.preprocessing import Preprocessing
from components.features.raw_features import RawShard, ReadBatches, ReadFeatures, projection, raw_shards, read_schema
from components.features.shards import each_shard
from components.features.tracing import InThisProcess
from components.features.transform_shard import Counting, LoadedGraph, Shard, TransformShard
from components.io import beam as beam_io
from components.io import tfrecord
from components.io.keras import arrange, spare_libraries_autograph
from components.io.workers import Packed
from schemas.artifacts import (
    AnalyzerCache,
    Examples,
    FeatureSchema,
    TransformAnomalies,
    TransformedExamples,
    TransformGraph,
    TransformSchema,
    TransformStatistics,
)
from schemas.component import BeamOptions, Out, Progress, UserCode
from schemas.errors import ConfigError, DataError

if TYPE_CHECKING:
    from tensorflow_metadata.proto.v0 import schema_pb2


@dataclass(frozen=True, kw_only=True)
class Transform:
    """Examples -> TransformGraph, TransformedExamples, statistics: preprocessing_fn analysed on one split, applied to all.

    The graph is TFT's. Its analyzers run shard by shard (`analysis`), or as TFT's own Beam pipeline when one of them is
    not known there; the log and the artifact then say so. A shard of the examples becomes the shard of the same number
    with its records in the same order, so equal input gives equal files.

    The statistics are TFX's: of the raw features that the function takes, in the split that is analysed, and of the transformed
    ones in all splits. They are counted while the data is transformed. Quantiles come from a sketch, within 1 % of rank.
    """

    LEAST_MEMORY: ClassVar[int] = 1_000_000_000  # bytes

    preprocessing_fn: UserCode
    analyze_split: str = "train"  # what vocabularies, means and quantiles are learnt from
    custom_config: dict[str, Any] = field(default_factory=dict)  # given to a preprocessing_fn with such a parameter
    statistics: bool = True  # False leaves the five outputs before and after the transformation empty

    def __post_init__(self) -> None:
        problems = []
        if "." not in self.preprocessing_fn:
            problems.append(
                f"preprocessing_fn: '{self.preprocessing_fn}' is not a dotted path. Give one such as "
                f"my_project.features.preprocessing_fn"
            )
        if not self.analyze_split:
            problems.append("analyze_split: is empty. Give the name of a split, such as train")
        if problems:
            raise ConfigError(*problems)

    def run(
        self,
        examples: Examples,
        schema: FeatureSchema,
        beam: BeamOptions,
        progress: Progress,
        transform_graph: Out[TransformGraph],
        transformed_examples: Out[TransformedExamples],
        pre_transform_schema: Out[TransformSchema],
        pre_transform_stats: Out[TransformStatistics],
        post_transform_schema: Out[TransformSchema],
        post_transform_stats: Out[TransformStatistics],
        post_transform_anomalies: Out[TransformAnomalies],
        updated_analyzer_cache: Out[AnalyzerCache],
        analyzer_cache: AnalyzerCache | None = None,
    ) -> None:
        """Fill the outputs.

        Raises UnknownSplit when there is no `analyze_split`; DataError when that split is empty, when the data does not
        fit the schema or the function names a feature that the schema does not have; UserCodeError when the function
        returns something else than named tensors. What the function itself raises passes through.
        """
        if not any(True for file in examples.files(self.analyze_split) for _ in tfrecord.read(file)):
            raise DataError(
                f"split '{self.analyze_split}' of {examples.path} has no records, so there is nothing to learn from. "
                f"Give it a weight in ExampleGen's splits, or analyze another split with analyze_split"
            )
        arrange()
        preprocessing = Preprocessing(self.preprocessing_fn, self.custom_config)
        preprocessing.load()  # a mistake in the user's module shows before anything slow is imported
        spare_libraries_autograph()

        raw = read_schema(schema.file)
        analyzed = raw_shards(examples, self.analyze_split)
        shards = _shards(examples, transformed_examples)
        # Where every Beam worker that writes the graph can reach it. The name ends up in those of the graph's hash tables,
        # and TensorFlow lets tables of one name share their content with every model that a process loads.
        temporary = transform_graph.path / f".{uuid.uuid4().hex}"
        data_set = cache_files.data_set(self.analyze_split, analyzed, raw)
        cached = cache_files.read(analyzer_cache, data_set) if analyzer_cache else {}
        # Traces, so that the user's mistakes appear outside Beam.
        analysis = Analysis(preprocessing, raw, temporary, data_set, cached)
        columns = analysis.transformed_columns
        passes = 1 if analysis.unknown else analysis.passes
        records = examples.properties.get("records", {})
        total = passes * records.get(self.analyze_split, 0) + sum(records.values()) if records else None
        with beam_io.RowCount(progress, total) as count, ExitStack() as held:
            function = InThisProcess(LoadedGraph(str(transform_graph.path)))
            if analysis.unknown:
                print(
                    f"TFT's own Beam pipeline analyses the data, no cache is kept. {analysis.unknown}", file=sys.stderr
                )
                transform_graph.properties["analyzed_by"] = f"tft_beam: {analysis.unknown}"
                _analyze(analysis, analyzed, beam, count, transform_graph)
            else:
                final, found = analysis.run(analyzed, beam, count, transform_graph)
                cache_files.write(updated_analyzer_cache, data_set, found)
                updated_analyzer_cache.properties.update(analyzers=len(found), reused=analysis.reused)
                held.enter_context(function.holding(final.function(columns, final.outputs)))
            _write_raw_schema(raw, transform_graph)
            counting = None
            if self.statistics:
                taken = sorted({*analysis.analyzed_columns, *columns})
                counting = Counting(ReadFeatures(raw, taken, count), self.analyze_split, str(temporary))
            transform = TransformShard(ReadFeatures(raw, columns, count), function, transform_graph, counting)
            written = each_shard(shards, transform, beam, temporary)
        if self.statistics:
            transform_statistics.write(
                transform_statistics.options_before(raw),
                [one.before for one in written if one.before],
                pre_transform_stats,
                pre_transform_schema,
            )
            transform_statistics.write(
                transform_statistics.options_after(transform_graph),
                [one.after for one in written if one.after],
                post_transform_stats,
                post_transform_schema,
                post_transform_anomalies,
            )
        shutil.rmtree(temporary, ignore_errors=True)
        transformed_examples.properties["records"] = {
            split: sum(one.records for shard, one in zip(shards, written, strict=True) if shard.split == split)
            for split in examples.splits
        }
        transform_graph.properties["features"] = len(read_schema(transform_graph.transformed_schema).feature)


def _shards(examples: Examples, transformed: TransformedExamples) -> list[Shard]:
    shards = []
    for split in examples.splits:
        directory = transformed.split_path(split)
        directory.mkdir(parents=True, exist_ok=True)
        sources = raw_shards(examples, split)
        for number, source in enumerate(sources):
            target = directory / f"transformed_examples-{number:05d}-of-{len(sources):05d}.gz"
            shards.append(Shard(split, source, str(target)))
    return shards


def _analyze(
    analysis: Analysis, shards: Sequence[RawShard], options: BeamOptions, count: beam_io.RowCount, graph: TransformGraph
) -> None:
    """Run TFT's Beam pipeline over `shards` and write the graph with the schema of what it gives."""
    import apache_beam as beam
    import tensorflow_transform.beam as tft_beam

    config, projected = projection(analysis.raw, analysis.analyzed_columns)
    with (
        beam_io.pipeline(options, [analysis.temporary]) as pipeline,
        tft_beam.Context(temp_dir=str(analysis.temporary)),
    ):
        batches = (
            pipeline
            | "Numbered" >> beam.Create(list(enumerate(shards)))
            | "Spread" >> beam.GroupByKey()  # as Reshuffle does, but locally always in the same order
            | "Shards" >> beam.FlatMapTuple(lambda _, shards: shards)
            | "Batches" >> beam.FlatMap(Packed(ReadBatches(projected, config.arrow_schema, count)))
        )
        _ = (
            (batches, config)
            | "Analyze" >> tft_beam.AnalyzeDataset(analysis.preprocessing)
            | "Write" >> tft_beam.WriteTransformFn(str(graph.path))
        )


def _write_raw_schema(raw: schema_pb2.Schema, graph: TransformGraph) -> None:
    """Write the schema of what the graph takes."""
    from tensorflow_transform.tf_metadata import dataset_metadata, metadata_io

    metadata_io.write_metadata(dataset_metadata.DatasetMetadata(raw), str(graph.raw_schema.parent))
