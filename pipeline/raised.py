"""An exception that the user's code raised -> a sentence that begins with the user's line."""

from __future__ import annotations

import traceback
from pathlib import Path

from pipeline.fingerprint import is_installed, shown

_HOME = Path(__file__).parents[1]
_OURS = ("pipeline", "components", "schemas")


def raised(error: BaseException) -> str:
    """'project_steps.py:3 in <module>: KeyError: 'x'', with the user's innermost line; the exception alone without one."""
    said = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    if isinstance(error, SyntaxError) and error.filename:
        return f"{shown(Path(error.filename))}:{error.lineno}: not valid Python: {error.msg}"
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        file = Path(frame.filename)
        if file.is_file() and not is_installed(file) and not any(file.is_relative_to(_HOME / name) for name in _OURS):
            return f"{shown(file)}:{frame.lineno} in {frame.name}: {said}"
    return said
