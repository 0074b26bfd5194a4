from __future__ import annotations

import contextlib
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import components.io.tfrecord  # one of the modules that a worker is asked for  # noqa: F401
from components.io.workers import Packed, UserFunction, travelling
from schemas.dotted_path import in_file

REPOSITORY = Path(__file__).parents[3]


def unpickled_elsewhere(pickled: bytes, *places: Path, then: str = "") -> subprocess.CompletedProcess[str]:
    """What another process, which looks for modules in `places`, says of `pickled`; `then` may speak of it as `it`."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TF_")}
    environment["PYTHONPATH"] = os.pathsep.join(map(str, places))
    code = f"import os, pickle, sys; it = pickle.loads(bytes.fromhex(sys.argv[1])); {then}"
    return subprocess.run(
        [sys.executable, "-c", code, pickled.hex()],
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
        env=environment,
    )


@pytest.fixture
def penstock(tmp_path: Path) -> Path:
    """A copy of Penstock's modules."""
    for package in ("components", "schemas"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(REPOSITORY / package, tmp_path / "penstock" / package, ignore=ignored)
    return tmp_path / "penstock"


def sent(work: Callable[..., object], *paths: Path) -> bytes:
    with travelling(paths):
        return pickle.dumps(Packed(work))


def test_what_is_packed_does_what_it_did() -> None:
    assert Packed(divmod)(7, 2) == (3, 1)


def test_what_stays_in_this_process_is_pickled_as_it_is(tmp_path: Path) -> None:
    assert pickle.loads(pickle.dumps(Packed(divmod)))(7, 2) == (3, 1)


def test_a_worker_has_the_steps_environment_before_anything_is_unpickled() -> None:
    done = unpickled_elsewhere(
        sent(os.getenv), REPOSITORY, then="print(it('TF_USE_LEGACY_KERAS'), type(sys.meta_path[0]).__name__)"
    )

    assert done.stdout.split() == ["1", "_KerasTunerFinder"], done.stderr


def test_a_worker_with_another_penstock_is_told_the_file_that_differs(penstock: Path) -> None:
    with (penstock / "components" / "io" / "tfrecord.py").open("a") as file:
        file.write("X = 1\n")

    done = unpickled_elsewhere(sent(os.getenv), penstock)

    assert f"ConfigError: beam: the workers have another version of Penstock: {file.name} differs" in done.stderr
    assert "Put it into the image" in done.stderr


def test_a_comment_makes_no_other_version(penstock: Path) -> None:
    with (penstock / "components" / "io" / "tfrecord.py").open("a") as file:
        file.write("# a comment\n")

    done = unpickled_elsewhere(sent(os.getenv), penstock, then="print(it('HOME') is not None)")

    assert done.stdout == "True\n", done.stderr


def test_a_module_of_penstock_that_a_worker_lacks_is_named(penstock: Path) -> None:
    (penstock / "components" / "io" / "tfrecord.py").unlink()

    done = unpickled_elsewhere(sent(os.getenv), penstock)

    assert "ConfigError: beam: the workers have no module 'components.io.tfrecord'" in done.stderr


def test_a_library_of_another_version_is_named(tmp_path: Path) -> None:
    (tmp_path / "numpy-1.0.dist-info").mkdir()
    (tmp_path / "numpy-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: numpy\nVersion: 1.0\n")

    done = unpickled_elsewhere(sent(os.getenv), tmp_path, REPOSITORY)

    assert "ConfigError: beam: the workers have numpy 1.0, this machine has 1.26" in done.stderr


def test_a_path_that_a_worker_does_not_see_is_named(tmp_path: Path) -> None:
    done = unpickled_elsewhere(sent(os.getenv, tmp_path, tmp_path / "elsewhere"), REPOSITORY)

    assert f"ConfigError: beam: a worker does not see {tmp_path}/elsewhere. The worker, process " in done.stderr
    assert "keep them on storage that all machines mount" in done.stderr


def users_modules(directory: Path, helper: str | None) -> Path:
    """A package with a function, and the helper module that it uses."""
    package = directory / "trips"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "features.py").write_text("from .helper import TWO\n\ndef double(n):\n    return TWO * n\n")
    if helper is not None:
        (package / "helper.py").write_text(helper)
    return directory


@pytest.fixture
def function(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """A user's function as it is sent to a worker."""
    monkeypatch.syspath_prepend(str(users_modules(tmp_path / "here", "TWO = 2\n")))
    user = UserFunction("trips.features.double")
    assert user.load()(3) == 6
    with travelling([]):
        pickled = pickle.dumps(user)
    for name in [name for name in sys.modules if name.partition(".")[0] == "trips"]:
        monkeypatch.delitem(sys.modules, name)
    return pickled


def test_a_worker_loads_its_own_copy_of_the_users_function(function: bytes, tmp_path: Path) -> None:
    there = users_modules(tmp_path / "there", "TWO = 2  # as here\n")

    done = unpickled_elsewhere(function, REPOSITORY, there, then="print(it.load()(3), it.load().__code__.co_filename)")

    assert done.stdout == f"6 {there}/trips/features.py\n", done.stderr


@pytest.mark.parametrize("name", ["pen_features.py", "2024-features.py"])
@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_worker_loads_a_module_file_from_where_the_step_did(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, elsewhere: bool
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "pen_two.py").write_text("TWO = 2\n")
    file = tmp_path / name
    file.write_text("import pen_two\n\n\ndef preprocessing_fn(n):\n    return pen_two.TWO * n\n")
    user = UserFunction(in_file(str(file), "preprocessing_fn"), file=file)
    with travelling([]) if elsewhere else contextlib.nullcontext():
        pickled = pickle.dumps(user)

    done = unpickled_elsewhere(pickled, REPOSITORY, then="print(it.load()(3))")

    assert done.stdout == "6\n", done.stderr


def test_a_worker_whose_copy_of_a_users_module_differs_is_refused(function: bytes, tmp_path: Path) -> None:
    there = users_modules(tmp_path / "there", "TWO = 3\n")

    done = unpickled_elsewhere(function, REPOSITORY, there, then="it.load()")

    assert (
        f"ConfigError: beam: the workers' module 'trips.helper' is not the step's: {there}/trips/helper.py"
        in done.stderr
    )


@pytest.mark.parametrize("missing", ["trips.helper", "trips.features"])
def test_a_users_module_that_a_worker_lacks_is_named(function: bytes, tmp_path: Path, missing: str) -> None:
    places = [users_modules(tmp_path / "there", None)] if missing == "trips.helper" else []

    done = unpickled_elsewhere(function, REPOSITORY, *places, then="it.load()")

    assert f"ConfigError: beam: the workers have no module '{missing}'. The worker, process " in done.stderr
    assert "looks in " in done.stderr
