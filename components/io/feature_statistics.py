"""Arrow batches -> TFDV's statistics of them: by its own generators, one partial result per shard and one merge."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa
    import tensorflow_data_validation as tfdv
    from tensorflow_metadata.proto.v0 import statistics_pb2

_GROUPED = 1 << 20  # counts that wait to be summed


@dataclass
class Partial:
    """What some rows amount to, which can be pickled.

    It is as large as the distinct text values among the rows, or, where the options ask for sketches of these, 40 kB a feature.
    """

    rows: int = 0
    accumulators: list[Any] = field(default_factory=list)  # of `Generators.combiners`; empty while there are no rows
    counts: dict[Any, list[pa.Table]] = field(default_factory=dict)  # feature path -> values with their counts

    def held(self) -> dict[str, int]:
        """The bytes that each feature's counts take, by its name."""
        return {str(path): sum(table.nbytes for table in tables) for path, tables in self.counts.items()}

    def sum_counts(self) -> None:
        """Have each value once, in the least room there is."""
        self.counts = {path: [_summed(tables)] for path, tables in self.counts.items()}


class Generators:
    """TFDV's generators for the options given.

    All but one are combiners, used as they are. Top values and numbers of distinct values, which TFDV counts through Beam
    value by value unless the options ask for sketches, are counted here: exactly as well, and with the same order among
    equally frequent ones.
    """

    def __init__(self, options: tfdv.StatsOptions) -> None:
        from tensorflow_data_validation.statistics import stats_impl
        from tensorflow_data_validation.statistics.generators import stats_generator, top_k_uniques_stats_generator
        from tensorflow_data_validation.utils import schema_util

        every = stats_impl.get_generators(options)
        self.combiners = [one for one in every if isinstance(one, stats_generator.CombinerStatsGenerator)]
        for one in self.combiners:
            one.setup()
        others = [one for one in every if one not in self.combiners]
        # Weights and lift come from options that are not set here.
        assert all(isinstance(one, top_k_uniques_stats_generator.TopKUniquesStatsGenerator) for one in others), others
        self._counting = bool(others)
        self._options = options
        self._uncounted = set(schema_util.get_bytes_features(options.schema) if options.schema else ())
        self._categories = (
            schema_util.get_categorical_numeric_feature_types(options.schema) if options.schema is not None else {}
        )

    def add(self, partial: Partial, batch: pa.RecordBatch) -> None:
        """Take the rows of `batch`, whose columns are lists as `tf_example.decode` gives them, into `partial`."""
        if batch.num_rows == 0:
            return
        if not partial.accumulators:
            partial.accumulators = [one.create_accumulator() for one in self.combiners]
        partial.accumulators = [
            one.add_input(accumulator, batch)
            for one, accumulator in zip(self.combiners, partial.accumulators, strict=True)
        ]
        for path, values in self._counted(batch):
            _gather(partial.counts.setdefault(path, []), [_counts(values)])
        partial.rows += batch.num_rows

    def compact(self, partial: Partial) -> Partial:
        """`partial` as small as it can be, to be sent."""
        pairs = zip(self.combiners, partial.accumulators, strict=False)
        compact = Partial(partial.rows, [one.compact(accumulator) for one, accumulator in pairs], partial.counts)
        compact.sum_counts()
        return compact

    def statistics(
        self, partials: Iterable[Partial], before: Callable[[Partial, Partial], None] | None = None
    ) -> statistics_pb2.DatasetFeatureStatisticsList:
        """The statistics of all rows; of nothing, when there are none, one data set without features.

        The partials are taken one by one and are of no use afterwards: TFDV merges into the first, and takes over what it
        lacks from the others. Sums of floats hang on their order. `before` is called with what there is of the whole and the
        partial that comes next.
        """
        from tensorflow_metadata.proto.v0 import statistics_pb2
        from tfx_bsl.statistics import merge_util

        whole = Partial()
        for partial in partials:
            if before is not None:
                before(whole, partial)
            self._merge(whole, partial)
        if not whole.rows:
            return statistics_pb2.DatasetFeatureStatisticsList(datasets=[statistics_pb2.DatasetFeatureStatistics()])
        pairs = zip(self.combiners, whole.accumulators, strict=True)
        found = [one.extract_output(one.compact(accumulator)) for one, accumulator in pairs]
        for path, tables in whole.counts.items():
            found += self._top_values(path, _summed(tables))
        return merge_util.merge_dataset_feature_statistics(found)

    def _merge(self, whole: Partial, partial: Partial) -> None:
        """Take `partial` into `whole`."""
        if not partial.rows:
            return
        if whole.rows:
            several = zip(self.combiners, whole.accumulators, partial.accumulators, strict=True)
            whole.accumulators = [one.merge_accumulators([first, second]) for one, first, second in several]
        else:
            whole.accumulators = partial.accumulators
        for path, tables in partial.counts.items():
            _gather(whole.counts.setdefault(path, []), tables)
        whole.rows += partial.rows

    def _counted(self, batch: pa.RecordBatch) -> Iterator[tuple[Any, pa.Array]]:
        """The features whose values are counted, with the values: text, and integers that are categories."""
        from tensorflow_data_validation.arrow import arrow_util
        from tensorflow_data_validation.utils import stats_util, top_k_uniques_stats_util
        from tensorflow_metadata.proto.v0.statistics_pb2 import FeatureNameStatistics
        from tfx_bsl.arrow import array_util

        if not self._counting:
            return
        for path, column, _ in arrow_util.enumerate_arrays(batch, example_weight_map=None, enumerate_leaves_only=True):
            kind = stats_util.get_feature_type_from_arrow_type(path, column.type)
            if path in self._uncounted or (
                kind != FeatureNameStatistics.STRING
                and not (
                    kind == FeatureNameStatistics.INT
                    and top_k_uniques_stats_util.output_categorical_numeric(self._categories, path, kind)
                )
            ):
                continue
            yield path, array_util.flatten_nested(column)[0]

    def _top_values(self, path: Any, counts: pa.Table) -> list[statistics_pb2.DatasetFeatureStatistics]:
        import numpy as np
        import pyarrow.compute as pc
        from tensorflow_data_validation.utils import top_k_uniques_stats_util as tfdvs

        if len(counts) == 0:
            return []
        options = self._options
        most = max(options.num_top_values, options.num_rank_histogram_buckets)
        if len(counts) > most:
            numbers = counts["count"].to_numpy()
            least = np.partition(numbers, -most)[-most]
            top = counts.filter(pc.greater_equal(counts["count"], least))
        else:
            top = counts
        # Of equally frequent values TFDV lists the greater first.
        order = pc.sort_indices(top, sort_keys=[("count", "descending"), ("value", "descending")])
        top = top.take(order[:most])
        pairs = zip(top["value"].to_pylist(), top["count"].to_pylist(), strict=True)
        top_values = [tfdvs.FeatureValueCount(value, count) for value, count in pairs]
        return [
            tfdvs.make_dataset_feature_stats_proto_topk_single(
                path.steps(),
                top_values,
                is_weighted_stats=False,
                num_top_values=options.num_top_values,
                frequency_threshold=1,
                num_rank_histogram_buckets=options.num_rank_histogram_buckets,
            ),
            tfdvs.make_dataset_feature_stats_proto_unique_single(path.steps(), len(counts)),
        ]


def _counts(values: pa.Array) -> pa.Table:
    import pyarrow as pa

    found = values.value_counts()
    return pa.table({"value": found.field("values"), "count": found.field("counts")})


def _gather(waiting: list[pa.Table], tables: Sequence[pa.Table]) -> None:
    """Append to the counts that wait to be summed, and sum them when they have become many."""
    waiting += tables
    if sum(len(table) for table in waiting[1:]) > max(_GROUPED, len(waiting[0])):
        waiting[:] = [_summed(waiting)]


def _summed(tables: Sequence[pa.Table]) -> pa.Table:
    """Each value once, with the sum of its counts."""
    import pyarrow as pa

    if len(tables) == 1:
        return tables[0]
    grouped = pa.concat_tables(tables).group_by("value").aggregate([("count", "sum")])
    return pa.table({"value": grouped["value"], "count": grouped["count_sum"]})
