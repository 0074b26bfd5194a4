"""Predicates of TFX's Cond: what they come to with artifacts of the store, in words, and what cannot be followed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from components.io.tfx_artifacts import artifact_of
from components.io.tfx_conditions import Predicate, when
from pipeline.contract import build_component
from schemas.artifact import ABSENT, Artifact
from schemas.artifacts import Blessing, InfraBlessing
from schemas.dotted_path import resolve
from schemas.errors import ArtifactError, ConfigError, NotBlessed, NotNeeded


@pytest.fixture(scope="module")
def tfx() -> Any:
    """TFX's parts that predicates are made of."""
    from tfx.dsl.placeholder import placeholder
    from tfx.types import standard_artifacts
    from tfx.types.channel import OutputChannel

    class Parts:
        ph, types = placeholder, standard_artifacts

        @staticmethod
        def output(kind: type[Any], wire: str) -> Any:
            """A channel that is called as its wire."""
            return OutputChannel(kind, SimpleNamespace(id="somebody"), wire)  # a component has an id

    return Parts


def condition(predicate: Any) -> Predicate:
    """The condition of a predicate, as a definition keeps it."""
    asked = when(predicate, lambda channel: str(channel.output_key))
    made: Predicate = build_component(resolve(asked["uses"]), asked["with"])
    assert asked["reads"] == list(made.types)
    return made


def blessing(path: Path, *reasons: str, kind: type[Blessing | InfraBlessing] = Blessing) -> Any:
    made = kind(path)
    made.write(reasons)
    return made


def value(tfx: Any, path: Path, kind: str, text: str) -> Artifact:
    path.mkdir()
    (path / "value").write_text(text)
    return artifact_of(getattr(tfx.types, kind))(path)


def refused(asked: Predicate, read: Mapping[str, Artifact]) -> str:
    with pytest.raises(NotBlessed) as caught:
        asked.check(read)
    return str(caught.value)


def not_needed(asked: Predicate, read: Mapping[str, Artifact]) -> str:
    with pytest.raises(NotNeeded) as caught:
        asked.check(read)
    return str(caught.value)


def test_a_blessing_lets_pass_and_its_absence_is_a_refusal_with_the_reasons(tfx: Any, tmp_path: Path) -> None:
    channel = tfx.output(tfx.types.ModelBlessing, "evaluator.blessing")
    asked = condition(channel.future()[0].custom_property("blessed") == 1)

    asked.check({"evaluator.blessing": blessing(tmp_path / "yes")})
    said = refused(asked, {"evaluator.blessing": blessing(tmp_path / "no", "auc 0.61 is below 0.7 in all")})

    assert said == (
        "evaluator.blessing does not bless the model, and this step runs only where it does:\n"
        "  auc 0.61 is below 0.7 in all\n"
        "Improve the model, or change the thresholds it misses."
    )


def test_what_asks_that_a_model_is_not_blessed_is_not_needed_where_it_is(tfx: Any, tmp_path: Path) -> None:
    channel = tfx.output(tfx.types.InfraBlessing, "infra.blessing")
    asked = condition(tfx.ph.logical_not(channel.future()[0].custom_property("blessed") == 1))

    asked.check({"infra.blessing": blessing(tmp_path / "no", "it does not load", kind=InfraBlessing)})
    said = not_needed(asked, {"infra.blessing": blessing(tmp_path / "yes", kind=InfraBlessing)})

    assert said == 'its condition does not hold: infra.blessing[0].custom_property("blessed") != 1, and it is 1'


@pytest.mark.parametrize(
    ("kind", "text", "compare", "said"),
    [
        ("Float", "0.83", lambda found: found > 0.9, "m.x[0].value > 0.9, and it is 0.83"),
        ("Float", "0.95", lambda found: found <= 0.9, "m.x[0].value <= 0.9, and it is 0.95"),
        ("Integer", "3", lambda found: found == 4, "m.x[0].value == 4, and it is 3"),
        ("String", "no", lambda found: found == "yes", "m.x[0].value == 'yes', and it is 'no'"),
    ],
)
def test_a_value_is_compared_and_said(tfx: Any, tmp_path: Path, kind: str, text: str, compare: Any, said: str) -> None:
    channel = tfx.output(getattr(tfx.types, kind), "m.x")
    read = {"m.x": value(tfx, tmp_path / "x", kind, text)}

    for future in (channel.future(), channel.future()[0]):
        assert not_needed(condition(compare(future.value)), read) == f"its condition does not hold: {said}"
    condition(tfx.ph.logical_not(compare(channel.future().value))).check(read)


def test_properties_are_those_that_the_step_gave_its_output(tfx: Any, tmp_path: Path) -> None:
    channel = tfx.output(tfx.types.Examples, "gen.examples")
    examples = artifact_of(tfx.types.Examples)(tmp_path, {"span": 7, "custom_properties": {"rows": 3}})

    condition(channel.future()[0].property("span") == 7).check({"gen.examples": examples})
    said = not_needed(condition(channel.future()[0].custom_property("rows") > 10), {"gen.examples": examples})

    assert said == 'its condition does not hold: gen.examples[0].custom_property("rows") > 10, and it is 3'


def test_of_several_comparisons_those_are_named_that_fail(tfx: Any, tmp_path: Path) -> None:
    blessed = tfx.output(tfx.types.ModelBlessing, "e.blessing").future()[0].custom_property("blessed") == 1
    accuracy = tfx.output(tfx.types.Float, "e.accuracy").future()[0].value > 0.9
    low = value(tfx, tmp_path / "low", "Float", "0.8")
    good, bad = blessing(tmp_path / "yes"), blessing(tmp_path / "no", "auc is low")

    both = condition(tfx.ph.logical_and(blessed, accuracy))
    assert "e.accuracy[0].value > 0.9, and it is 0.8" in not_needed(both, {"e.blessing": good, "e.accuracy": low})
    assert "  auc is low" in refused(both, {"e.blessing": bad, "e.accuracy": low})
    either = condition(tfx.ph.logical_or(blessed, accuracy))
    either.check({"e.blessing": good, "e.accuracy": low})
    neither = condition(tfx.ph.logical_not(tfx.ph.logical_or(blessed, accuracy)))
    said = not_needed(neither, {"e.blessing": good, "e.accuracy": low})
    assert said == 'its condition does not hold: e.blessing[0].custom_property("blessed") != 1, and it is 1'


def test_a_refusal_names_what_else_does_not_hold_beside_the_blessing(tfx: Any, tmp_path: Path) -> None:
    def blessed(wire: str, kind: str) -> Any:
        return tfx.output(getattr(tfx.types, kind), wire).future()[0].custom_property("blessed") == 1

    accuracy = tfx.output(tfx.types.Float, "e.accuracy").future()[0].value > 0.9
    both = tfx.ph.logical_and(blessed("i.blessing", "InfraBlessing"), accuracy)
    asked = condition(tfx.ph.logical_and(blessed("e.blessing", "ModelBlessing"), both))
    read = {
        "e.blessing": blessing(tmp_path / "no", "auc is low"),
        "i.blessing": blessing(tmp_path / "neither", "it does not load", kind=InfraBlessing),
        "e.accuracy": value(tfx, tmp_path / "low", "Float", "0.8"),
    }

    assert refused(asked, read) == (
        "e.blessing does not bless the model, and this step runs only where it does:\n"
        "  auc is low\n"
        "i.blessing does not bless the model, and this step runs only where it does:\n"
        "  it does not load\n"
        "Nor does the rest of its condition hold: e.accuracy[0].value > 0.9, and it is 0.8\n"
        "Improve the model, or change the thresholds it misses."
    )


def test_what_was_not_made_keeps_a_step_from_running(tfx: Any, tmp_path: Path) -> None:
    asked = condition(tfx.output(tfx.types.Float, "m.x").future()[0].value > 0)

    said = not_needed(asked, {"m.x": artifact_of(tfx.types.Float)(tmp_path, {ABSENT: True})})

    assert said == "m.x, on which it depends whether this step runs, was not made"


def test_a_comparison_with_a_value_of_another_type_is_an_error_that_says_so(tfx: Any, tmp_path: Path) -> None:
    asked = condition(tfx.output(tfx.types.String, "m.x").future()[0].value > 3)

    with pytest.raises(
        ArtifactError, match=r"its condition .*m\.x\[0\]\.value.* cannot be evaluated: '>' not supported"
    ):
        asked.check({"m.x": value(tfx, tmp_path / "x", "String", "four")})


def test_TFX_s_own_predicate_stays_as_it_was(tfx: Any) -> None:
    from tfx.types.channel_utils import encode_placeholder_with_channels

    def encoded() -> Any:
        return (tfx.output(tfx.types.Float, "m.x").future()[0].value > 0.5).encode()

    predicate = tfx.output(tfx.types.Float, "m.x").future()[0].value > 0.5
    condition(predicate)

    assert predicate.encode() == encoded()
    assert encode_placeholder_with_channels(predicate, lambda channel: "key") is not None


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda tfx, found: found.future()[0].value, "a Cond on .*, which is no comparison"),
        (lambda tfx, found: found.future()[1].value == 1, "artifact 1 of an output, and a step makes one of each"),
        (lambda tfx, found: found.future()[0].uri == "here", "reads where an artifact is"),
        (lambda tfx, found: tfx.ph.exec_property("x") == 1, r"reads exec_property\('x'\), which is no output"),
        (lambda tfx, found: tfx.ph.input("x")[0].value == 1, r"reads input_artifact\('x'\), which is no output"),
        (lambda tfx, found: tfx.ph.environment_variable("X") == "1", r"reads environment_variable\('X'\)"),
    ],
)
def test_a_predicate_that_cannot_be_followed_is_refused_with_what_to_compare(tfx: Any, make: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=f"stands under .*{said}.*Compare"):
        condition(make(tfx, tfx.output(tfx.types.Float, "m.x")))
