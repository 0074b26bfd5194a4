"""Analyzers that run shard by shard against TFT's own Beam pipeline, on awkward data in several shards."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from components.features.analysis import Analysis
from components.features.preprocessing import Preprocessing
from components.features.raw_features import BATCH_ROWS, RawShard, ReadFeatures, read_schema
from components.features.shards import each_shard
from components.features.transform import Transform
from components.io import tfrecord
from components.io.beam import RowCount
from schemas.artifacts import Examples, FeatureSchema, TransformGraph
from schemas.component import BeamOptions, Progress
from schemas.errors import DataError

SCHEMA = """
feature { name: "x" type: FLOAT shape { dim { size: 1 } } presence { min_fraction: 1 } }
feature { name: "pair" type: FLOAT shape { dim { size: 2 } } presence { min_fraction: 1 } }
feature { name: "weight" type: FLOAT shape { dim { size: 1 } } presence { min_fraction: 1 } }
feature { name: "number" type: INT shape { dim { size: 1 } } presence { min_fraction: 1 } }
feature { name: "maybe" type: FLOAT }
feature { name: "code" type: INT }
feature { name: "word" type: BYTES shape { dim { size: 1 } } presence { min_fraction: 1 } }
feature { name: "words" type: BYTES }
feature { name: "never" type: BYTES }
"""

IMPORTS = "import tensorflow as tf\nimport tensorflow_transform as tft\n\n"

NUMBERS = """
def preprocessing_fn(inputs):
    x, number, pair, maybe = (inputs[name] for name in ("x", "number", "pair", "maybe"))
    like = tf.zeros_like(x)
    columns = {
        "z": tft.scale_to_z_score(x),
        "z_sparse": tft.scale_to_z_score(maybe),
        "z_elementwise": tft.scale_to_z_score(pair, elementwise=True),
        "unit": tft.scale_to_0_1(x),
        "between": tft.scale_by_min_max(number, -1.0, 1.0),
        "gaussian": tft.scale_to_gaussian(x),
        "bucket": tft.bucketize(x, 5),
        "bucket_sparse": tft.bucketize(maybe, 3),
        "bucket_weighted": tft.bucketize(x, 4, weights=inputs["weight"]),
        "bucket_elementwise": tft.bucketize(pair, 3, elementwise=True),
        "pca": tf.matmul(pair, tft.pca(pair, 1, tf.float32)),
        "decorrelated": tf.matmul(pair, tft.covariance(pair, tf.float32)),
        "centred_twice": tft.scale_to_0_1(x - tft.mean(x) + tft.min(x - tft.mean(x))),  # three passes
    }
    for name, value in {
        "mean": tft.mean(x), "var": tft.var(x), "min": tft.min(number), "max": tft.max(maybe), "sum": tft.sum(number),
        "size": tft.size(x), "quantile": tft.quantiles(x, 4, 0.01)[0, 1],
    }.items():
        columns[name] = like + tf.cast(value, tf.float32)
    return columns
"""

WORDS = """
def preprocessing_fn(inputs):
    word, words, code, weight = (inputs[name] for name in ("word", "words", "code", "weight"))
    index, score = tft.tfidf(tft.compute_and_apply_vocabulary(words, vocab_filename="of_tfidf"), 100)
    tft.vocabulary(words, vocab_filename="counted", store_frequency=True)
    tft.vocabulary(word, vocab_filename="weighed", weights=weight, store_frequency=True, top_k=7)
    return {
        "every": tft.compute_and_apply_vocabulary(words, vocab_filename="every"),
        "first": tft.compute_and_apply_vocabulary(words, top_k=3, num_oov_buckets=2, vocab_filename="first"),
        "frequent": tft.compute_and_apply_vocabulary(words, frequency_threshold=40, vocab_filename="frequent"),
        "both": tft.compute_and_apply_vocabulary(word, top_k=4, frequency_threshold=10, vocab_filename="both"),
        "none": tft.compute_and_apply_vocabulary(word, frequency_threshold=1000, vocab_filename="none"),
        "weighed": tft.compute_and_apply_vocabulary(word, weights=weight, vocab_filename="by_weight"),
        "shuffled": tft.compute_and_apply_vocabulary(word, fingerprint_shuffle=True, vocab_filename="shuffled"),
        "records": tft.compute_and_apply_vocabulary(words, file_format="tfrecord_gzip", vocab_filename="records"),
        "codes": tft.compute_and_apply_vocabulary(code, vocab_filename="codes"),
        "some_codes": tft.compute_and_apply_vocabulary(code, top_k=2, vocab_filename="some_codes"),
        "never": tft.compute_and_apply_vocabulary(inputs["never"], vocab_filename="never"),
        "tfidf_index": index,
        "tfidf": score,
        "centred": tft.scale_to_z_score(tf.cast(tft.compute_and_apply_vocabulary(word), tf.float32)),
    }
"""

NOTHING = """
def preprocessing_fn(inputs):
    return {"x": inputs["x"] * 2, "words": inputs["words"]}
"""

AWKWARD = """
TABLE = tf.lookup.KeyValueTensorInitializer(["a", "bb"], tf.constant([1, 2], tf.int64))


def preprocessing_fn(inputs):
    inputs = dict(inputs)
    tf.debugging.assert_non_negative(inputs["weight"], "of a feature that is in no output")
    inputs["more"] = inputs.pop("x") + tf.random.stateless_uniform([], [1, 2])
    words = tf.strings.lower(inputs["words"].values)
    return {
        "looked_up": tf.lookup.StaticHashTable(TABLE, -1).lookup(inputs["word"]),
        "more": tft.scale_to_0_1(inputs["more"]),
        "ragged": tf.RaggedTensor.from_sparse(inputs["words"]),
        "vocabulary_of_lower": tf.SparseTensor(
            inputs["words"].indices, tft.compute_and_apply_vocabulary(words), inputs["words"].dense_shape
        ),
        "same": inputs["number"],
        "constant_of_batch": tf.ones_like(inputs["number"]) * 3,
    }
"""

# What has no quick path: what it gives, and the operation that is named.
UNKNOWN = {
    "tft.scale_to_z_score_per_key(inputs['x'][:, 0], inputs['word'][:, 0])": "CacheableCombinePerKeyAccumulate",
    "tft.compute_and_apply_vocabulary(inputs['word'], labels=inputs['number'])": "VocabularyAccumulate",
    "tft.compute_and_apply_vocabulary(inputs['word'], coverage_top_k=1, key_fn=lambda word: word[:1])": "VocabularyPrune",
    "tft.compute_and_apply_vocabulary(inputs['word'], reserved_tokens=['a'])": "ExtractVocabularyReservedTokens",
    "tft.experimental.compute_and_apply_approximate_vocabulary(inputs['word'], top_k=5)": "_VocabularyCombiner",
}

CUSTOM = """
import apache_beam as beam
import numpy as np


class Largest(beam.PTransform):
    def expand(self, batches):
        return (batches | beam.Map(lambda batch: float(np.max(batch[0]))) | beam.CombineGlobally(max)
                | beam.Map(lambda found: np.asarray(found, np.float32)))


def preprocessing_fn(inputs):
    found = tft.experimental.ptransform_analyzer([inputs["x"]], Largest(), [tf.float32], [[]])
    return {"x": inputs["x"] - found[0]}
"""


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Examples:
    """Three shards, of 150 records, none, and one; lists of several words, missing ones, unicode, ties, empty words."""
    import numpy as np
    import tensorflow as tf

    random = np.random.default_rng(0)
    vocabulary = ["a", "bb", "ü", "漢字", "", "with space", "Z", "new\nline", "tie1", "tie2"]

    def record(number: int) -> bytes:
        words = [vocabulary[i].encode() for i in random.integers(0, len(vocabulary), random.integers(0, 4))]
        features = {
            "x": tf.train.Feature(float_list=tf.train.FloatList(value=[random.gamma(2)])),
            "pair": tf.train.Feature(float_list=tf.train.FloatList(value=random.normal([3, -7], [1, 20]))),
            "weight": tf.train.Feature(float_list=tf.train.FloatList(value=[number % 4])),
            "number": tf.train.Feature(int64_list=tf.train.Int64List(value=[int(random.integers(-50, 2))])),
            "word": tf.train.Feature(bytes_list=tf.train.BytesList(value=[vocabulary[number % 10].encode()])),
        }
        if words:
            features["words"] = tf.train.Feature(bytes_list=tf.train.BytesList(value=words))
        if number % 3:
            features["maybe"] = tf.train.Feature(float_list=tf.train.FloatList(value=random.normal(size=number % 3)))
            features["code"] = tf.train.Feature(int64_list=tf.train.Int64List(value=[2**53 + number % 5, -number % 7]))
        return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()

    examples = Examples(tmp_path_factory.mktemp("examples"))
    examples.split_path("train").mkdir()
    for shard, size in enumerate((150, 0, 1)):
        file = examples.split("train") / f"data_tfrecord-{shard:05d}-of-00003.gz"
        tfrecord.write(file, [record(number) for number in range(size)])
    return examples


@pytest.fixture
def function(user_module: Callable[[str, str], str]) -> Callable[[str], str]:
    """Source of a preprocessing_fn -> its dotted path."""
    return lambda source: user_module(IMPORTS + source, "preprocessing_fn")


@pytest.fixture(scope="session")
def ours(outputs_of: Callable[[type, Path], dict[str, Any]]) -> Callable[..., tuple[TransformGraph, list[Any]]]:
    """(directory, examples, schema, function, Beam's arguments) -> the graph, and the transformed records as written."""

    def make(
        directory: Path, examples: Examples, schema: FeatureSchema, dotted: str, *beam_args: str
    ) -> tuple[TransformGraph, list[Any]]:
        import tensorflow as tf

        outputs = outputs_of(Transform, directory / "ours")
        step = Transform(preprocessing_fn=dotted)
        step.run(examples, schema, BeamOptions(args=beam_args), Progress(), **outputs)
        files = outputs["transformed_examples"].files("train")
        records = [record for file in files for record in tfrecord.read(file)]
        return outputs["transform_graph"], [tf.train.Example.FromString(record) for record in records]

    return make


def theirs(
    tmp_path: Path, examples: Examples, schema: FeatureSchema, dotted: str, *, deep: bool = False
) -> tuple[TransformGraph, list[Any]]:
    """What TFT's Beam pipeline learns from the same files, and what its graph gives for them.

    `deep` is for analyzers in three layers, where FnApiRunner of Beam 2.72 ends in an assertion of its own.
    """
    import apache_beam as beam
    import tensorflow as tf
    import tensorflow_transform as tft
    import tensorflow_transform.beam as tft_beam
    from apache_beam.options.pipeline_options import PipelineOptions
    from apache_beam.runners.direct.direct_runner import BundleBasedDirectRunner
    from apache_beam.runners.portability.fn_api_runner import FnApiRunner
    from tensorflow_transform import impl_helper
    from tensorflow_transform.tf_metadata import schema_utils
    from tfx_bsl.coders.example_coder import ExamplesToRecordBatchDecoder, RecordBatchToExamplesEncoder
    from tfx_bsl.tfxio.tf_example_record import TFExampleBeamRecord

    graph = TransformGraph(tmp_path / "their_graph")
    shards = [list(tfrecord.read(file)) for file in examples.files("train")]
    records = [record for shard in shards for record in shard]
    raw = read_schema(schema.file)
    decoder = ExamplesToRecordBatchDecoder(raw.SerializeToString())
    tfxio = TFExampleBeamRecord(physical_format="inmem", telemetry_descriptors=["test"], schema=raw)
    runner = BundleBasedDirectRunner() if deep else FnApiRunner()  # the first takes half as long again
    options = PipelineOptions(["--no_pipeline_type_check"])
    with (
        beam.Pipeline(runner=runner, options=options) as pipeline,
        tft_beam.Context(temp_dir=str(tmp_path / "their_tmp")),
    ):
        # In our batches: TFT's L-moments, from which scale_to_gaussian comes, depend on how the data is divided.
        batches = pipeline | beam.Create([decoder.DecodeBatch(shard) for shard in shards if shard], reshuffle=False)
        analyzed = (batches, tfxio.TensorAdapterConfig()) | tft_beam.AnalyzeDataset(Preprocessing(dotted))
        _ = analyzed | tft_beam.WriteTransformFn(str(graph.path))
    output = tft.TFTransformOutput(str(graph.path))
    metadata = output.transformed_metadata.schema
    parsed = tf.io.parse_example(records, schema_utils.schema_as_feature_spec(raw).feature_spec)
    batch = impl_helper.make_tensor_to_arrow_converter(metadata).convert(output.transform_features_layer()(parsed))
    return graph, [tf.train.Example.FromString(one) for one in RecordBatchToExamplesEncoder(metadata).encode(batch)]


def assert_equal(found: tuple[TransformGraph, list[Any]], expected: tuple[TransformGraph, list[Any]]) -> None:
    """Schema, vocabularies, and every value of every record."""
    import numpy as np

    assert read_schema(found[0].transformed_schema) == read_schema(expected[0].transformed_schema)
    maps = [graph.transformed_schema.parent / "asset_map" for graph in (found[0], expected[0])]
    assert [file.exists() for file in maps] == [maps[0].exists()] * 2
    assert len({json.dumps(json.loads(file.read_text()), sort_keys=True) for file in maps if file.exists()}) < 2
    assets = [graph.transform_fn / "assets" for graph in (found[0], expected[0])]
    names = [sorted(file.name for file in folder.iterdir()) if folder.exists() else [] for folder in assets]
    assert names[0] == names[1]
    for name in names[0]:
        read = [
            list(tfrecord.read(folder / name)) if name.endswith(".gz") else (folder / name).read_bytes()
            for folder in assets
        ]
        assert read[0] == read[1], name
    assert len(found[1]) == len(expected[1])
    for mine, yours in zip(found[1], expected[1], strict=True):
        assert mine.features.feature.keys() == yours.features.feature.keys()
        for name, feature in yours.features.feature.items():
            kind = feature.WhichOneof("kind")
            values = [getattr(one, kind).value if kind else [] for one in (mine.features.feature[name], feature)]
            if kind == "float_list":
                np.testing.assert_allclose(*values, rtol=1e-4, atol=1e-5, err_msg=name)
            else:
                assert values[0] == values[1], name


@pytest.mark.slow
@pytest.mark.parametrize("source", [NUMBERS, WORDS, NOTHING, AWKWARD], ids=["numbers", "words", "nothing", "awkward"])
def test_what_is_learnt_and_written_is_what_TFTs_Beam_pipeline_gives(
    ours, tmp_path, examples, schema, function, source
):
    dotted = function(source)

    found = ours(tmp_path, examples, schema, dotted)

    assert "analyzed_by" not in found[0].properties
    assert_equal(found, theirs(tmp_path, examples, schema, dotted, deep=source is NUMBERS))


@pytest.mark.slow
def test_a_custom_analyzer_goes_through_TFTs_Beam_pipeline_and_the_step_says_so(
    ours, tmp_path, examples, schema, function, capsys
):
    dotted = function(CUSTOM)

    found = ours(tmp_path, examples, schema, dotted)

    assert found[0].properties["analyzed_by"].startswith("tft_beam: PTransform[")
    assert "TFT's own Beam pipeline analyses the data, no cache is kept. PTransform[" in capsys.readouterr().err
    assert_equal(found, theirs(tmp_path, examples, schema, dotted))


@pytest.mark.parametrize("expression", UNKNOWN)
def test_what_has_no_quick_path_is_named(tmp_path, schema, function, expression):
    dotted = function(f"def preprocessing_fn(inputs):\n    return {{'made': {expression}}}\n")

    analysis = Analysis(Preprocessing(dotted), read_schema(schema.file), tmp_path / "tmp")

    assert UNKNOWN[expression] in str(analysis.unknown)


def test_the_data_is_read_once_for_each_layer_of_analyzers(tmp_path, schema, function):
    def passes(source: str) -> int:
        return Analysis(Preprocessing(function(source)), read_schema(schema.file), tmp_path / "tmp").passes

    assert [passes(NOTHING), passes(WORDS), passes(NUMBERS)] == [0, 2, 3]


def test_each_shards_result_arrives_in_the_order_of_the_shards(tmp_path):
    assert each_shard(["c", "a", "b"], str.upper, BeamOptions(), tmp_path) == ["C", "A", "B"]


def test_features_are_read_as_TFXs_own_adapter_gives_them(examples, schema, tmp_path):
    import tensorflow as tf
    from tfx_bsl.coders.example_coder import ExamplesToRecordBatchDecoder
    from tfx_bsl.tfxio.tf_example_record import TFExampleBeamRecord

    raw = read_schema(schema.file)
    tfxio = TFExampleBeamRecord(physical_format="inmem", telemetry_descriptors=["test"], schema=raw)
    file = examples.files("train")[0]

    with RowCount(Progress()) as count:
        (found,) = ReadFeatures(raw, sorted(feature.name for feature in raw.feature), count)(RawShard(str(file)))

    batch = ExamplesToRecordBatchDecoder(raw.SerializeToString()).DecodeBatch(list(tfrecord.read(file)))
    expected = tfxio.TensorAdapter().ToBatchTensors(batch)
    assert count.done == 150 < BATCH_ROWS
    for name, tensor in expected.items():
        flat = [tf.nest.flatten(one, expand_composites=True) for one in (found[name], tensor)]
        for mine, theirs in zip(*flat, strict=True):
            tf.debugging.assert_equal(mine, theirs)


def test_what_TensorFlow_cannot_read_is_said_as_for_every_other_step(tmp_path, examples, schema):
    whole = examples.files("train")[0].read_bytes()
    short = tmp_path / "short.gz"
    short.write_bytes(whole[: len(whole) // 2])

    with RowCount(Progress()) as count, pytest.raises(DataError, match=r"short.gz: record \d+, at byte"):
        list(ReadFeatures(read_schema(schema.file), ["x"], count)(RawShard(str(short))))


FEW = """
def preprocessing_fn(inputs):
    words = tft.compute_and_apply_vocabulary(inputs["words"], top_k=4, num_oov_buckets=1)
    return {"words": words, "x": tft.scale_to_0_1(inputs["x"])}
"""


@pytest.mark.slow
def test_workers_in_other_processes_make_the_functions_anew(ours, tmp_path, examples, schema, function, monkeypatch):
    dotted = function(FEW)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(Path.cwd())]))
    here = ours(tmp_path / "here", examples, schema, dotted)

    apart = ours(tmp_path / "apart", examples, schema, dotted, "--direct_running_mode=multi_processing")

    assert_equal(apart, here)
