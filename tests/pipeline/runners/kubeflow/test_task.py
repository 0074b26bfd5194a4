"""A task of Kubeflow's is a step of the store's: made once, found by every attempt and every runner, said the way KFP reads it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import pipeline
from pipeline.runners.kubeflow.expectation import expected
from schemas.errors import ConfigError

Cluster = Any  # of conftest.py, which cannot be imported


def keys_of(cluster: Cluster, run: str, step: str) -> dict[str, str]:
    found: dict[str, str] = json.loads(cluster.executions[run, step])
    return found


def test_a_step_is_run_published_recorded_and_said(cluster: Cluster) -> None:
    cluster.here("read")
    ended = cluster.here("count")

    assert ended.code == 0
    assert ended.outcome == "done"
    keys = keys_of(cluster, "job-1", "count")
    assert list(keys) == ["count", "read"]
    made = cluster.root / "store" / "count" / keys["count"]
    assert (made / "statistics" / "count.json").read_text() == "3"
    assert ended.metadata("statistics") == {
        "type": "ExampleStatistics",
        "path": str(made / "statistics"),
        "digest": json.loads((made / "manifest.json").read_text())["outputs"]["statistics"]["digest"],
        "step": "count",
        "key": keys["count"],
        "run": "job-1",
    }
    assert ended.said["artifacts"]["statistics"]["artifacts"][0]["uri"] == "minio://bucket/job-1/count/statistics"
    record = cluster.record()
    assert {name: step["action"] for name, step in record["steps"].items()} == {"read": "run", "count": "run"}
    assert record["outcome"] is None


def test_what_a_step_prints_is_in_the_pods_log_and_in_the_stores(cluster: Cluster) -> None:
    for step in ("read", "apply"):
        cluster.here(step)

    ended = cluster.pod("fit")

    assert ended.code == 0, ended.log
    assert "going on from 0" in ended.log
    assert "✓ fit" in ended.log
    assert (cluster.root / "runs" / "job-1" / "fit.log").read_text() == ended.log


def test_what_the_definition_imports_may_be_the_first_to_import_KerasTuner(cluster: Cluster) -> None:
    with Path("project_steps.py").open("a") as module:
        module.write("import sys\nprint('finders:', *(type(finder).__name__ for finder in sys.meta_path))\n")

    assert "_KerasTunerFinder" in cluster.pod("read").log


def test_another_attempt_at_what_is_done_says_so_again(cluster: Cluster) -> None:
    first = cluster.here("read")

    again = cluster.here("read")

    assert again.outcome == "done"
    assert again.said["parameterValues"] == first.said["parameterValues"]
    assert again.said["artifacts"]["examples"] == first.said["artifacts"]["examples"]
    assert "an earlier attempt of this run made it" in again.page("summary")


def test_another_run_reuses_it(cluster: Cluster) -> None:
    cluster.here("read")

    again = cluster.here("read", "job-2")

    assert again.outcome == "reused"
    assert again.metadata("examples")["run"] == "job-1"
    assert cluster.record("job-2")["steps"]["read"]["action"] == "reuse"


def test_a_step_that_always_runs_runs_once_in_a_run(cluster: Cluster) -> None:
    text = Path("pipeline.yaml").read_text()
    Path("pipeline.yaml").write_text(text.replace("source: numbers.txt}", "source: numbers.txt}, cache: false"))
    cluster.here("read")

    assert cluster.here("read").outcome == "done"
    assert "an earlier attempt" in cluster.record()["steps"]["read"]["reason"]
    other, _ = cluster.task("read", "job-2")
    assert (other.outcome, other.reason) == ("done", "cache: false")


def test_parameters_come_as_doubles_and_change_only_what_hangs_on_them(cluster: Cluster) -> None:
    for run, most in (("job-1", 100), ("job-2", 50)):
        for step in ("read", "count", "judge"):
            cluster.here(step, run, most=most)

    actions = {name: step["action"] for name, step in cluster.record("job-2")["steps"].items()}
    assert actions == {"read": "reuse", "count": "reuse", "judge": "run"}
    assert cluster.record("job-2")["parameters"] == {"most": 50}


def test_a_local_run_and_pods_reuse_each_others_steps_from_different_directories(
    cluster: Cluster, tmp_path: Path
) -> None:
    cluster.here("read")
    cluster.here("apply")
    elsewhere = tmp_path / "somewhere" / "else"
    shutil.copytree(cluster.project, elsewhere)
    command = [sys.executable, "-m", "pipeline.cli.main", "run", "pipeline.yaml", "--root", str(cluster.root), "--json"]
    environment = {**os.environ, "PYTHONPATH": str(Path(pipeline.__file__).parents[1])}
    local = subprocess.run(command, cwd=elsewhere, env=environment, check=True, capture_output=True, text=True)

    actions = {name: step["action"] for name, step in json.loads(local.stdout)["steps"].items()}
    assert actions == {"read": "reuse", "count": "run", "judge": "run", "apply": "reuse", "fit": "run"}
    cluster.here("read", "job-2")
    cluster.here("apply", "job-2")
    assert cluster.here("fit", "job-2").outcome == "reused"


class TestRefusal:
    """A gate's no is an outcome: KFP does not try it again."""

    @pytest.fixture
    def refused(self, cluster: Cluster) -> Any:
        for step in ("read", "count"):
            cluster.here(step, most=2)
        return cluster.here("judge", most=2)

    def test_is_said_in_full_and_exits_with_0(self, cluster: Cluster, refused: Any) -> None:
        assert refused.code == 0
        assert refused.outcome == "refused"
        assert list(keys_of(cluster, "job-1", "judge")) == ["count", "read"]
        assert "3 lines are more than 2" in refused.page("summary")
        assert cluster.record()["steps"]["judge"]["action"] == "refused"
        assert cluster.record()["steps"]["judge"]["message"] == "3 lines are more than 2"

    def test_is_said_again_by_another_run_without_the_work(self, cluster: Cluster, refused: Any) -> None:
        for step in ("read", "count"):
            cluster.here(step, "job-2", most=2)

        again, _ = cluster.task("judge", "job-2", most=2)

        assert again.outcome == "refused"
        assert again.reason == "nothing changed since it was refused"

    def test_ends_the_run_for_what_begins_after_it(self, cluster: Cluster, refused: Any) -> None:
        result, ended = cluster.task("apply", most=2)

        assert ended.code == 0
        assert ended.outcome == "skipped"
        assert result.message == "judge refused, and the run ends with that"
        assert keys_of(cluster, "job-1", "apply") == {"read": keys_of(cluster, "job-1", "read")["read"]}
        assert not (cluster.root / "store" / "apply").exists()

    def test_of_a_parent_skips_what_comes_after_it(self, cluster: Cluster) -> None:
        cluster.here("read")
        cluster.executions["job-1", "apply"] = cluster.executions["job-1", "read"]

        result, ended = cluster.task("fit")

        assert (ended.code, ended.outcome, result.message) == (0, "skipped", "apply was not done")


class TestNoNeedToGoOn:
    """A step that finds that what comes after is not needed has succeeded, for KFP and for us."""

    @pytest.fixture
    def enough(self, cluster: Cluster) -> Any:
        definition = cluster.project / "pipeline.yaml"
        definition.write_text(definition.read_text().replace('with: {most: "', 'with: {fewest: 4, most: "'))
        for step in ("read", "count"):
            cluster.here(step)
        return cluster.here("judge")

    def test_is_said_in_full_and_exits_with_0(self, cluster: Cluster, enough: Any) -> None:
        assert (enough.code, enough.outcome) == (0, "no need")
        assert list(keys_of(cluster, "job-1", "judge")) == ["count", "read"]
        assert "3 lines are fewer than 4" in enough.page("summary")
        assert cluster.record()["steps"]["judge"]["action"] == "no need"

    def test_is_said_again_by_another_run_without_the_work(self, cluster: Cluster, enough: Any) -> None:
        for step in ("read", "count"):
            cluster.here(step, "job-2")

        again, _ = cluster.task("judge", "job-2")

        assert (again.outcome, again.reason) == ("no need", "nothing changed since it found no need to go on")

    def test_skips_what_begins_after_it(self, cluster: Cluster, enough: Any) -> None:
        result, ended = cluster.task("apply")

        assert (ended.code, ended.outcome) == (0, "skipped")
        assert result.message == "judge found no need to go on, and the run ends with that"
        assert not (cluster.root / "store" / "apply").exists()


def test_a_failure_exits_with_1_and_says_nothing_to_kubeflow(cluster: Cluster) -> None:
    functions = Path("project_functions.py")
    functions.write_text(functions.read_text().replace("return scale(int(line)) * 2", "return 1 / 0"))
    cluster.here("read")

    result, ended = cluster.task("apply")

    assert ended.code == 1
    assert result.message.startswith("project_functions.py:6 in double: ZeroDivisionError")
    assert not ended.output_file.exists()
    assert cluster.record()["steps"]["apply"]["action"] == "failed"
    assert list((cluster.root / "staging").iterdir()) == []


def test_curves_that_cannot_be_drawn_are_no_failure(cluster: Cluster) -> None:
    steps = cluster.project / "project_steps.py"
    steps.write_text(
        steps.read_text()
        .replace("import Anomalies, Examples", "import Anomalies, Evaluation, Examples")
        .replace("statistics: Out[Statistics])", "statistics: Out[Evaluation])")
        .replace('properties["features"] = 1', 'properties["plots"] = 1')
        .replace('"count.json")', '"plots-00000-of-00001.tfrecord")', 1)
    )
    definition = cluster.project / "pipeline.yaml"
    judge = '  judge: {uses: project_steps.Judge, with: {most: "${parameters.most}"}}\n'
    definition.write_text(definition.read_text().replace(judge, ""))
    cluster.here("read")

    ended = cluster.here("count")

    assert ended.outcome == "done"
    assert ended.metadata("roc") == {}
    assert ended.metadata("statistics")["type"] == "ModelEvaluation"


def test_outputs_that_are_gone_are_a_failure_that_names_the_volume(cluster: Cluster) -> None:
    cluster.here("read")
    shutil.rmtree(cluster.root / "store" / "read")

    result, ended = cluster.task("apply")

    assert ended.code == 1
    assert f"Is the volume of the other pods mounted at {cluster.root}?" in result.message


class TestBadInput:
    """What KFP cannot mend by another attempt ends with 2."""

    def test_an_image_of_other_code_is_refused_with_both_sides_named(self, cluster: Cluster) -> None:
        cluster.here("read")
        expectation = expected(cluster.definition(), "apply").to_json()
        helpers = cluster.project / "project_helpers.py"
        helpers.write_text(helpers.read_text().replace("return number", "return number + 0"))

        ended = cluster.pod("apply", arguments=("--expect", expectation))

        assert ended.code == 2
        assert "project_helpers is " in ended.log
        assert "in the package and " in ended.log
        assert not ended.output_file.exists()

    def test_a_parameter_of_another_type(self, cluster: Cluster) -> None:
        with pytest.raises(
            ConfigError, match=r"parameter 'most': expected a whole number, found 2.5 \(its default is 100\)"
        ):
            cluster.here("read", most=2.5)

    def test_a_step_that_the_image_does_not_have(self, cluster: Cluster) -> None:
        given = cluster.given("read")

        with pytest.raises(ConfigError, match="there is no step 'raed' in toy. Did you mean 'read'?"):
            cluster.here("raed", given=given)

    def test_a_package_that_does_not_say_where_inputs_are(self, cluster: Cluster) -> None:
        cluster.here("read")
        given = cluster.given("count")
        del given["inputs"]["parameterValues"]["penstock_from_read"]

        with pytest.raises(ConfigError, match="no parameter 'penstock_from_read'"):
            cluster.here("count", given=given)
        assert cluster.record()["steps"]["count"]["action"] == "failed"

    @pytest.mark.parametrize("told", ['{"read": "../../etc"}', '{"other": "' + "0" * 64 + '"}', "[1]", "{"])
    def test_executions_that_are_none(self, cluster: Cluster, told: str) -> None:
        cluster.here("read")
        cluster.executions["job-1", "read"] = told

        with pytest.raises(ConfigError, match="parameter 'penstock_from_read'"):
            cluster.here("count")

    def test_a_task_by_hand_without_what_a_package_gives(self, cluster: Cluster) -> None:
        from pipeline.cli.step import run_step_as_task

        with pytest.raises(
            ConfigError, match="a task of Kubeflow's also has --root and --executor-input. On this machine"
        ):
            run_step_as_task("pipeline.yaml", "read", root=None, expect=None, executor_input=None)

    def test_a_task_is_not_forced(self, cluster: Cluster) -> None:
        from pipeline.cli.step import run_step_as_task

        with pytest.raises(ConfigError, match="To have read run each time, write `cache: false`"):
            run_step_as_task("pipeline.yaml", "read", root="/x", expect=None, executor_input="{}", force=True)


WATCHED = """
import json, os, sys

written = []


def note(event, arguments):
    if event == "open" and isinstance(arguments[0], (str, bytes)):
        if arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC):
            written.append(os.fsdecode(arguments[0]))
    elif event in ("os.mkdir", "os.remove", "os.rmdir", "os.rename", "os.symlink", "os.link", "os.truncate", "os.chmod"):
        written.extend(os.path.abspath(path) for path in arguments[:2] if isinstance(path, (str, bytes)))


def report(code):
    with open(os.environ["REPORT"], "w") as file:
        json.dump(written, file)
    real(code)


real, os._exit = os._exit, report
sys.dont_write_bytecode = True
sys.addaudithook(note)
from pipeline.cli.main import main

main(sys.argv[1:])
"""


def test_a_task_writes_to_the_volume_and_what_kubeflow_gives_it_and_nowhere_else(
    cluster: Cluster, tmp_path: Path
) -> None:
    given = cluster.given("read")
    home = tmp_path / "home"
    home.mkdir()
    arguments = ["step", "pipeline.yaml", "read", "--root", str(cluster.root), "--executor-input", json.dumps(given)]
    done = subprocess.run(
        [sys.executable, "-c", WATCHED, *arguments],
        cwd=cluster.project,
        env={
            "PATH": os.defpath,
            "HOME": str(home),
            "TMPDIR": str(home),
            "REPORT": str(tmp_path / "written"),
            "PYTHONPATH": str(Path(pipeline.__file__).parents[1]),
        },
        capture_output=True,
        text=True,
    )

    assert done.returncode == 0, done.stderr
    written = [Path(path) for path in json.loads((tmp_path / "written").read_text())]
    places = (cluster.volume, cluster.pods, home, Path("/dev"), Path("/proc"))
    assert [path for path in written if not any(path.is_relative_to(place) for place in places)] == [
        tmp_path / "written"
    ]
    assert any(path.is_relative_to(cluster.root / "staging") for path in written)
