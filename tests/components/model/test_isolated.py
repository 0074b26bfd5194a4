"""A call in a process of its own gives what the function gives, raises what it raises, and says how it died."""

from __future__ import annotations

import math
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from components.model.isolated import Call, ProcessDied, RemoteTraceback, tensorflow_has_run
from schemas.dotted_path import resolve
from schemas.errors import ConfigError

# A class that cannot be made again from what it was pickled to.
RAISES_ITS_OWN = """
class Unportable(Exception):
    def __init__(self, first, second):
        super().__init__(f"{first} and {second}")

raise Unportable("one", "two")
"""


def test_the_result_comes_from_another_process():
    assert Call(os.getpid).result() != os.getpid()


def test_several_calls_go_on_at_once_and_are_told_apart_as_they_end():
    never, soon = Call(time.sleep, 600), Call(math.sqrt, 4.0)

    assert multiprocessing.connection.wait([never.connection, soon.connection]) == [soon.connection]
    assert soon.result() == 2.0
    never.kill()


def test_an_error_is_the_function_s_own_with_its_traceback_as_the_cause():
    with pytest.raises(ConfigError, match="'nothing' is not a dotted path") as caught:
        Call(resolve, "nothing").result()

    assert isinstance(caught.value.__cause__, RemoteTraceback)
    assert f'File "{resolve.__code__.co_filename}", line ' in str(caught.value.__cause__)


def test_an_error_that_cannot_be_pickled_keeps_its_name_and_message():
    with pytest.raises(RuntimeError, match="Unportable: one and two"):
        Call(exec, RAISES_ITS_OWN).result()


@pytest.mark.parametrize(
    ("function", "argument", "how"),
    [
        (signal.raise_signal, signal.SIGTERM, "was killed by SIGTERM"),
        (os._exit, 3, "ended with exit code 3 before it had a result"),
    ],
    ids=["signal", "exit"],
)
def test_a_process_that_dies_says_how(function, argument, how):
    with pytest.raises(ProcessDied, match=how):
        Call(function, argument).result()


def test_where_tensorflow_has_run_the_process_starts_anew():
    import tensorflow as tf

    tf.constant(1)

    assert tensorflow_has_run()
    assert Call(tensorflow_has_run).result() is False


def test_the_process_ends_with_the_one_that_waits_for_it():
    program = """
import os, signal, time
from components.model.isolated import Call
call, other = Call(time.sleep, 600), Call(time.sleep, 600)
print(call._process.pid, other._process.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    ended = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, check=False)

    for pid in ended.stdout.split():
        for _ in range(1000):
            if not (Path("/proc") / pid).exists():
                break
            time.sleep(0.01)
        else:
            pytest.fail(f"process {pid} goes on")
