"""Which old versions go, and which never do."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.release import retention, staging, versions
from schemas.errors import ConfigError
from schemas.passport import Passport

NUMBERS = st.sets(st.integers(min_value=1, max_value=50), max_size=12)


def serving(directory: Path, *numbers: int) -> Path:
    """A serving directory with versions of ours."""
    for number in numbers:
        version = directory / str(number)
        version.mkdir(parents=True)
        (version / "saved_model.pb").touch()
        Passport(pipeline="", run="", pushed_at="", version=number, model_digest="", files={}).write(version)
    return directory


@given(NUMBERS, st.integers(min_value=1, max_value=8), NUMBERS)
def test_the_newest_and_the_protected_stay(numbers: set[int], keep: int, protected: set[int]) -> None:
    gone = retention.to_retire(numbers, keep, protected)

    newest = sorted(numbers)[-keep:]
    assert set(gone) == numbers - set(newest) - protected
    assert gone == sorted(gone)


def test_what_goes_leaves_nothing_behind(tmp_path: Path) -> None:
    directory = serving(tmp_path, 1, 2, 3, 4)

    assert retention.retire(directory, keep=2) == [1, 2]

    assert sorted(child.name for child in directory.iterdir()) == [staging.LOCK, "3", "4"]


def test_the_served_version_stays_below_a_newer_one_that_cannot_be_served(tmp_path: Path) -> None:
    directory = serving(tmp_path, 1, 2, 3)
    for number in (2, 3):
        (directory / str(number) / "saved_model.pb").unlink()

    assert retention.retire(directory, keep=1) == [2]

    assert versions.served(directory) == directory / "1"


def test_what_another_tool_pushed_is_neither_removed_nor_counted(tmp_path: Path) -> None:
    directory = serving(tmp_path, 1, 3)
    for number in (2, 4):
        (directory / str(number)).mkdir()
        (directory / str(number) / "saved_model.pb").touch()

    assert retention.retire(directory, keep=1) == [1]

    assert versions.listed(directory) == [2, 3, 4]


def test_what_a_killed_removal_left_does_not_stand_in_the_way(tmp_path: Path) -> None:
    directory = serving(tmp_path, 1, 2)
    (directory / f"{staging.REMOVING}1" / "variables").mkdir(parents=True)

    assert retention.retire(directory, keep=1) == [1]

    assert sorted(child.name for child in directory.iterdir()) == [staging.LOCK, "2"]


def test_a_version_that_cannot_be_removed_is_said_and_stays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    directory = serving(tmp_path, 1, 2)
    (directory / f"{staging.REMOVING}1").touch()  # a file, which no directory takes the place of

    assert retention.retire(directory, keep=1) == []

    assert versions.listed(directory) == [1, 2]
    assert "old versions" in capsys.readouterr().err


MODEL = "config {{ name: '{name}' base_path: '{path}' model_platform: 'tensorflow' {more} }}"


def models_config(tmp_path: Path, *models: str) -> Path:
    file = tmp_path / "models.config"
    file.write_text(f"model_config_list {{ {' '.join(models)} }}")
    return file


@pytest.mark.parametrize(
    ("more", "protected"),
    [
        ("", {4}),
        ("version_labels { key: 'stable' value: 2 }", {2, 4}),
        ("model_version_policy { specific { versions: 1 versions: 3 } }", {1, 3}),
        ("model_version_policy { latest { num_versions: 2 } }", {3, 4}),
        ("model_version_policy { all {} }", {1, 2, 3, 4}),
    ],
)
def test_what_a_server_is_told_to_load_or_label_is_protected(tmp_path: Path, more: str, protected: set[int]) -> None:
    directory = serving(tmp_path / "taxi", 1, 2, 3, 4)
    other = MODEL.format(name="other", path="/models/other", more="version_labels { key: 'stable' value: 1 }")

    file = models_config(tmp_path, MODEL.format(name="taxi", path="/models/taxi/", more=more), other)

    assert retention.protected_by(file, directory) == protected


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "model_config_list { config { name: 'other' base_path: '/models/other' } }",
            "no base_path .* ends in 'taxi'.* /models/other",
        ),
        ("model_config_lst {}", "It should be a ModelServerConfig"),
    ],
)
def test_a_models_config_that_says_nothing_of_this_model_is_refused(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "models.config").write_text(content)

    with pytest.raises(ConfigError, match=f"^models_config: .*{message}"):
        retention.protected_by(tmp_path / "models.config", tmp_path / "taxi")
