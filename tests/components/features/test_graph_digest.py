from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from components.features.graph_digest import described, digest_of, digests
from components.features.tracing import trace


@pytest.fixture
def digest(tmp_path: Path) -> Callable[[Callable[[Any], Any]], str | None]:
    """A function of the features `x` and `words` -> the digest of what it gives."""
    import tensorflow as tf

    specs = {"x": tf.TensorSpec([None, 1], tf.float32), "words": tf.SparseTensorSpec([None, None], tf.string)}

    def of(function: Callable[[Any], Any]) -> str | None:
        tracing = trace(lambda inputs: {"made": function(inputs)}, specs, tmp_path, {})
        return digests(tracing)([tracing.outputs["made"]])

    return of


def test_the_same_function_traced_again_has_the_same_digest(digest):
    import tensorflow as tf

    def function(inputs):
        wide = tf.reduce_sum(inputs["x"], axis=1)
        return tf.map_fn(lambda one: tf.cond(one > 0, lambda: one * 2.0, lambda: one), wide)

    assert digest(function) == digest(function) is not None


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("inputs['x'] + 2.0", "inputs['x'] * 2.0"),
        ("inputs['x'] + 2.0", "inputs['x'] + 3.0"),
        ("inputs['x'] - 2.0", "2.0 - inputs['x']"),
        ("tf.strings.lower(inputs['words'].values)", "tf.strings.upper(inputs['words'].values)"),
        ("inputs['words'].indices", "inputs['words'].dense_shape"),
        ("tf.unique(inputs['words'].values)[0]", "tf.unique(inputs['words'].values)[1]"),
        ("tf.map_fn(lambda one: one + 1.0, inputs['x'])", "tf.map_fn(lambda one: one - 1.0, inputs['x'])"),
        (
            "tf.cond(tf.size(inputs['x']) > 1, lambda: inputs['x'] * 2.0, lambda: inputs['x'])",
            "tf.cond(tf.size(inputs['x']) > 1, lambda: inputs['x'] / 2.0, lambda: inputs['x'])",
        ),
    ],
)
def test_whatever_changes_the_values_changes_the_digest(digest, one, other):
    import tensorflow as tf

    found = [digest(eval(f"lambda inputs: {source}", {"tf": tf})) for source in (one, other)]  # our own two lines

    assert None not in found
    assert found[0] != found[1]


def test_a_tensor_from_outside_counts_by_its_value(digest):
    import tensorflow as tf

    two, also_two, three = tf.constant(2.0), tf.constant(2.0), tf.constant(3.0)
    found = [digest(lambda inputs, outside=outside: inputs["x"] + outside) for outside in (two, also_two, three)]

    assert None not in found
    assert found[0] == found[1] != found[2]


def test_what_is_not_in_the_graph_has_no_digest(digest):
    import tensorflow as tf

    variable = tf.Variable(1.0)

    assert digest(lambda inputs: tf.numpy_function(lambda x: x, [inputs["x"]], tf.float32) + 1.0) is None
    assert digest(lambda inputs: inputs["x"] * variable) is None
    assert digest(lambda inputs: tf.map_fn(lambda one: tf.py_function(abs, [one], tf.float32), inputs["x"])) is None


@pytest.mark.parametrize("drawn", ["tf.random.uniform([3])", "tf.random.normal([3], seed=5)"], ids=["any", "seeded"])
def test_what_is_drawn_at_random_has_no_digest(digest, drawn):
    import tensorflow as tf

    def random(inputs):
        return inputs["x"] + eval(drawn, {"tf": tf})  # one of our own lines

    assert digest(random) is None
    assert digest(lambda inputs: tf.map_fn(lambda one: one + eval(drawn, {"tf": tf})[0], inputs["x"])) is None


def test_a_lookup_table_counts_by_what_it_holds(digest):
    import tensorflow as tf

    def looked_up(words: list[str], numbers: list[int], missing: int = -1) -> str | None:
        initializer = tf.lookup.KeyValueTensorInitializer(words, tf.constant(numbers, tf.int64))
        table = tf.lookup.StaticHashTable(initializer, missing)
        return digest(lambda inputs: table.lookup(inputs["words"].values))

    one = looked_up(["a", "b"], [1, 2])

    assert one == looked_up(["b", "a"], [2, 1]) is not None
    assert (
        len({one, looked_up(["a", "b"], [1, 3]), looked_up(["a", "c"], [1, 2]), looked_up(["a", "b"], [1, 2], 0)}) == 4
    )


def test_everything_a_function_gives_is_in_its_digest_with_its_name(tmp_path):
    import tensorflow as tf

    specs = {"x": tf.TensorSpec([None, 1], tf.float32), "words": tf.SparseTensorSpec([None, None], tf.string)}

    def of(function: Callable[[Any], Any]) -> str | None:
        return digest_of(trace(function, specs, tmp_path, {}))

    one = of(lambda inputs: {"x": inputs["x"] + 1.0, "words": inputs["words"]})

    assert one == of(lambda inputs: {"words": inputs["words"], "x": inputs["x"] + 1.0}) is not None
    assert one != of(lambda inputs: {"y": inputs["x"] + 1.0, "words": inputs["words"]})
    assert one != of(lambda inputs: {"x": inputs["x"] + 2.0, "words": inputs["words"]})
    assert one != of(lambda inputs: {"x": inputs["x"] + 1.0})
    assert of(lambda inputs: {"x": inputs["x"], "r": tf.random.uniform([1, 1]) + inputs["x"]}) is None


def test_settings_of_an_analyzer_are_described_by_their_values():
    import numpy as np

    one = described({"function": np.max, "dtype": np.float32, "start": np.array([1.0]), "n": None})

    assert one == described({"n": None, "start": np.array([1.0]), "dtype": np.float32, "function": np.max})
    assert described({"function": functools.partial(np.sum, axis=0)}) != described(
        {"function": functools.partial(np.sum, axis=1)}
    )


@pytest.mark.parametrize("value", [object(), lambda: None], ids=["an address", "a lambda"])
def test_settings_that_cannot_be_told_apart_have_no_description(value):
    assert described({"setting": value}) is None
