"""Awkward CSV files become the records and splits that TFX's CsvExampleGen makes of them, however they are read."""

from __future__ import annotations

from pathlib import Path

import pytest

SPLITS = {"train": 2, "eval": 1}


@pytest.fixture(scope="module")
def tfxs(awkward_csv: Path, tfx, tmp_path_factory: pytest.TempPathFactory):
    """By TFX, of files without the byte order mark: it makes that a part of the first column's name."""
    directory = tmp_path_factory.mktemp("unmarked")
    for file in awkward_csv.iterdir():
        (directory / file.name).write_bytes(file.read_bytes().removeprefix(b"\xef\xbb\xbf"))
    return tfx.example_gen("csv_example_gen.executor", directory, "*.csv", SPLITS, tmp_path_factory.mktemp("tfx"))


def test_every_split_has_the_records_tfx_gives_it(awkward_csv: Path, tfxs, make_examples, records) -> None:
    ours = make_examples(source=f"{awkward_csv}/*.csv", splits=SPLITS)

    assert sum(ours.properties["records"].values()) == 201
    for split in SPLITS:
        assert records(ours, split)
        assert records(ours, split) == records(tfxs, split)
