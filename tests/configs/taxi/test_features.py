"""The taxi features: what counts as a big tip, what fills a gap, and what the label may not give away."""

from __future__ import annotations

import pytest

from configs.taxi.features import big_tip, fill_missing


@pytest.mark.parametrize(
    ("tips", "fare", "expected"),
    [(2.1, 10.0, 1), (2.0, 10.0, 0), (0.0, 0.0, 0), (1.0, 0.0, 1), (5.0, float("nan"), 0), (0.0, 10.0, 0)],
)
def test_a_tip_is_big_above_a_fifth_of_the_fare(tips, fare, expected):
    import tensorflow as tf

    found = big_tip(tf.constant([tips]), tf.constant([fare]))

    assert found.dtype == tf.int64
    assert found.numpy().tolist() == [expected]


def test_gaps_are_filled_with_zero_or_an_empty_string():
    import tensorflow as tf

    words = tf.SparseTensor([[0, 0], [2, 0]], ["a", "b"], [3, 1])
    numbers = tf.SparseTensor([[1, 0]], [2.5], [3, 1])
    nothing = tf.SparseTensor(tf.zeros([0, 2], tf.int64), tf.zeros([0], tf.int64), [3, 0])

    assert fill_missing(words).numpy().tolist() == [b"a", b"", b"b"]
    assert fill_missing(numbers).numpy().tolist() == [0.0, 2.5, 0.0]
    assert fill_missing(nothing).numpy().tolist() == [0, 0, 0]
    assert fill_missing(tf.constant([[1.0], [2.0]])).numpy().tolist() == [1.0, 2.0]


def test_tips_reach_the_label_and_no_feature(taxi_transformed):
    from components.model.signatures import TransformFunction

    transform = TransformFunction(taxi_transformed[0])

    assert transform.sources(("big_tip",)) == ("fare", "tips")
    assert {name for name in transform.outputs if "tips" in transform.sources((name,))} == {"big_tip"}
