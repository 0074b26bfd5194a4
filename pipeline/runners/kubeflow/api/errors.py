"""What went wrong with a request to Kubeflow's API -> an error that can be acted on."""

from __future__ import annotations

import base64
import binascii
import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from schemas.errors import KubeflowError, Unreachable

if TYPE_CHECKING:
    from kfp_server_api import ApiException
    from urllib3.exceptions import HTTPError


class NotThere(KubeflowError):
    """The API knows no such thing (404)."""


class NoSuchPath(NotThere):
    """404 from something that is not Kubeflow's API, or a part that this server has not."""


class AlreadyThere(KubeflowError):
    """A thing of this name is there already (409)."""


class PackageRefused(KubeflowError):
    """The API server found a mistake in what it was given (400)."""


@dataclass(frozen=True)
class Caller:
    """Who asked and where: what went wrong is told to them."""

    endpoint: str
    namespace: str  # empty while it is not known which is meant
    token: str | None

    def refused(self, error: ApiException, doing: str) -> KubeflowError:
        """The API, or what stands before it, answered no."""
        status, body = error.status, error.body or ""
        said = _message(body) or error.reason or "without a reason"
        where = f"{self.endpoint}: could not {doing}"
        if status == 401 or (status == 403 and _is_page(body)):
            return KubeflowError(f"{where} ({status}: {said.rstrip('.')}): {self._token_wanted()}")
        if status == 403:
            namespace = f" in the namespace {self.namespace}" if self.namespace else ""
            token = "" if self._has_token() else f", and {self._token_wanted()}"
            return KubeflowError(
                f"{where}: you may not do that{namespace} (403: {said.rstrip('.')}). Ask who runs this Kubeflow for the role "
                f"kubeflow-edit there, or give another --namespace{token}"
            )
        if status == 404:
            if _is_kubeflows(body):
                return NotThere(f"{where}: {said}")
            return NoSuchPath(
                f"{self.endpoint}: there is no API of Kubeflow Pipelines there (404 to: {doing}). Give the address under which "
                "/apis/v2beta1 lies, as http://localhost:8080 or https://kubeflow.example.com/pipeline"
            )
        if status == 409:
            return AlreadyThere(f"{where}: {said} (409)")
        if status == 400:
            return PackageRefused(f"{where}: {said}")
        if status == 429 or status in (502, 503, 504):
            return Unreachable(f"{where}: it says {status}: {said}")
        if status == 0:
            return self._untrusted(said)
        return KubeflowError(f"{where}: it says {status}: {said}")

    def _has_token(self) -> bool:
        """Whether there is one that may still be good."""
        ended = _expiry(self.token) if self.token else None
        return bool(self.token) and not (ended and ended < datetime.now(UTC))

    def _token_wanted(self) -> str:
        """What is known of the token, and where another comes from."""
        ended = _expiry(self.token) if self.token else None
        if not self.token:
            found = "no token was given"
        elif ended and ended < datetime.now(UTC):
            found = f"the token expired at {ended:%Y-%m-%d %H:%M} UTC"
        else:
            found = "the token given is not accepted"
        return (
            f"{found}. Set KFP_TOKEN to a new one; `kubectl create token default-editor -n {self.namespace or 'NAMESPACE'} "
            "--audience pipelines.kubeflow.org` makes one where Kubeflow takes Kubernetes' own"
        )

    def something_else(self, data: bytes | str) -> KubeflowError:
        """What answered is not the API."""
        text = data.decode("utf-8", errors="replace") if isinstance(data, bytes) else str(data)
        title = re.search(r"<title[^>]*>\s*([^<]*?)\s*</title>", text, re.IGNORECASE)
        if _is_page(text):
            called = f" ('{title[1]}')" if title else ""
            return KubeflowError(
                f"{self.endpoint}: a web page{called} answered instead of Kubeflow's API, as a login does, or the address is "
                f"another's: {self._token_wanted()}"
            )
        return KubeflowError(
            f"{self.endpoint}: what answers there is not Kubeflow's API: it says {text.strip()!r:.100}"
        )

    def unreachable(self, error: HTTPError, connect_s: int) -> KubeflowError:
        """Nothing answered."""
        reason: Any = getattr(error, "reason", None) or error
        host, kind, text = urlsplit(self.endpoint).netloc or self.endpoint, type(reason).__name__, str(reason)
        if "too many redirects" in text:
            return KubeflowError(
                f"{self.endpoint}: it sends from page to page, as a login does: {self._token_wanted()}"
            )
        if "SSL" in kind or "SSL" in text or "certificate" in text.lower():
            return self._untrusted(text)
        if kind == "NameResolutionError" or "name resolution" in text or "Name or service" in text:
            return Unreachable(f"{self.endpoint}: nobody knows the name {host}: check --endpoint or KFP_ENDPOINT")
        if "refused" in text:
            return Unreachable(
                f"{self.endpoint}: nothing listens there (connection refused). If it is a forwarded port: is "
                "`kubectl port-forward -n kubeflow svc/ml-pipeline-ui 8080:80` still running?"
            )
        if "Timeout" in kind or "timed out" in text:
            return Unreachable(f"{self.endpoint}: no answer in {connect_s} s: is it reached from here (VPN, firewall)?")
        if "RemoteDisconnected" in text or "ConnectionReset" in text or "IncompleteRead" in text:
            return Unreachable(f"{self.endpoint}: the connection broke before there was an answer")
        return Unreachable(f"{self.endpoint}: the connection failed: {text}")

    def _untrusted(self, reason: str) -> KubeflowError:
        if "WRONG_VERSION_NUMBER" in reason or "wrong version number" in reason:
            return KubeflowError(f"{self.endpoint}: it does not speak TLS: give it with http:// instead of https://")
        found = re.search(r"(certificate verify failed: [^(\]]*|[^']*doesn't match[^']*)", reason)
        return KubeflowError(
            f"{self.endpoint}: its certificate is not trusted ({(found[1] if found else reason).strip()}). "
            "Set KFP_SSL_CA_CERT to the file of the authority that signed it"
        )


def _is_page(text: str) -> bool:
    return bool(re.match(r"\s*<(!doctype|html)", text, re.IGNORECASE))


def _is_kubeflows(body: str) -> bool:
    """Whether an error comes from a service of the API, and not from its router or from something in front of it."""
    try:
        said = json.loads(body)
    except ValueError:
        return False
    return isinstance(said, dict) and ("error_message" in said or bool(said.get("details")))


def _message(body: str) -> str:
    """What an error of the API says, in one line, the trace of Go wrappings left out."""
    try:
        said = json.loads(body)
    except ValueError:
        return "" if _is_page(body) else " ".join(body.split())[:300]
    if not isinstance(said, dict):
        return str(said)
    text = said.get("message") or said.get("error_message") or said.get("error") or ""
    return " ".join(str(text).split())


def _expiry(token: str) -> datetime | None:
    """When a JWT ends; None for a token of another kind."""
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
        return datetime.fromtimestamp(float(claims["exp"]), UTC)
    except (ValueError, KeyError, TypeError, binascii.Error, OSError):
        return None
