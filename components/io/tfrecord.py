"""TFRecord files: length, checksum, bytes, checksum for every record, gzipped or not."""

from __future__ import annotations

import gzip
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import IO, Any, cast

from schemas.errors import DataError

_LEVEL = 1  # ISA-L's level 2 is no slower, but its output is not promised to be the same on every processor
_CHUNK = 1 << 20  # bytes
_FRAMED = 8192  # records at a time


class Writer:
    """Writes one TFRecord file, gzipped when its name ends in `.gz`. Equal records give equal bytes.

    Used as a context manager. The file is there, empty of records, even when nothing is written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.records = 0
        self._file = path.open("wb")
        self._waiting = bytearray()
        # The header holds neither a time nor a name, so that the same records are the same file.
        self._zip = _compressor() if path.suffix == ".gz" else None

    def write(self, records: Iterable[bytes]) -> int:
        """Append `records`; gives how many there were."""
        several, count = iter(records), 0
        while some := list(islice(several, _FRAMED)):
            self._waiting += _framed(some)
            count += len(some)
            # What the compressor makes of its input must not hang on how many records came at once.
            whole = len(self._waiting) - len(self._waiting) % _CHUNK
            for start in range(0, whole, _CHUNK):
                self._put(self._waiting[start : start + _CHUNK])
            del self._waiting[:whole]
        self.records += count
        return count

    def _put(self, piece: bytes | bytearray) -> None:
        self._file.write(piece if self._zip is None else self._zip.compress(piece))

    def close(self) -> None:
        if not self._file.closed:
            self._put(self._waiting)
            if self._zip is not None:
                self._file.write(self._zip.flush())
        self._file.close()

    def __enter__(self) -> Writer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def write(path: Path, records: Iterable[bytes]) -> int:
    """Write one whole file, gzipped when its name ends in `.gz`; gives the number of records."""
    with Writer(path) as writer:
        return writer.write(records)


def read(path: Path) -> Iterator[bytes]:
    """The records of one file in order, gzipped or not (its first bytes tell), never more than a few in memory.

    Raises DataError when the file is not a TFRecord file, is cut short or was changed; the message says at which record
    and, counted in uncompressed bytes, where it begins.
    """
    crc32c = _crc32c()
    unpack_header, unpack_crc = struct.Struct("<QI").unpack_from, struct.Struct("<I").unpack_from
    with path.open("rb") as file:
        zipped = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        source: IO[bytes] = cast("IO[bytes]", gzip.GzipFile(fileobj=file, mode="rb")) if zipped else file
        buffer, start, offset, number = b"", 0, 0, 0  # the record `number` begins at buffer[start], byte `offset`

        def need(size: int) -> bool:
            """Have `size` bytes from `start` on in the buffer; False when the file ends before."""
            nonlocal buffer, start
            while len(buffer) - start < size:
                try:
                    more = source.read(max(_CHUNK, min(size - len(buffer) + start, 16 * _CHUNK)))
                except (EOFError, OSError, zlib.error) as error:
                    raise _corrupt(path, number, offset, f"its compressed data cannot be read ({error})") from error
                if not more:
                    return False
                buffer, start = buffer[start:] + more, 0
            return True

        while True:
            if not need(12):
                if len(buffer) > start:
                    raise _corrupt(path, number, offset, "the file ends inside the record's header")
                return
            length, length_crc = unpack_header(buffer, start)
            if _masked(crc32c(buffer[start : start + 8])) != length_crc:
                kind = "it is not a TFRecord file" if number == 0 else "the checksum of the record's length is wrong"
                raise _corrupt(path, number, offset, kind)
            if not need(16 + length):
                raise _corrupt(path, number, offset, "the file ends inside the record")
            record = buffer[start + 12 : start + 12 + length]
            if _masked(crc32c(record)) != unpack_crc(buffer, start + 12 + length)[0]:
                raise _corrupt(path, number, offset, "the record's checksum is wrong")
            yield record
            start += 16 + length
            offset += 16 + length
            number += 1


def read_batches(path: Path, size: int) -> Iterator[list[bytes]]:
    """The records of one file in lists of `size`, the last one shorter; nothing for a file without records."""
    batch: list[bytes] = []
    for record in read(path):
        batch.append(record)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def _corrupt(path: Path, number: int, offset: int, what: str) -> DataError:
    return DataError(
        f"{path}: record {number + 1}, at byte {offset:,} of the uncompressed file: {what}. Write it again."
    )


def _framed(records: list[bytes]) -> bytes:
    """Each record between its length, the length's checksum and its own."""
    import numpy as np

    crc32c, count = _crc32c(), len(records)
    head = np.empty(count, dtype=[("length", "<u8"), ("crc", "<u4")])
    lengths = np.fromiter(map(len, records), np.uint64, count)
    head["length"] = lengths
    distinct, which = np.unique(lengths, return_inverse=True)
    crcs = [_masked(crc32c(struct.pack("<Q", length))) for length in distinct.tolist()]
    head["crc"] = np.array(crcs, dtype=np.uint32)[which]
    crc = np.fromiter(map(crc32c, records), np.uint32, count)
    foot = (((crc >> 15) | (crc << 17)) + np.uint32(0xA282EAD8)).astype("<u4")
    parts: list[bytes] = [b""] * (3 * count)
    parts[0::3] = head.view("V12").tolist()
    parts[1::3] = records
    parts[2::3] = foot.view("V4").tolist()
    return b"".join(parts)


def _compressor() -> Any:
    from isal import isal_zlib  # made for this: five times as fast as zlib at the same size

    return isal_zlib.compressobj(_LEVEL, isal_zlib.DEFLATED, 16 + 15)  # 16: with gzip's header


def _masked(crc: int) -> int:
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def _crc32c() -> Callable[[bytes], int]:
    import google_crc32c  # comes with Beam; the one in C

    return cast("Callable[[bytes], int]", google_crc32c.value)
