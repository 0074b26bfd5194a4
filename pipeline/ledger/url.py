"""Where the ledger is: the definition's URL or the environment's, read and shown without its password."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from schemas.errors import ConfigError

if TYPE_CHECKING:
    from sqlalchemy import URL

VARIABLE = "PENSTOCK_LEDGER"
NONE = "none"  # the URL that says: no index, nothing but the store's own records

# A URL without a driver gets the one that Penstock's environment has.
_DRIVERS = {"postgresql": "postgresql+psycopg", "postgres": "postgresql+psycopg", "mysql": "mysql+pymysql"}


def resolve_ledger_url(
    config_url: str | None, environ: Mapping[str, str] | None = None, *, asked: str | None = None
) -> str | None:
    """The ledger's URL: what was `asked` for on the command line, else PENSTOCK_LEDGER, else the definition's `config_url`.

    PENSTOCK_LEDGER is how a password reaches a pod: from a secret, and not through the definition. None means SQLite under
    the root, and "none" nothing but the store. `environ` is the process's environment unless another is given.
    """
    environ = os.environ if environ is None else environ
    return asked or environ.get(VARIABLE, "").strip() or config_url


def is_none(url: str | None) -> bool:
    """Whether the URL says that there is no index."""
    return url is not None and url.strip().lower() == NONE


def parse(url: str) -> URL:
    """The URL for SQLAlchemy. Raises ConfigError, without the password in its message, for what is none."""
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    wrong = ConfigError(
        f"ledger: '{shown(url)}' is not a database URL. Expected none, sqlite:///FILE, "
        f"postgresql://USER:PASSWORD@HOST/NAME or mysql://USER:PASSWORD@HOST/NAME."
    )
    try:
        parsed = make_url(url.strip())
    except (ArgumentError, ValueError):
        raise wrong from None  # the cause quotes the URL, password and all
    if "@" in (parsed.host or ""):
        raise ConfigError(
            f"ledger: '{shown(url)}' has an '@' in its user or password: write %40 for it, as for every character that "
            f"means something in a URL (%2F for /, %3A for :)."
        )
    return parsed.set(drivername=_DRIVERS.get(parsed.drivername, parsed.drivername))


def shown(url: str) -> str:
    """The URL for people: without password, and without options, which may hold one."""
    scheme, separator, rest = url.strip().partition("://")
    if not separator:
        return re.sub(r":[^:/@]*@", ":***@", url)
    rest = rest.partition("?")[0]
    user, at, place = rest.rpartition("@")
    name, colon, _ = user.partition(":")
    return f"{scheme}://{name}{':***' if colon else ''}{at}{place}"


def secrets_of(url: str) -> list[str]:
    """What a message must not repeat of a URL: its password as it is written and as it is meant, options included.

    Not one of three characters or fewer: taken out of every word, it would make the message unreadable and itself plain.
    """
    from urllib.parse import parse_qsl, unquote

    _, _, rest = url.partition("://")
    rest, _, query = rest.partition("?")
    written = rest.rpartition("@")[0].partition(":")[2]
    options = [value for name, value in parse_qsl(query) if "password" in name.lower()]
    found = {written, unquote(written), *options}
    return sorted(
        (secret for secret in found if len(secret) > 3), key=len, reverse=True
    )  # the longer first: it holds the other
