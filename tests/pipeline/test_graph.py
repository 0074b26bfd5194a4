"""Wires that are left out are filled where that is clear, and refused where it is not."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import pytest

from pipeline.contract import read_contract
from pipeline.graph import Declared, Graph, Wire, as_anywhere, build_graph
from schemas.artifacts import Anomalies, Blessing, Examples, Model, PushedModel, TransformedExamples
from schemas.component import IfOnlyOne, LeavesOut, Makes, MayEndRunMarker, Out
from schemas.errors import ConfigError
from schemas.passport import Passport


@dataclass(frozen=True, kw_only=True)
class Make:
    def run(self, examples: Out[Examples]) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Transform:
    def run(self, examples: Examples, transformed_examples: Out[TransformedExamples]) -> None: ...


@dataclass(frozen=True, kw_only=True)
class MayTransform:
    materialize: Annotated[bool, Makes("transformed_examples")] = True

    def run(self, examples: Examples, transformed_examples: Out[TransformedExamples]) -> None: ...


@dataclass(frozen=True, kw_only=True)
class LeavesSome:
    left_out: LeavesOut = ()

    def run(self, examples: Examples, transformed_examples: Out[TransformedExamples]) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Train:
    def run(self, examples: TransformedExamples | Examples, model: Out[Model]) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    def run(self, examples: Examples, model: Model, blessing: Out[Blessing]) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Push:
    def run(self, model: Model, pushed_model: Out[PushedModel], blessing: Blessing | None = None) -> None: ...

    def served(self) -> tuple[int, Passport | None, Path] | None: ...

    def holds(self, pushed: PushedModel) -> bool:
        return False


@dataclass(frozen=True, kw_only=True)
class Announce:
    def run(self, pushed_model: Out[PushedModel], examples: IfOnlyOne[Examples] = None) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Decide:
    on_drift: Annotated[str, MayEndRunMarker("retrain")] = "warn"

    def run(self, examples: Examples, anomalies: Out[Anomalies]) -> None: ...


def declared(name: str, kind: type, **inputs: str) -> Declared:
    wires = {port: Wire(*wire.split(".")) for port, wire in inputs.items()}
    return Declared(name, f"{kind.__module__}.{kind.__qualname__}", {}, read_contract(kind), wires)


def built(*steps: Declared) -> Graph:
    return build_graph("toy", 1, steps)


def test_a_left_out_wire_goes_to_the_only_earlier_step_that_fits() -> None:
    graph = built(declared("make", Make), declared("transform", Transform), declared("train", Train))

    assert str(graph["transform"].inputs["examples"]) == "make.examples"
    assert str(graph["train"].inputs["examples"]) == "transform.transformed_examples"


def test_a_second_choice_is_taken_when_nothing_makes_the_first() -> None:
    graph = built(declared("make", Make), declared("train", Train))

    assert str(graph["train"].inputs["examples"]) == "make.examples"


def test_an_input_that_is_said_to_be_unwired_takes_nothing_though_something_would_fit() -> None:
    announce = declared("announce", Announce)

    taken = built(declared("make", Make), announce)["announce"]
    unwired = built(declared("make", Make), replace(announce, unwired=("examples",)))["announce"]

    assert str(taken.inputs["examples"]) == "make.examples"
    assert unwired.inputs == {}


def test_an_input_that_cannot_be_left_unwired_is_told() -> None:
    train = declared("train", Train)

    with pytest.raises(ConfigError, match="steps.train: Train needs 'examples'. Wire it, or leave the line out"):
        built(declared("make", Make), replace(train, unwired=("examples",)))
    with pytest.raises(ConfigError, match="steps.train: Train has no input 'exmples'. Did you mean 'examples'"):
        built(declared("make", Make), replace(train, unwired=("exmples",)))


def test_what_a_setting_says_is_not_made_is_taken_by_nobody() -> None:
    def steps(materialize: bool, **inputs: str) -> tuple[Declared, ...]:
        transform = replace(declared("transform", MayTransform), settings={"materialize": materialize})
        return declared("make", Make), transform, declared("train", Train, **inputs)

    assert str(built(*steps(True))["train"].inputs["examples"]) == "transform.transformed_examples"
    assert str(built(*steps(False))["train"].inputs["examples"]) == "make.examples"
    assert str(built(*steps(True, examples="make.examples"))["train"].inputs["examples"]) == "make.examples"
    with pytest.raises(ConfigError) as caught:
        built(*steps(False, examples="transform.transformed_examples"))
    assert caught.value.problems == (
        "steps.train: transform.transformed_examples is not made while transform's materialize is false. Set that to true, or "
        "wire 'examples' to something else",
    )


def test_what_a_setting_names_as_left_out_is_taken_by_nobody() -> None:
    def steps(left_out: list[str], **inputs: str) -> tuple[Declared, ...]:
        transform = replace(declared("transform", LeavesSome), settings={"left_out": left_out})
        return declared("make", Make), transform, declared("train", Train, **inputs)

    assert str(built(*steps([]))["train"].inputs["examples"]) == "transform.transformed_examples"
    assert str(built(*steps(["transformed_examples"]))["train"].inputs["examples"]) == "make.examples"
    with pytest.raises(ConfigError) as caught:
        built(*steps(["transformed_examples"], examples="transform.transformed_examples"))
    assert caught.value.problems == (
        "steps.train: transform.transformed_examples is not made with the settings that transform has. Change them, or wire "
        "'examples' to something else",
    )


def test_a_left_out_wire_that_could_be_two_lists_both() -> None:
    with pytest.raises(ConfigError) as caught:
        built(declared("make", Make), declared("more", Make), declared("train", Train))

    assert caught.value.problems == (
        "steps.train: input 'examples' could be make.examples or more.examples: say which, as in "
        "inputs: {examples: make.examples}",
    )


def test_a_left_out_wire_goes_to_the_very_type_before_those_that_are_also_one() -> None:
    graph = built(
        declared("make", Make), declared("transform", Transform), declared("train", Train), declared("judge", Evaluate)
    )

    assert str(graph["judge"].inputs["examples"]) == "make.examples"


def test_an_input_that_nothing_makes_is_an_error_and_an_optional_one_is_not() -> None:
    with pytest.raises(ConfigError, match="input 'examples' needs Examples, and no earlier step makes one"):
        built(declared("transform", Transform))
    graph = built(declared("make", Make), declared("train", Train), declared("push", Push))
    assert "blessing" not in graph["push"].inputs


def test_an_input_that_is_taken_if_only_one_step_makes_it_stays_empty_where_two_do_and_takes_the_one_that_is_named() -> (
    None
):
    one, other, announce = declared("one", Make), declared("other", Make), declared("announce", Announce)

    assert str(built(one, announce)["announce"].inputs["examples"]) == "one.examples"
    assert built(one, other, announce)["announce"].inputs == {}
    named = built(one, other, declared("announce", Announce, examples="other.examples"))
    assert str(named["announce"].inputs["examples"]) == "other.examples"


def test_all_wrong_wires_are_reported_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        built(
            declared("make", Make),
            declared("transform", Transform, examples="mak.examples"),
            declared("train", Train, exampels="make.examples"),
            declared("evaluate", Evaluate, examples="make.example", model="make.examples"),
        )

    text = "\n".join(caught.value.problems)
    assert "there is no step 'mak'. Did you mean 'make'?" in text
    assert "Train has no input 'exampels'. Did you mean 'examples'?" in text
    assert "'make' has no output 'example'. Did you mean 'examples'?" in text
    assert "make.examples is Examples, but 'model' takes Model" in text


def test_a_cycle_is_named_in_full_and_once() -> None:
    with pytest.raises(ConfigError) as caught:
        built(
            declared("a", Transform, examples="c.transformed_examples"),
            declared("b", Transform, examples="a.transformed_examples"),
            declared("c", Transform, examples="b.transformed_examples"),
        )

    assert caught.value.problems == ("steps.a: the steps form a cycle: a -> b -> c -> a",)


def test_a_wire_from_a_step_below_is_refused() -> None:
    with pytest.raises(ConfigError, match="'make' stands below 'transform'; list steps in the order data flows"):
        built(declared("transform", Transform, examples="make.examples"), declared("make", Make))


def test_a_publishing_step_waits_for_every_earlier_step() -> None:
    graph = built(
        declared("make", Make), declared("transform", Transform), declared("train", Train), declared("push", Push)
    )

    assert set(graph["push"].parents) == {"train", "make", "transform"}
    assert graph.ancestors("push") == {"make", "transform", "train"}
    assert graph["train"].parents == ("transform",)


def test_every_step_below_one_that_may_end_the_run_waits_for_it() -> None:
    make, train = declared("make", Make), declared("train", Train)
    decide = replace(declared("decide", Decide), settings={"on_drift": "retrain"})

    assert built(make, decide, train)["train"].parents == ("make", "decide")
    assert built(make, replace(decide, settings={"on_drift": "warn"}), train)["train"].parents == ("make",)
    assert built(make, decide, train).upto("train").digest == built(make, decide, train).digest


def test_the_digest_covers_settings_and_wires_and_nothing_else() -> None:
    make, train = declared("make", Make), declared("train", Train)

    assert built(make, train).digest == built(make, declared("train", Train, examples="make.examples")).digest
    assert built(make, train).digest != build_graph("toy", 2, (make, train)).digest
    assert built(make).digest != built(make, train).digest


def test_upto_keeps_what_a_step_needs() -> None:
    graph = built(declared("make", Make), declared("transform", Transform), declared("train", Train))

    assert [step.id for step in graph.upto("transform").steps] == ["make", "transform"]
    assert graph.descendants("make") == {"transform", "train"}
    with pytest.raises(ConfigError, match="there is no step 'trian' in toy. Did you mean 'train'"):
        graph.upto("trian")


def test_paths_of_a_checkout_are_the_same_in_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also inside of text that is JSON, as messages of TFX's are; what only begins alike is another path."""
    here = tmp_path / "wörk"
    here.mkdir()
    monkeypatch.chdir(here)
    message = {"base": f"{here}/serving", "here": str(here), "beside": f"{here}-old/x"}
    data = {
        "file": f"{here}/features.py",
        "all": [str(here), f"{here}-old/x", 3, None],
        "escaped": json.dumps(message),
        "plain": json.dumps(message, ensure_ascii=False),
        "text": f"in {here}/x",
    }

    told = as_anywhere(data)

    there = {"base": "serving", "here": ".", "beside": f"{here}-old/x"}
    assert told["file"] == "features.py"
    assert told["all"] == [".", f"{here}-old/x", 3, None]
    assert [json.loads(told[name]) for name in ("escaped", "plain")] == [there, there]
    assert told["text"] == f"in {here}/x"


def test_in_the_root_of_the_file_system_paths_stay_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")

    assert as_anywhere({"file": "/srv/features.py"}) == {"file": "/srv/features.py"}
