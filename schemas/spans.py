"""Spans of a growing source: the files behind a path with {SPAN} or {YYYY}, {MM} and {DD}, and the window that is read of them."""

from __future__ import annotations

import datetime
import fnmatch
import glob
import itertools
import math
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from schemas.errors import ConfigError, DataError
from schemas.input_files import FoundFile, check_readable, nearest, places

MISSING = ("fail", "skip")
NEWEST = "newest"  # what a parameter without a value cannot say where every parameter has one, as on Kubeflow

_EPOCH = datetime.date(1970, 1, 1)
_DATE = {"YYYY": 4, "MM": 2, "DD": 2}  # digits
_PLACEHOLDER = re.compile(r"\{(?P<name>SPAN|VERSION|YYYY|MM|DD)(?::(?P<width>[^{}/]*))?\}")
_NEARLY = re.compile(r"\{(?:span|version|yyyy|mm|dd)(?::[^{}/]*)?\}", re.IGNORECASE)
_SHOWN = 5  # spans, or mistakes, that one message names


@dataclass(frozen=True)
class Span:
    """One span of a source, in its newest version (None without a {VERSION}).

    `label` is how a person calls it: '41', or '2026-07-31' where the source has dates. `files` are sorted by path, and at least one.
    """

    number: int  # 0 or more; of a date, the days since 1970-01-01
    version: int | None
    label: str
    files: tuple[Path, ...]

    def found(self) -> tuple[FoundFile, ...]:
        """The files, each with its span."""
        return tuple(FoundFile(file, self.number, self.version, self.label) for file in self.files)


def has_span(source: str) -> bool:
    """Whether `source` has a placeholder, well placed or not: one of {SPAN}, {VERSION}, {YYYY}, {MM}, {DD}."""
    return _PLACEHOLDER.search(source) is not None


def problems(source: str) -> list[str]:
    """What is wrong with the placeholders of `source`, one sentence for each mistake; nothing where it has none."""
    found = list(_PLACEHOLDER.finditer(source))
    names = [match["name"] for match in found]
    wrong = [
        f"{match[0]} is not a placeholder, which are written in capitals: {match[0].upper()}"
        for match in _NEARLY.finditer(source)
        if match[0] != match[0].upper()
    ]
    wrong += [
        f"{{{name}}} stands there {names.count(name)} times" for name in dict.fromkeys(names) if names.count(name) > 1
    ]
    dates = [name for name in _DATE if name in names]
    if dates and "SPAN" in names:
        wrong.append(f"has both {{SPAN}} and {_braced(dates)}; a span has one number, so choose")
    elif dates and len(dates) < len(_DATE):
        wrong.append(
            f"has {_braced(dates)} without {_braced(name for name in _DATE if name not in dates)}; a date needs all three"
        )
    if "VERSION" in names and "SPAN" not in names and not dates:
        wrong.append("has {VERSION} without {SPAN}; it is spans that have versions")
    for match in found:
        width = match["width"]
        if width is not None and (match["name"] in _DATE or not re.fullmatch("0*[1-9][0-9]{0,2}", width)):
            wrong.append(f"{match[0]}: {_width_problem(match['name'])}")
    for one, next_ in itertools.pairwise(found):
        if one.end() == next_.start() and _digits(one) is None is _digits(next_):
            wrong.append(
                f"{one[0]}{next_[0]}: nothing stands between them, so where one number ends is not told. Give the first a width, "
                f"as {{{one['name']}:4}}"
            )
    return wrong


def _braced(names: Iterable[str]) -> str:
    return ", ".join(f"{{{name}}}" for name in names)


def _width_problem(name: str) -> str:
    if name in _DATE:
        return f"a date's {_DATE[name]} digits are fixed: write {{{name}}}"
    return f"the width is a number of digits, 1 or more, as in {{{name}:4}}"


def _digits(placeholder: re.Match[str]) -> int | None:
    """How many digits a placeholder stands for, None for any number of them."""
    return _DATE.get(placeholder["name"]) or (int(placeholder["width"]) if placeholder["width"] else None)


def find_spans(source: str) -> list[Span]:
    """Every span that is there, by number, each in its newest version.

    `source` is a path, glob or pkg:// address with placeholders, each of which stands for digits of one name; hidden files are left out.
    All files of one number are one span, in whatever directories a glob finds them. A link by another name to a file that has a span,
    as `latest` is, counts for nothing.

    Raises ConfigError for placeholders that do not go together; DataError where no file matches, and for every other file that
    matches and whose span is no number, no date, or written in two ways ('1' and '01').
    """
    pattern = _Pattern(source)
    files: dict[tuple[int, int | None], list[Path]] = {}
    spellings: dict[str, tuple[str, Path]] = {}
    wrong: dict[str, str] = {}  # by what is wrong, so that a directory of many files is named once
    readings = {file: pattern.read(file) for file in pattern.files()}
    unread = {file for file, reading in readings.items() if isinstance(reading, str)}
    known = {file.resolve() for file in readings.keys() - unread} if unread else set()
    for file, reading in readings.items():
        if isinstance(reading, str):
            if file.resolve() not in known:
                wrong.setdefault(reading, f"{file}: {reading}")
            continue
        number, version, *written = reading
        for what, how in zip((f"span {number}", f"version {version} of span {number}"), written, strict=True):
            before, where = spellings.setdefault(what, (how, file))
            if before != how:
                wrong.setdefault(
                    f"{what} {how}", f"{file}: '{how}' is {what}, and so is '{before}' of {where}: keep one"
                )
        files.setdefault((number, version), []).append(file)
    if wrong:
        more = f"\n... and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
        raise DataError("\n".join(list(wrong.values())[:_SHOWN]) + more)
    newest: dict[int, int | None] = {}
    for number, version in files:
        newest[number] = max((found for found in (version, newest.get(number)) if found is not None), default=None)
    return [
        Span(number, newest[number], pattern.label(number), tuple(sorted(files[number, newest[number]])))
        for number in sorted(newest)
    ]


def select(source: str, window: int = 1, last: int | str | None = None, missing: str = "fail") -> list[Span]:
    """The `window` spans whose numbers end at `last`, None or NEWEST for the newest there is, by number; at least the last one.

    Spans of the window that are not there are left out where `missing` is skip. Raises DataError for them where it is fail, and
    always when the last one is not there, or a file may not be read or is a link to nothing; ConfigError and DataError as `find_spans` and `span_number` do.
    """
    if window < 1 or missing not in MISSING:
        raise ConfigError(
            f"a window of {window} spans, missing spans {missing}: expected 1 or more, and {' or '.join(MISSING)}"
        )
    there = {span.number: span for span in find_spans(source)}
    end = max(there) if last in (None, NEWEST) else span_number(source, last)
    label = _Pattern(source).label
    if end not in there:
        raise DataError(
            f"{source}: there is no span {label(end)}, which last_span asks for. There are {_ranges(there, label)}"
        )
    asked = range(end - window + 1, end + 1)
    lacking = [number for number in asked if number not in there]
    if lacking and missing == "fail":
        raise DataError(
            f"{source}: {len(lacking)} of the {window} spans up to {label(end)} {'is' if len(lacking) == 1 else 'are'} not there: "
            f"{_lacking(lacking, label)}. There are {_ranges(there, label)}. Add what is missing, or set a smaller window, or "
            f"missing_spans: skip to go on without"
        )
    chosen = [there[number] for number in asked if number in there]
    _check_links(source, chosen, open_end=last in (None, NEWEST))
    check_readable([file for span in chosen for file in span.files])
    return chosen


def _check_links(source: str, chosen: Sequence[Span], *, open_end: bool) -> None:
    """Raise DataError for a link of these spans, or with an open end of a later one, that names a file which is not there."""
    versions = {span.number: span.version or 0 for span in chosen}
    pattern = _Pattern(source)
    for file in pattern.dangling():
        reading = pattern.read(file)
        if isinstance(reading, str):
            continue
        number, version, *_ = reading
        later = open_end and number > chosen[-1].number
        if later or (version or 0) >= versions.get(number, math.inf):
            raise DataError(
                f"{file}: this is a link to {file.readlink()}, and there is nothing. Bring that back, or remove the link"
            )


def span_number(source: str, text: int | str) -> int:
    """The number of the span that a person calls `text`: 41 or '41'; '2026-07-31' too where `source` has dates.

    Raises ConfigError for any other text.
    """
    pattern = _Pattern(source)
    if re.fullmatch("[0-9]+", str(text)) and not (pattern.dated and len(str(text)) == len("20260731")):
        return int(text)
    if pattern.dated:
        try:
            number = (datetime.date.fromisoformat(str(text)) - _EPOCH).days
        except ValueError:
            raise ConfigError(f"'{text}' is not a date of {source}: write it as 2026-07-31") from None
        if number >= 0:
            return number
        raise ConfigError(f"'{text}' is before 1970-01-01, where the spans of {source} begin")
    raise ConfigError(f"'{text}' is not a span of {source}: expected a number, 0 or more")


def shown(labels: Sequence[str], numbers: Sequence[int]) -> str:
    """How spans are told in a few words: '35 to 37, 40'. `labels` are those of the ascending `numbers`."""
    return _ranges(numbers, dict(zip(numbers, labels, strict=True)).__getitem__)


class _Pattern:
    """A source with placeholders, as what finds the files that may match and what reads a path."""

    def __init__(self, source: str) -> None:
        found = problems(source)
        if not has_span(source):
            found.append("has no {SPAN}, nor {YYYY}, {MM} and {DD}")
        if found:
            raise ConfigError(*(f"{source}: {problem}" for problem in found))
        self._source = source
        self._places = places(source)
        self._globs = [_PLACEHOLDER.sub("*", place) for place in self._places]
        self._names = {match["name"]: _digits(match) for match in _PLACEHOLDER.finditer(source)}
        self.dated = "YYYY" in self._names
        # Placeholders are digits; `loose` takes them for any text, to say what stands where a number was expected.
        self._exact = [re.compile(_regex(place, loose=False)) for place in self._places]
        self._loose = [re.compile(_regex(place, loose=True)) for place in self._places]

    def label(self, number: int) -> str:
        if not self.dated:
            return str(number)
        try:
            return (_EPOCH + datetime.timedelta(days=number)).isoformat()
        except OverflowError:
            return str(number)

    def files(self) -> list[Path]:
        """The files that match when a placeholder is any text, sorted. Raises DataError when there are none."""
        matches = self._matches()
        found = sorted(match for match in matches if match.is_file())
        if not found and any(match.is_dir() for match in matches):
            raise DataError(
                f"{self._source}: only directories match, as {min(matches)}. Name their files, as in {self._source.rstrip('/')}/*"
            )
        if not found:
            raise DataError(f"{self._source}: no file matches, so there is no span." + nearest(Path(self._globs[0])))
        return found

    def dangling(self) -> list[Path]:
        """The links to nothing that match, sorted."""
        return sorted(match for match in self._matches() if not match.exists())

    def _matches(self) -> set[Path]:
        return {Path(match) for one in self._globs for match in glob.glob(one, recursive=True)}  # noqa: PTH207 (Path.glob takes no absolute patterns)

    def read(self, file: Path) -> tuple[int, int | None, str, str] | str:
        """(span, version, both as they are written) of a path that matches; else what is wrong with it."""
        exact = _matched(self._exact, file)
        if exact is None:
            return self._not_digits(_matched(self._loose, file) or {})
        version = int(exact["VERSION"]) if "VERSION" in exact else None
        if not self.dated:
            return int(exact["SPAN"]), version, exact["SPAN"], exact.get("VERSION", "")
        written = "-".join(exact[name] for name in _DATE)
        try:
            number = (datetime.date.fromisoformat(written) - _EPOCH).days
        except ValueError:
            return f"there is no date {written}. Rename or move it, or begin its name with a dot"
        if number < 0:
            return f"{written} is before 1970-01-01, where spans begin"
        return number, version, written, exact.get("VERSION", "")

    def _not_digits(self, texts: dict[str, str]) -> str:
        expected = {name: f"{{{name}}}" for name in self._names}
        for name, text in texts.items():
            width = self._names[name]
            if not text or re.fullmatch(f"[0-9]{{{width}}}" if width else "[0-9]+", text):
                continue  # all of it may be in the wildcard beside
            digits = f"a number of {width} digits" if width else "a number"
            return (
                f"'{text}' stands where {expected[name]} is {digits}. Rename or move it, or begin its name with a dot"
            )
        return f"its name does not tell {' and '.join(expected.values())} of {self._source}. Rename or move it"


def _matched(patterns: Iterable[re.Pattern[str]], file: Path) -> dict[str, str] | None:
    return next((match.groupdict() for pattern in patterns if (match := pattern.fullmatch(str(file)))), None)


def _regex(place: str, loose: bool) -> str:
    """A glob with placeholders as a regular expression with a group for each, which matches what `glob.glob` finds."""
    segments = place.split("/")
    pieces = []
    for number, segment in enumerate(segments):
        last = number == len(segments) - 1
        if segment == "**":
            pieces.append("(?:[^/]+/)*[^/]+" if last else "(?:[^/]+/)*")
        else:
            pieces.append("".join(_segment(segment, loose)) + ("" if last else "/"))
    return "".join(pieces)


def _segment(segment: str, loose: bool) -> Iterator[str]:
    at = 0
    for match in _PLACEHOLDER.finditer(segment):
        yield from _globbed(segment[at : match.start()])
        digits = _digits(match)
        if loose:
            yield f"(?P<{match['name']}>[^/]*)"
        else:
            # Beside a wildcard a number has to be whole: of part41.csv, '*{SPAN}.csv' is neither 1 nor '*' part4.
            begin = "(?<![0-9])" if segment[at : match.start()].endswith(("*", "?", "]")) else ""
            end = "(?![0-9])" if segment[match.end() : match.end() + 1] in ("*", "?", "[") else ""
            yield f"{begin}(?P<{match['name']}>[0-9]{f'{{{digits}}}' if digits else '+'}){end}"
        at = match.end()
    yield from _globbed(segment[at:])


def _globbed(text: str) -> Iterator[str]:
    """Text without a placeholder: `*` and `?` are any characters of one name, `[...]` one of some."""
    for piece in re.findall(r"\*+|\?|\[!?\]?[^\]]*\]|.", text, re.DOTALL):
        if piece[0] == "*":
            yield "[^/]*"
        elif piece == "?":
            yield "[^/]"
        else:
            yield fnmatch.translate(piece).removesuffix(r"\Z") if len(piece) > 1 else re.escape(piece)


def _lacking(numbers: Sequence[int], label: Callable[[int], str]) -> str:
    possible = [number for number in numbers if number >= 0]
    before = len(numbers) - len(possible)
    told = [_ranges(possible, label)] if possible else []
    told += [f"{before} before {label(0)}, where spans begin"] if before else []
    return " and ".join(told)


def _ranges(numbers: Collection[int], label: Callable[[int], str]) -> str:
    """'35 to 37, 40'; of many ranges the newest."""
    ranges: list[list[int]] = []
    for number in sorted(numbers):
        if ranges and ranges[-1][-1] == number - 1:
            ranges[-1] = [ranges[-1][0], number]
        else:
            ranges.append([number])
    told = [" to ".join(label(end) for end in ends) for ends in ranges[-_SHOWN:]]
    return ", ".join((["..."] if len(ranges) > _SHOWN else []) + told)
