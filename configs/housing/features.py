"""Census tracts of Boston -> the features of the model and its label, MEDV: what a home costs there, in 1000 dollars.

The table has a column `B`, which is used nowhere: ExampleGen leaves it out, so that it is in no record, no statistics and no
signature. It is 1000 (share of Black residents - 0.63)^2, a formula that rests on the assumption that homes cost more where people live
segregated by race, and that cannot be turned round: two shares give the same number. A model that takes it prices homes by who
the neighbours are, in a way that nobody can check. scikit-learn removed its loader for this table in version 1.2 for that
reason, as `sklearn.datasets.load_boston` says to whoever asks for it; the file is still installed. Its references: M. Carlisle,
Racist data destruction?; D. Harrison and D. Rubinfeld, Hedonic housing prices and the demand for clean air, Journal of
Environmental Economics and Management 5 (1978), 81-102.
"""

from __future__ import annotations

import tensorflow as tf
import tensorflow_transform as tft

LABEL = "MEDV"

# A few tracts have many times the others' values; what is added to a value before its logarithm is taken.
SKEWED = {"CRIM": 0.01, "ZN": 1.0, "DIS": 1.0, "LSTAT": 1.0}
EVEN = ("INDUS", "NOX", "RM", "AGE", "RAD", "TAX", "PTRATIO")
FLAG = "CHAS"


def preprocessing_fn(inputs: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """The transformed features by name, each of shape [batch, 1]; means and deviations are the train split's.

    The label stays in 1000 dollars, so that errors are in 1000 dollars too.
    """
    features = {}
    for name, added in SKEWED.items():
        features[transformed(name)] = tft.scale_to_z_score(tf.math.log(added + inputs[name]))
    for name in EVEN:
        features[transformed(name)] = tft.scale_to_z_score(tf.cast(inputs[name], tf.float32))
    features[transformed(FLAG)] = tf.cast(inputs[FLAG], tf.float32)
    features[LABEL] = inputs[LABEL]
    return features


def transformed(name: str) -> str:
    """What a raw feature is called once it is transformed."""
    return f"{name}_xf"
