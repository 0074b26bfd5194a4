from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from tensorflow_metadata.proto.v0 import statistics_pb2

from components.data.statistics_gen import StatisticsGen
from components.io import columns, tf_example, tfrecord
from schemas.artifacts import Examples, Statistics
from schemas.component import BeamOptions, PartCache, Progress
from schemas.errors import ConfigError, DataError, UnknownSplit


def read(file: Path) -> statistics_pb2.DatasetFeatureStatistics:
    (found,) = statistics_pb2.DatasetFeatureStatisticsList.FromString(file.read_bytes()).datasets
    return found


def run(examples: Examples, to: Path, schema=None, parts: PartCache | None = None, **settings: Any) -> Statistics:
    to.mkdir()
    statistics = Statistics(to)
    StatisticsGen(**settings).run(examples, BeamOptions(), Progress(), statistics, schema, parts or PartCache())
    return statistics


@pytest.mark.slow
def test_statistics_equal_tfxs_field_by_field(
    assert_equal_statistics, taxi_examples, taxi_statistics, tfx, tmp_path
) -> None:
    theirs = Statistics(tmp_path)
    tfx.do("statistics_gen.executor", {"statistics": theirs}, {"examples": taxi_examples})

    assert read(taxi_statistics.file("train")).num_examples == 10_036
    for split in ("train", "eval"):
        assert_equal_statistics(taxi_statistics.file(split), theirs.file(split))


@pytest.mark.slow
def test_tfxs_statistics_of_tfxs_examples_are_ours_of_ours(
    assert_equal_statistics, taxi_statistics, tfx_taxi_examples, tfx, tmp_path
) -> None:
    theirs = Statistics(tmp_path)
    tfx.do("statistics_gen.executor", {"statistics": theirs}, {"examples": tfx_taxi_examples})

    for split in ("train", "eval"):
        assert_equal_statistics(taxi_statistics.file(split), theirs.file(split))


def test_statistics_with_a_schema_equal_tfxs(assert_equal_statistics, small_examples, tfx, schema_of, tmp_path) -> None:
    schema = schema_of('feature { name: "trip_start_hour" type: INT int_domain { is_categorical: true } }')
    theirs = Statistics(tmp_path / "theirs")
    tfx.do("statistics_gen.executor", {"statistics": theirs}, {"examples": small_examples, "schema": schema})

    ours = run(small_examples, tmp_path / "ours", schema)

    (hour,) = (f for f in read(ours.file("train")).features if f.path.step[0] == "trip_start_hour")
    assert hour.HasField("string_stats")
    assert_equal_statistics(ours.file("train"), theirs.file("train"))


@pytest.mark.slow
def test_in_the_place_of_TFX_s_it_counts_the_same_splits_with_the_same_schema(
    assert_equal_statistics, small_examples, schema_of, both_ways, tmp_path
) -> None:
    schema = schema_of('feature { name: "trip_start_hour" type: INT int_domain { is_categorical: true } }')
    step = {
        "uses": "tfx.v1.components.StatisticsGen",
        "with": {"exclude_splits": ["train"]},
        "inputs": {"examples": "example_gen.examples", "schema": "import_schema.schema"},
    }

    ours, theirs = both_ways(tmp_path, step, {"example_gen.examples": small_examples, "import_schema.schema": schema})

    assert ours["statistics"].splits == theirs["statistics"].splits == ("eval",)
    assert_equal_statistics(ours["statistics"].file("eval"), theirs["statistics"].file("eval"))


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


def test_an_empty_split_has_tfxs_statistics_of_nothing(assert_equal_statistics, make_examples, tfx, tmp_path) -> None:
    (tmp_path / "x.csv").write_text("a\n1\n")
    examples = make_examples(source=str(tmp_path / "x.csv"), splits={"none": 1, "train": 10**9})
    theirs = Statistics(tmp_path / "theirs")
    tfx.do("statistics_gen.executor", {"statistics": theirs}, {"examples": examples})

    ours = run(examples, tmp_path / "ours")

    assert read(ours.file("none")).num_examples == 0
    assert_equal_statistics(ours.file("none"), theirs.file("none"))


def test_rows_are_reported_out_of_all(small_examples, tmp_path) -> None:
    reported = []

    class Reported(Progress):
        def __call__(self, done: int, total: int | None = None, unit: str = "rows") -> None:
            reported.append((done, total, unit))

    StatisticsGen().run(small_examples, BeamOptions(), Reported(), Statistics(tmp_path))

    assert reported[-1] == (300, 300, "rows")


# From columns and from records


AWKWARD = {
    "quoted": 'a,b\n"x\ny, ""z""",1\n"x\r\ny",2\n5" pipe,3\n',
    "crlf and bom": "\ufeffa,b\r\n1,2\r\n,4\r\n",
    "missing": "a,b,c\n1,,x\n,,\n3,,y\n,,z\n",
    "big integers": "a,b\n9007199254740993,9223372036854775808\n-9223372036854775808,1\n9007199254740995,2\n",
    "mixed types": "a,b\n1,1\n1.5,x\n2,\n1e400,3\nnan,4\n",
    "unicode": "näme,b\n日本,1\nß😀,2\n日本,3\n",
    "one row": "a,b\n1,x\n",
}


@pytest.mark.parametrize("text", AWKWARD.values(), ids=AWKWARD)
def test_statistics_of_awkward_files_are_tfxs_from_columns_and_from_records(
    assert_equal_statistics, make_examples, tfx, tmp_path, text: str
) -> None:
    (tmp_path / "x.csv").write_bytes(text.encode())
    examples = make_examples(source=str(tmp_path / "x.csv"), splits={"train": 2, "eval": 1})
    theirs = Statistics(tmp_path / "theirs")
    tfx.do("statistics_gen.executor", {"statistics": theirs}, {"examples": examples})

    assert examples.properties["columns"]
    from_columns = run(examples, tmp_path / "columns")
    shutil.rmtree(examples.path / "columns")
    from_records = run(examples, tmp_path / "records")

    for split in ("train", "eval"):
        assert_equal_statistics(from_columns.file(split), theirs.file(split))
        assert_equal_statistics(from_records.file(split), theirs.file(split))


def records_file(directory: Path, *features: dict[str, list]) -> Path:
    from tensorflow.core.example.example_pb2 import Example

    kinds = {int: "int64_list", float: "float_list", bytes: "bytes_list"}
    records = []
    for one in features:
        example = Example()
        for name, values in one.items():
            feature = example.features.feature[name]
            if values:
                getattr(feature, kinds[type(values[0])]).value.extend(values)
        records.append(example.SerializeToString())
    tfrecord.write(directory / "x.tfrecord", records)
    return directory / "x.tfrecord"


def test_statistics_of_several_values_per_record_are_tfxs_from_columns(
    assert_equal_statistics, make_examples, tfx, tmp_path
) -> None:
    file = records_file(
        tmp_path,
        *({"n": list(range(i % 4)), "w": [b"%d" % (j % 3) for j in range(i % 5)], "f": [i / 7]} for i in range(60)),
        {"n": [2**62], "late": [1.5, 2.5], "w": [b"\xff\xfe"]},
        {},
    )
    examples = make_examples(source=str(file), splits={"train": 2, "eval": 1})
    theirs = Statistics(tmp_path / "theirs")
    tfx.do("statistics_gen.executor", {"statistics": theirs}, {"examples": examples})

    ours = run(examples, tmp_path / "ours")

    assert examples.properties["columns"]
    for split in ("train", "eval"):
        assert_equal_statistics(ours.file(split), theirs.file(split))


def test_columns_hold_what_the_records_of_their_shard_hold(make_examples, small_taxi_csv) -> None:
    examples = make_examples(source=str(small_taxi_csv))

    for split in examples.splits:
        for records, kept in zip(examples.files(split), examples.columns(split), strict=True):
            decoded = tf_example.decode(list(tfrecord.read(records)))
            (batch,) = columns.batches(kept)
            assert {n: decoded.column(i).to_pylist() for i, n in enumerate(decoded.schema.names)} == {
                n: batch.column(i).to_pylist() for i, n in enumerate(batch.schema.names)
            }


def test_records_that_disagree_on_a_kind_keep_no_columns_and_the_step_says_so(make_examples, tmp_path, capsys) -> None:
    file = records_file(tmp_path, {"a": [1]}, {"a": [0.5]})

    examples = make_examples(source=str(file), splits={"all": 1})

    assert examples.properties == {"records": {"all": 2}, "columns": False}
    assert examples.columns("all") is None
    assert "no columns are kept" in capsys.readouterr().err


def test_an_artifact_of_tfxs_has_no_columns_and_its_records_are_decoded(tfx, small_taxi_csv, tmp_path, capsys) -> None:
    splits = {"train": 2, "eval": 1}
    theirs = tfx.example_gen(
        "csv_example_gen.executor", small_taxi_csv.parent, small_taxi_csv.name, splits, tmp_path / "e"
    )

    run(theirs, tmp_path / "statistics")

    assert theirs.columns("train") is None
    assert "decoded" in capsys.readouterr().err


def test_columns_of_which_a_shard_is_lacking_are_not_used(assert_equal_statistics, make_examples, tmp_path) -> None:
    for name in "ab":
        (tmp_path / f"{name}.csv").write_text("x\n" + "\n".join(f"{n}{name}" for n in range(20)))
    examples = make_examples(source=str(tmp_path / "?.csv"))
    whole = run(examples, tmp_path / "whole")
    examples.columns("train")[1].unlink()

    assert examples.columns("train") is None
    assert_equal_statistics(run(examples, tmp_path / "part").file("train"), whole.file("train"))


def test_top_values_and_distinct_ones_are_exact_over_shards_also_for_ties(
    assert_equal_statistics, make_examples, tfx, tmp_path
) -> None:
    for part in range(3):
        rows = [f"word{(n * 7919 + part) % 2500}" for n in range(1500)]
        (tmp_path / f"{part}.csv").write_text("w\n" + "\n".join(rows) + "\n")
    examples = make_examples(source=str(tmp_path / "?.csv"), splits={"all": 1})
    theirs = Statistics(tmp_path / "theirs")
    tfx.do("statistics_gen.executor", {"statistics": theirs}, {"examples": examples})

    assert_equal_statistics(run(examples, tmp_path / "ours").file("all"), theirs.file("all"))


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


def test_more_distinct_values_than_the_memory_has_room_for_name_their_feature(make_examples, tmp_path) -> None:
    rows = "".join(f"trip {number:06},card\n" for number in range(2000))
    (tmp_path / "trips.csv").write_text(f"id,payment\n{rows}", encoding="utf-8")
    examples = make_examples(source=str(tmp_path / "trips.csv"), splits={"all": 1})
    to = tmp_path / "statistics"
    to.mkdir()
    tight = BeamOptions(memory=StatisticsGen.LEAST_MEMORY + 60_000)

    with pytest.raises(DataError, match="^feature 'id' has so many distinct values .* with resources.memory"):
        StatisticsGen().run(examples, tight, Progress(), Statistics(to))


def test_values_that_all_shards_share_take_the_room_of_one(make_examples, tmp_path) -> None:
    rows = "".join(f"trip {number:06},card\n" for number in range(2000))
    for part in range(8):
        (tmp_path / f"{part}.csv").write_text(f"id,payment\n{rows}{part},cash\n", encoding="utf-8")
    examples = make_examples(source=str(tmp_path / "?.csv"), splits={"all": 1})
    to = tmp_path / "statistics"
    to.mkdir()

    def count(room: int) -> None:
        tight = BeamOptions(memory=StatisticsGen.LEAST_MEMORY + room)
        StatisticsGen().run(examples, tight, Progress(), Statistics(to))

    count(3 * 2 * 70_000)  # of one shard's values and the next one's; there are eight
    (identifiers,) = (f for f in read(Statistics(to).file("all")).features if f.path.step[0] == "id")
    assert identifiers.string_stats.unique == 2008


def test_different_values_in_every_shard_are_too_many_at_last(make_examples, tmp_path) -> None:
    for part in range(8):
        rows = "".join(f"trip {part}{number:05},card\n" for number in range(2000))
        (tmp_path / f"{part}.csv").write_text(f"id,payment\n{rows}", encoding="utf-8")
    examples = make_examples(source=str(tmp_path / "?.csv"), splits={"all": 1})
    to = tmp_path / "statistics"
    to.mkdir()
    tight = BeamOptions(memory=StatisticsGen.LEAST_MEMORY + 3 * 2 * 70_000)

    with pytest.raises(DataError, match="^feature 'id' has so many distinct values"):
        StatisticsGen().run(examples, tight, Progress(), Statistics(to))


# By shard, and by span


def trips(small_taxi_csv: Path, directory: Path, *days: int) -> str:
    """A source with 40 trips of each day: those of a day are the same whatever the other days."""
    header, *rows = small_taxi_csv.read_text().splitlines()
    directory.mkdir()
    for day in days:
        (directory / f"{day}.csv").write_text("\n".join([header, *rows[40 * day : 40 * day + 40], ""]))
    return str(directory / "*.csv")


def with_spans(examples: Examples, *labels: str) -> Examples:
    """The examples with a span for each of their shards."""
    spans = [
        {"span": int(label), "version": None, "label": label, "shards": [n, n + 1]} for n, label in enumerate(labels)
    ]
    assert len(examples.files("train")) == len(labels)
    return Examples(examples.path, {**examples.properties, "spans": spans})


def every_byte(statistics: Statistics) -> dict[str, bytes]:
    return {str(f.relative_to(statistics.path)): f.read_bytes() for f in statistics.path.rglob("*") if f.is_file()}


@pytest.mark.parametrize("settings", [{}, {"sample_rate": 0.5}], ids=["all rows", "a sample"])
def test_only_shards_that_are_new_are_counted_and_the_statistics_are_the_same_byte_for_byte(
    make_examples, small_taxi_csv, part_cache, tmp_path, settings: dict[str, float]
) -> None:
    first = make_examples(source=trips(small_taxi_csv, tmp_path / "first", 1, 2, 3))
    rolled = make_examples(source=trips(small_taxi_csv, tmp_path / "rolled", 2, 3, 4))

    alone = run(rolled, tmp_path / "alone", **settings)
    run(first, tmp_path / "before", parts=part_cache, **settings)
    assert (len(part_cache.found), len(part_cache.kept)) == (0, 6)
    part_cache.forget()
    with_kept = run(rolled, tmp_path / "with", parts=part_cache, **settings)

    assert (len(part_cache.found), len(part_cache.kept)) == (4, 2), "of two splits, the newest day's shards are counted"
    assert every_byte(with_kept) == every_byte(alone)
    assert sorted(path.name for path in with_kept.path.iterdir()) == ["Split-eval", "Split-train"]


def test_a_sample_of_a_day_is_the_same_wherever_the_day_is_in_the_window(
    make_examples, small_taxi_csv, tmp_path
) -> None:
    examples = [
        with_spans(make_examples(source=trips(small_taxi_csv, tmp_path / name, *days)), *map(str, days))
        for name, days in {"one": (4,), "two": (3, 4), "three": (2, 3, 4)}.items()
    ]

    newest = [
        run(one, tmp_path / f"statistics-{n}", sample_rate=0.5).newest("train").read_bytes()
        for n, one in enumerate(examples)
    ]

    assert newest[0] == newest[1] == newest[2]


def test_nothing_is_counted_where_every_shard_is_kept_and_its_rows_are_reported(
    small_examples, part_cache, tmp_path
) -> None:
    run(small_examples, tmp_path / "before", parts=part_cache)
    part_cache.forget()
    reported = []

    class Reported(Progress):
        def __call__(self, done: int, total: int | None = None, unit: str = "rows") -> None:
            reported.append((done, total, unit))

    nowhere = BeamOptions(runner="NoSuchRunner")
    (tmp_path / "again").mkdir()
    StatisticsGen().run(small_examples, nowhere, Reported(), Statistics(tmp_path / "again"), None, part_cache)

    assert part_cache.kept == []
    assert reported[-1] == (300, 300, "rows")


def test_shards_are_counted_again_under_another_schema_and_another_rate(
    small_examples, part_cache, schema_of, tmp_path
) -> None:
    hour = schema_of('feature { name: "trip_start_hour" type: INT int_domain { is_categorical: true } }')
    run(small_examples, tmp_path / "plain", parts=part_cache)
    run(small_examples, tmp_path / "sample", parts=part_cache, sample_rate=0.5)
    run(small_examples, tmp_path / "schema", hour, parts=part_cache)

    assert part_cache.found == []
    assert len(part_cache.kept) == 6


def test_shards_without_records_are_all_one(make_examples, part_cache, tmp_path) -> None:
    for name in "abc":
        (tmp_path / f"{name}.csv").write_text(f"a\n{name}\n")
    examples = make_examples(source=str(tmp_path / "?.csv"), splits={"none": 1, "train": 10**9})

    run(examples, tmp_path / "statistics", parts=part_cache)

    assert len(part_cache.kept) == 4


def test_statistics_of_the_newest_span_and_of_those_before_it_equal_tfxs_of_the_same_records(
    assert_equal_statistics, make_examples, small_taxi_csv, tfx, tmp_path
) -> None:
    window = with_spans(make_examples(source=trips(small_taxi_csv, tmp_path / "window", 5, 6, 7)), "5", "6", "7")
    chosen = {"whole": (5, 6, 7), "previous": (5, 6), "newest": (7,)}
    theirs = {}
    for name, days in chosen.items():
        examples = make_examples(source=trips(small_taxi_csv, tmp_path / f"of-{name}", *days))
        theirs[name] = Statistics(tmp_path / f"theirs-{name}")
        tfx.do("statistics_gen.executor", {"statistics": theirs[name]}, {"examples": examples})

    ours = run(window, tmp_path / "ours")

    assert ours.properties["newest_span"] == "7"
    assert ours.splits == ("train", "eval")
    for split in ours.splits:
        assert_equal_statistics(ours.file(split), theirs["whole"].file(split))
        assert_equal_statistics(ours.newest(split), theirs["newest"].file(split))
        assert_equal_statistics(ours.previous(split), theirs["previous"].file(split))


def test_a_window_of_one_span_has_none_before_it(make_examples, small_taxi_csv, tmp_path) -> None:
    examples = with_spans(make_examples(source=trips(small_taxi_csv, tmp_path / "window", 3)), "3")

    statistics = run(examples, tmp_path / "statistics", skip_splits=("eval",))

    assert statistics.newest("train").read_bytes() == statistics.file("train").read_bytes()
    assert statistics.previous("train") is None
    with pytest.raises(UnknownSplit, match="no split 'eval'"):
        statistics.newest("eval")


def test_examples_without_spans_have_no_newest(small_statistics) -> None:
    assert small_statistics.newest("train") is None
    assert small_statistics.previous("train") is None
    assert "newest_span" not in small_statistics.properties
