"""Files and weights -> how many bytes they are when compressed, which is what pruning and clustering make smaller."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import tf_keras


def compressed_directory(directory: Path) -> int:
    """Bytes of all files below a directory, each compressed as gzip -9 does."""
    return sum(_compressed(file.read_bytes()) for file in sorted(directory.rglob("*")) if file.is_file())


def compressed_weights(model: tf_keras.Model) -> int:
    """Bytes of the model's weights, each tensor compressed as gzip -9 does."""
    return sum(_compressed(weight.tobytes()) for weight in model.get_weights())


def raw_bytes(path: Path) -> int:
    """Bytes of a file, or of all files below a directory."""
    files = [path] if path.is_file() else (file for file in path.rglob("*") if file.is_file())
    return sum(file.stat().st_size for file in files)


def _compressed(data: bytes) -> int:
    return len(zlib.compress(data, 9))
