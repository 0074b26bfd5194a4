"""A small servable model and the pieces a push needs."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from components.io import tfrecord
from schemas.artifacts import Blessing, Examples, Model, PushedModel, Statistics
from schemas.component import Lineage, Scratch


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    traced = [item for item in items if item.get_closest_marker("strace")]
    if traced and not _can_trace():
        for item in traced:
            item.add_marker(pytest.mark.skip(reason=f"{item.name}: strace is not installed, or may not trace here"))


def _can_trace() -> bool:
    strace = shutil.which("strace")
    return strace is not None and subprocess.run([strace, "-o", "/dev/null", "true"], check=False).returncode == 0


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A SavedModel that doubles a number, with a vocabulary as its asset."""
    import tensorflow as tf

    directory = tmp_path_factory.mktemp("model")
    vocabulary = directory / "vocabulary.txt"
    vocabulary.write_text("cash\ncard\n")
    module = tf.Module()
    module.weight = tf.Variable([[2.0]])
    module.vocabulary = tf.saved_model.Asset(str(vocabulary))

    @tf.function(input_signature=[tf.TensorSpec([None, 1], tf.float32, name="x")])
    def serve(x: Any) -> dict[str, Any]:
        return {"outputs": tf.matmul(x, module.weight)}

    made = Model(directory / "artifact")
    tf.saved_model.save(module, str(made.serving), signatures={"serving_default": serve})
    return made


@pytest.fixture(scope="session")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A SavedModel with the signatures of a Trainer's: serialized tf.Examples, and columns of each kind."""
    import tensorflow as tf

    module = tf.Module()
    text = tf.io.RaggedFeature(tf.string)
    features = {
        "fare": tf.io.FixedLenFeature([], tf.float32),
        "hour": tf.io.FixedLenFeature([], tf.int64, -1),
        "company": text,
    }

    def answer(fare: Any, hour: Any, companies: Any) -> dict[str, Any]:
        return {"outputs": fare + tf.cast(hour, tf.float32) + tf.cast(companies, tf.float32)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="examples")])
    def serve(examples: Any) -> dict[str, Any]:
        parsed = tf.io.parse_example(examples, features)
        return answer(parsed["fare"], parsed["hour"], parsed["company"].row_lengths())

    @tf.function(
        input_signature=[
            tf.TensorSpec([None], tf.float32, name="fare"),
            tf.TensorSpec([None], tf.int64, name="hour"),
            tf.TensorSpec([None, None], tf.string, name="company"),
        ]
    )
    def serve_columns(fare: Any, hour: Any, company: Any) -> dict[str, Any]:
        return answer(
            fare,
            tf.where(hour == tf.int64.min, -tf.ones_like(hour), hour),
            tf.reduce_sum(tf.cast(company != b"", tf.int64), 1),
        )

    made = Model(tmp_path_factory.mktemp("asked"))
    signatures = {"serving_default": serve, "serving_columns": serve_columns}
    tf.saved_model.save(module, str(made.serving), signatures=signatures)
    return made


@pytest.fixture(scope="session")
def example() -> Callable[..., bytes]:
    """`example(fare=[1.5], hour=[3])`: a serialized tf.Example."""
    import tensorflow as tf

    kinds = {bytes: "bytes_list", int: "int64_list", float: "float_list"}

    def make(**row: list[Any]) -> bytes:
        made = tf.train.Example()
        for name, values in row.items():
            getattr(made.features.feature[name], kinds[type(values[0])]).value.extend(values)
        serialized: bytes = made.SerializeToString(deterministic=True)
        return serialized

    return make


@pytest.fixture(scope="session")
def raw(tmp_path_factory: pytest.TempPathFactory, example: Callable[..., bytes]) -> Examples:
    """Three raw examples in `train` and three in `eval`, the second of which lacks an hour and a company."""
    records = [
        example(fare=[1.5], hour=[3], company=[b"Acme", b"Blue"]),
        example(fare=[2.5]),
        example(fare=[3.5], hour=[4]),
    ]
    examples = Examples(tmp_path_factory.mktemp("raw"))
    for split, ordered in (("train", records[::-1]), ("eval", records)):
        examples.split_path(split).mkdir()
        tfrecord.write(examples.split_path(split) / "data_tfrecord-00000-of-00001.gz", ordered)
    return examples


@pytest.fixture
def statistics(tmp_path: Path) -> Statistics:
    """Statistics of two splits of three and two fares."""
    import pandas
    import tensorflow_data_validation as tfdv

    found = Statistics(tmp_path / "statistics")
    for split, fares in {"train": [3.0, 4.5, 7.25], "eval": [5.0, 6.0]}.items():
        found.split_path(split).mkdir(parents=True)
        of_split = tfdv.generate_statistics_from_dataframe(pandas.DataFrame({"fare": fares}))
        found.file(split).write_bytes(of_split.SerializeToString(deterministic=True))
    return found


@pytest.fixture
def push(tmp_path: Path, model: Model) -> Callable[..., PushedModel]:
    """Run a Pusher as the framework does: a new output and a new scratch directory each time."""

    def run(pusher: Any, **given: Any) -> PushedModel:
        count = len(list(tmp_path.glob("pushed-*")))
        pushed = PushedModel(tmp_path / f"pushed-{count}")
        pushed.path.mkdir()
        arguments: dict[str, Any] = {
            "model": model,
            "blessing": given.pop("blessing", None) or verdict(tmp_path / f"blessing-{count}"),
            "lineage": Lineage(inputs={"model": {"digest": "sha256:candidate"}}),
            "scratch": Scratch(tmp_path / f"scratch-{count}"),
            **given,
        }
        pusher.run(**arguments, pushed_model=pushed)
        return pushed

    return run


def verdict(path: Path, *reasons: str) -> Blessing:
    """A blessing, withheld where there are reasons."""
    blessing = Blessing(path)
    blessing.write(reasons)
    return blessing
