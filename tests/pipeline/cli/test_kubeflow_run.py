"""`pipeline kubeflow run` uploads a package once, checks parameters first, and says where the run is."""

from __future__ import annotations

import base64
import json
import socket
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from kfp_server import serving

Command = Any
Api = Any


def arguments(run: dict[str, Any]) -> dict[str, Any]:
    """The parameters that a run was started with."""
    found: dict[str, Any] = run["runtime_config"]["parameters"]
    return found


def test_a_package_is_uploaded_and_run(command: Command, kfp_api: Api, toy_package: Path) -> None:
    said = command("kubeflow", "run", str(toy_package), "--name", "first")

    (pipeline,) = kfp_api.pipelines.items.values()
    (version,) = kfp_api.versions.items.values()
    (run,) = kfp_api.runs.items.values()
    assert said.code == 0
    assert pipeline["name"] == "toy"
    assert version["name"].startswith("toy-")
    assert len(version["name"]) == len("toy-") + 12
    assert run["pipeline_version_reference"]["pipeline_version_id"] == version["pipeline_version_id"]
    assert said.out.splitlines() == [
        f"{version['name']}  uploaded",
        f"run {run['run_id']}  'first', experiment 'toy'",
        f"{kfp_api.url}/#/runs/details/{run['run_id']}",
    ]
    assert said.err == ""


def test_a_second_run_uploads_nothing(command: Command, kfp_api: Api, toy_package: Path) -> None:
    command("kubeflow", "run", str(toy_package))
    posts = len(kfp_api.calls("POST"))

    said = command("kubeflow", "run", str(toy_package), "--json").data

    assert kfp_api.calls("POST")[posts:] == ["POST /apis/v2beta1/runs"]
    assert said["outcome"] == "started"
    assert said["uploaded"] is False
    assert len(kfp_api.experiments.items) == 1
    assert len(kfp_api.runs.items) == 2


def test_another_package_is_another_version_of_the_same_pipeline(
    command: Command, kfp_api: Api, toy_package: Path
) -> None:
    command("kubeflow", "run", str(toy_package))
    toy_package.write_text(toy_package.read_text().replace("toy:1", "toy:2"))

    command("kubeflow", "run", str(toy_package))

    assert len(kfp_api.pipelines.items) == 1
    assert len({version["name"] for version in kfp_api.versions.items.values()}) == 2


def test_a_version_is_found_behind_hundreds_of_others(command: Command, kfp_api: Api, toy_package: Path) -> None:
    command("kubeflow", "run", str(toy_package))
    (pipeline,) = kfp_api.pipelines.items
    wanted = kfp_api.versions.items.popitem()[1]
    for number in range(250):
        kfp_api.versions.add({"name": f"toy-{number}", "display_name": f"toy-{number}", "pipeline_id": pipeline}, "")
    kfp_api.versions.items[wanted["pipeline_version_id"]] = {**wanted, "created_at": "9999"}  # the last
    kfp_api.ignores_filters = True
    seen = len(kfp_api.requests)

    assert command("kubeflow", "run", str(toy_package), "--json").data["uploaded"] is False
    assert kfp_api.requests[seen:].count(f"GET /apis/v2beta1/pipelines/{pipeline}/versions") == 3


def test_parameters_arrive_in_the_types_of_the_package(command: Command, kfp_api: Api, toy_package: Path) -> None:
    given = ["steps=20", "rate=1", "fast=true", "label=007"]

    command("kubeflow", "run", str(toy_package), *(word for item in given for word in ("--set", f"parameters.{item}")))

    (run,) = kfp_api.runs.items.values()
    assert arguments(run) == {"steps": 20, "rate": 1, "fast": True, "label": "007"}


def test_wrong_parameters_are_said_all_at_once_before_kubeflow_is_asked(
    command: Command, kfp_api: Api, toy_package: Path
) -> None:
    given = [
        "parameters.stepps=1",
        "parameters.steps=many",
        "parameters.fast=1",
        "parameters.rate=yes",
        "parameters.rate=.inf",
        "parameters.steps=9007199254740993",
        "steps=3",
        "fit_model.pause=1",
    ]
    said = command("kubeflow", "run", str(toy_package), *(word for item in given for word in ("--set", item)))

    assert said.code == 2
    assert kfp_api.requests == []
    for problem in (
        "--set parameters.stepps=1: the pipeline has no parameter 'stepps'. Did you mean 'steps'?",
        "--set parameters.steps=many: expected a whole number (its default is 10), found 'many'",
        "--set parameters.fast=1: expected true or false (its default is false), found '1'",
        "--set parameters.rate=yes: expected a number (its default is 0.5), found 'yes'",
        "--set parameters.rate=.inf: .inf is no number in JSON, in which KFP keeps parameters. Give a finite one",
        "--set parameters.steps=9007199254740993: 9007199254740993 is not below 2**53, up to which KFP keeps integers exactly",
        "--set steps=3: of a compiled package only parameters can be set. Did you mean 'parameters.steps'?",
        "--set fit_model.pause=1: of a compiled package only parameters can be set.",
    ):
        assert problem in said.err


def test_a_parameter_without_a_default_must_be_given(command: Command, kfp_api: Api, toy_package: Path) -> None:
    toy_package.write_text(toy_package.read_text().replace("defaultValue: tips, isOptional: true, ", ""))

    said = command("kubeflow", "run", str(toy_package))
    assert (said.code, kfp_api.requests) == (2, [])
    assert "toy.yaml: parameter 'label' has no default: give --set parameters.label=VALUE" in said.err

    assert command("kubeflow", "run", str(toy_package), "--set", "parameters.label=x").code == 0


def test_experiment_name_and_service_account_are_as_asked(command: Command, kfp_api: Api, toy_package: Path) -> None:
    asked = ["--experiment", "nightly", "--name", "monday", "--service-account", "trainer"]

    said = command("kubeflow", "run", str(toy_package), *asked, "--json").data

    run = kfp_api.runs.items[said["run"]]
    assert kfp_api.experiments.items[run["experiment_id"]]["display_name"] == "nightly"
    assert (run["display_name"], run["service_account"]) == ("monday", "trainer")


def test_a_definition_is_compiled_first(
    command: Command, kfp_api: Api, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KFP_ENDPOINT")
    definition = project / "pipeline.yaml"
    section = f"""
kubeflow:
  image: registry.example.com/team/toy:1
  endpoint: {kfp_api.url}
  experiment: weekly
  parameters: {{numbers: /mnt/penstock/numbers.txt}}
  defaults: {{service_account: trainer, volumes: [{{claim: penstock, path: /mnt/penstock}}]}}
"""
    text = definition.read_text().replace("numbers.txt", '"${parameters.numbers}"')
    definition.write_text(text.replace("{most: 100}", "{most: 100, numbers: numbers.txt}") + section)

    said = command("kubeflow", "run", "pipeline.yaml", "--json")

    assert said.code == 0, said.err
    run = kfp_api.runs.items[said.data["run"]]
    assert said.data["pipeline"] == "toy"
    assert said.data["experiment"] == "weekly"
    assert run["service_account"] == "trainer"


def test_a_definition_in_Python_is_compiled_for_the_image_that_is_given(
    command: Command, kfp_api: Api, project: Path
) -> None:
    (project / "toy_in_python.py").write_text(
        "from project_steps import Read\n\nfrom pipeline.definition import Pipeline\n\n\n"
        "def make(source):\n"
        "    toy = Pipeline(name='toy')\n"
        "    toy.step('read', Read(source=source))\n"
        "    return toy\n"
    )
    sets = [
        *("--set", "parameters.source=/mnt/penstock/numbers.txt"),
        *("--set", "kubeflow.defaults.volumes=[{claim: penstock, path: /mnt/penstock}]"),
    ]

    said = command("kubeflow", "run", "toy_in_python:make", "--image", "registry.example.com/toy:1", *sets, "--json")

    assert said.code == 0, said.err
    assert arguments(kfp_api.runs.items[said.data["run"]]) == {}  # they are the package's own
    (version,) = kfp_api.versions.items.values()
    assert "parameters.source=/mnt/penstock/numbers.txt" in json.dumps(version)


def test_a_package_has_its_image(command: Command, kfp_api: Api, toy_package: Path) -> None:
    said = command("kubeflow", "run", str(toy_package), "--image", "registry.example.com/toy:1")

    assert said.code == 2
    assert "is compiled, with the image that it names" in said.err


def test_where_nothing_says_the_address_of_the_ui_none_is_made_up(
    command: Command, kfp_api: Api, toy_package: Path
) -> None:
    kfp_api.ui = False  # the API server's own port

    said = command("kubeflow", "run", str(toy_package))

    assert said.code == 0
    assert "has no pages: the UI shows it at #/runs/details/" in said.out


@pytest.mark.parametrize("call", ["pipelines", "pipelines/upload_version", "experiments"])
def test_two_at_the_same_time_upload_one_version(command: Command, kfp_api: Api, toy_package: Path, call: str) -> None:
    from pipeline.runners.kubeflow.api import Access, connect
    from pipeline.runners.kubeflow.package_file import read_package
    from pipeline.runners.kubeflow.submit import start

    def race(request: Any) -> None:
        # We have looked and found nothing, and are about to make it: then somebody else does.
        if (request.method, request.path) == ("POST", f"/apis/v2beta1/{call}"):
            kfp_api.before = None
            start(connect(Access(endpoint=kfp_api.url)), read_package(toy_package), {}, name="theirs")

    kfp_api.before = race
    said = command("kubeflow", "run", str(toy_package), "--name", "ours", "--json")

    assert said.code == 0, said.err
    assert said.data["uploaded"] is (call == "experiments")
    assert len(kfp_api.pipelines.items) == len(kfp_api.versions.items) == len(kfp_api.experiments.items) == 1
    assert {run["display_name"] for run in kfp_api.runs.items.values()} == {"ours", "theirs"}


@pytest.mark.parametrize("tag", ["2.5.0", "2.17.0"])
def test_a_package_that_kubeflow_refuses_leaves_nothing_behind(
    command: Command, kfp_api: Api, toy_package: Path, tag: str
) -> None:
    kfp_api.tag_name = tag
    toy_package.write_text(toy_package.read_text().replace("schemaVersion: 2.1.0", "schemaVersion: 2.0.0"))

    said = command("kubeflow", "run", str(toy_package))

    assert said.code == 1
    assert "KFP only supports schema version 2.1.0, but the pipeline spec has version 2.0.0" in said.err
    assert kfp_api.pipelines.items == {}
    assert kfp_api.runs.items == {}


def test_quotas_and_other_refusals_are_shown_in_kubeflows_words(
    command: Command, kfp_api: Api, toy_package: Path
) -> None:
    quota = (
        "workflows.argoproj.io is forbidden: exceeded quota: runs, requested: count/workflows=1, used: 5, limited: 5"
    )
    body = {"code": 13, "message": f"Failed to create a workflow for (toy): {quota}", "details": []}
    kfp_api.refusals["POST /apis/v2beta1/runs"] = (500, body)

    said = command("kubeflow", "run", str(toy_package))

    assert said.code == 1
    assert "could not start a run: it says 500" in said.err
    assert quota in said.err


def test_an_answer_that_never_came_starts_no_second_run(command: Command, kfp_api: Api, toy_package: Path) -> None:
    kfp_api.refusals["POST /apis/v2beta1/runs"] = None

    said = command("kubeflow", "run", str(toy_package), "--name", "monday")

    assert said.code == 1
    assert kfp_api.calls("POST /apis/v2beta1/runs") == ["POST /apis/v2beta1/runs"]
    assert (
        "the connection broke before there was an answer. Whether the run 'monday' has started is not known" in said.err
    )


def test_no_package_at_all_is_said_so(command: Command, kfp_api: Api, tmp_path: Path) -> None:
    said = command("kubeflow", "run", str(tmp_path / "nothing.yaml"))
    assert said.code == 2
    assert "there is no such file" in said.err


@pytest.mark.parametrize("ui", [True, False], ids=["the UI's server", "the API server"])
@pytest.mark.parametrize("tag", ["2.4.1", "2.0.0-beta.1", "1.8.22"])
def test_a_backend_that_is_too_old_is_refused(
    command: Command, kfp_api: Api, toy_package: Path, tag: str, ui: bool
) -> None:
    kfp_api.tag_name, kfp_api.ui = tag, ui

    said = command("kubeflow", "run", str(toy_package))

    assert said.code == 2
    assert f"this is Kubeflow Pipelines {tag}, and at least 2.5.0 is needed" in said.err
    assert kfp_api.calls("POST") == []


@pytest.mark.parametrize("tag", ["unknown", "dev", ""])
def test_of_a_backend_whose_version_is_unknown_there_is_a_warning(
    command: Command, kfp_api: Api, toy_package: Path, tag: str
) -> None:
    kfp_api.tag_name = tag

    said = command("kubeflow", "run", str(toy_package), "--json")

    assert said.code == 0
    assert "nobody knows whether it is at least 2.5.0" in said.err
    assert said.data["outcome"] == "started"


def test_where_every_user_has_a_namespace_one_must_be_named(
    command: Command, kfp_api: Api, toy_package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kfp_api.multi_user = True
    said = command("kubeflow", "run", str(toy_package))
    assert said.code == 2
    assert "say which with --namespace or KFP_NAMESPACE" in said.err

    monkeypatch.setenv("KFP_NAMESPACE", "ann")
    assert command("kubeflow", "run", str(toy_package)).code == 0
    assert command("kubeflow", "run", str(toy_package), "--namespace", "bob").code == 0
    assert {run["namespace"] for run in kfp_api.runs.items.values()} == {"ann", "bob"}
    assert {pipeline["namespace"] for pipeline in kfp_api.pipelines.items.values()} == {"ann", "bob"}


def test_a_ui_whose_api_server_is_away_is_told(command: Command, kfp_api: Api, toy_package: Path) -> None:
    kfp_api.ready = False

    said = command("kubeflow", "run", str(toy_package))

    assert said.code == 1
    assert "Kubeflow's UI answers, and says that the API server behind it does not" in said.err


def test_a_namespace_that_is_not_ones_own_is_refused(command: Command, kfp_api: Api, toy_package: Path) -> None:
    kfp_api.multi_user, kfp_api.denied = True, ("bob",)

    said = command("kubeflow", "run", str(toy_package), "--namespace", "bob")

    assert said.code == 1
    assert "you may not do that in the namespace bob (403: Failed to authorize" in said.err


def test_a_token_is_taken_from_the_environment_and_a_wrong_one_is_told(
    command: Command, kfp_api: Api, toy_package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kfp_api.token = "right"
    assert "no token was given. Set KFP_TOKEN to a new one" in command("kubeflow", "run", str(toy_package)).err

    claims = base64.urlsafe_b64encode(json.dumps({"exp": 1_700_000_000}).encode()).decode().rstrip("=")
    monkeypatch.setenv("KFP_TOKEN", f"head.{claims}.signature")
    said = command("kubeflow", "run", str(toy_package))
    assert said.code == 1
    assert "the token expired at 2023-11-14 22:13 UTC. Set KFP_TOKEN to a new one" in said.err

    monkeypatch.setenv("KFP_TOKEN", "right")
    assert command("kubeflow", "run", str(toy_package)).code == 0


def test_a_token_in_a_file_is_read_anew(
    command: Command, kfp_api: Api, toy_package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "token"
    monkeypatch.setenv("KF_PIPELINES_SA_TOKEN_PATH", str(file))
    assert f"KF_PIPELINES_SA_TOKEN_PATH: there is no file {file}" in command("kubeflow", "run", str(toy_package)).err
    file.write_text("right")
    kfp_api.token = "right"

    assert command("kubeflow", "run", str(toy_package)).code == 0


def test_a_login_page_in_place_of_the_api_is_told(command: Command, kfp_api: Api, toy_package: Path) -> None:
    kfp_api.login_page = True

    said = command("kubeflow", "run", str(toy_package))

    assert said.code == 1
    assert "a web page ('Log in to Your Account') answered instead of Kubeflow's API, as a login does" in said.err


def test_an_address_without_the_api_is_told(command: Command, kfp_api: Api, toy_package: Path) -> None:
    said = command("kubeflow", "run", str(toy_package), "--endpoint", f"{kfp_api.url}/elsewhere")

    assert said.code == 1
    assert "there is no API of Kubeflow Pipelines there" in said.err


def test_an_endpoint_that_nobody_answers_at_is_told(command: Command, kfp_api: Api, toy_package: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        closed = f"http://127.0.0.1:{free.getsockname()[1]}"
        said = command("kubeflow", "run", str(toy_package), "--endpoint", closed, "--json")

    assert said.code == 1
    assert said.data["error"] == "Unreachable"
    assert "nothing listens there (connection refused)" in said.data["problems"][0]


def test_a_name_that_is_not_known_is_told(command: Command, kfp_api: Api, toy_package: Path) -> None:
    said = command("kubeflow", "run", str(toy_package), "--endpoint", "http://kubeflow.invalid")

    assert said.code == 1
    assert "http://kubeflow.invalid: nobody knows the name kubeflow.invalid: check --endpoint" in said.err


def test_https_where_http_is_spoken_is_told(command: Command, kfp_api: Api, toy_package: Path) -> None:
    said = command("kubeflow", "run", str(toy_package), "--endpoint", kfp_api.url.replace("http:", "https:"))

    assert said.code == 1
    assert "it does not speak TLS: give it with http:// instead of https://" in said.err


def test_a_certificate_of_ones_own_authority_is_trusted_when_it_is_given(
    command: Command, kfp_api: Api, toy_package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate = tmp_path / "certificate.pem"
    certificate.write_bytes(self_signed("127.0.0.1"))
    with serving(kfp_api, certificate):
        said = command("kubeflow", "run", str(toy_package), "--endpoint", kfp_api.url)
        assert said.code == 1
        assert "its certificate is not trusted (certificate verify failed: self-signed certificate" in said.err
        assert "Set KFP_SSL_CA_CERT" in said.err

        monkeypatch.setenv("KFP_SSL_CA_CERT", str(certificate))
        assert command("kubeflow", "run", str(toy_package), "--endpoint", kfp_api.url).code == 0


def self_signed(address: str) -> bytes:
    """A certificate for an address and its key."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, address)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address(address))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return certificate.public_bytes(pem) + private


def test_without_an_endpoint_the_cluster_of_kubeconfig_is_asked(
    command: Command, kfp_api: Api, toy_package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kubernetes.config import kube_config

    kubeconfig = tmp_path / "kubeconfig"
    monkeypatch.setattr(kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", str(kubeconfig))
    monkeypatch.delenv("KFP_ENDPOINT")
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)

    said = command("kubeflow", "run", str(toy_package))
    assert said.code == 2
    assert "where is Kubeflow Pipelines? Give --endpoint URL or set KFP_ENDPOINT" in said.err
    assert said.out == ""

    names = {"clusters": "cluster", "contexts": "context", "users": "user"}
    parts = {"cluster": {"server": kfp_api.url}, "context": {"cluster": "here", "user": "here"}, "user": {}}
    listed = {many: [{"name": "here", one: parts[one]}] for many, one in names.items()}
    kubeconfig.write_text(json.dumps({"current-context": "here", **listed}))
    assert command("kubeflow", "run", str(toy_package)).code == 0
