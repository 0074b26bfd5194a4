"""What TFT's analyzers accumulated of a data set <-> files, in the layout of TFT's own cache."""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from components.features.raw_features import RawShard, shape_of_features
from components.io import tfrecord
from schemas.artifacts import AnalyzerCache

if TYPE_CHECKING:
    from tensorflow_metadata.proto.v0 import schema_pb2

_BYTES = 1 << 20  # read at once


@dataclass(frozen=True)
class Entry:
    """What one analyzer accumulated: records that its coder encoded, and what they were made of.

    `made_of` is a digest of the function and the analyzer; None where part of the function is outside of its graph, so that
    nobody can tell whether it is still the same.
    """

    records: tuple[bytes, ...]
    made_of: str | None


def data_set(split: str, shards: Sequence[RawShard], raw: schema_pb2.Schema) -> str:
    """A name that the same records, as the same features, have wherever they lie."""
    digest = hashlib.sha256(shape_of_features(raw).encode())
    for shard in shards:
        size = Path(shard.records).stat().st_size
        digest.update(f"\0{size}\0".encode())
        with Path(shard.records).open("rb") as file:
            while piece := file.read(_BYTES):
                digest.update(piece)
    return f"{split}-{digest.hexdigest()[:32]}"


def write(cache: AnalyzerCache, name: str, entries: Mapping[bytes, Entry]) -> None:
    """Write what is known of one data set; equal entries give equal files."""
    directory = cache.data_set(name)
    directory.mkdir()
    keys = sorted(entries)
    for number, key in enumerate(keys):
        tfrecord.write(directory / f"{number}-00000-of-00001.gz", entries[key].records)
    # A pickle, as TFT reads it.
    manifest = pickle.dumps({key: number for number, key in enumerate(keys)}, protocol=0)
    (directory / "MANIFEST").write_bytes(manifest)
    made_of = json.dumps({number: entries[key].made_of for number, key in enumerate(keys)}, indent=1)
    (directory / AnalyzerCache.MADE_OF).write_text(made_of + "\n", encoding="utf-8")


def read(cache: AnalyzerCache, name: str) -> dict[bytes, Entry]:
    """What is known of one data set, by TFT's keys. Nothing, when the cache has not seen it or TFT itself wrote it."""
    directory = cache.data_set(name)
    made_of = directory / AnalyzerCache.MADE_OF
    if not made_of.is_file():
        return {}
    digests = json.loads(made_of.read_text(encoding="utf-8"))
    manifest = pickle.loads((directory / "MANIFEST").read_bytes())
    return {
        key: Entry(tuple(tfrecord.read(directory / f"{number}-00000-of-00001.gz")), digests[str(number)])
        for key, number in manifest.items()
    }
