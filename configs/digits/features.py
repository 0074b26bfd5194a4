"""Images of handwritten digits, 64 pixels in 64 columns -> an image, and two labels: the digit, and what it is made of."""

from __future__ import annotations

import tensorflow as tf

SIZE = 8  # pixels across and down
BRIGHTEST = 16.0  # the pixels are 0 ... 16: how many of 4 x 4 finer ones are ink
PIXELS = tuple(f"pixel_{row}_{column}" for row in range(SIZE) for column in range(SIZE))
DIGIT = "digit"

STROKES = ("loop", "straight")
"""What a digit may have: a closed loop, and a straight stroke; both, one or neither."""

MADE_OF = (  # loop, straight; as most people write the digit
    (1, 0),  # 0
    (0, 1),  # 1
    (0, 1),  # 2, on its foot
    (0, 0),  # 3
    (0, 1),  # 4, open at the top
    (0, 1),  # 5, under its roof
    (1, 0),  # 6
    (0, 1),  # 7
    (1, 0),  # 8
    (1, 1),  # 9, on its stem
)


def preprocessing_fn(inputs: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """`image` of shape [batch, 8, 8, 1] from 0 to 1, and the labels: `digit` [batch, 1], `strokes` [batch, 2] of 0 and 1.

    Nothing is learnt from the data: the brightest value is known.
    """
    pixels = tf.concat([inputs[name] for name in PIXELS], axis=1)
    return {
        "image": tf.reshape(tf.cast(pixels, tf.float32) / BRIGHTEST, [-1, SIZE, SIZE, 1]),
        "digit": inputs[DIGIT],
        "strokes": tf.gather(tf.constant(MADE_OF, tf.float32), tf.reshape(inputs[DIGIT], [-1])),
    }
