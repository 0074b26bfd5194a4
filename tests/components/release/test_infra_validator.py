"""InfraValidator: what a server says of a model is compared, timed, and made a verdict."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from components.io import saved_model, tfrecord
from components.io.keras import load_keras, save_keras
from components.release import own_answers, warmup
from components.release.infra_validator import InfraValidator, missing_signatures, version_directory
from pipeline.fingerprint import code_closure
from schemas.artifacts import Examples, InfraBlessing, Model, TransformGraph
from schemas.component import Progress, Scratch
from schemas.errors import ConfigError, DataError


def validate(directory: Path, validator: InfraValidator, model: Model, *given: Any) -> InfraBlessing:
    """Run it as the framework does."""
    blessing = InfraBlessing(directory / "blessing")
    blessing.path.mkdir()
    scratch = Scratch(directory / "scratch")
    validator.run(model, *given, scratch=scratch, progress=Progress(), infra_blessing=blessing)
    return blessing


@pytest.fixture(scope="module")
def validated(
    tmp_path_factory: pytest.TempPathFactory, xf_model: Model, xf_examples: Examples, xf_graph: TransformGraph
) -> InfraBlessing:
    """The verdict on a trained taxi model."""
    validator = InfraValidator(rows=50, requests=20, warmup_requests=3)
    return validate(tmp_path_factory.mktemp("validated"), validator, xf_model, xf_examples, xf_graph)


@pytest.mark.slow
def test_a_model_that_is_served_as_it_was_trained_is_blessed(validated: InfraBlessing) -> None:
    assert validated.blessed
    found = validated.properties["parity"]
    assert found["compared_with"] == "the trained Keras model's in process"
    assert set(found["signatures"]) == {"serving_default", "serving_columns"}
    for compared in found["signatures"].values():
        assert (compared["rows"], compared["differ"]) == (50, 0)
        assert compared["largest_difference"] < 1e-5


@pytest.mark.slow
def test_what_is_measured_is_in_the_properties_and_not_in_the_files(validated: InfraBlessing) -> None:
    timed = validated.properties["latency"]

    assert 0 < timed["p50_ms"] <= timed["p99_ms"]
    assert timed["requests"] == 20
    assert (validated.path / "INFRA_BLESSED").read_text() == "[]\n"
    assert sorted(child.name for child in validated.path.iterdir()) == ["INFRA_BLESSED", "assets.extra"]


@pytest.mark.slow
def test_the_requests_that_the_server_replayed_are_those_that_pusher_would_make(
    tmp_path: Path, validated: InfraBlessing, xf_model: Model, xf_examples: Examples
) -> None:
    warmup.write(saved_model.load(xf_model.serving), "model", xf_examples, 3, tmp_path / "requests")

    assert validated.properties["warmup_requests"] == 6
    assert validated.requests is not None
    assert validated.requests.read_bytes() == (tmp_path / "requests").read_bytes()


@pytest.mark.slow
def test_all_that_is_against_a_model_is_said_at_once_with_figures(
    tmp_path: Path, xf_model: Model, xf_examples: Examples, xf_graph: TransformGraph
) -> None:
    other = Model(tmp_path / "model")
    other.path.mkdir()
    other.serving.symlink_to(xf_model.serving)
    network = load_keras(xf_model)
    network.set_weights([weight + 0.5 for weight in network.get_weights()])
    save_keras(network, other)
    validator = InfraValidator(
        signatures=("serving_default", "classify"), latency={"p50_ms": 0.001}, rows=5, requests=4, warmup_requests=1
    )

    blessing = validate(tmp_path, validator, other, xf_examples, xf_graph)

    assert not blessing.blessed
    assert blessing.servable
    missing, default, columns, slow = blessing.reasons
    assert missing.startswith("signature 'classify' is missing; the model has serving_columns, serving_default, ")
    for reason, name in ((default, "serving_default"), (columns, "serving_columns")):
        assert reason.startswith(
            f"parity of {name}: 5 of 5 rows of split 'eval' differ from the trained Keras model's in process by more than "
            f"absolute 1e-05 + relative 0.0001, most of all row "
        )
        assert " served, " in reason
    assert slow.startswith("latency p50 ")
    assert " ms of 4 one-row requests of serving_default is above 0.001 ms. " in slow


def test_a_model_without_a_trained_form_is_compared_with_its_savedmodel_also_through_links(
    tmp_path: Path, asked: Model, raw: Examples
) -> None:
    (tmp_path / "store").symlink_to(asked.path)

    blessing = validate(tmp_path, InfraValidator(requests=0), Model(tmp_path / "store"), raw)

    assert blessing.blessed
    found = blessing.properties["parity"]
    assert found["compared_with"] == "the SavedModel in process, since no transform graph is wired"
    assert {name: compared["rows"] for name, compared in found["signatures"].items()} == {
        "serving_default": 3,
        "serving_columns": 3,
    }
    assert "latency" not in blessing.properties


def test_rows_that_the_model_does_not_take_are_neither_compared_nor_timed(
    tmp_path: Path, asked: Model, example: Callable[..., bytes]
) -> None:
    examples = Examples(tmp_path / "examples")
    examples.split_path("eval").mkdir(parents=True)
    rows = [example(other=[1.0]), example(fare=[1.5])]
    tfrecord.write(examples.split_path("eval") / "data_tfrecord-00000-of-00001.gz", rows)

    blessing = validate(tmp_path, InfraValidator(requests=3), asked, examples)

    assert blessing.reasons == ()
    found = blessing.properties["parity"]["signatures"]
    assert (found["serving_default"]["rows"], found["serving_columns"]["rows"]) == (1, 2)
    assert blessing.properties["latency"]["requests"] == 3


def test_a_model_that_takes_no_examples_is_only_loaded_and_its_bounds_cannot_be_judged(
    tmp_path: Path, model: Model, raw: Examples
) -> None:
    blessing = validate(tmp_path, InfraValidator(latency={"p99_ms": 10}), model, raw)

    why = "serving_default does not take serialized tf.Examples, and there are no serving_columns of one row"
    assert blessing.properties["asked"] == f"nothing: {why}"
    assert blessing.reasons == (f"latency cannot be judged: {why}. Export such a signature, or leave latency out",)


def test_a_server_that_does_not_load_the_model_is_quoted(tmp_path: Path, asked: Model, raw: Examples) -> None:
    brought = Model(tmp_path / "model")
    shutil.copytree(asked.path, brought.path)
    (brought.serving / warmup.FILE).parent.mkdir()
    tfrecord.write(brought.serving / warmup.FILE, [b"\x0a"])

    blessing = validate(tmp_path, InfraValidator(), brought, raw)

    assert not blessing.blessed
    assert not blessing.servable
    (reason,) = blessing.reasons
    assert reason.startswith("it cannot be served: the model server ended with exit code 1. Its last words: ")
    assert "warm-up request 1 is not answered" in reason


def test_requests_that_cannot_be_read_keep_a_model_from_being_served(tmp_path: Path, asked: Model) -> None:
    brought = Model(tmp_path / "model")
    shutil.copytree(asked.path, brought.path)
    (brought.serving / warmup.FILE).parent.mkdir()
    (brought.serving / warmup.FILE).write_bytes(b"cut short")

    blessing = validate(tmp_path, InfraValidator(), brought)

    assert not blessing.servable
    assert "tf_serving_warmup_requests" in blessing.reasons[0]


def test_a_server_that_takes_too_long_is_given_up(tmp_path: Path, asked: Model) -> None:
    blessing = validate(tmp_path, InfraValidator(load_timeout_s=0.001), asked)

    (reason,) = blessing.reasons
    assert "has not loaded it after 0.001 s (load_timeout_s)" in reason


def test_custom_operations_are_named_wherever_they_are(tmp_path: Path, asked: Model) -> None:
    from tensorflow.core.protobuf import saved_model_pb2

    custom = Model(tmp_path / "model")
    shutil.copytree(asked.path, custom.path)
    file = custom.serving / "saved_model.pb"
    graph = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    for function in graph.meta_graphs[0].graph_def.library.function:
        for node in function.node_def:
            node.op = {"AddV2": "AddUp", "Cast": "CastIron"}.get(node.op, node.op)
    file.write_bytes(graph.SerializeToString())

    blessing = validate(tmp_path, InfraValidator(), custom)

    assert not blessing.servable
    assert blessing.reasons[0].startswith(
        "it cannot be served: the graph has operations that TensorFlow does not: AddUp, CastIron. "
    )


def test_what_is_no_savedmodel_gets_a_verdict_too(tmp_path: Path) -> None:
    blessing = validate(tmp_path, InfraValidator(), Model(tmp_path / "nothing"))

    assert not blessing.servable
    assert "has no saved_model.pb" in blessing.reasons[0]


def test_bounds_need_examples_to_be_judged_with(tmp_path: Path, asked: Model) -> None:
    with pytest.raises(ConfigError) as caught:
        validate(tmp_path, InfraValidator(latency={"p50_ms": 5}, parity={"absolute": 0.1}), asked)

    assert [problem.partition(":")[0] for problem in caught.value.problems] == ["latency", "parity"]


def test_a_split_without_examples_is_named(tmp_path: Path, asked: Model) -> None:
    examples = Examples(tmp_path / "examples")
    examples.split_path("train").mkdir(parents=True)
    tfrecord.write(examples.split_path("train") / "data_tfrecord-00000-of-00001.gz", [])

    with pytest.raises(DataError, match="split 'train' has no examples"):
        validate(tmp_path, InfraValidator(), asked, examples)


def test_wrong_settings_are_all_reported() -> None:
    with pytest.raises(ConfigError) as caught:
        InfraValidator(
            server=" ",
            signatures=("",),
            latency={"p95_ms": 1, "p50_ms": 0},
            parity={"absolut": 1, "relative": -1},
            rows=0,
            requests=-1,
            warmup_requests=501,
            load_timeout_s=0,
            request_timeout_s=-1,
        )

    assert [problem.partition(": ")[0] for problem in caught.value.problems] == [
        "server",
        "signatures.0",
        "latency.p95_ms",
        "latency.p50_ms",
        "parity.absolut",
        "parity.relative",
        "requests",
        "warmup_requests",
        "parity",
        "load_timeout_s",
        "request_timeout_s",
    ]
    assert "Did you mean 'absolute'?" in caught.value.problems[4]


def files(directory: Path) -> dict[str, bytes]:
    """Every file of a directory as a server finds it, links followed."""
    found = {}
    for child in directory.iterdir():
        below = files(child) if child.is_dir() else {"": child.read_bytes()}
        found.update({f"{child.name}/{name}".rstrip("/"): content for name, content in below.items()})
    return found


@pytest.mark.parametrize("brings", [False, True])
def test_the_server_loads_the_models_own_files_and_nothing_is_copied_but_the_requests(
    tmp_path: Path, asked: Model, brings: bool
) -> None:
    model = Model(tmp_path / "model")
    shutil.copytree(asked.path, model.path)
    if brings:
        (model.serving / "assets.extra").mkdir()
        (model.serving / "assets.extra" / "card.md").write_text("by us")
    (tmp_path / "requests").write_bytes(b"requests")

    version = version_directory(tmp_path / "serving", model.serving, tmp_path / "requests")

    assert version == tmp_path / "serving" / "1"
    assert files(version) == {**files(model.serving), warmup.FILE: b"requests"}
    own = [file for file in version.rglob("*") if file.is_file() and not file.is_symlink()]
    assert own == [version / warmup.FILE]


def test_what_an_earlier_attempt_left_is_replaced_and_the_model_stays(tmp_path: Path, asked: Model) -> None:
    before = files(asked.serving)
    version_directory(tmp_path / "serving", asked.serving, None)
    (tmp_path / "serving" / "1" / "more").touch()

    version = version_directory(tmp_path / "serving", asked.serving, None)

    assert files(version) == before == files(asked.serving)


def test_a_signature_that_nobody_can_ask_is_against_the_model() -> None:
    there = {"empty": saved_model.Signature((), ("y",)), "whole": saved_model.Signature(("x",), ("y",))}

    (reason,) = missing_signatures(("whole", "empty"), there)

    assert reason.startswith("signature 'empty' has no inputs. ")


def test_a_transform_graph_that_is_not_the_trainers_is_named(
    tmp_path: Path, xf_model: Model, xf_examples: Examples, xf_graph: TransformGraph
) -> None:
    import tf_keras

    other = Model(tmp_path / "model")
    other.path.mkdir()
    other.serving.symlink_to(xf_model.serving)
    inputs = tf_keras.Input((1,), name="of_another_graph")
    save_keras(tf_keras.Model({"of_another_graph": inputs}, tf_keras.layers.Dense(1)(inputs)), other)

    with pytest.raises(ConfigError, match=r"^transform_graph: is not the one .*'of_another_graph'"):
        own_answers.of_trained(other, xf_graph, [])


def test_a_trained_form_that_only_the_users_module_can_load_is_none(tmp_path: Path, xf_graph: TransformGraph) -> None:
    import tf_keras

    class Own(tf_keras.layers.Dense):
        """A layer that is in no module."""

    save_keras(tf_keras.Sequential([tf_keras.Input((1,)), Own(1)]), Model(tmp_path))

    with pytest.raises(own_answers.NotTrained, match="its Format-Keras does not load"):
        own_answers.of_trained(Model(tmp_path), xf_graph, [])


def test_the_code_of_the_server_counts_for_the_key() -> None:
    found = code_closure(["components.release.infra_validator.InfraValidator"]).modules

    assert {"components.serving.server", "components.serving.rest", "components.serving.warmup"} <= set(found)
