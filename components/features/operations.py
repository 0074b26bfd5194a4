"""What TFT's analyzers do, without Beam: with a batch of a shard, and with what the shards' batches came to.

This leans on private names of TFT 1.16: its graph of operations, what each of them means (in beam/analyzer_impls.py), and its
combiners. An operation that is not in the tables below is never guessed at: `problem` names it.
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.features.graph_digest import described
from components.features.tracing import Binding
from components.io import tfrecord

_COMBINERS = (
    "NumPyCombiner",  # min, max, sum, size
    "WeightedMeanAndVarCombiner",  # mean, var
    "QuantilesCombiner",
    "CovarianceCombiner",
    "PCACombiner",
    "_LMomentsCombiner",  # tukey_location, tukey_scale, tukey_h_params
)


@dataclass(frozen=True)
class Combine:
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

    @property
    def keys(self) -> set[str]:
        return {key for _, _, keys in self.combiners for key in keys}

    def finish(self, accumulators: Any) -> Any:
        compact = {
            label: combiner.compact(accumulator)
            for (label, combiner, _), accumulator in zip(self.combiners, accumulators, strict=True)
        }
        return compact if self.packed else compact.popitem()[1]

    def merge(self, shards: Sequence[Any]) -> Any:
        """What several shards came to together; the accumulators are of no use afterwards."""
        if len(shards) == 1:
            return shards[0]
        if not self.packed:
            return _together(self.combiners[0][1], shards)
        return {label: _together(combiner, [shard[label] for shard in shards]) for label, combiner, _ in self.combiners}


@dataclass(frozen=True)
class Count:
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

    @property
    def keys(self) -> set[str]:
        return {self.words} if self.weights is None else {self.words, self.weights}

    def finish(self, counts: Any) -> Any:
        return counts

    def merge(self, shards: Sequence[Any]) -> Any:
        """What several shards came to together."""
        return _counts_together(shards)


def analyzer(operation: Any) -> Combine | Count:
    """What an operation that accumulates does with a batch."""
    definition, before = operation.operation_def, operation.inputs[0].parent_operation.operation_def
    if type(definition).__name__ == "PackedCombineAccumulate":
        return Combine(tuple((one.label, one.combiner, tuple(one.keys)) for one in definition.combiners), True)
    if type(definition).__name__ == "CacheableCombineAccumulate":
        return Combine(((definition.label, definition.combiner, tuple(before.keys)),), False)
    words, *weights = before.keys
    return Count(words, weights[0] if weights else None)


def cached(encoding: Any) -> tuple[Any, Combine | Count, Any]:
    """Of an operation that encodes for a cache: what accumulates, for this analyzer alone, and what gives it the result."""
    gives = encoding.inputs[0].parent_operation
    if type(gives.operation_def).__name__ != "ExtractFromDict":
        return gives, analyzer(gives), gives
    packed = gives.inputs[0].parent_operation
    several = analyzer(packed)
    assert isinstance(several, Combine)
    (one,) = (one for one in several.combiners if one[0] == gives.operation_def.keys)
    return packed, Combine((one,), packed=False), gives


class Walk:
    """The operations after the accumulation, worked out one by one; a PCollection of TFT's is a list here."""

    def __init__(self, temporary: Path) -> None:
        self.temporary = temporary
        self._outputs: dict[Any, tuple[list[Any], ...]] = {}

    def give(self, operation: Any, values: list[Any]) -> None:
        """The output of an operation that reads the data or a cache."""
        self._outputs[operation] = (values,)

    def bindings(self, created: Any) -> dict[str, Binding]:
        """What takes the place of which tensor in the graph that `created` makes."""
        found = {}
        for node in created.inputs:
            definition, (value,) = node.parent_operation.operation_def, self.value(node.parent_operation.inputs[0])
            found[definition.tensor_name] = Binding(value, definition.dtype_enum)
        return found

    def value(self, node: Any) -> list[Any]:
        operation = node.parent_operation
        if operation not in self._outputs:
            work_out = _AFTERWARDS[type(operation.operation_def).__name__]
            inputs = [self.value(before) for before in operation.inputs]
            self._outputs[operation] = work_out(operation.operation_def, inputs, self.temporary)
        return self._outputs[operation][node.value_index]


def source(operation: Any) -> tuple[tuple[str, ...], str | None]:
    """What an operation that encodes for the cache gets: the keys of the tensors, and a description of the analyzer."""
    before = operation.inputs[0].parent_operation
    definition = before.operation_def
    if type(definition).__name__ == "ExtractFromDict":
        packed = before.inputs[0].parent_operation.operation_def
        (one,) = (one for one in packed.combiners if one.label == definition.keys)
        return tuple(one.keys), _described(one.combiner)
    keys = before.inputs[0].parent_operation.operation_def.keys
    if hasattr(definition, "combiner"):
        return tuple(keys), _described(definition.combiner)
    settings = {name: value for name, value in definition._asdict().items() if name != "label"}
    return tuple(keys), described(settings)


def _described(combiner: Any) -> str | None:
    settings = described(vars(combiner))
    return None if settings is None else f"{type(combiner).__name__}: {settings}"


def encoded(operation: Any, values: Sequence[Any]) -> tuple[bytes, ...]:
    """What was accumulated, for the cache, as TFT encodes it; a vocabulary is a record for each word."""
    coder = operation.operation_def.coder
    if _is_of_words(coder):
        return tuple(sorted(coder.encode_cache(counted) for counts in values for counted in counts.items()))
    return tuple(coder.encode_cache(value) for value in values if value is not None)


def decoded(operation: Any, records: Sequence[bytes]) -> list[Any]:
    """What the cache has, as if it had been accumulated now."""
    coder = operation.operation_def.coder
    values = [coder.decode_cache(record) for record in records]
    return [dict(values)] if _is_of_words(coder) else values


def _is_of_words(coder: Any) -> bool:
    from tensorflow_transform import analyzer_nodes

    return isinstance(coder, analyzer_nodes._VocabularyAccumulatorCoder)


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
    return combiner.extract_output(_together(combiner, accumulators))


def _together(combiner: Any, accumulators: Sequence[Any]) -> Any:
    every = [one for one in (combiner.create_accumulator(), *accumulators) if one is not None]
    return combiner.compact(combiner.merge_accumulators(every))


def _extract_outputs(definition: Any, inputs: list[list[Any]], _: Path) -> tuple[list[Any], ...]:
    (outputs,) = inputs[0]
    if len(outputs) != definition.num_outputs:
        raise ValueError(f"{definition.label} should give {definition.num_outputs} values, not {len(outputs)}")
    return tuple([output] for output in outputs)


def _merge_counts(_: Any, inputs: list[list[Any]], __: Path) -> tuple[list[Any], ...]:
    """(count, word) of every word."""
    return ([(count, word) for word, count in _counts_together(inputs[0]).items()],)


def _counts_together(shards: Sequence[Mapping[Any, Any]]) -> Mapping[Any, Any]:
    if len(shards) == 1:
        return shards[0]
    counts: dict[Any, Any] = {}
    for shard in shards:
        for word, count in shard.items():
            counts[word] = counts.get(word, 0) + count
    return counts


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


ACCUMULATE = ("PackedCombineAccumulate", "CacheableCombineAccumulate", "VocabularyAccumulate")

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


def problem(operation: Any) -> str | None:
    """What stands in the way of working an operation out here."""
    from tensorflow_transform import analyzer_nodes, analyzers
    from tensorflow_transform.beam import beam_nodes

    definition = operation.operation_def
    name = type(definition).__name__
    if type(definition).__module__ not in (analyzer_nodes.__name__, beam_nodes.__name__) or (
        name not in _FRAME and name not in ACCUMULATE and name not in _AFTERWARDS
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
