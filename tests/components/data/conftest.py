"""The taxi data as our steps and as TFX's own executors make of it."""

from __future__ import annotations

import importlib
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from components.data.example_gen import ExampleGen
from components.data.statistics_gen import StatisticsGen
from components.io import tfrecord
from schemas.artifact import Artifact, SplitArtifact
from schemas.artifacts import Examples, FeatureSchema, Statistics
from schemas.component import BeamOptions, Progress

SPLITS = {"train": 2, "eval": 1}


class Tfx:
    """TFX's executors, run on artifacts of ours."""

    def __init__(self, pipeline: Callable[[], Any]) -> None:
        self._pipeline = pipeline

    def do(
        self,
        executor: str,
        outputs: Mapping[str, Artifact],
        inputs: Mapping[str, Artifact] | None = None,
        **properties: Any,
    ) -> None:
        """`executor` is the module below tfx.components whose Executor is run."""
        cls = importlib.import_module(f"tfx.components.{executor}").Executor
        args: dict[str, Any] = {"tmp_dir": str(next(iter(outputs.values())).path.parent), "unique_id": "1"}
        if hasattr(cls, "_make_beam_pipeline"):
            args["make_beam_pipeline_fn"] = self._pipeline
        cls(cls.Context(**args)).Do(
            {key: [self._artifact(artifact)] for key, artifact in (inputs or {}).items()},
            {key: [self._artifact(artifact)] for key, artifact in outputs.items()},
            properties,
        )

    def example_gen(
        self,
        executor: str,
        directory: Path,
        pattern: str,
        splits: Mapping[str, int],
        to: Path,
        split_by: str | None = None,
    ) -> Examples:
        """What a file-based ExampleGen of TFX writes for the files in `directory` that match `pattern`."""
        import json

        config: dict[str, Any] = {"splits": [{"name": name, "hash_buckets": n} for name, n in splits.items()]}
        if split_by is not None:
            config["partition_feature_name"] = split_by
        examples = Examples(to)
        self.do(
            f"example_gen.{executor}",
            {"examples": examples},
            input_base=str(directory),
            input_config=json.dumps({"splits": [{"name": "all", "pattern": pattern}]}),
            output_config=json.dumps({"split_config": config}),
            output_data_format=6,  # FORMAT_TF_EXAMPLE
        )
        return examples

    @staticmethod
    def _artifact(ours: Artifact) -> Any:
        from tfx.types import artifact_utils, standard_artifacts

        made = getattr(standard_artifacts, ours.TYPE_NAME)()
        made.uri = str(ours.path)
        if isinstance(ours, SplitArtifact):
            made.split_names = artifact_utils.encode_split_names(list(ours.splits))
        return made


@pytest.fixture(scope="session")
def tfx(beam_in_memory: Callable[[], Any]) -> Tfx:
    return Tfx(beam_in_memory)


@pytest.fixture(scope="session")
def records() -> Callable[[Examples, str], Counter[bytes]]:
    """The records of a split, whatever their order: each as deterministic bytes, and how often it is there."""
    from tensorflow.core.example.example_pb2 import Example

    def of(examples: Examples, split: str) -> Counter[bytes]:
        return Counter(
            Example.FromString(record).SerializeToString(deterministic=True)
            for file in examples.files(split)
            for record in tfrecord.read(file)
        )

    return of


@pytest.fixture
def make_examples(tmp_path: Path) -> Callable[..., Examples]:
    """ExampleGen with the settings given, run into a directory of its own."""

    def make(**settings: Any) -> Examples:
        to = tmp_path / f"examples-{len(list(tmp_path.glob('examples-*')))}"
        to.mkdir()
        examples = Examples(to)
        ExampleGen(**settings).run(BeamOptions(), Progress(), examples)
        return examples

    return make


@pytest.fixture(scope="session")
def taxi_examples(taxi_csv: Path, tmp_path_factory: pytest.TempPathFactory) -> Examples:
    """All 15,002 trips by our ExampleGen."""
    examples = Examples(tmp_path_factory.mktemp("taxi_examples"))
    ExampleGen(source=str(taxi_csv), splits=SPLITS).run(BeamOptions(), Progress(), examples)
    return examples


@pytest.fixture(scope="session")
def tfx_taxi_examples(taxi_csv: Path, tfx: Tfx, tmp_path_factory: pytest.TempPathFactory) -> Examples:
    """All 15,002 trips by TFX's CsvExampleGen."""
    to = tmp_path_factory.mktemp("tfx_taxi_examples")
    return tfx.example_gen("csv_example_gen.executor", taxi_csv.parent, taxi_csv.name, SPLITS, to)


@pytest.fixture(scope="session")
def taxi_statistics(taxi_examples: Examples, tmp_path_factory: pytest.TempPathFactory) -> Statistics:
    """Statistics of all trips by our StatisticsGen."""
    statistics = Statistics(tmp_path_factory.mktemp("taxi_statistics"))
    StatisticsGen().run(taxi_examples, BeamOptions(), Progress(), statistics)
    return statistics


@pytest.fixture(scope="session")
def small_examples(small_taxi_csv: Path, tmp_path_factory: pytest.TempPathFactory) -> Examples:
    """300 trips by our ExampleGen."""
    examples = Examples(tmp_path_factory.mktemp("small_examples"))
    ExampleGen(source=str(small_taxi_csv), splits=SPLITS).run(BeamOptions(), Progress(), examples)
    return examples


@pytest.fixture(scope="session")
def small_statistics(small_examples: Examples, tmp_path_factory: pytest.TempPathFactory) -> Statistics:
    """Statistics of 300 trips by our StatisticsGen."""
    statistics = Statistics(tmp_path_factory.mktemp("small_statistics"))
    StatisticsGen().run(small_examples, BeamOptions(), Progress(), statistics)
    return statistics


@pytest.fixture
def schema_of(tmp_path: Path) -> Callable[[str], FeatureSchema]:
    """A FeatureSchema artifact with the text given."""

    def make(text: str) -> FeatureSchema:
        directory = tmp_path / f"schema-{len(list(tmp_path.glob('schema-*')))}"
        directory.mkdir()
        schema = FeatureSchema(directory)
        schema.file.write_text(text, encoding="utf-8")
        return schema

    return make
