"""One call of the API and what goes back: the thing asked for, or a refusal as grpc-gateway and uploads write it."""

from __future__ import annotations

import email
import email.policy
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]
Routes = list[tuple[str, str, Callable[..., Any]]]  # method, pattern of the path, what answers

# gRPC codes and the HTTP status that grpc-gateway makes of them.
INVALID_ARGUMENT, NOT_FOUND, ALREADY_EXISTS, PERMISSION_DENIED, ABORTED, INTERNAL, UNAVAILABLE, UNAUTHENTICATED = (
    3, 5, 6, 7, 10, 13, 14, 16,
)  # fmt: skip  # fmt: skip
STATUS = {3: 400, 5: 404, 6: 409, 7: 403, 10: 409, 13: 500, 14: 503, 16: 401}


class Refusal(Exception):
    """What a service of the API answers instead of the thing asked for."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


@dataclass
class Request:
    """One call."""

    method: str
    path: str
    query: dict[str, str]
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Json:
        """The body."""
        found: Json = json.loads(self.body or b"{}")
        return found

    @property
    def file(self) -> bytes:
        """The part `uploadfile` of a multipart body."""
        head = f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode()
        message = email.message_from_bytes(head + self.body, policy=email.policy.default)
        for part in message.iter_parts():
            if part.get_param("name", header="content-disposition") == "uploadfile":
                return bytes(part.get_payload(decode=True) or b"")
        raise Refusal(INVALID_ARGUMENT, "Failed to read pipeline from file")


@dataclass
class Response:
    """What goes back. A body that is no bytes is written as JSON."""

    body: Any
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


def refusal(error: Refusal, request: Request, *, upload: bool = False, old: bool = False) -> Response:
    """An error's body: of the gateway, or of uploads, which have their own. Before 2.14 an upload's mistakes were 500."""
    if upload:
        status = 500 if old and error.code == INVALID_ARGUMENT else STATUS[error.code]
        said = {
            "error_message": f"Failed to create a pipeline version: {error.message}",
            "error_details": error.message,
        }
        return Response(said, status)
    detail = {"@type": "type.googleapis.com/google.rpc.Status", "code": error.code, "message": error.message}
    body: Json = {"code": error.code, "message": error.message, "details": [detail]}
    return Response({"error": error.message, **body} if old else body, STATUS[error.code])
