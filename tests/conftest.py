"""What every test needs: the environment the steps run in, and the data that is installed with tfx."""

from __future__ import annotations

import os

# Read once, when TensorFlow is first imported: tf.keras is tf_keras.
os.environ["TF_USE_LEGACY_KERAS"] = "1"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import gc
import importlib.util
import itertools
import logging
import signal
import sys
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from components.io.keras import arrange
from pipeline import temporary_files
from pipeline.contract import read_contract
from schemas.location import ObjectUrl

# Tests are in no package: what answers as Kubeflow Pipelines' API does is imported by this path.
sys.path.append(str(Path(__file__).parent / "kfp_api"))

# Tests stop processes of theirs by these, and a shell that runs the tests in the background has some ignored, for all below it.
signal.signal(signal.SIGINT, signal.default_int_handler)
for number in (signal.SIGQUIT, signal.SIGHUP):
    signal.signal(number, signal.SIG_DFL)

# How long an example takes depends on what else the machine does: no property fails by the clock.
hypothesis.settings.register_profile("untimed", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("untimed")

# TensorFlow and Beam are a million objects: to look through them at every 700 new ones takes a tenth of the tests' time.
gc.set_threshold(50_000, 20, 100)

os.environ.pop("PENSTOCK_LEDGER", None)  # where the ledger is: each test says that itself

# As every step's process does: whoever imports KerasTuner later (tfx among others) gets one that works with tf_keras.
arrange()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long modules first, where workers share them out: one that begins last is what the whole run then waits for.

    Long is a module with most tests marked slow, then one with most tests. Its tests stay together, and in their order.
    """
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return
    modules: dict[Path, list[pytest.Item]] = {}
    for item in items:
        modules.setdefault(item.path, []).append(item)

    def length(tests: list[pytest.Item]) -> tuple[int, int]:
        return sum(test.get_closest_marker("slow") is not None for test in tests), len(tests)

    items[:] = itertools.chain.from_iterable(sorted(modules.values(), key=length, reverse=True))


@pytest.fixture(scope="session", autouse=True)
def _temporary_files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What TFX, Beam and TensorFlow leave that run in the tests' own process goes with the session.

    Not below pytest's directories, in which a socket's path would be too long, and nor do those, which stay for a look, lie in this one.
    """
    tmp_path_factory.getbasetemp()
    temporary_files.remove_dead()
    with temporary_files.own_directory() as place:
        place.chmod(0o711)  # tests that become another user pass through it
        yield


def installed_data(path: str) -> Path:
    """A file of an installed package, found without importing it: 'tfx/components/testdata'."""
    package, _, rest = path.partition("/")
    spec = importlib.util.find_spec(package)
    assert spec is not None
    assert spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0]) / rest


@pytest.fixture(scope="session")
def taxi_csv() -> Path:
    """15,002 real taxi trips, 18 columns, with a header."""
    return installed_data("tfx/examples/chicago_taxi_pipeline/data/simple/data.csv")


@pytest.fixture(scope="session")
def small_taxi_csv(taxi_csv: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first 300 trips."""
    file = tmp_path_factory.mktemp("taxi") / "trips.csv"
    with taxi_csv.open(encoding="utf-8") as lines:
        file.write_text("".join(line for line, _ in zip(lines, range(301), strict=False)), encoding="utf-8")
    return file


@pytest.fixture(scope="session")
def outputs_of() -> Callable[[type[Any], Path], dict[str, Any]]:
    """(component, directory) -> its outputs by name, each an empty directory below that one."""

    def make(component: type[Any], directory: Path) -> dict[str, Any]:
        outputs = {name: kind(directory / name) for name, kind in read_contract(component).outputs.items()}
        for output in outputs.values():
            output.path.mkdir(parents=True)
        return outputs

    return make


TEN_DIGITS = 1e-10  # means and deviations depend, in their last digits, on how TFX happens to batch the rows


@pytest.fixture(scope="session")
def assert_equal_statistics() -> Callable[..., None]:
    """(a FeatureStats.pb of ours, one of theirs, tolerances of floats) -> nothing, when every field is equal."""
    from tensorflow_metadata.proto.v0 import statistics_pb2

    def fields(message: Any, path: str = "") -> Iterator[tuple[str, Any]]:
        """Every scalar of a message with its path; features by name, so that their order does not matter."""
        for field, value in message.ListFields():
            for index, item in enumerate(value) if field.label == field.LABEL_REPEATED else [("", value)]:
                at = f"{path}.{field.name}[{item.path.step[0] if field.name == 'features' else index}]"
                if field.type == field.TYPE_MESSAGE:
                    yield from fields(item, at)
                else:
                    yield at, item

    def read(file: Path) -> dict[str, Any]:
        (found,) = statistics_pb2.DatasetFeatureStatisticsList.FromString(file.read_bytes()).datasets
        return dict(fields(found))

    def assert_equal(ours: Path, theirs: Path, relative: float = TEN_DIGITS, absolute: float = 0) -> None:
        found, expected = read(ours), read(theirs)
        assert found.keys() == expected.keys()
        for at, value in expected.items():
            close = pytest.approx(value, rel=relative, abs=absolute, nan_ok=True) if isinstance(value, float) else value
            assert found[at] == close, at

    return assert_equal


@dataclass(frozen=True)
class Bucket:
    """A bucket of an S3-compatible server on this machine, and boto3's client, which is none of ours."""

    name: str
    endpoint: str
    client: Any

    @property
    def taxi(self) -> ObjectUrl:
        """An address in it."""
        return ObjectUrl("s3", f"{self.name}/models/taxi")

    def names(self, url: ObjectUrl) -> list[str]:
        """The objects below an address, by the rest of their names."""
        prefix = url.path.removeprefix(f"{self.name}/") + "/"
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=prefix)
        return sorted(found["Key"].removeprefix(prefix) for page in pages for found in page.get("Contents", ()))

    def read(self, url: ObjectUrl) -> bytes:
        """The content of an object."""
        key = url.path.removeprefix(f"{self.name}/")
        content: bytes = self.client.get_object(Bucket=self.name, Key=key)["Body"].read()
        return content

    def write(self, url: ObjectUrl, content: bytes) -> None:
        """Write an object."""
        self.client.put_object(Bucket=self.name, Key=url.path.removeprefix(f"{self.name}/"), Body=content)

    def remove(self, url: ObjectUrl) -> None:
        """Remove an object."""
        self.client.delete_object(Bucket=self.name, Key=url.path.removeprefix(f"{self.name}/"))


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Any]:
    """A PostgreSQL server: tests/postgresql_server.py's Server."""
    sys.path.append(str(Path(__file__).parent))
    from postgresql_server import running

    with running() as server:
        yield server


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """Where an S3-compatible server answers."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    """An empty bucket, which the environment leads to."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    given = {
        "AWS_ENDPOINT_URL": s3_endpoint,
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",  # no role of this machine's
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_CONFIG_FILE": os.devnull,
    }
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    import boto3
    from s3fs import S3FileSystem

    S3FileSystem.clear_instance_cache()  # those that another test's environment led elsewhere

    made = Bucket(f"test-{uuid.uuid4().hex}", s3_endpoint, boto3.client("s3"))
    made.client.create_bucket(Bucket=made.name)
    return made


@pytest.fixture
def kfp_api(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    """Kubeflow Pipelines' API: a KfpApi (tests/kfp_api/kfp_server), which the environment leads to."""
    from kfp.client import Client
    from kfp_server import KfpApi, serving

    for name in [name for name in os.environ if name.startswith(("KFP_", "KF_PIPELINES_"))]:
        monkeypatch.delenv(name)
    # kfp.Client's own settings, which it looks for in the home directory when it is imported.
    monkeypatch.setattr(Client, "_LOCAL_KFP_CONTEXT", str(tmp_path / "kfp/context.json"))
    with serving(KfpApi()) as api:
        monkeypatch.setenv("KFP_ENDPOINT", api.url)
        yield api


@pytest.fixture
def toy_package(tmp_path: Path) -> Path:
    """A small compiled package: read, fit_model, judge, push if judge has blessed, and at last `ended`."""
    file = tmp_path / "toy.yaml"
    file.write_text((Path(__file__).parent / "kfp_api/toy.yaml").read_text())
    return file
