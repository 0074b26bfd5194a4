"""Files that are being written to are waited for until they are left alone, and no longer than is sensible."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipeline.graph import Graph
from pipeline.loading import load
from pipeline.new_data import unsettled


class Time:
    """A clock that goes on by what is waited, and something that happens meanwhile."""

    def __init__(self) -> None:
        self.now = 0.0
        self.waits = 0

    def clock(self) -> float:
        return self.now

    def pause(self, seconds: float) -> None:
        self.now += seconds
        self.waits += 1
        self.meanwhile()

    def meanwhile(self) -> None:
        """What happens in each wait."""


@pytest.fixture
def graph(project: Path) -> Graph:
    """Of a pipeline that reads numbers.txt, which was written just now."""
    return load("pipeline.yaml").graph


def wait(graph: Graph, time: Time, seconds: float = 60.0) -> str | None:
    return unsettled(graph, seconds, pause=time.pause, clock=time.clock)


def test_a_file_that_was_just_written_is_left_alone_as_long_as_is_asked_for(graph: Graph) -> None:
    time = Time()

    assert wait(graph, time) is None

    assert time.now == 60.0


def test_one_that_was_written_long_ago_is_not_waited_for(graph: Graph) -> None:
    os.utime("numbers.txt", (1, 1))
    time = Time()

    assert wait(graph, time) is None

    assert time.waits == 0


def test_nothing_is_waited_for_where_that_is_not_asked_for(graph: Graph) -> None:
    assert wait(graph, Time(), seconds=0.0) is None


def test_one_that_grows_for_a_while_is_waited_for_from_its_last_change_on(graph: Graph) -> None:
    time = Time()

    def grow() -> None:
        if time.waits <= 5:
            with Path("numbers.txt").open("a") as file:
                file.write("4\n")

    time.meanwhile = grow

    assert wait(graph, time) is None

    assert time.now == 5 * 7.5 + 60.0


def test_one_that_never_stops_growing_is_named_after_ten_times_as_long(graph: Graph) -> None:
    time = Time()

    def grow() -> None:
        with Path("numbers.txt").open("a") as file:
            file.write("4\n")

    time.meanwhile = grow

    assert wait(graph, time) == "numbers.txt"

    assert time.now == 600.0


def test_a_time_in_the_future_is_another_machines_clock(graph: Graph) -> None:
    os.utime("numbers.txt", (4e9, 4e9))
    time = Time()

    assert wait(graph, time) is None

    assert time.now == 60.0


def test_one_that_is_replaced_by_another_of_the_same_size_and_time_has_changed(graph: Graph) -> None:
    time = Time()
    before = Path("numbers.txt").stat()

    def replace() -> None:
        if time.waits == 1:
            Path("new.txt").write_text("3\n2\n1\n")
            os.utime("new.txt", ns=(before.st_atime_ns, before.st_mtime_ns))
            Path("new.txt").rename("numbers.txt")

    time.meanwhile = replace

    assert wait(graph, time) is None

    assert time.now == 67.5
