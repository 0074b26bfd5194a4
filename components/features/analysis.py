"""TFT's own analysis graph, walked shard by shard: the analyzers that are known exactly, without Beam's cost per node."""

from __future__ import annotations

import hashlib
import heapq
import json
import pickle
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from components.features.raw_features import ReadFeatures, type_specs
from components.io import beam as beam_io
from components.io import tfrecord
from schemas.artifacts import TransformGraph
from schemas.component import BeamOptions

if TYPE_CHECKING:
    from tensorflow_metadata.proto.v0 import schema_pb2

# What follows leans on private names of TFT 1.16: its graph of operations, what each of them means (in
# beam/analyzer_impls.py), its combiners, and how it traces and writes. An operation that is not in the tables below is never
# guessed at: `Analysis.unknown` names it, and the caller lets TFT's own Beam pipeline analyse the function.

_COMBINERS = (
    "NumPyCombiner",  # min, max, sum, size
    "WeightedMeanAndVarCombiner",  # mean, var
    "QuantilesCombiner",
    "CovarianceCombiner",
    "PCACombiner",
    "_LMomentsCombiner",  # tukey_location, tukey_scale, tukey_h_params
)


@dataclass(frozen=True)
class Binding:
    """What takes the place of an analyzer's tensor: its value, which for a vocabulary is the path of its file."""

    value: Any
    dtype: int  # a tf.DType as its enum


@dataclass(frozen=True)
class Tracing:
    """preprocessing_fn as a TensorFlow graph, with what is known so far in the place of its analyzers."""

    graph: Any
    inputs: Mapping[str, Any]  # placeholders by feature
    outputs: Mapping[str, Any]
    alive: Any = field(repr=False)  # what the graph refers to without owning it: tables, variables

    def needed(self, tensors: Sequence[Any]) -> list[str]:
        """The raw features that `tensors` depend on, sorted."""
        from tensorflow_transform import graph_tools

        return sorted(graph_tools.get_dependent_inputs(self.graph, self.inputs, list(tensors)))

    def function(self, columns: Sequence[str], wanted: Mapping[str, Any]) -> Function:
        """The part of the graph that makes `wanted` from the features `columns`."""
        import tensorflow as tf
        from tensorflow.python.eager import wrap_function

        names = sorted(wanted)
        tensors = [wanted[name] for name in names]
        holder = wrap_function.VariableHolder(share_variables=True)
        pruned = wrap_function.WrappedFunction(self.graph, variable_holder=holder).prune(
            tf.nest.flatten([self.inputs[name] for name in columns], expand_composites=True),
            tf.nest.flatten(tensors, expand_composites=True),
        )

        def call(features: Mapping[str, Any], alive: Any = self.alive) -> dict[str, Any]:
            given = tf.nest.flatten([features[name] for name in columns], expand_composites=True)
            made = tf.nest.pack_sequence_as(tensors, pruned(*given), expand_composites=True)
            return dict(zip(names, made, strict=True))

        return call


Function = Callable[[Mapping[str, Any]], Mapping[str, Any]]
"""A batch of raw features by name -> tensors by name."""


class InThisProcess:
    """A function that is traced already where the step runs, and made anew, once, in a worker elsewhere.

    Beam pickles what a transform holds. Pickled, this is its key and how to make it.
    """

    _made: ClassVar[dict[str, Any]] = {}

    def __init__(self, make: Callable[[], Function]) -> None:
        self._key, self._make = uuid.uuid4().hex, make

    @contextmanager
    def holding(self, function: Function) -> Iterator[InThisProcess]:
        """While the block lasts, `function` is what this process has."""
        self._made[self._key] = function
        try:
            yield self
        finally:
            self._made.pop(self._key, None)

    def __call__(self, features: Mapping[str, Any]) -> Mapping[str, Any]:
        function: Function | None = self._made.get(self._key)
        if function is None:
            function = self._made[self._key] = self._make()
        return function(features)


def trace(
    preprocessing: Callable[..., Any], specs: Mapping[str, Any], temporary: Path, found: Mapping[str, Binding]
) -> Tracing:
    """Trace the function once, with `found` by the names of the analyzers' tensors."""
    import tensorflow as tf
    from tensorflow_transform import annotators, impl_helper
    from tensorflow_transform.saved import saved_transform_io_v2

    module = tf.Module()
    traced = impl_helper.get_traced_transform_fn(preprocessing, dict(specs), _context(module, temporary, found))
    resources, objects = saved_transform_io_v2.tracking.ResourceTracker(), annotators.ObjectTracker()
    with (
        saved_transform_io_v2.tracking.resource_tracker_scope(resources),
        annotators.object_tracker_scope(objects),
    ):
        concrete = traced.get_concrete_function()
    return _tracing(concrete, (module, resources, objects))


def _context(module: Any, temporary: Path, found: Mapping[str, Binding]) -> Any:
    import tensorflow as tf
    from tensorflow_transform import graph_context

    constants = {name: tf.constant(binding.value, tf.dtypes.as_dtype(binding.dtype)) for name, binding in found.items()}
    return graph_context.TFGraphContext(
        module_to_export=module, temp_dir=str(temporary), evaluated_replacements=constants
    )


def _tracing(concrete: Any, alive: Any) -> Tracing:
    from tensorflow_transform import tf2_utils

    inputs = tf2_utils.get_structured_inputs_from_func_graph(concrete.graph)
    return Tracing(concrete.graph, inputs, concrete.structured_outputs, (concrete, alive))


class Analysis:
    """preprocessing_fn traced once, what its analyzers need of the data, and how to run them.

    The function's own exceptions pass through. `temporary` is a directory that every Beam worker reaches.
    """

    def __init__(self, preprocessing: Callable[..., Any], raw: schema_pb2.Schema, temporary: Path) -> None:
        import tensorflow as tf
        from tensorflow_transform import analyzer_nodes, annotators, graph_tools, nodes, tf2_utils
        from tensorflow_transform.beam import analysis_graph_builder

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
        future, _, _ = analysis_graph_builder.build(graph, self.tracing.inputs, outputs)
        self._root = future.parent_operation

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
        """Why only TFT's Beam pipeline can analyse the function: the first operation that is not known here."""
        if self.trainable:
            return "it has trainable variables"
        for operation in self._operations:
            problem = _problem(operation)
            if problem:
                return f"{operation.operation_def.label}: {problem}"
        return None

    @cached_property
    def _phases(self) -> list[tuple[Any, list[Any]]]:
        """(the operation that applies the graph to the data, the operations that accumulate what it gives), in order."""
        from tensorflow_transform.beam import beam_nodes

        phases: dict[Any, list[Any]] = {}
        for operation in self._operations:
            if type(operation.operation_def).__name__ in _ACCUMULATE:
                applied = operation.inputs[0].parent_operation
                if isinstance(applied.operation_def, beam_nodes.ExtractFromDict):
                    applied = applied.inputs[0].parent_operation
                phases.setdefault(applied, []).append(operation)
        return sorted(phases.items(), key=lambda phase: phase[0].operation_def.phase)

    @property
    def passes(self) -> int:
        """How often the data is read: once for each layer of analyzers that need each other's results."""
        return len(self._phases)

    def run(
        self, files: Sequence[Path], options: BeamOptions, count: beam_io.RowCount, graph: TransformGraph
    ) -> Tracing:
        """Analyse `files` and write transform_fn/ and transformed_metadata/; gives the function with nothing left to find."""
        walk = _Walk(self.temporary)
        for applied, accumulating in self._phases:
            created = applied.inputs[0].parent_operation
            found = walk.bindings(created)
            names = {name: tensor.name for name, tensor in created.operation_def.output_signature.items()}
            phase = _Phase(self.preprocessing, self.specs, self.temporary, found, names)
            tracing = trace(self.preprocessing, self.specs, self.temporary, found) if found else self.tracing
            columns, function = phase.of(tracing)
            with InThisProcess(phase).holding(function) as applying:
                read = ReadFeatures(self.raw, columns, count)
                analyzers = [_analyzer(operation) for operation in accumulating]
                work = _AccumulateShard(read, applying, analyzers)
                partial = each_shard([str(file) for file in files], work, options, self.temporary)
            for operation, *accumulators in zip(accumulating, *partial, strict=True):
                walk.give(operation, accumulators)
        return self._write(walk.bindings(self._root), graph)

    def _write(self, found: Mapping[str, Binding], graph: TransformGraph) -> Tracing:
        import tensorflow as tf
        from tensorflow_transform import impl_helper
        from tensorflow_transform.saved import saved_transform_io_v2
        from tensorflow_transform.tf_metadata import metadata_io

        module = tf.Module()
        context = _context(module, self.temporary, found)
        traced = impl_helper.get_traced_transform_fn(self.preprocessing, dict(self.specs), context)
        concrete = saved_transform_io_v2.write_v2_saved_model(module, traced, "transform_fn", str(graph.transform_fn))
        final = _tracing(concrete, module)
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
        return self.of(trace(self.preprocessing, self.specs, self.temporary, self.found))[1]

    def of(self, tracing: Tracing) -> tuple[list[str], Function]:
        """The features that are needed, and the function."""
        wanted = {key: tracing.graph.get_tensor_by_name(name) for key, name in self.tensors.items()}
        columns = tracing.needed(list(wanted.values()))
        return columns, tracing.function(columns, wanted)


def each_shard(shards: Sequence[Any], work: Callable[[Any], Any], options: BeamOptions, temporary: Path) -> list[Any]:
    """What `work` gives of every shard, in the order of `shards`, each of them an element of one Beam pipeline."""
    import apache_beam as beam

    result = temporary / f"{uuid.uuid4().hex}.shards"
    with beam_io.pipeline(options) as pipeline:
        _ = (
            pipeline
            | "Shards" >> beam.Create(list(enumerate(shards)))
            | "Spread" >> beam.GroupByKey()  # as Reshuffle does, with fewer stages
            | "Work" >> beam.Map(_Numbered(work))
            | "Gather" >> beam.GroupByKey()
            | "Keep" >> beam.Map(_keep, str(result))
        )
    found: list[Any] = pickle.loads(result.read_bytes())
    result.unlink()
    return found


class _Numbered:
    """(number, [shard]) -> (None, (number, what the work gives))."""

    def __init__(self, work: Callable[[Any], Any]) -> None:
        self.work = work

    def __call__(self, numbered: tuple[int, Any]) -> tuple[None, tuple[int, Any]]:
        number, (shard,) = numbered
        return None, (number, self.work(shard))


def _keep(gathered: tuple[None, Any], file: str) -> None:
    _, found = gathered
    Path(file).write_bytes(pickle.dumps([one for _, one in sorted(found, key=lambda numbered: numbered[0])]))


class _AccumulateShard:
    """A file -> what each analyzer accumulated of it."""

    def __init__(self, read: ReadFeatures, function: InThisProcess, analyzers: Sequence[_Combine | _Count]) -> None:
        self.read, self.function, self.analyzers = read, function, analyzers

    def __call__(self, file: str) -> list[Any]:
        accumulators = [analyzer.start() for analyzer in self.analyzers]
        for features in self.read(file):
            tensors = self.function(features)
            accumulators = [
                analyzer.add(accumulator, tensors)
                for analyzer, accumulator in zip(self.analyzers, accumulators, strict=True)
            ]
        pairs = zip(self.analyzers, accumulators, strict=True)
        return [analyzer.finish(accumulator) for analyzer, accumulator in pairs]


@dataclass(frozen=True)
class _Combine:
    """TFT's combiners: accumulators by label for several of them packed, and the only one of an operation by itself."""

    combiners: tuple[tuple[str, Any, tuple[str, ...]], ...]  # label, combiner, keys of its inputs
    packed: bool

    def start(self) -> Any:
        return [combiner.create_accumulator() for _, combiner, _ in self.combiners]

    def add(self, accumulators: Any, tensors: Mapping[str, Any]) -> Any:
        import numpy as np

        return [
            combiner.add_input(accumulator, tuple(np.asarray(tensors[key]) for key in keys))
            for (_, combiner, keys), accumulator in zip(self.combiners, accumulators, strict=True)
        ]

    def finish(self, accumulators: Any) -> Any:
        compact = {
            label: combiner.compact(accumulator)
            for (label, combiner, _), accumulator in zip(self.combiners, accumulators, strict=True)
        }
        return compact if self.packed else compact.popitem()[1]


@dataclass(frozen=True)
class _Count:
    """Words with how often they occur, or with the sum of their weights."""

    words: str
    weights: str | None

    def start(self) -> Any:
        return {}

    def add(self, counts: Any, tensors: Mapping[str, Any]) -> Any:
        import tensorflow as tf

        if self.weights is None:
            # Counted by TensorFlow first: a Python object for every value of the batch would cost more than all the rest.
            words, _, numbers = tf.unique_with_counts(tf.reshape(tensors[self.words], [-1]), tf.int64)
        else:
            words, numbers = tensors[self.words], tensors[self.weights]
        for word, number in zip(words.numpy().tolist(), numbers.numpy().tolist(), strict=True):
            counts[word] = counts.get(word, 0) + number
        return counts

    def finish(self, counts: Any) -> Any:
        return counts


def _analyzer(operation: Any) -> _Combine | _Count:
    """What an operation that accumulates does with a batch."""
    definition, before = operation.operation_def, operation.inputs[0].parent_operation.operation_def
    if type(definition).__name__ == "PackedCombineAccumulate":
        return _Combine(tuple((one.label, one.combiner, tuple(one.keys)) for one in definition.combiners), True)
    if type(definition).__name__ == "CacheableCombineAccumulate":
        return _Combine(((definition.label, definition.combiner, tuple(before.keys)),), False)
    words, *weights = before.keys
    return _Count(words, weights[0] if weights else None)


class _Walk:
    """The operations after the accumulation, worked out one by one; a PCollection of TFT's is a list here."""

    def __init__(self, temporary: Path) -> None:
        self.temporary = temporary
        self._outputs: dict[Any, tuple[list[Any], ...]] = {}

    def give(self, operation: Any, values: list[Any]) -> None:
        """The output of an operation that accumulates, an element of each shard."""
        self._outputs[operation] = (values,)

    def bindings(self, created: Any) -> dict[str, Binding]:
        """What takes the place of which tensor in the graph that `created` makes."""
        found = {}
        for node in created.inputs:
            definition, (value,) = node.parent_operation.operation_def, self._value(node.parent_operation.inputs[0])
            found[definition.tensor_name] = Binding(value, definition.dtype_enum)
        return found

    def _value(self, node: Any) -> list[Any]:
        operation = node.parent_operation
        if operation not in self._outputs:
            work_out = _AFTERWARDS[type(operation.operation_def).__name__]
            inputs = [self._value(before) for before in operation.inputs]
            self._outputs[operation] = work_out(operation.operation_def, inputs, self.temporary)
        return self._outputs[operation][node.value_index]


def _extract_key(definition: Any, inputs: list[list[Any]], _: Path) -> tuple[list[Any], ...]:
    return ([one[definition.keys] for one in inputs[0]],)


def _add_key(definition: Any, inputs: list[list[Any]], _: Path) -> tuple[list[Any], ...]:
    return ([(definition.key, one) for one in inputs[0]],)


def _flatten(_: Any, inputs: list[list[Any]], __: Path) -> tuple[list[Any], ...]:
    return ([one for values in inputs for one in values],)


def _merge(definition: Any, inputs: list[list[Any]], _: Path) -> tuple[list[Any], ...]:
    return ([_merged(definition.combiner, inputs[0])],)


def _merge_packed(definition: Any, inputs: list[list[Any]], _: Path) -> tuple[list[Any], ...]:
    merged = {}
    for one in definition.combiners:
        (label,) = one.keys
        merged[one.label] = _merged(one.combiner, [value for key, value in inputs[0] if key == label])
    return ([merged],)


def _merged(combiner: Any, accumulators: Sequence[Any]) -> Any:
    every = [one for one in (combiner.create_accumulator(), *accumulators) if one is not None]
    return combiner.extract_output(combiner.compact(combiner.merge_accumulators(every)))


def _extract_outputs(definition: Any, inputs: list[list[Any]], _: Path) -> tuple[list[Any], ...]:
    (outputs,) = inputs[0]
    if len(outputs) != definition.num_outputs:
        raise ValueError(f"{definition.label} should give {definition.num_outputs} values, not {len(outputs)}")
    return tuple([output] for output in outputs)


def _merge_counts(_: Any, inputs: list[list[Any]], __: Path) -> tuple[list[Any], ...]:
    """(count, word) of every word."""
    if len(inputs[0]) == 1:
        (counts,) = inputs[0]
    else:
        counts = {}
        for shard in inputs[0]:
            for word, count in shard.items():
                counts[word] = counts.get(word, 0) + count
    return ([(count, word) for word, count in counts.items()],)


def _prune(definition: Any, inputs: list[list[Any]], _: Path) -> tuple[list[Any], ...]:
    """Those words that are frequent enough, and the first of these; of equally frequent ones the greater by bytes."""
    import tensorflow as tf
    from tensorflow_transform import analyzers

    counts = inputs[0]
    if definition.frequency_threshold > 0:
        counts = [(count, word) for count, word in counts if count >= definition.frequency_threshold]
    if definition.input_dtype != tf.string.name:
        counts = [(count, str(word).encode()) for count, word in counts]
    if definition.top_k is not None:
        counts = heapq.nlargest(definition.top_k, counts)
        counts = counts or [analyzers.get_empy_vocabulary_dummy_value(definition.input_dtype)]
    return (counts,)


def _count_words(_: Any, inputs: list[list[Any]], __: Path) -> tuple[list[Any], ...]:
    import numpy as np

    return ([np.int64(max(len(inputs[0]), 1))],)  # an empty vocabulary is written with one word in it


def _write_words(definition: Any, inputs: list[list[Any]], temporary: Path) -> tuple[list[Any], ...]:
    """The file of a vocabulary, the most frequent word first, or shuffled by a fingerprint."""
    import numpy as np
    from tensorflow_transform import analyzers

    counts = list(inputs[0])
    if definition.fingerprint_shuffle:
        counts.sort(key=lambda counted: hashlib.sha1(counted[1]).digest())
    else:
        counts.sort(reverse=True)
    counts = counts or [analyzers.get_empy_vocabulary_dummy_value(definition.input_dtype)]
    words: Iterator[bytes] = (
        f"{count} ".encode() + word if definition.store_frequency else word for count, word in counts
    )
    file = temporary / definition.vocab_filename
    file.parent.mkdir(parents=True, exist_ok=True)
    if definition.file_format == "text":
        file.write_bytes(b"".join(word + b"\n" for word in words))
    else:
        file = file.with_name(f"{file.name}.tfrecord.gz")
        tfrecord.write(file, words)
    return ([np.array(str(file))],)


_ACCUMULATE = ("PackedCombineAccumulate", "CacheableCombineAccumulate", "VocabularyAccumulate")

_AFTERWARDS: Mapping[str, Callable[[Any, list[list[Any]], Path], tuple[list[Any], ...]]] = {
    "ExtractFromDict": _extract_key,
    "AddKey": _add_key,
    "Flatten": _flatten,
    "CacheableCombineMerge": _merge,
    "PackedCombineMerge": _merge_packed,
    "ExtractCombineMergeOutputs": _extract_outputs,
    "ExtractPackedCombineMergeOutputs": _extract_outputs,
    "VocabularyMerge": _merge_counts,
    "VocabularyPrune": _prune,
    "VocabularyCount": _count_words,
    "VocabularyOrderAndWrite": _write_words,
}

_FRAME = ("CreateSavedModel", "CreateTensorBinding", "ExtractInputForSavedModel", "ApplySavedModel")


def _problem(operation: Any) -> str | None:
    """What stands in the way of working an operation out here."""
    from tensorflow_transform import analyzer_nodes, analyzers
    from tensorflow_transform.beam import beam_nodes

    definition = operation.operation_def
    name = type(definition).__name__
    if type(definition).__module__ not in (analyzer_nodes.__name__, beam_nodes.__name__) or (
        name not in _FRAME and name not in _ACCUMULATE and name not in _AFTERWARDS
    ):
        return "it is not one of the analyzers with a quick path"
    combiners = [one.combiner for one in getattr(definition, "combiners", ())]
    combiners += [definition.combiner] if hasattr(definition, "combiner") else []
    known = [getattr(analyzers, known) for known in _COMBINERS]
    for combiner in combiners:
        if type(combiner) not in known:
            return f"{type(combiner).__name__} is not one of the combiners with a quick path"
    if name in ("VocabularyAccumulate", "VocabularyMerge"):
        orders = analyzers._VocabOrderingType
        if definition.vocab_ordering_type not in (orders.FREQUENCY, orders.WEIGHTED_FREQUENCY):
            return "only a vocabulary by frequency, weighted or not, has a quick path"
    if name == "VocabularyPrune" and definition.key_fn is not None:
        return "a vocabulary with a key_fn has no quick path"
    if name == "VocabularyOrderAndWrite" and len(operation.inputs) > 1:
        return "a vocabulary with reserved tokens has no quick path"
    return None
