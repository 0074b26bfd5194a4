"""Transform against TFX's on taxi replicas, and against what TensorFlow needs to read and parse the same examples twice.

    PYTHONPATH=. python tests/benchmarks/transform.py [--rows 15000 150000 1500000] [--repeats 3] [--data DIRECTORY]

All read the examples that our ExampleGen wrote, and run configs/taxi's preprocessing_fn. "TFX" is its executor as the component
runs it by default, with statistics before and after the transformation and the analyzer cache, and so is ours; "bare" is
without. "ours, tft_beam" is ours with a function that only TFT's own Beam pipeline can analyse. Seconds are the
executor's own, without imports. Each run is a fresh process, and the variants take turns.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import harness

FUNCTION = "configs.taxi.features.preprocessing_fn"
SCHEMA = harness.ROOT / "schemas/datasets"


def main() -> None:
    args = harness.arguments(__doc__)
    print(harness.load())
    print(harness.HEAD)
    for rows in args.rows:
        file = harness.taxi_replicas(rows, args.data)
        with tempfile.TemporaryDirectory(dir=args.data) as made:
            harness.measure(Path(__file__), {"": ("make", str(file), made)}, 1)
            names = ("ours", "ours, bare", "parse")
            if rows <= args.vanilla_rows:
                names = ("TFX", "TFX, bare", "ours, tft_beam", *names)
            found = harness.measure(Path(__file__), {name: (name, made) for name in names}, args.repeats)
            print(harness.table(rows, found, against="TFX"), flush=True)
    print(harness.load())


def child(arguments: list[str]) -> None:
    variant, *paths = arguments
    if variant == "make":
        make(*map(Path, paths))
        return
    with tempfile.TemporaryDirectory() as to:
        if variant == "parse":
            parse(Path(paths[0]))
        elif variant.startswith("TFX"):
            vanilla(Path(paths[0]), Path(to), bare=variant == "TFX, bare")
        else:
            function = f"{__name__}.only_tft_beam" if variant == "ours, tft_beam" else FUNCTION
            ours(Path(paths[0]), Path(to), function, bare=variant == "ours, bare")


def make(file: Path, to: Path) -> None:
    from components.data.example_gen import ExampleGen
    from schemas.artifacts import Examples
    from schemas.component import BeamOptions, Progress

    with harness.timed():
        ExampleGen(source=str(file)).run(BeamOptions(), Progress(), Examples(to))


def only_tft_beam(inputs: dict) -> dict:  # type: ignore[type-arg]
    """The taxi features, and one that has no quick path."""
    import tensorflow_transform as tft

    from configs.taxi.features import fill_missing, preprocessing_fn

    fare, company = fill_missing(inputs["fare"]), fill_missing(inputs["company"])
    return {**preprocessing_fn(inputs), "per_company": tft.scale_to_z_score_per_key(fare, company)}


def ours(examples: Path, to: Path, function: str, *, bare: bool) -> None:
    import apache_beam
    import tensorflow
    import tensorflow_data_validation
    import tensorflow_transform.beam  # noqa: F401 (imports are not measured)

    from components.features.transform import Transform
    from schemas.artifacts import Examples, FeatureSchema
    from schemas.component import BeamOptions, Progress

    del apache_beam, tensorflow, tensorflow_data_validation
    schema, outputs = to / "schema", harness.outputs(Transform, to / "outputs")
    schema.mkdir()
    (schema / "schema.pbtxt").write_bytes((SCHEMA / "taxi.pbtxt").read_bytes())
    with harness.timed():
        Transform(preprocessing_fn=function, statistics=not bare).run(
            Examples(examples), FeatureSchema(schema), BeamOptions(), Progress(), **outputs
        )


def vanilla(examples: Path, to: Path, *, bare: bool) -> None:
    from tfx.components.transform.executor import Executor
    from tfx.types import standard_artifacts, standard_component_specs

    from components.io import tfx
    from schemas.artifacts import Examples

    def artifact(kind: str, name: str) -> list[object]:
        made = getattr(standard_artifacts, kind)()
        made.uri = str(to / name)
        return [made]

    (to / "schema").mkdir()
    (to / "schema/schema.pbtxt").write_bytes((SCHEMA / "taxi.pbtxt").read_bytes())
    outputs = {
        standard_component_specs.TRANSFORM_GRAPH_KEY: artifact("TransformGraph", "graph"),
        standard_component_specs.TRANSFORMED_EXAMPLES_KEY: artifact("Examples", "transformed"),
    }
    if not bare:
        outputs |= {
            standard_component_specs.UPDATED_ANALYZER_CACHE_KEY: artifact("TransformCache", "cache"),
            standard_component_specs.PRE_TRANSFORM_SCHEMA_KEY: artifact("Schema", "pre_schema"),
            standard_component_specs.PRE_TRANSFORM_STATS_KEY: artifact("ExampleStatistics", "pre_stats"),
            standard_component_specs.POST_TRANSFORM_SCHEMA_KEY: artifact("Schema", "post_schema"),
            standard_component_specs.POST_TRANSFORM_STATS_KEY: artifact("ExampleStatistics", "post_stats"),
            standard_component_specs.POST_TRANSFORM_ANOMALIES_KEY: artifact("ExampleAnomalies", "post_anomalies"),
        }
    runner = "apache_beam.runners.portability.fn_api_runner.fn_runner.FnApiRunner"
    context = Executor.Context(
        beam_pipeline_args=[f"--runner={runner}", "--no_pipeline_type_check"], tmp_dir=str(to / "tmp"), unique_id="1"
    )
    with harness.timed():
        Executor(context).Do(
            {"examples": [tfx.tfx_examples(Examples(examples))], "schema": artifact("Schema", "schema")},
            outputs,
            {
                standard_component_specs.PREPROCESSING_FN_KEY: FUNCTION,
                standard_component_specs.DISABLE_STATISTICS_KEY: int(bare),
            },
        )


def parse(examples: Path) -> None:
    """What is read when train is analysed, and when every split is transformed."""
    import tensorflow as tf
    from tensorflow_transform.tf_metadata import schema_utils

    from components.features.raw_features import read_schema
    from schemas.artifacts import Examples

    spec = schema_utils.schema_as_feature_spec(read_schema(SCHEMA / "taxi.pbtxt")).feature_spec
    given = Examples(examples)
    with harness.timed():
        for split in ("train", *given.splits):
            files = [str(file) for file in given.files(split)]
            for batch in tf.data.TFRecordDataset(files, compression_type="GZIP").batch(8192):
                tf.io.parse_example(batch, spec)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        # By a name that a Beam worker, and a dotted path, can import.
        import transform as itself

        harness.child(itself.child)
    else:
        main()
