"""A process of its own that converts a network's SavedModel to TensorFlow.js, whose libraries no other step has to load.

`python -m ... JOB`, where JOB is a JSON file: {"network", "signature", "exports": {name: {"variant", "file"}}}, of which `file`
is the directory to write. The name of each export is printed as its conversion begins.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path


def main(job_file: str) -> None:
    """Make every export of the job, in order."""
    from tensorflowjs.converters import tf_saved_model_conversion_v2

    job = json.loads(Path(job_file).read_text(encoding="utf-8"))
    for name, export in job["exports"].items():
        sys.stdout.write(f"{name}\n")
        sys.stdout.flush()
        tf_saved_model_conversion_v2.convert_tf_saved_model(
            job["network"],
            export["file"],
            signature_def=job["signature"],
            quantization_dtype_map={"uint8": "*"} if export["variant"] == "uint8" else None,
        )


if __name__ == "__main__":
    main(sys.argv[1])
