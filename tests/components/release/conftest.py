"""A small servable model and the pieces a push needs."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from schemas.artifacts import Blessing, Model, PushedModel
from schemas.component import Lineage, Scratch


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    traced = [item for item in items if item.get_closest_marker("strace")]
    if traced and not _can_trace():
        for item in traced:
            item.add_marker(pytest.mark.skip(reason=f"{item.name}: strace is not installed, or may not trace here"))


def _can_trace() -> bool:
    strace = shutil.which("strace")
    return strace is not None and subprocess.run([strace, "-o", "/dev/null", "true"], check=False).returncode == 0


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A SavedModel that doubles a number, with a vocabulary as its asset."""
    import tensorflow as tf

    directory = tmp_path_factory.mktemp("model")
    vocabulary = directory / "vocabulary.txt"
    vocabulary.write_text("cash\ncard\n")
    module = tf.Module()
    module.weight = tf.Variable([[2.0]])
    module.vocabulary = tf.saved_model.Asset(str(vocabulary))

    @tf.function(input_signature=[tf.TensorSpec([None, 1], tf.float32, name="x")])
    def serve(x: Any) -> dict[str, Any]:
        return {"outputs": tf.matmul(x, module.weight)}

    made = Model(directory / "artifact")
    tf.saved_model.save(module, str(made.serving), signatures={"serving_default": serve})
    return made


@pytest.fixture
def push(tmp_path: Path, model: Model) -> Callable[..., PushedModel]:
    """Run a Pusher as the framework does: a new output and a new scratch directory each time."""

    def run(pusher: Any, **given: Any) -> PushedModel:
        count = len(list(tmp_path.glob("pushed-*")))
        pushed = PushedModel(tmp_path / f"pushed-{count}")
        pushed.path.mkdir()
        arguments: dict[str, Any] = {
            "model": model,
            "blessing": given.pop("blessing", None) or verdict(tmp_path / f"blessing-{count}"),
            "lineage": Lineage(inputs={"model": {"digest": "sha256:candidate"}}),
            "scratch": Scratch(tmp_path / f"scratch-{count}"),
            **given,
        }
        pusher.run(**arguments, pushed_model=pushed)
        return pushed

    return run


def verdict(path: Path, *reasons: str) -> Blessing:
    """A blessing, withheld where there are reasons."""
    blessing = Blessing(path)
    blessing.write(reasons)
    return blessing
