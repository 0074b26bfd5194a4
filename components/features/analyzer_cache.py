"""What TFT's analyzers accumulated of each data set <-> files, in the layout of TFT's own cache, and parts of earlier runs."""

from __future__ import annotations

import itertools
import json
import pickle
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.features.raw_features import RawShard, shape_of_features
from components.io import content, tfrecord
from components.io.links import link
from schemas.artifacts import AnalyzerCache, Examples
from schemas.component import PartCache

if TYPE_CHECKING:
    from tensorflow_metadata.proto.v0 import schema_pb2

_RECORDS = "accumulated.gz"  # of a part


@dataclass(frozen=True)
class Entry:
    """What one analyzer accumulated of one data set: a TFRecord file that its coder encoded, and what it was made of.

    `made_of` is a digest of the function and the analyzer; None where part of the function is outside of its graph, so that
    nobody can tell whether it is still the same.
    """

    file: Path
    made_of: str | None

    @property
    def records(self) -> tuple[bytes, ...]:
        return tuple(tfrecord.read(self.file))


@dataclass(frozen=True)
class DataSet:
    """Shards that are analysed together, a span's or all of a split, by a name that the same records have wherever they lie."""

    name: str
    shards: tuple[RawShard, ...]


def data_sets(
    split: str, shards: Sequence[RawShard], spans: Sequence[Mapping[str, Any]], raw: schema_pb2.Schema
) -> list[DataSet]:
    """One data set for each of the Examples' `spans`, in their order; where there are none, one of all shards."""
    groups = [list(shards)[slice(*span["shards"])] for span in spans]
    if [shard for group in groups for shard in group] != list(shards):
        groups = [list(shards)]
    found: dict[str, DataSet] = {}
    for group in filter(None, groups):
        made_of = shape_of_features(raw), [shard.digest for shard in group]
        # The same records a second time count twice.
        names = (f"{split}-{content.name(*made_of, time)[:32]}" for time in itertools.count())
        name = next(name for name in names if name not in found)
        found[name] = DataSet(name, tuple(group))
    return list(found.values())


def write(cache: AnalyzerCache, name: str, entries: Mapping[bytes, Entry]) -> None:
    """Write what is known of one data set; equal entries give equal files."""
    directory = cache.data_set(name)
    directory.mkdir()
    keys = sorted(entries)
    for number, key in enumerate(keys):
        link(entries[key].file, directory / f"{number}-00000-of-00001.gz")
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
        key: Entry(directory / f"{number}-00000-of-00001.gz", digests[str(number)]) for key, number in manifest.items()
    }


def known(
    cache: AnalyzerCache | None, parts: PartCache, name: str, made_of: Mapping[bytes, str | None]
) -> dict[bytes, Entry]:
    """Of the entries that are `made_of` this, those that `cache` has of the data set, or else an earlier execution kept."""
    found = read(cache, name) if cache is not None else {}
    usable = {key: entry for key, entry in found.items() if made_of.get(key) == entry.made_of is not None}
    for key, digest in made_of.items():
        if key not in usable and digest is not None and (part := parts.find(_part(name, key, digest))) is not None:
            usable[key] = Entry(part / _RECORDS, digest)
    return usable


def keep(parts: PartCache, name: str, entries: Mapping[bytes, Entry], but: Iterable[bytes]) -> None:
    """Keep what was accumulated of one data set for later executions, `but` those of them that they have."""
    for key in sorted(entries.keys() - set(but)):
        entry = entries[key]
        if entry.made_of is not None:
            with parts.keep(_part(name, key, entry.made_of)) as directory:
                link(entry.file, directory / _RECORDS)


def _part(name: str, key: bytes, made_of: str) -> str:
    return content.name("analyzer", name, key.hex(), made_of)


def spans_of(examples: Examples) -> Sequence[Mapping[str, Any]]:
    """The spans that the shards of each split are of; none where the examples know of no spans."""
    spans: Sequence[Mapping[str, Any]] = examples.properties.get("spans", ())
    return spans
