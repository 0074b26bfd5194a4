"""HTTP for a KfpApi."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from kfp_server.api import KfpApi
from kfp_server.calls import Request


@contextmanager
def serving(api: KfpApi, certificate: Path | None = None) -> Iterator[KfpApi]:
    """`api` at its `url` while the context lasts; over TLS with a file that has a certificate and its key."""
    server = Server(("127.0.0.1", 0), Handler)
    server.api = api
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    api.url = f"{'https' if certificate else 'http'}://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield api
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class Handler(BaseHTTPRequestHandler):
    """HTTP for a KfpApi."""

    protocol_version = "HTTP/1.1"
    server: Server
    disable_nagle_algorithm = True

    def _call(self) -> None:
        parts = urlsplit(self.path)
        length = int(self.headers.get("Content-Length") or 0)
        request = Request(
            self.command,
            parts.path,
            {name: values[-1] for name, values in parse_qs(parts.query).items()},
            self.headers,
            self.rfile.read(length) if length else b"",
        )
        response = self.server.api.answer(request)
        if response is None:
            self.close_connection = True
            return
        body = response.body if isinstance(response.body, bytes) else json.dumps(response.body).encode()
        self.send_response(response.status)
        headers = {"Content-Type": "application/json", **response.headers, "Content-Length": str(len(body))}
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_DELETE = do_PUT = do_PATCH = _call  # noqa: N815 http.server's names

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Say nothing."""


class Server(ThreadingHTTPServer):
    """Serves one KfpApi."""

    daemon_threads = True
    api: KfpApi

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is none of ours."""
