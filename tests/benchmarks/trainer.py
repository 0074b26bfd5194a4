"""Trainer against TFX's GenericExecutor on the taxi data, and against the training loop alone.

    PYTHONPATH=. python tests/benchmarks/trainer.py [--steps 1000] [--repeats 3] [--data DIRECTORY]

All train the same architecture for as many steps on the same transformed examples of the 15,002 trips, validate on the whole
eval split and save with the transform graph inside. "TFX" is TFX's taxi example (`tfx_taxi.py`) as it would run in a
project of TFX's, with Keras 3; "TFX, no strategy" the same without its MirroredStrategy; "TFX, tf_keras" that with ours of the
two versions of Keras. "loop" are the steps alone, once the model is traced: the limit of what can be saved around them. Seconds
are the executor's own, without imports. Each run is a fresh process, and the variants take turns. Rows are those trained on.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import harness

BATCH_SIZE = 64
EVAL_STEPS = 78  # the whole eval split
VARIANTS = ("TFX", "TFX, no strategy", "TFX, tf_keras", "ours", "loop")


def measure(data: Path, steps: int, repeats: int) -> dict[str, dict[str, float]]:
    """Seconds and peak memory of every variant."""
    data.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=data) as made:
        harness.measure(Path(__file__), {"": ("make", made, str(steps))}, 1)
        return harness.measure(Path(__file__), {name: (name, made, str(steps)) for name in VARIANTS}, repeats)


def main() -> None:
    parser = harness.repeated(__doc__)
    parser.add_argument("--steps", type=int, default=1000)
    args = parser.parse_args()
    print(harness.load())
    print(harness.HEAD)
    print(harness.table(args.steps * BATCH_SIZE, measure(args.data, args.steps, args.repeats), against="TFX"))
    print(harness.load())


def child(arguments: list[str]) -> None:
    variant, given, steps = arguments[0], Path(arguments[1]), int(arguments[2])
    os.environ["TF_USE_LEGACY_KERAS"] = "0" if variant in ("TFX", "TFX, no strategy") else "1"
    with tempfile.TemporaryDirectory() as to:
        if variant == "make":
            make(given)
        elif variant == "ours":
            ours(given, steps, Path(to))
        elif variant == "loop":
            loop(given, steps)
        else:
            vanilla(given, steps, Path(to), strategy=variant == "TFX")


def make(to: Path) -> None:
    """Transformed examples of the real trips, and their transform graph."""
    from components.data.example_gen import ExampleGen
    from components.data.schema_gen import ImportSchema
    from components.features.transform import Transform
    from schemas.artifacts import Examples, FeatureSchema
    from schemas.component import BeamOptions, Progress

    examples, schema = Examples(to / "examples"), FeatureSchema(to / "schema")
    outputs = harness.outputs(Transform, to)
    for artifact in (examples, schema):
        artifact.path.mkdir()
    with harness.timed():
        source = "pkg://tfx/examples/chicago_taxi_pipeline/data/simple/*.csv"
        ExampleGen(source=source).run(BeamOptions(), Progress(), examples)
        ImportSchema(path=str(harness.ROOT / "schemas/datasets/taxi.pbtxt")).run(schema)
        Transform(preprocessing_fn="configs.taxi.features.preprocessing_fn").run(
            examples, schema, BeamOptions(), Progress(), **outputs
        )


def ours(given: Path, steps: int, to: Path) -> None:
    import tensorflow_transform  # noqa: F401 (imports are not measured)

    from components.io.keras import keras_tuner
    from components.model.trainer import Trainer
    from schemas.artifacts import Model, TransformedExamples, TransformGraph
    from schemas.component import Progress, Scratch, Seed

    keras_tuner()
    scratch, model = Scratch(to / "scratch"), Model(to / "model")
    scratch.path.mkdir()
    model.path.mkdir()
    with harness.timed():
        Trainer(build_model="configs.taxi.model.build_model", steps=steps, batch_size=BATCH_SIZE).run(
            TransformedExamples(given / "transformed_examples"),
            TransformGraph(given / "transform_graph"),
            seed=Seed(13),
            scratch=scratch,
            progress=Progress(),
            model=model,
        )


def vanilla(given: Path, steps: int, to: Path, *, strategy: bool) -> None:
    import tfx.v1  # noqa: F401
    from tfx.components.trainer.executor import GenericExecutor
    from tfx.types import standard_artifacts

    from components.io import tfx as tfx_io
    from schemas.artifacts import Examples

    def artifact(kind: str, path: Path) -> list[object]:
        found = getattr(standard_artifacts, kind)()
        found.uri = str(path)
        return [found]

    with harness.timed():
        GenericExecutor(GenericExecutor.Context(tmp_dir=str(to / "tmp"), unique_id="1")).Do(
            {
                "examples": [tfx_io.tfx_examples(Examples(given / "transformed_examples"))],
                "transform_graph": artifact("TransformGraph", given / "transform_graph"),
                "schema": artifact("Schema", given / "schema"),
            },
            {"model": artifact("Model", to / "model"), "model_run": artifact("ModelRun", to / "model_run")},
            {
                "module_file": str(Path(__file__).parent / "tfx_taxi.py"),
                "train_args": json.dumps({"num_steps": steps}),
                "eval_args": json.dumps({"num_steps": EVAL_STEPS}),
                "custom_config": json.dumps({"strategy": strategy}),
            },
        )


def loop(given: Path, steps: int) -> None:
    """The compiled training step on batches that are in memory, as Keras wrote it, without callbacks."""
    import itertools

    import tensorflow as tf

    from components.io.keras import spare_libraries_autograph
    from components.model import hyperparameters
    from components.model.computing import make_reproducible
    from components.model.training_data import open_splits
    from schemas.artifacts import TransformedExamples, TransformGraph

    spare_libraries_autograph()
    make_reproducible(13)
    graph = TransformGraph(given / "transform_graph")
    model = hyperparameters.build("configs.taxi.model.build_model", hyperparameters.read(None, {}), graph)
    examples = TransformedExamples(given / "transformed_examples")
    data = open_splits(model, examples, graph, None, BATCH_SIZE, "train", "eval")
    batches = list(data.train.in_order())
    step = model.make_train_function()
    step(iter(tf.data.Dataset.from_tensors(batches[0])))
    every = tf.data.Dataset.from_tensor_slices(
        tf.nest.map_structure(lambda *parts: tf.stack(parts), *batches[: len(batches) - 1])
    ).repeat()
    pulled = iter(every)
    step(pulled)
    with harness.timed():
        for _ in itertools.repeat(None, steps):
            found = step(pulled)
        float(found["loss"])


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        harness.child(child)
    else:
        main()
