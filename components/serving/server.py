"""Serving directories -> answers over REST and gRPC, until it is stopped."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import socket
import threading
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.serving.model_config import ModelConfig, from_arguments, read_models_config
from components.serving.registry import Registry
from components.serving.runner import Batching
from schemas.errors import ArtifactError, ConfigError

_GRACE_S = 20.0  # how long requests that are being answered may take when the server stops
_KEEP_ALIVE_S = 75.0  # how long a connection may be idle


@dataclass(frozen=True)
class Addresses:
    """Where a server listens."""

    host: str
    rest_port: int
    grpc_port: int


@dataclass(frozen=True, kw_only=True)
class Server:
    """Serving directories -> TensorFlow Serving's REST and gRPC interfaces.

    The ports are taken before models are loaded, so that what comes in the meantime waits and a port that is taken is said at once.

    Either `directories`, each `DIR` or `name=DIR`, of which the largest version is served, or a `models_config`, which is read
    again when it changes. A port of 0 is any that is free.
    """

    directories: tuple[str, ...] = ()
    models_config: str | None = None
    host: str = "127.0.0.1"  # nobody else's machine can ask, unless this says so
    rest_port: int = 8501
    grpc_port: int = 8500
    poll_wait_s: float = 1.0  # between looks at the directories
    request_timeout_s: float = 30.0  # of REST requests, sending included; gRPC's clients bring their own deadlines
    max_request_mb: int = 256  # of a request, 0 < max_request_mb < 2048
    max_batch_size: int = 1  # rows of concurrent requests that may share a call; 1: none do
    batch_timeout_micros: int = 0  # how long a request may wait for others while a thread is free
    threads: int = 0  # calls of models at the same time; 0: half as many as there are cores
    max_queued: int = 1000  # requests that wait for a thread; more are answered 429

    def __post_init__(self) -> None:
        problems = []
        if bool(self.directories) == bool(self.models_config):
            problems.append("directories: give a serving directory, or several as name=DIR, or a models_config instead")
        for name in ("rest_port", "grpc_port"):
            if not 0 <= getattr(self, name) < 65536:
                problems.append(f"{name}: is {getattr(self, name)}, and a port is between 0 (any) and 65535")
        if self.rest_port == self.grpc_port != 0:
            problems.append(f"grpc_port: is {self.grpc_port}, as rest_port is; give one of them another number")
        for name in ("poll_wait_s", "request_timeout_s", "max_batch_size", "max_queued"):
            if not getattr(self, name) > 0:
                problems.append(f"{name}: is {getattr(self, name)}; give a number above 0")
        for name in ("batch_timeout_micros", "threads"):
            if getattr(self, name) < 0:
                problems.append(f"{name}: is {getattr(self, name)}; give 0 or more")
        if not 0 < self.max_request_mb < 2048:
            problems.append(f"max_request_mb: is {self.max_request_mb}; give a number between 1 and 2047")
        if problems:
            raise ConfigError(*problems)

    def run(self, say: Callable[[str], None] = print) -> None:
        """Serve until SIGTERM or Ctrl-C, then answer what is being asked and return. `say` gets a line for every event.

        Raises ConfigError for a port that is taken or a directory that is not there, and ArtifactError when a model has nothing
        that can be served.
        """
        import uvloop

        with self._loaded(say) as (registry, rest):
            # Looking for garbage among all that TensorFlow and the models consist of takes a tenth of a second.
            gc.collect()
            gc.freeze()

            def started(at: Addresses) -> None:
                for name in registry.names:
                    versions = ", ".join(map(str, registry.available(name)))
                    say(f"{name} version {versions}: http://{at.host}:{at.rest_port}/v1/models/{name}")
                say(f"gRPC: {at.host}:{at.grpc_port}")

            async def until_stopped() -> None:
                stop = asyncio.Event()
                for number in (signal.SIGINT, signal.SIGTERM):
                    asyncio.get_running_loop().add_signal_handler(number, stop.set)
                await self._serve(registry, rest, stop, started)

            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(until_stopped())

    async def serve(
        self, stop: asyncio.Event, started: Callable[[Addresses], None], say: Callable[[str], None]
    ) -> None:
        """The same in an event loop of the caller's, until `stop` is set. `started` is told where, once clients may ask."""
        with self._loaded(say) as (registry, rest):
            await self._serve(registry, rest, stop, started)

    @contextlib.contextmanager
    def _loaded(self, say: Callable[[str], None]) -> Iterator[tuple[Registry, socket.socket]]:
        """The models, ready, and the socket for REST: what may fail with a word to the person at the terminal."""
        configs = self._models()
        with _bound(self.host, self.rest_port, "rest_port") as rest:
            if self.grpc_port:
                _bound(self.host, self.grpc_port, "grpc_port").close()  # said now, before models are loaded
            registry = Registry(configs, say)
            try:
                registry.poll()
                _refuse_nothing(registry, configs)
                yield registry, rest
            finally:
                registry.close()

    def _models(self) -> tuple[ModelConfig, ...]:
        return read_models_config(Path(self.models_config)) if self.models_config else from_arguments(self.directories)

    async def _serve(
        self, registry: Registry, rest: socket.socket, stop: asyncio.Event, started: Callable[[Addresses], None]
    ) -> None:
        import uvicorn

        from components.serving.metrics import Metrics
        from components.serving.rest import application
        from components.serving.runner import Runner
        from components.serving.service import Service

        metrics = Metrics()
        runner = Runner(self._batching(), metrics.called)
        service = Service(
            registry=registry, runner=runner, metrics=metrics, max_request_bytes=self.max_request_mb << 20
        )
        config = uvicorn.Config(
            application(service, self.request_timeout_s),
            http="httptools",
            ws="none",
            lifespan="off",
            log_level="warning",
            server_header=False,
            proxy_headers=False,
            access_log=False,
            timeout_keep_alive=int(_KEEP_ALIVE_S),
            timeout_graceful_shutdown=int(_GRACE_S),
        )
        http = uvicorn.Server(config)
        try:
            grpc_server, grpc_port = await self._grpc(service)
            # serve() would take the process's signals, which belong to whoever called.
            serving = asyncio.ensure_future(http._serve([rest]))
            with self._polling(registry):
                while not http.started and not serving.done():
                    await asyncio.sleep(0.01)
                if http.started:
                    started(Addresses(self.host, rest.getsockname()[1], grpc_port))
                stopping = asyncio.ensure_future(stop.wait())
                await asyncio.wait((stopping, serving), return_when=asyncio.FIRST_COMPLETED)
                stopping.cancel()
                http.should_exit = True
                await asyncio.gather(serving, grpc_server.stop(_GRACE_S))
        finally:
            runner.close()

    def _batching(self) -> Batching:
        return Batching(
            max_batch_size=self.max_batch_size,
            batch_timeout_micros=self.batch_timeout_micros,
            threads=self.threads or max(1, (os.cpu_count() or 1) // 2),
            max_queued=self.max_queued,
        )

    async def _grpc(self, service: Any) -> tuple[Any, int]:
        import grpc

        from components.serving.grpc_service import add_services

        server = grpc.aio.server(
            options=[
                ("grpc.max_receive_message_length", service.max_request_bytes),
                ("grpc.max_send_message_length", -1),
                ("grpc.so_reuseport", 0),  # with it a second server would silently take half of the requests
            ]
        )
        await add_services(server, service)
        address = f"[{self.host}]" if ":" in self.host else self.host
        try:
            port = server.add_insecure_port(f"{address}:{self.grpc_port}")
        except RuntimeError as error:
            raise _taken(self.host, self.grpc_port, "grpc_port", str(error)) from error
        await server.start()
        return server, port

    @contextlib.contextmanager
    def _polling(self, registry: Registry) -> Iterator[None]:
        """Look at the directories, and at models.config, in a thread of its own."""
        stop = threading.Event()
        thread = threading.Thread(target=self._poll, args=(registry, stop), name="poll", daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join(_GRACE_S)

    def _poll(self, registry: Registry, stop: threading.Event) -> None:
        config = Path(self.models_config) if self.models_config else None
        read = _written(config)
        while not stop.wait(self.poll_wait_s):
            now = _written(config)
            if config is not None and now is not None and now != read:
                read = now
                try:
                    registry.configure(read_models_config(config))
                except ConfigError as error:
                    registry.say(f"models.config stays as it was: {error}")
            try:
                registry.poll()
            except Exception:  # noqa: BLE001 what is served stays, and the next look may go well
                traceback.print_exc()


def _bound(host: str, port: int, setting: str) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        bound = socket.socket(family, socket.SOCK_STREAM)
        try:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind((host, port))
            bound.listen(2048)
        except OSError:
            bound.close()
            raise
    except OSError as error:
        raise _taken(host, port, setting, error.strerror or str(error)) from error
    return bound


def _taken(host: str, port: int, setting: str, reason: str) -> ConfigError:
    return ConfigError(f"{setting}: {host}:{port} cannot be listened on ({reason}). Give another port, or 0 for any")


def _refuse_nothing(registry: Registry, configs: tuple[ModelConfig, ...]) -> None:
    """At the start every model must have something to serve."""
    empty = [config for config in configs if not registry.available(config.name)]
    if empty:
        raise ArtifactError(
            "\n".join(
                f"{config.name}: nothing in {config.base_path} can be served. {registry.why(config.name)}"
                for config in empty
            )
        )


def _written(file: Path | None) -> tuple[int, int] | None:
    try:
        stat = file.stat() if file else None
    except OSError:
        return None  # being replaced
    return (stat.st_mtime_ns, stat.st_size) if stat else None
