"""Examples -> TransformGraph, TransformedExamples, statistics: preprocessing_fn analysed on one split, applied to all."""

from __future__ import annotations

import shutil
import sys
import uuid
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from components.features import analyzer_cache as cache_files
from components.features import transform_statistics
from components.features.analysis import Analysis
from components.features.analyzer_cache import DataSet, Entry
from components.features.preprocessing import Preprocessing
from components.features.raw_features import RawShard, ReadBatches, ReadFeatures, projection, raw_shards, read_schema
from components.features.shard_parts import ShardParts, made_by
from components.features.shards import each_shard
from components.features.tracing import InThisProcess
from components.features.transform_shard import Counting, LoadedGraph, Shard, TransformShard, Written
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
from schemas.component import BeamOptions, Makes, Out, PartCache, Progress, UserCode
from schemas.errors import ConfigError, DataError

if TYPE_CHECKING:
    from tensorflow_metadata.proto.v0 import schema_pb2


@dataclass(frozen=True, kw_only=True)
class Transform:
    """Examples -> TransformGraph, TransformedExamples, statistics: preprocessing_fn analysed on one split, applied to all.

    The graph is TFT's. Its analyzers run shard by shard (`analysis`), or as TFT's own Beam pipeline when one of them is
    not known there; the log and the artifact then say so. A shard of the examples becomes the shard of the same number
    with its records in the same order, so equal input gives equal files.

    What is learnt is kept for each span of the analysed split by itself, where the examples have spans, and so is what becomes
    of each shard, as long as the finished graph is the same: with one span more, a later execution reads that span alone to
    learn from, and transforms that alone when nothing was learnt that changes the graph.

    Without `materialize` no transformed examples are written, and no statistics of them: steps that would take them take the raw
    ones and apply the graph batch by batch. That spares the disk, and costs the transformation anew in every pass.

    The statistics are TFX's: of the raw features that the function takes, in the split that is analysed, and of the transformed
    ones in all splits. They are counted while the data is transformed. Quantiles come from a sketch, within 1 % of rank.
    """

    LEAST_MEMORY: ClassVar[int] = 1_000_000_000  # bytes

    preprocessing_fn: UserCode
    analyze_split: str = "train"  # what vocabularies, means and quantiles are learnt from
    custom_config: dict[str, Any] = field(default_factory=dict)  # given to a preprocessing_fn with such a parameter
    statistics: bool = True  # False leaves the five outputs before and after the transformation empty
    materialize: Annotated[bool, Makes("transformed_examples")] = True  # False: who trains transforms the raw examples

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
        parts: PartCache = PartCache(),  # noqa: B008 it has no state
    ) -> None:
        """Fill the outputs. They are the same whatever is in `analyzer_cache` and `parts`.

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
        shards = self._shards(examples, transformed_examples)
        # Where every Beam worker that writes the graph can reach it. The name ends up in those of the graph's hash tables,
        # and TensorFlow lets tables of one name share their content with every model that a process loads.
        temporary = transform_graph.path / f".{uuid.uuid4().hex}"
        analysis = Analysis(preprocessing, raw, temporary)  # traces, so that the user's mistakes appear outside Beam
        columns = analysis.transformed_columns
        analyzed = [shard.source for shard in shards if shard.split == self.analyze_split]
        data_sets = cache_files.data_sets(self.analyze_split, analyzed, cache_files.spans_of(examples), raw)
        made_of = {} if analysis.unknown else analysis.made_of
        known = {one: cache_files.known(analyzer_cache, parts, one.name, made_of) for one in data_sets}
        final = None
        with beam_io.RowCount(progress, self._rows(examples, analysis, known)) as count, ExitStack() as held:
            function = InThisProcess(LoadedGraph(str(transform_graph.path)))
            if analysis.unknown:
                print(
                    f"TFT's own Beam pipeline analyses the data, no cache is kept. {analysis.unknown}", file=sys.stderr
                )
                transform_graph.properties["analyzed_by"] = f"tft_beam: {analysis.unknown}"
                _analyze(analysis, analyzed, beam, count, transform_graph)
            else:
                final, found = analysis.run(known, beam, count, transform_graph)
                _keep_analysis(found, known, updated_analyzer_cache, analyzer_cache, parts)
                held.enter_context(function.holding(final.function(columns, final.outputs)))
            _write_raw_schema(raw, transform_graph)
            taken = sorted({*analysis.analyzed_columns, *columns})
            kept = ShardParts(parts, raw, taken, made_by(final, transform_graph))
            counting = Counting(ReadFeatures(raw, taken, count), str(temporary))
            transform = TransformShard(ReadFeatures(raw, columns, count), function, transform_graph, counting)
            written = _made(shards, transform, kept, beam, temporary, count)
        if self.statistics:
            transform_statistics.write(
                transform_statistics.options_before(raw),
                [one.before for one in written if one.before],
                pre_transform_stats,
                pre_transform_schema,
            )
        if self.statistics and self.materialize:
            transform_statistics.write(
                transform_statistics.options_after(transform_graph),
                [one.after for one in written if one.after],
                post_transform_stats,
                post_transform_schema,
                post_transform_anomalies,
            )
        shutil.rmtree(temporary, ignore_errors=True)
        if self.materialize:
            transformed_examples.properties["records"] = {
                split: sum(one.records for shard, one in zip(shards, written, strict=True) if shard.split == split)
                for split in examples.splits
            }
        else:
            transformed_examples.properties["materialized"] = False
        transform_graph.properties["features"] = len(read_schema(transform_graph.transformed_schema).feature)

    def _shards(self, examples: Examples, transformed: TransformedExamples) -> list[Shard]:
        """Every shard, with all that is wanted of it."""
        shards = []
        for split in examples.splits:
            directory = transformed.split_path(split)
            directory.mkdir(parents=True, exist_ok=True)
            if not self.materialize:
                tfrecord.write(directory / "transformed_examples-00000-of-00001.gz", ())
            analyzed = split == self.analyze_split
            sources = raw_shards(examples, split) if self.materialize or analyzed else ()
            for number, source in enumerate(sources):
                target = directory / f"transformed_examples-{number:05d}-of-{len(sources):05d}.gz"
                shards.append(
                    Shard(
                        split,
                        source,
                        target=str(target) if self.materialize else None,
                        before=self.statistics and analyzed,
                        after=self.statistics and self.materialize,
                    )
                )
        return shards

    def _rows(
        self, examples: Examples, analysis: Analysis, known: Mapping[DataSet, Mapping[bytes, Entry]]
    ) -> int | None:
        """How many rows there are to analyse and to transform; None when nobody can tell without reading them."""
        records: Mapping[str, int] = examples.properties.get("records", {})
        if not records:
            return None
        analyzed = records.get(self.analyze_split, 0)
        total = sum(records.values()) if self.materialize else analyzed * self.statistics
        if analysis.unknown:
            return total + analyzed
        often = {data_set: analysis.read_often(entries) for data_set, entries in known.items()}
        if len(set(often.values())) == 1:
            return total + analyzed * next(iter(often.values()))
        for data_set, times in often.items():
            for shard in data_set.shards if times else ():
                if shard.rows is None:
                    return None
                total += times * shard.rows
        return total


def _made(
    shards: Sequence[Shard],
    transform: TransformShard,
    kept: ShardParts,
    options: BeamOptions,
    temporary: Path,
    count: beam_io.RowCount,
) -> list[Written]:
    """What becomes of the shards, made where no earlier execution did."""
    left, there = zip(*(kept.take(shard) for shard in shards), strict=True)
    count(sum(one.records for one in there))
    work = [shard for shard in left if shard.target is not None or shard.before]
    made = each_shard(work, transform, options, temporary) if work else []
    kept.keep(zip(work, made, strict=True))
    new = iter(made)
    written = []
    for shard, found in zip(left, there, strict=True):
        one = next(new) if shard.target is not None or shard.before else Written()
        written.append(Written(found.records or one.records, found.before or one.before, found.after or one.after))
    before = sum(shard.target is not None for shard in shards) - sum(shard.target is not None for shard in left)
    if before:
        print(f"Transform: {before} of {len(shards)} shards were transformed before", file=sys.stderr)
    return written


def _keep_analysis(
    found: Mapping[DataSet, Mapping[bytes, Entry]],
    known: Mapping[DataSet, Mapping[bytes, Entry]],
    cache: AnalyzerCache,
    given: AnalyzerCache | None,
    parts: PartCache,
) -> None:
    """Write what was `found` of each data set, of which some was `known`, to `cache`, and keep what was not known."""
    from_given = 0
    for data_set, entries in found.items():
        cache_files.write(cache, data_set.name, entries)
        cache_files.keep(parts, data_set.name, entries, known[data_set])
        if given is not None:
            from_given += sum(entry.file.is_relative_to(given.path) for entry in known[data_set].values())
    cache.properties.update(analyzers=sum(map(len, found.values())), reused=from_given)
    reused = sum(map(len, known.values()))
    if reused:
        print(
            f"Transform: of {cache.properties['analyzers']} results of analyzers on {len(found)} data sets, {reused} were there",
            file=sys.stderr,
        )


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
