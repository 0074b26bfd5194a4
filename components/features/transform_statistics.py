"""Raw and transformed batches -> their statistics, the schemas these were made with, and where the two do not agree.

All as TFX's Transform has it: the options, what is counted, and the files.
"""

from __future__ import annotations

import json
import pickle
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from components.features.raw_features import read_schema
from components.io.feature_statistics import Generators, Partial
from schemas.artifacts import TransformAnomalies, TransformGraph, TransformSchema, TransformStatistics

if TYPE_CHECKING:
    import pyarrow as pa
    import tensorflow_data_validation as tfdv
    from tensorflow_metadata.proto.v0 import schema_pb2


def options_before(raw: schema_pb2.Schema) -> tfdv.StatsOptions:
    """How the raw features are counted: with the pipeline's schema, distinct values by sketches of a fixed size.

    The sketches are exact up to 1,024 distinct values for the most frequent ones and up to 16,384 for their number.
    """
    import tensorflow_data_validation as tfdv
    from tensorflow_metadata.proto.v0 import schema_pb2

    schema = schema_pb2.Schema()
    schema.CopyFrom(raw)
    return tfdv.StatsOptions(schema=schema, experimental_use_sketch_based_topk_uniques=True)


def options_after(graph: TransformGraph) -> tfdv.StatsOptions:
    """How the transformed features are counted: with their schema, as far as it is known before the data is.

    That leaves the ranges of categories out, and annotations. Vocabularies are given by the names they were annotated with.
    """
    import tensorflow_data_validation as tfdv

    schema = read_schema(graph.transformed_schema)
    for feature in schema.feature:
        feature.ClearField("annotation")
        if feature.HasField("int_domain"):
            feature.int_domain.ClearField("min")
            feature.int_domain.ClearField("max")
    schema.ClearField("annotation")
    named = graph.transformed_schema.parent / "asset_map"
    assets = json.loads(named.read_text(encoding="utf-8")) if named.is_file() else {}
    return tfdv.StatsOptions(
        schema=schema,
        vocab_paths={name: str(graph.transform_fn / "assets" / file) for name, file in assets.items()},
        experimental_use_sketch_based_topk_uniques=True,
    )


class Count:
    """What the batches of one shard amount to, kept in a file until all shards are done."""

    def __init__(self, generators: Generators) -> None:
        self._generators, self._partial = generators, Partial()

    def add(self, batch: pa.RecordBatch) -> None:
        self._generators.add(self._partial, batch)

    def keep(self, directory: Path) -> str:
        """The file, which is new."""
        file = directory / f"{uuid.uuid4().hex}.statistics"
        file.write_bytes(pickle.dumps(self._generators.compact(self._partial)))
        return str(file)


def write(
    options: tfdv.StatsOptions,
    counted: Sequence[str],
    statistics: TransformStatistics,
    schema: TransformSchema,
    anomalies: TransformAnomalies | None = None,
) -> None:
    """Write the statistics of the shards that were counted in these files, in their order, and the schema of `options`.

    `anomalies` is where the statistics do not fit that schema.
    """
    import tensorflow_data_validation as tfdv
    from google.protobuf import text_format

    found = Generators(options).statistics(_kept(counted))
    statistics.file.write_bytes(found.SerializeToString(deterministic=True))
    schema.file.write_text(text_format.MessageToString(options.schema), encoding="utf-8")
    if anomalies is not None:
        unfit = tfdv.validate_statistics(found, options.schema)
        anomalies.file.write_bytes(unfit.SerializeToString(deterministic=True))


def _kept(shards: Sequence[str]) -> Iterator[Partial]:
    """One at a time, so that memory does not grow with their number."""
    for file in shards:
        partial: Partial = pickle.loads(Path(file).read_bytes())
        yield partial
