"""Shards -> what each of them amounts to, in a file: an earlier execution's where it kept one, else counted now and kept."""

from __future__ import annotations

import pickle
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from components.io import columns, content, tf_example, tfrecord
from components.io.beam import RowCount, pipeline
from components.io.feature_statistics import Generators, Partial
from components.io.links import link
from components.io.workers import Packed
from schemas.component import BeamOptions, PartCache
from schemas.errors import DataError
from schemas.memory import in_gb

if TYPE_CHECKING:
    import pyarrow as pa
    import tensorflow_data_validation as tfdv
    from tensorflow_metadata.proto.v0 import statistics_pb2

_RECORDS = 8192  # per Arrow batch, where records are decoded
_COPIES = 3  # of the counts that there are at once, when those of several batches or shards are put together
_PART = "counted"  # the file of a part
_PICKLE = 5  # protocol, whatever a later Python's default


@dataclass(frozen=True)
class Counting:
    """How rows are counted: TFDV's options, the fraction of the rows, and the bytes that all counts of values may take."""

    options: tfdv.StatsOptions
    sample_rate: float = 1.0
    room: int | None = None

    @classmethod
    def within(cls, memory: int | None, options: tfdv.StatsOptions, sample_rate: float) -> Counting:
        """Counting in `memory` bytes, of which libraries and buffers take none; None for any number."""
        return cls(options, sample_rate, None if memory is None else max(0, memory) // _COPIES)


@dataclass(frozen=True)
class Shard:
    """A file of columns or of records. `name` is that of what it amounts to, and stands for all that this depends on."""

    file: str
    digest: str  # of the content: where the file lies, and as which of a data set's shards, is nothing to the counts
    name: str


def shards_of(files: Iterable[Path], counting: Counting) -> list[Shard]:
    """The shards in some files, each of which is read to know its content."""
    schema = counting.options.schema
    counted = (None if schema is None else schema.SerializeToString(deterministic=True).hex(), counting.sample_rate)
    digests = [(file, content.digest(file)) for file in files]
    return [Shard(str(file), digest, content.name(file.suffix, digest, *counted)) for file, digest in digests]


def count(
    shards: Sequence[Shard], counting: Counting, parts: PartCache, to: Path, beam: BeamOptions, rows: RowCount
) -> dict[str, Path]:
    """The files of what the shards amount to, by name: `parts`' own, and in the directory `to` those that had to be counted.

    `to` has to be where Beam's workers see it, as the shards do. Raises DataError for a broken file, and for more distinct
    values in one than there is room for.
    """
    import apache_beam

    unique = {shard.name: shard for shard in shards}  # files without records are all alike
    times = Counter(shard.name for shard in shards)
    kept = {name: part / _PART for name in unique if (part := parts.find(name)) is not None}
    for name, file in kept.items():
        rows(_rows_read(file) * times[name])
    missing = [shard for name, shard in unique.items() if name not in kept]
    made = {shard.name: to / shard.name for shard in missing}
    if missing:
        paths = {Path(shard.file).parent for shard in missing}
        with pipeline(beam, (*paths, to)) as running:
            _ = (
                running
                | "Shards" >> apache_beam.Create(missing)
                | "Count" >> apache_beam.Map(Packed(_count), counting, to, rows)
            )
    for name, file in made.items():
        rows(_rows_read(file) * (times[name] - 1))
        with parts.keep(name) as directory:
            link(file, directory / _PART)
    return kept | made


def statistics_of(
    shards: Iterable[Shard], counted: Mapping[str, Path], counting: Counting
) -> statistics_pb2.DatasetFeatureStatisticsList:
    """The statistics of all rows of some shards, from what `count` gave; sums of floats hang on the shards' order.

    Raises DataError for more distinct values than there is room for.
    """

    def check_room(whole: Partial, more: Partial) -> None:
        if counting.room is not None and _held([whole, more]).total() > counting.room:
            whole.sum_counts()  # most values may be those of the shards before
            _check_room([whole, more], counting.room)

    # Read anew for each choice of shards: to put them together changes them.
    partials = (_read(counted[shard.name]) for shard in shards)
    return Generators(counting.options).statistics(partials, before=check_room)


def _count(shard: Shard, counting: Counting, to: Path, rows: RowCount) -> None:
    import numpy as np
    import pyarrow as pa

    generators, partial, read = Generators(counting.options), Partial(), 0
    # TFDV's own sampling keeps or drops whole batches, which would be all or nothing with large ones.
    random = np.random.default_rng(int(shard.digest, 16))
    for batch in _batches(Path(shard.file)):
        read += batch.num_rows
        chosen = batch
        if counting.sample_rate < 1:
            chosen = batch.filter(pa.array(random.random(batch.num_rows) < counting.sample_rate))
        generators.add(partial, chosen)
        _check_room([partial], counting.room)
        rows(batch.num_rows)
    # Beam may do it twice, on two machines at once.
    unfinished = to / f"{shard.name}.{uuid.uuid4().hex}"
    with unfinished.open("wb") as file:
        pickle.dump(read, file, _PICKLE)
        pickle.dump(generators.compact(partial), file, _PICKLE)
    unfinished.replace(to / shard.name)


# A pickle is as safe here as the code is: it lies in the directory of the step or in the store's parts, whose every byte is
# checked, and who can write there can have any step do anything.


def _rows_read(file: Path) -> int:
    with file.open("rb") as opened:
        read: int = pickle.load(opened)
    return read


def _read(file: Path) -> Partial:
    with file.open("rb") as opened:
        pickle.load(opened)  # the rows that were read
        partial: Partial = pickle.load(opened)
    return partial


def _held(partials: Iterable[Partial]) -> Counter[str]:
    held = Counter[str]()
    for partial in partials:
        held.update(partial.held())
    return held


def _check_room(partials: Iterable[Partial], room: int | None) -> None:
    """Raise DataError when the counts of distinct values take more than `room` bytes."""
    held = _held(partials)
    if room is not None and held.total() > room:
        ((feature, most),) = held.most_common(1)
        raise DataError(
            f"feature '{feature}' has so many distinct values that to count them takes {in_gb(_COPIES * most)}, and the step may "
            f"have {in_gb(_COPIES * room)} for that. Give it more with resources.memory, or count a part of the rows with sample_rate"
        )


def _batches(file: Path) -> Iterator[pa.RecordBatch]:
    if file.suffix == ".parquet":
        yield from columns.batches(file)
    else:
        for records in tfrecord.read_batches(file, _RECORDS):
            yield tf_example.decode(records)
