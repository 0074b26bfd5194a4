"""The taxi's trips as they come: span by span, in order of time, each file whole."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import pytest

from components.data.example_gen import ExampleGen
from configs.taxi_daily.cut import SPANS, TIME, cut
from pipeline.loading import load


def times(file: Path) -> list[int]:
    with file.open(newline="", encoding="utf-8") as stream:
        return [int(row[TIME]) for row in csv.DictReader(stream)]


def test_the_spans_have_every_trip_once_in_order_of_time(tmp_path, taxi_csv):
    files = cut(tmp_path, 1, SPANS)

    in_order = [time for file in files for time in times(file)]
    assert in_order == sorted(times(taxi_csv))
    assert {len(times(file)) for file in files} == {1500, 1501}


def test_a_span_that_is_cut_alone_is_the_same_and_leaves_nothing_beside_it(tmp_path):
    (alone,) = cut(tmp_path / "alone", 4, 4)
    together = cut(tmp_path / "together", 3, 5)

    assert alone.read_bytes() == together[1].read_bytes()
    assert [path.name for path in alone.parent.iterdir()] == ["trips.csv"]


def test_a_span_that_there_is_none_of_is_an_error_that_says_which_there_are(tmp_path):
    with pytest.raises(ValueError, match="spans 10 to 11: there are 1 to 10"):
        cut(tmp_path, 10, 11)


def test_the_definition_takes_the_newest_three(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command = [sys.executable, "-m", "configs.taxi_daily.cut", "1", "4"]
    repository = Path(__file__).parents[3]
    subprocess.run(command, env={"PYTHONPATH": str(repository)}, check=True, capture_output=True, text=True)

    definition = load(str(repository / "configs/taxi_daily/pipeline.yaml"))
    step = definition.graph["example_gen"]

    assert [file.span for file in ExampleGen(**step.settings).select_files()["source"]] == [2, 3, 4]
