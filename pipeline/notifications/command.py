"""Tells a command of the user's how a run ended: JSON on its standard input."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.ledger.database import portable_json

_TIMEOUT_S = 60.0


def run_command(
    argv: Sequence[str], said: Mapping[str, Any], log: Path | None = None, *, timeout_s: float = _TIMEOUT_S
) -> str | None:
    """Run `argv` with `said` as JSON on its standard input; gives why that failed, or None.

    What it prints is added to the file `log`, without one to this process's standard error. It and what it started are ended
    after `timeout_s`, and with this process's own end by Ctrl-C. Raises nothing but KeyboardInterrupt.
    """
    place = f"the command {argv[0]}"
    try:
        with log.open("ab") if log else contextlib.nullcontext(2) as output:
            process = subprocess.Popen(
                argv,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                start_new_session=True,  # a group of its own, so that what it starts ends with it
            )
            try:
                process.communicate(portable_json(said).encode(), timeout_s)
            except subprocess.TimeoutExpired:
                return f"{place} was ended: it took more than {timeout_s:g} s"
            finally:
                if process.returncode is None:
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
    except FileNotFoundError as error:
        missing = "there is no such program" if error.filename == argv[0] else f"{error.filename}: {error.strerror}"
        return f"{place} cannot be run: {missing}"
    except OSError as error:
        return f"{place} cannot be run: {error.strerror}"
    except Exception as error:  # noqa: BLE001 nothing that goes wrong here is a reason to fail a finished run
        return f"{place} cannot be run: {type(error).__name__}"
    if process.returncode:
        how = (
            f"was ended by {signal.Signals(-process.returncode).name}"
            if process.returncode < 0
            else f"ended with exit code {process.returncode}"
        )
        return f"{place} {how}" + (f"; what it said is in {log}" if log else "")
    return None
