"""pipeline.yaml is read whole, and every mistake in it is named with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.config import read_config
from schemas.errors import ConfigError


def problems(file: Path, text: str, overrides: tuple[str, ...] = ()) -> tuple[str, ...]:
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_config(file, overrides)
    return tuple(problem.replace(f"{file}", "pipeline.yaml") for problem in caught.value.problems)


def test_every_mistake_is_reported_at_once_with_line_path_and_suggestion(tmp_path: Path) -> None:
    found = problems(
        tmp_path / "p.yaml",
        "name: Taxi\nsed: 13\nparallel: none\nsteps:\n  read:\n    uses: ExampleGen\n    whit: {a: 1}\n"
        "  count: {uses: 3, inputs: {examples: read}}\n",
    )

    assert "pipeline.yaml:2: sed: no such setting. Did you mean 'seed'?" in found
    assert any(p.startswith("pipeline.yaml:1: name: 'Taxi' is not valid here") for p in found)
    assert any(p.startswith("pipeline.yaml:3: parallel: 'none' is not valid here") for p in found)
    assert "pipeline.yaml:7: steps.read.whit: no such setting. Did you mean 'with'?" in found
    assert any(p.startswith("pipeline.yaml:8: steps.count.uses: 3 is not valid here") for p in found)
    assert any("steps.count.inputs.examples: 'read'" in p and "step.output" in p for p in found)
    assert len(found) == 6


def test_a_key_that_stands_twice_is_named_with_its_line(tmp_path: Path) -> None:
    (found,) = problems(tmp_path / "p.yaml", "name: a\nsteps:\n  read: {uses: A}\n  read: {uses: B}\n")

    assert found == "pipeline.yaml:4: 'read' stands here twice; rename or remove one"


def test_text_that_is_no_yaml_is_named_with_line_and_column(tmp_path: Path) -> None:
    (found,) = problems(tmp_path / "p.yaml", "name: a\nsteps: {read: [}\n")

    assert found.startswith("pipeline.yaml:2:")
    assert "not valid YAML" in found


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nothing.yaml: there is no such file"):
        read_config(tmp_path / "nothing.yaml")


def test_a_parameter_keeps_its_type_alone_and_becomes_text_inside_text(tmp_path: Path) -> None:
    file = tmp_path / "p.yaml"
    file.write_text(
        "name: a\nparameters: {steps: 20, name: x}\nsteps:\n"
        '  t: {uses: T, with: {steps: "${parameters.steps}", path: "out/${parameters.name}-${parameters.steps}"}}\n'
    )

    config, _ = read_config(file)

    assert config.steps["t"].with_ == {"steps": 20, "path": "out/x-20"}


def test_an_unknown_parameter_is_named_where_it_is_used(tmp_path: Path) -> None:
    (found,) = problems(
        tmp_path / "p.yaml",
        'name: a\nparameters: {steps: 20}\nsteps:\n  t:\n    uses: T\n    with:\n      steps: "${parameters.step}"\n',
    )

    assert (
        found == "pipeline.yaml:7: steps.t.with.steps: '${parameters.step}' names no parameter. Did you mean 'steps'?"
    )


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("parameters.steps=50", {"steps": 50, "rate": 0.5}),
        ("steps.t.with.rate=0.25", {"steps": 20, "rate": 0.25}),
        ("t.rate=1", {"steps": 20, "rate": 1}),
        ("t.names=[a, b]", {"steps": 20, "rate": 0.5, "names": ["a", "b"]}),
        ("t={uses: T, with: {other: 1}}", {"other": 1}),
    ],
)
def test_set_replaces_a_value_by_its_path(tmp_path: Path, override: str, expected: dict[str, object]) -> None:
    file = tmp_path / "p.yaml"
    file.write_text(
        'name: a\nparameters: {steps: 20}\nsteps:\n  t: {uses: T, with: {steps: "${parameters.steps}", rate: 0.5}}\n'
    )

    config, _ = read_config(file, [override])

    assert config.steps["t"].with_ == expected


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("parameters.stepps=50", "no parameter 'stepps'. Did you mean 'steps'"),
        ("parameters.steps=many", "of type int"),
        ("nonsense", "expected path=value"),
        ("name.x=1", "'name' is 'a', not a section"),
    ],
)
def test_a_wrong_set_is_refused_with_what_is_wrong(tmp_path: Path, override: str, message: str) -> None:
    (found,) = problems(
        tmp_path / "p.yaml", "name: a\nparameters: {steps: 20}\nsteps: {t: {uses: T}}\n", overrides=(override,)
    )

    assert message in found


def test_an_overridden_value_that_is_wrong_is_blamed_on_set(tmp_path: Path) -> None:
    (found,) = problems(tmp_path / "p.yaml", "name: a\nsteps: {t: {uses: T}}\n", overrides=("seed=-1",))

    assert found.startswith("--set seed: -1 is not valid here")


def test_an_empty_file_is_said_to_be_empty(tmp_path: Path) -> None:
    assert problems(tmp_path / "p.yaml", "# later\n") == (
        "pipeline.yaml: there is nothing in it; expected a mapping with name and steps",
    )


def test_a_file_in_another_encoding_is_named_with_the_line(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_bytes("name: taxi\n# caf\xe9\n".encode("latin-1"))

    with pytest.raises(ConfigError, match="p.yaml:2: the byte 0xe9 is no UTF-8"):
        read_config(tmp_path / "p.yaml")


def test_a_byte_order_mark_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_bytes(b"\xef\xbb\xbfname: taxi\nsteps:\n  read: {uses: ExampleGen}\n")

    assert read_config(tmp_path / "p.yaml")[0].name == "taxi"


def test_wrong_overrides_are_reported_together(tmp_path: Path) -> None:
    found = problems(tmp_path / "p.yaml", "name: taxi\nsteps: {}\n", ("seed=[", "parameters.x=1", "seed"))

    assert [problem.partition(": ")[0] for problem in found] == [
        "--set seed=[",
        "--set parameters.x=1",
        "--set seed",
        "pipeline.yaml:2",
    ]
