"""Input files: the files behind a path, a glob or a `pkg://package/path`."""

from __future__ import annotations

import glob
import importlib.util
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from schemas.errors import DataError, did_you_mean

SCHEME = "pkg://"


@dataclass(frozen=True)
class FoundFile:
    """An input file, and the span it belongs to where the source has a {SPAN}: its number, version and what a person calls it.

    `name` is what the key knows it by where its own name is too little: who reads a tree keeps the directories in it apart.
    """

    path: Path
    span: int | None = None
    version: int | None = None
    label: str | None = None
    name: str | None = None


def expand(source: str, *, hidden: bool = False) -> list[Path]:
    """The files that `source` names, sorted by path.

    `source` is a file, a glob (`**` goes through directories, hidden files are left out unless they are asked for) or either of them inside an
    installed package, as in `pkg://tfx/components/testdata/external/csv/*.csv`; the package is found, not imported. Paths
    are relative to the working directory, `~` is the home directory. Raises DataError when there is no such file, the glob
    matches none, or one cannot be read.
    """
    looked = places(source)
    if all(not glob.has_magic(place) for place in looked) or any(Path(place).is_file() for place in looked):
        found = [Path(place) for place in looked if Path(place).exists()][:1]
        if not found:
            raise DataError(f"{source}: there is no such file." + nearest(Path(looked[0])))
        if found[0].is_dir():
            raise DataError(f"{source}: this is a directory. Name its files, as in {source.rstrip('/')}/*")
    else:
        matches = {
            Path(match)
            for place in looked
            for match in glob.glob(place, recursive=True, include_hidden=hidden)  # noqa: PTH207 (Path.glob takes no absolute patterns)
        }
        found = sorted(match for match in matches if match.is_file())
        if not found:
            raise DataError(f"{source}: no file matches." + nearest(Path(looked[0])))
    check_readable(found)
    return found


def places(source: str) -> list[str]:
    """The paths or globs on this machine that `source` is: one, or one for each location of a package. Raises DataError."""
    if not source.strip():
        raise DataError("the source is empty: give a file, a glob such as data/*.csv, or pkg://package/path")
    return _in_package(source) if source.startswith(SCHEME) else [str(Path(source).expanduser())]


def check_readable(files: Iterable[Path]) -> None:
    """Raise DataError for files that may not be read."""
    unreadable = [str(file) for file in files if not os.access(file, os.R_OK)]
    if unreadable:
        raise DataError(f"{', '.join(unreadable)}: may not be read. Change the permissions (chmod u+r)")


def _in_package(source: str) -> list[str]:
    package, _, path = source.removeprefix(SCHEME).partition("/")
    if not package.isidentifier() or not path:
        raise DataError(f"{source}: expected pkg://package/path/of/the/file, with the name of a top-level package")
    spec = importlib.util.find_spec(package)  # of a top-level package: looks for it without running it
    locations = list(spec.submodule_search_locations or ()) if spec else []
    if not locations:
        raise DataError(f"{source}: no package '{package}' is installed here. Install it, or give the file's own path")
    return [str(Path(location) / path) for location in locations]


def nearest(path: Path) -> str:
    """What is there instead of `path`, in a sentence: the first directory on the way that does not exist, or a file of a similar name."""
    for parent in reversed(path.parents):
        if glob.has_magic(parent.name):
            break
        if not parent.is_dir():
            here = "" if parent.is_absolute() else f" in {Path.cwd()}"
            return f" There is no directory {parent}{here}."
    if glob.has_magic(path.parent.name) or not path.parent.is_dir():
        return ""
    names = [child.name for child in path.parent.iterdir()]
    return (
        did_you_mean(path.name, names) or f" {path.parent.resolve()} has {', '.join(sorted(names)[:5]) or 'no files'}."
    )
