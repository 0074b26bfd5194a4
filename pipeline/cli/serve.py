"""`pipeline serve`: answers requests to the models of serving directories, as TensorFlow Serving does."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from schemas.dotted_path import resolve

SERVER = "components.serving.server.Server"


def serve_models(directories: Iterable[str] = (), *, say: Callable[[str], None] = print, **settings: Any) -> None:
    """Serve until SIGTERM or Ctrl-C. `settings` are those of `components.serving.server.Server`."""
    resolve(SERVER)(directories=tuple(directories), **settings).run(say)
