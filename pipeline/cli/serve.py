"""`pipeline serve`: answers requests to the models of serving directories, as TensorFlow Serving does."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable
from typing import Any

from schemas.dotted_path import resolve

SERVER = "components.serving.server.Server"


def serve_models(directories: Iterable[str] = (), *, say: Callable[[str], None] = print, **settings: Any) -> None:
    """Serve until SIGTERM or Ctrl-C. `settings` are those of `components.serving.server.Server`, as are the errors."""
    server = resolve(SERVER)(directories=tuple(directories), **settings)
    # What TensorFlow and Google's libraries print when they are imported is nothing that somebody who serves can act on.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"google\.")
    server.run(say)
