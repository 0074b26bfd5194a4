"""Which versions are served while a directory changes."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from components.serving import warmup
from components.serving.model_config import ALL_VERSIONS, ModelConfig, VersionPolicy
from components.serving.registry import Registry
from components.serving.status import Unanswered

Publish = Callable[..., Path]


class Server:
    """A registry of one model, and what it said."""

    def __init__(self, base: Path, policy: VersionPolicy | None = None, labels: dict[str, int] | None = None) -> None:
        self.said: list[str] = []
        self.base = base
        self.registry = Registry([self.config(policy, labels)], self.said.append)

    def config(self, policy: VersionPolicy | None = None, labels: dict[str, int] | None = None) -> ModelConfig:
        return ModelConfig(name="half", base_path=self.base, policy=policy or VersionPolicy(), labels=labels or {})

    def poll(self) -> tuple[int, ...]:
        self.registry.poll()
        return self.registry.available("half")

    def states(self) -> dict[int, str]:
        return {status.version: status.state for status in self.registry.status("half")}

    def ask(self, x: float, version: int | None = None, label: str | None = None) -> float:
        servable = self.registry.acquire("half", version, label)
        try:
            signature = servable.signatures["serving_default"]
            return float(servable.run(signature, {"x": np.array([x], np.float32)})["y"][0])
        finally:
            servable.release()


@pytest.fixture
def server(tmp_path: Path) -> Server:
    return Server(tmp_path / "serving" / "half")


def test_the_largest_number_is_served_and_names_that_are_none_are_passed_over(
    server: Server, publish: Publish, half_plus_two: Path, half_plus_three: Path
) -> None:
    publish(half_plus_two, 9)
    publish(half_plus_three, 10)
    shutil.copytree(half_plus_two, server.base / "v11")
    shutil.copytree(half_plus_two, server.base / "0.12")
    (server.base / "13").touch()

    assert server.poll() == (10,)
    assert server.ask(1.0) == 3.5


def test_a_new_version_takes_over_and_the_old_one_ends(
    server: Server, publish: Publish, half_plus_two: Path, half_plus_three: Path
) -> None:
    publish(half_plus_two, 1)
    server.poll()
    publish(half_plus_three, 2)

    assert server.poll() == (2,)
    assert server.states() == {2: "AVAILABLE", 1: "END"}
    assert server.ask(1.0) == 3.5


def test_a_lower_number_never_replaces_a_larger_one(server: Server, publish: Publish, half_plus_two: Path) -> None:
    publish(half_plus_two, 5)
    server.poll()
    publish(half_plus_two, 4)

    assert server.poll() == (5,)


def test_a_request_that_holds_a_version_is_answered_by_it_after_it_was_dropped(
    server: Server, publish: Publish, half_plus_two: Path, half_plus_three: Path
) -> None:
    publish(half_plus_two, 1)
    server.poll()
    held = server.registry.acquire("half")
    publish(half_plus_three, 2)
    server.poll()

    answer = held.run(held.signatures["serving_default"], {"x": np.array([1.0], np.float32)})
    held.release()

    assert answer["y"].tolist() == [2.5]
    assert held.closed


@pytest.mark.parametrize("damage", ["cut", "no variables", "cut variables", "empty", "no tag", "another format"])
def test_a_version_that_cannot_be_loaded_ends_with_its_error_and_the_old_one_serves(
    server: Server, publish: Publish, half_plus_two: Path, damage: str
) -> None:
    publish(half_plus_two, 1)
    server.poll()
    broken = publish(half_plus_two, 2)
    break_model(broken, damage)

    assert server.poll() == (1,)
    assert server.states() == {2: "END", 1: "AVAILABLE"}
    (status,) = server.registry.status("half", 2)
    assert str(broken) in status.error
    assert status.code == "UNKNOWN"
    assert server.ask(1.0) == 2.5


def test_a_version_that_failed_is_not_tried_every_second_but_when_its_files_change(
    server: Server, publish: Publish, half_plus_two: Path, half_plus_three: Path
) -> None:
    publish(half_plus_two, 1)
    partial = publish(half_plus_three, 2)
    shutil.rmtree(partial / "variables")
    server.poll()
    said = len(server.said)

    assert server.poll() == (1,)
    assert len(server.said) == said

    shutil.copytree(half_plus_three / "variables", partial / "variables")

    assert server.poll() == (2,)
    assert server.ask(1.0) == 3.5


def test_at_the_start_the_newest_version_that_loads_is_served(
    server: Server, publish: Publish, half_plus_two: Path
) -> None:
    publish(half_plus_two, 1)
    break_model(publish(half_plus_two, 2), "cut")

    assert server.poll() == (1,)


def test_a_directory_that_vanishes_takes_nothing_away(server: Server, publish: Publish, half_plus_two: Path) -> None:
    publish(half_plus_two, 1)
    server.poll()
    shutil.rmtree(server.base)

    assert server.poll() == server.poll() == (1,)
    assert server.ask(1.0) == 2.5
    assert len([line for line in server.said if "what is served stays" in line]) == 1


def test_a_directory_that_comes_back_is_looked_at_again(
    tmp_path: Path, server: Server, publish: Publish, half_plus_two: Path, half_plus_three: Path
) -> None:
    publish(half_plus_two, 1)
    server.poll()
    server.base.rename(tmp_path / "away")
    server.poll()
    server.base.touch()
    assert server.poll() == (1,)

    server.base.unlink()
    (tmp_path / "away").rename(server.base)
    publish(half_plus_three, 2)

    assert server.poll() == (2,)
    assert server.ask(1.0) == 3.5


def test_a_directory_that_is_emptied_takes_nothing_away(server: Server, publish: Publish, half_plus_two: Path) -> None:
    version = publish(half_plus_two, 1)
    server.poll()
    shutil.rmtree(version)

    assert server.poll() == (1,)
    assert server.ask(1.0) == 2.5


def test_a_served_version_that_is_removed_gives_way_to_the_one_that_is_left(
    server: Server, publish: Publish, half_plus_two: Path, half_plus_three: Path
) -> None:
    publish(half_plus_two, 1)
    publish(half_plus_three, 2)
    server.poll()
    shutil.rmtree(server.base / "2")

    assert server.poll() == (1,)
    assert server.ask(1.0) == 2.5


@pytest.mark.parametrize(
    ("policy", "served"),
    [
        (VersionPolicy(latest=2), (3, 2)),
        (ALL_VERSIONS, (3, 2, 1)),
        (VersionPolicy(specific=(1, 3, 7)), (3, 1)),
    ],
)
def test_the_policy_says_which_versions_are_served(
    tmp_path: Path, publish: Publish, half_plus_two: Path, policy: VersionPolicy, served: tuple[int, ...]
) -> None:
    for version in (1, 2, 3):
        publish(half_plus_two, version)

    assert Server(tmp_path / "serving" / "half", policy).poll() == served


def test_a_client_names_the_version_it_wants(
    tmp_path: Path, publish: Publish, half_plus_two: Path, half_plus_three: Path
) -> None:
    publish(half_plus_two, 1)
    publish(half_plus_three, 2)
    server = Server(tmp_path / "serving" / "half", ALL_VERSIONS)
    server.poll()

    assert (server.ask(1.0, version=1), server.ask(1.0, version=2)) == (2.5, 3.5)
    with pytest.raises(Unanswered, match=r"^Servable not found for request: Specific\(half, 3\)$"):
        server.ask(1.0, version=3)
    with pytest.raises(Unanswered, match=r"^Servable not found for request: Latest\(other\)$"):
        server.registry.acquire("other")


def test_a_label_moves_when_its_new_version_can_be_asked_and_not_before(
    tmp_path: Path, publish: Publish, half_plus_two: Path, half_plus_three: Path
) -> None:
    publish(half_plus_two, 1)
    server = Server(tmp_path / "serving" / "half", ALL_VERSIONS, {"stable": 1})
    server.poll()
    with pytest.raises(Unanswered, match="^Unrecognized servable version label: canary$"):
        server.ask(1.0, label="canary")

    server.registry.configure([server.config(VersionPolicy(specific=(2,)), {"stable": 2})])
    server.poll()
    assert server.ask(1.0, label="stable") == 2.5

    publish(half_plus_three, 2)
    server.poll()
    assert server.ask(1.0, label="stable") == 3.5
    assert server.registry.available("half") == (2,)


def test_a_new_configuration_replaces_the_old_one_whole(
    tmp_path: Path, publish: Publish, half_plus_two: Path, half_plus_three: Path
) -> None:
    publish(half_plus_two, 1)
    publish(half_plus_three, 1, "other")
    server = Server(tmp_path / "serving" / "half")
    server.poll()

    server.registry.configure([ModelConfig(name="other", base_path=tmp_path / "serving" / "other")])
    server.poll()

    assert server.registry.names == ("other",)
    with pytest.raises(Unanswered, match="Could not find any versions of model half"):
        server.registry.status("half")


def test_another_directory_for_a_model_replaces_it_only_with_something_to_serve(
    tmp_path: Path, server: Server, publish: Publish, half_plus_two: Path, half_plus_three: Path
) -> None:
    publish(half_plus_two, 7)
    server.poll()
    moved = ModelConfig(name="half", base_path=tmp_path / "serving" / "moved")
    server.registry.configure([moved])

    server.poll()
    server.poll()
    assert server.ask(1.0) == 2.5
    assert len([line for line in server.said if "moved" in line]) == 1

    publish(half_plus_three, 1, "moved")
    server.poll()
    assert server.registry.available("half") == (1,)
    assert server.ask(1.0) == 3.5


def test_warm_up_requests_are_replayed_before_a_version_is_available(
    server: Server, publish: Publish, half_plus_two: Path
) -> None:
    write_warm_up(publish(half_plus_two, 1), predict_log(x=[1.0]), classify_log(x=1.0), regress_log(x=1.0))

    server.poll()

    assert server.said == ["half version 1: available, 3 warm-up requests answered"]


WRONG_WARM_UP = {
    "input": "warm-up request 2 is not answered (input size does not match signature",
    "signature": 'warm-up request 2 is not answered (Serving signature key "nothing" not found.)',
    "record": "warm-up request 2 is not answered (Error parsing message",
    "example": "warm-up request 2 is not answered (Name: <unknown>, Feature: x",
    "too many": "has more than 1000 records",
    "no records": "the file ends inside the record's header",
}


@pytest.mark.parametrize("wrong", WRONG_WARM_UP)
def test_a_version_whose_warm_up_fails_is_not_served(
    server: Server, publish: Publish, half_plus_two: Path, wrong: str
) -> None:
    publish(half_plus_two, 1)
    server.poll()
    good = predict_log(x=[1.0])
    bad = {
        "input": [predict_log(z=[1.0])],
        "signature": [predict_log("nothing", x=[1.0])],
        "record": [b"not a message"],
        "example": [regress_log()],
        "too many": [good] * warmup.MOST_RECORDS,
        "no records": [],
    }[wrong]
    version = publish(half_plus_two, 2)
    write_warm_up(version, good, *bad)
    if not bad:
        (version / warmup.FILE).write_bytes(b"garbage")

    assert server.poll() == (1,)
    (status,) = server.registry.status("half", 2)
    assert status.state == "END"
    assert status.error.count(warmup.FILE) == 1
    assert WRONG_WARM_UP[wrong] in status.error


def break_model(path: Path, damage: str) -> None:
    """Damage a version directory in one of the ways that copies and disks do."""
    file = path / "saved_model.pb"
    if damage == "cut":
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    elif damage == "no variables":
        shutil.rmtree(path / "variables")
    elif damage == "cut variables":
        (data,) = (path / "variables").glob("*.data-*")
        data.write_bytes(b"")
    elif damage == "empty":
        shutil.rmtree(path)
        path.mkdir()
    elif damage == "no tag":
        from tensorflow.core.protobuf import saved_model_pb2

        model = saved_model_pb2.SavedModel.FromString(file.read_bytes())
        model.meta_graphs[0].meta_info_def.tags[:] = ["train"]
        file.write_bytes(model.SerializeToString())
    else:
        shutil.rmtree(path)
        path.mkdir()
        (path / "model.onnx").write_bytes(b"another format")


def write_warm_up(version: Path, *records: bytes) -> None:
    from components.io import tfrecord

    file = version / warmup.FILE
    file.parent.mkdir(exist_ok=True)
    tfrecord.write(file, records)


def predict_log(signature: str = "", **inputs: list[float]) -> bytes:
    import tensorflow as tf
    from tensorflow_serving.apis import prediction_log_pb2

    log = prediction_log_pb2.PredictionLog()
    request = log.predict_log.request
    request.model_spec.name = "whatever"
    request.model_spec.signature_name = signature
    for name, values in inputs.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(values, tf.float32))
    return bytes(log.SerializeToString())


def classify_log(**features: float) -> bytes:
    return _examples_log("classify_log", "classify", **features)


def regress_log(**features: float) -> bytes:
    return _examples_log("regress_log", "regress", **features)


def _examples_log(kind: str, signature: str, **features: float) -> bytes:
    from tensorflow_serving.apis import prediction_log_pb2

    log = prediction_log_pb2.PredictionLog()
    request = getattr(log, kind).request
    request.model_spec.signature_name = signature
    example = request.input.example_list.examples.add()
    for name, value in features.items():
        example.features.feature[name].float_list.value.append(value)
    return bytes(log.SerializeToString())
