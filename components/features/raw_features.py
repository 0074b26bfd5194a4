"""Examples and a schema -> the raw features as tensors, a large batch at a time."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.io import beam as beam_io
from components.io import columns as kept_columns
from components.io import content, tfrecord
from schemas.artifacts import Examples
from schemas.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa
    from tensorflow_metadata.proto.v0 import schema_pb2
    from tfx_bsl.tfxio.tensor_adapter import TensorAdapterConfig

BATCH_ROWS = 8192  # of one batch: the cost of a batch vanishes, and its columns are still a few MB


def read_schema(file: Path) -> schema_pb2.Schema:
    """The schema in a .pbtxt file. Raises DataError when it cannot be parsed."""
    from google.protobuf import text_format
    from tensorflow_metadata.proto.v0 import schema_pb2

    try:
        return text_format.Parse(file.read_text(encoding="utf-8"), schema_pb2.Schema())
    except (text_format.ParseError, UnicodeDecodeError) as error:
        raise DataError(f"{file} is not a schema in text form: {error}") from error


def type_specs(raw: schema_pb2.Schema) -> dict[str, Any]:
    """Every raw feature's tf.TypeSpec by name, as preprocessing_fn sees it."""
    specs: dict[str, Any] = _tfxio(raw).TensorAdapter().OriginalTypeSpecs()
    return specs


def shape_of_features(raw: schema_pb2.Schema) -> str:
    """All that the features' tensors hang on but the records, as text: types, shapes, default values."""
    config = _tfxio(raw).TensorAdapterConfig()
    kinds = {field.name: str(field.type) for field in config.arrow_schema}
    shapes = {
        name: representation.SerializeToString(deterministic=True).hex()
        for name, representation in config.tensor_representations.items()
    }
    return json.dumps([kinds, shapes], sort_keys=True)


def projection(raw: schema_pb2.Schema, columns: Sequence[str]) -> tuple[TensorAdapterConfig, schema_pb2.Schema]:
    """How to read `columns` only, and the schema to decode them with. TFT still learns every feature's type."""
    from tfx_bsl.tfxio import tensor_representation_util

    return (
        _tfxio(raw).Project(columns).TensorAdapterConfig(),
        tensor_representation_util.ProjectTensorRepresentationsInSchema(_represented(raw), columns),
    )


@dataclass(frozen=True)
class RawShard:
    """A file of serialized Examples, and the Parquet file of the same rows where ExampleGen kept one.

    `digest` is the sha256 of the records' file in hex: the columns say the same.
    """

    records: str
    columns: str | None = None
    digest: str = ""

    @property
    def rows(self) -> int | None:
        """How many there are; None where only reading all of them would tell."""
        return kept_columns.rows(Path(self.columns)) if self.columns is not None else None


def raw_shards(examples: Examples, split: str) -> list[RawShard]:
    """The files of a split in order, each read once for its digest. Raises UnknownSplit."""
    files = examples.files(split)
    kept: Sequence[Path | None] = examples.columns(split) or [None] * len(files)
    with ThreadPoolExecutor() as threads:
        digests = threads.map(content.digest, files)
        return [
            RawShard(str(file), str(columns) if columns is not None else None, digest)
            for file, columns, digest in zip(files, kept, digests, strict=True)
        ]


class ReadBatches:
    """A shard -> its rows as Arrow batches with the columns that `schema` has, of its types.

    They come from the kept columns, or else are decoded from the records, and are the same either way. What does not fit the
    schema is decoded, so that what is wrong with it is said in one way.
    """

    def __init__(self, schema: schema_pb2.Schema, columns: pa.Schema, count: beam_io.RowCount) -> None:
        """`columns` is what decoding with `schema` gives, as `projection` has it."""
        self.schema = schema
        self.columns = columns
        self.count = count

    def __call__(self, shard: RawShard, skip: int = 0) -> Iterator[pa.RecordBatch]:
        """The batches after the first `skip`, in order. Raises DataError for records that do not fit the schema."""
        kept = self._kept(shard)
        batches = self._decoded(shard.records, skip) if kept is None else itertools.islice(kept, skip, None)
        for batch in batches:
            _check_dense(batch, self.schema, shard.records)
            yield batch
            self.count(batch.num_rows)

    def _kept(self, shard: RawShard) -> Iterator[pa.RecordBatch] | None:
        """The batches as the Parquet file has them; None where there is none, or where it does not fit the schema."""
        import pyarrow as pa

        if shard.columns is None:
            return None
        file = Path(shard.columns)
        found = kept_columns.kinds(file)
        names = [field.name for field in self.columns if field.name in found]
        fits = all(found[name] in (self.columns.field(name).type, pa.null()) for name in names)
        # Without any column there is no telling how many rows there are.
        return self._conformed(file, names) if names and fits else None

    def _conformed(self, file: Path, names: Sequence[str]) -> Iterator[pa.RecordBatch]:
        import pyarrow as pa

        for batch in kept_columns.batches(file, BATCH_ROWS, names):
            found = {
                name: column
                for name, column in zip(batch.schema.names, batch.columns, strict=True)
                if not pa.types.is_null(column.type)
            }
            yield pa.RecordBatch.from_arrays(
                [
                    found[field.name] if field.name in found else pa.nulls(batch.num_rows, field.type)
                    for field in self.columns
                ],
                schema=self.columns,
            )

    def _decoded(self, file: str, skip: int) -> Iterator[pa.RecordBatch]:
        from tfx_bsl.coders.example_coder import ExamplesToRecordBatchDecoder

        decoder = ExamplesToRecordBatchDecoder(self.schema.SerializeToString())
        for records in itertools.islice(tfrecord.read_batches(Path(file), BATCH_ROWS), skip, None):
            try:
                yield decoder.DecodeBatch(records)
            except (ValueError, RuntimeError) as error:
                raise DataError(
                    f"{file}: its records do not fit the schema: {error}. Infer the schema again, or correct the type"
                ) from error


class ReadFeatures:
    """A shard -> its rows' features `columns` as eager tensors by name, batch after batch.

    Where columns were kept they become tensors as TFX's own adapter makes them. Else TensorFlow reads and parses the records
    where that gives the same tensors, which is three times quicker than decoding them; decoded are the features that are
    neither dense nor plain lists, and the records that TensorFlow refuses.
    """

    def __init__(self, raw: schema_pb2.Schema, columns: Sequence[str], count: beam_io.RowCount) -> None:
        self.raw = raw
        self.columns = tuple(columns)
        self.count = count

    def __call__(self, shard: RawShard) -> Iterator[Mapping[str, Any]]:
        """Raises DataError for records that do not fit the schema."""
        done = 0
        if shard.columns is None and self._parsed:
            import tensorflow as tf

            # An iterator of its own, so that what is raised where the features are used is not taken for the file's fault.
            batches = iter(_dataset(shard.records, self._parsed))
            while True:
                try:
                    rows, features = next(batches)
                except StopIteration:
                    return
                except (tf.errors.InvalidArgumentError, tf.errors.DataLossError):
                    break
                yield features
                done += 1
                self.count(int(rows))
        for _, features in self.with_batches(shard, skip=done):
            yield features

    def with_batches(self, shard: RawShard, skip: int = 0) -> Iterator[tuple[pa.RecordBatch, Mapping[str, Any]]]:
        """Each Arrow batch beside its features, the first `skip` left out."""
        adapter, read = self._adapted
        for batch in read(shard, skip):
            yield batch, adapter.ToBatchTensors(batch, produce_eager_tensors=True)

    def batches(self, shard: RawShard) -> Iterator[pa.RecordBatch]:
        """The Arrow batches alone."""
        return self._adapted[1](shard)

    @cached_property
    def _parsed(self) -> dict[str, Any]:
        """The feature spec with which tf.io.parse_example gives the adapter's tensors; empty where there is none."""
        import tensorflow as tf
        from tensorflow_transform import impl_helper
        from tensorflow_transform.tf_metadata import schema_utils

        if any(feature.HasField("struct_domain") for feature in self.raw.feature):
            return {}
        every = schema_utils.schema_as_feature_spec(self.raw).feature_spec
        wanted = {name: every[name] for name in self.columns if name in every}
        plain = (tf.io.FixedLenFeature, tf.io.VarLenFeature)
        if len(wanted) < len(self.columns) or not all(isinstance(spec, plain) for spec in wanted.values()):
            return {}
        specs = type_specs(self.raw)
        found = impl_helper.get_type_specs_from_feature_specs(wanted)
        return wanted if all(found[name] == specs[name] for name in wanted) else {}

    @cached_property
    def _adapted(self) -> tuple[Any, ReadBatches]:
        from tfx_bsl.tfxio.tensor_adapter import TensorAdapter

        config, projected = projection(self.raw, self.columns)
        return TensorAdapter(config), ReadBatches(projected, config.arrow_schema, self.count)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if not name.startswith("_")}


def _dataset(file: str, spec: Mapping[str, Any]) -> Any:
    """(number of records, features by name) of one batch after the other; the next is parsed while one is worked on."""
    import tensorflow as tf

    with Path(file).open("rb") as opened:
        zipped = opened.read(2) == b"\x1f\x8b"
    records = tf.data.TFRecordDataset([file], compression_type="GZIP" if zipped else "", buffer_size=1 << 20)
    batches = records.batch(BATCH_ROWS).map(
        lambda serialized: (tf.size(serialized), tf.io.parse_example(serialized, dict(spec)))
    )
    return batches.prefetch(1)


def _check_dense(batch: pa.RecordBatch, schema: schema_pb2.Schema, file: str) -> None:
    """Raise DataError for a feature to which the schema gives a fixed shape and some record of `batch` another one."""
    import numpy as np
    import pyarrow.compute as pc

    for feature in schema.feature:
        if not feature.HasField("shape"):
            continue
        wanted = math.prod(dim.size for dim in feature.shape.dim)
        found = np.asarray(pc.fill_null(pc.list_value_length(batch.column(feature.name)), 0))
        if (found != wanted).any():
            raise DataError(
                f"{file}: feature '{feature.name}' has {found[found != wanted][0]} values in "
                f"{int((found != wanted).sum()):,} of {len(found):,} records, where the schema says {wanted} in each. "
                f"Infer the schema without shapes, or have ExampleValidator check the data first"
            )


def _tfxio(raw: schema_pb2.Schema) -> Any:
    from tfx_bsl.tfxio.tf_example_record import TFExampleBeamRecord

    return TFExampleBeamRecord(
        physical_format="tfrecord", telemetry_descriptors=["Transform"], schema=_represented(raw)
    )


def _represented(raw: schema_pb2.Schema) -> schema_pb2.Schema:
    """The schema with a tensor representation for every feature: tfx_bsl cannot project one that has some of them only."""
    from tensorflow_metadata.proto.v0 import schema_pb2
    from tfx_bsl.tfxio import tensor_representation_util

    if not raw.tensor_representation_group:
        return raw
    full = schema_pb2.Schema()
    full.CopyFrom(raw)
    tensor_representation_util.SetTensorRepresentationsInSchema(
        full, tensor_representation_util.InferTensorRepresentationsFromMixedSchema(raw)
    )
    return full
