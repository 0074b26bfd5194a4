"""Raw taxi trips -> the features of the model and its label, `big_tip`: was the tip more than 20 % of the fare?"""

from __future__ import annotations

import tensorflow as tf
import tensorflow_transform as tft

LABEL = "big_tip"
BIG_TIP = 0.2  # of the fare

NUMBERS = ("trip_miles", "trip_seconds", "fare")
PLACES = ("pickup_latitude", "pickup_longitude", "dropoff_latitude", "dropoff_longitude")
PLACE_BUCKETS = 10
WORDS = ("payment_type", "company")
VOCABULARY_SIZE, OOV_BUCKETS = 200, 5  # words beyond the vocabulary are hashed into the buckets
CATEGORIES = {  # values 0 ... size - 1; what lies outside is counted as the nearest
    "trip_start_hour": 24,
    "trip_start_day": 8,
    "trip_start_month": 13,
    "pickup_community_area": 78,
    "dropoff_community_area": 78,
}


def preprocessing_fn(inputs: dict[str, tf.Tensor | tf.SparseTensor]) -> dict[str, tf.Tensor]:
    """The transformed features by name, each of shape [batch]; what the data decides is learnt from the train split.

    `tips` goes into the label and nowhere else.
    """
    features = {}
    for name in NUMBERS:
        features[transformed(name)] = tft.scale_to_z_score(fill_missing(inputs[name]))
    for name in PLACES:
        features[transformed(name)] = tft.bucketize(fill_missing(inputs[name]), PLACE_BUCKETS)
    for name in WORDS:
        features[transformed(name)] = tft.compute_and_apply_vocabulary(
            fill_missing(inputs[name]), top_k=VOCABULARY_SIZE, num_oov_buckets=OOV_BUCKETS, vocab_filename=name
        )
    for name, size in CATEGORIES.items():
        features[transformed(name)] = tf.clip_by_value(fill_missing(inputs[name]), 0, size - 1)
    features[LABEL] = big_tip(fill_missing(inputs["tips"]), fill_missing(inputs["fare"]))
    return features


def transformed(name: str) -> str:
    """What a raw feature is called once it is transformed."""
    return f"{name}_xf"


def big_tip(tips: tf.Tensor, fare: tf.Tensor) -> tf.Tensor:
    """1 where the tip exceeds a fifth of the fare, else 0, also where the fare is not a number; int64, [batch]."""
    return tf.cast(tf.where(tf.math.is_nan(fare), False, tips > BIG_TIP * fare), tf.int64)


def fill_missing(feature: tf.Tensor | tf.SparseTensor) -> tf.Tensor:
    """A feature with at most one value per trip, as [batch]: 0 or an empty string where a trip has none."""
    if isinstance(feature, tf.SparseTensor):
        one_column = tf.SparseTensor(feature.indices, feature.values, [feature.dense_shape[0], 1])
        feature = tf.sparse.to_dense(one_column, default_value="" if feature.dtype == tf.string else 0)
    return tf.reshape(feature, [-1])
