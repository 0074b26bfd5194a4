"""A process of its own that converts a network's SavedModel to TensorFlow Lite: `python -m ... JOB`, where a crash ends nothing else.

JOB is a JSON file: {"network", "signature", "representative", "int8_io", "exports": {name: {"variant", "file"}}}. The
representative records are an .npz of [records, ...] arrays by input. The name of each export is printed as its conversion begins.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def main(job_file: str) -> None:
    """Make every export of the job, in order."""
    job = json.loads(Path(job_file).read_text(encoding="utf-8"))
    for name, export in job["exports"].items():
        sys.stdout.write(f"{name}\n")
        sys.stdout.flush()
        Path(export["file"]).write_bytes(_converted(job, export["variant"]))


def _converted(job: dict[str, Any], variant: str) -> bytes:
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_saved_model(job["network"], signature_keys=[job["signature"]])
    if variant != "float":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if variant == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if variant == "int8":
        converter.representative_dataset = lambda: _records(Path(job["representative"]))
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        if job["int8_io"]:
            converter.inference_input_type = converter.inference_output_type = tf.int8
    model: bytes = converter.convert()
    return model


def _records(file: Path) -> Iterator[dict[str, Any]]:
    """One record at a time, as a batch of one."""
    import numpy as np

    with np.load(file) as arrays:
        columns = {name: arrays[name] for name in arrays.files}
    for row in range(len(next(iter(columns.values())))):
        yield {name: column[row : row + 1] for name, column in columns.items()}


if __name__ == "__main__":
    main(sys.argv[1])
