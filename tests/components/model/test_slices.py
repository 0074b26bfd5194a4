"""Slices as a definition names them."""

from __future__ import annotations

from typing import Any

import pytest

from components.model import slices
from components.model.slices import OVERALL, Slice


@pytest.mark.parametrize(
    ("setting", "expected", "shown"),
    [
        ((), OVERALL, "overall"),
        (("trip_start_hour",), Slice(("trip_start_hour",)), "trip_start_hour"),
        (("hour", {"company": "Acme"}), Slice(("hour",), (("company", "Acme"),)), "company:Acme, hour"),
        ([{"hour": 3, "fare": 2.5}], Slice((), (("fare", "2.5"), ("hour", "3"))), "fare:2.5, hour:3"),
        (("b", "a"), Slice(("a", "b")), "a, b"),
    ],
)
def test_a_slice_is_named_by_features_and_values(setting: Any, expected: Slice, shown: str) -> None:
    found, problems = slices.parse("slices.0", setting)

    assert problems == []
    assert found == expected
    assert str(found) == shown


@pytest.mark.parametrize(
    ("setting", "problem"),
    [
        ("hour", "slices.0: 'hour' is not a list of features. Write [hour]"),
        ((3,), "slices.0: 3 is neither a feature's name nor a mapping"),
        (({},), "slices.0: {} is neither"),
        (({"hour": [1, 2]},), "slices.0.hour: [1, 2] is not a feature's value"),
        (({"hour": True},), "slices.0.hour: True is not a feature's value"),
        (("hour", {"hour": 3}), "slices.0: the feature 'hour' is named 2 times"),
    ],
)
def test_what_is_no_slice_is_refused_with_its_place(setting: Any, problem: str) -> None:
    found, problems = slices.parse("slices.0", setting)

    assert found is None
    assert len(problems) == 1
    assert problems[0].startswith(problem)


def test_a_slice_is_what_tfma_means_by_it() -> None:
    import tensorflow_model_analysis as tfma
    from google.protobuf import json_format

    found, _ = slices.parse("slices.0", ("hour", {"company": "Acme", "month": 3}))
    assert found is not None

    spec = json_format.ParseDict(found.to_json(), tfma.SlicingSpec())

    assert list(spec.feature_keys) == ["hour"]
    assert dict(spec.feature_values) == {"company": "Acme", "month": "3"}


def test_a_computed_slice_is_called_by_its_features_and_values() -> None:
    assert slices.key_name([("hour", 3), ("company", b"Acme & Co")]) == "company:Acme & Co, hour:3"
    assert slices.key_name([("fare", 2.0)]) == "fare:2"
    assert slices.key_name([]) == "overall"
