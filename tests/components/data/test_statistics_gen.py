from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tensorflow_metadata.proto.v0 import statistics_pb2

from components.data.statistics_gen import StatisticsGen
from schemas.artifacts import Examples, Statistics
from schemas.component import BeamOptions, Progress
from schemas.errors import ConfigError, DataError, UnknownSplit

TEN_DIGITS = 1e-10  # means and deviations depend, in their last digits, on how TFX happens to batch the rows


def read(file: Path) -> statistics_pb2.DatasetFeatureStatistics:
    (found,) = statistics_pb2.DatasetFeatureStatisticsList.FromString(file.read_bytes()).datasets
    return found


def fields(message: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every scalar of a message with its path; features by name, so that their order does not matter."""
    for field, value in message.ListFields():
        for index, item in enumerate(value) if field.label == field.LABEL_REPEATED else [("", value)]:
            at = f"{path}.{field.name}[{item.path.step[0] if field.name == 'features' else index}]"
            if field.type == field.TYPE_MESSAGE:
                yield from fields(item, at)
            else:
                yield at, item


def assert_equal(ours: Path, theirs: Path, tolerance: float = TEN_DIGITS) -> None:
    found, expected = dict(fields(read(ours))), dict(fields(read(theirs)))

    assert found.keys() == expected.keys()
    for at, value in expected.items():
        assert found[at] == (pytest.approx(value, rel=tolerance) if isinstance(value, float) else value), at


def run(examples: Examples, to: Path, schema=None, **settings: Any) -> Statistics:
    to.mkdir()
    statistics = Statistics(to)
    StatisticsGen(**settings).run(examples, BeamOptions(), Progress(), statistics, schema)
    return statistics


@pytest.mark.slow
def test_statistics_equal_tfxs_field_by_field(taxi_examples, taxi_statistics, tfx, tmp_path) -> None:
    theirs = Statistics(tmp_path)
    tfx.do("statistics_gen.executor", {"statistics": theirs}, {"examples": taxi_examples})

    assert read(taxi_statistics.file("train")).num_examples == 10_036
    for split in ("train", "eval"):
        assert_equal(taxi_statistics.file(split), theirs.file(split))


@pytest.mark.slow
def test_tfxs_statistics_of_tfxs_examples_are_ours_of_ours(taxi_statistics, tfx_taxi_examples, tfx, tmp_path) -> None:
    theirs = Statistics(tmp_path)
    tfx.do("statistics_gen.executor", {"statistics": theirs}, {"examples": tfx_taxi_examples})

    for split in ("train", "eval"):
        assert_equal(taxi_statistics.file(split), theirs.file(split))


def test_statistics_with_a_schema_equal_tfxs(small_examples, tfx, schema_of, tmp_path) -> None:
    schema = schema_of('feature { name: "trip_start_hour" type: INT int_domain { is_categorical: true } }')
    theirs = Statistics(tmp_path / "theirs")
    tfx.do("statistics_gen.executor", {"statistics": theirs}, {"examples": small_examples, "schema": schema})

    ours = run(small_examples, tmp_path / "ours", schema)

    (hour,) = (f for f in read(ours.file("train")).features if f.path.step[0] == "trip_start_hour")
    assert hour.HasField("string_stats")
    assert_equal(ours.file("train"), theirs.file("train"))


def test_the_same_examples_give_the_same_bytes(small_examples, small_statistics, tmp_path) -> None:
    again = run(small_examples, tmp_path / "again")

    for split in small_statistics.splits:
        assert again.file(split).read_bytes() == small_statistics.file(split).read_bytes()


def test_a_split_that_is_skipped_has_no_statistics(small_examples, tmp_path) -> None:
    statistics = run(small_examples, tmp_path / "statistics", skip_splits=("train",))

    assert statistics.splits == ("eval",)
    assert statistics.properties == {"features": 18}


def test_a_sample_is_a_share_of_rows_and_the_same_one_each_time(small_examples, tmp_path) -> None:
    first = run(small_examples, tmp_path / "first", sample_rate=0.5)
    second = run(small_examples, tmp_path / "second", sample_rate=0.5)

    whole, sampled = small_examples.properties["records"]["train"], read(first.file("train")).num_examples
    assert 0.3 * whole < sampled < 0.7 * whole
    assert first.file("train").read_bytes() == second.file("train").read_bytes()


def test_an_empty_split_has_tfxs_statistics_of_nothing(make_examples, tfx, tmp_path) -> None:
    (tmp_path / "x.csv").write_text("a\n1\n")
    examples = make_examples(source=str(tmp_path / "x.csv"), splits={"none": 1, "train": 10**9})
    theirs = Statistics(tmp_path / "theirs")
    tfx.do("statistics_gen.executor", {"statistics": theirs}, {"examples": examples})

    ours = run(examples, tmp_path / "ours")

    assert read(ours.file("none")).num_examples == 0
    assert_equal(ours.file("none"), theirs.file("none"))


def test_rows_are_reported_out_of_all(small_examples, tmp_path) -> None:
    reported = []

    class Reported(Progress):
        def __call__(self, done: int, total: int | None = None, unit: str = "rows") -> None:
            reported.append((done, total, unit))

    StatisticsGen().run(small_examples, BeamOptions(), Reported(), Statistics(tmp_path))

    assert reported[-1] == (300, 300, "rows")


def test_a_damaged_record_file_is_named(make_examples, small_taxi_csv, tmp_path) -> None:
    examples = make_examples(source=str(small_taxi_csv))
    (file,) = examples.files("eval")
    file.write_bytes(file.read_bytes()[:-30])
    shutil.rmtree(examples.path / "columns")

    with pytest.raises(DataError, match=f"^{file}: record"):
        run(examples, tmp_path / "statistics")


def test_a_damaged_file_of_columns_is_named(make_examples, small_taxi_csv, tmp_path) -> None:
    examples = make_examples(source=str(small_taxi_csv))
    (file,) = examples.columns("eval")
    file.write_bytes(file.read_bytes()[:-30])

    with pytest.raises(DataError, match=f"^{file}: cannot be read"):
        run(examples, tmp_path / "statistics")


def test_a_split_to_skip_that_is_not_there_is_told_with_the_nearest(small_examples, tmp_path) -> None:
    with pytest.raises(UnknownSplit, match="no split 'evl': Examples has train, eval. Did you mean 'eval'?"):
        run(small_examples, tmp_path / "statistics", skip_splits=("evl",))


def test_skipping_every_split_is_refused(small_examples, tmp_path) -> None:
    with pytest.raises(UnknownSplit, match="no split is left"):
        run(small_examples, tmp_path / "statistics", skip_splits=("train", "eval"))


@pytest.mark.parametrize("rate", [0.0, -0.1, 1.1, float("nan")])
def test_a_rate_that_is_no_fraction_is_refused(rate: float) -> None:
    with pytest.raises(ConfigError, match="^sample_rate: "):
        StatisticsGen(sample_rate=rate)
