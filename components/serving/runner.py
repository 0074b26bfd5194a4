"""Calls of the event loop -> calls of models in a few threads, several requests at once where that is allowed."""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from components.serving.servable import Arrays, Servable, Signature
from components.serving.status import Code, Unanswered

if TYPE_CHECKING:
    import numpy as np

Outputs = dict[str, "np.ndarray[Any, Any]"]
Observe = Callable[[str, float], None]


@dataclass(frozen=True, kw_only=True)
class Batching:
    """How requests wait for a thread, and for each other."""

    max_batch_size: int = 1  # rows; with 1 every request is a call of its own
    batch_timeout_micros: int = 0  # how long a request may wait for others while a thread is free
    threads: int = 1  # calls at the same time
    max_queued: int = 1000  # requests that wait; more are refused


@dataclass(eq=False)
class _Call:
    inputs: Arrays
    rows: int
    answer: asyncio.Future[Outputs]


@dataclass(eq=False)
class _Lane:
    """Requests that may be answered by one call: same version, signature and row shapes."""

    servable: Servable
    signature: Signature
    waiting: deque[_Call] = field(default_factory=deque)
    rows: int = 0
    ripe: bool = True  # whether it need not wait for more


class Runner:
    """Runs models for one event loop. A request that was given up is not run if it had not begun.

    A signature whose inputs and outputs all have a first dimension of any size is called with the rows of several requests
    when `max_batch_size` allows it. Rows then share a call, which changes nothing for a model that treats each row by itself; a
    matrix product over more rows may differ in the last bit. When such a call fails, or its outputs do not have as many rows
    as went in, each request is called alone.
    """

    def __init__(self, batching: Batching, observe: Observe = lambda model, seconds: None) -> None:
        self._batching = batching
        self._observe = observe
        self._loop = asyncio.get_running_loop()
        self._lanes: OrderedDict[object, _Lane] = OrderedDict()
        self._queued = 0
        self._idle = batching.threads
        self._soon = False
        self._work: SimpleQueue[tuple[_Lane, list[_Call]] | None] = SimpleQueue()
        self._threads = [
            threading.Thread(target=self._serve, name=f"model-{n}", daemon=True) for n in range(batching.threads)
        ]
        for thread in self._threads:
            thread.start()

    async def run(self, servable: Servable, signature: Signature, inputs: Arrays) -> Outputs:
        """All outputs of the signature for inputs that fit it.

        Raises Unanswered: RESOURCE_EXHAUSTED when too many requests wait, else with the code that TensorFlow gave.
        """
        if self._queued >= self._batching.max_queued:
            raise Unanswered(
                Code.RESOURCE_EXHAUSTED, f"{self._queued} requests wait already, the most that may; ask again later"
            )
        call = _Call(inputs, 0, self._loop.create_future())
        key: object = call
        if self._batching.max_batch_size > 1 and signature.by_rows:
            sizes = {len(value) for value in inputs.values()}
            if len(sizes) == 1:
                call.rows = sizes.pop()
                key = (id(servable), signature.name, *(value.shape[1:] for value in inputs.values()))
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = _Lane(servable, signature)
            if call.rows and self._batching.batch_timeout_micros:
                lane.ripe = False
                self._loop.call_later(self._batching.batch_timeout_micros / 1e6, self._ripen, lane)
        lane.waiting.append(call)
        lane.rows += call.rows
        self._queued += 1
        if not call.rows:
            self._dispatch()
        elif not self._soon:  # after the requests that have come in at the same time
            self._soon = True
            self._loop.call_soon(self._dispatch)
        return await call.answer

    def close(self) -> None:
        """Let the threads end when they have done what they are doing."""
        for _ in self._threads:
            self._work.put(None)

    def _ripen(self, lane: _Lane) -> None:
        lane.ripe = True
        self._dispatch()

    def _dispatch(self) -> None:
        """Give idle threads what waits, lane by lane."""
        self._soon = False
        for key, lane in list(self._lanes.items()):
            if not self._idle:
                return
            if not lane.ripe and lane.rows < self._batching.max_batch_size:
                continue
            calls = self._take(lane)
            if lane.waiting:
                self._lanes.move_to_end(key)
            else:
                del self._lanes[key]
            # For the thread, since the requests may be given up before it has answered.
            if calls and lane.servable.acquire():
                self._idle -= 1
                self._work.put((lane, calls))

    def _take(self, lane: _Lane) -> list[_Call]:
        """The next calls of a lane that together have at most `max_batch_size` rows, or one that has more."""
        calls: list[_Call] = []
        rows = 0
        while lane.waiting and (not calls or rows + lane.waiting[0].rows <= self._batching.max_batch_size):
            call = lane.waiting.popleft()
            lane.rows -= call.rows
            self._queued -= 1
            if not call.answer.done():
                calls.append(call)
                rows += call.rows
        return calls

    def _serve(self) -> None:
        """What a thread does."""
        from time import perf_counter

        while (work := self._work.get()) is not None:
            lane, calls = work
            begin = perf_counter()
            answers = _answers(lane.servable, lane.signature, calls)
            seconds = perf_counter() - begin
            lane.servable.release()
            try:
                self._loop.call_soon_threadsafe(self._deliver, lane.servable.name, calls, answers, seconds)
            except RuntimeError:  # the loop has ended: nobody waits
                return

    def _deliver(
        self, model: str, calls: Sequence[_Call], answers: Sequence[Outputs | Exception], seconds: float
    ) -> None:
        self._idle += 1
        for call, answer in zip(calls, answers, strict=True):
            if call.answer.done():
                continue
            if isinstance(answer, Exception):
                call.answer.set_exception(answer)
            else:
                call.answer.set_result(answer)
        self._observe(model, seconds)
        if self._lanes and not self._soon:
            # The clients that are answered now may ask again at once, and join those that wait.
            self._soon = True
            self._loop.call_soon(self._dispatch)


def _answers(servable: Servable, signature: Signature, calls: Sequence[_Call]) -> list[Outputs | Exception]:
    if len(calls) == 1:
        return [_answer(servable, signature, calls[0].inputs)]
    import numpy as np

    inputs = {name: np.concatenate([call.inputs[name] for call in calls]) for name in signature.inputs}
    together = _answer(servable, signature, inputs)
    ends = np.cumsum([call.rows for call in calls]).tolist()
    if isinstance(together, Exception) or any(not v.ndim or len(v) != ends[-1] for v in together.values()):
        return [_answer(servable, signature, call.inputs) for call in calls]
    starts = [0, *ends[:-1]]
    return [
        {name: value[start:end] for name, value in together.items()} for start, end in zip(starts, ends, strict=True)
    ]


def _answer(servable: Servable, signature: Signature, inputs: Arrays) -> Outputs | Exception:
    import tensorflow as tf

    try:
        return servable.run(signature, inputs)
    except tf.errors.OpError as error:
        known = error.error_code in Code._value2member_map_
        return Unanswered(Code(error.error_code) if known else Code.UNKNOWN, error.message)
    except Exception as error:  # noqa: BLE001 it is the request's, and the thread has others to answer
        return error
