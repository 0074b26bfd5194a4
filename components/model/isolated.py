"""A function -> what it gives in a process of its own, which returns its memory, and whose death ends nothing else."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from schemas.exit_code import how_its_process_died


class ProcessDied(Exception):
    """The process ended before the function did; the message says how."""


class RemoteTraceback(Exception):
    """The cause of an error that was raised in another process: the traceback there, as text."""


class Call:
    """A call of a function in a new process, which begins at once. `connection` is readable when it has ended.

    The process is forked from this one, which takes some 20 ms, unless TensorFlow has run an operation here, whose threads a
    fork would lack: then it starts anew and imports all it needs, which takes seconds. It ends with this process. The
    function, its arguments and its result are such that they can be pickled.
    """

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        context: Any = multiprocessing.get_context("spawn" if tensorflow_has_run() else "fork")
        self.connection, theirs = context.Pipe(duplex=False)
        self._process = context.Process(target=_answer, args=(theirs, function, arguments))
        self._process.start()
        theirs.close()  # so that this end reads the end of the file when the process is gone

    def result(self) -> Any:
        """What the function gives, once it has. Raises what it raises, and ProcessDied."""
        try:
            value, error, trace = self.connection.recv()
        except (EOFError, ConnectionError):
            self._process.join()
            raise ProcessDied(how_its_process_died(self._process.exitcode, "a result")) from None
        finally:
            self.connection.close()
        self._process.join()
        if error is not None:
            raise error from RemoteTraceback(trace)
        return value

    def kill(self) -> None:
        """End the process, however far it is. To be called once, and not after `result`."""
        self._process.kill()
        self._process.join()
        self.connection.close()


def tensorflow_has_run() -> bool:
    """Whether TensorFlow has run an operation in this process, or looked for devices: it is not to be forked then."""
    module = sys.modules.get("tensorflow.python.eager.context")
    context = module.context_safe() if module is not None else None
    return context is not None and (context._initialized or context._physical_devices is not None)


def _answer(connection: Connection, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    """What the process does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever waits for the result decides what ends
    threading.Thread(target=_end_with_parent, daemon=True).start()
    answer: tuple[Any, Exception | None, str]
    try:
        answer = function(*arguments), None, ""
    except Exception as error:  # noqa: BLE001 whatever it is, it is raised where the result is waited for
        answer = None, _portable(error), traceback.format_exc()
    connection.send(answer)
    connection.close()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # not through the interpreter's shutdown, which waits for threads that TensorFlow never ends


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _portable(error: Exception) -> Exception:
    """The error itself where it survives the way to another process, else one that has its class' name and message."""
    try:
        if type(pickle.loads(pickle.dumps(error))) is type(error):
            return error
    except Exception:  # noqa: BLE001 a class of the user's may fail in its own way
        pass
    return RuntimeError(f"{type(error).__name__}: {error}")
