"""Imported by the process that steps are forked from: it imports what they will need, and keeps it out of their garbage.

An import makes half a million objects that live as long as the process. Without a look at them a whole collection of a step
is quicker by a quarter of a second, and the memory they are in stays shared, since a collection writes to every object.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os

MODULES = "PENSTOCK_WARM_MODULES"  # the environment variable that names them, separated by spaces

if MODULES in os.environ:
    gc.disable()
    for name in os.environ.pop(MODULES).split():
        with contextlib.suppress(ImportError):  # a step that needs it says so in its own log
            importlib.import_module(name)
    gc.freeze()
    gc.enable()
