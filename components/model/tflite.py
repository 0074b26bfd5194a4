"""A network's SavedModel -> TensorFlow Lite models, and their predictions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, get_args

from components.io.saved_model import SERVING_DEFAULT
from components.model import converter_process, tflite_conversion
from schemas.errors import ConfigError

Variant = Literal["float", "dynamic", "float16", "int8"]
VARIANTS: tuple[Variant, ...] = get_args(Variant)
FILE = "tflite"  # TFX's rewriter writes this name, and TFMA reads it
SETTING = "tflite"


def convert(
    network: Path, files: Mapping[str, tuple[str, Path]], representative: Path, *, int8_io: bool, layers: Iterable[str]
) -> None:
    """Write each of `files`, {export's name: (variant, file)}. `representative` is the .npz for what int8 needs to see.

    Raises ConfigError naming the operation and layer that TensorFlow Lite does not have.
    """
    job = {
        "network": str(network),
        "signature": SERVING_DEFAULT,
        "representative": str(representative),
        "int8_io": int8_io,
        "exports": {name: {"variant": variant, "file": str(file)} for name, (variant, file) in files.items()},
    }
    converter_process.convert(SETTING, tflite_conversion.__name__, job, layers)


class Interpreter:
    """One TensorFlow Lite model, on one thread. Called with features by name it gives the outputs by name, as 32-bit numbers.

    Where inputs or outputs are 8-bit integers, numbers are scaled here as a caller has to do it.
    """

    def __init__(self, name: str, file: Path) -> None:
        import tensorflow as tf

        self._name = name
        try:
            self._run = tf.lite.Interpreter(str(file), num_threads=1).get_signature_runner(SERVING_DEFAULT)
        except (ValueError, RuntimeError) as error:
            raise self._cannot(error) from error
        self.inputs: dict[str, dict[str, Any]] = self._run.get_input_details()
        self.outputs: dict[str, dict[str, Any]] = self._run.get_output_details()

    def __call__(self, features: Mapping[str, Any]) -> dict[str, Any]:
        import numpy as np

        fed = {name: _quantized(np.asarray(features[name]), detail) for name, detail in self.inputs.items()}
        try:
            given = self._run(**fed)
        except (ValueError, RuntimeError) as error:
            raise self._cannot(error) from error
        return {name: _number(given[name], detail) for name, detail in self.outputs.items()}

    def describe(self) -> dict[str, list[dict[str, Any]]]:
        """JSON: name, type and shape of every input and output; -1 is the batch, and `scale` and `zero_point` of 8 bits."""
        return {
            "inputs": [_described(name, detail) for name, detail in sorted(self.inputs.items())],
            "outputs": [_described(name, detail) for name, detail in sorted(self.outputs.items())],
        }

    def _cannot(self, error: Exception) -> ConfigError:
        said = str(error).strip().splitlines()
        return ConfigError(
            f"{SETTING}: {self._name} was made, but TensorFlow Lite cannot run it: {said[0] if said else type(error).__name__}. "
            f"Move lookups of text into preprocessing_fn, or leave this export out"
        )


def _quantized(values: Any, detail: Mapping[str, Any]) -> Any:
    import numpy as np

    scale, zero = detail["quantization"]
    if detail["dtype"] == np.int8 and scale:
        return np.clip(np.round(values / scale) + zero, -128, 127).astype(np.int8)
    return values.astype(detail["dtype"])


def _number(values: Any, detail: Mapping[str, Any]) -> Any:
    import numpy as np

    scale, zero = detail["quantization"]
    if values.dtype == np.int8 and scale:
        return ((values.astype(np.float32) - zero) * scale).astype(np.float32)
    return values


def _described(name: str, detail: Mapping[str, Any]) -> dict[str, Any]:
    import numpy as np

    scale, zero = detail["quantization"]
    quantization = {"scale": float(scale), "zero_point": int(zero)} if scale else {}
    return {
        "name": name,
        "type": np.dtype(detail["dtype"]).name,
        "shape": [int(size) for size in detail["shape_signature"]],
        **quantization,
    }
