"""Rows -> slices: TFMA's own slicing, asked once for every distinct combination of values."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing import TypeAlias

    import numpy as np

    Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]


class Unordered(Exception):
    """A value that is not equal to itself, or equal to one that looks different, so that nobody can group by it."""


@dataclass(frozen=True)
class Column:
    """What each row has of one feature: `codes` [rows], -1 for no value, else the place of the row's values in `found`."""

    codes: Array
    found: list[Array]  # each [values], not empty

    @classmethod
    def dense(cls, values: Array) -> Column:
        """Of a tensor [rows, ...]. Raises Unordered for floats that cannot be grouped by."""
        import numpy as np

        rows = len(values)
        flat = values.reshape(rows, -1) if rows else values.reshape(0, 1)
        if flat.shape[1] == 1:
            return cls._single(flat[:, 0], np.arange(rows), rows)
        return cls._several(flat.ravel(), np.full(rows, flat.shape[1]))

    @classmethod
    def sparse(cls, values: Array, of_row: Array, rows: int) -> Column:
        """Of `values` that belong to the rows `of_row`, rising. Raises as `dense` does."""
        import numpy as np

        lengths = np.bincount(of_row, minlength=rows)
        return cls._single(values, of_row, rows) if lengths.max(initial=0) <= 1 else cls._several(values, lengths)

    @classmethod
    def _single(cls, values: Array, of_row: Array, rows: int) -> Column:
        import numpy as np

        found, codes_of_values = _distinct(values)
        codes = np.full(rows, -1)
        codes[of_row] = codes_of_values
        return cls(codes, list(found.reshape(-1, 1)))

    @classmethod
    def _several(cls, values: Array, lengths: Array) -> Column:
        import numpy as np

        _distinct(values)  # for what it refuses
        ends = np.cumsum(lengths)
        codes = np.full(len(lengths), -1)
        known: dict[Hashable, int] = {}
        found: list[Array] = []
        for row in np.flatnonzero(lengths):
            mine = values[ends[row] - lengths[row] : ends[row]]
            codes[row] = known.setdefault(tuple(mine.tolist()), len(found))
            if codes[row] == len(found):
                found.append(mine)
        return cls(codes, found)


@dataclass
class RowSlices:
    """The slices of every row of a batch, as SlicingSpecs describe them.

    TFMA looks a feature up among what each model's preprocessing gives, all models' values together, and only then among
    the raw ones.
    """

    specs: list[Any]  # TFMA's SingleSliceSpec
    named: list[tuple[str, ...]]  # the features that each of them needs
    _known: list[dict[Hashable, list[Any]]] = field(default_factory=list)

    @classmethod
    def of(cls, config: Any) -> RowSlices:
        """For an EvalConfig."""
        from tensorflow_model_analysis.slicer.slicer_lib import SingleSliceSpec

        specs, named = [], []
        for spec in config.slicing_specs:
            specs.append(SingleSliceSpec(spec=spec))
            named.append(tuple(sorted({*spec.feature_keys, *spec.feature_values})))
        return cls(specs, named, [{} for _ in specs])

    def members(
        self,
        rows: int,
        transformed: Sequence[Mapping[str, Column]],
        raw: Mapping[str, Column],
        number: Callable[[Any], int],
    ) -> Iterator[tuple[Array | None, Array]]:
        """(rows, numbers of their slices) of each description; rows None for all of them, in order.

        `number` gives the number of a slice by its key. A row is never twice in one slice.
        """
        import numpy as np

        by_features: dict[tuple[str, ...], list[tuple[Array, Array]]] = {}
        for spec, named, known in zip(self.specs, self.named, self._known, strict=True):
            if not named:
                yield None, np.full(rows, number(()))
                continue
            by_features.setdefault(named, []).append(self._of_spec(spec, named, known, rows, transformed, raw, number))
        for parts in by_features.values():
            if len(parts) == 1:
                yield parts[0]
                continue
            # [hour] and [{hour: 3}] describe the same slice.
            pairs = np.unique(np.concatenate([np.stack(part, axis=1) for part in parts]), axis=0)
            yield pairs[:, 0], pairs[:, 1]

    def _of_spec(
        self,
        spec: Any,
        named: tuple[str, ...],
        known: dict[Hashable, list[Any]],
        rows: int,
        transformed: Sequence[Mapping[str, Column]],
        raw: Mapping[str, Column],
        number: Callable[[Any], int],
    ) -> tuple[Array, Array]:
        import numpy as np
        from tensorflow_model_analysis.slicer.slice_accessor import SliceAccessor

        sources = [*transformed, raw]
        used = [(at, name, source[name]) for at, source in enumerate(sources) for name in named if name in source]
        combined = np.zeros(rows, np.int64)
        for _, _, column in used:
            # Renumbered each time, so that no product of sizes can overflow.
            _, combined = np.unique(combined * (len(column.found) + 1) + column.codes + 1, return_inverse=True)
        _, first, of_row = np.unique(combined, return_index=True, return_inverse=True)
        numbers: list[list[int]] = []
        for row in first:
            values = [column.found[column.codes[row]] if column.codes[row] >= 0 else None for _, _, column in used]
            key = tuple(None if value is None else tuple(value.tolist()) for value in values)
            if key not in known:
                features: list[dict[str, Any]] = [{} for _ in sources]
                for (at, name, _), value in zip(used, values, strict=True):
                    if value is not None:
                        features[at][name] = value
                accessor = SliceAccessor(features[:-1], features[-1])
                known[key] = list(dict.fromkeys(spec.generate_slices(accessor)))
            numbers.append([number(slice_key) for slice_key in known[key]])
        many = np.array([len(every) for every in numbers], np.int64)
        flat = np.array([one for every in numbers for one in every], np.int64)
        starts = np.cumsum(many) - many
        lengths = many[of_row]
        members = np.repeat(np.arange(rows), lengths)
        within = np.arange(len(members)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        return members, flat[np.repeat(starts[of_row], lengths) + within] if len(flat) else flat


def _distinct(values: Array) -> tuple[Array, Array]:
    """(distinct values, the place among them of each)."""
    import numpy as np

    if values.dtype.kind == "f" and (np.isnan(values).any() or (np.signbit(values) & (values == 0)).any()):
        raise Unordered
    if values.dtype.kind != "O":
        return np.unique(values, return_inverse=True)
    import pyarrow as pa

    coded = pa.array(values, pa.large_binary()).dictionary_encode()
    found = np.empty(len(coded.dictionary), object)
    found[:] = coded.dictionary.to_pylist()
    return found, coded.indices.to_numpy(zero_copy_only=False)
