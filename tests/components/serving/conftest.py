"""Small SavedModels to serve, and serving directories of them."""

from __future__ import annotations

import asyncio
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from components.serving.server import Addresses, Server

Publish = Callable[..., Path]


@pytest.fixture(scope="session")
def half_plus_two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """x / 2 + 2, the model of TensorFlow Serving's documentation, and what else a contract is asked of.

    | signature | takes | gives |
    |---|---|---|
    | serving_default | x float [n] | y [n] |
    | two | a float [n, 2], name string [n] | sum [n], shout string [n], shout_bytes string [n] |
    | types | i int64 [n], b bool [n], d double [n], u int32 [n], image_bytes string [n] | each of them again |
    | classify, regress | tf.Examples with a float x | scores and classes; x / 2 + 2 |
    | whole | x float [n] | total [], the sum of all rows |
    | positive | x float [n] | those above zero, y float [m] |
    | slow | x float [n] | y [n], after 33 billion operations |
    """
    return save_half_plus(2.0, tmp_path_factory.mktemp("half") / "model")


@pytest.fixture(scope="session")
def half_plus_three(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_half_plus(3.0, tmp_path_factory.mktemp("half") / "model")


@pytest.fixture
def publish(tmp_path: Path) -> Publish:
    """Put a model into a serving directory as a version, by one rename."""

    def put(model: Path, version: int, name: str = "half") -> Path:
        serving = tmp_path / "serving" / name
        staged = serving / f".staged-{version}"
        shutil.copytree(model, staged)
        return staged.rename(serving / str(version))

    return put


@pytest.fixture(scope="session")
def serve() -> Callable[..., AbstractContextManager[Addresses]]:
    """`with serve(Server(...)) as addresses`: a server in a thread, stopped at the end."""
    return _serve


@contextmanager
def _serve(server: Server, said: list[str] | None = None) -> Iterator[Addresses]:
    told: list[Addresses | BaseException] = []
    up = threading.Event()
    stop: list[Callable[[], object]] = []

    def started(at: Addresses) -> None:
        told.append(at)
        up.set()

    async def main() -> None:
        stopping = asyncio.Event()
        loop = asyncio.get_running_loop()
        stop.append(lambda: loop.call_soon_threadsafe(stopping.set))
        await server.serve(stopping, started, ([] if said is None else said).append)

    def run() -> None:
        try:
            asyncio.run(main())
        except BaseException as error:  # noqa: BLE001 raised where the server was started
            told.append(error)
        up.set()

    thread = threading.Thread(target=run)
    thread.start()
    up.wait()
    if isinstance(told[0], BaseException):
        thread.join()
        raise told[0]
    try:
        yield told[0]
    finally:
        stop[0]()
        thread.join()
    if len(told) > 1 and isinstance(told[1], BaseException):
        raise told[1]


def save_half_plus(plus: float, path: Path) -> Path:
    import tensorflow as tf

    module = tf.Module()
    module.plus = tf.Variable(plus)

    def answer(x: Any) -> Any:
        return x / 2 + module.plus

    def parsed(examples: Any) -> Any:
        return tf.io.parse_example(examples, {"x": tf.io.FixedLenFeature([], tf.float32)})["x"]

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def default(x: Any) -> dict[str, Any]:
        return {"y": answer(x)}

    @tf.function(
        input_signature=[tf.TensorSpec([None, 2], tf.float32, name="a"), tf.TensorSpec([None], tf.string, name="name")]
    )
    def two(a: Any, name: Any) -> dict[str, Any]:
        shout = tf.strings.upper(name)
        return {"sum": tf.reduce_sum(a, axis=1), "shout": shout, "shout_bytes": shout}

    types_of = {"i": tf.int64, "b": tf.bool, "d": tf.float64, "u": tf.int32, "image_bytes": tf.string}

    @tf.function(input_signature=[tf.TensorSpec([None], kind, name=name) for name, kind in types_of.items()])
    def types(i: Any, b: Any, d: Any, u: Any, image_bytes: Any) -> dict[str, Any]:
        given = {"i": i, "b": b, "d": d, "u": u, "image_bytes": image_bytes}
        return {name: tf.identity(value) for name, value in given.items()}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="inputs")])
    def classify(inputs: Any) -> dict[str, Any]:
        score = tf.sigmoid(parsed(inputs))
        classes = tf.tile(tf.constant([["no", "yes"]]), [tf.size(score), 1])
        return {"scores": tf.stack([1 - score, score], axis=1), "classes": classes}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="inputs")])
    def regress(inputs: Any) -> dict[str, Any]:
        return {"outputs": answer(parsed(inputs))}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def whole(x: Any) -> dict[str, Any]:
        return {"total": tf.reduce_sum(x)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def positive(x: Any) -> dict[str, Any]:
        return {"y": tf.boolean_mask(x, x > 0)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def slow(x: Any) -> dict[str, Any]:
        _, waited = tf.while_loop(
            lambda n, _: n < 1000, lambda n, m: (n + 1, tf.tanh(m @ m)), (tf.constant(0), tf.eye(256) + x[0])
        )
        return {"y": x + 0.0 * waited[0, 0]}

    signatures = {
        "serving_default": default,
        "two": two,
        "types": types,
        "classify": classify,
        "regress": regress,
        "whole": whole,
        "positive": positive,
        "slow": slow,
    }
    tf.saved_model.save(module, str(path), signatures=signatures)
    return path
