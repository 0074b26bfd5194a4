"""Amounts of memory as people and Kubernetes write them."""

from __future__ import annotations

import re

from schemas.errors import ConfigError

_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}
_AMOUNT = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)(b?)", re.IGNORECASE)


def parse_memory(written: str | int) -> int:
    """Bytes in '2GB', '2G', '2Gi', '2GiB', '512MB' or a plain number; k, M, G and T are thousands, with an i 1,024s.

    Upper and lower case are alike, but for '2000m', which Kubernetes reads as 2 bytes. Raises ConfigError for anything else.
    """
    found = _AMOUNT.fullmatch(str(written).strip())
    if found is None or str(written).strip().endswith("m") or (found[3] and not found[2]):
        raise ConfigError(f"'{written}' is no amount of memory: write it as 2GB, 2Gi or 512MB")
    amount = int(float(found[1]) * (1024 if found[3] else 1000) ** _POWERS[found[2].lower()])
    if amount < 1:
        raise ConfigError(f"'{written}' is no memory at all: give a step at least what it needs, such as 1GB")
    return amount


def in_gb(amount: int) -> str:
    """'1.5 GB', as messages show an amount in bytes."""
    return f"{amount / 1e9:.3g} GB"
