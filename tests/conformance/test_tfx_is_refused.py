"""The negative proof: what TFX's own compiler for Kubeflow writes is refused by the harness, and for the right reasons."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
from kfp_backend.package import parse_package, problems_of, read_package
from kfp_backend.rules import Rejected

# In a process of its own: TFX brings protos of pipeline_spec that have kfp's names.
COMPILE = """
import sys
import tensorflow_model_analysis as tfma
from tfx import v1 as tfx

c = tfx.components
examples = c.CsvExampleGen(input_base="/data")
statistics = c.StatisticsGen(examples=examples.outputs["examples"])
schema = c.SchemaGen(statistics=statistics.outputs["statistics"])
trainer = c.Trainer(
    run_fn="model.run_fn",
    examples=examples.outputs["examples"],
    schema=schema.outputs["schema"],
    train_args=tfx.proto.TrainArgs(num_steps=10),
    eval_args=tfx.proto.EvalArgs(num_steps=1),
)
latest = tfx.dsl.Resolver(
    strategy_class=tfx.dsl.experimental.LatestBlessedModelStrategy,
    model=tfx.dsl.Channel(type=tfx.types.standard_artifacts.Model),
    model_blessing=tfx.dsl.Channel(type=tfx.types.standard_artifacts.ModelBlessing),
).with_id("latest_blessed")
evaluator = c.Evaluator(
    examples=examples.outputs["examples"],
    model=trainer.outputs["model"],
    baseline_model=latest.outputs["model"],
    eval_config=tfma.EvalConfig(),
)
pusher = c.Pusher(
    model=trainer.outputs["model"],
    model_blessing=evaluator.outputs["blessing"],
    push_destination=tfx.proto.PushDestination(
        filesystem=tfx.proto.PushDestination.Filesystem(base_directory="/serving")
    ),
)
pipeline = tfx.dsl.Pipeline(
    pipeline_name="chicago-taxi",
    pipeline_root="minio://mlpipeline/v2/artifacts",
    components=[examples, statistics, schema, trainer, latest, evaluator, pusher],
)
config = tfx.orchestration.experimental.KubeflowV2DagRunnerConfig(default_image="registry.example.com/tfx:1.16")
runner = tfx.orchestration.experimental.KubeflowV2DagRunner(config=config, output_filename=sys.argv[1])
runner.run(pipeline, write_out=True)
"""


@pytest.fixture(scope="module")
def compiled_by_tfx(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What TFX's KubeflowV2DagRunner writes for the pipeline of its own tutorial."""
    file = tmp_path_factory.mktemp("tfx") / "pipeline.json"
    done = subprocess.run([sys.executable, "-c", COMPILE, str(file)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(file.read_text())
    return found


@pytest.mark.slow
def test_what_tfx_writes_is_a_pipeline_job_which_nobody_can_upload(compiled_by_tfx: dict[str, Any]) -> None:
    with pytest.raises(Rejected, match="is_a_bare_pipeline_spec: .*displayName") as refused:
        read_package(json.dumps(compiled_by_tfx))

    assert refused.value.rules == {"is_a_bare_pipeline_spec"}


@pytest.mark.slow
def test_the_pipeline_spec_inside_it_is_refused_for_what_facts_say_of_it(compiled_by_tfx: dict[str, Any]) -> None:
    package = parse_package(json.dumps(compiled_by_tfx["pipelineSpec"]))
    found: dict[str, list[str]] = {}
    for problem in problems_of(package):
        found.setdefault(problem.rule, []).append(problem.message)

    assert set(found) == {
        "schema_version_is_2_1_0",
        "only_containers_run",
        "no_lifecycle_hook_is_expected",
        "parameters_have_types",
        "task_inputs_can_be_resolved",
        "task_names_are_workflow_names",
    }
    assert "version 2.0.0" in found["schema_version_is_2_1_0"][0]
    assert found["only_containers_run"] == [
        "latest_blessed-model-blessing-resolver_executor: resolver executors are not implemented",
        "latest_blessed-model-resolver_executor: resolver executors are not implemented",
    ]
    assert found["no_lifecycle_hook_is_expected"] == ["CsvExampleGen_executor: lifecycle.preCacheCheck is ignored"]
    assert "CsvExampleGen.input_base: unspecified type" in found["parameters_have_types"]
    assert all("of type constant_value not implemented" in message for message in found["task_inputs_can_be_resolved"])


@pytest.mark.slow
def test_nor_does_it_get_through_with_its_schema_version_changed_by_hand(compiled_by_tfx: dict[str, Any]) -> None:
    with pytest.raises(Rejected) as refused:
        read_package(json.dumps(compiled_by_tfx["pipelineSpec"] | {"schemaVersion": "2.1.0"}))

    assert {"only_containers_run", "parameters_have_types"} <= refused.value.rules
    assert "schema_version_is_2_1_0" not in refused.value.rules
