"""TFX's Evaluator: a model that it refuses is refused with metric, slice, value and threshold, and its metrics are where ours are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.contract import build_component, read_contract
from schemas.artifacts import Examples, Model
from schemas.component import BeamOptions, Lineage, Scratch
from schemas.dotted_path import resolve

EVALUATOR = "tfx.v1.components.Evaluator"


@pytest.fixture
def evaluate(
    tmp_path: Path, trips: Examples, outputs_of: Callable[[type, Path], dict[str, Any]]
) -> Callable[..., tuple[Any, Any]]:
    """(model, bounds on AUC by slice, baseline) -> the evaluation and the blessing."""

    def evaluate_(
        model: Model,
        *bounds: dict[str, Any],
        baseline: Model | None = None,
        names: tuple[str, ...] = (),
        counted: bool = True,
    ) -> tuple[Any, Any]:
        spec = {"label_key": "tipped", "signature_name": "serving_default", "model_type": "tf_generic"}
        specs = [{**spec, "name": name, "is_baseline": bool(at)} for at, name in enumerate(names)] or [spec]
        config = {
            "model_specs": specs,
            "slicing_specs": [{}, {"feature_keys": ["company"]}],
            "metrics_specs": [
                {"metrics": [{"class_name": "AUC", "per_slice_thresholds": list(bounds)}]},
                *([{"metrics": [{"class_name": "ExampleCount"}]}] if counted else []),
            ],
        }
        kind = resolve(EVALUATOR)
        place = tmp_path / f"evaluator-{len(list(tmp_path.iterdir()))}"
        outputs = outputs_of(kind, place / "outputs")
        (place / "scratch").mkdir()
        asked = {BeamOptions: BeamOptions(), Scratch: Scratch(place / "scratch"), Lineage: Lineage()}
        component = build_component(kind, {"eval_config": config})
        given = {"baseline_model": baseline} if baseline else {}
        asks = {name: asked[ask] for name, ask in read_contract(kind).asks.items()}
        component.run(examples=trips, model=model, **given, **outputs, **asks)
        return outputs["evaluation"], outputs["blessing"]

    return evaluate_


def bound(least: float, *features: str) -> dict[str, Any]:
    return {
        "slicing_specs": [{"feature_keys": list(features)}],
        "threshold": {"value_threshold": {"lower_bound": least}},
    }


def change(least: float) -> dict[str, Any]:
    return {
        "slicing_specs": [{}],
        "threshold": {"change_threshold": {"direction": "HIGHER_IS_BETTER", "absolute": least}},
    }


def test_a_refused_model_is_refused_with_metric_slice_value_and_threshold(evaluate, poor: Model) -> None:
    evaluation, blessing = evaluate(poor, bound(0.9), bound(0.95, "company"))

    assert not blessing.blessed
    value = evaluation.properties["metrics"]["auc"]
    assert blessing.reasons[0] == f"auc {value:.4g} overall (300 examples) is below 0.9"
    assert any(reason.startswith("auc ") and " on company:" in reason for reason in blessing.reasons[1:])
    assert blessing.properties["reasons"] == list(blessing.reasons)
    assert blessing.properties["thresholds"][0] == {"metric": "auc", "slice": "overall", "bound": "min", "limit": 0.9}
    assert blessing.describe().startswith("not blessed; auc ")


def test_a_blessed_model_has_its_metrics_where_ours_are(evaluate, good: Model) -> None:
    evaluation, blessing = evaluate(good, bound(0.6))

    assert blessing.blessed
    assert blessing.properties["reasons"] == []
    assert evaluation.properties["metrics"]["auc"] > 0.8
    assert evaluation.properties["examples"] == 300
    assert evaluation.describe().startswith("auc 0.")


def test_a_change_is_told_from_the_baseline_s_value_whatever_the_models_are_called(
    evaluate, poor: Model, good: Model
) -> None:
    evaluation, blessing = evaluate(poor, change(0.0), baseline=good, names=("new", "old"))

    assert not blessing.blessed
    before, now = (evaluation.properties[name]["auc"] for name in ("baseline_metrics", "metrics"))
    assert blessing.reasons == (
        f"auc {now:.4g} overall (300 examples) changed by {now - before:+.4g} from the baseline's {before:.4g}; the least "
        f"allowed is 0",
    )


def test_without_a_threshold_that_can_be_checked_the_reason_says_so(evaluate, good: Model) -> None:
    _, blessing = evaluate(good, change(0.0), counted=False)

    assert not blessing.blessed
    assert blessing.reasons[0].startswith("min_change 0 of auc compares with a baseline, and there is none yet")


def test_examples_that_nobody_counted_are_not_told_as_none(evaluate, poor: Model) -> None:
    _, blessing = evaluate(poor, bound(0.9), counted=False)

    assert "overall is below 0.9" in blessing.reasons[0]
