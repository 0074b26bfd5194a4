"""ImportHyperparameters: a file of an earlier search takes the place of a search."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from components.model import hyperparameters as hp
from components.model.import_hyperparameters import ImportHyperparameters
from schemas.artifacts import Hyperparameters
from schemas.errors import ConfigError, DataError


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """What TFX's Tuner writes of a search."""
    import keras_tuner

    values = keras_tuner.HyperParameters()
    values.Int("units", 4, 16, default=8)
    values.values["units"] = 12
    file = tmp_path / "best_hyperparameters.txt"
    file.write_text(json.dumps(values.get_config()), encoding="utf-8")
    return file


def imported(file: Path) -> Hyperparameters:
    found = Hyperparameters(file.parent / "imported")
    found.path.mkdir()
    ImportHyperparameters(path=str(file)).run(found)
    return found


def test_a_trainer_reads_the_values_of_the_file(written):
    found = imported(written)

    assert hp.read(found, {}).values == {"units": 12}
    assert found.file.read_bytes() == written.read_bytes()
    assert found.describe() == f"{written}: units 12"


def test_what_is_no_file_of_a_search_is_refused(tmp_path):
    file = tmp_path / "best.txt"
    file.write_text('{"units": 12}', encoding="utf-8")

    with pytest.raises(
        DataError, match=r"best.txt: not hyperparameters \(KeyError: 'values'\). It is the JSON that Tuner"
    ):
        imported(file)


def test_a_value_that_the_space_lacks_is_named(written):
    written.write_text(written.read_text().replace('{"units": 12}', '{"unist": 12}'), encoding="utf-8")

    with pytest.raises(DataError, match="has a value for unist, which its space does not have"):
        imported(written)


def test_no_path_is_refused():
    with pytest.raises(ConfigError, match="path: give the file"):
        ImportHyperparameters(path=" ")
