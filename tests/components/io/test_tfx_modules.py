"""What a user's module says while TFX runs a step is what it said when the step began, whoever reads it again."""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from pathlib import Path

import pytest

from components.io.tfx_modules import hold

BEFORE = "import held_beside\n\nFACTOR = held_beside.FACTOR\n\n\ndef scale(value):\n    return value * 2\n"


@pytest.fixture
def module_file(tmp_path: Path) -> Path:
    (tmp_path / "held_beside.py").write_text("FACTOR = 3\n")
    (tmp_path / "features.py").write_text(BEFORE)
    return tmp_path / "features.py"


def edit(file: Path) -> None:
    file.write_text(BEFORE.replace("2", "7").replace("held_beside.FACTOR", "'edited'"))
    os.utime(file, ns=(1, 10**18))  # as if long after


def test_a_module_file_that_is_edited_is_read_again_as_it_was(module_file: Path) -> None:
    from tfx.utils import import_utils

    assert hold([str(module_file)]) == {"features.py"}
    edit(module_file)

    function = import_utils.import_func_from_source(str(module_file), "scale")

    assert function(5) == 10
    assert import_utils.import_func_from_source(str(module_file), "FACTOR") == 3
    assert inspect.getsource(function) == "def scale(value):\n    return value * 2\n"
    hold([str(module_file)])  # as the next step does, where it is in the same process
    assert import_utils.import_func_from_source(str(module_file), "scale")(5) == 35


def test_a_module_beside_it_that_is_imported_late_is_read_as_it_was_before_it_was_edited(module_file: Path) -> None:
    late = module_file.with_name("held_late.py")
    late.write_text("FACTOR = 3\n")
    module_file.with_name("held_broken.py").write_bytes(b"\n\n\n\xff\n")

    assert hold([str(module_file)]) == {"features.py", "held_late"}
    late.write_text("FACTOR = 9\n")

    assert importlib.import_module("held_late").FACTOR == 3
    sys.modules.pop("held_late")
    module_file.write_text("import held_late\n\nFACTOR = held_late.FACTOR\n")
    hold([str(module_file)])  # as the next step does, where it is in the same process
    assert importlib.import_module("held_late").FACTOR == 9


def test_a_module_that_is_named_by_its_dotted_path_is_read_again_as_it_was(
    module_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tfx.utils import import_utils

    module_file = module_file.rename(module_file.with_name("held_features.py"))
    monkeypatch.syspath_prepend(str(module_file.parent))
    importlib.import_module("held_features")
    assert hold(["held_features.scale"]) == {"held_features"}
    edit(module_file)

    assert import_utils.import_func_from_module("held_features", "scale")(5) == 10


def test_a_module_that_does_not_load_is_the_user_s_own_exception(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("raise KeyError('settings')\n")

    with pytest.raises(KeyError, match="settings"):
        hold([str(tmp_path / "broken.py")])
