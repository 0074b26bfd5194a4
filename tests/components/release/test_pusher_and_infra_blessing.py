"""Pusher and the verdict of a model server: what it refuses, what it takes from it, and TFX's Pusher on the same files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from components.io import tfrecord
from components.release import warmup
from components.release.pusher import Pusher
from schemas.artifacts import Blessing, Examples, InfraBlessing, Model, PushedModel
from schemas.component import Lineage
from schemas.errors import NotBlessed
from schemas.passport import Passport

Push = Callable[..., PushedModel]
SLOW = "latency p99 12.5 ms of 300 one-row requests of serving_default is above 10 ms"


def said(path: Path, *reasons: str, **how: bool) -> InfraBlessing:
    """A verdict without warm-up requests."""
    blessing = InfraBlessing(path)
    blessing.write(reasons, **how)
    return blessing


def test_a_model_that_is_served_too_slowly_is_not_pushed_and_both_gates_reasons_are_said(
    tmp_path: Path, push: Push
) -> None:
    blessing = Blessing(tmp_path / "blessing")
    blessing.write(("auc 0.5 overall is below 0.7",))

    with pytest.raises(
        NotBlessed, match=r"auc 0\.5 overall is below 0\.7\n  latency p99 12\.5 ms .*\nImprove the model"
    ):
        push(
            Pusher(destination=str(tmp_path / "serving")), blessing=blessing, infra_blessing=said(tmp_path / "no", SLOW)
        )

    assert not (tmp_path / "serving").exists()


def test_of_a_model_that_no_server_serves_it_says_that_nobody_can_bless_it(tmp_path: Path, push: Push) -> None:
    refused = said(tmp_path / "no", "it cannot be served: it died", servable=False)

    with pytest.raises(NotBlessed, match=r"it died\nA server could not serve it, which --bless-anyway does not change"):
        push(Pusher(destination=str(tmp_path / "serving")), infra_blessing=refused)


def test_a_server_that_judged_another_model_does_not_count(tmp_path: Path, push: Push) -> None:
    lineage = Lineage(
        steps={"infra_validator": {"inputs": {"model": {"type": "Model", "digest": "sha256:other"}}}},
        inputs={"model": {"digest": "sha256:candidate"}, "infra_blessing": {"step": "infra_validator"}},
    )

    with pytest.raises(NotBlessed, match="the infra_blessing is of another model"):
        push(Pusher(destination=str(tmp_path / "serving")), infra_blessing=said(tmp_path / "yes"), lineage=lineage)


def test_the_passport_has_what_the_server_was_asked_and_who_overruled_it(tmp_path: Path, push: Push) -> None:
    verdict = said(tmp_path / "verdict", SLOW)
    verdict.properties["latency"] = {"p50_ms": 1.5, "p99_ms": 12.5, "requests": 300}
    verdict.bless_anyway("ada@host", "2026-11-21T12:00:00+00:00", "the demo")

    pushed = push(Pusher(destination=str(tmp_path / "serving"), max_size_mb=0.001), infra_blessing=verdict)

    passport = Passport.read(pushed.version_path)
    assert passport is not None
    _, served, size = passport.gates
    assert (served["gate"], served["blessed"], served["reasons"]) == ("infra_validator", True, [SLOW])
    assert served["latency"]["p99_ms"] == 12.5
    assert (
        served["anyway"]
        == size["anyway"]
        == {"by": "ada@host", "at": "2026-11-21T12:00:00+00:00", "reason": "the demo"}
    )


@pytest.fixture
def requests(tmp_path: Path) -> InfraBlessing:
    """A verdict with two warm-up requests."""
    blessing = said(tmp_path / "with-requests")
    blessing.requests_path.parent.mkdir()
    tfrecord.write(blessing.requests_path, [b"one", b"two"])
    return blessing


def test_the_requests_that_the_server_replayed_are_pushed_as_they_are(
    tmp_path: Path, asked: Model, raw: Examples, push: Push, requests: InfraBlessing
) -> None:
    pushed = push(Pusher(destination=str(tmp_path / "serving")), model=asked, examples=raw, infra_blessing=requests)

    passport = Passport.read(pushed.version_path)
    assert passport is not None
    assert passport.warmup_requests == 2
    assert (pushed.version_path / warmup.FILE).read_bytes() == requests.requests_path.read_bytes()


@pytest.mark.parametrize(("settings", "made"), [({}, 6), ({"warmup_requests": 0}, 0)])
def test_where_the_server_had_none_they_are_made_from_examples_unless_none_are_wanted(
    tmp_path: Path, asked: Model, raw: Examples, push: Push, settings: dict[str, Any], made: int
) -> None:
    pushed = push(
        Pusher(destination=str(tmp_path / "serving"), **settings),
        model=asked,
        examples=raw,
        infra_blessing=said(tmp_path / "yes"),
    )

    passport = Passport.read(pushed.version_path)
    assert passport is not None
    assert passport.warmup_requests == made


@pytest.mark.parametrize("reasons", [(), (SLOW,)])
def test_tfx_pushes_what_our_verdict_blesses_and_nothing_else(
    tmp_path: Path, model: Model, reasons: tuple[str, ...]
) -> None:
    from tfx.components.pusher.executor import Executor
    from tfx.types import standard_artifacts

    verdict = said(tmp_path / "verdict", *reasons)
    given, blessing, pushed = (
        getattr(standard_artifacts, kind)() for kind in ("Model", "InfraBlessing", "PushedModel")
    )
    given.uri, blessing.uri, pushed.uri = str(model.path), str(verdict.path), str(tmp_path / "pushed")
    blessing.set_int_custom_property("blessed", int(verdict.properties["blessed"]))
    destination = {"filesystem": {"base_directory": str(tmp_path / "serving")}}

    Executor().Do(
        {"model": [given], "infra_blessing": [blessing]},
        {"pushed_model": [pushed]},
        {"push_destination": json.dumps(destination)},
    )

    assert pushed.get_int_custom_property("pushed") == (0 if reasons else 1)
    assert (tmp_path / "serving").exists() is not bool(reasons)


@pytest.mark.parametrize(
    ("mark", "why"), [("_mark_blessed", None), ("_mark_not_blessed", "whoever judged it left no reason")]
)
def test_our_pusher_heeds_what_tfx_says(tmp_path: Path, push: Push, mark: str, why: str | None) -> None:
    from tfx.components.infra_validator import executor
    from tfx.types import standard_artifacts

    theirs = standard_artifacts.InfraBlessing()
    theirs.uri = str(tmp_path / "theirs")
    getattr(executor, mark)(theirs)
    pusher = Pusher(destination=str(tmp_path / "serving"))

    if why is None:
        assert push(pusher, infra_blessing=InfraBlessing(Path(theirs.uri))).version_path.is_dir()
    else:
        with pytest.raises(NotBlessed, match=why):
            push(pusher, infra_blessing=InfraBlessing(Path(theirs.uri)))
