from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from schemas.errors import ConfigError, DataError
from schemas.spans import find_spans, has_span, problems, select, shown, span_number

DATES = "data/{YYYY}/{MM}/{DD}/*.csv"


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Makes the files of these names, in the working directory."""
    monkeypatch.chdir(tmp_path)

    def make(*names: str) -> None:
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(name)

    return make


def found(source: str) -> dict[str, list[str]]:
    return {span.label: [str(file) for file in span.files] for span in find_spans(source)}


def test_spans_are_found_by_number_with_their_files_by_path(data) -> None:
    data("data/10/b.csv", "data/10/a.csv", "data/9/a.csv", "data/README.csv", "data/11/notes.txt", "data/.12/a.csv")

    spans = find_spans("data/{SPAN}/*.csv")

    assert [(span.number, span.version, span.label) for span in spans] == [(9, None, "9"), (10, None, "10")]
    assert spans[1].files == (Path("data/10/a.csv"), Path("data/10/b.csv"))
    assert [(file.path.name, file.span, file.label) for file in spans[0].found()] == [("a.csv", 9, "9")]


def test_the_newest_version_of_each_span_counts(data) -> None:
    data("data/1/v9/a.csv", "data/1/v10/a.csv", "data/2/v1/a.csv")

    assert found("data/{SPAN}/v{VERSION}/*.csv") == {"1": ["data/1/v10/a.csv"], "2": ["data/2/v1/a.csv"]}
    assert [span.version for span in find_spans("data/{SPAN}/v{VERSION}/*.csv")] == [10, 1]


def test_the_span_of_a_date_is_the_days_since_1970(data) -> None:
    data("data/1970/01/02/a.csv", "data/2026/07/31/a.csv")

    assert [(span.number, span.label) for span in find_spans(DATES)] == [(1, "1970-01-02"), (20665, "2026-07-31")]


def test_the_numbers_of_dates_and_widths_are_tfxs(data) -> None:
    from tfx.components.example_gen import utils
    from tfx.proto import example_gen_pb2

    data("days/20240229-7.csv", "days/20240301-6.csv", "days/20240301-12.csv", "wide/000412.csv", "wide/000103.csv")

    for pattern in ("days/{YYYY}{MM}{DD}-{VERSION}.csv", "wide/{SPAN:4}{VERSION:2}.csv"):
        theirs = utils._get_target_span_version("", example_gen_pb2.Input.Split(name="all", pattern=pattern))
        newest = find_spans(pattern)[-1]
        assert (newest.number, newest.version) == theirs


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("data/{SPAN}/**/*.csv", ["data/41/a.csv", "data/41/deep/er/b.csv"]),
        ("data/**/*{SPAN}/a.csv", ["data/41/a.csv"]),
        ("data/{SPAN}/?.csv", ["data/41/a.csv"]),
        ("data/{SPAN}/[!b].csv", ["data/41/a.csv"]),
        ("*/{SPAN:2}/[a-c].*", ["data/41/a.csv"]),
        ("./data//{SPAN}/a.csv", ["data/41/a.csv"]),
        ("data/{SPAN}/**", ["data/41/a.csv", "data/41/deep/er/b.csv"]),
    ],
)
def test_globs_go_together_with_placeholders(data, source: str, expected: list[str]) -> None:
    data("data/41/a.csv", "data/41/deep/er/b.csv")

    assert found(source) == {"41": expected}


def test_a_number_beside_a_wildcard_is_the_whole_number(data) -> None:
    data("part41-7.csv")

    assert list(found("*{SPAN}-*.csv")) == ["41"]
    assert list(found("part{SPAN}*.csv")) == ["41"]
    assert list(found("*{SPAN}.csv")) == ["7"]


def test_files_of_one_number_are_one_span_wherever_they_lie(data) -> None:
    data("north/41/a.csv", "south/41/a.csv")

    assert found("*/{SPAN}/a.csv") == {"41": ["north/41/a.csv", "south/41/a.csv"]}


def test_a_link_to_a_span_by_another_name_is_no_span(data) -> None:
    data("data/41/a.csv", "data/42/a.csv", "elsewhere/a.csv")
    Path("data/latest").symlink_to("42")

    assert list(found("data/{SPAN}/*.csv")) == ["41", "42"]
    Path("data/other").symlink_to("../elsewhere")
    with pytest.raises(DataError, match="^data/other/a.csv: 'other' stands where {SPAN} is a number.*$"):
        find_spans("data/{SPAN}/*.csv")


def test_spans_in_a_package_are_found(data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data("spanned_package/__init__.py", "spanned_package/data/41/a.csv")
    monkeypatch.syspath_prepend(tmp_path)

    assert found("pkg://spanned_package/data/{SPAN}/*.csv") == {"41": [str(tmp_path / "spanned_package/data/41/a.csv")]}


def test_the_last_spans_are_the_window(data) -> None:
    data(*(f"data/{number}/a.csv" for number in (7, 8, 9, 10)))

    def window(*arguments) -> list[int]:
        return [span.number for span in select("data/{SPAN}/*.csv", *arguments)]

    assert window() == window(1, "newest") == [10]
    assert window(3) == [8, 9, 10]
    assert window(3, 9) == window(3, "9") == [7, 8, 9]


def test_missing_spans_are_skipped_where_that_is_asked(data) -> None:
    data("data/7/a.csv", "data/10/a.csv")

    chosen = select("data/{SPAN}/*.csv", 4, missing="skip")
    assert [span.number for span in chosen] == [7, 10]
    assert [span.number for span in select("data/{SPAN}/*.csv", 30, missing="skip")] == [7, 10]
    assert [span.number for span in select("data/{SPAN}/*.csv", 3, missing="skip")] == [10]


def test_a_span_is_named_by_number_or_by_date() -> None:
    assert span_number("data/{SPAN:4}.csv", "0041") == span_number("data/{SPAN}.csv", 41) == 41
    for text in ("2026-07-31", "20260731", "20665", 20665):
        assert span_number(DATES, text) == 20665


def test_spans_are_told_as_ranges() -> None:
    assert shown(["35", "36", "37", "40"], [35, 36, 37, 40]) == "35 to 37, 40"


# Bad input


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("data/{SPAN}/{YYYY}/{MM}/{DD}/*", "has both {SPAN} and {YYYY}, {MM}, {DD}"),
        ("data/{YYYY}/{DD}/*", "has {YYYY}, {DD} without {MM}; a date needs all three"),
        ("data/v{VERSION}/*", "has {VERSION} without {SPAN}"),
        ("data/{SPAN}/{SPAN}.csv", "{SPAN} stands there 2 times"),
        ("data/{YYYY}/{MM}/{YYYY}-{MM}-{DD}.csv", "{YYYY} stands there 2 times"),
        ("data/{SPAN:x}.csv", "{SPAN:x}: the width is a number of digits"),
        ("data/{SPAN:0}.csv", "{SPAN:0}: the width is a number of digits"),
        ("data/{YYYY:4}/{MM}/{DD}", "a date's 4 digits are fixed: write {YYYY}"),
        ("data/{SPAN}{VERSION}.csv", "{SPAN}{VERSION}: nothing stands between them"),
        ("data/{span}/*.csv", "{span} is not a placeholder, which are written in capitals: {SPAN}"),
    ],
)
def test_placeholders_that_do_not_go_together_are_told(source: str, message: str) -> None:
    assert message in "; ".join(problems(source))
    with pytest.raises(ConfigError) as caught:
        find_spans(source)
    assert message in str(caught.value)


def test_a_source_without_placeholders_has_no_problem_and_no_spans() -> None:
    assert problems("data/*.csv") == []
    assert not has_span("data/*.csv")
    assert has_span(DATES)
    with pytest.raises(ConfigError, match=r"data/\*.csv: has no {SPAN}"):
        select("data/*.csv", 3)


def test_every_span_that_is_no_number_is_named_once(data) -> None:
    data("data/41/a.csv", "data/latest/a.csv", "data/latest/b.csv", "data/-1/a.csv", "data/4.1/a.csv")

    with pytest.raises(DataError) as caught:
        find_spans("data/{SPAN}/*.csv")

    advice = "stands where {SPAN} is a number. Rename or move it, or begin its name with a dot"
    assert str(caught.value).splitlines() == [
        f"data/-1/a.csv: '-1' {advice}",
        f"data/4.1/a.csv: '4.1' {advice}",
        f"data/latest/a.csv: 'latest' {advice}",
    ]


def test_of_many_mistakes_the_first_are_named(data) -> None:
    data(*(f"data/day{number}/a.csv" for number in range(9)))

    with pytest.raises(DataError, match=r"data/day4/a.csv: .*\n... and 4 more$"):
        find_spans("data/{SPAN}/*.csv")


@pytest.mark.parametrize(
    ("file", "source", "message"),
    [
        ("data/2026/02/30/a.csv", DATES, "data/2026/02/30/a.csv: there is no date 2026-02-30"),
        ("data/2026/7/31/a.csv", DATES, "'7' stands where {MM} is a number of 2 digits"),
        ("data/1969/12/31/a.csv", DATES, "1969-12-31 is before 1970-01-01"),
        ("data/412/a.csv", "data/{SPAN:2}/*.csv", "'412' stands where {SPAN} is a number of 2 digits"),
        ("data/4/vx/a.csv", "data/{SPAN}/v{VERSION}/*.csv", "'x' stands where {VERSION} is a number"),
        ("data/٤/a.csv", "data/{SPAN}/*.csv", "'٤' stands where {SPAN} is a number"),
        ("data/x20260731.csv", "data/*{YYYY}{MM}{DD}.csv", None),
        ("data/x120260731.csv", "data/*{YYYY}{MM}{DD}.csv", "does not tell {YYYY} and {MM} and {DD}"),
    ],
)
def test_what_is_no_span_is_told_with_its_path(data, file: str, source: str, message: str | None) -> None:
    data(file)

    if message is None:
        assert list(found(source)) == ["2026-07-31"]
        return
    with pytest.raises(DataError) as caught:
        find_spans(source)
    assert file in str(caught.value)
    assert message in str(caught.value)


def test_one_number_written_in_two_ways_is_refused(data) -> None:
    data("data/1/v1/a.csv", "data/01/v1/a.csv", "data/2/v1/a.csv", "data/2/v01/a.csv")

    with pytest.raises(DataError) as caught:
        find_spans("data/{SPAN}/v{VERSION}/*.csv")

    assert str(caught.value).splitlines() == [
        "data/1/v1/a.csv: '1' is span 1, and so is '01' of data/01/v1/a.csv: keep one",
        "data/2/v1/a.csv: '1' is version 1 of span 2, and so is '01' of data/2/v01/a.csv: keep one",
    ]


def test_where_there_are_no_files_the_message_says_what_is_there(data) -> None:
    data("data/README", "other/41/a.csv")

    with pytest.raises(DataError, match=r"data/{SPAN}/\*.csv: no file matches, so there is no span"):
        find_spans("data/{SPAN}/*.csv")
    with pytest.raises(DataError, match="There is no directory date"):
        find_spans("date/{SPAN}/*.csv")
    with pytest.raises(
        DataError, match=r"only directories match, as other/41. Name their files, as in other/{SPAN}/\*"
    ):
        find_spans("other/{SPAN}")


def test_a_window_larger_than_the_spans_there_are_says_what_is_missing(data) -> None:
    data(*(f"data/{number}/a.csv" for number in (1, 2, 5, 6)))
    source = "data/{SPAN}/*.csv"

    with pytest.raises(DataError, match=r"2 of the 5 spans up to 6 are not there: 3 to 4. There are 1 to 2, 5 to 6"):
        select(source, 5)
    with pytest.raises(DataError, match="1 of the 2 spans up to 5 is not there: 4. There are .* missing_spans: skip"):
        select(source, 2, 5)
    with pytest.raises(DataError, match="3 of the 5 spans up to 2 are not there: 0 and 2 before 0, where spans begin"):
        select(source, 5, 2)


def test_missing_dates_are_told_as_dates(data) -> None:
    data("data/2026/02/27/a.csv", "data/2026/03/02/a.csv")

    with pytest.raises(DataError, match="are not there: 2026-02-28 to 2026-03-01. There are 2026-02-27, 2026-03-02"):
        select(DATES, 4)


@pytest.mark.parametrize("missing", ["fail", "skip"])
def test_a_last_span_that_is_not_there_is_refused_whatever_may_be_missing(data, missing: str) -> None:
    data("data/7/a.csv", "data/9/a.csv")

    with pytest.raises(DataError, match="there is no span 8, which last_span asks for. There are 7, 9"):
        select("data/{SPAN}/*.csv", 2, 8, missing)


@pytest.mark.parametrize("text", ["-1", -1, "latest", "4.1", "", "2026-07-31"])
def test_a_text_that_names_no_span_is_refused(text: str | int) -> None:
    with pytest.raises(ConfigError, match=r"is not a span of data/{SPAN}.csv: expected a number, 0 or more"):
        span_number("data/{SPAN}.csv", text)


@pytest.mark.parametrize("text", ["2026-02-30", "yesterday", "1969-12-31", "20260230"])
def test_a_text_that_names_no_date_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=f"'{text}' is"):
        span_number(DATES, text)


def test_a_window_of_nothing_is_refused(data) -> None:
    data("data/7/a.csv")

    for window, missing in ((0, "fail"), (-2, "fail"), (1, "ignore")):
        with pytest.raises(ConfigError, match="expected 1 or more, and fail or skip"):
            select("data/{SPAN}/*.csv", window, missing=missing)


@pytest.mark.parametrize(
    ("link", "window", "last", "named"),
    [
        ("data/41/v2/b.csv", 1, None, True),
        ("data/40/v1/b.csv", 2, None, True),
        ("data/42/v1/a.csv", 1, None, True),
        ("data/41/v3/a.csv", 1, None, True),
        ("data/41/v1/b.csv", 1, None, False),
        ("data/40/v1/b.csv", 1, None, False),
        ("data/42/v1/a.csv", 1, 41, False),
        ("data/latest/v1/a.csv", 1, None, False),
    ],
    ids=["newest", "in the window", "newer", "newer version", "older version", "before", "after the last", "no number"],
)
def test_a_link_to_nothing_in_what_is_asked_for_is_an_error_and_not_one_file_less(
    data, link: str, window: int, last: int | None, named: bool
) -> None:
    data("data/40/v1/a.csv", "data/41/v1/a.csv", "data/41/v2/a.csv")
    Path(link).parent.mkdir(parents=True, exist_ok=True)
    Path(link).symlink_to("/elsewhere/b.csv")
    source = "data/{SPAN}/v{VERSION}/*.csv"

    if named:
        with pytest.raises(DataError, match=f"{link}: this is a link to /elsewhere/b.csv, and there is nothing"):
            select(source, window, last)
    else:
        assert select(source, window, last)[-1].label == "41"


def test_where_there_are_links_to_nothing_alone_no_file_matches(data) -> None:
    Path("data/41").mkdir(parents=True)
    Path("data/41/a.csv").symlink_to("b.csv")

    with pytest.raises(DataError, match="no file matches, so there is no span"):
        select("data/{SPAN}/*.csv")
