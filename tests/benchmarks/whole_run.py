"""The whole taxi run against a pipeline of TFX's, cold, and the same run again with nothing changed.

    PYTHONPATH=. python tests/benchmarks/whole_run.py [--steps 1000] [--repeats 3] [--data DIRECTORY]

The 15,002 trips, the features, architecture and number of steps of configs/taxi on both sides, and neither Tuner nor
InfraValidator: TFX's taxi pipeline has none. TFX: CsvExampleGen, StatisticsGen, an imported schema, ExampleValidator, Transform, Trainer, Resolver, Evaluator,
Pusher under LocalDagRunner, in-memory Beam and Keras 3. Ours: `pipeline run` of configs/taxi/pipeline.yaml without these two. Seconds
are those of the whole process, imports included, each time with a store of its own; "again" is the same command a second time.
The variants take turns. Peak memory is that of the largest process.
"""

from __future__ import annotations

import compileall
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ruamel.yaml import YAML

sys.path.insert(0, str(Path(__file__).parent))
import harness

ROWS = 15_002
EVAL_STEPS = 78  # the whole eval split
IMPORT = "import of tfx.v1"


@dataclass
class Measured:
    """What was found: `variants` as the harness has them, `steps` the peak memory of each of our steps in MB."""

    variants: dict[str, dict[str, float]]
    steps: dict[str, float] = field(default_factory=dict)


def measure(data: Path, steps: int, repeats: int) -> Measured:
    """Median seconds and largest peak memory of every variant, and of each of our steps its largest peak memory."""
    data.mkdir(parents=True, exist_ok=True)
    for package in ("schemas", "components", "pipeline", "configs", "tests/benchmarks"):
        compileall.compile_dir(harness.ROOT / package, quiet=1)  # as what is installed is
    found: dict[str, list[dict[str, float]]] = {}
    peaks: dict[str, float] = {}
    for _ in range(repeats):
        with tempfile.TemporaryDirectory(dir=data) as directory:
            work = Path(directory)
            ours, theirs = our_command(work / "ours", steps), their_command(work / "tfx", steps)
            for name, command in (("TFX", theirs), ("ours", ours), ("TFX, again", theirs), ("ours, again", ours)):
                found.setdefault(name, []).append(timed(name, command))
            found.setdefault(IMPORT, []).append(timed(IMPORT, [sys.executable, "-c", "import tfx.v1"]))
            for step, peak in step_peaks(work / "ours").items():
                peaks[step] = max(peak, peaks.get(step, 0.0))
            found["ours"][-1]["peak_mb"] = max(found["ours"][-1]["peak_mb"], *peaks.values())
    medians = {
        name: {
            "seconds": statistics.median(one["seconds"] for one in every),
            "peak_mb": max(one["peak_mb"] for one in every),
        }
        for name, every in found.items()
    }
    return Measured(medians, peaks)


def timed(name: str, command: Sequence[str]) -> dict[str, float]:
    """Run a command to its end: seconds, and the peak memory in MB of its largest process that was waited for."""
    with tempfile.TemporaryFile("w+") as said:
        started = time.perf_counter()
        process = subprocess.Popen(
            command, env=harness.environment(), cwd=harness.ROOT, stdout=said, stderr=subprocess.STDOUT
        )
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            said.seek(0)
            sys.exit(f"{name}: the process ended with {process.returncode}\n{said.read()[-3000:]}")
    return {"seconds": seconds, "peak_mb": usage.ru_maxrss / 1024}


def our_command(work: Path, steps: int) -> list[str]:
    """`pipeline run` of the taxi definition without the steps that TFX's has not, pushing below `work`."""
    work.mkdir(parents=True)
    definition = YAML(typ="safe").load(harness.ROOT / "configs/taxi/pipeline.yaml")
    for step in ("tuner", "infra_validator"):
        del definition["steps"][step]
    for gate in ("latency", "parity"):  # which InfraValidator checks
        del definition["release"][gate]
    file = work / "pipeline.yaml"
    YAML().dump(definition, file)
    settings = {
        "pusher.destination": str(work / "serving"),
        "parameters.train_steps": str(steps),
        "trainer.batch_size": "64",
    }
    overrides = [argument for name, value in settings.items() for argument in ("--set", f"{name}={value}")]
    return [sys.executable, "-m", "pipeline.cli.main", "run", str(file), "--root", str(work / "store"), *overrides]


def step_peaks(work: Path) -> Mapping[str, float]:
    """The peak memory in MB of the process of each step, from what the steps wrote of themselves."""
    manifests = [
        json.loads(file.read_text(encoding="utf-8")) for file in (work / "store/store").glob("*/*/manifest.json")
    ]
    return {manifest["step"]: manifest["peak_bytes"] / 2**20 for manifest in manifests}


def their_command(work: Path, steps: int) -> list[str]:
    """TFX's pipeline as a process of its own; what it makes is below `work`."""
    work.mkdir(parents=True)
    return [sys.executable, str(Path(__file__).resolve()), "--tfx", str(work), str(steps)]


def run_tfx(work: Path, steps: int) -> None:
    """TFX's taxi example with our features, architecture, slicings and threshold."""
    import tensorflow_model_analysis as tfma
    import tfx.v1 as tfx
    from tfx.types.standard_artifacts import Model, ModelBlessing

    source = work / "csv"
    if not source.exists():
        source.mkdir()
        shutil.copy(harness.taxi_source(), source / "data.csv")
    splits = [
        tfx.proto.SplitConfig.Split(name="train", hash_buckets=2),
        tfx.proto.SplitConfig.Split(name="eval", hash_buckets=1),
    ]
    example_gen = tfx.components.CsvExampleGen(
        input_base=str(source),
        output_config=tfx.proto.Output(split_config=tfx.proto.SplitConfig(splits=splits)),
    )
    examples = example_gen.outputs["examples"]
    statistics_gen = tfx.components.StatisticsGen(examples=examples)
    schema_gen = tfx.components.ImportSchemaGen(schema_file=str(harness.ROOT / "schemas/datasets/taxi.pbtxt"))
    schema = schema_gen.outputs["schema"]
    validator = tfx.components.ExampleValidator(statistics=statistics_gen.outputs["statistics"], schema=schema)
    transform = tfx.components.Transform(examples=examples, schema=schema, preprocessing_fn="tfx_taxi.preprocessing_fn")
    trainer = tfx.components.Trainer(
        run_fn="tfx_taxi.run_fn",  # by its name: module_file would be packed and installed by pip
        examples=transform.outputs["transformed_examples"],
        transform_graph=transform.outputs["transform_graph"],
        schema=schema,
        train_args=tfx.proto.TrainArgs(num_steps=steps),
        eval_args=tfx.proto.EvalArgs(num_steps=EVAL_STEPS),
    )
    resolver = tfx.dsl.Resolver(
        strategy_class=tfx.dsl.experimental.LatestBlessedModelStrategy,
        model=tfx.dsl.Channel(type=Model),
        model_blessing=tfx.dsl.Channel(type=ModelBlessing),
    ).with_id("latest_blessed_model_resolver")
    threshold = tfma.MetricThreshold(
        value_threshold=tfma.GenericValueThreshold(lower_bound={"value": 0.7}),
        change_threshold=tfma.GenericChangeThreshold(
            direction=tfma.MetricDirection.HIGHER_IS_BETTER, absolute={"value": -0.01}
        ),
    )
    names = ("BinaryAccuracy", "Precision", "Recall", "ExampleCount", "BinaryCrossEntropy")
    config = tfma.EvalConfig(
        model_specs=[
            tfma.ModelSpec(
                signature_name="serving_default",
                label_key="big_tip",
                preprocessing_function_names=["transform_features"],
            )
        ],
        slicing_specs=[tfma.SlicingSpec(), tfma.SlicingSpec(feature_keys=["trip_start_hour"])],
        metrics_specs=[
            tfma.MetricsSpec(
                metrics=[
                    tfma.MetricConfig(class_name="AUC", threshold=threshold),
                    *(tfma.MetricConfig(class_name=name) for name in names),
                ]
            )
        ],
    )
    evaluator = tfx.components.Evaluator(
        examples=examples,
        model=trainer.outputs["model"],
        baseline_model=resolver.outputs["model"],
        eval_config=config,
    )
    pusher = tfx.components.Pusher(
        model=trainer.outputs["model"],
        model_blessing=evaluator.outputs["blessing"],
        push_destination=tfx.proto.PushDestination(
            filesystem=tfx.proto.PushDestination.Filesystem(base_directory=str(work / "serving"))
        ),
    )
    # In-memory, named outright: Beam's default tries to download a binary.
    beam = ["--runner=apache_beam.runners.portability.fn_api_runner.FnApiRunner", "--no_pipeline_type_check"]
    tfx.orchestration.LocalDagRunner().run(
        tfx.dsl.Pipeline(
            pipeline_name="chicago-taxi",
            pipeline_root=str(work / "pipelines"),
            components=[
                *(example_gen, statistics_gen, schema_gen, validator, transform),
                *(trainer, resolver, evaluator, pusher),
            ],
            enable_cache=True,
            metadata_connection_config=tfx.orchestration.metadata.sqlite_metadata_connection_config(
                str(work / "metadata.db")
            ),
            beam_pipeline_args=beam,
        )
    )
    if not list((work / "serving").glob("*/saved_model.pb")):
        sys.exit("TFX's pipeline pushed no model")


def main() -> None:
    parser = harness.repeated(__doc__)
    parser.add_argument("--steps", type=int, default=1000)
    args = parser.parse_args()
    print(harness.load())
    found = measure(args.data, args.steps, args.repeats)
    print(harness.HEAD)
    print(harness.table(ROWS, found.variants, against="TFX"))
    print("\n| our step | peak RSS MB |\n|---|---|")
    for step, peak in sorted(found.steps.items(), key=lambda one: -one[1]):
        print(f"| {step} | {peak:.0f} |")
    print(harness.load())


if __name__ == "__main__":
    if sys.argv[1:2] == ["--tfx"]:
        run_tfx(Path(sys.argv[2]), int(sys.argv[3]))
    else:
        main()
