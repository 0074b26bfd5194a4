"""TensorFlow Serving's REST interface: https://www.tensorflow.org/tfx/serving/api_rest."""

from __future__ import annotations

import asyncio
import re
import traceback
from collections.abc import Awaitable, Callable, MutableMapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import orjson

from components.io.serving_directory import LARGEST
from components.serving import calls, json_answers, json_requests
from components.serving import metrics as monitoring
from components.serving.servable import Servable
from components.serving.service import LARGE, Service, Target, metadata
from components.serving.status import Code, Unanswered, invalid

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

HEALTH = "/health"
_JSON = (b"content-type", b"application/json")
_WHICH = r"(?:(?:/versions/(?P<version>\d+))|(?:/labels/(?P<label>[^/:]+)))?"
_POST = re.compile(rf"/v1/models/(?P<model>[^/:]+){_WHICH}:(?P<verb>classify|regress|predict)", re.IGNORECASE)
_GET = re.compile(rf"/v1/models(?:/(?P<model>[^/:]+))?{_WHICH}(?:/(?P<verb>metadata))?", re.IGNORECASE)


def application(service: Service, timeout_s: float) -> Application:
    """The whole of what HTTP clients see. A request that takes longer than `timeout_s` is answered 504, or 408 while its body is
    still being sent.
    """
    from starlette.applications import Starlette
    from starlette.exceptions import HTTPException
    from starlette.responses import Response
    from starlette.routing import Route

    async def health(request: Request) -> Response:
        if service.registry.ready:
            return Response(b'{"status":"ok"}', 200, media_type="application/json")
        return Response(json_answers.error("there is nothing to serve"), 503, media_type="application/json")

    async def metrics(request: Request) -> Response:
        page, kind = service.metrics.page()
        return Response(page, 200, media_type=kind)

    async def elsewhere(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return Response(json_answers.error(error.detail), error.status_code, media_type="application/json")

    models = _Models(service, timeout_s)
    others = Starlette(
        routes=[Route(HEALTH, health), Route(monitoring.PATH, metrics)],
        exception_handlers={HTTPException: elsewhere},
    )

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        # Starlette's way to a route takes about as long as all that is done here for a prediction beside the model's call.
        await (models if scope["path"].startswith("/v1/") else others)(scope, receive, send)

    return application


class _Unread(Exception):
    """A body that is not read to its end, and HTTP's own status for why, which no canonical code has."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


class _Gone(Exception):
    """The client went away before it had sent its request."""


class _Models:
    """Everything below /v1, as a bare ASGI application: what every request passes is worth the plainness."""

    def __init__(self, service: Service, timeout_s: float) -> None:
        self._service = service
        self._timeout_s = timeout_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        close = False
        try:
            status, body = 200, await self._answer(scope, receive)
        except Unanswered as error:
            status, body = error.code.http, json_answers.error(error.message)
        except _Unread as error:
            status, body, close = error.status, json_answers.error(str(error)), True
        except _Gone:
            return
        except Exception as error:  # noqa: BLE001 one request's, and the client is told; the server goes on
            traceback.print_exc()
            status, body = 500, json_answers.error(f"{type(error).__name__}: {error}")
        headers = [_JSON, (b"content-length", str(len(body)).encode())]
        if close:  # what is left of the body is not read
            headers.append((b"connection", b"close"))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _answer(self, scope: Scope, receive: Receive) -> bytes:
        method: str = scope["method"]
        target, verb = _parsed(method, scope["path"])
        if method == "GET":
            if not target.model:
                raise invalid("Missing model name in request.")
            return self._metadata(target) if verb else self._status(target)
        deadline = asyncio.get_running_loop().time() + self._timeout_s
        try:
            async with asyncio.timeout_at(deadline):
                body = await _body(scope, receive, self._service.max_request_bytes)
        except TimeoutError as error:
            raise _Unread(408, f"the request was not sent within {self._timeout_s:g} s, this server's limit") from error
        with self._service.counted(target, verb.capitalize(), "REST"):
            try:
                return await self._infer(target, verb, body, deadline)
            except TimeoutError as error:
                raise Unanswered(
                    Code.DEADLINE_EXCEEDED, f"not answered within {self._timeout_s:g} s, this server's limit"
                ) from error

    async def _infer(self, target: Target, verb: str, body: bytes, deadline: float) -> bytes:
        document = (
            await asyncio.to_thread(json_requests.parse, body) if len(body) > LARGE else json_requests.parse(body)
        )
        with self._service.using(target) as servable:
            if verb == "predict":
                return await self._predict(servable, document, len(body) > LARGE, deadline)
            name = json_requests.signature_name(document)
            examples = json_requests.examples(document)
            if verb == "classify":
                signature = calls.classify_signature(servable, name)
                outputs = await self._service.runner.run(servable, signature, calls.examples_input(examples), deadline)
                return json_answers.classification(calls.classifications(outputs, len(examples)))
            signature = calls.regress_signature(servable, name)
            outputs = await self._service.runner.run(servable, signature, calls.examples_input(examples), deadline)
            return json_answers.regression(calls.regressions(outputs, len(examples)))

    async def _predict(self, servable: Servable, document: dict[str, Any], large: bool, deadline: float) -> bytes:
        if not large:
            signature, inputs, in_rows = json_requests.predict_request(document, servable)
        else:
            signature, inputs, in_rows = await asyncio.to_thread(json_requests.predict_request, document, servable)
        calls.check_inputs(signature, inputs)
        outputs = await self._service.runner.run(servable, signature, inputs, deadline)
        if not large:
            return json_answers.predictions(outputs, in_rows)
        return await asyncio.to_thread(json_answers.predictions, outputs, in_rows)

    def _status(self, target: Target) -> bytes:
        found = self._service.registry.status(target.model, target.version, target.label)
        versions = [
            {
                "version": str(one.version),
                "state": one.state,
                "status": {"error_code": one.code, "error_message": one.error},
            }
            for one in found
        ]
        return orjson.dumps({"model_version_status": versions}, option=orjson.OPT_INDENT_2)

    def _metadata(self, target: Target) -> bytes:
        with self._service.using(target) as servable:
            spec = {"name": servable.name, "signature_name": "", "version": str(servable.version)}
            document = {"model_spec": spec, "metadata": {"signature_def": metadata(servable)}}
            return orjson.dumps(document, option=orjson.OPT_INDENT_2)


@lru_cache(1024)
def _parsed(method: str, path: str) -> tuple[Target, str]:
    """What a path asks for, and the verb behind it: predict, classify, regress, metadata or none."""
    form = {"POST": _POST, "GET": _GET}.get(method)
    match = form.fullmatch(path) if form else None
    if match is None:
        raise invalid(f"Malformed request: {method} {path}")
    version = match["version"]
    if version is not None and int(version) > LARGEST:
        raise invalid(f"Failed to convert version: {version} to numeric.")
    target = Target(match["model"] or "", None if version is None else int(version), match["label"])
    return target, (match["verb"] or "").lower()


async def _body(scope: Scope, receive: Receive, most: int) -> bytes:
    for name, value in scope["headers"]:
        if name == b"content-length" and int(value) > most:
            raise _Unread(413, f"the request has {int(value)} bytes, and this server takes {most}")
    message = await receive()
    if message["type"] == "http.disconnect":
        raise _Gone
    if not message.get("more_body"):
        return bytes(message["body"])
    parts = [message["body"]]
    size = len(parts[0])
    while message.get("more_body"):
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _Gone
        parts.append(message["body"])
        size += len(parts[-1])
        if size > most:
            raise _Unread(413, f"the request has more than {most} bytes, which is all that this server takes")
    return b"".join(parts)
