from __future__ import annotations

import gzip
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.data.example_gen import ExampleGen
from components.io import columns, tfrecord
from schemas.artifacts import Examples
from schemas.component import BeamOptions, Progress
from schemas.errors import ConfigError, DataError

SPLITS = {"train": 2, "eval": 1}
EXTERNAL = "pkg://tfx/components/testdata/external"


@pytest.fixture
def external(taxi_csv: Path) -> Path:
    """The same trips in several formats, installed with tfx."""
    return taxi_csv.parents[4] / "components/testdata/external"


@pytest.fixture
def csv_file(tmp_path: Path):
    def write(text: str | bytes, name: str = "data.csv") -> Path:
        file = tmp_path / name
        file.write_bytes(text.encode() if isinstance(text, str) else text)
        return file

    return write


# Equal to TFX


@pytest.mark.slow
def test_every_split_of_the_taxi_trips_has_the_records_tfx_gives_it(taxi_examples, tfx_taxi_examples, records) -> None:
    assert taxi_examples.properties["records"] == {"train": 10_036, "eval": 4_966}
    for split in SPLITS:
        assert records(taxi_examples, split) == records(tfx_taxi_examples, split)


def test_splits_by_a_key_column_are_tfxs(small_taxi_csv, tfx, records, make_examples, tmp_path) -> None:
    splits = {"train": 3, "eval": 1, "test": 1}
    theirs = tfx.example_gen(
        "csv_example_gen.executor", small_taxi_csv.parent, small_taxi_csv.name, splits, tmp_path / "tfx", "company"
    )

    ours = make_examples(source=str(small_taxi_csv), splits=splits, split_by="company")

    assert all(ours.properties["records"].values())
    for split in splits:
        assert records(ours, split) == records(theirs, split)


def test_parquet_records_are_tfxs(external, tfx, records, make_examples, tmp_path) -> None:
    executor = "example_gen.custom_executors.parquet_executor".removeprefix("example_gen.")
    theirs = tfx.example_gen(executor, external / "parquet", "*", SPLITS, tmp_path / "tfx")

    ours = make_examples(source=f"{EXTERNAL}/parquet/*.parquet", splits=SPLITS)

    assert sum(ours.properties["records"].values()) == 10_000
    for split in SPLITS:
        assert records(ours, split) == records(theirs, split)


@pytest.mark.parametrize("split_by", [None, "trip_start_timestamp"])
def test_tfrecord_records_are_tfxs(external, tfx, records, make_examples, tmp_path, split_by) -> None:
    splits = {"one": 3, "two": 4}  # the file itself is a split that TFX made with 2 to 1
    theirs = tfx.example_gen(
        "import_example_gen.executor", external / "tfrecord", "*00001-of-00002.gz", splits, tmp_path / "tfx", split_by
    )

    ours = make_examples(source=f"{EXTERNAL}/tfrecord/*00001-of-00002.gz", splits=splits, split_by=split_by)

    assert min(ours.properties["records"].values()) > 2_000
    for split in splits:
        assert records(ours, split) == records(theirs, split)


def test_cells_over_several_lines_are_tfxs(external, tfx, records, make_examples, tmp_path) -> None:
    directory = external / "csv_multi_line_string"
    theirs = tfx.example_gen("csv_example_gen.executor", directory, "*.csv", SPLITS, tmp_path / "tfx")

    ours = make_examples(source=f"{directory}/*.csv", splits=SPLITS)

    for split in SPLITS:
        assert records(ours, split) == records(theirs, split)


@pytest.mark.slow
def test_in_the_place_of_a_CsvExampleGen_it_reads_the_same_span_into_the_same_splits(
    small_taxi_csv, records, both_ways, tmp_path
) -> None:
    header, *rows = small_taxi_csv.read_text().splitlines()
    for name, kept in {"span-8/v1": rows[:100], "span-9/v1": rows[:200], "span-9/v2": rows[100:]}.items():
        (tmp_path / "data" / name).mkdir(parents=True)
        (tmp_path / "data" / name / "trips.csv").write_text("\n".join([header, *kept, ""]))
    weights = [{"name": name, "hash_buckets": weight} for name, weight in {"train": 3, "eval": 1, "test": 1}.items()]
    settings = {
        "input_base": str(tmp_path / "data"),
        "input_config": {"splits": [{"name": "any", "pattern": "span-{SPAN}/v{VERSION}/*"}]},
        "output_config": {"split_config": {"splits": weights, "partition_feature_name": "company"}},
    }

    ours, theirs = both_ways(tmp_path, {"uses": "tfx.v1.components.CsvExampleGen", "with": settings})

    assert sum(ours["examples"].properties["records"].values()) == 200
    for split in ("train", "eval", "test"):
        assert records(ours["examples"], split) == records(theirs["examples"], split)


# The split of a record


def test_order_and_files_do_not_move_a_record(small_taxi_csv, make_examples, records, csv_file) -> None:
    header, *rows = small_taxi_csv.read_text().splitlines()
    csv_file("\n".join([header, *rows[200:]]), "part-1.csv")
    parts = csv_file("\n".join([header, *rows[199::-1]]), "part-2.csv").parent / "part-*.csv"

    whole, divided = make_examples(source=str(small_taxi_csv)), make_examples(source=str(parts))

    for split in SPLITS:
        assert records(whole, split) == records(divided, split)


def test_a_changed_type_moves_whole_records_but_not_those_split_by_a_key(make_examples, csv_file) -> None:
    rows = [f"k{n},{n}" for n in range(60)]
    before = csv_file("key,x\n" + "\n".join(rows), "before.csv")
    after = csv_file("key,x\n" + "\n".join([*rows, "other,n/a"]), "after.csv")

    def train(source: Path, split_by: str | None) -> set[bytes]:
        from tensorflow.core.example.example_pb2 import Example

        examples = make_examples(source=str(source), split_by=split_by)
        found = (Example.FromString(r) for file in examples.files("train") for r in tfrecord.read(file))
        return {e.features.feature["key"].bytes_list.value[0] for e in found} - {b"other"}

    assert train(before, None) != train(after, None)
    assert train(before, "key") == train(after, "key")


def test_rows_of_one_key_share_a_split(make_examples, csv_file, records) -> None:
    rows = [f"{n % 7},{n}" for n in range(100)]
    examples = make_examples(source=str(csv_file("day,x\n" + "\n".join(rows))), split_by="day")

    def days(split: str) -> set[int]:
        from tensorflow.core.example.example_pb2 import Example

        return {Example.FromString(r).features.feature["day"].int64_list.value[0] for r in records(examples, split)}

    assert days("train")
    assert days("train") & days("eval") == set()


def test_the_same_input_gives_the_same_bytes(small_taxi_csv, make_examples) -> None:
    first, second = make_examples(source=str(small_taxi_csv)), make_examples(source=str(small_taxi_csv))

    for split in SPLITS:
        assert [f.read_bytes() for f in first.files(split)] == [f.read_bytes() for f in second.files(split)]


def test_splits_are_the_same_however_they_are_written_down(small_taxi_csv, make_examples, records) -> None:
    one = make_examples(source=str(small_taxi_csv), splits={"train": 2, "eval": 1})
    other = make_examples(source=str(small_taxi_csv), splits={"eval": 1, "train": 2})

    assert records(one, "train") == records(other, "train")


def test_a_long_csv_file_becomes_several_shards_in_the_order_of_its_rows(make_examples, csv_file) -> None:
    from tensorflow.core.example.example_pb2 import Example

    long = "x" * 100_000
    source = str(csv_file("n,text\n" + "".join(f"{n},{long}\n" for n in range(1, 1001)) + "1001,short\n"))

    examples, again = (make_examples(source=source, splits={"all": 1}) for _ in range(2))

    files = examples.files("all")
    assert [file.name for file in files] == [f"data_tfrecord-0000{n}-of-00002.gz" for n in range(2)]
    found = [
        Example.FromString(record).features.feature["n"].int64_list.value[0]
        for f in files
        for record in tfrecord.read(f)
    ]
    assert found == list(range(1, 1002))
    kept = [
        n for file in examples.columns("all") for batch in columns.batches(file) for n in batch.column(0).to_pylist()
    ]
    assert kept == [[n] for n in found]
    for of in (Examples.files, Examples.columns):
        assert [file.read_bytes() for file in of(examples, "all")] == [file.read_bytes() for file in of(again, "all")]


def test_a_split_that_gets_no_record_has_an_empty_file(make_examples, csv_file) -> None:
    examples = make_examples(source=str(csv_file("a,b\n1,2\n")), splits={"rare": 1, "train": 10**9})

    assert examples.properties["records"] == {"rare": 0, "train": 1}
    assert [list(tfrecord.read(file)) for file in examples.files("rare")] == [[]]


# Formats


def test_gzipped_csv_and_tfrecord_hold_what_the_plain_files_do(
    small_taxi_csv, make_examples, records, tmp_path
) -> None:
    plain = make_examples(source=str(small_taxi_csv))
    (tmp_path / "trips.csv.gz").write_bytes(gzip.compress(small_taxi_csv.read_bytes()))
    tfrecord.write(
        tmp_path / "trips.tfrecord", [r for split in SPLITS for f in plain.files(split) for r in tfrecord.read(f)]
    )

    zipped = make_examples(source=str(tmp_path / "*.csv.gz"))
    again = make_examples(source=str(tmp_path / "trips.tfrecord"))

    for split in SPLITS:
        assert records(zipped, split) == records(plain, split) == records(again, split)


def test_lines_before_the_header_are_skipped_and_a_missing_header_is_named(make_examples, records, csv_file) -> None:
    plain = make_examples(source=str(csv_file("a,b\n1,x\n2,y\n", "plain.csv")))
    noted = make_examples(source=str(csv_file('made "today"\n\na,b\n1,x\n2,y\n', "noted.csv")), skip_rows=2)
    headless = make_examples(source=str(csv_file("1,x\n2,y\n", "headless.csv")), columns=("a", "b"))

    for split in SPLITS:
        assert records(plain, split) == records(noted, split) == records(headless, split)


def test_dropped_columns_are_in_no_record_and_move_none_but_may_be_the_key(make_examples, records, csv_file) -> None:
    rows = [(n % 7, f"name {n}", n / 2) for n in range(60)]
    plain = csv_file("day,x\n" + "".join(f"{day},{x}\n" for day, _, x in rows), "plain.csv")
    named = csv_file("day,name,x\n" + "".join(f"{day},{name},{x}\n" for day, name, x in rows), "named.csv")
    pq.write_table(
        pa.table({"name": [row[1] for row in rows], "x": [1 + row[2] for row in rows]}), named.parent / "named.parquet"
    )
    pq.write_table(pa.table({"x": [1 + row[2] for row in rows]}), named.parent / "plain.parquet")

    for source, dropping in ((plain, named), (plain.with_suffix(".parquet"), named.with_suffix(".parquet"))):
        expected, found = make_examples(source=str(source)), make_examples(source=str(dropping), drop_columns=("name",))
        for split in SPLITS:
            assert records(found, split) == records(expected, split)
            assert [file.read_bytes() for file in found.columns(split)] == [
                file.read_bytes() for file in expected.columns(split)
            ]
    by_day = make_examples(source=str(named), drop_columns=("day", "name"), split_by="day")
    assert by_day.properties["records"] == make_examples(source=str(plain), split_by="day").properties["records"]


def test_types_are_inferred_over_all_files(make_examples, csv_file, records) -> None:
    from tensorflow.core.example.example_pb2 import Example

    csv_file("x,y\n1,2\n", "a.csv")
    source = csv_file("x,y\n1.5,\n", "b.csv").parent / "?.csv"

    examples = make_examples(source=str(source), splits={"all": 1})

    found = [Example.FromString(record).features.feature for record in records(examples, "all")]
    assert {tuple(f["x"].float_list.value) for f in found} == {(1.0,), (1.5,)}
    assert {tuple(f["y"].int64_list.value) for f in found} == {(2,), ()}


def test_rows_are_reported_while_they_pass(small_taxi_csv, tmp_path) -> None:
    reported = []

    class Reported(Progress):
        def __call__(self, done: int, total: int | None = None, unit: str = "rows") -> None:
            reported.append((done, unit))

    ExampleGen(source=str(small_taxi_csv)).run(BeamOptions(), Reported(), Examples(tmp_path))

    assert reported[-1] == (300, "rows")


# Bad input


def test_a_short_row_is_told_with_file_and_line(make_examples, csv_file) -> None:
    file = csv_file('a,b\n1,"x\ny"\n2\n')

    with pytest.raises(DataError, match=rf"^{file}, line 4: the header has 2 columns, this row has 1: '2'"):
        make_examples(source=str(file))


def test_files_with_other_columns_are_told_with_both_names(make_examples, csv_file) -> None:
    first, second = csv_file("a,b\n1,2\n", "a.csv"), csv_file("a,c\n1,2\n", "b.csv")

    with pytest.raises(DataError, match=f"{second}: .* {first}: it lacks 'b'; 'c' is new"):
        make_examples(source=str(first.parent / "?.csv"))


def test_parquet_files_whose_types_differ_are_told(make_examples, tmp_path) -> None:
    pq.write_table(pa.table({"x": [1]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"x": ["1"]}), tmp_path / "b.parquet")

    with pytest.raises(DataError, match=r"b\.parquet: .*'x' is bytes, not int"):
        make_examples(source=str(tmp_path / "*.parquet"))


def test_a_parquet_column_that_is_null_in_one_file_goes_with_any_type(make_examples, tmp_path) -> None:
    pq.write_table(pa.table({"x": pa.nulls(1), "y": [1]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"x": ["1"], "y": [2]}), tmp_path / "b.parquet")

    assert sum(make_examples(source=str(tmp_path / "*.parquet")).properties["records"].values()) == 2


def test_a_key_column_that_is_not_there_is_told_with_the_nearest(make_examples, small_taxi_csv) -> None:
    with pytest.raises(DataError, match="no column 'compny' to split by. Did you mean 'company'?"):
        make_examples(source=str(small_taxi_csv), split_by="compny")


def test_a_column_to_drop_that_is_not_there_is_told_with_the_nearest(make_examples, small_taxi_csv) -> None:
    with pytest.raises(ConfigError, match=r"drop_columns: .* has no column 'compny'. Did you mean 'company'?"):
        make_examples(source=str(small_taxi_csv), drop_columns=("compny",))
    with pytest.raises(ConfigError, match=r"drop_columns: there is no column 'c' among 'columns'"):
        ExampleGen(source="x.csv", columns=("a", "b"), drop_columns=("c",))


def test_dropping_every_column_is_refused(make_examples, csv_file) -> None:
    with pytest.raises(ConfigError, match="drop_columns: nothing is left"):
        make_examples(source=str(csv_file("a,b\n1,2\n")), drop_columns=("a", "b"))


def test_a_key_of_floats_is_refused_in_every_format(make_examples, small_taxi_csv) -> None:
    for source in (str(small_taxi_csv), f"{EXTERNAL}/parquet/*", f"{EXTERNAL}/tfrecord/*"):
        with pytest.raises(DataError, match="'fare' cannot be split by: it holds floats"):
            make_examples(source=source, split_by="fare")


def test_a_tf_example_without_the_key_is_told_with_its_number(make_examples) -> None:
    with pytest.raises(DataError, match="record 1 has no feature 'compny' to split by. Did you mean 'company'?"):
        make_examples(source=f"{EXTERNAL}/tfrecord/*", split_by="compny")


def test_files_without_a_row_are_refused(make_examples, csv_file) -> None:
    with pytest.raises(DataError, match="not one row"):
        make_examples(source=str(csv_file("a,b\n\n\n")))


def test_one_file_without_rows_among_others_is_taken(make_examples, csv_file) -> None:
    csv_file("a,b\n", "a.csv")
    source = csv_file("a,b\n1,2\n", "b.csv").parent / "?.csv"

    assert sum(make_examples(source=str(source)).properties["records"].values()) == 1


def test_an_empty_file_is_refused(make_examples, csv_file) -> None:
    with pytest.raises(DataError, match=r"data\.csv: the file is empty"):
        make_examples(source=str(csv_file("")))


def test_records_that_are_not_tf_examples_are_refused(make_examples, tmp_path) -> None:
    tfrecord.write(tmp_path / "x.tfrecord", [b"hello"])

    with pytest.raises(DataError, match=r"x\.tfrecord: record 1 is not a tf\.Example"):
        make_examples(source=str(tmp_path / "x.tfrecord"))
    with pytest.raises(DataError, match="another type than tf.Example"):
        make_examples(source=f"{EXTERNAL}/tfrecord_sequence/*")


def test_files_of_two_formats_are_told_apart(make_examples, csv_file, tmp_path) -> None:
    csv_file("a\n1\n")
    pq.write_table(pa.table({"a": [1]}), tmp_path / "data.parquet")

    with pytest.raises(DataError, match=r"data\.csv is a csv file and .*data\.parquet is a parquet file"):
        make_examples(source=str(tmp_path / "data.*"))


def test_a_name_that_tells_no_format_needs_the_setting(make_examples, csv_file) -> None:
    file = csv_file("a,b\n1,2\n", "data.txt")

    with pytest.raises(DataError, match="Give 'format', one of csv, parquet, tfrecord"):
        make_examples(source=str(file))
    assert make_examples(source=str(file), format="csv").properties["records"]


def test_every_wrong_setting_is_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        ExampleGen(source=" ", format="cvs", splits={"a b": 1}, skip_rows=-1, columns=("x", "x"), split_by="y")

    settings = [problem.partition(":")[0] for problem in caught.value.problems]
    assert sorted(settings) == ["columns", "format", "skip_rows", "source", "split_by", "splits"]
    assert "Did you mean 'csv'?" in str(caught.value)


def test_settings_of_csv_are_refused_for_other_formats(make_examples) -> None:
    with pytest.raises(ConfigError, match="skip_rows: only CSV"):
        ExampleGen(source="x", format="parquet", skip_rows=1)
    with pytest.raises(ConfigError, match="columns: only CSV"):
        make_examples(source=f"{EXTERNAL}/parquet/*", columns=("a",))
    with pytest.raises(ConfigError, match="drop_columns: only CSV and Parquet"):
        make_examples(source=f"{EXTERNAL}/tfrecord/*", drop_columns=("fare",))


def test_a_file_that_vanished_leaves_an_error_that_names_it(make_examples, tmp_path) -> None:
    shutil.rmtree(tmp_path / "data", ignore_errors=True)

    with pytest.raises(DataError, match="There is no directory .*data"):
        make_examples(source=str(tmp_path / "data" / "trips.csv"))
