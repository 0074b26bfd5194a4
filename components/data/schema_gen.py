"""Statistics -> FeatureSchema: types, presence and domains, inferred from the data or taken from a curated file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from components.data.statistics_gen import kept_splits
from schemas.artifacts import FeatureSchema, Statistics
from schemas.component import InputFiles, Out
from schemas.errors import ConfigError, DataError
from schemas.input_files import expand

if TYPE_CHECKING:
    from tensorflow_metadata.proto.v0.schema_pb2 import Schema


@dataclass(frozen=True, kw_only=True)
class SchemaGen:
    """Statistics -> FeatureSchema: what all splits together look like, as TFDV infers it.

    A first draft: every value that was seen is allowed, and a feature that happened to be always there is required. Once the
    data is understood, curate it, keep it with the code and name it in ImportSchema.
    """

    infer_feature_shape: bool = True  # a feature with as many values in every record gets a fixed shape
    skip_splits: tuple[str, ...] = ()

    def run(self, statistics: Statistics, schema: Out[FeatureSchema]) -> None:
        """Write schema.pbtxt. Raises UnknownSplit when a split to skip is not there."""
        import tensorflow_data_validation as tfdv
        from google.protobuf import text_format

        inferred = None
        # A schema lists values in the order they were first seen in: train's, then what others add, as with TFX.
        for split in kept_splits(statistics, self.skip_splits):
            found = tfdv.load_stats_binary(str(statistics.file(split)))
            if inferred is None:
                inferred = tfdv.infer_schema(found, self.infer_feature_shape)
            else:
                inferred = tfdv.update_schema(inferred, found, self.infer_feature_shape)
        assert inferred is not None  # kept_splits gives at least one
        schema.file.write_text(text_format.MessageToString(inferred), encoding="utf-8")
        schema.properties.update(features=len(inferred.feature), origin="inferred")


@dataclass(frozen=True, kw_only=True)
class ImportSchema:
    """A curated file -> FeatureSchema: the schema as it was written, comments included, once it is known to parse."""

    path: InputFiles  # text form of tensorflow.metadata.v0.Schema

    def __post_init__(self) -> None:
        if not self.path.strip():
            raise ConfigError("path: give the schema's file, as in schemas/datasets/taxi.pbtxt")

    def run(self, schema: Out[FeatureSchema]) -> None:
        """Copy the file. Raises DataError when it is not there, or with the line in which it does not parse."""
        files = expand(self.path)
        if len(files) > 1:
            raise DataError(f"{self.path}: {len(files)} files match and a schema is one: {', '.join(map(str, files))}")
        parsed = _parsed(files[0])
        schema.file.write_bytes(files[0].read_bytes())
        schema.properties.update(features=len(parsed.feature), origin=self.path)


def _parsed(file: Path) -> Schema:
    from google.protobuf import text_format
    from tensorflow_metadata.proto.v0 import schema_pb2

    try:
        schema = text_format.Parse(file.read_bytes(), schema_pb2.Schema())
    except text_format.ParseError as error:
        at = f", line {error.GetLine()}" if error.GetLine() is not None else ""
        reason = str(error).partition(" : ")[2] or str(error)
        raise DataError(
            f"{file}{at}: not a schema: {reason}. It is the text form of tensorflow.metadata.v0.Schema."
        ) from error
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: not a schema: byte {error.start:,} is not UTF-8 text") from error
    names = [feature.name for feature in schema.feature]
    if not names:
        raise DataError(f"{file}: the schema has no features")
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise DataError(f"{file}: the schema describes {', '.join(repeated)} more than once")
    return schema
