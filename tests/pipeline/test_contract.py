"""A component's contract is read from its annotations, its settings are checked against its fields."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

import pytest

from pipeline.contract import build_component, read_contract, settings_of
from schemas.artifacts import Examples, FeatureSchema, Model, TransformedExamples
from schemas.component import (
    Baseline,
    BeamOptions,
    ChoosesFiles,
    IfOnlyOne,
    InputFiles,
    MayEndRunMarker,
    Out,
    Seed,
    UserCode,
    WantsBaselineMarker,
)
from schemas.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Step:
    source: InputFiles
    extra: tuple[InputFiles, ...] = ()
    last: ChoosesFiles[int | None] = None
    function: UserCode | None = None
    rate: float = 1.0
    names: tuple[str, ...] = ()
    weights: dict[str, int] | None = None

    def __post_init__(self) -> None:
        if self.rate > 1:
            raise ConfigError(f"rate: {self.rate} is above 1")

    def run(
        self,
        examples: TransformedExamples | Examples,
        beam: BeamOptions,
        seed: Seed,
        model: Out[Model],
        schema: FeatureSchema | None = None,
    ) -> None: ...


def test_ports_asks_and_marked_settings_come_from_annotations() -> None:
    contract = read_contract(Step)

    assert contract.inputs["examples"].types == (TransformedExamples, Examples)
    assert not contract.inputs["examples"].optional
    assert contract.inputs["schema"].optional
    assert contract.outputs == {"model": Model}
    assert contract.ask(Seed) == "seed"
    assert contract.ask(Baseline) is None
    assert contract.user_code == ("function",)
    assert contract.input_files == ("source", "extra")
    assert contract.chooses_files == ("last",)
    assert not contract.selects_files
    assert not contract.publishes


def test_an_input_that_is_taken_if_only_one_step_makes_it_is_optional() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Push:
        def run(self, model: Model, schema: IfOnlyOne[FeatureSchema] = None) -> None: ...

    port = read_contract(Push).inputs["schema"]

    assert (port.types, port.optional, port.if_only_one) == ((FeatureSchema,), True, True)
    assert not read_contract(Step).inputs["schema"].if_only_one


def test_a_setting_may_want_a_baseline_or_end_the_run_by_being_there_or_by_one_of_its_values() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Compare:
        skew: Annotated[dict[str, float], WantsBaselineMarker()] = field(default_factory=dict)
        on_drift: Annotated[str, WantsBaselineMarker("retrain"), MayEndRunMarker("retrain")] = "warn"

        def run(self, examples: Examples, baseline: Baseline) -> None: ...

    takes = read_contract(Compare).takes_baseline

    assert not takes({"skew": {}, "on_drift": "warn"})
    assert takes({"skew": {"fare": 0.1}, "on_drift": "warn"})
    assert takes({"skew": {}, "on_drift": "retrain"})
    assert read_contract(Compare).may_end_run({"skew": {}, "on_drift": "retrain"})
    assert not read_contract(Compare).may_end_run({"skew": {"fare": 0.1}, "on_drift": "warn"})
    assert not read_contract(Step).may_end_run({})


def test_an_annotation_outside_the_table_is_refused_by_name() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Odd:
        def run(self, examples: Examples, verbose: bool) -> None: ...

    with pytest.raises(ConfigError, match=r"Odd\.run: parameter 'verbose' is annotated .*bool"):
        read_contract(Odd)


def test_a_class_without_run_is_no_component() -> None:
    with pytest.raises(ConfigError, match="is not a component"):
        read_contract(int)


def test_all_wrong_settings_are_reported_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        build_component(Step, {"rat": 1, "names": "x", "weights": {"train": "two"}, "rate": "0.5"})

    text = "\n".join(caught.value.problems)
    assert "rat: no such setting. Did you mean 'rate'?" in text
    assert "names: 'x' is not valid here" in text
    assert "weights.train: 'two' is not valid here" in text
    assert "rate: '0.5' is not valid here" in text
    assert "source: missing, and it has no default" in text


def test_a_component_checks_its_own_values() -> None:
    with pytest.raises(ConfigError, match="rate: 1.5 is above 1"):
        build_component(Step, {"source": "a", "rate": 1.5})


def test_settings_survive_the_way_to_json_and_back() -> None:
    step = build_component(Step, {"source": "a.csv", "names": ["x", "y"], "weights": {"train": 2}})

    assert settings_of(step)["names"] == ["x", "y"]
    assert build_component(Step, settings_of(step)) == step
