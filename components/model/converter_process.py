"""A converter's module and its job -> the converter run in a process of its own, and what it could not convert by name."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from schemas.errors import ConfigError

LAST_LINES = 15  # of what a converter wrote, where nothing is known of it


def convert(setting: str, module: str, job: Mapping[str, Any], layers: Iterable[str]) -> None:
    """Run `python -m module JOB`. It prints the name of each export as it begins.

    Raises ConfigError, beginning with `setting`, when it fails or crashes: with the export, the operations that cannot be
    converted and those of the network's `layers` that have them, as far as the converter says.
    """
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "job.json"
        file.write_text(json.dumps(job), encoding="utf-8")
        # -P: no module in the working directory is taken for a library's.
        ended = subprocess.run(
            [sys.executable, "-P", "-m", module, str(file)],
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
    if ended.returncode != 0:
        raise ConfigError(_explained(setting, ended, tuple(layers)))


def _explained(setting: str, ended: subprocess.CompletedProcess[str], layers: tuple[str, ...]) -> str:
    exports = [line for line in ended.stdout.splitlines() if re.fullmatch(r"(tflite|tfjs)_\w+", line)]
    what = exports[-1] if exports else "the network"
    how = (
        f"the converter crashed ({signal.Signals(-ended.returncode).name})"
        if ended.returncode < 0
        else "the converter refused it"
    )
    operations = unsupported_operations(ended.stderr)
    if not operations:
        last = "\n  ".join(ended.stderr.strip().splitlines()[-LAST_LINES:])
        return f"{setting}: {what} cannot be made: {how}. It said last:\n  {last}"
    errors = "\n".join(line for line in ended.stderr.splitlines() if "error: loc(" in line)
    named = [layer for layer in layers if f"/{layer}/" in errors]
    where = f" in layer {', '.join(repr(layer) for layer in named)}" if named else ""
    return (
        f"{setting}: {what} cannot be made, since it has no operation for {', '.join(operations)}{where} ({how}). "
        f"Move that into preprocessing_fn, build the layer of other operations, or leave this export out"
    )


def unsupported_operations(said: str) -> tuple[str, ...]:
    """The TensorFlow operations that a converter says it cannot convert, sorted."""
    found = set(re.findall(r"'?tf\.(\w+)'? op is neither a custom op nor a flex op", said))
    for listed in re.findall(r"^(?:TF Select|Flex|Custom) ops: (.+)$", said, re.MULTILINE):
        found |= {operation.strip().removeprefix("Flex") for operation in listed.split(",")}
    for listed in re.findall(r"Unsupported Ops in the model[^\n]*\n([^\n]+)", said):
        found |= {operation.strip() for operation in listed.split(",")}
    return tuple(sorted(found))
