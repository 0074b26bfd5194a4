"""The `pipeline` command, called in this process."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pipeline.cli.main import main
from schemas.passport import Passport


@dataclass(frozen=True)
class Said:
    """How the command ended and what it wrote."""

    code: int
    out: str
    err: str

    @property
    def data(self) -> dict[str, Any]:
        """The one JSON document on standard output."""
        found: dict[str, Any] = json.loads(self.out)
        return found


@pytest.fixture
def command(capfd: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    """`command("run", "pipeline.yaml", "--json")`."""

    def call(*arguments: str) -> Said:
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(list(arguments))
        out, err = capfd.readouterr()
        return Said(ended.value.code or 0, out, err)

    return call


@pytest.fixture
def serving(tmp_path: Path) -> Path:
    """A serving directory with two models, versions 1 and 2."""
    directory = tmp_path / "serving"
    for version in (1, 2):
        content = f"model {version}"
        (directory / str(version)).mkdir(parents=True)
        (directory / str(version) / "saved_model.pb").write_text(content)
        digest = hashlib.sha256(content.encode()).hexdigest()
        Passport(
            pipeline="",
            run="",
            pushed_at="",
            version=version,
            model_digest=content,
            files={"saved_model.pb": digest},
        ).write(directory / str(version))
    return directory
