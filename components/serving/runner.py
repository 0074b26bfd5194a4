"""Calls of the event loop -> calls of models, several requests at once where that is allowed, long ones in a few threads."""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from queue import SimpleQueue
from time import perf_counter
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from components.serving.servable import Arrays, Servable, Signature
from components.serving.status import Code, Unanswered

if TYPE_CHECKING:
    import numpy as np

Outputs = dict[str, "np.ndarray[Any, Any]"]
Observe = Callable[[str, float], None]

# Calls as short as this on average are made by the event loop: to hand one to a thread, and its answer back, takes a third of it.
_SHORT_S = 0.001
_PROOF_S = 10 * _SHORT_S  # how much shorter than that its first calls must have been, taken together
_QUIET_PASSES = 2  # of the event loop; a request that has been read is here one pass later


@dataclass(frozen=True, kw_only=True)
class Batching:
    """How requests wait for a thread, and for each other."""

    max_batch_size: int = 1  # rows; with 1 every request is a call of its own
    batch_timeout_micros: int = 0  # how long a request may wait for others while a call could begin
    threads: int = 1  # calls at the same time
    max_queued: int = 1000  # requests that wait; more are refused


@dataclass(eq=False)
class _Call:
    inputs: Arrays
    rows: int
    answer: asyncio.Future[Outputs]


class Pace:
    """How long calls of a signature with about as many values take."""

    def __init__(self) -> None:
        self._saved_s = -_PROOF_S

    @property
    def short(self) -> bool:
        """Whether they are short on average; a long one outweighs as many short ones as would have been made in its time."""
        return self._saved_s > 0

    def add(self, seconds: float) -> None:
        self._saved_s = min(self._saved_s + _SHORT_S - seconds, _PROOF_S)


@dataclass(eq=False)
class _Lane:
    """Requests that may be answered by one call: same version, signature and row shapes."""

    servable: Servable
    signature: Signature
    waiting: deque[_Call] = field(default_factory=deque)
    rows: int = 0
    began: float = field(default_factory=perf_counter)
    ripe: bool = False  # whether it has waited for batch_timeout_micros


@dataclass(eq=False)
class _Batch:
    """Requests that are one call."""

    servable: Servable
    signature: Signature
    calls: Sequence[_Call]
    pace: Pace

    def call(self) -> tuple[Sequence[Outputs | Exception], float]:
        """The answers, and how long they took in seconds. Lets go of the servable."""
        begin = perf_counter()
        answers = self._answers()
        seconds = perf_counter() - begin
        self.servable.release()
        return answers, seconds

    def _answers(self) -> Sequence[Outputs | Exception]:
        if len(self.calls) > 1:
            together = self._answer(self.calls)
            parts = None if isinstance(together, Exception) else _split(together, self.calls)
            if parts is not None:
                return parts
        return [self._answer([call]) for call in self.calls]

    def _answer(self, calls: Sequence[_Call]) -> Outputs | Exception:
        import numpy as np
        import tensorflow as tf

        try:
            inputs = calls[0].inputs
            if len(calls) > 1:
                inputs = {name: np.concatenate([call.inputs[name] for call in calls]) for name in inputs}
            return self.servable.run(self.signature, inputs)
        except tf.errors.OpError as error:
            known = error.error_code in Code._value2member_map_
            return Unanswered(Code(error.error_code) if known else Code.UNKNOWN, error.message)
        except Exception as error:  # noqa: BLE001 it is the requests', and there are others to answer
            return error


class Runner:
    """Runs models for one event loop. A request that was given up is not run if it had not begun.

    A signature whose inputs and outputs all have a first dimension of any size is called with the rows of several requests
    when `max_batch_size` allows it. Without `batch_timeout_micros` such a call begins as soon as nothing more comes in, so that a
    client that is alone does not wait. To share a call changes nothing for a model that treats each row by itself; a matrix product over
    more rows may differ in the last bit. When such a call fails, or its outputs do not have as many rows as went in, each request
    is called alone.

    Calls that are known to be short are made by the event loop itself, unless other threads could run what waits meanwhile.
    """

    def __init__(self, batching: Batching, observe: Observe = lambda model, seconds: None) -> None:
        self._batching = batching
        self._observe = observe
        self._loop = asyncio.get_running_loop()
        self._lanes: OrderedDict[object, _Lane] = OrderedDict()
        self._paces: WeakKeyDictionary[Servable, dict[tuple[str, int], Pace]] = WeakKeyDictionary()
        self._queued = 0
        self._idle = batching.threads
        self._looking = False  # whether the next pass of the event loop looks at what waits
        self._quiet_passes = 0
        self._work: SimpleQueue[_Batch | None] = SimpleQueue()
        self._threads = [
            threading.Thread(target=self._serve, name=f"model-{n}", daemon=True) for n in range(batching.threads)
        ]
        for thread in self._threads:
            thread.start()

    async def run(
        self, servable: Servable, signature: Signature, inputs: Arrays, deadline: float | None = None
    ) -> Outputs:
        """All outputs of the signature for inputs that fit it.

        Raises TimeoutError when there is no answer at `deadline`, a time of the event loop's clock, and Unanswered:
        RESOURCE_EXHAUSTED when too many requests wait, else with the code that TensorFlow gave.
        """
        if self._queued >= self._batching.max_queued + self._idle:
            raise Unanswered(
                Code.RESOURCE_EXHAUSTED, f"{self._queued} requests wait already, the most that may; ask again later"
            )
        call = _Call(inputs, 0, self._loop.create_future())
        key: object = call
        if self._batching.max_batch_size > 1 and signature.by_rows:
            sizes = {len(value) for value in inputs.values()}
            if len(sizes) == 1:
                call.rows = sizes.pop()
                key = (id(servable), signature.name, *[value.shape[1:] for value in inputs.values()])
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = _Lane(servable, signature)
            if call.rows and self._batching.batch_timeout_micros:
                self._loop.call_later(self._batching.batch_timeout_micros / 1e6, self._ripen, lane)
        lane.waiting.append(call)
        lane.rows += call.rows
        self._queued += 1
        self._quiet_passes = 0
        self._look_soon()
        if deadline is None:
            return await call.answer
        timer = self._loop.call_at(deadline, _give_up, call.answer)
        try:
            return await call.answer
        finally:
            timer.cancel()

    def close(self) -> None:
        """Let the threads end when they have done what they are doing."""
        for _ in self._threads:
            self._work.put(None)

    def _ripen(self, lane: _Lane) -> None:
        lane.ripe = True
        self._look_soon()

    def _look_soon(self) -> None:
        if not self._looking:
            self._looking = True
            self._loop.call_soon(self._look)

    def _look(self) -> None:
        """Begin the calls that can begin, lane by lane."""
        self._looking = False
        self._quiet_passes += 1
        for key, lane in list(self._lanes.items()):
            if not self._idle:
                return
            if self._waits(lane):
                continue
            calls = self._take(lane)
            if lane.waiting:
                self._lanes.move_to_end(key)
                self._look_soon()
            else:
                del self._lanes[key]
            # For the call, since the requests may be given up before it has answered.
            if not calls or not lane.servable.acquire():
                continue
            self._idle -= 1
            batch = _Batch(lane.servable, lane.signature, calls, self._pace(lane, calls))
            if batch.pace.short and (self._batching.threads == 1 or not self._lanes):
                self._deliver(batch, *batch.call())
                return  # what has come meanwhile is read before the next call
            self._work.put(batch)

    def _waits(self, lane: _Lane) -> bool:
        """Whether more requests may come that should share the lane's next call."""
        if not lane.rows or lane.rows >= self._batching.max_batch_size:
            return False
        if self._batching.batch_timeout_micros:
            return not lane.ripe
        if self._quiet_passes > _QUIET_PASSES or perf_counter() > lane.began + _SHORT_S:
            return False
        self._look_soon()
        return True

    def _pace(self, lane: _Lane, calls: Sequence[_Call]) -> Pace:
        """That of calls about as large as this one."""
        size = sum(value.size for call in calls for value in call.inputs.values())
        paces = self._paces.setdefault(lane.servable, {})
        return paces.setdefault((lane.signature.name, size.bit_length()), Pace())

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
        while (batch := self._work.get()) is not None:
            called = batch.call()
            try:
                self._loop.call_soon_threadsafe(self._deliver, batch, *called)
            except RuntimeError:  # the loop has ended: nobody waits
                return

    def _deliver(self, batch: _Batch, answers: Sequence[Outputs | Exception], seconds: float) -> None:
        self._idle += 1
        batch.pace.add(seconds)
        for call, answer in zip(batch.calls, answers, strict=True):
            if call.answer.done():
                continue
            if isinstance(answer, Exception):
                call.answer.set_exception(answer)
            else:
                call.answer.set_result(answer)
        self._observe(batch.servable.name, seconds)
        if self._lanes:
            # The clients that are answered now may ask again at once, and join those that wait.
            self._look_soon()


def _give_up(answer: asyncio.Future[Outputs]) -> None:
    if not answer.done():
        answer.set_exception(TimeoutError())


def _split(together: Outputs, calls: Sequence[_Call]) -> list[Outputs | Exception] | None:
    """Each request's own rows of the outputs; nothing when they do not have as many rows as went in."""
    ends = list(accumulate(call.rows for call in calls))
    if any(not value.ndim or len(value) != ends[-1] for value in together.values()):
        return None
    starts = [0, *ends[:-1]]
    return [
        {name: value[start:end] for name, value in together.items()} for start, end in zip(starts, ends, strict=True)
    ]
