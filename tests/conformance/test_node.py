"""What a node forks is what a start would have made, but for the libraries that it has in memory."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from kfp_backend.node import Node
from kfp_backend.pods import Image, Mount, Pod, namespaces

CHECKOUT = Path(__file__).parents[2]
# In the image as a command. It tells everything of its process that a step of a pipeline could ask for.
TELL = """#!/usr/bin/env python
import atexit, getpass, json, os, resource, signal, socket, sys, tempfile, threading
import beside

def may_write(path):
    try:
        with tempfile.TemporaryFile(dir=path):
            return True
    except OSError:
        return False

def is_at(descriptor):
    return os.readlink(f"/proc/self/fd/{descriptor}")

def status(name):
    (line,) = (line for line in open("/proc/self/status") if line.startswith(name + ":"))
    return line.split()[1:]

atexit.register(print, "at exit")
print("a warning", file=sys.stderr)
told = {
    "arguments": sys.argv,
    "directory": os.getcwd(),
    "variables": {name: value for name, value in os.environ.items() if name not in ("OLDPWD", "PWD", "_")},  # a shell's
    "search": sys.path,
    "main": [sys.modules["__main__"].__file__, __name__],
    "beside": beside.__file__,
    "standard": [is_at(0), is_at(1) == is_at(2), is_at(1)[-3:], sys.stdout.line_buffering, sys.stdout.encoding],
    "descriptors": len(os.listdir("/proc/self/fd")),
    "user": [os.getuid(), os.getgid(), os.geteuid()],
    "rights": [status(name) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "NoNewPrivs", "Seccomp")],
    "signals": {name: str(signal.getsignal(getattr(signal, name))) for name in ("SIGINT", "SIGTERM", "SIGCHLD", "SIGPIPE", "SIGHUP")},
    "blocked": [int(status(name)[0], 16) & ~(3 << 31) for name in ("SigBlk", "SigIgn", "SigCgt")],  # 32 and 33: glibc's own
    "limits": [resource.getrlimit(limit) for limit in (resource.RLIMIT_NOFILE, resource.RLIMIT_CORE, resource.RLIMIT_STACK)],
    "mask": os.umask(0o22),
    "threads": threading.active_count(),
    "temporary": tempfile.gettempdir(),
    "writable": {path: may_write(path) for path in ("/", "/app", "/tmp", "/dev/shm", "/minio", sys.prefix, given)
                 } if (given := sys.argv[1]) else {},
    "has written": may_write(given),
}
if sys.argv[2] == "isolated":
    told["host"] = socket.gethostname()
    told["processes"] = sorted(int(name) for name in os.listdir("/proc") if name.isdigit() and int(name) < 3)
    told["root"] = sorted(os.listdir("/"))
    told["mounts"] = sorted(line.split()[4] for line in open("/proc/self/mountinfo"))
else:
    told["leads its session"] = os.getsid(0) == os.getpid() == os.getpgid(0)
with open(os.path.join(given, "told-" + sys.argv[3]), "w") as file:
    json.dump(told, file)
sys.exit(7)
"""
# Starts a process of its own, says so, and sleeps.
SLEEP = """#!/usr/bin/env python
import subprocess, sys, time
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)", sys.argv[1]])
open(sys.argv[1], "w").write("asleep")
time.sleep(600)
"""


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    log = tmp_path_factory.mktemp("node") / "log.txt"
    node = Node(Image.environment_of(CHECKOUT), ["numpy", "pyarrow"], log)
    yield node
    node.close()
    assert log.read_text() == ""


@pytest.fixture
def image(tmp_path: Path) -> Image:
    """An image with two commands and a module beside them."""
    app = tmp_path / "app"
    app.mkdir()
    for name, text in (("tell", TELL), ("asleep", SLEEP), ("beside.py", "")):
        (app / name).write_text(text)
        (app / name).chmod(0o755)
    made = Image.of(app, tmp_path / "image", CHECKOUT)
    return Image(made.app, {**made.environment, "PATH": f"{app}:{made.environment['PATH']}"}, (*made.also, app))


@pytest.fixture(params=[True, False], ids=["isolated", "shared"])
def isolated(request: pytest.FixtureRequest) -> bool:
    if request.param and not namespaces():
        pytest.skip("this machine lets nobody make namespaces")
    return bool(request.param)


def test_what_is_forked_is_as_what_is_started(tmp_path: Path, image: Image, node: Node, isolated: bool) -> None:
    volume = tmp_path / "volume"
    volume.mkdir()
    volume.chmod(0o777)
    told: dict[str, dict[str, Any]] = {}
    logs = {}
    for how, where in (("started", None), ("forked", node)):
        pod = Pod("pod-1", tmp_path / how, image, [Mount(volume, str(volume))], isolated, where)
        words = ["tell", str(volume), "isolated" if isolated else "shared", how]

        assert pod.run(words, {"GIVEN": "value"}) == 7, pod.log.read_text()

        text = (volume / f"told-{how}").read_text()
        told[how] = json.loads(text.replace(str(tmp_path / how), "POD").replace(f'"{how}"', '"HOW"'))
        logs[how] = pod.log.read_text()

    assert told["forked"] == told["started"]
    assert told["forked"]["variables"]["GIVEN"] == "value"
    assert logs["forked"] == logs["started"] == "a warning\nat exit\n"


def test_a_pod_that_is_forked_is_killed_with_all_it_started_and_nothing_else_is(
    tmp_path: Path, image: Image, node: Node, isolated: bool
) -> None:
    volume = tmp_path / "volume"
    volume.mkdir()
    volume.chmod(0o777)
    with (tmp_path / "other.txt").open("wb") as file:
        words = [str(image.app / "asleep"), str(volume / "other")]
        other = node.start(words, image.environment, tmp_path, file.fileno(), file.fileno())
    pod = Pod("pod-1", tmp_path / "pod", image, [Mount(volume, str(volume))], isolated, node)

    code = pod.run(["asleep", str(volume / "this")], {}, kill_when=(volume / "this").exists)

    assert code == -9
    wait_until((volume / "other").exists)
    assert other.poll() is None
    wait_until(lambda: asleep(tmp_path) == [str(volume / "other")])
    os.killpg(other.pid, signal.SIGKILL)
    assert other.wait() == -9
    wait_until(lambda: asleep(tmp_path) == [])


def test_what_is_forked_draws_random_numbers_of_its_own(tmp_path: Path, image: Image, node: Node) -> None:
    (image.app / "draw").write_text(
        "import numpy, random, uuid\nprint(numpy.random.random(), random.random(), uuid.uuid4())"
    )

    first, second = (node.run([str(image.app / "draw")], image.environment, tmp_path).stdout.split() for _ in range(2))

    assert len(first) == 3
    assert not set(first) & set(second)


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def asleep(directory: Path) -> list[str]:
    """What the processes that sleep were given, of those that were given something below `directory`."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            words = file.read_text().split("\0")
            found += [words[-2]] if "-c" in words and words[-2].startswith(str(directory)) else []
    return found
