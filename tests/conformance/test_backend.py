"""The harness itself, on packages made by hand: what the backend does with groups, retries, exit tasks and bad packages."""

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kfp import compiler, dsl, kubernetes
from kfp_backend.backend import Cluster
from kfp_backend.conditions import condition_holds
from kfp_backend.package import OLDEST, read_package
from kfp_backend.pods import Image
from kfp_backend.rules import Rejected

IMAGE = "registry.example.com/team/tiny:1"
EXECUTOR_INPUT = dsl.PIPELINE_TASK_EXECUTOR_INPUT_PLACEHOLDER
# A task that does what its name says with what {{$}} holds; `told` is the ExecutorOutput.
PRELUDE = """
import json, os, pathlib, sys
given = json.loads(sys.argv[1])
values = given["inputs"].get("parameterValues", {})
def tell(**told):
    file = pathlib.Path(given["outputs"]["outputFile"])
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(told))
"""


def python(code: str) -> dsl.ContainerSpec:
    """A container that runs a few lines of Python with its ExecutorInput."""
    return dsl.ContainerSpec(image=IMAGE, command=["python", "-c", PRELUDE + code], args=[EXECUTOR_INPUT])


@dsl.container_component
def make(count: int, number: dsl.OutputPath(int), good: dsl.OutputPath(bool), data: dsl.Output[dsl.Dataset]):
    return python(
        """
assert isinstance(values["count"], float), values
metadata = {"span": 3, "blessed": True, "path": "/mnt/x", "splits": ["train"]}
artifacts = {"data": {"artifacts": [{"metadata": metadata}]}}
tell(parameterValues={"number": values["count"] * 2, "good": values["count"] > 2}, artifacts=artifacts)
"""
    )


@dsl.container_component
def use(number: int, run: str, data: dsl.Input[dsl.Dataset], text: dsl.OutputPath(str)):
    return python(
        """
(data,) = given["inputs"]["artifacts"]["data"]["artifacts"]
assert "type" not in data and data["uri"].startswith("minio://") and data["name"].isdigit(), data
assert data["metadata"] == {"span": 3.0, "blessed": 1.0, "path": "/mnt/x", "splits": {"list": ["train"]}}, data
assert len(values["run"]) == 36, values
pathlib.Path(given["outputs"]["parameters"]["text"]["outputFile"]).write_text(f"{values['number']:.0f} of {values['run']}")
"""
    )


@dsl.container_component
def ended(run: str):
    return python("print('ended', values)")


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    """A cluster with one image, one claim and one secret."""
    app = tmp_path / "source"
    app.mkdir()
    (app / "hello.txt").write_text("from the image")
    (tmp_path / "volume").mkdir()
    image = Image.of(app, tmp_path, Path(__file__).parents[2])
    return Cluster(
        tmp_path / "cluster", {IMAGE: image}, {"penstock": tmp_path / "volume"}, {"database": {"url": "postgresql://"}}
    )


def compiled(pipeline: Callable[..., Any], tmp_path: Path) -> str:
    """What kfp's compiler makes of a function."""
    file = tmp_path / "package.yaml"
    compiler.Compiler().compile(dsl.pipeline(name="by-hand")(pipeline), str(file))
    return file.read_text()


@pytest.mark.parametrize("isolated", [True, False], ids=["isolated", "shared"])
def test_values_and_artifacts_reach_a_consumer_as_the_backend_hands_them_out(
    cluster: Cluster, tmp_path: Path, isolated: bool
) -> None:
    if isolated and not cluster.isolated:
        pytest.skip("this machine lets nobody make namespaces")
    cluster.isolated = isolated

    def pipeline(count: int = 3) -> None:
        made = make(count=count)
        use(number=made.outputs["number"], run=dsl.PIPELINE_JOB_ID_PLACEHOLDER, data=made.outputs["data"])

    finished = cluster.run(compiled(pipeline, tmp_path))

    assert finished.state == "succeeded", finished.report()
    assert finished.tasks["make"].outputs == {"number": 6.0, "good": True}
    assert finished.tasks["use"].outputs["text"] == f"6 of {finished.run.id}"


@pytest.mark.parametrize("count", [3, 1])
def test_a_group_runs_only_when_its_condition_holds_and_the_exit_task_in_any_case(
    cluster: Cluster, tmp_path: Path, count: int
) -> None:
    def pipeline(count: int = 3) -> None:
        done = ended(run=dsl.PIPELINE_JOB_ID_PLACEHOLDER)
        with dsl.ExitHandler(done):
            made = make(count=count)
            good, enough = made.outputs["good"] == True, made.outputs["number"] > 5  # noqa: E712 - kfp makes conditions
            with dsl.If(good), dsl.If(enough):
                run = dsl.PIPELINE_JOB_ID_PLACEHOLDER
                use(number=made.outputs["number"], run=run, data=made.outputs["data"])

    finished = cluster.run(compiled(pipeline, tmp_path), {"count": count})

    assert finished.state == "succeeded", finished.report()
    states = finished.states()
    assert states["condition-2"] == ("succeeded" if count == 3 else "skipped")
    assert states.get("use") == ("succeeded" if count == 3 else None)
    assert states["ended"] == "succeeded"
    assert "ended {'run'" in finished.tasks["ended"].logs[0]


def test_a_failed_task_is_retried_and_then_fails_the_run_but_not_the_exit_task(
    cluster: Cluster, tmp_path: Path
) -> None:
    @dsl.container_component
    def fail():
        return python("print('attempt', os.environ['KFP_RETRY_INDEX']); sys.exit(4)")

    def pipeline() -> None:
        with dsl.ExitHandler(ended(run="x")):
            failed = fail().set_retry(2)
            ended(run="after").after(failed)

    finished = cluster.run(compiled(pipeline, tmp_path))

    assert finished.state == "failed"
    assert finished.tasks["fail"].exit_codes == [4, 4, 4]
    assert [log.strip() for log in finished.tasks["fail"].logs] == ["attempt 0", "attempt 1", "attempt 2"]
    assert sorted(finished.states().values()) == ["failed", "failed", "omitted", "succeeded"]


def test_on_the_oldest_backend_only_tasks_of_the_root_are_retried(cluster: Cluster, tmp_path: Path) -> None:
    @dsl.container_component
    def fail():
        return python("assert given['outputs']['outputFile'].endswith('kfp_outputs/output_metadata.json'); sys.exit(4)")

    def pipeline() -> None:
        fail().set_retry(1)
        with dsl.ExitHandler(ended(run="x")):
            fail().set_retry(1)

    cluster.backend = OLDEST
    finished = cluster.run(compiled(pipeline, tmp_path))

    assert {name: task.exit_codes for name, task in finished.tasks.items() if name.startswith("fail")} == {
        "fail": [4, 4],
        "fail-2": [4],
    }


def test_a_killed_pod_is_retried_in_a_new_one_that_finds_nothing_of_the_old_but_the_volume(
    cluster: Cluster, tmp_path: Path
) -> None:
    volume = tmp_path / "volume"

    @dsl.container_component
    def work():
        return python(
            f"""
import tempfile, time
volume, own = pathlib.Path({str(volume)!r}), pathlib.Path(tempfile.gettempdir()) / "own"
assert not own.exists() and not (pathlib.Path.home() / "home").exists()
own.write_text("mine")
(pathlib.Path.home() / "home").write_text("mine")
if not (volume / "begun").exists():
    (volume / "begun").write_text("")
    time.sleep(60)
"""
        )

    def pipeline() -> None:
        kubernetes.mount_pvc(work().set_retry(1), pvc_name="penstock", mount_path=str(volume))

    finished = cluster.run(compiled(pipeline, tmp_path), kill={"work": (volume / "begun").exists})

    assert finished.state == "succeeded", finished.report()
    assert finished.tasks["work"].exit_codes == [-9, 0]


def test_a_pod_sees_its_image_its_secrets_and_no_variable_of_the_tests(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OF_THE_TESTS", "1")

    @dsl.container_component
    def look():
        return python("print(json.dumps([dict(os.environ), pathlib.Path('hello.txt').read_text()]))")

    def pipeline() -> None:
        task = look().set_env_variable("GIVEN", "yes")
        kubernetes.use_secret_as_env(task, "database", {"url": "PENSTOCK_LEDGER"})

    finished = cluster.run(compiled(pipeline, tmp_path))

    environment, text = json.loads(finished.tasks["look"].logs[0])
    assert text == "from the image"
    assert environment["PENSTOCK_LEDGER"] == "postgresql://"
    assert environment["GIVEN"] == "yes"
    assert "OF_THE_TESTS" not in environment


@pytest.mark.parametrize("isolated", [True, False], ids=["isolated", "shared"])
def test_a_pod_cannot_write_into_its_image(cluster: Cluster, tmp_path: Path, isolated: bool) -> None:
    cluster.isolated = cluster.isolated and isolated

    @dsl.container_component
    def write():
        return python("pathlib.Path('new.txt').write_text('')")

    finished = cluster.run(compiled(lambda: write() and None, tmp_path))

    assert finished.states() == {"write": "failed"}
    assert "Read-only file system" in finished.report() or "wrote into its image" in finished.report()


def test_where_it_can_be_a_pod_is_a_number_for_a_user_on_a_read_only_root(cluster: Cluster, tmp_path: Path) -> None:
    if not cluster.isolated:
        pytest.skip("this machine lets nobody make namespaces")

    @dsl.container_component
    def look():
        return python(
            """
import pwd, socket, tempfile
assert os.getuid() == 65532 and socket.gethostname() == os.environ["KFP_POD_NAME"]
try:
    print(pwd.getpwuid(os.getuid()))
except KeyError:
    print("no name")
for directory in ("/", "/usr", "/app", "/var/tmp", "/minio", tempfile.gettempdir(), "/dev/shm"):
    try:
        (pathlib.Path(directory) / "written").write_text("")
        print(directory)
    except OSError as error:
        assert error.strerror == "Read-only file system", (directory, error)
"""
        )

    finished = cluster.run(compiled(lambda: look() and None, tmp_path))

    assert finished.tasks["look"].logs[0].split("\n")[:-1] == ["no name", "/minio", "/tmp", "/dev/shm"]


def test_a_task_that_takes_longer_than_its_timeout_is_killed(cluster: Cluster, tmp_path: Path) -> None:
    @dsl.container_component
    def sleep():
        return python("import time; time.sleep(60)")

    finished = cluster.run(compiled(lambda: kubernetes.set_timeout(sleep(), 1) and None, tmp_path))

    assert finished.tasks["sleep"].exit_codes == [-9]


WRONG_OUTPUTS = {
    "executor_output_is_strict": "tell(parameter_valuez={'number': 1, 'good': True})",
    "only_declared_outputs": "tell(parameterValues={'number': 1, 'good': True, 'more': 2})",
    "every_output_parameter_is_written": "tell(parameterValues={'number': 1})",
    "output_parameters_fit": "tell(parameterValues={'number': '1', 'good': True})",
    "metadata_holds_no_null": (
        "tell(parameterValues={'number': 1, 'good': True}, artifacts={'data': {'artifacts': [{'metadata': {'a': None}}]}})"
    ),
    "uris_are_kept": (
        "tell(parameterValues={'number': 1, 'good': True}, artifacts={'data': {'artifacts': [{'uri': '/mnt/a'}]}})"
    ),
}


@pytest.mark.parametrize("rule", WRONG_OUTPUTS)
def test_an_executor_output_that_the_launcher_refuses_fails_the_task(
    cluster: Cluster, tmp_path: Path, rule: str
) -> None:
    @dsl.container_component
    def wrong(number: dsl.OutputPath(int), good: dsl.OutputPath(bool), data: dsl.Output[dsl.Dataset]):
        return python(WRONG_OUTPUTS[rule])

    finished = cluster.run(compiled(lambda: wrong() and None, tmp_path))

    assert finished.tasks["wrong"].broke is not None, finished.report()
    assert finished.tasks["wrong"].broke.rules == {rule}


def test_parameters_of_a_run_are_checked_as_the_api_server_checks_them(cluster: Cluster, tmp_path: Path) -> None:
    def pipeline(count: int) -> None:
        make(count=count)

    package = compiled(pipeline, tmp_path)

    for parameters, message in (
        ({}, "count is not optional"),
        ({"count": "3"}, "requires type NUMBER_INTEGER, got '3'"),
        ({"count": 3, "more": 1}, "more is not required"),
    ):
        with pytest.raises(Rejected, match=message):
            cluster.run(package, parameters)


# What is changed in a package that is right, and the rule that it breaks then.
CHANGES = {
    "schema_version_is_2_1_0": ("schemaVersion: 2.1.0", "schemaVersion: 2.0.0"),
    "pipeline_name_is_legal": ("name: by-hand", "name: by_hand"),
    "is_a_bare_pipeline_spec": ("schemaVersion:", "schemaVersions:"),
    "is_a_platform_spec": ("platforms:\n  kubernetes:", "platforms:\n  kubernetis:"),
    "kubernetes_config_is_understood": ("mountPath:", "mountpath_:"),
    "kubernetes_config_belongs_to_executors": (
        "        exec-make:\n          pvc",
        "        exec-gone:\n          pvc",
    ),
    "components_are_there": ("name: comp-make", "name: comp-gone"),
    "no_placeholder_is_a_struct": ("- '{{$}}'", """- '{"IfPresent": {"InputName": "count", "Then": []}}'"""),
    "argo_leaves_words_alone": ("- '{{$}}'", "- '{{inputs.x}}'"),
    "parameters_have_types": ("parameterType: NUMBER_INTEGER", "description: none"),
    "task_names_are_workflow_names": ("      make:\n", "      make_it:\n"),
    "conditions_can_be_read": ("parameter_values['pipelinechannel--make-good'] == true", "artifacts['data'] == true"),
    "only_containers_run": (
        "      container:\n",
        "      resolver:\n        outputArtifactQueries: {}\n      nothing:\n",
    ),
    "mounts_can_be_made": ("mountPath: /mnt/penstock", "mountPath: /minio"),
}


@pytest.mark.parametrize("rule", CHANGES)
def test_a_package_that_breaks_a_rule_is_refused_by_the_rule_of_that_name(tmp_path: Path, rule: str) -> None:
    def pipeline(count: int = 3) -> None:
        made = make(count=count)
        kubernetes.mount_pvc(made, pvc_name="penstock", mount_path="/mnt/penstock")
        with dsl.If(made.outputs["good"] == True):  # noqa: E712 - kfp makes a condition of it
            ended(run="x")

    right = compiled(pipeline, tmp_path)
    read_package(right)
    old, new = CHANGES[rule]
    assert old in right

    with pytest.raises(Rejected) as refused:
        read_package(right.replace(old, new))

    assert rule in refused.value.rules


def test_the_oldest_backend_refuses_a_final_status(tmp_path: Path) -> None:
    @dsl.container_component
    def report(status: dsl.PipelineTaskFinalStatus):
        return python("")

    def pipeline() -> None:
        with dsl.ExitHandler(report()):
            ended(run="x")

    package = compiled(pipeline, tmp_path)

    read_package(package)
    with pytest.raises(Rejected, match="report.status: task final status not supported yet"):
        read_package(package, OLDEST)


VALUES = {"outcome": "done", "blessed": True, "count": 3.0}
CONDITIONS = [
    ("inputs.parameter_values['outcome'] == 'done'", True),
    ("inputs.parameter_values['blessed'] == true", True),
    ("!(inputs.parameter_values['blessed'] == true)", False),
    ("int(inputs.parameter_values['count']) >= 3 && inputs.parameter_values['outcome'] != 'done'", False),
    ("inputs.parameter_values['blessed'] == false || double(int(inputs.parameter_values['count'])) < 3.5", True),
]


@pytest.mark.parametrize(("condition", "holds"), CONDITIONS, ids=map(str, range(len(CONDITIONS))))
def test_conditions_are_evaluated_as_cel(condition: str, holds: bool) -> None:
    assert condition_holds(condition, VALUES) is holds


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ("inputs.parameter_values['outcome'] == true", "no such overload"),
        ("inputs.parameter_values['gone'] == true", "no such key: gone"),
        ("inputs.parameter_values['outcome']", "is no condition"),
        ("inputs.artifacts['a'].metadata['blessed'] == 1", "cannot be read"),
    ],
    ids=["types", "key", "value", "artifact"],
)
def test_a_condition_that_cannot_be_evaluated_is_an_error(condition: str, message: str) -> None:
    with pytest.raises(Rejected, match=message):
        condition_holds(condition, VALUES)


def test_every_rule_says_where_kubeflow_has_it() -> None:
    from kfp_backend import conditions, driver, launcher, package

    rules = [*package.RULES, package.final_status_needs_a_newer_backend, package.run_parameters, package.dependencies]
    rules += [conditions.condition_holds, driver.resolve_inputs, driver.executor_input, launcher.command_line]
    rules += [launcher.read_outputs, launcher.through_metadata, driver.output_artifact, driver.resolve_parameter]

    assert [
        rule.__name__ for rule in rules if not (rule.__doc__ or "").count(".go") and "Argo" not in rule.__doc__
    ] == []
    assert len({*itertools.chain(rule.__name__ for rule in rules)}) == len(rules)
