"""A running server: what it refuses, what it survives, and versions that change while it is asked."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from components.serving.server import Addresses, Server
from components.serving.service import LARGE
from schemas.errors import ArtifactError, ConfigError

Publish = Callable[..., Path]
Serve = Callable[..., Any]


def client(at: Addresses) -> httpx.Client:
    return httpx.Client(base_url=f"http://{at.host}:{at.rest_port}/v1/models")


def wait_until(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def local(*directories: Path, **settings: Any) -> Server:
    names = tuple(str(directory) for directory in directories)
    return Server(directories=names, **{"rest_port": 0, "grpc_port": 0, "poll_wait_s": 0.05, **settings})


@pytest.fixture(scope="module")
def small(
    half_plus_two: Path, serve: Serve, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Addresses, httpx.Client]]:
    """A server that takes a megabyte."""
    serving = tmp_path_factory.mktemp("serving") / "half"
    shutil.copytree(half_plus_two, serving / "1")
    with serve(local(serving, max_request_mb=1)) as at, client(at) as asked:
        yield at, asked


def ask(asked: httpx.Client) -> httpx.Response:
    return asked.post("/half:predict", json={"instances": [1.0]})


def test_a_body_above_the_limit_is_refused_and_the_server_goes_on(small: tuple[Addresses, httpx.Client]) -> None:
    _, asked = small
    announced = asked.post("/half:predict", content=b" " * (2 << 20))
    streamed = asked.post("/half:predict", content=(b" " * (1 << 16) for _ in range(32)))

    assert (announced.status_code, streamed.status_code) == (413, 413)
    assert "1048576" in announced.json()["error"]
    assert ask(asked).json() == {"predictions": [2.5]}


@pytest.fixture(scope="module")
def hasty(half_plus_two: Path, serve: Serve, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Addresses]:
    """A server whose requests may take half a second."""
    serving = tmp_path_factory.mktemp("hasty") / "half"
    shutil.copytree(half_plus_two, serving / "1")
    with serve(local(serving, request_timeout_s=0.5)) as at:
        yield at


def said_until_closed(connection: socket.socket) -> bytes:
    """What the server sends until it closes the connection. Fails the test when it does not within half a minute."""
    connection.settimeout(30)
    return b"".join(iter(lambda: connection.recv(4096), b""))


@pytest.mark.parametrize("begun", [b"", b'{"instances": ['], ids=["never begins", "never ends"])
def test_a_body_that_does_not_arrive_holds_a_connection_no_longer_than_a_request_may_take(
    hasty: Addresses, begun: bytes
) -> None:
    with socket.create_connection((hasty.host, hasty.rest_port)) as connection:
        connection.sendall(
            b"POST /v1/models/half:predict HTTP/1.1\r\nhost: here\r\ncontent-length: 100\r\n\r\n" + begun
        )
        answer = said_until_closed(connection)

    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"not sent within 0.5 s" in answer


def test_a_body_that_drips_in_is_given_up_as_one_that_does_not_arrive(hasty: Addresses) -> None:
    with socket.create_connection((hasty.host, hasty.rest_port)) as connection:
        connection.sendall(b"POST /v1/models/half:predict HTTP/1.1\r\nhost: here\r\ntransfer-encoding: chunked\r\n\r\n")
        stop = threading.Event()

        def drip() -> None:
            while not stop.wait(0.1):
                try:
                    connection.sendall(b"1\r\n \r\n")
                except OSError:
                    return

        dripping = threading.Thread(target=drip)
        dripping.start()
        try:
            connection.settimeout(30)
            answer = connection.recv(4096)  # the end may come as a reset, of what drips into the closed connection
        finally:
            stop.set()
            dripping.join()

    assert answer.startswith(b"HTTP/1.1 408 ")


def test_lists_in_lists_in_lists_are_refused(small: tuple[Addresses, httpx.Client]) -> None:
    _, asked = small
    deep = b'{"instances": ' + b"[" * 200_000 + b"]" * 200_000 + b"}"
    deeper_than_arrays = b'{"instances": ' + b"[" * 100 + b"1.0" + b"]" * 100 + b"}"

    unlike = b'{"instances": [' + b"[" * 900 + b"1.0" + b"]" * 900 + b", 2.0]}"
    shown = b'{"instances": 1, "inputs": ' + b"[" * 900 + b"]" * 900 + b"}"

    for body in (deep, deeper_than_arrays, unlike, shown):
        answer = asked.post("/half:predict", content=body, timeout=30)
        assert answer.status_code == 400, answer.text
        assert len(answer.text) < 1000


def test_grpc_refuses_a_small_message_that_means_a_huge_tensor(small: tuple[Addresses, httpx.Client]) -> None:
    import grpc
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

    at, _ = small
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "half"
    request.inputs["x"].CopyFrom(tf.make_tensor_proto([1.0], shape=[1]))
    request.inputs["x"].tensor_shape.dim[0].size = 1 << 40

    with (
        grpc.insecure_channel(f"{at.host}:{at.grpc_port}") as channel,
        pytest.raises(grpc.RpcError, match="is larger than 1048576 bytes") as error,
    ):
        prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(request)

    assert error.value.code() == grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("method", ["MultiInference", "HandleReloadConfigRequest"])
def test_what_this_server_does_not_answer_is_said(small: tuple[Addresses, httpx.Client], method: str) -> None:
    import grpc
    from tensorflow_serving.apis import (
        inference_pb2,
        model_management_pb2,
        model_service_pb2_grpc,
        prediction_service_pb2_grpc,
    )

    at, _ = small
    with grpc.insecure_channel(f"{at.host}:{at.grpc_port}") as channel:
        asked: dict[str, tuple[Any, Any]] = {
            "MultiInference": (
                prediction_service_pb2_grpc.PredictionServiceStub(channel),
                inference_pb2.MultiInferenceRequest(),
            ),
            "HandleReloadConfigRequest": (
                model_service_pb2_grpc.ModelServiceStub(channel),
                model_management_pb2.ReloadConfigRequest(),
            ),
        }
        stub, request = asked[method]
        with pytest.raises(grpc.RpcError, match=f"{method} is not answered") as error:
            getattr(stub, method)(request)

    assert error.value.code() == grpc.StatusCode.UNIMPLEMENTED


def test_too_slow_and_too_many_are_said_so_and_the_server_goes_on(
    tmp_path: Path, serve: Serve, publish: Publish, half_plus_two: Path
) -> None:
    publish(half_plus_two, 1)
    slow = {"signature_name": "slow", "instances": [1.0]}

    async def flood(at: Addresses) -> list[int]:
        async with httpx.AsyncClient(base_url=f"http://{at.host}:{at.rest_port}/v1/models", timeout=30) as many:
            answers = await asyncio.gather(*(many.post("/half:predict", json=slow) for _ in range(12)))
            return [answer.status_code for answer in answers]

    limits = {"request_timeout_s": 0.2, "max_queued": 2, "threads": 1}
    with serve(local(tmp_path / "serving" / "half", **limits)) as at, client(at) as asked:
        statuses = asyncio.run(flood(at))
        wait_until(lambda: ask(asked).status_code == 200)

    assert statuses.count(429) == 9  # one is being answered and two wait
    assert 504 in statuses


def test_several_models_are_served_under_their_names(
    tmp_path: Path, serve: Serve, publish: Publish, half_plus_two: Path, half_plus_three: Path
) -> None:
    publish(half_plus_two, 1)
    publish(half_plus_three, 7, "other")
    server = local(tmp_path / "serving" / "half", Path(f"three={tmp_path}/serving/other"))

    with serve(server) as at, client(at) as asked:
        answers = [asked.post(f"/{name}:predict", json={"inputs": [1.0]}).json() for name in ("half", "three")]

    assert answers == [{"outputs": [2.5]}, {"outputs": [3.5]}]


def test_a_version_changes_under_load_and_no_request_fails(
    tmp_path: Path, serve: Serve, publish: Publish, half_plus_two: Path, half_plus_three: Path
) -> None:
    publish(half_plus_two, 1)
    stop = threading.Event()
    answers: list[list[Any]] = [[], [], []]

    with serve(local(tmp_path / "serving" / "half", max_batch_size=8)) as at:

        def load(own: list[Any]) -> None:
            with client(at) as asked:
                while not stop.is_set():
                    answer = ask(asked)
                    own.append(answer.json()["predictions"][0] if answer.status_code == 200 else answer.text)

        threads = [threading.Thread(target=load, args=(own,)) for own in answers]
        for thread in threads:
            thread.start()
        with client(at) as asked:
            for version in range(2, 6):
                publish(half_plus_three if version % 2 == 0 else half_plus_two, version)
                wait_until(lambda version=version: _available(asked) == [str(version)])  # type: ignore[misc]
                asked_until_now = [len(own) for own in answers]  # one answer more may be the earlier version's
                wait_until(lambda before=asked_until_now: all(map(_two_more, answers, before)))  # type: ignore[misc]
                shutil.rmtree(tmp_path / "serving" / "half" / str(version - 1))
        stop.set()
        for thread in threads:
            thread.join()

    for own in answers:
        changes = [value for n, value in enumerate(own) if n == 0 or own[n - 1] != value]
        assert changes == [2.5, 3.5, 2.5, 3.5, 2.5]  # every version in its turn, and never an older one again


def _two_more(own: list[Any], before: int) -> bool:
    return len(own) >= before + 2


def _available(asked: httpx.Client) -> list[str]:
    statuses = asked.get("/half").json()["model_version_status"]
    return [status["version"] for status in statuses if status["state"] == "AVAILABLE"]


def test_what_goes_wrong_on_the_disk_leaves_the_answers_as_they_were(
    tmp_path: Path, serve: Serve, publish: Publish, half_plus_two: Path
) -> None:
    publish(half_plus_two, 1)
    half = tmp_path / "serving" / "half"
    said: list[str] = []

    with serve(local(half), said) as at, client(at) as asked:
        broken = publish(half_plus_two, 2)
        (broken / "saved_model.pb").write_bytes(b"no model")
        wait_until(lambda: "END" in asked.get("/half").text)
        failed = asked.get("/half/versions/2").json()["model_version_status"][0]
        refused = asked.post("/half/versions/2:predict", json={"instances": [1.0]})
        shutil.rmtree(tmp_path / "serving")
        wait_until(lambda: any("what is served stays" in line for line in said))
        answer = ask(asked)

    assert answer.json() == {"predictions": [2.5]}
    assert failed["status"]["error_code"] == "UNKNOWN"
    assert "not a SavedModel" in failed["status"]["error_message"]
    assert refused.json() == {"error": "Servable not found for request: Specific(half, 2)"}


def test_models_config_is_read_again_when_it_changes_and_kept_when_it_is_wrong(
    tmp_path: Path, serve: Serve, publish: Publish, half_plus_two: Path, half_plus_three: Path
) -> None:
    publish(half_plus_two, 1)
    publish(half_plus_three, 2)
    file = tmp_path / "models.config"
    entry = "config {{ name: 'half' base_path: 'serving/half' model_version_policy {{ all {{}} }} version_labels {{ key: 'stable' value: {} }} }}"
    file.write_text(f"model_config_list {{ {entry.format(1)} }}")
    server = Server(models_config=str(file), rest_port=0, grpc_port=0, poll_wait_s=0.05)
    said: list[str] = []

    def stable(asked: httpx.Client) -> Any:
        return asked.post("/half/labels/stable:predict", json={"inputs": [1.0]}).json()

    with serve(server, said) as at, client(at) as asked:
        assert stable(asked) == {"outputs": [2.5]}
        _replace(file, "model_config_list { confg }")
        wait_until(lambda: any("stays as it was" in line for line in said))
        assert stable(asked) == {"outputs": [2.5]}
        _replace(file, f"model_config_list {{ {entry.format(2)} }}")
        wait_until(lambda: stable(asked) == {"outputs": [3.5]})


def _replace(file: Path, text: str) -> None:
    file.with_suffix(".new").write_text(text)
    file.with_suffix(".new").rename(file)


def test_what_is_being_answered_when_the_server_stops_is_answered(
    tmp_path: Path, serve: Serve, publish: Publish, half_plus_two: Path
) -> None:
    publish(half_plus_two, 1)
    body = b'{"signature_name": "slow", "instances": [1.0]}'
    head = f"POST /v1/models/half:predict HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"

    with socket.socket() as slow:
        with serve(local(tmp_path / "serving" / "half", threads=2)) as at, client(at) as asked:
            slow.connect((at.host, at.rest_port))
            slow.sendall(head.encode() + body)
            ask(asked)  # came later and is answered, so the slow one has been read
        answer = b"".join(iter(lambda: slow.recv(65536), b""))

    assert answer.startswith(b"HTTP/1.1 200 OK")
    assert answer.endswith(b'{"predictions":[1.0]}')


def test_a_model_above_64_megabytes_is_served(tmp_path: Path, serve: Serve) -> None:
    import tensorflow as tf

    module = tf.Module()
    module.table = tf.Variable(tf.range(18_000_000, dtype=tf.float32))

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int64, name="place")])
    def look_up(place: Any) -> dict[str, Any]:
        return {"value": tf.gather(module.table, place)}

    tf.saved_model.save(module, str(tmp_path / "table" / "1"), signatures={"serving_default": look_up})

    with serve(local(tmp_path / "table")) as at, client(at) as asked:
        assert asked.post("/table:predict", json={"instances": [0, 12_345_678]}).json() == {
            "predictions": [0.0, 12345678.0]
        }


def test_health_is_for_load_balancers(small: tuple[Addresses, httpx.Client]) -> None:
    at, asked = small

    answer = asked.get(f"http://{at.host}:{at.rest_port}/health")

    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


@pytest.mark.parametrize("setting", ["rest_port", "grpc_port"])
def test_a_port_that_is_taken_is_named_before_any_model_is_loaded(
    tmp_path: Path, serve: Serve, publish: Publish, half_plus_two: Path, setting: str
) -> None:
    publish(half_plus_two, 1)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said: list[str] = []

        with (
            pytest.raises(
                ConfigError, match=rf"^{setting}: 127\.0\.0\.1:{port} cannot be listened on \(Address already"
            ),
            serve(local(tmp_path / "serving" / "half", **{setting: port}), said),
        ):
            pass

    assert said == []


def test_the_port_of_another_server_is_taken_too(
    tmp_path: Path, serve: Serve, small: tuple[Addresses, httpx.Client], publish: Publish, half_plus_two: Path
) -> None:
    publish(half_plus_two, 1)
    at, _ = small

    with (
        pytest.raises(ConfigError, match=r"^grpc_port: "),
        serve(local(tmp_path / "serving" / "half", grpc_port=at.grpc_port)),
    ):
        pass


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("nothing", "There is no directory in it that is named by a number"),
        ("names", "There is no directory in it that is named by a number"),
        ("no model", "has no saved_model.pb"),
        ("another format", "not a SavedModel, or cut short"),
    ],
)
def test_a_server_with_nothing_to_serve_does_not_start_and_says_why(
    tmp_path: Path, serve: Serve, content: str, message: str
) -> None:
    serving = tmp_path / "half"
    version = serving / ("v1" if content == "names" else "1")
    serving.mkdir()
    if content != "nothing":
        version.mkdir()
    if content == "another format":
        (version / "saved_model.pb").write_bytes(os.urandom(1000))

    with (
        pytest.raises(ArtifactError, match=f"half: nothing in {serving} can be served") as error,
        serve(local(serving)),
    ):
        pass

    assert message in str(error.value)


def test_a_directory_in_models_config_that_is_not_there_is_said_to_be_missing(tmp_path: Path, serve: Serve) -> None:
    file = tmp_path / "models.config"
    file.write_text("model_config_list { config { name: 'half' base_path: 'nowhere' } }")

    with (
        pytest.raises(ArtifactError, match=r"can be served\. It cannot be read \(No such file or directory\)$"),
        serve(Server(models_config=str(file), rest_port=0, grpc_port=0)),
    ):
        pass


def test_every_wrong_setting_is_named_at_once() -> None:
    with pytest.raises(ConfigError) as error:
        Server(
            rest_port=-1,
            grpc_port=70_000,
            poll_wait_s=0,
            request_timeout_s=-1,
            max_batch_size=0,
            max_queued=0,
            batch_timeout_micros=-1,
            threads=-1,
            max_request_mb=4096,
        )

    assert [problem.split(":")[0] for problem in error.value.problems] == [
        "directories",
        "rest_port",
        "grpc_port",
        "poll_wait_s",
        "request_timeout_s",
        "max_batch_size",
        "max_queued",
        "batch_timeout_micros",
        "threads",
        "max_request_mb",
    ]


def test_one_port_cannot_be_both() -> None:
    with pytest.raises(ConfigError, match="^grpc_port: is 8500, as rest_port is"):
        Server(directories=("x",), rest_port=8500)


def test_the_answer_is_the_models_own_to_the_last_bit(
    tmp_path: Path, serve: Serve, publish: Publish, half_plus_two: Path
) -> None:
    import numpy as np
    import tensorflow as tf

    publish(half_plus_two, 1)
    values = np.random.default_rng(5).normal(scale=1e3, size=40_000).astype(np.float32)
    expected = tf.saved_model.load(str(half_plus_two)).signatures["serving_default"](x=tf.constant(values))["y"].numpy()

    with serve(local(tmp_path / "serving" / "half")) as at, client(at) as asked:
        answered = []
        for some in (values[:100], values):  # of which the second is large enough to be parsed in a thread
            rows = json.dumps({"instances": [float(str(value)) for value in some]})
            answered.append(asked.post("/half:predict", content=rows, timeout=30).json()["predictions"])

    assert len(rows) > LARGE
    assert np.array_equal(np.array(answered[0], np.float32), expected[:100])
    assert np.array_equal(np.array(answered[1], np.float32), expected)
