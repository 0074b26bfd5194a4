"""TFX's InfraValidator: a real model server is asked; who is refused, with what reason, and when the model is not to blame.

Docker's engine is a stand-in, which starts our own model server where Docker would start TensorFlow Serving's image.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from components.release import model_server
from pipeline.contract import build_component, read_contract
from schemas.artifacts import Examples, InfraBlessing, Model, PushedModel
from schemas.component import BeamOptions, Lineage, Scratch
from schemas.dotted_path import resolve
from schemas.errors import ConfigError, StepFailed


class Engine:
    """As much of Docker's API as TFX asks for: one container at a time, which is our model server on the mounted version."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.images = {"tensorflow/serving:2.16.1"}
        self.started: list[dict[str, Any]] = []
        self._open = contextlib.ExitStack()
        self._port = ""

    def create(self, asked: dict[str, Any]) -> int:
        if asked["Image"] not in self.images:
            return 404
        self.started.append(asked)
        return 201

    def start(self) -> None:
        asked = self.started[-1]
        (mount,) = asked["HostConfig"]["Mounts"]
        _, name, version = mount["Target"].strip("/").split("/")
        base = self.directory / f"container-{len(self.started)}" / name
        base.mkdir(parents=True)
        (base / version).symlink_to(mount["Source"])
        log = base.parent / "log"
        server = self._open.enter_context(model_server.started(name, base, log))
        address = None
        while address is None and server.process.poll() is None:
            time.sleep(0.05)
            address = server.address()
        self._port = address.rpartition(":")[2] if address else ""

    def state(self) -> dict[str, Any]:
        ports = {"8500/tcp": [{"HostIp": "0.0.0.0", "HostPort": self._port}]}
        return {
            "Id": "one",
            "State": {"Status": "running" if self._port else "exited"},
            "NetworkSettings": {"Ports": ports},
        }

    def stop(self) -> None:
        self._open.close()


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[tuple[Engine, str]]:
    """The stand-in, and where it answers."""
    found = Engine(tmp_path / "engine")

    class Handler(BaseHTTPRequestHandler):
        def answer(self, code: int, body: Any = None) -> None:
            content = json.dumps(body).encode() if body is not None else b""
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def do_GET(self) -> None:
            if self.path.endswith("/version"):
                self.answer(200, {"ApiVersion": "1.44"})
            elif self.path.endswith("/_ping"):
                self.answer(200, "OK")
            elif "/logs" in self.path:
                self.answer(200, "")
            else:
                self.answer(200, found.state())

        def do_POST(self) -> None:
            asked = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.path.partition("?")[0].endswith("/containers/create"):
                code = found.create(json.loads(asked))
                self.answer(code, {"Id": "one"} if code == 201 else {"message": "no such image"})
            elif "/images/create" in self.path:
                self.answer(404, {"message": "pull access denied"})
            elif self.path.partition("?")[0].endswith("/start"):
                found.start()
                self.answer(204)
            else:
                found.stop()
                self.answer(204)

        def log_message(self, *said: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield found, f"tcp://127.0.0.1:{server.server_port}"
    found.stop()
    server.shutdown()
    server.server_close()


@pytest.fixture
def validate(tmp_path: Path, outputs_of: Callable[[type, Path], dict[str, Any]]) -> Callable[..., InfraBlessing]:
    """(settings beside serving_spec, its platform, inputs) -> the blessing."""

    def validate_(platform: dict[str, Any], *, tag: str = "2.16.1", **given: Any) -> InfraBlessing:
        kind = resolve("tfx.v1.components.InfraValidator")
        place = tmp_path / f"validated-{len(list(tmp_path.iterdir()))}"
        outputs = outputs_of(kind, place / "outputs")
        asked: dict[type, Any] = {BeamOptions: BeamOptions(), Scratch: Scratch(place), Lineage: Lineage()}
        asks = {name: asked[ask] for name, ask in read_contract(kind).asks.items()}
        settings = {
            "serving_spec": {"tensorflow_serving": {"tags": [tag]}, "model_name": "taxi", **platform},
            "validation_spec": {"num_tries": 1, "max_loading_time_seconds": 60},
            **{name: given.pop(name) for name in list(given) if name.endswith("_spec")},
        }
        inputs = {"model": given["model"], "examples": given.get("examples")}
        build_component(kind, settings).run(**inputs, **outputs, **asks)
        blessing: InfraBlessing = outputs["blessing"]
        return blessing

    return validate_


def local(url: str) -> dict[str, Any]:
    return {"local_docker": {"client_base_url": url, "host_ip_address": "127.0.0.1"}}


@pytest.mark.slow
def test_a_model_that_answers_is_blessed_and_TFX_s_Pusher_pushes_it_with_the_requests_to_warm_up(
    tmp_path: Path,
    engine: tuple[Engine, str],
    validate: Callable[..., InfraBlessing],
    asked: Model,
    raw: Examples,
    outputs_of: Callable[[type, Path], dict[str, Any]],
) -> None:
    stand_in, url = engine
    requests = {"tensorflow_serving": {"signature_names": ["serving_default"]}, "num_examples": 2, "make_warmup": True}

    blessing = validate(local(url), model=asked, examples=raw, request_spec=requests)

    assert blessing.blessed
    assert [one["Image"] for one in stand_in.started] == ["tensorflow/serving:2.16.1"]
    kind = resolve("tfx.v1.components.Pusher")
    pusher = build_component(kind, {"push_destination": {"filesystem": {"base_directory": str(tmp_path / "serving")}}})
    outputs = outputs_of(kind, tmp_path / "pushed")
    (tmp_path / "scratch").mkdir()
    given: dict[type, Any] = {
        BeamOptions: BeamOptions(),
        Scratch: Scratch(tmp_path / "scratch"),
        Lineage: Lineage(),
    }
    asks = {name: given[ask] for name, ask in read_contract(kind).asks.items()}
    pusher.run(model=None, model_blessing=None, infra_blessing=blessing, **outputs, **asks)
    pushed: PushedModel = outputs["pushed_model"]
    (version,) = (path for path in (tmp_path / "serving").iterdir() if path.name.isdigit())
    assert (version / "assets.extra/tf_serving_warmup_requests").stat().st_size > 0
    assert pushed.properties["version"] == int(version.name)


@pytest.mark.slow
def test_a_model_that_the_server_cannot_load_is_refused_with_a_reason(
    tmp_path: Path, engine: tuple[Engine, str], validate: Callable[..., InfraBlessing], model: Model
) -> None:
    broken = Model(tmp_path / "broken")
    shutil.copytree(model.serving, broken.serving)
    (broken.serving / "saved_model.pb").write_bytes(b"\x00broken")

    blessing = validate(local(engine[1]), model=broken)

    assert not blessing.blessed
    assert not blessing.servable
    assert blessing.reasons[0].startswith("the model server did not serve it: ")


def test_an_image_that_is_not_there_says_nothing_of_the_model(
    engine: tuple[Engine, str], validate: Callable[..., InfraBlessing], model: Model
) -> None:
    with pytest.raises(
        StepFailed, match="no model server was started, so the model was not judged: .*pull access denied"
    ):
        validate(local(engine[1]), tag="nightly", model=model)


def test_what_was_to_happen_at_SIGTERM_is_so_again_afterwards(
    engine: tuple[Engine, str], validate: Callable[..., InfraBlessing], model: Model
) -> None:
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL

    with pytest.raises(StepFailed, match="no model server was started"):
        validate(local(engine[1]), tag="nightly", model=model)

    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_without_an_engine_or_a_cluster_our_InfraValidator_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, validate: Callable[..., InfraBlessing], model: Model
) -> None:
    with pytest.raises(
        ConfigError, match=r"^serving_spec: local_docker: no Docker engine answers .*uses: InfraValidator"
    ):
        validate(local(f"unix://{tmp_path}/no.sock"), model=model)

    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "none"))
    with pytest.raises(ConfigError, match="^serving_spec: kubernetes: no cluster is known here .*uses: InfraValidator"):
        validate({"kubernetes": {}}, model=model)


KUBECONFIG = """
apiVersion: v1
kind: Config
current-context: somewhere
clusters: [{name: somewhere, cluster: {server: "http://127.0.0.1:1"}}]
contexts: [{name: somewhere, context: {cluster: somewhere, user: somebody}}]
users: [{name: somebody, user: {token: secret}}]
"""


def test_what_TFX_s_server_on_a_cluster_lacks_is_said_before_a_model_is_blamed_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, validate: Callable[..., InfraBlessing], model: Model
) -> None:
    import certifi
    from tfx.utils import kube_utils

    def said() -> str:
        monkeypatch.setattr(kube_utils, "_factory", kube_utils._KubernetesClientFactory())  # as in a fresh process
        with pytest.raises(ConfigError) as caught:
            validate({"kubernetes": {}}, model=model)
        assert str(caught.value).endswith("uses: InfraValidator")
        return str(caught.value)

    for name in ("KUBERNETES_SERVICE_HOST", "KFP_POD_NAME", "KFP_NAMESPACE"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "config").write_text(KUBECONFIG)
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "config"))
    assert "TFX starts its server from a pod on Kubeflow alone, and this process is in none" in said()

    (tmp_path / "token").write_text("secret")
    monkeypatch.setattr("kubernetes.config.incluster_config.SERVICE_TOKEN_FILENAME", str(tmp_path / "token"))
    monkeypatch.setattr("kubernetes.config.incluster_config.SERVICE_CERT_FILENAME", certifi.where())
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "1")
    monkeypatch.setenv("KFP_POD_NAME", "penstock-1")
    assert "there is no KFP_NAMESPACE. Kubeflow sets the first; the second is for the step's env" in said()

    monkeypatch.setenv("KFP_NAMESPACE", "kubeflow")
    assert "the cluster does not show this pod to its service account" in said()
