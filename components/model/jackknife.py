"""TFMA's jackknife over sums: examples are dealt into buckets, and metrics computed again without each of them.

A confidence interval is of Student's t distribution, from the spread of the metric over what is left without one bucket
(the delete-d jackknife of tensorflow_model_analysis/evaluators/jackknife.py, whose own function makes it from the values).
TFMA deals by chance; here it is a sequence of random numbers that is the same for the same shard.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from typing import TYPE_CHECKING, Any, cast

from components.model.sums import Sums

if TYPE_CHECKING:
    from typing import TypeAlias

    import numpy as np

    from components.model.known_metrics import Plan

    Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]

BUCKETS = 20  # TFMA's number


def dealer(part: int) -> Callable[[int], Array]:
    """A function that gives the buckets of the next examples of shard `part`, by their number: 0 <= bucket < BUCKETS."""
    import numpy as np

    chance = np.random.Generator(np.random.PCG64([part]))
    return lambda rows: chance.integers(BUCKETS, size=rows)


class Dealt:
    """The numbers of slices in `Sums`, one for each slice and bucket: the key is (key of the slice, bucket)."""

    def __init__(self, sums: Sums) -> None:
        self._sums = sums
        self._numbers: dict[Hashable, int] = {}
        self._keys: list[Hashable] = []

    def number(self, key: Hashable) -> int:
        """The number of the slice `key` before it is dealt."""
        if key not in self._numbers:
            self._numbers[key] = len(self._keys)
            self._keys.append(key)
        return self._numbers[key]

    def deal(
        self, members: Iterator[tuple[Array | None, Array]], buckets: Array
    ) -> Iterator[tuple[Array | None, Array]]:
        """`members`, (rows, numbers of their slices), with the numbers that slice and bucket have together."""
        import numpy as np

        for rows, numbers in members:
            together = numbers * BUCKETS + (buckets if rows is None else buckets[rows])
            found, place = np.unique(together, return_inverse=True)
            dealt = [self._sums.number((self._keys[one // BUCKETS], one % BUCKETS)) for one in found.tolist()]
            yield rows, np.array(dealt, np.int64)[place] if len(dealt) else together


def results(plan: Plan, sums: Sums, config: Any) -> Iterator[tuple[Any, dict[Any, Any]]]:
    """(slice key, {MetricKey: value}) of every slice, with intervals, as TFMA's evaluator gives them."""
    from tensorflow_model_analysis.evaluators import confidence_intervals_util, jackknife
    from tensorflow_model_analysis.metrics import metric_specs

    without = metric_specs.metric_keys_to_skip_for_confidence_intervals(list(config.metrics_specs), eval_config=config)
    combine = jackknife._JackknifeSampleCombineFn(BUCKETS, without)
    of_slice: dict[Any, dict[int, int]] = {}
    for dealt, number in sums.slices.items():
        key, bucket = cast("tuple[Any, int]", dealt)
        of_slice.setdefault(key, {})[bucket] = number
    for key, by_bucket in of_slice.items():
        samples = combine.create_accumulator()
        numbers = [by_bucket[bucket] for bucket in sorted(by_bucket)]
        for bucket in range(BUCKETS):
            left = [number for number in numbers if number != by_bucket.get(bucket)]
            if left:
                found = confidence_intervals_util.SampleMetrics(plan.values(sums, left), bucket)
                samples = combine.add_input(samples, found)
        whole = confidence_intervals_util.SampleMetrics(plan.values(sums, numbers), jackknife._FULL_SAMPLE_ID)
        yield key, combine.extract_output(combine.add_input(samples, whole))
