"""Work on every shard, one Beam element each, with what it gives in order."""

from __future__ import annotations

import pickle
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from components.io import beam as beam_io
from components.io.workers import Packed
from schemas.component import BeamOptions


def each_shard(shards: Sequence[Any], work: Callable[[Any], Any], options: BeamOptions, temporary: Path) -> list[Any]:
    """What `work` gives of every shard, in the order of `shards`, each of them an element of one Beam pipeline."""
    import apache_beam as beam

    result = temporary / f"{uuid.uuid4().hex}.shards"
    with beam_io.pipeline(options, [temporary]) as pipeline:
        _ = (
            pipeline
            | "Shards" >> beam.Create(list(enumerate(shards)))
            | "Spread" >> beam.GroupByKey()  # as Reshuffle does, with fewer stages
            | "Work" >> beam.Map(Packed(_Numbered(work)))
            | "Gather" >> beam.GroupByKey()
            | "Keep" >> beam.Map(Packed(_keep), str(result))
        )
    found: list[Any] = pickle.loads(result.read_bytes())
    result.unlink()
    return found


class _Numbered:
    """(number, [shard]) -> (None, (number, what the work gives))."""

    def __init__(self, work: Callable[[Any], Any]) -> None:
        self.work = work

    def __call__(self, numbered: tuple[int, Any]) -> tuple[None, tuple[int, Any]]:
        number, (shard,) = numbered
        return None, (number, self.work(shard))


def _keep(gathered: tuple[None, Any], file: str) -> None:
    _, found = gathered
    Path(file).write_bytes(pickle.dumps([one for _, one in sorted(found, key=lambda numbered: numbered[0])]))
