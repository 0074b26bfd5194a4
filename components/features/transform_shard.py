"""A shard of raw examples -> the shard of transformed ones, and what both amount to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.features.raw_features import RawShard, ReadFeatures
from components.features.tracing import Function, InThisProcess
from components.features.transform_statistics import Count, options_after, options_before
from components.io import tf_example, tfrecord
from components.io.feature_statistics import Generators
from schemas.artifacts import TransformGraph

if TYPE_CHECKING:
    import pyarrow as pa
    import tensorflow_data_validation as tfdv


@dataclass(frozen=True)
class Shard:
    """One file of one split, and what is to be made of it."""

    split: str
    source: RawShard
    target: str | None = None  # the file to write its transformed records to
    before: bool = False  # whether to count its raw features
    after: bool = False  # and its transformed ones, which takes a target


@dataclass(frozen=True)
class Written:
    """What became of a shard: its number of transformed records, and the files with what its features amount to."""

    records: int = 0
    before: str | None = None  # transform_statistics.Count of the raw features
    after: str | None = None  # and of the transformed ones


@dataclass(frozen=True)
class Counting:
    """Statistics before are made of `read`'s features; all are kept in `directory`, which every Beam worker reaches."""

    read: ReadFeatures
    directory: str


class TransformShard:
    """Shard -> Written, with its target written."""

    def __init__(self, read: ReadFeatures, function: InThisProcess, graph: TransformGraph, counting: Counting) -> None:
        """`function` takes the features that `read` gives; `graph` is the finished one."""
        self.read, self.function, self.graph, self.counting = read, function, graph, counting

    def __call__(self, shard: Shard) -> Written:
        before = Count(Generators(self._options[0])) if shard.before else None
        if shard.target is None:
            if before is not None:
                for raw in self.counting.read.batches(shard.source):
                    before.add(raw)
            return Written(before=self._kept(before))
        after = Count(Generators(self._options[1])) if shard.after else None
        converter, encoder = self._writing
        with tfrecord.Writer(Path(shard.target)) as writer:
            for features in self._features(shard, before):
                batch = converter.convert(self.function(features))
                if after is not None:
                    after.add(batch)
                writer.write(_encoded(batch, encoder))
        return Written(writer.records, self._kept(before), self._kept(after))

    def _features(self, shard: Shard, before: Count | None) -> Iterator[Mapping[str, Any]]:
        """The raw features of the shard, counted on their way."""
        if before is None:
            yield from self.read(shard.source)
            return
        for batch, features in self.counting.read.with_batches(shard.source):
            before.add(batch)
            yield {name: features[name] for name in self.read.columns}

    def _kept(self, count: Count | None) -> str | None:
        return count.keep(Path(self.counting.directory)) if count is not None else None

    @cached_property
    def _options(self) -> tuple[tfdv.StatsOptions, tfdv.StatsOptions]:
        return options_before(self.read.raw), options_after(self.graph)

    @cached_property
    def _writing(self) -> tuple[Any, Any]:
        """What turns transformed features into an Arrow batch, and what turns that into Examples where ours cannot.

        A ragged feature is for TFX's encoder only, which writes its rows' lengths as features of their own.
        """
        import tensorflow_transform as tft
        from tensorflow_transform import impl_helper
        from tfx_bsl.coders.example_coder import RecordBatchToExamplesEncoder

        schema = tft.TFTransformOutput(str(self.graph.path)).transformed_metadata.schema
        converter = impl_helper.make_tensor_to_arrow_converter(schema)
        kinds = {one.WhichOneof("kind") for one in converter.tensor_representations().values()}
        return converter, RecordBatchToExamplesEncoder(schema) if "ragged_tensor" in kinds else None

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in ("_writing", "_options")}


@dataclass(frozen=True)
class LoadedGraph:
    """The finished graph at a path, as a worker in another process loads it."""

    graph: str

    def __call__(self) -> Function:
        import tensorflow_transform as tft

        function: Function = tft.TFTransformOutput(self.graph).transform_features_layer()
        return function


def _encoded(batch: pa.RecordBatch, encoder: Any) -> Iterable[bytes]:
    """The rows as serialized Examples with their features in order, so that equal rows are equal bytes.

    TFX's encoder, where there is one, writes them in the order of a randomised hash map.
    """
    from tensorflow.core.example.example_pb2 import Example

    if encoder is None:
        return tf_example.encode(batch, missing_keeps_kind=False)
    return (Example.FromString(row).SerializeToString(deterministic=True) for row in encoder.encode(batch))
