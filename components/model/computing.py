"""What a training computes with: its seed, the accelerators that are there, and the precision of its numbers."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from contextlib import contextmanager

from schemas.component import Scratch, Seed

PRECISIONS = (
    "mixed_float16",
    "mixed_bfloat16",
)  # Keras' policies: half of the bits to compute, float32 to keep weights


def settled_seed(seed: Seed, scratch: Scratch) -> int:
    """The seed to use: the run's, or one drawn once and kept in scratch so that a resumed run has it too."""
    if seed.value is not None:
        return seed.value
    file = scratch.path / "seed.json"
    if not file.is_file():
        scratch.path.mkdir(parents=True, exist_ok=True)
        new = file.with_suffix(".new")
        new.write_text(json.dumps(random.SystemRandom().randrange(2**31)), encoding="utf-8")
        new.replace(file)
    return int(json.loads(file.read_text(encoding="utf-8")))


def make_reproducible(seed: int) -> None:
    """Seed Python, NumPy and TensorFlow, and have TensorFlow choose deterministic kernels, for the whole process."""
    import tensorflow as tf
    import tf_keras

    # Generators have a state that a checkpoint can keep; the older ops behind dropout have none.
    tf_keras.backend.experimental.enable_tf_random_generator()
    # Zero, joined with the seed of a shuffle, is taken for no seed at all.
    tf_keras.utils.set_random_seed(seed or 2**31 - 1)
    tf.config.experimental.enable_op_determinism()


def share_accelerators() -> tuple[str, ...]:
    """Have TensorFlow take a GPU's memory as it is needed, not whole at its start; gives the names of the GPUs there are."""
    import tensorflow as tf

    found = tf.config.list_physical_devices("GPU")
    for device in found:
        if not tf.config.experimental.get_memory_growth(device):
            tf.config.experimental.set_memory_growth(device, True)
    return tuple(device.name for device in found)


@contextmanager
def precision(policy: str | None) -> Iterator[None]:
    """Models built inside compute with Keras' `policy`; None changes nothing."""
    if policy is None:
        yield
        return
    import tf_keras

    before = tf_keras.mixed_precision.global_policy()
    tf_keras.mixed_precision.set_global_policy(policy)
    try:
        yield
    finally:
        tf_keras.mixed_precision.set_global_policy(before)
