"""A task of Kubeflow's leaves no temporary files, also where pods share a directory for them."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import pytest

Cluster = Any  # of conftest.py, which cannot be imported

LITTERING = '''
from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from schemas.artifacts import Examples, Statistics
from schemas.component import Out


@dataclass(frozen=True, kw_only=True)
class Litter:
    """Examples -> Statistics: leaves a temporary directory."""

    def run(self, examples: Examples, statistics: Out[Statistics]) -> None:
        Path(tempfile.mkdtemp(prefix="beam-temp"), "file").write_text("left")
        (statistics.path / "count.json").write_text("3")
        if Path("broken").exists():
            raise ValueError("so it was told")
'''


@pytest.mark.parametrize(("broken", "outcome"), [(False, "done"), (True, "failed")])
def test_a_task_leaves_no_temporary_files_and_its_process_as_it_was(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: bool, outcome: str
) -> None:
    (cluster.project / "project_litter.py").write_text(LITTERING)
    definition = cluster.project / "pipeline.yaml"
    definition.write_text(definition.read_text().replace("project_steps.Count", "project_litter.Litter"))
    shared = tmp_path / "shared"
    shared.mkdir()
    monkeypatch.setenv("TMPDIR", str(shared))
    monkeypatch.setattr(tempfile, "tempdir", None)
    cluster.here("read")
    if broken:
        Path("broken").touch()
    before = dict(os.environ)

    result, _ = cluster.task("count")

    assert result.outcome == outcome
    assert list(shared.iterdir()) == []
    assert dict(os.environ) == before
    assert tempfile.gettempdir() == str(shared)
