"""Tells somebody how a run ended: JSON by HTTP to an address of theirs."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from pipeline.ledger.database import portable_json

ADDRESS = "PENSTOCK_WEBHOOK"  # environment: the address, where it is not in the definition because nobody may read it
TOKEN = "PENSTOCK_WEBHOOK_TOKEN"  # environment: what is sent as `Authorization: Bearer ...`, from a secret

_TIMEOUT_S = 10.0
_ATTEMPTS = 2
_PAUSE_S = 1.0  # between them


def notify(
    address: str,
    said: Mapping[str, Any],
    token: str = "",
    *,
    timeout_s: float = _TIMEOUT_S,
    attempts: int = _ATTEMPTS,
) -> str | None:
    """Send `said` to `address`; gives why that failed, or None. Never raises, and never tells the address: it may be a secret.

    `timeout_s` is how long the other side may be silent, at each of at most `attempts`.
    """
    from urllib.error import HTTPError
    from urllib.request import HTTPRedirectHandler, Request, build_opener

    class StaysHere(HTTPRedirectHandler):
        """Follows nowhere: what is sent on would be a GET without a word of ours, and the token would go to whoever is named."""

        def redirect_request(self, *_: object) -> None:
            return None

    try:
        parts = urlsplit(address)
        place = f"the webhook at {parts.hostname}"
        if parts.scheme not in ("http", "https") or not parts.hostname:
            return "the webhook's address is none: expected http:// or https:// and a host"
        body = portable_json(said).encode()
        headers = {"Content-Type": "application/json", "User-Agent": "penstock"}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        problem = ""
        for attempt in range(attempts):
            if attempt:
                time.sleep(_PAUSE_S)
            try:
                with build_opener(StaysHere).open(Request(address, body, headers), timeout=timeout_s):
                    return None
            except HTTPError as error:
                elsewhere = ", which names another address: give that one" if 300 <= error.code < 400 else ""
                problem = f"{place} answered {error.code} {error.reason}{elsewhere}"
                if error.code < 500:
                    break  # it will say the same again
            except OSError as error:
                problem = f"{place} cannot be reached: {getattr(error, 'reason', error)}"
    except Exception as error:  # noqa: BLE001 nothing that goes wrong here is a reason to fail a finished run
        return f"the webhook was not told: {type(error).__name__}"
    return problem


def address_from(environ: Mapping[str, str], configured: str | None) -> str | None:
    """The environment's address, or else the definition's."""
    return environ.get(ADDRESS, "").strip() or configured


def token_from(environ: Mapping[str, str]) -> str:
    """What proves to the other side who tells; empty where it asks for nothing."""
    return environ.get(TOKEN, "").strip()
