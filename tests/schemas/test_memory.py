from __future__ import annotations

import pytest

from schemas.errors import ConfigError
from schemas.memory import in_gb, parse_memory


@pytest.mark.parametrize(
    ("written", "amount"),
    [
        ("2GB", 2_000_000_000),
        ("2G", 2_000_000_000),
        ("2Gi", 2 * 1024**3),
        ("2 GiB", 2 * 1024**3),
        ("512mb", 512_000_000),
        ("512Mi", 512 * 1024**2),
        ("1.5GB", 1_500_000_000),
        ("4096k", 4_096_000),
        (1_000_000, 1_000_000),
    ],
)
def test_amounts_are_read_as_people_and_kubernetes_write_them(written: str | int, amount: int) -> None:
    assert parse_memory(written) == amount


@pytest.mark.parametrize("written", ["", "much", "2000m", "-2GB", "2GBs", "2i", "1e3", True, "0GB"])
def test_what_is_no_amount_is_refused_with_an_example(written: str) -> None:
    with pytest.raises(ConfigError, match=f"^'{written}' is no .*GB"):
        parse_memory(written)


def test_an_amount_is_shown_in_gigabytes() -> None:
    assert in_gb(1_500_000_000) == "1.5 GB"
