"""Every analyzer and mapper that TFT offers, through Transform and through TFT's own Beam pipeline: the same results."""

from __future__ import annotations

from typing import Any

import pytest

from components.io import tfrecord
from schemas.artifacts import Examples, FeatureSchema

ROWS = 90

SCHEMA = """
feature { name: "row" type: INT shape { dim { size: 1 } } presence { min_fraction: 1 } }
feature { name: "x" type: FLOAT shape { dim { size: 1 } } presence { min_fraction: 1 } }
feature { name: "pair" type: FLOAT shape { dim { size: 2 } } presence { min_fraction: 1 } }
feature { name: "weight" type: FLOAT shape { dim { size: 1 } } presence { min_fraction: 1 } }
feature { name: "number" type: INT shape { dim { size: 1 } } presence { min_fraction: 1 } }
feature { name: "maybe" type: FLOAT }
feature { name: "word" type: BYTES shape { dim { size: 1 } } presence { min_fraction: 1 } }
feature { name: "words" type: BYTES }
"""

OPENING = """
import apache_beam as beam
import numpy as np
import tensorflow as tf
import tensorflow_transform as tft


class Largest(beam.PTransform):
    def expand(self, batches):
        return (
            batches
            | beam.Map(lambda batch: float(np.max(batch[0])))
            | beam.CombineGlobally(max)
            | beam.Map(lambda found: np.asarray(found, np.float32))
        )


class Parts(beam.PTransform):
    def expand(self, batches):
        return batches | beam.Map(lambda batch: float(np.max(batch[0]))) | beam.CombineGlobally(max)


class Whole(beam.PTransform):
    def expand(self, parts):
        return parts | beam.CombineGlobally(max)


class Given(beam.PTransform):
    def expand(self, whole):
        return whole | beam.Map(lambda found: np.asarray(found, np.float32))


def preprocessing_fn(inputs):
    x, pair, weight, number, maybe = (inputs[name] for name in ("x", "pair", "weight", "number", "maybe"))
    word, words = inputs["word"], inputs["words"]
    flat, key = x[:, 0], word[:, 0]
    like, split = tf.zeros_like(x), tf.compat.v1.strings.split(key)
    plain = tf.strings.regex_replace(key, " ", "_")  # TFT splits what it keeps by key in a file at spaces
    signs = tf.SparseTensor(
        maybe.indices, tf.strings.as_string(tf.cast(maybe.values > 0, tf.int32)), maybe.dense_shape
    )

    def vocabulary(values, name, **asked):
        return tft.compute_and_apply_vocabulary(values, vocab_filename=name, **asked)

    index = vocabulary(words, "of_tfidf")
    enough = tf.cast(number > -20, tf.int64)
    cacheable = tft.experimental.CacheablePTransformAnalyzer(
        Parts(), Whole(), Given(), tft.experimental.SimpleJsonPTransformAnalyzerCacheCoder()
    )
    return {
        "row": inputs["row"],
"""

QUICK = {
    "var_of_each": "tf.zeros_like(pair) + tft.var(pair, reduce_instance_dims=False)",
    "min_of_each": "tf.zeros_like(pair) + tft.min(pair, reduce_instance_dims=False)",
    "sum_of_some": "like + tft.sum(maybe)",
    "tukey_h_params": "like + tf.stack(tft.tukey_h_params(x))[0]",
    "tukey_location": "like + tft.tukey_location(x) + tft.tukey_scale(x)",
    "interpolated": "tft.apply_buckets_with_interpolation(x, tft.quantiles(x, 4, 0.01, weights=weight))",
    "quantiles_of_each": "tf.matmul(pair, tft.quantiles(pair, 3, 0.01, reduce_instance_dims=False))",
    "buckets_of_integers": "tft.apply_buckets(number, tft.quantiles(number, 4, 0.05))",
    "ngrams": "vocabulary(tft.ngrams(split, (1, 2), ' '), 'ngrams')",
    "bag_of_words": "tft.hash_strings(tft.bag_of_words(split, (1, 2), ' '), 10)",
    "word_count": "tf.cast(tft.word_count(words), tf.float32)[:, None]",
    "deduplicated": "tft.deduplicate_tensor_per_row(words)",
    "tfidf": "tft.tfidf(index, 100, smooth=False)[1]",
    "idf": "tft.experimental.idf(index, 100)",
    "document_frequency": "tft.experimental.document_frequency(index, 100)",
    "left_aligned": "tft.sparse_tensor_left_align(maybe)",
    "dense": "tft.sparse_tensor_to_dense_with_shape(maybe, [None, 2])",
    "of_python": "tf.reshape(tft.apply_pyfunc(lambda a: a + 1, tf.float32, True, 'add', x), [-1, 1])",
}

BEAM = {
    "per key": {
        "z_score": "tft.scale_to_z_score_per_key(flat, key)",
        "unit": "tft.scale_to_0_1_per_key(flat, plain, key_vocabulary_filename='units')",
        "between": "tft.scale_by_min_max_per_key(flat, key, -1.0, 1.0)",
        "buckets_of_some": "tft.bucketize_per_key(maybe, signs, 3)",
        "counts": "like + tf.cast(tft.count_per_key(key)[1][0], tf.float32)",
    },
    "vocabularies": {
        "informative": "vocabulary(word, 'informative', labels=enough, top_k=4)",
        "covering": "vocabulary(word, 'covering', top_k=1, coverage_top_k=1, key_fn=lambda word: word[:1])",
        "reserved": "vocabulary(word, 'reserved', reserved_tokens=['zz', 'a'])",
        "approximate": "tft.experimental.compute_and_apply_approximate_vocabulary("
        "word, top_k=5, weights=weight, vocab_filename='near')",
        "quick_beside_them": "tft.scale_to_z_score(x)",
    },
    "histograms and custom": {
        "histogram": "like + tf.cast(tft.histogram(x, boundaries=4)[0][1], tf.float32)",
        "density_of_words": "tft.estimated_probability_density(word, categorical=True)",
        "largest": "x - tft.experimental.ptransform_analyzer([x], Largest(), [tf.float32], [[]])[0]",
        "cacheable": "x - tft.experimental.ptransform_analyzer([x], cacheable, [tf.float32], [[]])[0]",
    },
}


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Examples:
    """Shards of many records, of none, and of one."""
    import numpy as np
    import tensorflow as tf

    random = np.random.default_rng(0)
    vocabulary = [b"a", b"bb", "ü".encode(), b"with space", b"Z", b"tie one", b"tie two"]

    def record(row: int) -> bytes:
        floats = {
            "x": [random.gamma(2)],
            "pair": random.normal([3, -7], [1, 20]),
            "weight": [row % 4],
            "maybe": random.normal(size=row % 3),
        }
        ints = {"row": [row], "number": [int(random.integers(-50, 2))]}
        texts = {
            "word": [vocabulary[row % 7]],
            "words": [vocabulary[at] for at in random.integers(0, 7, random.integers(0, 4))],
        }
        features = {name: tf.train.Feature(float_list={"value": value}) for name, value in floats.items() if len(value)}
        features |= {name: tf.train.Feature(int64_list={"value": value}) for name, value in ints.items()}
        features |= {name: tf.train.Feature(bytes_list={"value": value}) for name, value in texts.items() if value}
        return tf.train.Example(features={"feature": features}).SerializeToString(deterministic=True)

    examples = Examples(tmp_path_factory.mktemp("examples"))
    examples.split_path("train").mkdir()
    for shard, rows in enumerate((range(ROWS - 1), (), [ROWS - 1])):
        file = examples.split("train") / f"data_tfrecord-{shard:05d}-of-00003.gz"
        tfrecord.write(file, [record(row) for row in rows])
    return examples


def function(features: dict[str, str]) -> str:
    return OPENING + "".join(f'        "{name}": {made},\n' for name, made in features.items()) + "    }\n"


@pytest.fixture(scope="module")
def quick(examples: Examples, schema: FeatureSchema, shared_user_module: Any, tft_transforms: Any) -> tuple[str, Any]:
    """The function of all that has a quick path, and what TFT's own pipeline makes with it."""
    dotted = shared_user_module(function(QUICK), "preprocessing_fn")
    return dotted, tft_transforms(examples, schema, dotted, deep=True)


@pytest.mark.slow
@pytest.mark.parametrize("shards", [(), ((0, 1), (1, 2), (2, 3))], ids=["all at once", "span by span"])
def test_what_has_a_quick_path_is_TFTs_result(
    shards: tuple[tuple[int, int], ...],
    examples: Examples,
    schema: FeatureSchema,
    quick: tuple[str, Any],
    transforms: Any,
    assert_same_transform: Any,
) -> None:
    dotted, theirs = quick
    spans = [{"span": number, "version": None, "label": str(number), "shards": at} for number, at in enumerate(shards)]

    found = transforms(Examples(examples.path, {"spans": spans}), schema, dotted)

    assert "analyzed_by" not in found[0].properties
    assert_same_transform(found, theirs)


@pytest.mark.slow
@pytest.mark.parametrize("features", BEAM.values(), ids=BEAM)
def test_what_has_none_goes_through_TFTs_Beam_pipeline(
    features: dict[str, str],
    examples: Examples,
    schema: FeatureSchema,
    user_module: Any,
    transforms: Any,
    tft_transforms: Any,
    assert_same_transform: Any,
) -> None:
    dotted = user_module(function(features), "preprocessing_fn")

    found = transforms(examples, schema, dotted)

    assert found[0].properties["analyzed_by"].startswith("tft_beam: ")
    assert_same_transform(found, tft_transforms(examples, schema, dotted))


NOT_ANALYZERS = """
    TFTransformOutput TransformFeaturesLayer DatasetMetadata annotate_asset apply_vocabulary get_analyze_input_columns
    get_num_buckets_for_transformed_feature get_transform_input_columns inspect_preprocessing_fn make_and_track_object
    segment_indices CacheablePTransformAnalyzer PTransformAnalyzerCacheCoder SimpleJsonPTransformAnalyzerCacheCoder
    annotate_sparse_output_shape annotate_true_sparse_output get_vocabulary_size_by_name approximate_vocabulary
""".split()  # noqa: SIM905 (a list of quoted words is no easier to read)
ELSEWHERE = """
    bucketize covariance max mean pca scale_by_min_max scale_to_0_1 scale_to_gaussian size vocabulary
""".split()  # noqa: SIM905 (in test_analysis.py)


def test_no_analyzer_of_TFTs_is_left_out() -> None:
    import inspect

    import tensorflow_transform as tft

    public = {
        name
        for module in (tft, tft.experimental)
        for name, value in vars(module).items()
        if callable(value) and getattr(value, "__module__", "").startswith("tensorflow_transform") and name[0] != "_"
        if inspect.isfunction(value)
    }
    tried = " ".join([OPENING, *QUICK.values(), *(made for group in BEAM.values() for made in group.values())])

    missing = {name for name in public if f".{name}(" not in tried} - set(NOT_ANALYZERS) - set(ELSEWHERE)
    assert missing == set()
