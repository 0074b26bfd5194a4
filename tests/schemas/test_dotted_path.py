"""What names a user's function: a dotted path, or the module file that has it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from schemas.dotted_path import dotted_path_of, in_file, resolve
from schemas.errors import ConfigError


@pytest.fixture(autouse=True)
def forgotten(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Modules and places that a test adds are gone after it."""
    before = set(sys.modules)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield
    for name in set(sys.modules) - before:
        del sys.modules[name]


def test_a_dotted_path_is_itself() -> None:
    assert in_file("my.features.preprocessing_fn", "preprocessing_fn") == "my.features.preprocessing_fn"


def test_the_dotted_path_of_a_class_is_where_it_is_found() -> None:
    assert dotted_path_of(ConfigError) == "schemas.errors.ConfigError"
    assert resolve(dotted_path_of(ConfigError)) is ConfigError


def test_a_module_file_has_its_function_and_imports_what_lies_beside_it(tmp_path: Path) -> None:
    (tmp_path / "pen_module.py").write_text(
        "import pen_beside\n\n\ndef run_fn(args):\n    return pen_beside.FACTOR * args\n"
    )
    (tmp_path / "pen_beside.py").write_text("FACTOR = 2\n")

    dotted = in_file(str(tmp_path / "pen_module.py"), "run_fn")

    assert dotted == "pen_module.run_fn"
    assert resolve(dotted)(21) == 42
    assert in_file(str(tmp_path / "pen_module.py"), "run_fn") == dotted


def test_a_module_file_that_is_called_like_another_module_is_itself(tmp_path: Path) -> None:
    (tmp_path / "json.py").write_text("def run_fn(args):\n    return 'mine'\n")

    dotted = in_file(str(tmp_path / "json.py"), "run_fn")

    assert dotted.startswith("json_")
    assert resolve(dotted)(None) == "mine"
    assert resolve(in_file(str(tmp_path / "json.py"), "run_fn")) is resolve(dotted)


@pytest.mark.parametrize("name", ["pen-module.py", "2024_pen.py", "pen.v2.py"])
def test_a_module_file_may_be_called_what_no_module_can_be(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("def run_fn(args):\n    return args\n")

    assert resolve(in_file(str(tmp_path / name), "run_fn"))(1) == 1


def test_a_module_file_that_fails_is_not_half_there_afterwards(tmp_path: Path) -> None:
    file = tmp_path / "json.py"
    file.write_text("raise KeyError('settings')\n")
    with pytest.raises(KeyError, match="settings"):
        in_file(str(file), "run_fn")

    file.write_text("def run_fn(args): ...\n")

    assert resolve(in_file(str(file), "run_fn"))(None) is None


def test_a_file_that_is_not_there_and_a_function_that_it_lacks_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nothing\.py: there is no such file, and its 'run_fn' is asked for"):
        in_file(str(tmp_path / "nothing.py"), "run_fn")

    (tmp_path / "pen_other.py").write_text("def run_fun(args): ...\n")
    with pytest.raises(ConfigError, match=r"pen_other has no 'run_fn'. Did you mean 'run_fun'\?"):
        resolve(in_file(str(tmp_path / "pen_other.py"), "run_fn"))
