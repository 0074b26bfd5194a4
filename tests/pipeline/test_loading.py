"""What a user names becomes a definition, or every reason why not."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.loading import load
from schemas.component import BeamOptions
from schemas.errors import ConfigError

PYTHON = """
from pipeline.definition import Pipeline
from project_steps import Apply, Count, Fit, Judge, Read


def make(most=100):
    toy = Pipeline(name="toy", root="store-root", seed=7)
    read = toy.step("read", Read(source="numbers.txt"))
    count = toy.step("count", Count(), examples=read.examples)
    toy.step("judge", Judge(most=most), statistics=count.statistics)
    toy.step("apply", Apply(function="project_functions.double"))
    toy.step("fit", Fit())
    return toy


toy = make()
"""


def test_the_same_pipeline_in_yaml_and_in_python_has_one_digest(project: Path) -> None:
    (project / "project_pipeline.py").write_text(PYTHON)

    yaml = load("pipeline.yaml")

    assert load("project_pipeline:toy").graph.digest == yaml.graph.digest
    assert load("project_pipeline:make").graph.digest == yaml.graph.digest
    assert load("project_pipeline:make", ["parameters.most=5"]).graph.digest != yaml.graph.digest
    assert (
        load("pipeline.yaml", ["parameters.most=5"]).graph.digest
        == load("project_pipeline:make", ["parameters.most=5"]).graph.digest
    )


def test_problems_of_all_steps_are_reported_at_once_with_their_lines(project: Path) -> None:
    (project / "pipeline.yaml").write_text(
        "name: toy\nsteps:\n"
        "  read:\n    uses: project_steps.Read\n    with:\n      sourc: numbers.txt\n      keep: 2.0\n"
        "  count: {uses: StatisticGen}\n"
        "  judge: {uses: project_steps.Jugde}\n"
        "  other: {uses: project_nothing.Step}\n"
    )

    with pytest.raises(ConfigError) as caught:
        load("pipeline.yaml")

    text = "\n".join(caught.value.problems)
    assert "pipeline.yaml:6: steps.read.with.sourc: no such setting. Did you mean 'source'?" in text
    assert "steps.read.with.source: missing" in text
    assert (
        "pipeline.yaml:8: steps.count.uses: there is no component 'StatisticGen'. Did you mean 'StatisticsGen'?" in text
    )
    assert "pipeline.yaml:9: steps.judge.uses: " in text
    assert "project_steps has no 'Jugde'. Did you mean 'Judge'?" in text
    assert "there is no module 'project_nothing'" in text


def test_wrong_settings_wires_files_and_functions_are_reported_together(project: Path) -> None:
    (project / "pipeline.yaml").write_text(
        "name: toy\nsteps:\n"
        "  read: {uses: project_steps.Read, with: {source: nothing.txt}}\n"
        "  again: {uses: project_steps.Read, with: {source: numbers.txt, keep: 2.0, kep: 1}}\n"
        "  count: {uses: project_steps.Count}\n"
        "  apply: {uses: project_steps.Apply, inputs: {examples: read.examples}, with: {function: project_functions.x}}\n"
    )

    with pytest.raises(ConfigError) as caught:
        load("pipeline.yaml")
    places = [": ".join(problem.split(": ")[:2]) for problem in caught.value.problems]
    assert places == [
        "pipeline.yaml:4: steps.again.with.kep",
        "pipeline.yaml:4: steps.again.with.keep",
        "pipeline.yaml:5: steps.count",
        "pipeline.yaml:6: steps.apply.with.function",
        "pipeline.yaml:3: steps.read.with.source",
    ]
    assert "input 'examples' could be read.examples or again.examples: say which" in caught.value.problems[2]


def test_a_component_that_raises_on_import_names_the_users_line_first(project: Path) -> None:
    (project / "project_broken.py").write_text("import project_helpers\n")
    (project / "project_helpers.py").write_text("import json\n\nTABLE = json.loads('{')\n")

    with pytest.raises(ConfigError) as caught:
        load("pipeline.yaml", ["steps.count.uses=project_broken.Count"])

    (problem,) = caught.value.problems
    assert problem.startswith("project_helpers.py:3 in <module>: JSONDecodeError: ")
    assert problem.endswith("when 'project_broken.Count' was imported (--set steps.count.uses)")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = 1\ndef f(:\n", "project_broken.py:2: not valid Python: invalid syntax"),
        ("import sys\nsys.exit(1)\n", "project_broken.py:2 in <module>: SystemExit: 1"),
        ("assert False\n", "project_broken.py:1 in <module>: AssertionError, when"),
        ("import nothing_like_it\n", "project_broken.py:1 in <module>: ModuleNotFoundError: No module named"),
    ],
)
def test_a_module_that_does_not_import_names_its_line(project: Path, text: str, said: str) -> None:
    (project / "project_broken.py").write_text(text)

    with pytest.raises(ConfigError) as component:
        load("pipeline.yaml", ["steps.count.uses=project_broken.Count"])
    with pytest.raises(ConfigError) as pipeline:
        load("project_broken:toy")

    assert component.value.problems[0].startswith(said)
    assert pipeline.value.problems[0].startswith(said)


def test_a_function_that_fails_to_make_a_pipeline_names_its_line(project: Path) -> None:
    (project / "project_pipeline.py").write_text(PYTHON + "\n\ndef wrong(most=1):\n    return make('x' + most)\n")

    with pytest.raises(ConfigError, match=r"project_pipeline.py:20 in wrong: TypeError: .*when '.*:wrong' was called"):
        load("project_pipeline:wrong")
    with pytest.raises(ConfigError, match="got an unexpected keyword argument 'least'"):
        load("project_pipeline:wrong", ["parameters.least=1"])


def test_a_components_own_check_is_reported_with_its_line(project: Path) -> None:
    (project / "pipeline.yaml").write_text(
        "name: toy\nsteps:\n  read:\n    uses: project_steps.Read\n    with:\n      source: a\n      keep: 2.0\n"
    )

    with pytest.raises(ConfigError, match=r"pipeline.yaml:7: steps.read.with.keep: 2.0 is not a fraction"):
        load("pipeline.yaml")


def test_wires_are_checked_with_their_lines(project: Path) -> None:
    (project / "pipeline.yaml").write_text(
        "name: toy\nsteps:\n  read: {uses: project_steps.Read, with: {source: numbers.txt}}\n"
        "  count:\n    uses: project_steps.Count\n    inputs:\n      examples: read.example\n"
    )

    with pytest.raises(
        ConfigError, match=r"pipeline.yaml:7: steps.count.inputs.examples: 'read' has no output 'example'"
    ):
        load("pipeline.yaml")


def test_an_input_with_nothing_behind_it_stays_unwired_if_it_may(project: Path) -> None:
    text = (
        "name: toy\nsteps:\n  read: {uses: project_steps.Read, with: {source: numbers.txt}}\n"
        "  count: {uses: StatisticsGen, inputs: {schema: }}\n  infer: {uses: SchemaGen}\n"
        "  again: {uses: StatisticsGen}\n  aside:\n    uses: StatisticsGen\n    inputs:\n      schema:\n"
    )
    (project / "pipeline.yaml").write_text(text + "      examples:\n")
    with pytest.raises(ConfigError, match=r"pipeline.yaml:11: steps.aside.inputs.examples: StatisticsGen needs"):
        load("pipeline.yaml")
    (project / "pipeline.yaml").write_text(text)
    graph = load("pipeline.yaml").graph

    assert "schema" in graph["again"].inputs
    assert "schema" not in graph["aside"].inputs


def test_an_object_that_is_no_pipeline_is_refused(project: Path) -> None:
    with pytest.raises(ConfigError, match="project_functions:double"):
        load("project_functions:double")
    with pytest.raises(ConfigError, match="has no 'nothing'"):
        load("project_functions:nothing")


def test_a_handle_names_its_outputs(project: Path) -> None:
    from pipeline.definition import Pipeline
    from schemas.dotted_path import resolve

    toy = Pipeline(name="toy")
    read = toy.step("read", resolve("project_steps.Read")(source="numbers.txt"))

    with pytest.raises(AttributeError, match="step 'read' has no output 'example'. Did you mean 'examples'"):
        _ = read.example
    with pytest.raises(ConfigError, match=r"steps.read: there are two steps of this name"):
        toy.step("read", resolve("project_steps.Count")())


PLACED = (
    "judge.beam={runner: FlinkRunner, args: [--parallelism=2]}",
    "judge.resources={memory: 2GB}",
)


def test_where_a_step_runs_and_in_how_much_memory_is_no_part_of_the_graphs_digest(project: Path) -> None:
    placed = load("pipeline.yaml", PLACED)

    assert placed.graph["judge"].beam == BeamOptions("FlinkRunner", ("--parallelism=2",))
    assert placed.graph["judge"].memory == 2_000_000_000
    assert placed.graph["read"].beam is None
    assert placed.graph["read"].memory is None
    assert placed.graph.digest == load("pipeline.yaml").graph.digest


def test_python_places_a_step_as_yaml_does(project: Path) -> None:
    (project / "project_pipeline.py").write_text(
        PYTHON.replace(
            "statistics=count.statistics",
            "statistics=count.statistics, memory='2GB', beam=BeamOptions('FlinkRunner', ('--parallelism=2',))",
        ).replace("from pipeline.definition", "from schemas.component import BeamOptions\nfrom pipeline.definition")
    )

    assert load("project_pipeline:toy").graph["judge"] == load("pipeline.yaml", PLACED).graph["judge"]


def test_python_is_told_of_an_amount_that_is_none(project: Path) -> None:
    (project / "project_pipeline.py").write_text(PYTHON.replace("Count(),", "Count(), memory='much',"))

    with pytest.raises(ConfigError, match="steps.count.memory: 'much' is no amount of memory"):
        load("project_pipeline:toy")


def test_wrong_resources_are_told_with_their_lines(project: Path) -> None:
    (project / "pipeline.yaml").write_text(
        "name: toy\nsteps:\n"
        "  read:\n    uses: project_steps.Read\n    with: {source: numbers.txt}\n    resources:\n      memory: much\n"
    )

    with pytest.raises(
        ConfigError, match="pipeline.yaml:7: steps.read.resources.memory: 'much' is no amount of memory"
    ):
        load("pipeline.yaml")


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ("resources: {memroy: 2GB}", "resources.memroy: no such setting. Did you mean 'memory'?"),
        ("beam: {runer: DirectRunner}", "beam.runer: no such setting. Did you mean 'runner'?"),
        ("resource: {memory: 2GB}", "resource: no such setting. Did you mean 'resources'?"),
    ],
)
def test_an_unknown_part_of_a_placement_is_told_with_the_nearest(project: Path, section: str, said: str) -> None:
    (project / "pipeline.yaml").write_text(f"name: toy\nsteps:\n  read:\n    uses: project_steps.Read\n    {section}\n")

    with pytest.raises(ConfigError) as caught:
        load("pipeline.yaml")

    assert f"pipeline.yaml:5: steps.read.{said}" in str(caught.value)
