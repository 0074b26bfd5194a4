from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from schemas.errors import DataError
from schemas.input_files import expand


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("data/b.csv", "data/a.csv", "data/.hidden.csv", "data/deep/c.csv", "data/x[1].csv"):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(name)
    return tmp_path / "data"


def test_a_path_is_one_file(data: Path) -> None:
    assert expand("data/a.csv") == [Path("data/a.csv")]
    assert expand(str(data / "a.csv")) == [data / "a.csv"]


def test_a_glob_is_its_files_sorted_without_hidden_ones(data: Path) -> None:
    assert expand("data/*.csv") == [Path("data/a.csv"), Path("data/b.csv"), Path("data/x[1].csv")]
    assert Path("data/deep/c.csv") in expand("data/**/*.csv")


def test_a_file_whose_name_looks_like_a_glob_is_that_file(data: Path) -> None:
    assert expand("data/x[1].csv") == [Path("data/x[1].csv")]


def test_a_file_in_a_package_is_found_without_importing_it() -> None:
    code = (
        "import sys; from schemas.input_files import expand;"
        "print(len(expand('pkg://tfx/components/testdata/external/csv/*.csv')), 'tfx' in sys.modules)"
    )

    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert found.stdout.split() == ["2", "False"]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("data/aa.csv", "data/aa.csv: there is no such file. Did you mean 'a.csv'?"),
        ("date/a.csv", "There is no directory date in "),
        ("data/*.parquet", r"data/\*.parquet: no file matches. .*data has .*a.csv"),
        ("data", r"data: this is a directory. Name its files, as in data/\*"),
        ("pkg://tfxx/data.csv", "no package 'tfxx' is installed"),
        ("pkg://tfx", "expected pkg://package/path"),
        ("pkg://tfx/nothing.csv", "pkg://tfx/nothing.csv: there is no such file"),
        (" ", "the source is empty"),
    ],
)
def test_what_is_not_there_is_told_with_what_to_do(data: Path, source: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        expand(source)
