"""What Beam raises when a run elsewhere fails -> the error to show: a worker's own words, without the stacks around them."""

from __future__ import annotations

import builtins
import re

from components.io import workers
from schemas import errors
from schemas.errors import ConfigError, PenstockError

# The last line of a Python traceback, with the lines of its message, up to the transform that Beam appends; where an exception
# came from unpickling there is none, and Java's own stack may follow.
_RAISED = re.compile(r"^([A-Za-z_][\w.]*): (.*?) \[while running '[^'\n]*'\]", re.MULTILINE | re.DOTALL)
_RAISED_OUTSIDE = re.compile(r"^([A-Za-z_][\w.]*)(?:: (.*?))?(?=\n\n|\n\tat |\s*\Z)", re.MULTILINE | re.DOTALL)
_TRACEBACK = "Traceback (most recent call last):"


def explained(error: Exception, job_endpoint: str | None = None, environment: str | None = None) -> Exception:
    """The error that a run on workers ended with, in this process; `error` itself where it tells nothing of a worker.

    What a worker raised as an error of ours is that error again, and one of Python's own is of its class. `job_endpoint` and
    `environment` are the values of Beam's --job_endpoint and --environment_config, for messages.
    """
    import grpc

    text = str(error)
    if isinstance(error, grpc.FutureTimeoutError | grpc.RpcError) and _TRACEBACK not in text:
        said = getattr(error, "details", lambda: None)() or "no answer in time"
        return ConfigError(
            f"beam.args: the job service at --job_endpoint={job_endpoint} does not answer ({said}). Start it, or correct the "
            f"address"
        )
    if _TRACEBACK not in text:
        return error
    if "StartWorker" in text and "StatusCode.UNAVAILABLE" in text:
        details = re.search(r'details = "([^"]*)"', text)
        return ConfigError(
            f"beam.args: the job service reaches no worker pool at --environment_config={environment}"
            f"{f' ({details.group(1)})' if details else ''}. Start one there (python -m "
            f"apache_beam.runners.worker.worker_pool_main --service_port=PORT), or correct the address"
        )
    kind, message = _raised(text)
    name = kind.rpartition(".")[2]
    ours = getattr(errors, name, None)
    if kind.startswith(f"{errors.__name__}.") and isinstance(ours, type) and issubclass(ours, PenstockError):
        return ours(*message.split("\n")) if ours is ConfigError else ours(message)
    return _of_unpickling(name, message) or _of_files(name, message) or _of_python(name, message)


def _raised(text: str) -> tuple[str, str]:
    """(the class, the message) of the last exception in the last traceback of `text`."""
    last = text[text.rindex(_TRACEBACK) + len(_TRACEBACK) :]
    found = _RAISED.search(last) or _RAISED_OUTSIDE.search(last)
    if not found:
        return "RuntimeError", text.strip()
    kind, message = found[1], (found[2] or "").strip()
    # What Beam cannot make again with a longer message it raises as RuntimeError, with the class in front.
    inner = re.match(r"([A-Z]\w*(?:Error|Exception)): (.*)", message, re.DOTALL) if kind == "RuntimeError" else None
    return (inner[1], inner[2]) if inner else (kind, message)


def _of_unpickling(name: str, message: str) -> ConfigError | None:
    """A module, or a name in one of ours, that the worker does not have."""
    missing = re.match(r"No module named '([\w.]+)'", message)
    if name == "ModuleNotFoundError" and missing:
        return workers.missing_module(missing.group(1), "They need all that is imported here.")
    if name in ("AttributeError", "ImportError") and re.search(r"'(components|schemas)\.[\w.]+'", message):
        return ConfigError(f"beam: the workers have another version of Penstock ({message}). {workers.MEND}")
    return None


def _of_files(name: str, message: str) -> ConfigError | None:
    if name in ("FileNotFoundError", "PermissionError", "NotFoundError"):
        return ConfigError(
            f"beam: a worker cannot open a file ({message}). Every worker needs the pipeline's root and its input files under "
            f"the same paths as here: keep them on storage that all machines mount"
        )
    return None


def _of_python(name: str, message: str) -> Exception:
    kind = getattr(builtins, name, None)
    if isinstance(kind, type) and issubclass(kind, Exception) and not issubclass(kind, UnicodeError):
        made: Exception = kind(message)
        return made
    return RuntimeError(f"{name}: {message}" if message else name)
