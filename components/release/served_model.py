"""A model that a server serves, asked over gRPC as its clients will ask it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from components.release.model_server import NotServed, ServerProcess

if TYPE_CHECKING:
    import numpy as np

_LOOK_S = 0.05
_STATUS_TIMEOUT_S = 10.0


class Unanswered(Exception):
    """The server answered a request with an error: its code and message."""


class ServedModel:
    """The newest version of one model."""

    def __init__(self, server: ServerProcess, channel: Any, model: str, timeout_s: float) -> None:
        from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc

        self._server = server
        self._model = model
        self._timeout_s = timeout_s
        self._predict = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict
        self._status = model_service_pb2_grpc.ModelServiceStub(channel).GetModelStatus

    def answer(self, request: Any) -> dict[str, np.ndarray[Any, Any]]:
        """What the server answers a PredictRequest, by output. Raises Unanswered; NotServed when the server is dead."""
        import tensorflow as tf

        return {name: tf.make_ndarray(tensor) for name, tensor in self.ask(request).outputs.items()}

    def ask(self, request: Any) -> Any:
        """The PredictResponse as it comes. Raises as `answer` does."""
        import grpc

        try:
            return self._predict(request, timeout=self._timeout_s)
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.UNAVAILABLE:
                self._server.raise_if_dying()
            raise Unanswered(f"{error.code().name}: {' '.join(str(error.details()).split())}") from error

    def is_available(self) -> bool:
        """Whether it can be asked. Raises NotServed when the server has given up loading it."""
        import grpc
        from tensorflow_serving.apis import get_model_status_pb2

        request = get_model_status_pb2.GetModelStatusRequest(model_spec={"name": self._model})
        try:
            versions = self._status(request, timeout=_STATUS_TIMEOUT_S).model_version_status
        except grpc.RpcError:
            return False  # it is not listening yet, or does not know the model yet
        state = get_model_status_pb2.ModelVersionStatus.State
        for version in versions:
            if version.state == state.AVAILABLE:
                return True
            if version.status.error_code:
                raise NotServed(f"{self._server.name} does not load it: {version.status.error_message}")
        return False


@contextlib.contextmanager
def available(server: ServerProcess, model: str, load_timeout_s: float, timeout_s: float) -> Iterator[ServedModel]:
    """The model once it can be asked, its warm-up requests answered. A request may take `timeout_s`.

    Raises NotServed when the server dies, gives the model up, or takes longer than `load_timeout_s`.
    """
    import grpc

    options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    options += [("grpc.enable_http_proxy", 0)]  # it is this machine that answers
    deadline = time.monotonic() + load_timeout_s

    def wait() -> None:
        server.raise_if_ended()
        if time.monotonic() > deadline:
            raise NotServed(
                f"{server.name} has not loaded it after {load_timeout_s:g} s (load_timeout_s). Its last words: "
                f"{server.last_words()}"
            )
        time.sleep(_LOOK_S)

    while (address := server.address()) is None:
        wait()
    with grpc.insecure_channel(address, options=options) as channel:
        served = ServedModel(server, channel, model, timeout_s)
        while not served.is_available():
            wait()
        yield served
