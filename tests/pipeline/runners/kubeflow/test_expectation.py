"""What a package expects of its image, and how the two are told apart."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.runners.kubeflow.expectation import Expectation, expected, problems
from pipeline.runners.kubeflow.on_cluster import load_on_cluster
from schemas.errors import ConfigError


@pytest.fixture
def definition(project: Path) -> str:
    file = project / "pipeline.yaml"
    file.write_text(file.read_text() + "kubeflow: {image: example.com/toy:1}\n")
    return "pipeline.yaml"


def test_an_image_of_the_same_files_is_as_expected(definition: str) -> None:
    expectation = Expectation.from_json(expected(load_on_cluster(definition), "apply").to_json())

    assert problems(expectation, load_on_cluster(definition), "apply") == ()
    assert {"project_functions", "project_helpers", "project_steps"} == set(expectation.code)


def test_a_helper_that_differs_is_named_with_both_digests(definition: str, project: Path) -> None:
    expectation = expected(load_on_cluster(definition), "apply")
    (project / "project_helpers.py").write_text("def scale(number):\n    return number + 1\n")

    (problem,) = problems(expectation, load_on_cluster(definition), "apply")

    here = expected(load_on_cluster(definition), "apply")
    assert f"project_helpers is {expectation.code['project_helpers']} in the package" in problem
    assert f"{here.code['project_helpers']} in the image" in problem


def test_a_file_of_the_users_is_looked_for_with_what_lies_beside_it(definition: str, project: Path) -> None:
    (project / "modules").mkdir()
    (project / "modules/double.py").write_text("import beside_double\n")
    (project / "modules/beside_double.py").write_text("FACTOR = 2\n")
    file = project / definition
    file.write_text(file.read_text().replace("project_functions.double", "modules/double.py"))
    expectation = expected(load_on_cluster(definition), "apply")

    assert {"double.py", "beside_double"} < set(expectation.code)
    assert problems(expectation, load_on_cluster(definition), "apply") == ()
    (project / "modules/beside_double.py").write_text("FACTOR = 3\n")
    (problem,) = problems(expectation, load_on_cluster(definition), "apply")
    assert f"beside_double is {expectation.code['beside_double']} in the package" in problem


def test_the_code_of_a_step_s_conditions_is_expected(gated: Path) -> None:
    file = gated / "pipeline.yaml"
    file.write_text(
        file.read_text().replace("project_gates.AtMost", "project_asks.AtMost")
        + "kubeflow: {image: example.com/toy:1}\n"
    )
    asks = gated / "project_asks.py"
    asks.write_text((gated / "project_gates.py").read_text())
    expectation = expected(load_on_cluster("pipeline.yaml"), "copy")
    assert "project_asks" not in expected(load_on_cluster("pipeline.yaml"), "fit").code
    asks.write_text(asks.read_text().replace("count > self.most", "count >= self.most"))

    (problem,) = problems(expectation, load_on_cluster("pipeline.yaml"), "copy")

    assert f"project_asks is {expectation.code['project_asks']} in the package" in problem


def test_a_module_that_the_image_lacks_is_named(definition: str, project: Path) -> None:
    expectation = expected(load_on_cluster(definition), "apply")
    (project / "project_functions.py").unlink()

    (problem,) = problems(expectation, load_on_cluster(definition), "apply")

    assert "project_functions is not in the image" in problem


def test_other_states_of_penstock_of_the_same_version_are_told_apart(definition: str) -> None:
    expectation = expected(load_on_cluster(definition), "count")

    (problem,) = problems(replace(expectation, ours="0" * 8), load_on_cluster(definition), "count")

    assert f"are 00000000 in the package and {expectation.ours} in the image" in problem


def test_an_input_file_of_the_image_that_differs_or_is_gone_is_named(definition: str, project: Path) -> None:
    expectation = expected(load_on_cluster(definition), "read")
    (digest,) = expectation.files.values()

    (project / "numbers.txt").write_text("4\n")
    (changed,) = problems(expectation, load_on_cluster(definition), "read")
    (project / "numbers.txt").unlink()
    (gone,) = problems(expectation, load_on_cluster(definition), "read")

    assert f"numbers.txt is {digest} in the package and " in changed
    assert "numbers.txt is " in gone
    assert "not there in the image" in gone


def test_of_a_source_with_spans_the_files_of_the_window_are_expected(definition: str, project: Path) -> None:
    for span in (1, 2, 3):
        (project / f"data/{span}").mkdir(parents=True)
        (project / f"data/{span}/a.csv").write_text(f"a\n{span}\n")
    file = project / "pipeline.yaml"
    spans = 'read: {uses: ExampleGen, with: {source: "data/{SPAN}/*.csv", window: 2}}'
    file.write_text(file.read_text().replace("read: {uses: project_steps.Read, with: {source: numbers.txt}}", spans))
    expectation = expected(load_on_cluster(definition), "read")
    (project / "data/2/a.csv").write_text("a\n9\n")
    (project / "data/4").mkdir()
    (project / "data/4/a.csv").write_text("a\n4\n")

    (problem,) = problems(expectation, load_on_cluster(definition), "read")

    assert list(expectation.files) == ["data/2/a.csv", "data/3/a.csv"]
    assert "data/2/a.csv is " in problem


def test_another_version_and_another_graph_are_named_with_both_sides(definition: str) -> None:
    expectation = expected(load_on_cluster(definition), "count")
    other = replace(expectation, penstock="0.0.1", graph="sha256:" + "0" * 64)

    version, graph = problems(other, load_on_cluster(definition), "count")

    assert "Penstock 0.0.1" in version
    assert f"Penstock {expectation.penstock}" in version
    assert "sha256:000000000000" in graph
    assert expectation.graph[:19] in graph


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '"x"',
        '{"penstock": "1"}',
        '{"penstock": "1", "graph": "g", "ours": "", "code": {}, "files": {}, "more": 1}',
    ],
    ids=["empty", "list", "text", "half", "more"],
)
def test_a_text_that_is_no_expectation_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="--expect"):
        Expectation.from_json(text)
