"""Evaluator against TFX's on taxi replicas: three slicings, five metrics; and against what the model's answers alone take.

    PYTHONPATH=. python tests/benchmarks/evaluator.py [--rows 15000 150000 1500000] [--repeats 3] [--data DIRECTORY]
        [--baseline] [--general]

`rows` are those of the whole data set; a third of them is evaluated, as in the taxi pipeline. With `--baseline` a second
model, the same one, is compared with. With `--general` there is "ours, TFMA" too, ours with a metric that has no vectorised form,
so that TFMA's own pipeline computes. "predict" reads the same records and asks `serving_default` of a loaded model in batches as large. Seconds are the executor's
own, without imports. Each run is a fresh process, and the variants take turns.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import harness

METRICS = ("AUC", "BinaryAccuracy", "Precision", "Recall", "ExampleCount")
SLICES = ((), ("trip_start_hour",), ("payment_type",))


def main() -> None:
    parser = harness.parser(__doc__)
    parser.add_argument("--baseline", action="store_true", help="compare with a second model")
    parser.add_argument("--general", action="store_true", help="ours with a metric that has no vectorised form too")
    args = parser.parse_args()
    print(harness.load())
    print(harness.HEAD)
    for rows in args.rows:
        harness.taxi_replicas(rows, args.data)
        harness.measure(Path(__file__), {"": ("prepare", str(args.data), str(rows))}, 1)
        model = str(args.data / "model")
        shared = [str(args.data / f"examples-{rows}"), model, model, *(["baseline"] if args.baseline else [])]
        names = ["TFX", "ours", "predict"] if rows <= args.vanilla_rows else ["ours", "predict"]
        names += ["ours, TFMA"] if args.general else []
        found = harness.measure(Path(__file__), {name: [name, *shared] for name in names}, args.repeats)
        print(harness.table(rows, found, against="TFX"), flush=True)
    print(harness.load())


def prepare(data: Path, rows: int) -> None:
    """Examples of `rows` trips, and a model trained on the 15,000 real ones, where an earlier run left none."""
    for needed in (rows, 15_000):
        if not (data / f"examples-{needed}").exists():
            _example_gen(data, needed, data / f"examples-{needed}")
    if not (data / "model").exists():
        _train(data, data / "model")


def _example_gen(data: Path, rows: int, to: Path) -> None:
    from components.data.example_gen import ExampleGen
    from schemas.artifacts import Examples
    from schemas.component import BeamOptions, Progress

    unfinished = to.with_suffix(".part")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    source = str(harness.taxi_replicas(rows, data))
    ExampleGen(source=source, splits={"train": 2, "eval": 1}).run(BeamOptions(), Progress(), Examples(unfinished))
    unfinished.rename(to)


def _train(data: Path, to: Path) -> None:
    from components.data.schema_gen import ImportSchema
    from components.features.transform import Transform
    from components.model.trainer import Trainer
    from schemas.artifacts import Examples, FeatureSchema, Model
    from schemas.component import BeamOptions, Progress, Scratch, Seed

    examples = data / "examples-15000"
    with tempfile.TemporaryDirectory(dir=data) as directory:
        made = {name: Path(directory) / name for name in ("schema", "model", "scratch")}
        for path in made.values():
            path.mkdir()
        schema, outputs = FeatureSchema(made["schema"]), harness.outputs(Transform, Path(directory) / "transform")
        ImportSchema(path="schemas/datasets/taxi.pbtxt").run(schema)
        Transform(preprocessing_fn="configs.taxi.features.preprocessing_fn").run(
            Examples(examples), schema, BeamOptions(), Progress(), **outputs
        )
        Trainer(build_model="configs.taxi.model.build_model", steps=200).run(
            outputs["transformed_examples"],
            outputs["transform_graph"],
            schema,
            seed=Seed(13),
            scratch=Scratch(made["scratch"]),
            progress=Progress(),
            model=Model(made["model"]),
        )
        made["model"].rename(to)


def child(arguments: list[str]) -> None:
    if arguments[0] == "prepare":
        with harness.timed():
            prepare(Path(arguments[1]), int(arguments[2]))
        return
    kind, examples, model, baseline = arguments[0], *(Path(argument) for argument in arguments[1:4])
    with tempfile.TemporaryDirectory() as directory:
        served = baseline if len(arguments) > 4 else None
        if kind == "predict":
            _predict(examples, model)
        elif kind == "TFX":
            _tfx(examples, model, served, Path(directory))
        else:
            _ours(kind, examples, model, served, Path(directory))


def _ours(kind: str, examples: Path, model: Path, baseline: Path | None, to: Path) -> None:
    import apache_beam  # noqa: F401
    import tensorflow_model_analysis  # noqa: F401

    from components.model.evaluator import Evaluator
    from schemas.artifacts import Blessing, Evaluation, Examples, Model
    from schemas.component import Baseline, BeamOptions, Progress

    evaluator = Evaluator(
        label="big_tip", slices=SLICES, metrics=(*METRICS, *(("CalibrationPlot",) if kind == "ours, TFMA" else ()))
    )
    evaluation, blessing = Evaluation(to / "evaluation"), Blessing(to / "blessing")
    evaluation.path.mkdir()
    blessing.path.mkdir()
    served = Baseline(path=Model(baseline).serving, digest="sha256:served", version=1) if baseline else Baseline()
    with harness.timed():
        evaluator.run(Examples(examples), Model(model), served, BeamOptions(), Progress(), evaluation, blessing)


def _tfx(examples: Path, model: Path, baseline: Path | None, to: Path) -> None:
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


def _predict(examples: Path, model: Path) -> None:
    """The answers to the eval split's records, nothing done with them."""
    import tensorflow as tf

    from components.io import tfrecord
    from components.model.evaluator import Evaluator
    from schemas.artifacts import Examples, Model

    size = Evaluator(label="big_tip").batch_size
    served = tf.saved_model.load(str(Model(model).serving))
    predict = served.signatures["serving_default"]
    predict(examples=tf.constant(next(tfrecord.read_batches(Examples(examples).files("eval")[0], 1))))
    with harness.timed():
        for file in Examples(examples).files("eval"):
            for records in tfrecord.read_batches(file, size):
                predict(examples=tf.constant(records))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        harness.child(child)
    else:
        main()
