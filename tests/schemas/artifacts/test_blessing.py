"""The blessing of a model, given, withheld, and given all the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from schemas.artifacts import Blessing


def test_reasons_withhold_it(tmp_path: Path) -> None:
    blessing = Blessing(tmp_path)

    blessing.write(("auc is low",))

    assert not blessing.blessed
    assert blessing.reasons == ("auc is low",)
    assert blessing.anyway is None
    assert blessing.describe() == "not blessed; auc is low"


@pytest.mark.parametrize("reasons", [("auc is low",), ()])
def test_given_all_the_same_it_keeps_what_was_against_it_and_who_said_so(
    tmp_path: Path, reasons: tuple[str, ...]
) -> None:
    blessing = Blessing(tmp_path)
    blessing.write(reasons)

    blessing.bless_anyway("ada@host", "2026-11-21T12:00:00+00:00", "the demo")

    assert sorted(file.name for file in tmp_path.iterdir()) == ["BLESSED", "anyway.json"]
    again = Blessing(tmp_path, blessing.properties)
    assert again.blessed
    assert again.reasons == reasons
    assert again.anyway == {"by": "ada@host", "at": "2026-11-21T12:00:00+00:00", "reason": "the demo"}
    assert again.properties == {"blessed": True, "reasons": list(reasons), "anyway": again.anyway}
    assert again.describe() == "; ".join(("blessed anyway by ada@host: the demo", *reasons))


def test_what_tfx_refused_can_be_blessed_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "NOT_BLESSED").touch()
    blessing = Blessing(tmp_path)

    blessing.bless_anyway("ada@host", "2026-11-21T12:00:00+00:00", "the demo")

    assert blessing.blessed
    assert blessing.reasons == ()
