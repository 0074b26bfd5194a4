"""Keys follow what the code does and what the data holds, not how either is written down."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

import pytest

from pipeline.fingerprint import code_closure, distributions_by_package, is_ours, key_of, what_changed
from schemas.errors import ConfigError


def digest(dotted: str = "project_functions.double") -> dict[str, str]:
    return {name: module.digest for name, module in code_closure([dotted]).modules.items()}


def test_the_closure_follows_imports_into_the_users_modules(project: Path) -> None:
    assert set(code_closure(["project_functions.double"]).modules) == {"project_functions", "project_helpers"}


def test_a_file_of_the_users_counts_whatever_modules_have_its_name(project: Path) -> None:
    """A module of that name from elsewhere, one of Penstock's, and another file of that name."""
    for directory in ("one", "other"):
        (project / directory).mkdir()
        (project / directory / "schemas.py").write_text(f"import project_names\nNAME = {directory!r}\n")
    (project / "project_names.py").write_text("NAME = 'module'\n")
    (project / "one/project_names.py").write_text("import project_names\nNAME = 'file'\n")
    files = ["one/schemas.py", "other/schemas.py", "one/project_names.py"]

    def digests() -> set[str]:
        return {module.digest for name, module in code_closure(files).modules.items() if not is_ours(name)}

    before = digests()

    assert len(before) == 4
    for file in (*files, "project_names.py"):
        written = (project / file).read_text()
        (project / file).write_text(written + "MORE = 1\n")
        assert len(digests() - before) == 1, file
        (project / file).write_text(written)


@pytest.mark.parametrize("component", ["components.model.trainer.Trainer", "components.model.tuner.Tuner"])
def test_how_TFX_s_own_components_are_run_is_no_part_of_a_step_of_ours(component: str) -> None:
    found = set(code_closure([component]).modules)

    assert "components.io.tfx" in found
    assert not found & {"components.io.tfx_executor", "components.io.tfx_artifacts", "components.io.tfx_components"}


def test_comments_formatting_and_docstrings_do_not_count(project: Path) -> None:
    before = digest()
    helpers = project / "project_helpers.py"
    helpers.write_text(
        '"""What it is for."""\n\n\ndef scale( number ):\n    """As it is."""\n    return (number)  # same\n'
    )

    assert digest() == before


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("X = 1\nprint(X)\nX = 2\n", "X = 1\nX = 2\nprint(X)\n"),
        ("X = 1\ndef f(a=X): ...\nX = 2\n", "X = 1\nX = 2\ndef f(a=X): ...\n"),
    ],
)
def test_where_a_statement_stands_among_the_definitions_counts(project: Path, one: str, other: str) -> None:
    helpers = project / "project_helpers.py"
    helpers.write_text(one)
    before = digest()["project_helpers"]
    helpers.write_text(other)

    assert digest()["project_helpers"] != before


def test_files_of_one_name_in_several_directories_are_named_by_their_setting() -> None:
    def parts(*digests: str) -> dict[str, object]:
        return {"files": {"source": [{"path": f"{i}/a.csv", "digest": digest} for i, digest in enumerate(digests)]}}

    assert what_changed(parts("1", "2"), parts("3", "2")) == ("the files of source changed",)
    assert key_of(parts("1", "2")) != key_of(parts("3", "2"))


def test_a_changed_helper_changes_the_closure(project: Path) -> None:
    before = digest()
    helpers = project / "project_helpers.py"
    helpers.write_text(helpers.read_text().replace("return number", "return number + 1"))

    after = digest()

    assert after["project_helpers"] != before["project_helpers"]
    assert after["project_functions"] == before["project_functions"]


def test_relative_imports_packages_and_imports_inside_functions_are_followed(project: Path) -> None:
    package = project / "project_package"
    package.mkdir()
    (package / "__init__.py").write_text("SCALE = 2\n")
    (package / "one.py").write_text("from .two import helper\n\ndef f():\n    from project_helpers import scale\n")
    (package / "two.py").write_text("import json\nimport numpy\nhelper = 1\n")

    closure = code_closure(["project_package.one.f"])

    assert set(closure.modules) == {"project_package", "project_package.one", "project_package.two", "project_helpers"}
    assert list(closure.libraries) == ["numpy"]


def test_which_distribution_provides_a_package_is_what_importlib_finds() -> None:
    distributions_by_package.cache_clear()  # other tests' imports put directories on sys.path
    found = {
        package: sorted(distribution.metadata["Name"] for distribution in provide)
        for package, provide in distributions_by_package().items()
    }

    assert found == {package: sorted(names) for package, names in importlib.metadata.packages_distributions().items()}


def test_a_computed_import_takes_the_whole_package_along(project: Path) -> None:
    package = project / "project_package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "one.py").write_text("import importlib\n\ndef f(name):\n    return importlib.import_module(name)\n")
    (package / "plugin.py").write_text("x = 1\n")

    assert "project_package.plugin" in code_closure(["project_package.one.f"]).modules


def test_modules_are_read_and_not_run(project: Path) -> None:
    (project / "project_loud.py").write_text("raise SystemExit('imported')\n\ndef f(): ...\n")

    assert set(code_closure(["project_loud.f"]).modules) == {"project_loud"}


def test_a_module_that_is_not_there_or_not_python_is_named(project: Path) -> None:
    (project / "project_broken.py").write_text("x = 1\ndef f(:\n")

    with pytest.raises(ConfigError, match="'project_missing' does not import"):
        code_closure(["project_missing.f"])
    with pytest.raises(ConfigError, match=r"project_broken.py:2: not valid Python"):
        code_closure(["project_broken.f"])


def test_our_components_count_with_all_of_ours_that_they_import() -> None:
    modules = code_closure(["components.data.statistics_gen.StatisticsGen"]).modules

    assert {"components.data.statistics_gen", "schemas.artifacts.statistics", "schemas.component"} <= set(modules)
    assert not any(name.startswith("pipeline") for name in modules)


def test_a_change_is_named_by_file_and_definition(project: Path) -> None:
    before = {"user_code": code_closure(["project_functions.double"]).as_json()}
    helpers = project / "project_helpers.py"
    helpers.write_text(helpers.read_text().replace("return number", "return number + 1"))
    after = {"user_code": code_closure(["project_functions.double"]).as_json()}

    assert what_changed(before, after) == ("project_helpers.py: scale changed",)


def test_settings_inputs_files_and_libraries_are_named_when_they_change() -> None:
    old = {
        "settings": {"steps": 10},
        "inputs": {"examples": "a", "schema": "s"},
        "files": {"source": [{"path": "d/a.csv", "digest": "1", "bytes": 1}]},
        "libraries": {"tensorflow": "2.16.2"},
        "seed": 1,
    }
    new = {
        "settings": {"steps": 20},
        "inputs": {"examples": "b", "schema": "s"},
        "files": {"source": [{"path": "d/a.csv", "digest": "2", "bytes": 1}, {"path": "d/b.csv", "digest": "3"}]},
        "libraries": {"tensorflow": "2.17.0"},
        "seed": 2,
    }

    assert what_changed(old, new) == (
        "steps 10 -> 20",
        "a.csv changed",
        "b.csv is new",
        "input examples changed",
        "tensorflow 2.16.2 -> 2.17.0",
        "seed 1 -> 2",
    )


def test_the_key_ignores_where_files_lie_and_counts_what_they_hold() -> None:
    def key(path: str, content: str) -> str:
        return key_of({"files": {"source": [{"path": path, "digest": content, "bytes": 1}]}})

    assert key("here/a.csv", "1") == key("there/a.csv", "1")
    assert key("here/a.csv", "1") != key("here/a.csv", "2")


def test_the_key_counts_the_directory_of_a_file_where_the_step_says_that_it_matters() -> None:
    def files(name: str) -> dict[str, object]:
        path = f"here/{name}"
        return {"files": {"source": [{"path": path, "digest": "1", "bytes": 1, "name": name}]}}

    assert key_of(files("Split-eval/a.gz")) != key_of(files("Split-test/a.gz"))
    assert what_changed(files("Split-eval/a.gz"), files("Split-test/a.gz")) == (
        "Split-eval/a.gz is gone",
        "Split-test/a.gz is new",
    )


def window(**spans: list[tuple[str, str]]) -> dict[str, object]:
    """Files of spans called s8 or, of version 2, s8v2: the name and digest of each."""
    found = []
    for name, files in spans.items():
        span, _, version = name.removeprefix("s").partition("v")
        for file, digest in files:
            entry = {"path": f"d/{span}/{file}", "digest": digest, "bytes": 1, "span": int(span), "label": span}
            found.append({**entry, "version": int(version) if version else None})
    return {"files": {"source": found}}


A, B = ("a.csv", "1"), ("a.csv", "2")


@pytest.mark.parametrize(
    ("old", "new", "reasons"),
    [
        (window(s6=[A], s7=[A]), window(s7=[A], s8=[A]), ("span 8 is new", "span 6 left the window")),
        (
            window(s1=[A], s2=[A], s3=[A]),
            window(s4=[A], s5=[A], s6=[A]),
            ("spans 4 to 6 are new", "spans 1 to 3 left the window"),
        ),
        (window(s7v1=[A]), window(s7v2=[B]), ("span 7 has version 2 now",)),
        (window(s7v1=[A]), window(s7v2=[A]), ()),
        (window(s7=[A], s8=[A]), window(s7=[B, ("b.csv", "1")], s8=[A]), ("span 7: a.csv changed, b.csv is new",)),
        (window(s5=[A], s7=[A]), window(s5=[A], s6=[A], s7=[A]), ("span 6 is new",)),
        (window(s5=[A], s6=[A], s7=[A]), window(s5=[A], s7=[A]), ("span 6 is gone",)),
        (window(s41=[A]), window(s30=[A]), ("span 30 is in the window now", "span 41 left the window")),
        (window(s7=[A, B]), window(s7=[B, A]), ("span 7: a.csv changed",)),
    ],
)
def test_spans_are_named_when_the_window_changes(old, new, reasons: tuple[str, ...]) -> None:
    assert what_changed(old, new) == reasons
    assert (key_of(old) == key_of(new)) == (not reasons)


def test_the_span_of_a_date_is_named_by_the_date() -> None:
    def files(label: str, span: int) -> dict[str, object]:
        entry = {"path": "d/a.csv", "digest": "1", "bytes": 1, "span": span, "version": None, "label": label}
        return {"files": {"source": [entry]}}

    assert what_changed(files("2026-07-30", 20664), files("2026-07-31", 20665)) == (
        "span 2026-07-31 is new",
        "span 2026-07-30 left the window",
    )


def test_a_source_that_gets_spans_is_another_one() -> None:
    plain = {"files": {"source": [{"path": "d/a.csv", "digest": "1", "bytes": 1}]}}

    assert what_changed(plain, window(s1=[A])) == ("source has spans now",)
    assert what_changed(window(s1=[A]), plain) == ("source has no spans now",)
