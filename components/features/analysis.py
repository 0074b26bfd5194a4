"""TFT's own analysis graph, walked shard by shard: the analyzers that are known exactly, without Beam's cost per node."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.features import operations
from components.features.analyzer_cache import DataSet, Entry
from components.features.graph_digest import digests
from components.features.operations import Combine, Count, Walk
from components.features.raw_features import RawShard, ReadFeatures, type_specs
from components.features.shards import each_shard
from components.features.tracing import Binding, Function, InThisProcess, Tracing, context_with, trace, tracing_of
from components.io import beam as beam_io
from components.io import tfrecord
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

    def __init__(self, preprocessing: Callable[..., Any], raw: schema_pb2.Schema, temporary: Path) -> None:
        import tensorflow as tf
        from tensorflow_transform import analyzer_nodes, annotators, graph_tools, nodes, tf2_utils
        from tensorflow_transform.beam import analysis_graph_builder, analyzer_cache

        self.preprocessing, self.raw, self.temporary = preprocessing, raw, temporary
        self.specs = type_specs(raw)
        temporary.mkdir(parents=True, exist_ok=True)
        self.tracing = trace(preprocessing, self.specs, temporary, {})
        graph, outputs = self.tracing.graph, self.tracing.outputs

        visitor = graph_tools.SourcedTensorsVisitor()
        for sink in graph.get_collection(analyzer_nodes.TENSOR_REPLACEMENTS):
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
        # One data set, whatever there is: TFT's operations are the same for each, and its keys do not hang on which it is.
        one = analyzer_cache.DatasetKey("data")
        made: Any = analysis_graph_builder.build(graph, self.tracing.inputs, outputs, [one], {})
        future, kept, _ = made
        self._root = future.parent_operation
        self._encoding: dict[bytes, Any] = {key: node.parent_operation for key, node in kept.get(one, {}).items()}

    @cached_property
    def made_of(self) -> dict[bytes, str | None]:
        """What leads to each analyzer that a cache has, by TFT's key, as a digest; None where nobody can tell."""
        digest = digests(self.tracing)
        found = {}
        for key, encoding in self._encoding.items():
            names, analyzer = operations.source(encoding)
            # TFT's names of tensors, which leave the output's number out where it is the first.
            tensors = [self.tracing.graph.get_tensor_by_name(name if ":" in name else f"{name}:0") for name in names]
            function = digest(tensors)
            found[key] = None if function is None or analyzer is None else f"{function} {analyzer}"
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

    def read_often(self, known: Mapping[bytes, Entry]) -> int:
        """How often a data set is read of which this is `known`."""
        return sum(any(unit.key not in known for unit in self._units(found)) for _, found in self._phases)

    def run(
        self,
        known: Mapping[DataSet, Mapping[bytes, Entry]],
        options: BeamOptions,
        count: beam_io.RowCount,
        graph: TransformGraph,
    ) -> tuple[Tracing, dict[DataSet, dict[bytes, Entry]]]:
        """Analyse the data sets, except for what is `known` of them, and write transform_fn/ and transformed_metadata/.

        Gives the function with nothing left to find, and what the first pass came to of each data set, for a cache.
        """
        walk = Walk(self.temporary)
        kept = {data_set: dict(entries) for data_set, entries in known.items()}
        for created, accumulating in self._phases:
            units = self._units(accumulating)
            work = [
                (shard, wanted)
                for data_set, entries in known.items()
                if (wanted := tuple(n for n, unit in enumerate(units) if unit.key not in entries))
                for shard in data_set.shards
            ]
            partial = self._accumulated(units, work, walk.bindings(created), created, options, count) if work else {}
            for number, unit in enumerate(units):
                of_shards = {shard: found[number] for shard, found in partial.items() if number in found}
                if unit.key is None:
                    walk.give(unit.operation, [unit.analyzer.merge(list(of_shards.values()))])
                    continue
                values = []
                for data_set, entries in kept.items():
                    if unit.key not in entries:
                        merged = unit.analyzer.merge([of_shards[shard] for shard in data_set.shards])
                        entries[unit.key] = self._encoded(unit.key, merged)
                    # Also of what was accumulated now: less exact by some bits, and the same whether or not there was a cache.
                    values += operations.decoded(self._encoding[unit.key], entries[unit.key].records)
                walk.give(unit.operation, values)
        return self._write(walk.bindings(self._root), graph), kept

    def _units(self, accumulating: Sequence[Any]) -> list[_Unit]:
        """What is accumulated, each analyzer that a cache has by itself: another data set's may be known."""
        cached: dict[Any, list[_Unit]] = {}
        for key, encoding in self._encoding.items():
            operation, analyzer, gives = operations.cached(encoding)
            cached.setdefault(operation, []).append(_Unit(gives, analyzer, key))
        return [
            unit
            for operation in accumulating
            for unit in cached.get(operation, [_Unit(operation, operations.analyzer(operation), None)])
        ]

    def _accumulated(
        self,
        units: Sequence[_Unit],
        work: Sequence[tuple[RawShard, tuple[int, ...]]],
        found: Mapping[str, Binding],
        created: Any,
        options: BeamOptions,
        count: beam_io.RowCount,
    ) -> dict[RawShard, dict[int, Any]]:
        """One pass over shards, each with the numbers of those `units` that it is wanted for: what they accumulated."""
        wanted = {key for _, numbers in work for number in numbers for key in units[number].analyzer.keys}
        signature = created.operation_def.output_signature
        names = {name: tensor.name for name, tensor in signature.items() if name in wanted}
        phase = _Phase(self.preprocessing, self.specs, self.temporary, found, names)
        tracing = trace(self.preprocessing, self.specs, self.temporary, found) if found else self.tracing
        columns, function = phase.of(tracing)
        with InThisProcess(phase).holding(function) as applying:
            accumulate = _AccumulateShard(
                ReadFeatures(self.raw, columns, count), applying, [unit.analyzer for unit in units]
            )
            partial = each_shard(work, accumulate, options, self.temporary)
        return {
            shard: dict(zip(numbers, one, strict=True)) for (shard, numbers), one in zip(work, partial, strict=True)
        }

    def _encoded(self, key: bytes, accumulated: Any) -> Entry:
        file = self.temporary / f"{uuid.uuid4().hex}.gz"
        tfrecord.write(file, operations.encoded(self._encoding[key], [accumulated]))
        return Entry(file, self.made_of[key])

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
class _Unit:
    """An analyzer, the operation that gives what it accumulated, and its key in a cache, if it has one."""

    operation: Any
    analyzer: Combine | Count
    key: bytes | None


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
    """(shard, numbers of the analyzers wanted) -> what each of these accumulated of it."""

    def __init__(self, read: ReadFeatures, function: InThisProcess, analyzers: Sequence[Combine | Count]) -> None:
        self.read, self.function, self.analyzers = read, function, analyzers

    def __call__(self, work: tuple[RawShard, tuple[int, ...]]) -> list[Any]:
        shard, wanted = work
        analyzers = [self.analyzers[number] for number in wanted]
        accumulators = [analyzer.start() for analyzer in analyzers]
        for features in self.read(shard):
            tensors = self.function(features)
            accumulators = [
                analyzer.add(accumulator, tensors)
                for analyzer, accumulator in zip(analyzers, accumulators, strict=True)
            ]
        return [analyzer.finish(accumulator) for analyzer, accumulator in zip(analyzers, accumulators, strict=True)]
