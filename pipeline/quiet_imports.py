"""Keeps away what libraries say, on standard error and in logs, while a user's module imports them."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import sys
import threading
import warnings
from collections.abc import Iterator
from typing import Any

from schemas.dotted_path import resolve

_PREPARED = (
    "components.io.tfx_ahead.prepared"  # most of the time that reading a definition of TFX's takes is importing TFX
)
_quiet_users = 0  # imports that are kept quiet in this process; two may go on in threads
_quiet = contextlib.ExitStack()
_quiet_lock = threading.Lock()


@contextlib.contextmanager
def quiet_imports() -> Iterator[None]:
    """Keep away what libraries warn of while a user's module imports them: from the first that imports to the last that is done."""
    global _quiet_users
    with _quiet_lock:
        _quiet_users += 1
        if _quiet_users == 1:
            _quiet.enter_context(_without_collections())
            _quiet.enter_context(_without_warnings())
    try:
        yield
    finally:
        with _quiet_lock:
            _quiet_users -= 1
            if _quiet_users == 0:
                _quiet.close()


@contextlib.contextmanager
def _without_collections() -> Iterator[None]:
    """What is imported stays, so that nothing is found by looking through it, which takes a sixth of importing TFX."""
    collecting = gc.isenabled()  # the user's own program may have said no
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


@contextlib.contextmanager
def _without_warnings() -> Iterator[None]:
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "TF_USE_LEGACY_KERAS": "1"}
    before = {name: os.environ.get(name) for name in quiet}
    os.environ.update(quiet)
    disabled = logging.root.manager.disable  # by the user's own program, in which this may run
    logging.disable(max(disabled, logging.WARNING))
    without_addons: Any = _WithoutAddons(sys.stderr)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(without_addons), resolve(_PREPARED)():
            warnings.simplefilter("ignore", FutureWarning)
            yield
    finally:
        logging.disable(disabled)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


class _WithoutAddons:
    """Standard error without what TFMA writes there whenever it is imported: its wheel lacks a package that it looks for."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        if text.startswith(
            "Error importing: cannot import name 'addons' from partially initialized module 'tensorflow"
        ):
            return len(text)
        written: int = self._stream.write(text)
        return written

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
