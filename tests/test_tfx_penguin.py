"""TFX's penguin example in one definition with ours: its module file, unmodified, in TFX's components and in our own, to inference."""

from __future__ import annotations

import csv
import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

DEFINITION = """
name: penguins
root: store
seed: 7
steps:
  example_gen: {uses: ExampleGen, with: {source: data/labelled.csv}}
  unlabelled: {uses: tfx.v1.components.CsvExampleGen, with: {input_base: data/unlabelled}}
  schema_gen: {uses: tfx.v1.components.ImportSchemaGen, with: {schema_file: schema.pbtxt}}
  transform:
    uses: tfx.v1.components.Transform
    with: {module_file: models/penguin_utils_keras.py, disable_statistics: true}
    inputs: {examples: example_gen.examples}
  tuner:
    uses: Tuner
    with: {tuner_fn: models/penguin_utils_keras.py, steps: 2, eval_steps: 1}
  trainer:
    uses: tfx.v1.components.Trainer
    with: {module_file: models/penguin_utils_keras.py, train_args: {num_steps: 3}, eval_args: {num_steps: 1}}
    inputs: {examples: transform.transformed_examples, transform_graph: transform.transform_graph,
             schema: schema_gen.schema, hyperparameters: tuner.hyperparameters}
  bulk_inferrer:
    uses: tfx.v1.components.BulkInferrer
    with:
      model_spec: {model_signature_name: [serving_default]}
      output_example_spec:
        output_columns_spec: [{predict_output: {output_columns: [{output_key: outputs, output_column: outputs}]}}]
    inputs: {examples: unlabelled.examples, model: trainer.model}
  statistics_gen: {uses: StatisticsGen, inputs: {examples: bulk_inferrer.output_examples}}
"""


# Run, and planned after a change, by one process: it imports TFX once.
RUN_AND_PLAN = """
import json
from pathlib import Path

from pipeline.cli.plan import plan_pipeline
from pipeline.cli.run import run_pipeline

if __name__ == "__main__":
    ran = run_pipeline("pipeline.yaml")
    module = Path("models/penguin_utils_keras.py")
    module.write_text(module.read_text().replace("max_trials=6", "max_trials=5"))
    plan = [step.as_json() for step in plan_pipeline("pipeline.yaml")]
    Path("answer.json").write_text(json.dumps({"ran": ran.as_json(), "plan": plan}))
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A directory with TFX's module file, 84 penguins as CSV, and the definition."""
    import tensorflow as tf

    spec = importlib.util.find_spec("tfx")
    assert spec is not None
    assert spec.submodule_search_locations
    tfx = Path(spec.submodule_search_locations[0])
    testdata = tfx / "components/testdata/penguin"
    rows = []
    for record in tf.data.TFRecordDataset(
        [str(file) for file in sorted(testdata.glob("data/*/*.gz"))], compression_type="GZIP"
    ).shard(4, 0):
        features = tf.train.Example.FromString(record.numpy()).features.feature
        rows.append({name: (one.int64_list.value or one.float_list.value)[0] for name, one in features.items()})
    names = sorted(rows[0])
    for place, columns in (
        ("labelled.csv", names),
        ("unlabelled/data.csv", [name for name in names if name != "species"]),
    ):
        file = tmp_path / "data" / place
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("w", newline="", encoding="utf-8") as lines:
            writer = csv.DictWriter(lines, columns, extrasaction="ignore")
            writer.writeheader()
            writer.writerows(rows)
    (tmp_path / "models").mkdir()
    shutil.copy(tfx / "examples/penguin/penguin_utils_keras.py", tmp_path / "models")
    shutil.copy(testdata / "schema/schema.pbtxt", tmp_path)
    (tmp_path / "pipeline.yaml").write_text(DEFINITION)
    return tmp_path


@pytest.mark.slow
def test_one_module_file_serves_TFX_s_components_and_ours_and_a_change_in_it_reruns_those_alone(project: Path) -> None:
    (project / "run_and_plan.py").write_text(RUN_AND_PLAN)
    command = [sys.executable, "run_and_plan.py"]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    answer = json.loads((project / "answer.json").read_text())
    ran, plan = answer["ran"], {step["step"]: step for step in answer["plan"]}

    assert {name: step["action"] for name, step in ran["steps"].items()} == dict.fromkeys(
        [
            *("example_gen", "unlabelled", "schema_gen", "transform", "tuner", "trainer"),
            *("bulk_inferrer", "statistics_gen"),
        ],
        "run",
    )
    (statistics,) = (project / "store/store/statistics_gen").glob("*/statistics/Split-train/FeatureStats.pb")
    assert b"outputs" in statistics.read_bytes()

    assert {name for name, step in plan.items() if step["action"] == "reuse"} == {
        "example_gen",
        "unlabelled",
        "schema_gen",
    }
    assert plan["transform"]["reasons"] == ["models/penguin_utils_keras.py: tuner_fn changed"]
