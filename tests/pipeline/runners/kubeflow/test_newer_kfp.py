"""The newest KFP's DSL compiles what the locked one does, in an environment that has KFP and little else."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.runners.kubeflow.package import Package

CHECKOUT = Path(__file__).parents[4]
NEWER = "2.16.1"
# What compiling needs. TensorFlow and TFX's libraries are not among it: a definition's own modules are read, not run.
NEEDED = (
    f"kfp=={NEWER}",
    f"kfp-kubernetes=={NEWER}",
    "pydantic>=2.14,<3",
    "typer>=0.29,<0.30",
    "ruamel.yaml>=0.19,<0.20",
)


def run(*command: str | Path, timeout_s: float = 300) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(part) for part in command], cwd=CHECKOUT, capture_output=True, text=True, timeout=timeout_s, check=False
    )


@pytest.fixture(scope="module")
def newer_kfp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of a throwaway environment. Skips where the registry cannot be reached."""
    environment = tmp_path_factory.mktemp("newer-kfp") / "venv"
    python = environment / "bin" / "python"
    uv = shutil.which("uv", path=f"{CHECKOUT / '.uv' / 'bin'}") or shutil.which("uv")
    if uv is not None:
        made = run(uv, "venv", "--quiet", "--python", sys.executable, environment)
        install = [uv, "pip", "install", "--quiet", "--python", python]
    else:
        made = run(sys.executable, "-m", "venv", environment)
        install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    assert made.returncode == 0, made.stderr
    installed = run(*install, *NEEDED)
    if installed.returncode != 0:
        pytest.skip(f"the package registry gave no kfp {NEWER}: {installed.stderr.strip().splitlines()[-1:]}")
    ours = run(*install, "--no-deps", "--editable", CHECKOUT)
    assert ours.returncode == 0, ours.stderr
    return python


@pytest.mark.slow
@pytest.mark.registry
def test_a_newer_kfp_compiles_the_same_package(
    newer_kfp: Path, tmp_path: Path, compiled: Callable[[object], Package], monkeypatch: pytest.MonkeyPatch
) -> None:
    """But for the version that KFP writes into it."""
    monkeypatch.chdir(CHECKOUT)
    file = tmp_path / "taxi.yaml"
    config = "configs/taxi/pipeline.yaml"

    done = run(newer_kfp, "-m", "pipeline.cli.main", "kubeflow", "compile", config, "-o", file)

    assert done.returncode == 0, done.stderr
    newer, locked = file.read_text().splitlines(), compiled(config).text.splitlines()
    differing = [(new, old) for new, old in zip(newer, locked, strict=True) if new != old]
    assert differing == [(f"sdkVersion: kfp-{NEWER}", next(line for line in locked if line.startswith("sdkVersion:")))]
    assert run(newer_kfp, "-c", "import tensorflow").returncode != 0
    assert "warning: " in done.stdout
    assert "there is no such package here, so nobody looked for the file" in done.stdout  # tfx, whose data this is
