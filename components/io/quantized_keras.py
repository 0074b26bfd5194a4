"""Keras archives of models whose layers TFMOT quantises: they need its classes, two of them mended, to be read."""

from __future__ import annotations

import contextlib
import zipfile
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any


def scope_of(file: Path) -> AbstractContextManager[Any]:
    """Where the Keras archive at `file` can be loaded: nothing special, unless it has quantised layers."""
    try:
        with zipfile.ZipFile(file) as archive:
            quantized = b'"QuantizeWrapperV2"' in archive.read("config.json")
    except (zipfile.BadZipFile, KeyError):
        quantized = False  # Keras says better what is wrong with it
    return quantize_scope() if quantized else contextlib.nullcontext()


@contextlib.contextmanager
def quantize_scope() -> Any:
    """TFMOT's own scope, in which its quantised layers are known, with the two that no .keras archive can restore mended.

    Keras builds a layer from its archive before the layer it wraps has weights, and a second time when it is first
    called. TFMOT's layers then have fewer or more variables than were saved.
    """
    import tensorflow_model_optimization as tfmot
    import tf_keras
    from tensorflow_model_optimization.python.core.quantization.keras import quantize_layer, quantize_wrapper

    class QuantizeLayer(quantize_layer.QuantizeLayer):
        def build(self, input_shape: Any) -> None:
            if not getattr(self, "built", False):
                super().build(input_shape)
                self.built = True

    class QuantizeWrapperV2(quantize_wrapper.QuantizeWrapperV2):
        def build(self, input_shape: Any) -> None:
            if self.built:
                return
            if not self.layer.built:
                self.layer.build(input_shape)
                self.layer.built = True
            super().build(input_shape)

    mended = {"QuantizeLayer": QuantizeLayer, "QuantizeWrapperV2": QuantizeWrapperV2}
    with tfmot.quantization.keras.quantize_scope(), tf_keras.utils.custom_object_scope(mended):
        yield
