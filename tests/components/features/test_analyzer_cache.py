"""Analyzer caches: TFT reads ours, what ours has is what TFT accumulates, and what is taken from one is as if analysed."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from components.features import analyzer_cache
from components.features.preprocessing import Preprocessing
from components.features.raw_features import raw_shards, read_schema
from components.features.transform import Transform
from components.io import tfrecord
from schemas.artifacts import AnalyzerCache, Examples
from schemas.component import BeamOptions, PartCache, Progress

SCHEMA = """
feature { name: "x" type: FLOAT shape { dim { size: 1 } } presence { min_fraction: 1 } }
feature { name: "pair" type: FLOAT shape { dim { size: 2 } } presence { min_fraction: 1 } }
feature { name: "number" type: INT shape { dim { size: 1 } } presence { min_fraction: 1 } }
feature { name: "words" type: BYTES }
"""
EVERY = """
import tensorflow as tf
import tensorflow_transform as tft


def preprocessing_fn(inputs):
    x, pair, number, words = (inputs[name] for name in ("x", "pair", "number", "words"))
    tft.vocabulary(number, weights=x, vocab_filename="weighed", store_frequency=True)
    return {
        "z": tft.scale_to_z_score(x + 2.0),
        "z_elementwise": tft.scale_to_z_score(pair, elementwise=True),
        "unit": tft.scale_to_0_1(number),
        "bucket": tft.bucketize(x, 4),
        "bucket_elementwise": tft.bucketize(pair, 3, elementwise=True),
        "pca": tf.matmul(pair, tft.pca(pair, 1, tf.float32)),
        "share": x / tft.sum(x),
        "word": tft.compute_and_apply_vocabulary(tf.sparse.map_values(tf.strings.lower, words), vocab_filename="word"),
        "number": tft.compute_and_apply_vocabulary(number, top_k=5, vocab_filename="number"),
    }
"""
FEW = """
import tensorflow as tf
import tensorflow_transform as tft


def preprocessing_fn(inputs):
    words = tf.sparse.map_values(tf.strings.lower, inputs["words"])
    return {"z": tft.scale_to_z_score(inputs["x"] + 2.0), "word": tft.compute_and_apply_vocabulary(words)}
"""
TWO_LAYERS = """
import tensorflow_transform as tft


def preprocessing_fn(inputs):
    x = inputs["x"]
    return {"gaussian": tft.scale_to_gaussian(x), "centred": tft.scale_to_0_1(x - tft.mean(x))}
"""


def record(number: int) -> bytes:
    import tensorflow as tf

    words = [["a", "A", "ü", "漢字", "", "new\nline"][(number + i) % 6].encode() for i in range(number % 4)]
    features = {
        "x": tf.train.Feature(float_list=tf.train.FloatList(value=[(number * 37 % 101) / 7])),
        "pair": tf.train.Feature(float_list=tf.train.FloatList(value=[number % 11, number % 7 - 3.5])),
        "number": tf.train.Feature(int64_list=tf.train.Int64List(value=[2**53 + number % 9])),
        "words": tf.train.Feature(bytes_list=tf.train.BytesList(value=words)),
    }
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Examples:
    """One split in two shards."""
    examples = Examples(tmp_path_factory.mktemp("examples"))
    examples.split_path("train").mkdir()
    for shard, size in enumerate((80, 21)):
        file = examples.split("train") / f"data_tfrecord-{shard:05d}-of-00002.gz"
        tfrecord.write(file, [record(number + 80 * shard) for number in range(size)])
    return examples


@pytest.fixture(scope="module")
def run(
    examples, schema, outputs_of, tmp_path_factory, shared_user_module
) -> Callable[..., tuple[dict[str, Any], int]]:
    """(source of a function, a cache, other examples, part_cache) -> what Transform makes, and how many rows it read."""

    def make(
        source: str, cache: AnalyzerCache | None = None, data: Examples = examples, kept: PartCache | None = None
    ) -> tuple[dict[str, Any], int]:
        rows = []

        class Reported(Progress):
            def __call__(self, done: int, total: int | None = None, unit: str = "rows") -> None:
                rows.append(done)

        outputs = outputs_of(Transform, tmp_path_factory.mktemp("made"))
        step = Transform(preprocessing_fn=shared_user_module(source, "preprocessing_fn"), statistics=False)
        step.run(data, schema, BeamOptions(), Reported(), **outputs, analyzer_cache=cache, parts=kept or PartCache())
        return outputs, rows[-1]

    return make


@pytest.fixture(scope="module")
def every(run: Callable[..., tuple[dict[str, Any], int]]) -> tuple[dict[str, Any], int]:
    """A first run of EVERY."""
    return run(EVERY)


@pytest.fixture(scope="module")
def few(run: Callable[..., tuple[dict[str, Any], int]]) -> tuple[dict[str, Any], int]:
    """A first run of FEW."""
    return run(FEW)


def cache_of(outputs: dict[str, Any]) -> AnalyzerCache:
    return outputs["updated_analyzer_cache"]


def learnt(outputs: dict[str, Any]) -> dict[str, bytes]:
    """Vocabularies and transformed files by name."""
    files = [
        *(outputs["transform_graph"].transform_fn / "assets").glob("*"),
        *outputs["transformed_examples"].files("train"),
    ]
    return {file.name: file.read_bytes() for file in files}


def files(cache: AnalyzerCache) -> dict[str, bytes]:
    return {str(file.relative_to(cache.path)): file.read_bytes() for file in cache.path.rglob("*") if file.is_file()}


@pytest.fixture
def tft_cache(examples, schema, tmp_path, user_module) -> Callable[..., tuple[AnalyzerCache, Path]]:
    """(function, names of the data sets, a cache to read) -> the cache that TFT writes, and its graph.

    The data is given to TFT where there is no cache to read.
    """

    def make(source: str, *names: str, known: Path | None = None) -> tuple[AnalyzerCache, Path]:
        import apache_beam as beam
        import tensorflow_transform.beam as tft_beam
        from apache_beam.options.pipeline_options import PipelineOptions
        from apache_beam.runners.portability.fn_api_runner.fn_runner import FnApiRunner
        from tensorflow_transform.beam import analyzer_cache as theirs
        from tfx_bsl.coders.example_coder import ExamplesToRecordBatchDecoder
        from tfx_bsl.tfxio.tf_example_record import TFExampleBeamRecord

        keys, raw = [theirs.DatasetKey(name) for name in names], read_schema(schema.file)
        decoder = ExamplesToRecordBatchDecoder(raw.SerializeToString())
        tfxio = TFExampleBeamRecord(physical_format="inmem", telemetry_descriptors=["test"], schema=raw)
        batches = [decoder.DecodeBatch(list(tfrecord.read(file))) for file in examples.files("train")]
        cache, graph = AnalyzerCache(tmp_path / "tft_cache"), tmp_path / "tft_graph"
        function = Preprocessing(user_module(source, "preprocessing_fn"))
        options = PipelineOptions(["--no_pipeline_type_check"])
        with beam.Pipeline(FnApiRunner(), options) as pipeline, tft_beam.Context(temp_dir=str(tmp_path / "tft")):
            data = None if known else pipeline | beam.Create(batches, reshuffle=False)
            read = pipeline | theirs.ReadAnalysisCacheFromFS(str(known), keys) if known else {}
            given = (dict.fromkeys(keys, data), read, tfxio.TensorAdapterConfig())
            analyzed, found = given | tft_beam.AnalyzeDatasetWithCache(function, pipeline=pipeline)
            _ = analyzed | tft_beam.WriteTransformFn(str(graph))
            if not known:
                _ = found | theirs.WriteAnalysisCacheToFS(pipeline, str(cache.path))
        return cache, graph

    return make


def accumulators(cache: AnalyzerCache, coders: dict[bytes, Any]) -> dict[bytes, list[Any]]:
    """What a cache has, decoded; what only a sketch can be asked for as its quantiles."""
    import pickle

    (directory,) = cache.path.iterdir()
    manifest = pickle.loads((directory / "MANIFEST").read_bytes())
    return {
        key: [coders[key].decode_cache(one) for one in tfrecord.read(directory / f"{number}-00000-of-00001.gz")]
        for key, number in manifest.items()
    }


@pytest.fixture
def coders(schema, tmp_path, user_module) -> dict[bytes, Any]:
    """TFT's coder of every analyzer, by its key."""
    from components.features.analysis import Analysis

    function = Preprocessing(user_module(EVERY, "preprocessing_fn"))
    analysis = Analysis(function, read_schema(schema.file), tmp_path / "coders")
    return {key: operation.operation_def.coder for key, operation in analysis._encoding.items()}


@pytest.mark.slow
def test_what_is_kept_is_what_TFT_accumulates_of_the_same_data(every, tft_cache, coders):
    outputs, _ = every
    theirs, _ = tft_cache(EVERY, "any")

    found, expected = accumulators(cache_of(outputs), coders), accumulators(theirs, coders)
    assert found.keys() == expected.keys() == coders.keys()
    assert len(found) == cache_of(outputs).properties["analyzers"] == 10
    for key, values in expected.items():
        if b"Vocabulary" in key:
            assert sorted(found[key]) == sorted(values)
        elif b"quantiles" in key:
            quantiles = [np.concatenate(one[0].GetQuantiles(9).to_pylist()) for one in (found[key], values)]
            np.testing.assert_array_equal(*quantiles)
        else:
            (mine,), (yours,) = found[key], values
            for one, other in zip(mine, yours, strict=True):
                np.testing.assert_allclose(np.asarray(one, float), np.asarray(other, float), rtol=1e-6)


@pytest.mark.slow
def test_TFT_takes_everything_from_our_cache_without_the_data(every, tft_cache):
    import tensorflow_transform as tft

    outputs, _ = every
    (directory,) = cache_of(outputs).path.iterdir()

    _, graph = tft_cache(EVERY, directory.name, known=cache_of(outputs).path)

    ours, theirs = [tft.TFTransformOutput(str(path)) for path in (outputs["transform_graph"].path, graph)]
    names = sorted(file.name for file in (graph / "transform_fn/assets").iterdir())
    assert names == ["number", "weighed", "word"]
    for name in names:
        assert learnt(outputs)[name] == (graph / "transform_fn/assets" / name).read_bytes()
    assert values_of(ours) == values_of(theirs)


def values_of(output: Any) -> dict[str, Any]:
    """What a graph gives for three rows."""
    import tensorflow as tf

    given = {
        "x": tf.constant([[0.0], [3.25], [14.0]]),
        "pair": tf.constant([[0.0, 1.0], [5.0, -2.0], [10.0, 3.5]]),
        "number": tf.constant([[2**53], [2**53 + 3], [2**53 + 8]], tf.int64),
        "words": tf.sparse.from_dense([["a"], ["ü"], ["none"]]),
    }
    made = output.transform_features_layer()(given)
    return {
        name: tf.sparse.to_dense(one).numpy().tolist() if isinstance(one, tf.SparseTensor) else one.numpy().tolist()
        for name, one in made.items()
    }


def test_what_a_cache_has_is_not_analysed_again_and_comes_to_the_same(run, every):
    first, read = every

    second, read_again = run(EVERY, cache_of(first))

    assert (read, read_again) == (202, 101)
    assert learnt(second) == learnt(first)
    assert cache_of(second).properties == {"analyzers": 10, "reused": 10}
    assert files(cache_of(second)) == files(cache_of(first))


def test_an_analyzer_that_is_new_is_analysed_beside_those_of_the_cache(run, few):
    more = FEW.replace('{"z":', '{"n": tft.scale_to_0_1(inputs["number"]), "z":')
    first, _ = few

    second, read = run(more, cache_of(first))

    assert read == 202
    assert cache_of(second).properties == {"analyzers": 3, "reused": 2}
    assert learnt(second) == learnt(run(more)[0])


@pytest.mark.parametrize(
    ("old", "new"),
    [(" + 2.0", " * 2.0"), ("tf.strings.lower", "tf.strings.upper")],
    ids=["another operation", "another operation on text"],
)
def test_what_another_function_learnt_is_not_taken(run, few, old, new):
    changed = FEW.replace(old, new)
    first, _ = few

    second, read = run(changed, cache_of(first))

    assert read == 202
    assert cache_of(second).properties == {"analyzers": 2, "reused": 1}
    assert learnt(second) == learnt(run(changed)[0])


def test_what_lies_outside_of_the_graph_is_analysed_each_time(run):
    outside = """
import tensorflow as tf
import tensorflow_transform as tft


def preprocessing_fn(inputs):
    x = tf.ensure_shape(tf.numpy_function(lambda x: x + 1, [inputs["x"]], tf.float32), [None, 1])
    return {"x": tft.scale_to_0_1(x)}
"""
    first, _ = run(outside)

    second, read = run(outside, cache_of(first))

    assert read == 202
    assert cache_of(second).properties["reused"] == 0


def test_later_layers_of_analyzers_read_the_data_and_come_to_the_same(run):
    first, read = run(TWO_LAYERS)

    second, read_again = run(TWO_LAYERS, cache_of(first))

    assert (read, read_again) == (303, 303)  # L-moments, of the first layer, are not cached: TFT has no coder for them
    assert cache_of(second).properties["reused"] == cache_of(first).properties["analyzers"] == 2
    assert learnt(second) == learnt(first)


def test_other_records_are_another_data_set(run, few, examples, tmp_path):
    first, _ = few
    other = Examples(tmp_path / "other")
    shutil.copytree(examples.path, other.path)
    tfrecord.write(other.files("train")[1], [record(7)])

    second, read = run(FEW, cache_of(first), other)

    assert read == 162
    assert cache_of(second).properties["reused"] == 0


def of_spans(directory: Path, *spans: tuple[int, tuple[int, ...]]) -> Examples:
    """Examples of these spans, (number, sizes of its shards); what a shard holds hangs on its span and its place in that alone."""
    examples = Examples(directory)
    examples.split_path("train").mkdir(parents=True)
    count, at, found = sum(len(sizes) for _, sizes in spans), 0, []
    for span, sizes in spans:
        found.append({"span": span, "version": None, "label": str(span), "shards": [at, at + len(sizes)]})
        for place, size in enumerate(sizes):
            records = [record(number + 100 * span + 40 * place) for number in range(size)]
            tfrecord.write(examples.split("train") / f"data_tfrecord-{at:05d}-of-{count:05d}.gz", records)
            at += 1
    examples.properties["spans"] = found
    return examples


THREE = (1, (40, 20)), (2, (0,)), (3, (33,))


def test_each_span_is_a_data_set_of_its_own_and_only_a_new_one_is_analysed(run, part_cache, tmp_path):
    first, _ = run(EVERY, None, of_spans(tmp_path / "before", *THREE), part_cache)
    window = of_spans(tmp_path / "after", *THREE[1:], (4, (7,)))

    second, read = run(EVERY, None, window, part_cache)

    assert read == 7 + (33 + 7)  # to analyse the new span, and to transform the window
    assert len(list(cache_of(second).path.iterdir())) == 3
    assert len(names_of(first) & names_of(second)) == 2
    anew, read_anew = run(EVERY, None, window)
    assert read_anew == 2 * (33 + 7)
    assert learnt(second) == learnt(anew)
    assert files(cache_of(second)) == files(cache_of(anew))
    assert cache_of(second).properties == cache_of(anew).properties == {"analyzers": 30, "reused": 0}


def names_of(outputs: dict[str, Any]) -> set[str]:
    return {directory.name for directory in cache_of(outputs).path.iterdir()}


def test_an_artifact_of_an_earlier_window_serves_as_well_as_what_was_kept(run, tmp_path):
    first, _ = run(FEW, None, of_spans(tmp_path / "before", *THREE))

    second, read = run(FEW, cache_of(first), of_spans(tmp_path / "after", *THREE, (4, (7,))))

    assert read == 7 + 100
    assert cache_of(second).properties == {"analyzers": 8, "reused": 6}


def test_an_analyzer_that_is_new_loses_none_of_what_was_kept_of_the_others(run, part_cache, tmp_path):
    more = FEW.replace('{"z":', '{"n": tft.scale_to_0_1(inputs["number"]), "z":')
    data = of_spans(tmp_path / "data", *THREE)
    run(FEW, None, data, part_cache)
    part_cache.forget()

    run(more, None, data, part_cache)
    _, read = run(FEW, None, data, part_cache)

    assert part_cache.kept
    assert read == 93  # which were transformed before


def test_the_same_records_in_two_spans_count_twice(run, tmp_path):
    twice = of_spans(tmp_path / "twice", (1, (40,)), (1, (40,)))

    outputs, _ = run(EVERY, None, twice)
    again, _ = run(EVERY, cache_of(outputs), twice)

    assert len(names_of(outputs)) == 2
    assert learnt(outputs)["weighed"] == learnt(again)["weighed"]
    together = of_spans(tmp_path / "together", (1, (40,)), (1, (40,)))
    together.properties.clear()
    assert learnt(run(EVERY, None, together)[0])["weighed"] == learnt(outputs)["weighed"]


def test_a_span_is_the_same_data_set_wherever_it_stands_in_the_window(schema, tmp_path):
    def names(data: Examples) -> list[str]:
        spans = analyzer_cache.spans_of(data)
        return [one.name for one in analyzer_cache.data_sets("train", raw_shards(data, "train"), spans, raw)]

    raw = read_schema(schema.file)
    one, two, three = names(of_spans(tmp_path / "first", *THREE))

    assert names(of_spans(tmp_path / "later", *THREE[1:], (4, (7,))))[:2] == [two, three]
    assert len({one, two, three}) == 3


@pytest.mark.slow
def test_TFT_takes_everything_from_the_caches_of_several_spans_without_the_data(run, tft_cache, tmp_path):
    import tensorflow_transform as tft

    outputs, _ = run(EVERY, None, of_spans(tmp_path / "data", *THREE))

    _, graph = tft_cache(EVERY, *names_of(outputs), known=cache_of(outputs).path)

    ours, theirs = [tft.TFTransformOutput(str(path)) for path in (outputs["transform_graph"].path, graph)]
    for file in (graph / "transform_fn/assets").iterdir():
        assert learnt(outputs)[file.name] == file.read_bytes()
    found, expected = values_of(ours), values_of(theirs)
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        assert np.asarray(found[name]) == pytest.approx(np.asarray(values), rel=1e-5), name


def test_a_data_set_is_called_by_its_split_its_records_and_the_shapes_of_its_features(examples, schema, tmp_path):
    raw = read_schema(schema.file)
    copied = Examples(tmp_path / "copied")
    shutil.copytree(examples.path, copied.path)
    ranged, wider = type(raw)(), type(raw)()
    ranged.CopyFrom(raw)
    ranged.feature[2].int_domain.max = 2**60
    wider.CopyFrom(raw)
    wider.feature[1].shape.dim[0].size = 3

    def name(split: str, data: Examples, features: Any) -> str:
        (found,) = analyzer_cache.data_sets(split, raw_shards(data, "train"), (), features)
        return found.name

    first = name("train", examples, raw)

    assert first.startswith("train-")
    assert name("train", copied, raw) == name("train", copied, ranged) == first
    assert len({first, name("eval", examples, raw), name("train", examples, wider)}) == 3


def test_a_cache_that_TFT_wrote_is_not_taken_since_its_keys_do_not_tell_functions_apart(run, few, tmp_path):
    of_tfts = AnalyzerCache(tmp_path / "cache")
    shutil.copytree(cache_of(few[0]).path, of_tfts.path)
    (made_of,) = of_tfts.path.rglob(AnalyzerCache.MADE_OF)
    made_of.unlink()

    _, read = run(FEW, of_tfts)

    assert read == 202


def test_equal_input_gives_equal_files(run, few):
    assert files(cache_of(run(FEW)[0])) == files(cache_of(few[0]))
