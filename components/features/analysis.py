"""TFT's own analysis graph, walked shard by shard: the analyzers that are known exactly, without Beam's cost per node."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.features import operations
from components.features.analyzer_cache import Entry
from components.features.graph_digest import digests
from components.features.operations import Combine, Count, Walk
from components.features.raw_features import RawShard, ReadFeatures, type_specs
from components.features.shards import each_shard
from components.features.tracing import Binding, Function, InThisProcess, Tracing, context_with, trace, tracing_of
from components.io import beam as beam_io
from components.io.keras import spare_libraries_autograph
from schemas.artifacts import TransformGraph
from schemas.component import BeamOptions

if TYPE_CHECKING:
    from tensorflow_metadata.proto.v0 import schema_pb2

# What follows leans on private names of TFT 1.16: its graph of operations, and how it writes what it found.


class Analysis:
    """preprocessing_fn traced once, what its analyzers need of the data, and how to run them.

    The function's own exceptions pass through. `temporary` is a directory that every Beam worker reaches.
    """

    def __init__(
        self,
        preprocessing: Callable[..., Any],
        raw: schema_pb2.Schema,
        temporary: Path,
        data_set: str = "data",
        cached: Mapping[bytes, Entry] | None = None,
    ) -> None:
        """`cached` is what is known of the data set that will be analysed, which is called `data_set`."""
        import tensorflow as tf
        from tensorflow_transform import analyzer_nodes, annotators, graph_tools, nodes, tf2_utils

        self.preprocessing, self.raw, self.temporary = preprocessing, raw, temporary
        self.specs = type_specs(raw)
        temporary.mkdir(parents=True, exist_ok=True)
        self.tracing = trace(preprocessing, self.specs, temporary, {})
        graph, outputs = self.tracing.graph, self.tracing.outputs

        sinks = graph.get_collection(analyzer_nodes.TENSOR_REPLACEMENTS)
        visitor = graph_tools.SourcedTensorsVisitor()
        for sink in sinks:
            nodes.Traverser(visitor).visit_value_node(sink.future)
        _, controls = tf2_utils.strip_and_get_tensors_and_control_dependencies(
            tf.nest.flatten(outputs, expand_composites=True)
        )
        self.analyzed_columns = self.tracing.needed([*visitor.sourced_tensors, *controls])
        self.transformed_columns = self.tracing.needed(list(outputs.values()))
        self.trainable = bool(graph.get_collection(tf.compat.v1.GraphKeys.TRAINABLE_VARIABLES))
        self._assets = annotators.get_asset_annotations(graph)
        annotators.clear_asset_annotations(graph)
        self._fingerprint = graph_tools.get_analyzers_fingerprint(graph, self.tracing.inputs)
        self._build(data_set, {})
        self._cached = self._usable(cached or {})
        if self._cached:
            for sink in sinks:  # of which building leaves nothing
                graph.add_to_collection(analyzer_nodes.TENSOR_REPLACEMENTS, sink)
            self._build(data_set, self._cached)

    def _build(self, data_set: str, cached: Mapping[bytes, Entry]) -> None:
        """Make the graph of operations, with what is `cached` in the place of what would read the data."""
        from tensorflow_transform.beam import analysis_graph_builder, analyzer_cache

        key = analyzer_cache.DatasetKey(data_set)
        known = {key: analyzer_cache.DatasetCache({name: entry.records for name, entry in cached.items()}, None)}
        made: Any = analysis_graph_builder.build(
            self.tracing.graph, self.tracing.inputs, self.tracing.outputs, [key], known if cached else {}
        )
        future, kept, _ = made
        self._root = future.parent_operation
        self._encoding: dict[bytes, Any] = {name: node.parent_operation for name, node in kept.get(key, {}).items()}

    def _usable(self, cached: Mapping[bytes, Entry]) -> dict[bytes, Entry]:
        """Those entries that this very function and these analyzers made."""
        wanted = [name for name in self._encoding if name in cached]
        made_of = self._made_of(wanted) if wanted else {}
        return {name: cached[name] for name in wanted if cached[name].made_of == made_of[name] is not None}

    def _made_of(self, names: Iterable[bytes]) -> dict[bytes, str | None]:
        """What leads to the cache's entries, as digests."""
        digest = digests(self.tracing)
        found = {}
        for name in names:
            keys, analyzer = operations.source(self._encoding[name])
            # TFT's names of tensors, which leave the output's number out where it is the first.
            tensors = [self.tracing.graph.get_tensor_by_name(key if ":" in key else f"{key}:0") for key in keys]
            function = digest(tensors)
            found[name] = None if function is None or analyzer is None else f"{function} {analyzer}"
        return found

    @cached_property
    def _operations(self) -> list[Any]:
        """Every operation of the analysis, each after those it needs."""
        found: dict[Any, None] = {}

        def visit(operation: Any) -> None:
            if operation not in found:
                for node in operation.inputs:
                    visit(node.parent_operation)
                found[operation] = None

        visit(self._root)
        return list(found)

    @cached_property
    def unknown(self) -> str | None:
        """Why only TFT's Beam pipeline can analyse the function: the first operation that is not known here.

        Nothing is guessed: the caller then lets that pipeline do it.
        """
        if self.trainable:
            return "it has trainable variables"
        for operation in self._operations:
            problem = operations.problem(operation)
            if problem:
                return f"{operation.operation_def.label}: {problem}"
        return None

    @cached_property
    def _phases(self) -> list[tuple[Any, list[Any]]]:
        """(the operation that makes the graph to apply, the operations that accumulate what it gives), in order.

        TFT applies the graph twice, once for the analyzers that are cached and once for the others; here it is one pass.
        """
        from tensorflow_transform.beam import beam_nodes

        phases: dict[Any, list[Any]] = {}
        number = {}
        for operation in self._operations:
            if type(operation.operation_def).__name__ in operations.ACCUMULATE:
                applied = operation.inputs[0].parent_operation
                if isinstance(applied.operation_def, beam_nodes.ExtractFromDict):
                    applied = applied.inputs[0].parent_operation
                created = applied.inputs[0].parent_operation
                phases.setdefault(created, []).append(operation)
                number[created] = applied.operation_def.phase
        return sorted(phases.items(), key=lambda phase: number[phase[0]])

    @property
    def passes(self) -> int:
        """How often the data is read: once for each layer of analyzers that need each other's results."""
        return len(self._phases)

    @property
    def reused(self) -> int:
        """How many analyzers are taken from the cache."""
        return len(self._cached)

    def run(
        self, shards: Sequence[RawShard], options: BeamOptions, count: beam_io.RowCount, graph: TransformGraph
    ) -> tuple[Tracing, dict[bytes, Entry]]:
        """Analyse `shards` and write transform_fn/ and transformed_metadata/.

        Gives the function with nothing left to find, and what the first pass came to, for a cache.
        """
        walk = Walk(self.temporary)
        kept = dict(self._cached)
        for operation in self._operations:
            if type(operation.operation_def).__name__ == "DecodeCache":
                records = self._cached[operation.operation_def.cache_key].records
                walk.give(operation, operations.decoded(operation, records))
        for created, accumulating in self._phases:
            analyzers = [operations.analyzer(operation) for operation in accumulating]
            wanted = set().union(*(analyzer.keys for analyzer in analyzers))
            signature = created.operation_def.output_signature
            names = {name: tensor.name for name, tensor in signature.items() if name in wanted}
            found = walk.bindings(created)
            phase = _Phase(self.preprocessing, self.specs, self.temporary, found, names)
            tracing = trace(self.preprocessing, self.specs, self.temporary, found) if found else self.tracing
            columns, function = phase.of(tracing)
            with InThisProcess(phase).holding(function) as applying:
                work = _AccumulateShard(ReadFeatures(self.raw, columns, count), applying, analyzers)
                partial = each_shard(shards, work, options, self.temporary)
            for operation, one, *accumulators in zip(accumulating, analyzers, *partial, strict=True):
                walk.give(operation, [one.merge(accumulators)])
            if self._encoding.keys() - kept.keys():
                kept |= self._encoded(walk)  # all of which was found in the first pass
        return self._write(walk.bindings(self._root), graph), kept

    def _encoded(self, walk: Walk) -> dict[bytes, Entry]:
        """What was accumulated, for a cache. The walk goes on from what it will be when it is read from there.

        That is less exact by some bits, and the same whether or not there was a cache.
        """
        made_of, found = self._made_of(self._encoding), {}
        for name, operation in self._encoding.items():
            (accumulated,) = operation.inputs
            records = operations.encoded(operation, walk.value(accumulated))
            walk.give(accumulated.parent_operation, operations.decoded(operation, records))
            found[name] = Entry(records, made_of[name])
        return found

    def _write(self, found: Mapping[str, Binding], graph: TransformGraph) -> Tracing:
        import tensorflow as tf
        from tensorflow_transform import impl_helper
        from tensorflow_transform.saved import saved_transform_io_v2
        from tensorflow_transform.tf_metadata import metadata_io

        module = tf.Module()
        context = context_with(module, self.temporary, found)
        traced = impl_helper.get_traced_transform_fn(self.preprocessing, dict(self.specs), context)
        concrete = saved_transform_io_v2.write_v2_saved_model(module, traced, "transform_fn", str(graph.transform_fn))
        final = tracing_of(concrete, module)
        impl_helper._validate_analyzers_fingerprint(self._fingerprint, concrete.graph, final.inputs)
        metadata = impl_helper._trace_and_get_metadata(
            concrete, final.inputs, self.preprocessing, str(self.temporary), context._evaluated_replacements
        )
        metadata_io.write_metadata(metadata, str(graph.transformed_schema.parent))
        if self._assets:
            # Where TFTransformOutput looks a vocabulary's file up.
            (graph.transformed_schema.parent / "asset_map").write_text(json.dumps(self._assets), encoding="utf-8")
        return final


@dataclass(frozen=True)
class _Phase:
    """The function of one pass over the data, and how a worker in another process makes it."""

    preprocessing: Callable[..., Any]
    specs: Mapping[str, Any]
    temporary: Path
    found: Mapping[str, Binding]
    tensors: Mapping[str, str]  # of the graph, by the key that the analyzers ask for

    def __call__(self) -> Function:
        spare_libraries_autograph()
        return self.of(trace(self.preprocessing, self.specs, self.temporary, self.found))[1]

    def of(self, tracing: Tracing) -> tuple[list[str], Function]:
        """The features that are needed, and the function."""
        wanted = {key: tracing.graph.get_tensor_by_name(name) for key, name in self.tensors.items()}
        columns = tracing.needed(list(wanted.values()))
        return columns, tracing.function(columns, wanted)


class _AccumulateShard:
    """A shard -> what each analyzer accumulated of it."""

    def __init__(self, read: ReadFeatures, function: InThisProcess, analyzers: Sequence[Combine | Count]) -> None:
        self.read, self.function, self.analyzers = read, function, analyzers

    def __call__(self, shard: RawShard) -> list[Any]:
        accumulators = [analyzer.start() for analyzer in self.analyzers]
        for features in self.read(shard):
            tensors = self.function(features)
            accumulators = [
                analyzer.add(accumulator, tensors)
                for analyzer, accumulator in zip(self.analyzers, accumulators, strict=True)
            ]
        pairs = zip(self.analyzers, accumulators, strict=True)
        return [analyzer.finish(accumulator) for analyzer, accumulator in pairs]
