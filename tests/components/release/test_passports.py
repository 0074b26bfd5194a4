"""What a passport says of the gates before the push."""

from __future__ import annotations

import pytest

from components.release import passports
from schemas.component import Lineage


@pytest.mark.parametrize(
    ("on_drift", "blessed", "reasons"),
    [("warn", False, ["train: fare has drifted"]), ("retrain", True, [])],
    ids=["warned of", "the reason to train"],
)
def test_drift_is_against_a_model_unless_it_is_the_reason_to_train_it(
    on_drift: str, blessed: bool, reasons: list[str]
) -> None:
    drift = {"on_drift": on_drift, "distances": [], "over": ["train: fare has drifted"], "notes": []}
    anomalies = {"type": "ExampleAnomalies", "properties": {"anomalies": {"train": 0}, "drift": drift}}
    lineage = Lineage(steps={"validator": {"outputs": {"anomalies": anomalies}}})

    (gate,) = passports.gates(None, None, None, lineage)

    assert (gate["gate"], gate["blessed"], gate["reasons"]) == ("validator", blessed, reasons)
    assert gate["drift"] == drift
