"""Sums per slice: the same, however the examples are parted."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np

from components.model.sums import Counts, Sums, Totals, merged

TENTHS = Counts(0, lambda prediction: (prediction * 10).astype(np.int64), 11)
MOMENTS = Totals(0, lambda label, prediction: [prediction.astype(np.float64), prediction.astype(np.float64) ** 2])
SUMS = (TENTHS, MOMENTS)

random = np.random.default_rng(1)
LABELS = random.integers(0, 2, 1000)
PREDICTIONS = random.integers(0, 11, 1000) / 10
NAMES = random.integers(0, 7, 1000)


def added(rows: Any, first: int = 0, part: int = 0) -> Sums:
    """The sums over `rows` as one part, by name and overall; slices are met in an order that begins with `first`."""
    sums = Sums((22, 0), part)
    for name in range(6):
        sums.number(1 + (first + name) % 6)
    numbers = np.array([sums.number(name) if name else -1 for name in range(7)])
    everything = np.full(len(rows), sums.number("overall"))
    some = np.flatnonzero(NAMES[rows])  # name 0 stands for no value
    members = [(None, everything), (some, numbers[NAMES[rows][some]])]
    sums.add(SUMS, [LABELS[rows]], [PREDICTIONS[rows]], members)
    return sums


def shown(sums: Sums) -> dict[Any, Any]:
    return {
        key: (sums.examples[number], sums.histogram(0, [number]).tolist(), sums.total(1, [number]))
        for key, number in sums.slices.items()
    }


def test_parts_in_any_order_make_the_same_sums() -> None:
    def parts() -> list[Sums]:
        rows = np.array_split(np.arange(1000), 5)
        return [added(some, number, number) for number, some in enumerate(rows)]

    whole = shown(added(np.arange(1000)))
    there, back = merged(parts()), merged(pickle.loads(pickle.dumps(part)) for part in reversed(parts()))

    assert there is not None
    assert back is not None
    assert shown(there) == shown(back)  # to the last bit
    assert shown(there).keys() == whole.keys()
    for key, values in whole.items():
        examples, histogram, totals = shown(there)[key]
        assert (examples, histogram) == values[:2]
        np.testing.assert_allclose(totals, values[2], rtol=1e-12)


def test_a_histogram_counts_both_classes() -> None:
    sums = added(np.arange(1000))

    found = sums.histogram(0, [sums.slices["overall"]])

    assert found[:, 0].tolist() == sorted(set((PREDICTIONS * 10).astype(int).tolist()))
    assert found[:, 1:].sum(axis=0).tolist() == np.bincount(LABELS).tolist()
    of_bin_3 = (PREDICTIONS * 10).astype(int) == 3
    assert found[found[:, 0] == 3].tolist() == [[3, *np.bincount(LABELS[of_bin_3]).tolist()]]


def test_a_refusal_outlives_merging() -> None:
    refusing = Sums((22, 0), refused="no number")

    both = merged([None, added(np.arange(10)), refusing])

    assert both is not None
    assert both.refused == "no number"


def test_nothing_merged_is_nothing() -> None:
    assert merged([]) is None
