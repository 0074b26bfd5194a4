"""The hash split: which split a record belongs to, by what it contains and nothing else."""

from __future__ import annotations

import hashlib
import re
from bisect import bisect
from collections.abc import Iterable, Mapping
from itertools import accumulate

from schemas.artifact import splits_in_order

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


def assign(keys: Iterable[bytes], weights: Mapping[str, int]) -> list[int]:
    """The split of each key, as an index into `weights` in their order.

    A key's SHA-256, read as one big-endian number, modulo the sum of the weights falls into one of the consecutive ranges
    that the weights cut: with {train: 2, eval: 1} remainders 0 and 1 are train, 2 is eval. This is TFX's arithmetic. Equal
    keys always share a split, whatever came before them; no keys give no splits.
    """
    ends = list(accumulate(weights.values()))
    total = ends[-1]
    sha256 = hashlib.sha256
    digests = [sha256(key).digest() for key in keys]
    if total >= 1 << 32:
        return [bisect(ends, int.from_bytes(digest, "big") % total) for digest in digests]
    import numpy as np

    words = np.frombuffer(b"".join(digests), dtype=">u4").reshape(-1, 8).astype(np.uint64)
    remainders = np.zeros(len(digests), dtype=np.uint64)
    for place in range(8):  # Horner's rule: a remainder and the next 32 bits fit into 64
        remainders = ((remainders << np.uint64(32)) | words[:, place]) % np.uint64(total)
    split_of: list[int] = np.searchsorted(np.array(ends, dtype=np.uint64), remainders, side="right").tolist()
    return split_of


def in_order(weights: Mapping[str, int]) -> dict[str, int]:
    """`weights` with train and eval first and the others by name, however they were written down.

    A mapping's order is no content: it gets lost in JSON and means nothing to who edits a YAML file. The ranges of
    `assign`, however, are cut in some order, and TFX cuts them in the order of its split list.
    """
    return {name: weights[name] for name in splits_in_order(weights)}


def problems(weights: Mapping[str, int]) -> list[str]:
    """What is wrong with named split weights, one sentence each; empty when nothing is."""
    if not weights:
        return ["there is no split: give names and weights, as in {train: 2, eval: 1}"]
    found = []
    for name, weight in weights.items():
        if not _NAME.fullmatch(name):
            found.append(
                f"'{name}' cannot name a split: use letters, digits, '_', '-' and '.' (it becomes a directory)"
            )
        if weight < 1:
            found.append(f"the weight of '{name}' is {weight}: it must be a whole number of at least 1")
    return found
