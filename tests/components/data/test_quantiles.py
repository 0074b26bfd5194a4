"""How exact StatisticsGen's quantiles and histograms are: on 150,000 rows, in one shard and in several."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tensorflow_metadata.proto.v0 import statistics_pb2

from components.data.statistics_gen import StatisticsGen
from schemas.artifacts import Statistics
from schemas.component import BeamOptions, Progress

ROWS = 150_000
BOUND = 0.002  # fraction of the rows; TFDV promises 0.01 of its sketch


def values() -> dict[str, Any]:
    random = np.random.default_rng(7)
    return {
        "normal": random.normal(size=ROWS).astype(np.float32),
        "skewed": random.lognormal(0, 2, ROWS).astype(np.float32),
        "repeated": random.poisson(3, ROWS),
        "rising": np.arange(ROWS),
    }


def rank_errors(found: statistics_pb2.DatasetFeatureStatistics, exact: dict[str, Any]) -> dict[str, float]:
    """Per feature and histogram the largest distance of a bucket's end from its place, as a fraction of the rows.

    An end among equal values has all their places.
    """
    errors = {}
    for feature in found.features:
        name = feature.path.step[0] if feature.path.step else feature.name
        ordered = np.sort(exact[name].astype(np.float64))
        for histogram in feature.num_stats.histograms:
            kind = statistics_pb2.Histogram.HistogramType.Name(histogram.type)
            claimed = np.cumsum([bucket.sample_count for bucket in histogram.buckets])[:-1] / ROWS
            ends = [bucket.high_value for bucket in histogram.buckets][:-1]
            below, up_to = (np.searchsorted(ordered, ends, side) / ROWS for side in ("left", "right"))
            errors[f"{name} {kind}"] = float(np.maximum(np.maximum(below - claimed, claimed - up_to), 0).max())
    return errors


@pytest.mark.slow
def test_the_ends_of_buckets_are_near_their_ranks_as_TFDVs_are_in_one_shard_and_in_several(
    make_examples, tmp_path: Path
) -> None:
    import pandas
    import tensorflow_data_validation as tfdv

    exact = values()
    frame = pandas.DataFrame(exact)
    worst = {}
    for shards in (1, 5):
        directory = tmp_path / f"in_{shards}"
        directory.mkdir()
        for number, rows in enumerate(np.array_split(np.arange(ROWS), shards)):
            frame.iloc[rows].to_csv(directory / f"{number}.csv", index=False)
        examples = make_examples(source=f"{directory}/*.csv", splits={"all": 1})
        statistics = Statistics(tmp_path / f"statistics_{shards}")
        statistics.path.mkdir()
        StatisticsGen().run(examples, BeamOptions(), Progress(), statistics)
        (found,) = statistics_pb2.DatasetFeatureStatisticsList.FromString(statistics.file("all").read_bytes()).datasets
        worst[shards] = rank_errors(found, exact)
    theirs = rank_errors(tfdv.generate_statistics_from_dataframe(frame, n_jobs=1).datasets[0], exact)
    assert len(theirs) == 8
    assert worst[1] == pytest.approx(theirs)
    assert max(worst[1].values()) < BOUND
    assert max(worst[5].values()) < BOUND
