"""The verdict of a model server on a model, and TFX's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from components.io import tfrecord
from schemas.artifacts import InfraBlessing

ANYWAY = {"by": "ada@host", "at": "2026-11-21T12:00:00+00:00", "reason": "the demo"}


@pytest.mark.parametrize(
    ("reasons", "file"), [((), "INFRA_BLESSED"), (("latency p99 7 ms is above 5 ms",), "INFRA_NOT_BLESSED")]
)
def test_one_file_says_it_with_the_reasons_inside(tmp_path: Path, reasons: tuple[str, ...], file: str) -> None:
    blessing = InfraBlessing(tmp_path)

    blessing.write(reasons)

    assert [found.name for found in tmp_path.iterdir()] == [file]
    assert blessing.blessed is not bool(reasons)
    assert InfraBlessing(tmp_path).reasons == reasons


def test_a_threshold_that_is_missed_may_be_overruled(tmp_path: Path) -> None:
    blessing = InfraBlessing(tmp_path)
    blessing.write(("latency p99 7 ms is above 5 ms",))

    blessing.bless_anyway(**ANYWAY)

    assert blessing.blessed
    assert blessing.anyway == ANYWAY
    assert blessing.reasons == ("latency p99 7 ms is above 5 ms",)


def test_a_model_that_no_server_could_serve_stays_refused(tmp_path: Path) -> None:
    blessing = InfraBlessing(tmp_path)
    blessing.write(("the server does not load it",), servable=False)

    blessing.bless_anyway(**ANYWAY)

    assert not blessing.blessed
    assert blessing.anyway is None
    assert not (tmp_path / "anyway.json").exists()


def test_it_is_described_by_what_was_compared_and_measured(tmp_path: Path) -> None:
    found = {
        "parity": {"signatures": {"serving_default": {"rows": 100, "differ": 0, "largest_difference": 0.0}}},
        "latency": {"p50_ms": 0.8123, "p99_ms": 1.25, "requests": 300},
    }
    blessing = InfraBlessing(tmp_path, found)
    blessing.write(())

    assert blessing.describe() == "blessed, 100 answers as in process, p50 0.812 ms, p99 1.25 ms"


@pytest.fixture(scope="module")
def tfx() -> Any:
    """TFX's own executor of InfraValidator."""
    from tfx.components.infra_validator import executor

    return executor


def of_tfx(path: Path) -> Any:
    from tfx.types import standard_artifacts

    found = standard_artifacts.InfraBlessing()
    found.uri = str(path)
    return found


def test_what_tfx_blessed_reads_as_blessed_and_what_it_refused_as_not_servable(tmp_path: Path, tfx: Any) -> None:
    tfx._mark_blessed(of_tfx(tmp_path / "yes"))
    tfx._mark_not_blessed(of_tfx(tmp_path / "no"))

    yes, no = InfraBlessing(tmp_path / "yes"), InfraBlessing(tmp_path / "no")
    assert (yes.blessed, yes.servable, yes.reasons, yes.requests) == (True, True, (), None)
    assert (no.blessed, no.servable, no.reasons) == (False, False, ())


def test_the_warm_up_requests_are_found_where_tfx_keeps_them(tmp_path: Path, tfx: Any) -> None:
    from tensorflow_serving.apis import predict_pb2

    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "saved_model.pb").write_bytes(b"")
    request = predict_pb2.PredictRequest(model_spec={"name": "infra-validation-model"})
    tfx.Executor()._CreateWarmupModel(of_tfx(tmp_path / "blessing"), str(tmp_path / "model"), [request])

    found = InfraBlessing(tmp_path / "blessing").requests

    assert found is not None
    assert len(list(tfrecord.read(found))) == 1
