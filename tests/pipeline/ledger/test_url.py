"""A ledger's URL: who says it, how it is read, and that nobody sees its password."""

from __future__ import annotations

import pytest

from pipeline.ledger import Ledger, resolve_ledger_url
from pipeline.ledger.url import parse, shown
from pipeline.store import Store
from schemas.errors import ConfigError


@pytest.mark.parametrize(
    ("asked", "environment", "config", "expected"),
    [
        pytest.param(None, None, None, None, id="nobody"),
        pytest.param(None, None, "none", "none", id="config"),
        pytest.param(None, "sqlite:///e", "sqlite:///c", "sqlite:///e", id="environment"),
        pytest.param(None, " sqlite:///e\n", None, "sqlite:///e", id="environment-from-a-file-with-a-newline"),
        pytest.param(None, "", "sqlite:///c", "sqlite:///c", id="empty-environment"),
        pytest.param("none", "sqlite:///e", "sqlite:///c", "none", id="asked"),
    ],
)
def test_the_command_line_goes_before_the_environment_and_that_before_the_definition(
    asked: str | None, environment: str | None, config: str | None, expected: str | None
) -> None:
    environ = {} if environment is None else {"PENSTOCK_LEDGER": environment}

    assert resolve_ledger_url(config, environ, asked=asked) == expected


@pytest.mark.parametrize(
    ("url", "driver"),
    [
        ("postgresql://u:p@h/d", "postgresql+psycopg"),
        ("postgres://u:p@h/d", "postgresql+psycopg"),
        ("postgresql+pg8000://u:p@h/d", "postgresql+pg8000"),
        ("mysql://u:p@h/d", "mysql+pymysql"),
        ("sqlite:///file", "sqlite"),
    ],
)
def test_a_url_without_a_driver_gets_the_one_that_is_there(url: str, driver: str) -> None:
    assert parse(url).drivername == driver


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("postgresql://u:secret@h:5432/d?sslmode=require", "postgresql://u:***@h:5432/d"),
        ("postgresql://u:se@cr:et/@h/d", "postgresql://u:***@h/d"),
        ("postgresql://u@h/d?password=secret", "postgresql://u@h/d"),
        ("postgresql:///d?host=/run/postgresql", "postgresql:///d"),
        ("u:secret@h/d", "u:***@h/d"),
        ("sqlite:///file", "sqlite:///file"),
    ],
)
def test_it_is_shown_without_its_password(url: str, expected: str) -> None:
    assert shown(url) == expected


@pytest.mark.parametrize(
    ("url", "match"),
    [
        pytest.param(
            "somewhere", "ledger: 'somewhere' is not a database URL. Expected none, sqlite:///FILE", id="word"
        ),
        pytest.param("u:secret@host/db", r"'u:\*\*\*@host/db' is not a database URL", id="no-scheme"),
        pytest.param("postgresql://u:secret@host:port/db", "is not a database URL", id="port"),
        pytest.param("postgresql://u:sec@ret@host/db", "has an '@' in its user or password: write %40", id="at"),
        pytest.param("nosuch://u:secret@host/db", "is not a database URL", id="unknown"),
        pytest.param("oracle://u:secret@host/db", "ledger: oracledb is not installed", id="driver"),
    ],
)
def test_one_that_cannot_be_used_is_a_mistake_in_the_definition_told_without_its_password(
    store: Store, url: str, match: str
) -> None:
    with pytest.raises(ConfigError, match=match) as caught:
        Ledger(store, url).runs()

    assert "sec" not in str(caught.value)
    assert "ret" not in str(caught.value)
