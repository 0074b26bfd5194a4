"""Trips -> the features of the model, and whether the tip was big."""

from __future__ import annotations

import tensorflow as tf
import tensorflow_transform as tft


def preprocessing_fn(inputs: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    return {
        "miles_xf": tft.scale_to_z_score(tf.reshape(inputs["miles"], [-1])),
        "payment_xf": tft.compute_and_apply_vocabulary(tf.reshape(inputs["payment"], [-1]), num_oov_buckets=1),
        "big_tip": tf.reshape(inputs["big_tip"], [-1]),
    }
