"""Chunks of records -> one shard of every split: a file of records, and beside it the columns that they hold."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.data import chunks
from components.data import splits as hash_split
from components.io import columns, tfrecord
from components.io.beam import RowCount
from schemas.artifacts import Examples

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class ShardWriter:
    """Writes shards into `examples`, whose splits have their directories, and notes in `counts` what each one holds.

    It travels to Beam workers, which have no other way to tell us.
    """

    examples: Examples
    weights: Mapping[str, int]  # split: weight, in the order of the hash ranges
    counts: Path
    rows: RowCount

    def write(self, number: int, of: int, given: Iterable[chunks.Chunk]) -> None:
        """Write shard `number` of every split, in the order of the records. No columns are kept when it has none for one split."""
        import numpy as np

        with ExitStack() as files:
            writers = [
                files.enter_context(tfrecord.Writer(records_path(self.examples, split, number, of)))
                for split in self.weights
            ]
            kept = files.enter_context(
                _Kept([columns_path(self.examples, split, number, of) for split in self.weights])
            )
            for records, keys, columns_of in given:
                assigned = np.array(hash_split.assign(keys, self.weights))
                for index, writer in enumerate(writers):
                    here = np.flatnonzero(assigned == index)
                    writer.write([records[at] for at in here.tolist()])
                    kept.write(index, columns_of, here)
                self.rows(len(records))
        self.note(number, {split: writer.records for split, writer in zip(self.weights, writers, strict=True)})

    def note(self, number: int, held: Mapping[str, int]) -> None:
        """Say how many records of each split a shard holds."""
        (self.counts / f"{number:05d}.json").write_text(json.dumps(held), encoding="utf-8")

    def noted(self, number: int) -> dict[str, int]:
        """How many records of each split a shard holds."""
        held: dict[str, int] = json.loads((self.counts / f"{number:05d}.json").read_text(encoding="utf-8"))
        return held


def records_path(examples: Examples, split: str, number: int, of: int) -> Path:
    """Where the records of one shard are or will be written."""
    return examples.split_path(split) / f"data_tfrecord-{number:05d}-of-{of:05d}.gz"


def columns_path(examples: Examples, split: str, number: int, of: int) -> Path:
    """Where its columns are or will be written."""
    return examples.columns_path(split) / f"{number:05d}-of-{of:05d}.parquet"


class _Kept:
    """The columns of one shard, of every split; none at all when they cannot be kept for one."""

    def __init__(self, files: list[Path]) -> None:
        self._files = files
        self._stack = ExitStack()
        self._writers: list[columns.Writer] | None = None

    def write(self, split: int, columns_of: Callable[[Any], pa.RecordBatch], places: Any) -> None:
        if self._writers is None or not len(places):
            return
        try:
            self._writers[split].write(columns_of(places))
        except columns.Unfit as problem:
            self._writers = None
            self._stack.close()
            for file in self._files:
                file.unlink(missing_ok=True)
            print(f"{self._files[split].name}: no columns are kept: {problem}", file=sys.stderr, flush=True)

    def __enter__(self) -> _Kept:
        self._writers = [self._stack.enter_context(columns.Writer(file)) for file in self._files]
        return self

    def __exit__(self, *exception: Any) -> None:
        self._stack.__exit__(*exception)
