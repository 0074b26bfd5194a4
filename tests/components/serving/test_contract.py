"""TensorFlow Serving's contract: requests and answers from its documentation and its source, over REST and with its own stubs.

They are asked of our server, or of any other by its addresses. For the real one, as docker/compose.yaml starts it beside a
directory DIR:

    CONTRACT_DIRECTORY=DIR CONTRACT_REST=http://localhost:8501 CONTRACT_GRPC=localhost:8500 pytest tests/components/serving/test_contract.py

The models are put into DIR/half as versions 123 and 124; docker/models.config serves both, 123 as `stable`, 124 as `canary`. The
suite waits a minute for them, so that it may be started before a server that does not start without a model, as ours:
`pipeline serve --models-config FILE`, where FILE is docker/models.config with DIR in place of /models.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from components.serving.server import Server

ELSEWHERE = "CONTRACT_REST" in os.environ
CONFIG = Path(__file__).parents[3] / "docker" / "models.config"


@dataclass(frozen=True)
class Asked:
    rest: httpx.Client
    grpc: Any

    def post(self, path: str, **body: Any) -> httpx.Response:
        """POST JSON; NaN and infinities go as the tokens that TensorFlow Serving takes."""
        return self.rest.post(f"/v1/models/{path}", content=json.dumps(body))


@pytest.fixture(scope="module")
def half(
    half_plus_two: Path, half_plus_three: Path, serve: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Asked]:
    import grpc

    directory = Path(os.environ["CONTRACT_DIRECTORY"]) if ELSEWHERE else tmp_path_factory.mktemp("contract")
    for version, model in ((123, half_plus_two), (124, half_plus_three)):
        target = directory / "half" / str(version)
        if not target.exists():
            shutil.copytree(model, target.with_name(f".{version}"))
            target.with_name(f".{version}").rename(target)
    server = nullcontext(os.environ) if ELSEWHERE else _ours(serve, directory)
    options = [("grpc.max_receive_message_length", -1)]  # a client's own limit is four megabytes
    with (
        server as at,
        httpx.Client(base_url=at["CONTRACT_REST"]) as rest,
        grpc.insecure_channel(at["CONTRACT_GRPC"], options) as channel,
    ):
        _wait_for_both_versions(rest)
        yield Asked(rest, channel)


@contextmanager
def _ours(serve: Callable[..., Any], directory: Path) -> Iterator[dict[str, str]]:
    """Our server on docker/models.config, and where it listens."""
    config = directory / "models.config"
    config.write_text(CONFIG.read_text().replace("/models", str(directory)))
    with serve(Server(models_config=str(config), rest_port=0, grpc_port=0)) as at:
        yield {"CONTRACT_REST": f"http://{at.host}:{at.rest_port}", "CONTRACT_GRPC": f"{at.host}:{at.grpc_port}"}


def _wait_for_both_versions(rest: httpx.Client) -> None:
    """A server that was started before may not have them yet, and one that is being started may not listen yet."""
    deadline = time.monotonic() + 60
    while True:
        try:
            answers = [rest.get(f"/v1/models/half/versions/{version}") for version in (123, 124)]
            if all("AVAILABLE" in answer.text for answer in answers):
                return
        except httpx.TransportError:
            pass
        assert time.monotonic() < deadline, f"{rest.base_url} does not serve versions 123 and 124 of half"
        time.sleep(0.5)


def test_status_of_all_versions_the_largest_first(half: Asked) -> None:
    answer = half.rest.get("/v1/models/half")

    ok = {"error_code": "OK", "error_message": ""}
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == {
        "model_version_status": [
            {"version": "124", "state": "AVAILABLE", "status": ok},
            {"version": "123", "state": "AVAILABLE", "status": ok},
        ]
    }


@pytest.mark.parametrize(("which", "version"), [("versions/123", "123"), ("labels/canary", "124")])
def test_status_of_one_version(half: Asked, which: str, version: str) -> None:
    (status,) = half.rest.get(f"/v1/models/half/{which}").json()["model_version_status"]

    assert (status["version"], status["state"]) == (version, "AVAILABLE")


def test_metadata_is_the_signatures_of_the_saved_model(half: Asked) -> None:
    answer = half.rest.get("/v1/models/half/versions/123/metadata").json()

    assert answer["model_spec"] == {"name": "half", "signature_name": "", "version": "123"}
    signature = answer["metadata"]["signature_def"]["signature_def"]["serving_default"]
    assert signature["method_name"] == "tensorflow/serving/predict"
    assert signature["inputs"]["x"]["dtype"] == "DT_FLOAT"
    assert signature["inputs"]["x"]["tensor_shape"] == {"dim": [{"size": "-1", "name": ""}], "unknown_rank": False}
    assert set(signature["outputs"]) == {"y"}


def test_predict_in_rows(half: Asked) -> None:
    assert half.post("half/versions/124:predict", instances=[1.0, 2.0, 5.0]).json() == {"predictions": [3.5, 4.0, 5.5]}


def test_predict_in_columns(half: Asked) -> None:
    assert half.post("half/versions/124:predict", inputs=[1.0, 2, 5.0]).json() == {"outputs": [3.5, 4.0, 5.5]}
    assert half.post("half/versions/124:predict", inputs={"x": [1.0]}).json() == {"outputs": [3.5]}


@pytest.mark.parametrize(
    ("which", "answer"),
    [("", 3.5), ("/versions/123", 2.5), ("/versions/124", 3.5), ("/labels/stable", 2.5), ("/labels/canary", 3.5)],
)
def test_a_version_is_chosen_by_number_or_label_and_is_else_the_largest(half: Asked, which: str, answer: float) -> None:
    assert half.post(f"half{which}:predict", instances=[1.0]).json() == {"predictions": [answer]}


def test_several_inputs_and_outputs_in_rows_keep_their_names(half: Asked) -> None:
    rows = [{"a": [1.0, 2.0], "name": "foo"}, {"a": [3.5, 0.0], "name": "b\u00e4r"}]
    answer = half.post("half:predict", signature_name="two", instances=rows).json()

    assert answer == {
        "predictions": [
            {"sum": 3.0, "shout": "FOO", "shout_bytes": {"b64": "Rk9P"}},
            {"sum": 3.5, "shout": "B\u00e4R", "shout_bytes": {"b64": "QsOkUg=="}},
        ]
    }


def test_several_inputs_and_outputs_in_columns_keep_their_names(half: Asked) -> None:
    columns = {"a": [[1.0, 2.0], [3.5, 0.0]], "name": ["foo", {"b64": "YmFy"}]}
    answer = half.post("half:predict", signature_name="two", inputs=columns).json()

    assert answer == {
        "outputs": {"sum": [3.0, 3.5], "shout": ["FOO", "BAR"], "shout_bytes": [{"b64": "Rk9P"}, {"b64": "QkFS"}]}
    }


def test_every_type_comes_back_as_it_went(half: Asked) -> None:
    row = {"i": -(2**63), "b": True, "d": 0.1, "u": -7, "image_bytes": {"b64": "/wA="}}

    assert half.post("half:predict", signature_name="types", instances=[row]).json() == {"predictions": [row]}


def test_nan_and_infinities_are_tokens_both_ways(half: Asked) -> None:
    answer = half.post("half:predict", instances=[1.0, math.nan, math.inf, -math.inf])

    assert [token.strip() for token in answer.text.split("[")[1].split("]")[0].split(",")] == [
        "3.5", "NaN", "Infinity", "-Infinity",
    ]  # fmt: skip


def test_decimals_are_the_shortest_that_are_the_same_float(half: Asked) -> None:
    assert half.post("half/versions/123:predict", instances=[0.2, 1e-3]).json() == {"predictions": [2.1, 2.0005]}


def test_a_scalar_output_has_columns_and_no_rows(half: Asked) -> None:
    assert half.post("half:predict", signature_name="whole", inputs=[1.0, 2.0]).json() == {"outputs": 3.0}
    refused = half.post("half:predict", signature_name="whole", instances=[1.0, 2.0])
    assert (refused.status_code, refused.json()) == (400, {"error": "Tensor name: total has no shape information "})


def test_regress_gives_one_number_per_example(half: Asked) -> None:
    answer = half.post("half:regress", signature_name="regress", examples=[{"x": 1.0}, {"x": [2.0]}])

    assert answer.json() == {"results": [3.5, 4.0]}


def test_classify_gives_labels_and_scores_per_example(half: Asked) -> None:
    answer = half.post("half:classify", signature_name="classify", examples=[{"x": 0.0}, {"x": -math.inf}])

    assert answer.json() == {"results": [[["no", 0.5], ["yes", 0.5]], [["no", 1.0], ["yes", 0.0]]]}


def test_a_context_is_part_of_every_example(half: Asked) -> None:
    answer = half.post("half:regress", signature_name="regress", context={"x": 4.0}, examples=[{}, {"other": "y"}])

    assert answer.json() == {"results": [5.0, 5.0]}


X = {"instances": [1.0]}
WRONG = {
    "unknown model": ("other:predict", X, 404, "Servable not found for request: Latest(other)"),
    "unknown version": ("half/versions/9:predict", X, 404, "Servable not found for request: Specific(half, 9)"),
    "unknown label": ("half/labels/new:predict", X, 400, "Unrecognized servable version label: new"),
    "unknown signature": (
        "half:predict", {"signature_name": "x", **X}, 400, 'Serving signature name: "x" not found in signature def',
    ),
    "unknown verb": ("half:explain", X, 400, "Malformed request: POST /v1/models/half:explain"),
    "neither": ("half:predict", {}, 400, "Missing 'inputs' or 'instances' key"),
    "both": (
        "half:predict", {**X, "inputs": [1.0]}, 400,
        "Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist",
    ),
    "no rows": ("half:predict", {"instances": []}, 400, "No values in 'instances' array"),
    "rows are no list": ("half:predict", {"instances": 1.0}, 400, "Expecting 'instances' to be an list/array"),
    "type": (
        "half:predict", {"instances": ["one"]}, 400,
        "JSON Value: \"one\" Type: String is not of expected type: float",
    ),
    "fraction": (
        "half:predict",
        {"signature_name": "types", "instances": [{"i": 1.5, "b": True, "d": 1, "u": 1, "image_bytes": ""}]},
        400, "JSON Value: 1.5 Type: Number is not of expected type: int64",
    ),
    "beyond the type": (
        "half:predict",
        {"signature_name": "types", "instances": [{"i": 1, "b": True, "d": 1, "u": 2**31, "image_bytes": ""}]},
        400, "Type: Number is not of expected type: int32",
    ),
    "ragged": (
        "half:predict", {"signature_name": "two", "inputs": {"a": [[1, 2], [3]], "name": ["x", "y"]}}, 400,
        "Encountered list at unexpected size: 1 at level: 1 expected size: 2",
    ),
    "ragged rows": (
        "half:predict", {"signature_name": "two", "instances": [{"a": [1, 2], "name": "x"}, {"a": [3], "name": "y"}]},
        400, "Failed to process element: 1 key: a of 'instances' list. Error: INVALID_ARGUMENT: Expecting",
    ),
    "unknown input": (
        "half:predict", {"signature_name": "two", "instances": [{"a": [1, 2], "name": "x", "z": 1}]}, 400,
        "JSON object: does not have named input: z",
    ),
    "missing input": (
        "half:predict", {"signature_name": "two", "instances": [{"a": [1, 2]}]}, 400, "keys must be equal to: a,name",
    ),
    "missing column": (
        "half:predict", {"signature_name": "two", "inputs": {"a": [[1, 2]]}}, 400,
        "Missing named input: name in 'inputs' object.",
    ),
    "plain rows": (
        "half:predict", {"signature_name": "two", "instances": [[1, 2]]}, 400,
        "instances is a plain list, but expecting list of objects as multiple input tensors required",
    ),
    "objects among values": (
        "half:predict", {"instances": [1.0, {"x": 1.0}]}, 400, "Expecting value/list but got object at item 1 of input list",
    ),
    "values among objects": (
        "half:predict", {"signature_name": "two", "instances": [{"a": [1, 2], "name": "x"}, 1.0]}, 400,
        "Expecting object but got list at item 1 of input list",
    ),
    "b64": (
        "half:predict", {"signature_name": "two", "instances": [{"a": [1, 2], "name": {"b64": "%%%"}}]}, 400,
        "Unable to base64 decode",
    ),
    "b64 with more": (
        "half:predict", {"signature_name": "two", "instances": [{"a": [1, 2], "name": {"b64": "", "c": 1}}]}, 400,
        "not formatted correctly for base64 data",
    ),
    "signature name": (
        "half:predict", {"signature_name": 1, **X}, 400, "'signature_name' key must be a string value.",
    ),
    "no examples": ("half:regress", {}, 400, "key 'examples' is expected and was not found"),
    "empty examples": ("half:classify", {"examples": []}, 400, "'examples' value is an empty array"),
    "example": ("half:classify", {"examples": [1]}, 400, "Example must be JSON object but got JSON Number"),
    "feature": (
        "half:regress", {"signature_name": "regress", "examples": [{"x": None}]}, 400,
        "Feature: x has element with unexpected JSON type: Null",
    ),
    "mixed feature": (
        "half:regress", {"signature_name": "regress", "examples": [{"x": [1.5, "a"]}]}, 400,
        "Unexpected element type in feature: x expecting type: float",
    ),
    "not a classifier": ("half:classify", {"signature_name": "two", "examples": [{}]}, 400, "Expected one input Tensor."),
    "classify without signature": (
        "half:classify", {"signature_name": "x", "examples": [{}]}, 400, "No signature was found with the name: x",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_said_in_tensorflow_servings_words(half: Asked, case: str) -> None:
    path, body, status, words = WRONG[case]

    answer = half.post(path, **body)

    assert list(answer.json()) == ["error"]
    assert words in answer.json()["error"]
    assert answer.status_code == status


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "JSON Parse error: The document is empty"),
        (b'{"instances": [1.0', "JSON Parse error: "),
        (b"[1.0]", "Is not object"),
        (b'{"instances": [\xff]}', "JSON Parse error: "),
    ],
)
def test_what_is_not_json_is_refused(half: Asked, body: bytes, words: str) -> None:
    answer = half.rest.post("/v1/models/half:predict", content=body)

    assert answer.status_code == 400
    assert words in answer.json()["error"]


def test_what_stands_behind_the_document_does_not_matter(half: Asked) -> None:
    answer = half.rest.post("/v1/models/half:predict", content=b' {"instances": [1.0]} and more')

    assert answer.json() == {"predictions": [3.5]}


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("/v1/models/other", 404, "Could not find any versions of model other"),
        ("/v1/models/half/versions/9", 404, "Could not find version 9 of model half"),
        ("/v1/models/other/metadata", 404, "Servable not found for request: Latest(other)"),
        ("/v1/models", 400, "Missing model name in request."),
        ("/v1/models/half/nothing", 400, "Malformed request: GET /v1/models/half/nothing"),
    ],
)
def test_what_a_get_does_not_find(half: Asked, path: str, status: int, words: str) -> None:
    answer = half.rest.get(path)

    assert (answer.status_code, answer.json()) == (status, {"error": words})


def test_metrics_have_tensorflow_servings_names(half: Asked) -> None:
    half.post("half:predict", instances=[1.0])

    page = half.rest.get("/monitoring/prometheus/metrics").text

    assert ':tensorflow:serving:request_count{model_name="half",status="OK"}' in page
    assert ":tensorflow:serving:request_latency_bucket{" in page


class Stubs:
    """The generated stubs and messages of tensorflow-serving-api."""

    def __init__(self, channel: Any) -> None:
        from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc

        self.predict = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        self.models = model_service_pb2_grpc.ModelServiceStub(channel)


@pytest.fixture(scope="module")
def stubs(half: Asked) -> Stubs:
    return Stubs(half.grpc)


def predict(signature: str = "", version: int | None = None, label: str = "", **inputs: Any) -> Any:
    from tensorflow_serving.apis import predict_pb2

    request = predict_pb2.PredictRequest()
    request.model_spec.name = "half"
    request.model_spec.signature_name = signature
    if version is not None:
        request.model_spec.version.value = version
    if label:
        request.model_spec.version_label = label
    for name, value in inputs.items():
        request.inputs[name].CopyFrom(value)
    return request


def floats(*values: float) -> Any:
    import tensorflow as tf

    return tf.make_tensor_proto(values, tf.float32)


def strings(*values: str) -> Any:
    import tensorflow as tf

    return tf.make_tensor_proto(values, tf.string)


def examples(request: Any, signature: str, *values: float) -> Any:
    request.model_spec.name = "half"
    request.model_spec.signature_name = signature
    for value in values:
        request.input.example_list.examples.add().features.feature["x"].float_list.value.append(value)
    return request


@pytest.mark.parametrize(
    ("which", "version", "answers"),
    [
        ({}, 124, [3.5, 4.0]),
        ({"version": 123}, 123, [2.5, 3.0]),
        ({"label": "stable"}, 123, [2.5, 3.0]),
        ({"label": "canary"}, 124, [3.5, 4.0]),
    ],
)
def test_grpc_predict_says_which_version_answered(
    stubs: Stubs, which: dict[str, Any], version: int, answers: list[float]
) -> None:
    response = stubs.predict.Predict(predict(**which, x=floats(1.0, 2.0)))

    assert list(response.outputs["y"].float_val) == answers
    assert [dim.size for dim in response.outputs["y"].tensor_shape.dim] == [2]
    assert (response.model_spec.name, response.model_spec.version.value) == ("half", version)
    assert response.model_spec.signature_name == "serving_default"


def test_grpc_predict_with_every_type(stubs: Stubs) -> None:
    import tensorflow as tf

    given = {"i": [-(2**63)], "b": [True], "d": [0.1], "u": [-7], "image_bytes": [b"\xff\x00"]}
    kinds = {"i": tf.int64, "b": tf.bool, "d": tf.float64, "u": tf.int32, "image_bytes": tf.string}
    inputs = {name: tf.make_tensor_proto(value, kinds[name]) for name, value in given.items()}

    response = stubs.predict.Predict(predict("types", **inputs))

    assert {name: tf.make_ndarray(value).tolist() for name, value in response.outputs.items()} == given


def test_grpc_predict_gives_only_the_outputs_that_are_asked_for(stubs: Stubs) -> None:
    import tensorflow as tf

    request = predict("two", a=tf.make_tensor_proto([[1.0, 2.0]]), name=tf.make_tensor_proto(["n"]))
    request.output_filter.extend(["sum"])

    assert list(stubs.predict.Predict(request).outputs) == ["sum"]


def test_grpc_messages_above_four_megabytes(stubs: Stubs) -> None:
    import numpy as np
    import tensorflow as tf

    large = np.arange(3_000_000, dtype=np.float32)  # 12 MB

    response = stubs.predict.Predict(predict(x=tf.make_tensor_proto(large)))

    assert len(response.outputs["y"].float_val) == len(large)


def test_grpc_classify_and_regress(stubs: Stubs) -> None:
    from tensorflow_serving.apis import classification_pb2, regression_pb2

    classified = stubs.predict.Classify(examples(classification_pb2.ClassificationRequest(), "classify", 0.0))
    regressed = stubs.predict.Regress(examples(regression_pb2.RegressionRequest(), "regress", 1.0, 2.0))

    (one,) = classified.result.classifications
    assert [(c.label, c.score) for c in one.classes] == [("no", 0.5), ("yes", 0.5)]
    assert [r.value for r in regressed.result.regressions] == [3.5, 4.0]
    assert regressed.model_spec.version.value == 124


def test_grpc_metadata_and_status(stubs: Stubs) -> None:
    from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2

    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    request.model_spec.name = "half"
    response = stubs.predict.GetModelMetadata(request)
    signatures = get_model_metadata_pb2.SignatureDefMap()
    response.metadata["signature_def"].Unpack(signatures)
    status_request = get_model_status_pb2.GetModelStatusRequest()
    status_request.model_spec.name = "half"
    statuses = stubs.models.GetModelStatus(status_request).model_version_status

    assert response.model_spec.version.value == 124
    assert signatures.signature_def["regress"].outputs["outputs"].dtype == 1
    available = get_model_status_pb2.ModelVersionStatus.AVAILABLE
    assert [(s.version, s.state, s.status.error_code) for s in statuses] == [(124, available, 0), (123, available, 0)]


def refusals() -> dict[str, tuple[Any, str, str]]:
    from tensorflow_serving.apis import get_model_metadata_pb2, predict_pb2, regression_pb2

    other = predict(x=floats(1.0))
    other.model_spec.name = "other"
    filtered = predict(x=floats(1.0))
    filtered.output_filter.append("z")
    nothing = get_model_metadata_pb2.GetModelMetadataRequest()
    nothing.model_spec.name = "half"
    return {
        "model": (other, "NOT_FOUND", "Servable not found for request: Latest(other)"),
        "version": (predict(version=9, x=floats(1.0)), "NOT_FOUND", "Specific(half, 9)"),
        "label": (predict(label="new", x=floats(1.0)), "INVALID_ARGUMENT", "Unrecognized servable version label: new"),
        "signature": (predict("z", x=floats(1.0)), "FAILED_PRECONDITION", 'Serving signature key "z" not found.'),
        "no spec": (predict_pb2.PredictRequest(), "INVALID_ARGUMENT", "Missing ModelSpec"),
        "input": (predict(z=floats(1.0)), "INVALID_ARGUMENT", ""),
        "inputs": (
            predict(x=floats(1.0), z=floats(1.0)),
            "INVALID_ARGUMENT",
            "input size does not match signature: 2!=1",
        ),
        "no input": (predict(), "INVALID_ARGUMENT", "Missing but required: {x}."),
        "type": (predict(x=strings("a")), "INVALID_ARGUMENT", "" if ELSEWHERE else "input x is string, and"),
        "filter": (filtered, "INVALID_ARGUMENT", "output tensor alias not found in signature: z"),
        "empty": (examples(regression_pb2.RegressionRequest(), "regress"), "INVALID_ARGUMENT", "Input is empty."),
        "metadata": (nothing, "INVALID_ARGUMENT", "must specify at least one metadata_field"),
    }


METHODS = {"RegressionRequest": "Regress", "PredictRequest": "Predict", "GetModelMetadataRequest": "GetModelMetadata"}


@pytest.mark.parametrize(
    "case",
    [
        "model",
        "version",
        "label",
        "signature",
        "no spec",
        "input",
        "inputs",
        "no input",
        "type",
        "filter",
        "empty",
        "metadata",
    ],
)
def test_grpc_refusals_have_tensorflow_servings_codes_and_words(stubs: Stubs, case: str) -> None:
    import grpc

    request, code, words = refusals()[case]

    with pytest.raises(grpc.RpcError) as error:
        getattr(stubs.predict, METHODS[type(request).__name__])(request)

    assert words in str(error.value.details())
    assert error.value.code().name == code


def test_the_health_service_knows_both_services(half: Asked) -> None:
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    stub = health_pb2_grpc.HealthStub(half.grpc)

    for name in ("ModelService", "PredictionService"):
        assert stub.Check(health_pb2.HealthCheckRequest(service=name)).status == health_pb2.HealthCheckResponse.SERVING
