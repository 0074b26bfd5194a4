"""What libraries say while a user's module imports them is kept away, and what else is said is not."""

from __future__ import annotations

import gc
import importlib
import logging
import os
import threading
from pathlib import Path

import pytest

from pipeline.loading import find_component, load
from schemas.errors import ConfigError


def test_what_a_program_does_not_log_stays_so(project: Path) -> None:
    logging.disable(logging.ERROR)
    try:
        load("pipeline.yaml")
        assert logging.root.manager.disable == logging.ERROR
    finally:
        logging.disable(logging.NOTSET)


@pytest.mark.parametrize("collecting", [True, False])
def test_garbage_is_not_looked_for_while_a_module_is_imported(
    collecting: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    module = f"looks_at_gc_{collecting}"
    (tmp_path / f"{module}.py").write_text("import gc\n\nraise ValueError(f'collecting: {gc.isenabled()}')\n")
    if not collecting:
        gc.disable()
    try:
        with pytest.raises(ConfigError, match="collecting: False"):
            find_component(f"{module}.Anything", "here")
        assert gc.isenabled() == collecting
    finally:
        gc.enable()


def test_what_imports_warn_of_is_kept_away_until_the_last_of_several_threads_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "0")
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "quiet_handshake.py").write_text(
        "import threading\n\nfirst_in, second_in, first_out = (threading.Event() for _ in range(3))\nlevels = []\n"
    )
    (tmp_path / "quiet_first.py").write_text(
        "import quiet_handshake as hands\n\nhands.first_in.set()\nassert hands.second_in.wait(30)\n"
    )
    (tmp_path / "quiet_second.py").write_text(
        "import logging\nimport os\n\nimport quiet_handshake as hands\n\n"
        "hands.second_in.set()\nassert hands.first_out.wait(30)\n"
        "hands.levels.append((os.environ['TF_CPP_MIN_LOG_LEVEL'], logging.root.manager.disable))\n"
    )
    hands = importlib.import_module("quiet_handshake")

    def find(module: str) -> None:
        with pytest.raises(ConfigError, match="is not a component"):
            find_component(f"{module}.hands", "here")

    first, second = (threading.Thread(target=find, args=(f"quiet_{name}",)) for name in ("first", "second"))
    first.start()
    assert hands.first_in.wait(30)
    second.start()
    first.join()
    hands.first_out.set()
    second.join()

    assert hands.levels == [("3", logging.WARNING)]
    assert (os.environ["TF_CPP_MIN_LOG_LEVEL"], logging.root.manager.disable) == ("0", 0)


def test_what_TFMA_writes_at_each_import_is_kept_away_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    said = "Error importing: cannot import name 'addons' from partially initialized module 'tensorflow_model_analysis'"
    (tmp_path / "says_what_tfma_says.py").write_text(
        f"import sys\n\nsys.stderr.write({said!r})\n"
        "sys.stderr.write('Error importing: no module of mine\\n')\nclass Thing: ...\n"
    )

    with pytest.raises(ConfigError, match="is not a component"):
        find_component("says_what_tfma_says.Thing", "here")

    assert capsys.readouterr().err == "Error importing: no module of mine\n"
