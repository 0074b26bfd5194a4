"""Warm-up requests: what is asked, and that nothing is left in the file which a server would fail on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from components.io import saved_model, tfrecord
from components.release import warmup
from schemas.artifacts import Examples, Model
from schemas.errors import ArtifactError


@pytest.fixture(scope="module")
def loaded(asked: Model) -> Any:
    return saved_model.load(asked.serving)


def requests(file: Path) -> list[Any]:
    from tensorflow_serving.apis import prediction_log_pb2

    return [prediction_log_pb2.PredictionLog.FromString(record).predict_log.request for record in tfrecord.read(file)]


def values(request: Any) -> dict[str, Any]:
    import tensorflow as tf

    return {name: tf.make_ndarray(tensor).tolist() for name, tensor in request.inputs.items()}


def test_each_of_the_first_eval_examples_is_asked_of_both_signatures(
    tmp_path: Path, loaded: Any, raw: Examples
) -> None:
    assert warmup.write(loaded, "taxi", raw, 2, tmp_path / "requests") == 4

    made = requests(tmp_path / "requests")
    assert {request.model_spec.name for request in made} == {"taxi"}
    assert [r.model_spec.signature_name for r in made] == ["serving_default"] * 2 + ["serving_columns"] * 2
    first, second = tfrecord.read(raw.files("eval")[0]), tfrecord.read(raw.files("eval")[0])
    next(second)
    assert [values(request) for request in made[:2]] == [{"examples": [next(first)]}, {"examples": [next(second)]}]


def test_what_is_missing_is_asked_as_the_columns_say_it(tmp_path: Path, loaded: Any, raw: Examples) -> None:
    warmup.write(loaded, "taxi", raw, 2, tmp_path / "requests")

    assert [values(request) for request in requests(tmp_path / "requests")[2:]] == [
        {"fare": [1.5], "hour": [3], "company": [[b"Acme", b"Blue"]]},
        {"fare": [2.5], "hour": [-(2**63)], "company": [[b""]]},
    ]


def test_equal_input_gives_equal_bytes(tmp_path: Path, loaded: Any, raw: Examples) -> None:
    for name in ("one", "two"):
        warmup.write(loaded, "taxi", raw, 3, tmp_path / name)

    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_what_is_written_replays(tmp_path: Path, loaded: Any, raw: Examples) -> None:
    warmup.write(loaded, "taxi", raw, 3, tmp_path / "requests")

    assert warmup.replay(loaded, tmp_path / "requests") == 6


def test_an_example_that_the_model_does_not_answer_is_left_out_and_said(
    tmp_path: Path, loaded: Any, example: Callable[..., bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    examples = examples_of(tmp_path, example(fare=[1.0]), example(other=[1.0]))

    assert warmup.write(loaded, "taxi", examples, 5, tmp_path / "requests") == 3

    assert "1 warm-up requests are left out, such as serving_default: InvalidArgumentError" in capsys.readouterr().err


def test_values_of_another_kind_than_the_columns_take_make_no_request(
    tmp_path: Path, loaded: Any, example: Callable[..., bytes]
) -> None:
    only_columns = {"serving_columns": loaded.signatures["serving_columns"]}
    examples = examples_of(tmp_path, example(fare=[b"2.50"]))

    with pytest.raises(ArtifactError, match="serving_columns: TypeError"):
        warmup.write(SimpleNamespace(signatures=only_columns), "taxi", examples, 5, tmp_path / "requests")


def test_a_model_that_answers_no_example_is_refused(tmp_path: Path, loaded: Any, example: Callable[..., bytes]) -> None:
    only_examples = {"serving_default": loaded.signatures["serving_default"]}
    examples = examples_of(tmp_path, example(other=[1.0]))

    with pytest.raises(ArtifactError, match="answers none of 1 requests made from raw examples"):
        warmup.write(SimpleNamespace(signatures=only_examples), "taxi", examples, 5, tmp_path / "requests")


def test_a_model_that_takes_no_examples_has_no_requests(tmp_path: Path, model: Model, raw: Examples) -> None:
    assert warmup.write(saved_model.load(model.serving), "taxi", raw, 5, tmp_path / "requests") == 0

    assert not (tmp_path / "requests").exists()


def examples_of(tmp_path: Path, *records: bytes) -> Examples:
    examples = Examples(tmp_path / "examples")
    examples.split_path("train").mkdir(parents=True, exist_ok=True)
    tfrecord.write(examples.split_path("train") / "data_tfrecord-00000-of-00001.gz", list(records))
    return examples


def logged(**request: Any) -> bytes:
    from tensorflow_serving.apis import prediction_log_pb2

    serialized: bytes = prediction_log_pb2.PredictionLog(**request).SerializeToString()
    return serialized


@pytest.mark.parametrize(
    ("request_", "why"),
    [
        ({}, "its kind is none"),
        ({"session_run_log": {}}, "its kind is session_run_log"),
        ({"predict_log": {"request": {"model_spec": {"signature_name": "gone"}}}}, "no signature 'gone'"),
        ({"predict_log": {"request": {}}}, "'serving_default' takes examples, and is given nothing"),
    ],
)
def test_a_request_that_a_server_would_fail_on_is_named(
    tmp_path: Path, loaded: Any, request_: dict[str, Any], why: str
) -> None:
    tfrecord.write(tmp_path / "requests", [logged(**request_)])

    with pytest.raises(ArtifactError, match=f"request 1 fails .*{why}"):
        warmup.replay(loaded, tmp_path / "requests")


def test_more_requests_than_a_server_takes_are_refused(
    tmp_path: Path, loaded: Any, example: Callable[..., bytes]
) -> None:
    import tensorflow as tf

    one = logged(
        regress_log={
            "request": {"input": {"example_list": {"examples": [tf.train.Example.FromString(example(fare=[1.0]))]}}}
        }
    )
    tfrecord.write(tmp_path / "requests", [one] * 1001)

    with pytest.raises(ArtifactError, match="1,001 requests; a server takes 1,000 at most"):
        warmup.replay(loaded, tmp_path / "requests")
