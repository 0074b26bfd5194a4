"""Shards <-> what earlier executions made of the same records by the same graph: their transformed form, and counts of both."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from components.features.graph_digest import digest_of
from components.features.transform_shard import Shard, Written
from components.io import content
from components.io.links import link
from schemas.artifacts import TransformGraph
from schemas.component import PartCache

if TYPE_CHECKING:
    from tensorflow_metadata.proto.v0 import schema_pb2

    from components.features.tracing import Tracing

_RECORDS, _BEFORE, _AFTER, _SUMMARY = "records.gz", "before.statistics", "after.statistics", "summary.json"


class ShardParts:
    """What is kept of shards, each under the digest of its records and of all else that it hangs on.

    The transformed records hang on the finished graph, so what one more span of data changes in a vocabulary or a mean makes
    all of them anew. Counts of the raw features do not: they are a part by themselves.
    """

    def __init__(
        self, parts: PartCache, raw: schema_pb2.Schema, counted: Sequence[str], transformed: str | None
    ) -> None:
        """`counted` are the raw features of which statistics are made; `transformed` is what `made_by` says."""
        self._parts = parts
        self._raw = raw.SerializeToString(deterministic=True).hex()
        self._counted = list(counted)
        self._transformed = transformed

    def take(self, shard: Shard) -> tuple[Shard, Written]:
        """What is still to be made of the shard, and what was there already, with its target linked."""
        there = Written()
        if shard.before and (part := self._parts.find(self._name_before(shard))) is not None:
            shard, there = replace(shard, before=False), replace(there, before=str(part / _BEFORE))
        name = self._name_after(shard)
        if shard.target is not None and name is not None and (part := self._parts.find(name)) is not None:
            link(part / _RECORDS, Path(shard.target))
            records = json.loads((part / _SUMMARY).read_text(encoding="utf-8"))["records"]
            after = str(part / _AFTER) if shard.after else None
            shard, there = replace(shard, target=None, after=False), replace(there, records=records, after=after)
        return shard, there

    def keep(self, made: Iterable[tuple[Shard, Written]]) -> None:
        """Keep what was made of the shards, for later executions."""
        kept: set[str] = set()  # shards with the same records are one part
        for shard, written in made:
            before, after = self._name_before(shard), self._name_after(shard)
            if written.before is not None and before not in kept:
                kept.add(before)
                with self._parts.keep(before) as directory:
                    link(Path(written.before), directory / _BEFORE)
            if shard.target is not None and after is not None and after not in kept:
                kept.add(after)
                with self._parts.keep(after) as directory:
                    link(Path(shard.target), directory / _RECORDS)
                    if written.after is not None:
                        link(Path(written.after), directory / _AFTER)
                    summary = json.dumps({"records": written.records})
                    (directory / _SUMMARY).write_text(summary + "\n", encoding="utf-8")

    def _name_before(self, shard: Shard) -> str:
        return content.name("before", shard.source.digest, self._raw, self._counted)

    def _name_after(self, shard: Shard) -> str | None:
        if self._transformed is None:
            return None
        return content.name("transformed", shard.source.digest, self._raw, self._transformed, shard.after)


def made_by(final: Tracing | None, graph: TransformGraph) -> str | None:
    """All that transformed records and their statistics hang on but the raw ones; None where nobody can tell.

    That is so for a function with parts outside of its graph or that draws random numbers, and where TFT's Beam pipeline
    analysed.
    """
    digest = digest_of(final) if final is not None else None
    if digest is None:
        return None
    schemas = graph.transformed_schema.parent.iterdir()
    assets = (graph.transform_fn / "assets").glob("*")
    return content.name(digest, {file.name: content.digest(file) for file in (*schemas, *assets)})
