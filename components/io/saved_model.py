"""SavedModels: a directory that TensorFlow, TensorFlow Serving and TFMA open."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from schemas.errors import ArtifactError

if TYPE_CHECKING:
    import tensorflow as tf

SERVING_DEFAULT = "serving_default"  # the signature a client gets when it names none


def exists(path: Path) -> bool:
    """Whether `path` holds a SavedModel."""
    return (path / "saved_model.pb").is_file() or (path / "saved_model.pbtxt").is_file()


def load(path: Path) -> Any:
    """The SavedModel at `path`, loaded as a server does; its signatures are in `.signatures`. Raises ArtifactError."""
    import tensorflow as tf  # slow to import

    if not exists(path):
        raise ArtifactError(f"{path} has no saved_model.pb: it is not a SavedModel. Train the model again")
    return tf.saved_model.load(str(path))


def save(module: tf.Module, path: Path, signatures: Mapping[str, Any]) -> None:
    """Write `module`, with everything that the concrete functions `signatures` capture tracked in it, once."""
    import tensorflow as tf

    # The names of Python functions in the graph help nobody who serves it and change with every run.
    options = tf.saved_model.SaveOptions(save_debug_info=False)
    tf.saved_model.save(module, str(path), signatures=dict(signatures), options=options)
