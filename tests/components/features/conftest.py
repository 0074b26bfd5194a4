"""Transform and TFT's own Beam pipeline on the same examples, and what it means that they agree."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from components.features.preprocessing import Preprocessing
from components.features.raw_features import read_schema
from components.features.transform import Transform
from components.io import tfrecord
from schemas.artifacts import Examples, FeatureSchema, TransformGraph
from schemas.component import BeamOptions, Progress

Transformed = tuple[TransformGraph, list[Any]]  # with the records as tf.train.Example


@pytest.fixture(scope="module")
def schema(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> FeatureSchema:
    """The one that a module of tests has as SCHEMA, in text form."""
    schema = FeatureSchema(tmp_path_factory.mktemp("schema"))
    schema.file.write_text(request.module.SCHEMA, encoding="utf-8")
    return schema


@pytest.fixture
def transforms(
    tmp_path: Path, outputs_of: Callable[[type, Path], dict[str, Any]]
) -> Callable[[Examples, FeatureSchema, str], Transformed]:
    """Our step, run on split `train` with the function at a dotted path."""
    import tensorflow as tf

    def run(examples: Examples, schema: FeatureSchema, dotted: str) -> Transformed:
        outputs = outputs_of(Transform, tmp_path / "ours")
        Transform(preprocessing_fn=dotted).run(examples, schema, BeamOptions(), Progress(), **outputs)
        files = outputs["transformed_examples"].files("train")
        records = [record for file in files for record in tfrecord.read(file)]
        return outputs["transform_graph"], [tf.train.Example.FromString(record) for record in records]

    return run


@pytest.fixture(scope="session")
def tft_transforms(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Transformed]:
    """TFT's AnalyzeAndTransformDataset on the same records, each shard as one batch, as our step has them.

    `deep` is for analyzers in three layers, where FnApiRunner of Beam 2.72 ends in an assertion of its own. The other runner
    cannot do vocabularies by mutual information.
    """
    import apache_beam as beam
    import tensorflow as tf
    import tensorflow_transform.beam as tft_beam
    from apache_beam.options.pipeline_options import PipelineOptions
    from apache_beam.runners.direct.direct_runner import BundleBasedDirectRunner
    from apache_beam.runners.portability.fn_api_runner import FnApiRunner
    from tfx_bsl.coders.example_coder import ExamplesToRecordBatchDecoder, RecordBatchToExamplesEncoder
    from tfx_bsl.tfxio.tf_example_record import TFExampleBeamRecord

    def run(examples: Examples, schema: FeatureSchema, dotted: str, *, deep: bool = False) -> Transformed:
        tmp_path = tmp_path_factory.mktemp("tft")
        graph = TransformGraph(tmp_path / "their_graph")
        shards = [records for file in examples.files("train") if (records := list(tfrecord.read(file)))]
        raw = read_schema(schema.file)
        decoder = ExamplesToRecordBatchDecoder(raw.SerializeToString())
        tfxio = TFExampleBeamRecord(physical_format="inmem", telemetry_descriptors=["test"], schema=raw)
        written = str(tmp_path / "theirs")
        runner = BundleBasedDirectRunner() if deep else FnApiRunner()
        with (
            beam.Pipeline(runner=runner, options=PipelineOptions(["--no_pipeline_type_check"])) as pipeline,
            tft_beam.Context(temp_dir=str(tmp_path / "their_tmp")),
        ):
            batches = pipeline | beam.Create([decoder.DecodeBatch(shard) for shard in shards], reshuffle=False)
            (data, metadata), function = (
                batches,
                tfxio.TensorAdapterConfig(),
            ) | tft_beam.AnalyzeAndTransformDataset(Preprocessing(dotted), output_record_batches=True)
            _ = function | tft_beam.WriteTransformFn(str(graph.path))
            # A batch of results comes with the features that were passed through.
            _ = (
                data
                | beam.MapTuple(lambda batch, _: batch)
                | beam.FlatMap(
                    lambda batch, metadata: RecordBatchToExamplesEncoder(metadata.schema).encode(batch),
                    beam.pvalue.AsSingleton(metadata.deferred_metadata),
                )
                | beam.io.WriteToTFRecord(written, shard_name_template="")
            )
        return graph, [tf.train.Example.FromString(record) for record in tfrecord.read(Path(written))]

    return run


@pytest.fixture
def assert_same_transform() -> Callable[[Transformed, Transformed], None]:
    """Schema, vocabularies, and every value of every record, which have a feature `row` to be told by."""
    import numpy as np

    def by_row(records: list[Any]) -> dict[int, Any]:
        found = {record.features.feature["row"].int64_list.value[0]: record for record in records}
        assert len(found) == len(records)
        return found

    def files(graph: TransformGraph) -> dict[str, bytes]:
        assets = graph.transform_fn / "assets"
        return {file.name: file.read_bytes() for file in assets.iterdir()} if assets.exists() else {}

    def asset_map(graph: TransformGraph) -> Any:
        file = graph.transformed_schema.parent / "asset_map"
        return json.loads(file.read_text()) if file.exists() else None

    def check(found: Transformed, expected: Transformed) -> None:
        assert read_schema(found[0].transformed_schema) == read_schema(expected[0].transformed_schema)
        assert asset_map(found[0]) == asset_map(expected[0])
        assert files(found[0]) == files(expected[0])
        mine, theirs = by_row(found[1]), by_row(expected[1])
        assert mine.keys() == theirs.keys()
        for row, example in theirs.items():
            assert mine[row].features.feature.keys() == example.features.feature.keys()
            for name, feature in example.features.feature.items():
                kind = feature.WhichOneof("kind")
                values = [
                    getattr(one, kind).value if kind else [] for one in (mine[row].features.feature[name], feature)
                ]
                if kind == "float_list":
                    np.testing.assert_allclose(*values, rtol=1e-4, atol=1e-5, err_msg=name)
                else:
                    assert values[0] == values[1], name

    return check
