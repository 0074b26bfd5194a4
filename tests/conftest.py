"""What every test needs: the environment the steps run in, and the data that is installed with tfx."""

from __future__ import annotations

import os

# Read once, when TensorFlow is first imported: tf.keras is tf_keras.
os.environ["TF_USE_LEGACY_KERAS"] = "1"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from components.io.keras import arrange
from pipeline.contract import read_contract

# As every step's process does: whoever imports KerasTuner later (tfx among others) gets one that works with tf_keras.
arrange()


def installed_data(path: str) -> Path:
    """A file of an installed package, found without importing it: 'tfx/components/testdata'."""
    package, _, rest = path.partition("/")
    spec = importlib.util.find_spec(package)
    assert spec is not None
    assert spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0]) / rest


@pytest.fixture(scope="session")
def taxi_csv() -> Path:
    """15,002 real taxi trips, 18 columns, with a header."""
    return installed_data("tfx/examples/chicago_taxi_pipeline/data/simple/data.csv")


@pytest.fixture(scope="session")
def small_taxi_csv(taxi_csv: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first 300 trips."""
    file = tmp_path_factory.mktemp("taxi") / "trips.csv"
    with taxi_csv.open(encoding="utf-8") as lines:
        file.write_text("".join(line for line, _ in zip(lines, range(301), strict=False)), encoding="utf-8")
    return file


@pytest.fixture(scope="session")
def outputs_of() -> Callable[[type[Any], Path], dict[str, Any]]:
    """(component, directory) -> its outputs by name, each an empty directory below that one."""

    def make(component: type[Any], directory: Path) -> dict[str, Any]:
        outputs = {name: kind(directory / name) for name, kind in read_contract(component).outputs.items()}
        for output in outputs.values():
            output.path.mkdir(parents=True)
        return outputs

    return make
