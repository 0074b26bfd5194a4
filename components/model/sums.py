"""Sums over examples, one per slice: added up a batch at a time, merged over shards."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing import TypeAlias

    import numpy as np

    Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]

_COMPACT_AT = 1 << 20  # counts that wait to be merged: 16 MB


@dataclass(frozen=True)
class Totals:
    """Sums of numbers: `columns(label, prediction)` gives what is added for each example, [examples] per column.

    `label` and `prediction` are [examples], in the types that the model gives. Sums are float64.
    """

    model: int
    columns: Callable[[Array, Array], list[Array]]


@dataclass(frozen=True)
class Counts:
    """Examples per bin of the prediction and class of the label, which is 0 or 1.

    `bins(prediction)` gives each example's bin, 0 <= bin < `size`; `prediction` is float64 [examples].
    """

    model: int
    bins: Callable[[Array], Array]
    size: int


Sum = Totals | Counts


@dataclass
class Sums:
    """What was added up so far. It can be pickled, and merged with the sums of other examples.

    `part` is the number of the shard that is added up. Sums of floats are kept apart by it, and added in its order at the
    end: whoever merges them, in whatever order, gets the same. `refused` is why these examples cannot be added up exactly
    as TFMA does; nothing else holds then.
    """

    sizes: tuple[int, ...]  # of each sum's bins, doubled for the two classes; 0 for totals
    part: int = 0
    slices: dict[Hashable, int] = field(default_factory=dict)  # the key of a slice -> its number
    examples: Any = None  # [slices]
    totals: dict[tuple[int, int], Any] = field(default_factory=dict)  # (part, sum) -> [slices, columns]
    counts: dict[int, tuple[Any, Any]] = field(default_factory=dict)  # sum -> (slice * size + bin, sorted; how many)
    refused: str = ""
    _waiting: dict[int, list[tuple[Any, Any]]] = field(default_factory=dict)

    def number(self, key: Hashable) -> int:
        """The number of the slice `key`, a new one for a new slice."""
        return self.slices.setdefault(key, len(self.slices))

    def add(
        self,
        sums: tuple[Sum, ...],
        labels: list[Array],
        predictions: list[Array],
        members: Iterable[tuple[Array | None, Array]],
    ) -> None:
        """Add a batch. `labels` and `predictions` are one per model; `members` are (rows, their slices' numbers).

        Rows None stands for all of them, in order.
        """
        import numpy as np

        of_model = {number: (labels[number], predictions[number]) for number in {one.model for one in sums}}
        columns = {at: one.columns(*of_model[one.model]) for at, one in enumerate(sums) if isinstance(one, Totals)}
        cells = {
            at: 2 * one.bins(of_model[one.model][1].astype(np.float64)) + of_model[one.model][0].astype(np.int64)
            for at, one in enumerate(sums)
            if isinstance(one, Counts)
        }
        for rows, numbers in members:
            if not len(numbers):
                continue

            def of(values: Array, rows: Array | None = rows) -> Array:
                return values if rows is None else values[rows]

            self.examples = _plus(self.examples, np.bincount(numbers, minlength=len(self.slices)))
            for at, every in columns.items():
                added = [np.bincount(numbers, weights=of(one), minlength=len(self.slices)) for one in every]
                here = self.part, at
                self.totals[here] = _plus(self.totals.get(here), np.stack(added, axis=1))
            for at, cell in cells.items():
                self._wait(at, *np.unique(numbers * self.sizes[at] + of(cell), return_counts=True))

    def merge(self, other: Sums) -> None:
        """Add what `other` added up; `other` is not used any more."""
        import numpy as np

        self.refused = self.refused or other.refused
        if self.refused or not other.slices:
            return
        numbers = np.array([self.number(key) for key in other.slices])

        def renumbered(values: Array) -> Array:
            moved = np.zeros((len(self.slices), *values.shape[1:]), values.dtype)
            moved[numbers[: len(values)]] = values
            return moved

        self.examples = _plus(self.examples, renumbered(other.examples))
        for there, values in other.totals.items():
            self.totals[there] = _plus(self.totals.get(there), renumbered(values))
        other.compact()
        for at, (cells, counts) in other.counts.items():
            size = self.sizes[at]
            self._wait(at, numbers[cells // size] * size + cells % size, counts)

    def compact(self) -> None:
        """Merge all counts that wait."""
        for at in list(self._waiting):
            self._compact(at)

    def total(self, at: int, numbers: list[int]) -> list[float]:
        """Of one sum of numbers and some slices together: each column's sum."""
        mine = [self.totals[part, of] for part, of in sorted(self.totals) if of == at]
        rows = [values[number].tolist() for number in numbers for values in mine if number < len(values)]
        return [sum(column) for column in zip(*rows, strict=True)]

    def histogram(self, at: int, numbers: list[int]) -> Array:
        """Of one sum of counts and some slices: rows of (bin, examples of class 0, of class 1), bins rising, none empty."""
        import numpy as np

        self.compact()
        cells, counts = self.counts[at]
        size = self.sizes[at]
        parts = []
        for number in numbers:
            begin, end = np.searchsorted(cells, (number * size, (number + 1) * size))
            parts.append((cells[begin:end] - number * size, counts[begin:end]))
        mine, many = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        bins, place = np.unique(mine // 2, return_inverse=True)
        found = np.zeros((len(bins), 3), np.int64)
        found[:, 0] = bins
        np.add.at(found, (place, 1 + mine % 2), many)
        return found

    def _wait(self, at: int, cells: Array, counts: Array) -> None:
        waiting = self._waiting.setdefault(at, [])
        waiting.append((cells, counts))
        merged = len(self.counts[at][0]) if at in self.counts else 0
        if sum(len(cells) for cells, _ in waiting) > max(_COMPACT_AT, merged):
            self._compact(at)

    def _compact(self, at: int) -> None:
        import numpy as np

        parts = self._waiting.pop(at) + ([self.counts[at]] if at in self.counts else [])
        cells, place = np.unique(np.concatenate([cells for cells, _ in parts]), return_inverse=True)
        counts = np.bincount(place, weights=np.concatenate([counts for _, counts in parts]), minlength=len(cells))
        self.counts[at] = (cells, counts.astype(np.int64))


def merged(parts: Iterable[Sums | None]) -> Sums | None:
    """All parts as one, the first of them changed; None for none."""
    first: Sums | None = None
    for part in parts:
        if first is None:
            first = part
        elif part is not None:
            first.merge(part)
    return first


def _plus(old: Array | None, new: Array) -> Array:
    """The sum of two arrays, `new` being as long as `old` or longer."""
    if old is None:
        return new
    new[: len(old)] += old
    return new
