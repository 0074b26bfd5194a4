"""A definition as it is on the cluster: parameters, root and ledger."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.runners.kubeflow.on_cluster import load_on_cluster
from schemas.errors import ConfigError


def test_the_runs_parameters_win_over_the_sections_and_those_over_the_definitions(toy: Path) -> None:
    package, run = load_on_cluster(str(toy)), load_on_cluster(str(toy), {"most": 7})

    assert package.parameters["most"] == 50
    assert package.graph["judge"].settings["most"] == 50
    assert package.parameters["rate"] == 0.5
    assert run.parameters["most"] == 7
    assert run.parameters["destination"] == "/mnt/penstock/serving/toy"


@pytest.mark.parametrize(
    "value",
    ["", "null", "1", "yes", "1e-7", "é😀", 'a "quoted": [text]', " spaces ", "#", "a=b", "${parameters.most}"],
)
def test_a_text_arrives_as_it_was_given(toy: Path, value: str) -> None:
    assert load_on_cluster(str(toy), {"destination": value}).parameters["destination"] == value


@pytest.mark.parametrize("value", [1e-7, 12345.678, 1e22, -0.0, 3])
def test_a_number_arrives_as_it_was_given(toy: Path, value: float) -> None:
    rate = load_on_cluster(str(toy), {"rate": value}).parameters["rate"]

    assert rate == value
    assert type(rate) is float


def test_root_and_ledger_are_the_sections(toy: Path) -> None:
    text = toy.read_text()
    assert (load_on_cluster(str(toy)).root, load_on_cluster(str(toy)).ledger) == (
        Path("/mnt/penstock/.penstock"),
        "none",
    )

    toy.write_text(text.replace("  image:", "  root: /mnt/x\n  ledger: postgresql://db/x\n  image:"))
    assert (load_on_cluster(str(toy)).root, load_on_cluster(str(toy)).ledger) == (Path("/mnt/x"), "postgresql://db/x")
    assert load_on_cluster(str(toy), root="/mnt/y").root == Path("/mnt/y")


def test_a_parameter_that_the_definition_lacks_is_refused(toy: Path) -> None:
    with pytest.raises(ConfigError, match="no parameter 'mots'. Did you mean 'most'"):
        load_on_cluster(str(toy), {"mots": 7})


PYTHON = """
from project_steps import Count, Read

from pipeline.definition import Pipeline

ROOT = "/mnt/penstock"


def small(source: str = "/home/me/numbers.txt", most: int = 3, lines: tuple = ()):
    pipeline = Pipeline(
        name="small",
        kubeflow={
            "image": "registry.example.com/small:1",
            "parameters": {"source": f"{ROOT}/numbers.txt"},
            "defaults": {"volumes": [{"claim": "penstock", "path": ROOT}]},
        },
    )
    read = pipeline.step("read", Read(source=source))
    pipeline.step("count", Count(), examples=read.examples)
    return pipeline


def wrong():
    return Pipeline(name="small", kubeflow={"imag": "x"})
"""


def test_the_arguments_of_a_function_are_parameters(project: Path, compiled: Any) -> None:
    """Those that KFP has types for; others keep their defaults."""
    (project / "project_pipelines.py").write_text(PYTHON)

    definition, package = load_on_cluster("project_pipelines:small"), compiled("project_pipelines:small")

    assert definition.graph["read"].settings["source"] == "/mnt/penstock/numbers.txt"
    assert dict(package.parameters) == {"source": "/mnt/penstock/numbers.txt", "most": 3}


def test_a_section_in_python_is_checked_as_one_in_yaml(project: Path) -> None:
    (project / "project_pipelines.py").write_text(PYTHON)

    with pytest.raises(ConfigError) as refused:
        load_on_cluster("project_pipelines:wrong")

    assert [problem.partition(":")[0] for problem in refused.value.problems] == [
        "kubeflow.image",
        "kubeflow.imag",
        "steps",
    ]
