"""Examples -> TransformGraph, TransformedExamples: preprocessing_fn analysed on one split, applied to all."""

from __future__ import annotations

import inspect
import shutil
import sys
import uuid
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.features.analysis import Analysis, Function, InThisProcess, each_shard
from components.features.raw_features import ReadBatches, ReadFeatures, projection, read_schema
from components.io import beam as beam_io
from components.io import tf_example, tfrecord
from components.io.keras import arrange, spare_libraries_autograph
from schemas.artifacts import Examples, FeatureSchema, TransformedExamples, TransformGraph
from schemas.component import BeamOptions, Out, Progress, UserCode
from schemas.dotted_path import resolve
from schemas.errors import ConfigError, DataError, UserCodeError, did_you_mean

if TYPE_CHECKING:
    import pyarrow as pa
    from tensorflow_metadata.proto.v0 import schema_pb2


@dataclass(frozen=True, kw_only=True)
class Transform:
    """Examples -> TransformGraph, TransformedExamples: preprocessing_fn analysed on one split, applied to all.

    The graph is TFT's. Its analyzers run shard by shard (`analysis`), or as TFT's own Beam pipeline when one of them is
    not known there; the log and the artifact then say so. A shard of the examples becomes the shard of the same number
    with its records in the same order, so equal input gives equal files.
    """

    preprocessing_fn: UserCode
    analyze_split: str = "train"  # what vocabularies, means and quantiles are learnt from
    custom_config: dict[str, Any] = field(default_factory=dict)  # given to a preprocessing_fn with such a parameter

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
    ) -> None:
        """Fill both outputs.

        Raises UnknownSplit when there is no `analyze_split`; DataError when that split is empty, when the data does not
        fit the schema or the function names a feature that the schema does not have; UserCodeError when the function
        returns something else than named tensors. What the function itself raises passes through.
        """
        analyzed = examples.files(self.analyze_split)
        if not any(True for file in analyzed for _ in tfrecord.read(file)):
            raise DataError(
                f"split '{self.analyze_split}' of {examples.path} has no records, so there is nothing to learn from. "
                f"Give it a weight in ExampleGen's splits, or analyze another split with analyze_split"
            )
        arrange()
        preprocessing = Preprocessing(self.preprocessing_fn, self.custom_config)
        preprocessing.load()  # a mistake in the user's module shows before anything slow is imported
        spare_libraries_autograph()

        raw = read_schema(schema.file)
        shards = _shards(examples, transformed_examples)
        # Where every Beam worker that writes the graph can reach it. The name ends up in those of the graph's hash tables,
        # and TensorFlow lets tables of one name share their content with every model that a process loads.
        temporary = transform_graph.path / f".{uuid.uuid4().hex}"
        analysis = Analysis(preprocessing, raw, temporary)  # traces, so that the user's mistakes appear outside Beam
        columns = analysis.transformed_columns
        passes = 1 if analysis.unknown else analysis.passes
        records = examples.properties.get("records", {})
        total = passes * records.get(self.analyze_split, 0) + sum(records.values()) if records else None
        with beam_io.RowCount(progress, total) as count, ExitStack() as held:
            function = InThisProcess(_Load(str(transform_graph.path)))
            if analysis.unknown:
                print(f"TFT's own Beam pipeline analyses the data. {analysis.unknown}", file=sys.stderr)
                transform_graph.properties["analyzed_by"] = f"tft_beam: {analysis.unknown}"
                _analyze(analysis, analyzed, beam, count, transform_graph)
            else:
                final = analysis.run(analyzed, beam, count, transform_graph)
                held.enter_context(function.holding(final.function(columns, final.outputs)))
            _write_raw_schema(raw, transform_graph)
            transform = _TransformShard(ReadFeatures(raw, columns, count), function, str(transform_graph.path))
            written = each_shard(shards, transform, beam, temporary)
        shutil.rmtree(temporary, ignore_errors=True)
        transformed_examples.properties["records"] = {
            split: sum(records for shard, records in zip(shards, written, strict=True) if shard.split == split)
            for split in examples.splits
        }
        transform_graph.properties["features"] = len(read_schema(transform_graph.transformed_schema).feature)


@dataclass(frozen=True)
class Preprocessing:
    """A user's preprocessing_fn with its inputs and outputs checked. It is pickled as its name, so that Beam can."""

    dotted: str
    custom_config: Mapping[str, Any] = field(default_factory=dict)

    def load(self) -> Any:
        """The function, with custom_config bound when it has such a parameter, as TFX does."""
        function = resolve(self.dotted)
        if not callable(function):
            raise UserCodeError(f"{self.dotted} is a {type(function).__name__}, not a function of the raw features")
        if "custom_config" in inspect.signature(function).parameters:
            return lambda inputs: function(inputs, custom_config=dict(self.custom_config))
        return function

    def __call__(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """The transformed features by name. Raises DataError for a feature that is not there."""
        import tensorflow as tf

        outputs = self.load()(RawFeatures(inputs))
        wanted = "it must return a dict of transformed features by name, each a tf.Tensor, SparseTensor or RaggedTensor"
        if not isinstance(outputs, dict):
            raise UserCodeError(f"{self.dotted} returned {_shown(outputs)}: {wanted}")
        if not outputs:
            raise UserCodeError(f"{self.dotted} returned an empty dict: {wanted}")
        wrong = [
            f"'{name}' is {_shown(value)}" if isinstance(name, str) else f"the name {name!r} is not a string"
            for name, value in outputs.items()
            if not isinstance(name, str) or not isinstance(value, tf.Tensor | tf.SparseTensor | tf.RaggedTensor)
        ]
        if wrong:
            raise UserCodeError(f"{self.dotted}: {'; '.join(wrong)}: {wanted}")
        return outputs


class RawFeatures(dict[str, Any]):
    """What preprocessing_fn gets: the raw features by name, which says what there is when asked for what there is not."""

    def __missing__(self, name: str) -> Any:
        raise DataError(
            f"there is no raw feature '{name}'.{did_you_mean(str(name), self)} "
            f"The schema has: {', '.join(sorted(self)) or 'none'}"
        )


@dataclass(frozen=True)
class Shard:
    """One file of one split, and the file it becomes."""

    split: str
    source: str
    target: str


def _shards(examples: Examples, transformed: TransformedExamples) -> list[Shard]:
    shards = []
    for split in examples.splits:
        directory = transformed.split_path(split)
        directory.mkdir(parents=True, exist_ok=True)
        files = examples.files(split)
        for number, file in enumerate(files):
            target = directory / f"transformed_examples-{number:05d}-of-{len(files):05d}.gz"
            shards.append(Shard(split, str(file), str(target)))
    return shards


def _analyze(
    analysis: Analysis, files: list[Path], options: BeamOptions, count: beam_io.RowCount, graph: TransformGraph
) -> None:
    """Run TFT's Beam pipeline over `files` and write the graph with the schema of what it gives."""
    import apache_beam as beam
    import tensorflow_transform.beam as tft_beam

    config, projected = projection(analysis.raw, analysis.analyzed_columns)
    with beam_io.pipeline(options) as pipeline, tft_beam.Context(temp_dir=str(analysis.temporary)):
        batches = (
            pipeline
            | "Files" >> beam.Create([(number, str(file)) for number, file in enumerate(files)])
            | "Spread" >> beam.GroupByKey()  # as Reshuffle does, but locally always in the same order
            | "Paths" >> beam.FlatMapTuple(lambda _, paths: paths)
            | "Batches" >> beam.FlatMap(ReadBatches(projected, count))
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


@dataclass(frozen=True)
class _Load:
    """The finished graph at a path, as a worker in another process loads it."""

    graph: str

    def __call__(self) -> Function:
        import tensorflow_transform as tft

        function: Function = tft.TFTransformOutput(self.graph).transform_features_layer()
        return function


class _TransformShard:
    """Shard -> the number of its records, with its target written."""

    def __init__(self, read: ReadFeatures, function: InThisProcess, graph: str) -> None:
        self.read, self.function, self.graph = read, function, graph

    def __call__(self, shard: Shard) -> int:
        converter, encoder = self._writing
        with tfrecord.Writer(Path(shard.target)) as writer:
            for features in self.read(shard.source):
                writer.write(_encoded(converter.convert(self.function(features)), encoder))
        return writer.records

    @cached_property
    def _writing(self) -> tuple[Any, Any]:
        """What turns transformed features into an Arrow batch, and what turns that into Examples where ours cannot.

        A ragged feature is for TFX's encoder only, which writes its rows' lengths as features of their own.
        """
        import tensorflow_transform as tft
        from tensorflow_transform import impl_helper
        from tfx_bsl.coders.example_coder import RecordBatchToExamplesEncoder

        schema = tft.TFTransformOutput(self.graph).transformed_metadata.schema
        converter = impl_helper.make_tensor_to_arrow_converter(schema)
        kinds = {one.WhichOneof("kind") for one in converter.tensor_representations().values()}
        return converter, RecordBatchToExamplesEncoder(schema) if "ragged_tensor" in kinds else None

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_writing"}


def _encoded(batch: pa.RecordBatch, encoder: Any) -> Iterable[bytes]:
    """The rows as serialized Examples with their features in order, so that equal rows are equal bytes.

    TFX's encoder, where there is one, writes them in the order of a randomised hash map.
    """
    from tensorflow.core.example.example_pb2 import Example

    if encoder is None:
        return tf_example.encode(batch, missing_keeps_kind=False)
    return (Example.FromString(row).SerializeToString(deterministic=True) for row in encoder.encode(batch))


def _shown(value: Any) -> str:
    return "nothing" if value is None else f"a {type(value).__name__}"
