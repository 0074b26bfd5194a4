"""Evaluator against TFX 1.16's executor: three slicings, five metrics, one model; fresh processes in turn.

    python tests/benchmarks/evaluator.py [--rows 15000 150000] [--repeats 3] [--work DIR] [--baseline]

`rows` are those of the whole data set; a third of them is evaluated, as in the taxi pipeline. With `--baseline` a second
model, the same one, is compared with. `general` is ours with a metric that has no vectorised form, so that TFMA computes.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path

import harness

METRICS = ("AUC", "BinaryAccuracy", "Precision", "Recall", "ExampleCount")
SLICES = ((), ("trip_start_hour",), ("payment_type",))


def prepare(work: Path, rows: int) -> tuple[Path, Path]:
    """Examples of `rows` trips and a model trained on the 15,000 real ones; made once per working directory."""
    examples, model = work / f"examples-{rows}", work / "model"
    if not examples.exists():
        _example_gen(work, rows, examples)
    if not model.exists():
        _train(work, model)
    return examples, model


def _example_gen(work: Path, rows: int, to: Path) -> None:
    from components.data.example_gen import ExampleGen
    from schemas.artifacts import Examples
    from schemas.component import BeamOptions, Progress

    unfinished = to.with_suffix(".part")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    source = str(harness.taxi_replicas(rows, work))
    ExampleGen(source=source, splits={"train": 2, "eval": 1}).run(BeamOptions(), Progress(), Examples(unfinished))
    unfinished.rename(to)


def _train(work: Path, to: Path) -> None:
    from components.data.schema_gen import ImportSchema
    from components.features.transform import Transform
    from components.model.trainer import Trainer
    from schemas.artifacts import Examples, FeatureSchema, Model, TransformedExamples, TransformGraph
    from schemas.component import BeamOptions, Progress, Scratch, Seed

    examples = work / "examples-15000"
    if not examples.exists():
        _example_gen(work, 15000, examples)
    with tempfile.TemporaryDirectory(dir=work) as directory:
        made = {name: Path(directory) / name for name in ("schema", "graph", "transformed", "model", "scratch")}
        for path in made.values():
            path.mkdir()
        schema, graph = FeatureSchema(made["schema"]), TransformGraph(made["graph"])
        transformed = TransformedExamples(made["transformed"])
        ImportSchema(path="schemas/datasets/taxi.pbtxt").run(schema)
        Transform(preprocessing_fn="configs.taxi.features.preprocessing_fn").run(
            Examples(examples), schema, BeamOptions(), Progress(), graph, transformed
        )
        Trainer(build_model="configs.taxi.model.build_model", steps=200).run(
            transformed,
            graph,
            schema,
            seed=Seed(13),
            scratch=Scratch(made["scratch"]),
            progress=Progress(),
            model=Model(made["model"]),
        )
        made["model"].rename(to)


def child(arguments: list[str]) -> None:
    kind, examples, model, baseline = arguments[0], *(Path(argument) for argument in arguments[1:4])
    with tempfile.TemporaryDirectory() as directory:
        run = _tfx if kind == "TFX" else _ours
        run(kind, examples, model, baseline if len(arguments) > 4 else None, Path(directory))


def _ours(kind: str, examples: Path, model: Path, baseline: Path | None, to: Path) -> None:
    import apache_beam  # noqa: F401
    import tensorflow_model_analysis  # noqa: F401

    from components.model.evaluator import Evaluator
    from schemas.artifacts import Blessing, Evaluation, Examples, Model
    from schemas.component import Baseline, BeamOptions, Progress

    evaluator = Evaluator(
        label="big_tip", slices=SLICES, metrics=(*METRICS, *(("CalibrationPlot",) if kind == "general" else ()))
    )
    evaluation, blessing = Evaluation(to / "evaluation"), Blessing(to / "blessing")
    evaluation.path.mkdir()
    blessing.path.mkdir()
    served = Baseline(path=Model(baseline).serving, digest="sha256:served", version=1) if baseline else Baseline()
    with harness.timed():
        evaluator.run(Examples(examples), Model(model), served, BeamOptions(), Progress(), evaluation, blessing)


def _tfx(_: str, examples: Path, model: Path, baseline: Path | None, to: Path) -> None:
    import tensorflow_model_analysis as tfma
    from google.protobuf import json_format
    from tfx.components.evaluator.executor import Executor
    from tfx.types import artifact_utils, standard_artifacts
    from tfx.utils import json_utils

    def spec(**named: object) -> tfma.ModelSpec:
        return tfma.ModelSpec(
            signature_name="serving_default",
            label_key="big_tip",
            preprocessing_function_names=["transform_features"],
            **named,
        )

    config = tfma.EvalConfig(
        model_specs=[spec(name="candidate"), spec(name="baseline", is_baseline=True)] if baseline else [spec()],
        slicing_specs=[tfma.SlicingSpec(feature_keys=features) for features in SLICES],
        metrics_specs=[tfma.MetricsSpec(metrics=[tfma.MetricConfig(class_name=name) for name in METRICS])],
    )
    config.options.include_default_metrics.value = False
    given = {"examples": [standard_artifacts.Examples()], "model": [standard_artifacts.Model()]}
    given["examples"][0].uri = str(examples)
    given["examples"][0].split_names = artifact_utils.encode_split_names(["eval"])
    given["model"][0].uri = str(model)
    if baseline:
        given["baseline_model"] = [standard_artifacts.Model()]
        given["baseline_model"][0].uri = str(baseline)
    made = {"evaluation": [standard_artifacts.ModelEvaluation()], "blessing": [standard_artifacts.ModelBlessing()]}
    for name, (artifact,) in made.items():
        artifact.uri = str(to / name)
    # In-memory, named outright: Beam's default tries to download a binary.
    beam = Executor.Context(
        beam_pipeline_args=[
            "--runner=apache_beam.runners.portability.fn_api_runner.FnApiRunner",
            "--no_pipeline_type_check",
        ],
        tmp_dir=str(to / "tmp"),
        unique_id="1",
    )
    properties = {"eval_config": json_format.MessageToJson(config), "example_splits": json_utils.dumps(["eval"])}
    with harness.timed():
        Executor(beam).Do(given, made, properties)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[15000, 150000])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "bench-evaluator")
    parser.add_argument("--variants", nargs="+", default=["TFX", "ours"], choices=["TFX", "ours", "general"])
    parser.add_argument("--baseline", action="store_true", help="compare with a second model")
    asked = parser.parse_args()
    print(harness.load(), flush=True)
    print(harness.HEAD, flush=True)
    for rows in asked.rows:
        examples, model = prepare(asked.work, rows)
        shared = [str(examples), str(model), str(model), *(["baseline"] if asked.baseline else [])]
        found = harness.measure(Path(__file__), {name: [name, *shared] for name in asked.variants}, asked.repeats)
        print(harness.table(rows, found, against="TFX"), flush=True)
    print(harness.load())


if __name__ == "__main__":
    import sys

    if sys.argv[1:2] == ["--child"]:
        harness.child(child)
    else:
        main()
