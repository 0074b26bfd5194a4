"""A webhook on this machine."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest


@dataclass
class Heard:
    """What a server was told."""

    url: str
    answer: int = 200
    bodies: list[dict[str, Any]] = field(default_factory=list)
    tokens: list[str | None] = field(default_factory=list)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Heard]:
    """One that hears what it is sent, which no variable of the environment leads to."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            heard.bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            heard.tokens.append(self.headers["Authorization"])
            self.send_response(heard.answer)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 the base class's name
            pass

    for name in ("PENSTOCK_WEBHOOK", "PENSTOCK_WEBHOOK_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    heard = Heard(f"http://127.0.0.1:{listening.server_port}/hooks/secret-path")
    thread = threading.Thread(target=listening.serve_forever, args=(0.02,))
    thread.start()
    yield heard
    listening.shutdown()
    thread.join()
    listening.server_close()
