"""What earlier executions made of shards: taken where it is of the same records by the same graph, and the same as made anew."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from components.features.transform import Transform
from components.io import tfrecord
from schemas.artifacts import Examples
from schemas.component import BeamOptions, PartCache, Progress

SCHEMA = """
feature { name: "x" type: FLOAT shape { dim { size: 1 } } presence { min_fraction: 1 } }
feature { name: "word" type: BYTES }
"""
PLAIN = """
import tensorflow as tf


def preprocessing_fn(inputs):
    return {"x": inputs["x"] * 2.0, "word": inputs["word"]}
"""
WORDS = """
import tensorflow as tf
import tensorflow_transform as tft


def preprocessing_fn(inputs):
    return {"x": inputs["x"], "word": tft.compute_and_apply_vocabulary(inputs["word"])}
"""
MEAN = """
import tensorflow_transform as tft


def preprocessing_fn(inputs):
    return {"x": inputs["x"] - tft.mean(inputs["x"]), "word": inputs["word"]}
"""
RANDOM = """
import tensorflow as tf


def preprocessing_fn(inputs):
    return {"x": inputs["x"] + tf.random.uniform([1, 1]), "word": inputs["word"]}
"""
BEFORE, AFTER = (60, 3), (60, 3, 25)  # sizes of the train split's shards; shards of eval have none


def write(directory: Path, sizes: tuple[int, ...], words: tuple[str, ...] = ("a", "ü", "a")) -> Examples:
    import tensorflow as tf

    examples = Examples(directory)
    for split in ("train", "eval"):
        examples.split_path(split).mkdir(parents=True)
        for shard, size in enumerate(sizes):
            records = [
                {
                    "x": tf.train.Feature(float_list=tf.train.FloatList(value=[(number * 37 % 101 + shard) / 7])),
                    "word": tf.train.Feature(
                        bytes_list=tf.train.BytesList(value=[words[number % len(words)].encode()])
                    ),
                }
                for number in range(size if split == "train" else 0)
            ]
            tfrecord.write(
                examples.split(split) / f"data_tfrecord-{shard:05d}-of-{len(sizes):05d}.gz",
                [tf.train.Example(features=tf.train.Features(feature=one)).SerializeToString() for one in records],
            )
    return examples


@pytest.fixture
def run(schema, outputs_of, tmp_path, user_module) -> Callable[..., dict[str, bytes]]:
    """(source of a function, sizes of the shards, part_cache, words, settings) -> the files made of the data."""

    def make(
        source: str,
        sizes: tuple[int, ...],
        kept: PartCache | None = None,
        words: tuple[str, ...] = ("a", "ü", "a"),
        **settings: Any,
    ) -> dict[str, bytes]:
        directory = tmp_path / f"made-{len(list(tmp_path.glob('made-*')))}"
        outputs = outputs_of(Transform, directory)
        Transform(preprocessing_fn=user_module(source, "preprocessing_fn"), **settings).run(
            write(directory / "examples", sizes, words),
            schema,
            BeamOptions(),
            Progress(),
            **outputs,
            parts=kept or PartCache(),
        )
        assert outputs["transformed_examples"].properties == {"records": {"train": sum(sizes), "eval": 0}}
        return {
            str(file.relative_to(directory)): file.read_bytes()
            for name in outputs
            if name != "transform_graph"  # a saved_model.pb differs each time
            for file in outputs[name].path.rglob("*")
            if file.is_file()
        }

    return make


@pytest.mark.parametrize("source", [PLAIN, WORDS], ids=["no analyzer", "a vocabulary that stays the same"])
def test_only_new_shards_are_transformed_while_the_graph_stays_the_same(run, part_cache, source):
    run(source, BEFORE, part_cache)
    before = part_cache.kept
    part_cache.forget()

    made = run(source, AFTER, part_cache)

    analyses = 1 if source is WORDS else 0
    # Counts of two shards, what these became, and what the shards without records did.
    assert len(before) == 5 + analyses
    assert len(part_cache.kept) == 2 + analyses  # a part that is there cannot be kept again
    assert made == run(source, AFTER)
    assert {"pre_transform_stats/FeatureStats.pb", "post_transform_stats/FeatureStats.pb"} <= made.keys()


def test_all_shards_are_transformed_when_what_was_learnt_changed_and_the_counts_of_raw_features_are_kept(
    run, part_cache
):
    run(MEAN, BEFORE, part_cache)
    part_cache.forget()

    made = run(MEAN, AFTER, part_cache)

    # The mean of other data; three shards and one without records, transformed; the new one's counts.
    assert len(part_cache.kept) == 1 + 4 + 1
    assert made == run(MEAN, AFTER)


def test_what_another_function_made_is_not_taken(run, part_cache):
    run(PLAIN, BEFORE, part_cache)

    made = run(PLAIN.replace("2.0", "3.0"), BEFORE, part_cache)

    assert made == run(PLAIN.replace("2.0", "3.0"), BEFORE)
    assert made != run(PLAIN, BEFORE)


def test_another_vocabulary_is_another_graph(run, part_cache):
    run(WORDS, BEFORE, part_cache)

    made = run(WORDS, (*BEFORE, 100), part_cache, ("ü", "b"))

    assert made == run(WORDS, (*BEFORE, 100), None, ("ü", "b"))


def test_random_numbers_are_drawn_anew_and_nothing_but_counts_of_raw_features_is_kept(run, part_cache):
    run(RANDOM, BEFORE, part_cache)
    assert len(part_cache.kept) == 2
    part_cache.forget()

    run(RANDOM, BEFORE, part_cache)

    assert len(part_cache.found) == 2
    assert part_cache.kept == []


def test_without_statistics_none_are_kept_and_records_are_taken_all_the_same(run, part_cache):
    run(PLAIN, BEFORE, part_cache, statistics=False)
    assert len(part_cache.kept) == 3

    made = run(PLAIN, AFTER, part_cache, statistics=False)

    assert len(part_cache.kept) == 4
    assert made == run(PLAIN, AFTER, statistics=False)


@pytest.mark.parametrize("missing", ["before.statistics", "records.gz"])
def test_what_is_missing_of_a_shard_is_made_beside_what_there_is(run, part_cache, missing):
    whole = run(PLAIN, BEFORE, part_cache)
    gone = {name for name in part_cache.kept if (part_cache.find(name) / missing).exists()}
    for name in gone:
        shutil.rmtree(part_cache.find(name))
    part_cache.forget()

    assert run(PLAIN, BEFORE, part_cache) == whole
    assert set(part_cache.kept) == gone
    assert len({*gone, *part_cache.found}) == 5
