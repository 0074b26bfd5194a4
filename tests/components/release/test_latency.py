"""Latency: percentiles of what was timed, and which round counts."""

from __future__ import annotations

import pytest

from components.release.latency import ROUNDS, Latency, measure


@pytest.mark.parametrize(
    ("seconds", "p50", "p99"),
    [
        ([0.004], 4, 4),
        ([0.003, 0.001, 0.002, 0.010], 2, 10),
        ([number / 1000 for number in range(200, 0, -1)], 100, 198),
    ],
)
def test_at_least_half_and_99_of_100_requests_took_no_longer(seconds: list[float], p50: float, p99: float) -> None:
    found = Latency.of(seconds)

    assert (found.p50_ms, found.p99_ms, found.requests) == pytest.approx((p50, p99, len(seconds)))


def test_bounds_are_missed_above_them_and_not_at_them() -> None:
    assert Latency(2.0, 10.0, 5).above({"p50_ms": 2.0, "p99_ms": 9.5}) == {"p99_ms": 9.5}


class Client:
    """Asks a server that takes a given time for each request, by a clock of its own."""

    def __init__(self, *seconds: float) -> None:
        self.asked: list[int] = []
        self.now = 0.0
        self._seconds = seconds

    def ask(self, number: int) -> None:
        self.now += self._seconds[len(self.asked)]
        self.asked.append(number)

    def measure(self, requests: int, **most: float) -> Latency:
        return measure(self.ask, requests, most, clock=lambda: self.now)


def test_without_a_missed_bound_each_request_is_made_once() -> None:
    client = Client(0.001, 0.002, 0.003)

    found = client.measure(3, p99_ms=3.5)

    assert (found.p50_ms, found.p99_ms) == pytest.approx((2.0, 3.0))
    assert client.asked == [0, 1, 2]


def test_a_round_that_something_else_slowed_down_does_not_count() -> None:
    client = Client(0.001, 0.050, 0.002, 0.003)

    assert not client.measure(2, p99_ms=25).above({"p99_ms": 25})

    assert client.asked == [0, 1, 0, 1]


def test_a_bound_that_every_round_misses_is_missed_by_the_best_of_them() -> None:
    client = Client(*[0.030, 0.050, 0.020, 0.040, 0.060, 0.070][: 2 * ROUNDS])

    found = client.measure(2, p99_ms=25)

    assert found.above({"p99_ms": 25})
    assert found.p99_ms == pytest.approx(40)
