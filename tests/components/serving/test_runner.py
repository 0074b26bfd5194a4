"""Requests that come together: answered as if each were alone."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from components.serving import servable
from components.serving.runner import Batching, Pace, Runner
from components.serving.servable import Servable
from components.serving.status import Code, Unanswered


@pytest.fixture(scope="module")
def half(half_plus_two: Path) -> Iterator[Servable]:
    loaded = servable.load("half", 1, half_plus_two)
    yield loaded
    loaded.retire()


def floats(*values: float) -> dict[str, Any]:
    return {"x": np.array(values, np.float32)}


def together(batching: Batching, half: Servable, *requests: tuple[str, dict[str, Any]]) -> tuple[list[Any], int]:
    """The answers to requests sent at once, errors among them, and how many calls of the model it took."""
    calls: list[str] = []

    async def ask() -> list[Any]:
        runner = Runner(batching, lambda model, seconds: calls.append(model))
        asked = [runner.run(half, half.signatures[signature], inputs) for signature, inputs in requests]
        answers = await asyncio.gather(*asked, return_exceptions=True)
        runner.close()
        return list(answers)

    return asyncio.run(ask()), len(calls)


def test_requests_that_come_together_are_one_call_and_get_each_its_own_rows(half: Servable) -> None:
    answers, calls = together(
        Batching(max_batch_size=64),
        half,
        ("serving_default", floats(1)),
        ("serving_default", floats(2, 3)),
        ("serving_default", floats(5)),
    )

    assert calls == 1
    assert [answer["y"].tolist() for answer in answers] == [[2.5], [3.0, 3.5], [4.5]]


def test_without_batching_every_request_is_a_call(half: Servable) -> None:
    answers, calls = together(Batching(), half, *[("serving_default", floats(n)) for n in range(5)])

    assert calls == 5
    assert [answer["y"].tolist() for answer in answers] == [[n / 2 + 2] for n in range(5)]


def test_no_call_has_more_rows_than_allowed_unless_one_request_has(half: Servable) -> None:
    answers, calls = together(
        Batching(max_batch_size=3), half, *[("serving_default", floats(*range(n))) for n in (2, 2, 1, 5, 1)]
    )

    assert calls == 4  # 2, 2 and 1, 5, 1
    assert [len(answer["y"]) for answer in answers] == [2, 2, 1, 5, 1]


def test_rows_of_other_shapes_and_signatures_are_never_mixed(half: Servable) -> None:
    example = np.array([b"\n\x0e\n\x0c\n\x01x\x12\x07\x12\x05\n\x03\x00\x00\x00"], dtype=object)
    pair = {"a": np.ones((1, 2), np.float32), "name": np.array([b"n"], dtype=object)}
    answers, calls = together(
        Batching(max_batch_size=64),
        half,
        ("serving_default", floats(1)),
        ("two", pair),
        ("serving_default", floats(1)),
        ("regress", {"inputs": example}),
    )

    assert calls == 3
    assert answers[0]["y"].tolist() == answers[2]["y"].tolist() == [2.5]
    assert answers[1]["shout"].tolist() == [b"N"]


def test_a_signature_that_mixes_its_rows_is_called_for_each_request_alone(half: Servable) -> None:
    answers, calls = together(Batching(max_batch_size=64), half, ("whole", floats(1, 2)), ("whole", floats(3)))

    assert calls == 2
    assert [float(answer["total"]) for answer in answers] == [3.0, 3.0]


def test_rows_that_cannot_be_told_apart_in_the_outputs_are_asked_for_again_alone(half: Servable) -> None:
    answers, calls = together(
        Batching(max_batch_size=64),
        half,
        ("positive", floats(1, -1)),
        ("positive", floats(-2)),
        ("positive", floats(3)),
    )

    assert calls == 1
    assert [answer["y"].tolist() for answer in answers] == [[1.0], [], [3.0]]


def test_a_request_that_fails_takes_no_other_with_it(half: Servable) -> None:
    import tensorflow as tf

    good = tf.train.Example(
        features=tf.train.Features(feature={"x": tf.train.Feature(float_list=tf.train.FloatList(value=[4.0]))})
    ).SerializeToString()
    answers, _ = together(
        Batching(max_batch_size=64),
        half,
        ("regress", {"inputs": np.array([good], dtype=object)}),
        ("regress", {"inputs": np.array([b"no example"], dtype=object)}),
        ("regress", {"inputs": np.array([good], dtype=object)}),
    )

    assert answers[0]["outputs"].tolist() == answers[2]["outputs"].tolist() == [4.0]
    assert isinstance(answers[1], Unanswered)
    assert answers[1].code == Code.INVALID_ARGUMENT


def test_a_request_beyond_those_that_may_wait_is_refused(half: Servable) -> None:
    answers, _ = together(Batching(max_queued=2), half, *[("serving_default", floats(n)) for n in range(6)])

    refused = [answer for answer in answers if isinstance(answer, Unanswered)]
    assert [answer.code for answer in refused] == [Code.RESOURCE_EXHAUSTED] * 3  # one is being answered, two wait
    assert [answer["y"].tolist() for answer in answers if isinstance(answer, dict)] == [[2.0], [2.5], [3.0]]


def test_a_request_waits_for_others_when_it_is_told_to(half: Servable) -> None:
    calls: list[str] = []

    async def ask() -> list[Any]:
        runner = Runner(
            Batching(max_batch_size=8, batch_timeout_micros=50_000), lambda model, seconds: calls.append(model)
        )
        signature = half.signatures["serving_default"]

        async def later(x: float, after_s: float) -> Any:
            await asyncio.sleep(after_s)
            return (await runner.run(half, signature, floats(x)))["y"].tolist()

        answers = await asyncio.gather(later(1, 0), later(2, 0.005), later(3, 0.01))
        runner.close()
        return answers

    assert asyncio.run(ask()) == [[2.5], [3.0], [3.5]]
    assert len(calls) == 1


def test_more_rows_than_a_call_takes_are_further_calls(half: Servable) -> None:
    answers, calls = together(
        Batching(max_batch_size=2, threads=2), half, *[("serving_default", floats(n)) for n in range(6)]
    )

    assert calls == 3
    assert [answer["y"].tolist() for answer in answers] == [[n / 2 + 2] for n in range(6)]


@pytest.mark.parametrize("max_batch_size", [1, 64])
def test_calls_that_have_been_short_need_no_thread_and_others_do(half: Servable, max_batch_size: int) -> None:
    slow = half.signatures["slow"]
    short = half.signatures["serving_default"]

    async def ask() -> Any:
        loop = asyncio.get_running_loop()
        runner = Runner(Batching(max_batch_size=max_batch_size))
        await runner.run(half, slow, floats(1))
        for n in range(300):
            await runner.run(half, short, floats(n))
        runner.close()
        answer = await runner.run(half, short, floats(1), loop.time() + 30)
        with pytest.raises(TimeoutError):
            await runner.run(half, slow, floats(1), loop.time() + 0.05)
        return answer["y"].tolist()

    assert asyncio.run(ask()) == [2.5]


def test_calls_are_short_when_they_are_on_average() -> None:
    pace = Pace()
    assert not pace.short

    for _ in range(100):
        pace.add(0.0001)
    assert pace.short

    pace.add(0.004)  # another process had the processor
    assert pace.short

    pace.add(1.0)
    for _ in range(1000):
        pace.add(0.0001)
    assert not pace.short


def test_a_request_is_given_up_at_its_deadline_and_those_behind_it_are_answered(half: Servable) -> None:
    async def ask() -> list[Any]:
        runner = Runner(Batching())
        soon = asyncio.get_running_loop().time() + 0.05
        asked = [
            runner.run(half, half.signatures["slow"], floats(1), soon),
            runner.run(half, half.signatures["serving_default"], floats(1), soon),
            runner.run(half, half.signatures["serving_default"], floats(2)),
        ]
        answers = await asyncio.gather(*asked, return_exceptions=True)
        runner.close()
        return list(answers)

    first, second, third = asyncio.run(ask())

    assert isinstance(first, TimeoutError)
    assert isinstance(second, TimeoutError)
    assert third["y"].tolist() == [3.0]


def test_a_request_that_was_given_up_is_not_run(half: Servable) -> None:
    calls: list[str] = []

    async def ask() -> None:
        runner = Runner(Batching(max_batch_size=8), lambda model, seconds: calls.append(model))
        given_up = asyncio.ensure_future(_cancelled(runner, half))
        await given_up
        await asyncio.sleep(0.01)
        runner.close()

    asyncio.run(ask())
    assert calls == []


async def _cancelled(runner: Runner, half: Servable) -> None:
    asked: Coroutine[Any, Any, Any] = runner.run(half, half.signatures["serving_default"], floats(1))
    task = asyncio.ensure_future(asked)
    asyncio.get_running_loop().call_soon(task.cancel)
    with pytest.raises(asyncio.CancelledError):
        await task
