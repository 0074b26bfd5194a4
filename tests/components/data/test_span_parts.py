"""What ExampleGen makes of a source with spans is the same whatever was kept before, and only what is new is made."""

from __future__ import annotations

import hashlib
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.data.example_gen import ExampleGen
from components.io import tfrecord
from pipeline.manifest import digest_tree
from schemas.artifacts import Examples
from schemas.component import BeamOptions, InputFile, PartCache, PlannedFiles, Progress
from schemas.errors import ConfigError, DataError
from schemas.input_files import FoundFile

SPLITS = {"train": 2, "eval": 1}
DAYS = "data/{SPAN}/*.csv"


@pytest.fixture
def day(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Writes the rows of a span, 40 of them unless they are given, in as many files as is asked."""
    monkeypatch.chdir(tmp_path)

    def write(number: int, *rows: str, files: int = 1, directory: str | None = None) -> None:
        given = list(rows) or [f"{number * 100 + row},{row / 4},name {row % 7}" for row in range(40)]
        at = tmp_path / "data" / (directory or str(number))
        at.mkdir(parents=True, exist_ok=True)
        for file in range(files):
            (at / f"{file}.csv").write_text("\n".join(["id,x,name", *given[file::files]]) + "\n")

    return write


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Examples]:
    """ExampleGen, run on the files that it plans, into a directory of its own."""
    made = iter(range(100))

    def make(parts: PartCache | None = None, planned: PlannedFiles | None = None, **settings: Any) -> Examples:
        examples = Examples(tmp_path / f"examples-{next(made)}")
        examples.path.mkdir()
        component = ExampleGen(**{"source": DAYS, **settings})
        files = planned or plan(component)
        component.run(BeamOptions(), Progress(), examples, files=files, parts=parts or PartCache())
        return examples

    return make


def plan(component: ExampleGen) -> PlannedFiles:
    def as_planned(file: FoundFile) -> InputFile:
        content = file.path.read_bytes()
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        return InputFile(file.path, digest, len(content), file.span, file.version, file.label)

    return PlannedFiles(
        {name: tuple(as_planned(file) for file in found) for name, found in component.select_files().items()}
    )


def content(examples: Examples) -> dict[str, bytes]:
    files = [file for file in sorted(examples.path.rglob("*")) if file.is_file()]
    return {str(file.relative_to(examples.path)): file.read_bytes() for file in files}


def same(one: Examples, other: Examples) -> bool:
    return content(one) == content(other) and one.properties == other.properties


def looked(part_cache: Any) -> tuple[int, int]:
    """How many parts were found and kept since the last look."""
    looked = len(part_cache.found), len(part_cache.kept)
    part_cache.forget()
    return looked


def test_shards_hold_one_span_each_and_the_artifact_says_which(day, make) -> None:
    day(7, files=2)
    day(8)
    day(9)

    examples = make(window=3)

    assert [file.name for file in examples.files("train")] == [f"data_tfrecord-0000{n}-of-00004.gz" for n in range(4)]
    assert examples.properties["spans"] == [
        {"span": 7, "version": None, "label": "7", "shards": [0, 2]},
        {"span": 8, "version": None, "label": "8", "shards": [2, 3]},
        {"span": 9, "version": None, "label": "9", "shards": [3, 4]},
    ]
    assert sum(examples.properties["records"].values()) == 120
    assert examples.describe().startswith("spans 7 to 9, train ")
    assert make(window=1).describe().startswith("span 9, train ")


def test_a_window_has_the_records_of_its_files_in_any_other_source(day, make) -> None:
    day(7, files=2)
    day(8)

    spans, glob = make(window=2), make(source="data/*/*.csv")

    assert {**content(glob), Examples.SPANS: content(spans)[Examples.SPANS]} == content(spans)
    assert "spans" not in glob.properties


def test_the_same_shards_in_other_spans_are_other_content_so_that_what_is_made_of_spans_is_made_anew(day, make) -> None:
    rows = {"a": "1,0.5,ann", "b": "2,0.5,bob", "c": "3,0.5,cyd"}
    at = {"7": "ab", "8": "c"}

    def lie() -> Examples:
        shutil.rmtree("data", ignore_errors=True)
        for span, files in at.items():
            for file in files:
                path = Path("data", span, f"{file}.csv")
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(f"id,x,name\n{rows[file]}\n")
        return make(window=2)

    before = lie()
    at = {"7": "a", "8": "bc"}  # b lay in the wrong one
    moved = lie()
    at = {"8": "a", "9": "bc"}
    later = lie()

    assert before.properties["records"] == moved.properties["records"] == later.properties["records"]
    assert len({digest_tree(examples.path)[0] for examples in (before, moved, later)}) == 3
    assert digest_tree(lie().path) == digest_tree(later.path)


def test_a_rolling_window_makes_the_new_span_alone_and_the_same_bytes_as_one_that_keeps_nothing(
    day, make, part_cache
) -> None:
    for number in range(1, 6):
        day(number, files=1 + number % 2)
    for last in range(3, 6):
        rolled = make(part_cache, window=3, last_span=last)
        assert same(rolled, make(window=3, last_span=last))
        # Two part_cache of each span: its columns' types, its shards.
        assert looked(part_cache) == ((0, 6) if last == 3 else (4, 2))


def test_an_unchanged_window_reads_no_rows(day, make, part_cache) -> None:
    day(1)
    day(2)
    before = make(part_cache, window=2)
    reported = []

    class Reported(Progress):
        def __call__(self, done: int, total: int | None = None, unit: str = "rows") -> None:
            reported.append(done)

    after = Examples(before.path.parent / "again")
    after.path.mkdir()
    component = ExampleGen(source=DAYS, window=2)
    component.run(BeamOptions("NoSuchRunner"), Reported(), after, files=plan(component), parts=part_cache)

    assert same(before, after)
    assert reported[-1] == 80


def test_a_type_that_one_span_changes_is_the_type_in_all(day, make, part_cache) -> None:
    day(1)
    day(2)
    day(3, *(f"{row},{row},name" for row in range(30)), "n/a,1,name")
    day(4)
    make(part_cache, window=2, last_span=2)
    looked(part_cache)

    changed = make(part_cache, window=3, last_span=3)
    assert same(changed, make(window=3, last_span=3))
    assert looked(part_cache) == (2, 4)  # the types of two spans are known, the shards of all three are new

    gone = make(part_cache, window=1, last_span=4)
    assert same(gone, make(window=1, last_span=4))
    looked(part_cache)
    again = make(part_cache, window=2, last_span=2)
    assert same(again, make(window=2, last_span=2))
    assert looked(part_cache) == (4, 0)


def test_the_type_of_a_dropped_column_changes_nothing(day, make, part_cache) -> None:
    day(1)
    day(2, *(f"{row},{row},3" for row in range(30)), "n/a,1,3")
    make(part_cache, window=1, last_span=1, drop_columns=("id",))
    looked(part_cache)

    make(part_cache, window=2, drop_columns=("id",))

    assert looked(part_cache) == (2, 2)


def test_a_new_version_and_a_changed_file_are_made_again(day, make, part_cache) -> None:
    day(1, directory="1/v1")
    day(2, directory="2/v1")
    source = "data/{SPAN}/v{VERSION}/*.csv"
    make(part_cache, source=source, window=2)
    looked(part_cache)
    day(1, "1,2,three", directory="1/v2")

    newer = make(part_cache, source=source, window=2)

    assert looked(part_cache) == (2, 2)
    assert [span["version"] for span in newer.properties["spans"]] == [2, 1]
    assert same(newer, make(source=source, window=2))
    day(2, "5,6.5,seven", directory="2/v1")
    assert same(make(part_cache, source=source, window=2), make(source=source, window=2))
    assert looked(part_cache) == (2, 2)


@pytest.mark.parametrize(
    "settings",
    [
        {"splits": {"train": 1, "eval": 1}},
        {"split_by": "id"},
        {"drop_columns": ("x",)},
        {"skip_rows": 1, "columns": ("id", "x", "name")},
    ],
)
def test_other_settings_make_other_shards(day, make, part_cache, settings: dict[str, Any]) -> None:
    day(1)
    make(part_cache)

    assert same(make(part_cache, **settings), make(**settings))


@pytest.mark.slow
def test_a_long_file_is_several_shards_of_its_span(day, make, part_cache) -> None:
    day(1, *(f"{row},{row / 4},{'long ' * 5000}" for row in range(2700)))  # 67.5 MB, and 64 MB are a shard
    day(2)
    before = make(part_cache, window=2)
    day(3)

    rolled = make(part_cache, window=3)

    assert [span["shards"] for span in before.properties["spans"]] == [[0, 2], [2, 3]]
    assert [span["shards"] for span in rolled.properties["spans"]] == [[0, 2], [2, 3], [3, 4]]
    assert looked(part_cache) == (4, 6)
    assert same(rolled, make(window=3))


def test_parquet_and_tfrecord_spans_are_kept_too(tmp_path, make, part_cache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for number in range(3):
        (tmp_path / f"{number}").mkdir()
        pq.write_table(pa.table({"a": [1, 2, number + 3], "b": ["x", "y", "z"]}), tmp_path / f"{number}/part.parquet")
    parquet = {"source": "{SPAN}/*.parquet", "window": 2, "splits": {"all": 1}}
    for number, records in enumerate(make(**{**parquet, "window": 3}).files("all")):
        shutil.copy(records, tmp_path / f"{number}/tfrecord.gz")
    for settings in (parquet, {**parquet, "source": "{SPAN}/tfrecord.gz"}):
        make(part_cache, **settings, last_span=1)
        assert looked(part_cache) == (0, 2)
        assert same(make(part_cache, **settings), make(**settings))
        assert looked(part_cache) == (1, 1)


def test_columns_are_kept_for_all_spans_or_for_none(
    tmp_path, make, part_cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tensorflow.core.example.example_pb2 import Example

    monkeypatch.chdir(tmp_path)

    def example(**values: Any) -> bytes:
        found = Example()
        for name, value in values.items():
            kind = found.features.feature[name]
            kind.bytes_list.value.append(value) if isinstance(value, bytes) else kind.int64_list.value.append(value)
        return found.SerializeToString()

    tfrecord.write(tmp_path / "1.tfrecord", [example(a=1)] * 3)
    tfrecord.write(tmp_path / "2.tfrecord", [example(a=1), example(a=b"text")])
    tfrecord.write(tmp_path / "3.tfrecord", [example(a=2)] * 3)
    settings = {"source": "{SPAN}.tfrecord", "splits": {"all": 1}}

    columns = []
    for window, last in ((1, 1), (2, 2), (2, 3), (1, 3)):
        made = make(part_cache, **settings, window=window, last_span=last)
        assert same(made, make(**settings, window=window, last_span=last))
        columns.append(made.properties["columns"])

    assert columns == [True, False, False, True]


def test_what_was_planned_is_read_and_not_what_is_there_by_now(day, make, part_cache) -> None:
    day(1)
    day(2)
    component = ExampleGen(source=DAYS, window=2)
    planned = plan(component)
    day(3)
    (Path("data/2/more.csv")).write_text("id,x,name\n1,2,three\n")

    examples = make(part_cache, planned, window=2)

    assert [span["span"] for span in examples.properties["spans"]] == [1, 2]
    assert sum(examples.properties["records"].values()) == 80


def test_nothing_is_kept_of_a_file_that_is_not_what_was_planned_any_more(day, make, part_cache) -> None:
    day(1)
    day(2)
    planned = plan(ExampleGen(source=DAYS, window=2))
    day(2, "1,2.5,three")

    make(part_cache, planned, window=2)

    assert looked(part_cache) == (0, 2)  # of span 1
    day(2)
    assert same(make(part_cache, planned, window=2), make(window=2))


@pytest.mark.parametrize(
    "rows",
    [
        pytest.param(["1,half,three"], id="another type"),
        pytest.param(  # 67.5 MB, and 64 MB are a shard
            [f"{row},{row / 4},{'long ' * 5000}" for row in range(2700)],
            id="another number of shards",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_file_that_is_replaced_while_what_is_known_of_it_is_used_is_named(
    day, make, part_cache, rows: list[str]
) -> None:
    day(1)
    day(2)
    make(part_cache, window=2)
    planned = plan(ExampleGen(source=DAYS, window=2))
    day(2, *rows)

    with pytest.raises(
        DataError, match=r"^data/2/0\.csv: it changed while it was read, after this run was planned\. Run again"
    ):
        make(part_cache, planned, window=2, splits={"train": 9, "eval": 1})


def test_who_plans_nothing_reads_what_is_there_and_keeps_nothing(day, tmp_path, part_cache) -> None:
    day(1)
    examples = Examples(tmp_path / "examples")
    examples.path.mkdir()

    ExampleGen(source=DAYS).run(BeamOptions(), Progress(), examples, parts=part_cache)

    assert sum(examples.properties["records"].values()) == 40
    assert looked(part_cache) == (0, 0)


def test_a_source_without_spans_keeps_nothing(day, make, part_cache) -> None:
    day(1)

    make(part_cache, source="data/1/*.csv")

    assert looked(part_cache) == (0, 0)


def test_kept_shards_outlive_the_output_that_they_were_made_for(day, make, part_cache) -> None:
    day(1)
    first = make(part_cache)
    expected = content(first)
    shutil.rmtree(first.path)

    assert content(make(part_cache)) == expected


def test_a_span_that_cannot_be_read_is_named_and_those_before_it_stay_kept(day, make, part_cache) -> None:
    day(1)
    make(part_cache)
    looked(part_cache)
    day(2, "1,2,three", "4,5")

    with pytest.raises(DataError, match=r"data/2/0.csv, line 3: the header has 3 columns, this row has 2"):
        make(part_cache, window=2)

    day(2)
    assert same(make(part_cache, window=2), make(window=2))
    assert looked(part_cache) == (3, 2)  # the types of span 1 were found twice


# Equal to TFX


def test_each_span_and_newest_version_is_the_one_that_tfx_takes(day, make, tfx, records, tmp_path) -> None:
    from tfx.components.example_gen.input_processor import FileBasedInputProcessor
    from tfx.proto import example_gen_pb2, range_config_pb2

    for number in (9, 10, 11):
        for version in (1, 2, 10)[: number - 8]:
            rows = [f"{number * 1000 + version * 100 + row},{row / 4},name {row % 7}" for row in range(60)]
            day(number, *rows, directory=f"{number}/v{version}")
    pattern = "{SPAN}/v{VERSION}/*.csv"

    def theirs(**asked: Any) -> str:
        split = example_gen_pb2.Input.Split(name="all", pattern=pattern)
        processor = FileBasedInputProcessor(str(tmp_path / "data"), [split], range_config_pb2.RangeConfig(**asked))
        found: str = processor.get_pattern_for_span_version(pattern, *processor.resolve_span_and_version())
        return found

    spans = [
        theirs(static_range=range_config_pb2.StaticRange(start_span_number=number, end_span_number=number))
        for number in (9, 10, 11)
    ]
    assert theirs(rolling_range=range_config_pb2.RollingRange(num_spans=1)) == spans[-1] == "11/v10/*.csv"
    of_tfx = [
        tfx.example_gen("csv_example_gen.executor", tmp_path / "data", found, SPLITS, tmp_path / f"tfx-{number}")
        for number, found in enumerate(spans)
    ]

    newest, window = make(source=f"data/{pattern}"), make(source=f"data/{pattern}", window=3)

    for split in SPLITS:
        of_spans = [records(span, split) for span in of_tfx]
        assert records(newest, split) == of_spans[-1]
        assert records(window, split) == sum(of_spans, start=Counter())


# Bad input


@pytest.mark.parametrize(
    ("settings", "problems"),
    [
        (
            {"source": "data/*.csv", "window": 3, "last_span": 7, "missing_spans": "skip"},
            [
                "window: the source has no spans",
                "last_span: the source has no spans",
                "missing_spans: the source has no spans",
            ],
        ),
        ({"window": 0}, ["window: 0 spans cannot be read: give 1 or more"]),
        ({"window": -1, "last_span": -3}, ["window: -1 spans", "last_span: '-3' is not a span of data"]),
        ({"missing_spans": "skipp"}, ["missing_spans: 'skipp' is not one of fail, skip. Did you mean 'skip'?"]),
        ({"source": "data/{SPAN}/{YYYY}.csv", "last_span": 3}, ["source: has both {SPAN} and {YYYY}"]),
        ({"source": "data/v{VERSION}/x.csv"}, ["source: has {VERSION} without {SPAN}"]),
        ({"source": "data/{YYYY}-{MM}-{DD}.csv", "last_span": "2026-02-30"}, ["last_span: '2026-02-30' is not a date"]),
    ],
)
def test_settings_that_choose_no_spans_are_refused(settings: dict[str, Any], problems: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        ExampleGen(**{"source": DAYS, **settings})

    for problem, expected in zip(caught.value.problems, problems, strict=True):
        assert problem.startswith(expected)


def test_spans_that_are_not_there_are_told_when_files_are_chosen(day) -> None:
    day(1)
    day(3)

    with pytest.raises(DataError, match="1 of the 3 spans up to 3 is not there: 2. There are 1, 3"):
        ExampleGen(source=DAYS, window=3).select_files()
    assert len(ExampleGen(source=DAYS, window=3, missing_spans="skip").select_files()["source"]) == 2
