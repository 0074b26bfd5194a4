"""A trained taxi model, served: the same answers as in process, over both interfaces and in every form."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pytest

from components.io import tf_example
from components.model.trainer import Trainer
from components.serving.server import Addresses, Server
from configs.taxi.ask import TRIPS, ask
from configs.taxi.ask_server import FLOATS, INTEGERS, TEXTS
from configs.taxi.ask_server import ask as ask_over_grpc
from schemas.artifacts import FeatureSchema, Model, TransformedExamples, TransformGraph
from schemas.component import Progress, Scratch, Seed

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def version(
    xf_transformed: TransformedExamples,
    xf_graph: TransformGraph,
    xf_schema: FeatureSchema,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """A pushed taxi model of five steps."""
    work = tmp_path_factory.mktemp("taxi")
    model = Model(work / "model")
    model.path.mkdir()
    Trainer(build_model="configs.taxi.model.build_model", steps=5).run(
        xf_transformed,
        xf_graph,
        xf_schema,
        seed=Seed(1),
        scratch=Scratch(work / "scratch"),
        progress=Progress(),
        model=model,
    )
    (work / "serving" / "taxi").mkdir(parents=True)
    return model.serving.rename(work / "serving" / "taxi" / "1")


@pytest.fixture(scope="module", params=[1, 64])
def taxi(request: pytest.FixtureRequest, version: Path, serve: Callable[..., Any]) -> Iterator[Addresses]:
    """A server of it, with and without batching."""
    with serve(
        Server(directories=(str(version.parent),), rest_port=0, grpc_port=0, max_batch_size=request.param)
    ) as at:
        yield at


def columns() -> dict[str, list[Any]]:
    missing: dict[str, Any] = {
        **dict.fromkeys(FLOATS, math.nan),
        **dict.fromkeys(INTEGERS, -(2**63)),
        **dict.fromkeys(TEXTS, ""),
    }
    return {name: [trip.get(name, value) for trip in TRIPS] for name, value in missing.items()}


def test_every_form_of_a_request_gives_the_models_own_answer(taxi: Addresses, version: Path) -> None:
    own = ask(version, TRIPS)
    by_column = columns()
    by_row = [dict(zip(by_column, row, strict=True)) for row in zip(*by_column.values(), strict=True)]
    rows = pa.RecordBatch.from_pylist([dict(trip) for trip in TRIPS])
    examples = [{"b64": base64.b64encode(one).decode()} for one in tf_example.encode(rows, missing_keeps_kind=False)]
    with httpx.Client(base_url=f"http://{taxi.host}:{taxi.rest_port}/v1/models", timeout=30) as models:

        def answers(**body: Any) -> list[float]:
            answer = models.post("/taxi:predict", content=json.dumps(body)).json()
            return [value for (value,) in answer.get("predictions") or answer["outputs"]]

        assert answers(signature_name="serving_columns", inputs=by_column) == pytest.approx(own, rel=1e-6)
        assert answers(signature_name="serving_columns", instances=by_row) == pytest.approx(own, rel=1e-6)
        assert answers(instances=examples) == pytest.approx(own, rel=1e-6)


def test_a_client_without_tensorflow_gets_the_models_own_answer_over_grpc(taxi: Addresses, version: Path) -> None:
    assert ask_over_grpc(f"{taxi.host}:{taxi.grpc_port}", "taxi", TRIPS) == pytest.approx(ask(version, TRIPS), rel=1e-6)
