"""A pod: one command as its own process, that sees an image, volumes and variables, and nothing of who starts it.

Where the machine lets a user make namespaces, that is meant literally: the root is read-only and the image lies in /app of
it, only volumes, /tmp, /dev/shm and the launcher's directories can be written, the user is a number without a name or rights, and
processes and host name are the pod's own. Elsewhere the image is a copy that may not be written, its files are compared
afterwards, and what the backend would put at a fixed path (/tmp, /minio) lies in the pod's directory instead.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kfp_backend.driver import local_path
from kfp_backend.node import Entry, Forked, Node
from kfp_backend.rules import reject

USER = 65532  # in no passwd file
LAUNCHERS = ("/minio", "/gcs", "/s3", "/.local", "/.cache", "/.config")  # empty directories in every pod of KFP
SMALL_POLL_S = 0.01

Process = subprocess.Popen[bytes] | Forked


@dataclass(frozen=True)
class Image:
    """A container image: what lies in /app, and its variables."""

    app: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    also: tuple[Path, ...] = ()  # directories of this machine that stand for more of the image, at their own paths

    @classmethod
    def of(cls, app: Path, directory: Path, checkout: Path) -> Image:
        """An image that has `pipeline`, this interpreter with its libraries, and a copy of `app` that nobody may write."""
        copy = directory / "app"
        shutil.copytree(app, copy, ignore=shutil.ignore_patterns("__pycache__"))
        for path in (copy, *copy.rglob("*")):
            path.chmod(path.stat().st_mode & ~0o222)
        also = {checkout, Path(sys.prefix), Path(sys.base_prefix)}  # a pod's /tmp is its own, wherever these lie
        return cls(copy, cls.environment_of(checkout), tuple(sorted(also)))

    @staticmethod
    def environment_of(checkout: Path) -> dict[str, str]:
        """Where `pipeline`, the interpreter and this repository are found, and nothing else."""
        search = (str(Path(sys.executable).parent), "/usr/local/bin", "/usr/bin", "/bin")
        return {"PATH": os.pathsep.join(search), "PYTHONPATH": str(checkout), "PYTHONDONTWRITEBYTECODE": "1"}

    def state(self) -> dict[str, tuple[int, int]]:
        """Size and time of every file, to find what was written."""
        found = ((path, path.stat()) for path in sorted(self.app.rglob("*")))
        return {str(path.relative_to(self.app)): (stat.st_size, stat.st_mtime_ns) for path, stat in found}


UNSHARE = ("unshare", "--user", "--map-root-user", "--mount", "--uts", "--pid", "--fork")

# $1: an empty directory for the new root, $2: the host's name, $3: the user; then the command. MOUNTS and WRITABLE are filled in.
ENTER = """
set -e
mount --make-rprivate /
root=$1 host=$2 user=$3 path=$PATH
shift 3
PATH=$PATH:/usr/sbin:/sbin
mount -t tmpfs -o mode=755 tmpfs "$root"
for entry in /* /.[!.]*; do
  name=${entry#/}
  case $name in tmp|proc|app|lost+found) continue ;; esac
  if [ -L "$entry" ]; then cp -P "$entry" "$root/$name"
  elif [ -d "$entry" ]; then mkdir "$root/$name"; mount --rbind "$entry" "$root/$name"; fi
done
mkdir -p "$root/proc"
MOUNTS
mount -t proc proc "$root/proc"
mount -t tmpfs -o size=64m,mode=1777 tmpfs "$root/dev/shm"
hostname "$host"
cd "$root"
pivot_root . .
umount -l .
cd /app
for mounted in $(cut -d' ' -f5 /proc/self/mountinfo); do
  case $mounted in WRITABLE/proc|/proc/*|/sys|/sys/*|/dev|/dev/*) ;; *) mount -o remount,bind,ro "$mounted" ;; esac
done
PATH=$path
"""
START = """
unshare --user --map-user="$user" --map-group="$user" "$@" && code=0 || code=$?
exit $code
"""


@dataclass(frozen=True)
class Mount:
    """A directory of this machine at a path of the pod's."""

    source: Path
    path: str
    writable: bool = True


def entering(root: Path, host: str, mounts: Sequence[Mount], then: str = START) -> list[str]:
    """The words before a command that put it into a pod's namespaces; `root` is an empty directory.

    With another `then` they are a command of its own, which does what comes before that in namespaces that are there.
    """
    lines = []
    inner_last = sorted(mounts, key=lambda mount: mount.path.count("/"))  # what lies in another is mounted after it
    for mount in inner_last:
        inside = f'"$root"{shlex.quote(mount.path)}'
        lines.append(f"mkdir -p {inside}\nmount --bind {shlex.quote(str(mount.source))} {inside}")
    writable = "".join(f"{shlex.quote(mount.path)}|" for mount in mounts if mount.writable)
    script = ENTER.replace("MOUNTS", "\n".join(lines)).replace("WRITABLE", writable) + then
    return [*(UNSHARE if then == START else ()), "sh", "-c", script, "sh", str(root), host, str(USER)]


@functools.cache
def namespaces() -> bool:
    """Whether this machine lets us make the namespaces that a container is made of: tried once, with all that a pod needs."""
    if shutil.which(UNSHARE[0]) is None:
        return False
    with tempfile.TemporaryDirectory() as directory:
        root, given = Path(directory, "root"), Path(directory, "given")
        root.mkdir()
        given.mkdir()
        words = entering(root, "tried", [Mount(given, "/app", writable=False), Mount(given, "/tmp")])
        return subprocess.run([*words, "true"], capture_output=True, check=False).returncode == 0


class Pod:
    """A pod that is thrown away after its one command."""

    def __init__(
        self,
        name: str,
        directory: Path,
        image: Image,
        mounts: Sequence[Mount],
        isolated: bool,
        node: Node | None = None,
    ) -> None:
        """`node`: what forks the pod's process; without one it is started."""
        self.name = name
        self.node = node
        self.directory = directory
        self.image = image
        self.isolated = isolated
        self.log = directory / "log.txt"
        self.own = [Mount(directory / "inside" / path[1:], path) for path in ("/tmp", *LAUNCHERS)]
        self.mounts = [*self.own, *mounts]
        for mount in self.own:
            mount.source.mkdir(parents=True)
        if not self.isolated:
            for mount in mounts:
                if str(mount.source) != mount.path and mount.path != "/tmp":
                    raise NotImplementedError(f"without namespaces {mount.path} can be nothing but itself")

    def outside(self, path: str) -> Path:
        """Where a path of the pod's lies on this machine."""
        covering = [mount for mount in self.mounts if path == mount.path or path.startswith(mount.path + "/")]
        if not covering:
            return Path(path)
        mount = max(enumerate(covering), key=lambda numbered: (len(numbered[1].path), numbered[0]))[
            1
        ]  # the last covers
        return mount.source / path[len(mount.path) :].lstrip("/")

    def localised(self, data: dict[str, Any]) -> dict[str, Any]:
        """An ExecutorInput whose paths this pod has: where it shares the machine's root, those are in its directory.

        v2/component/launcher_v2.go, retrieveArtifactPath: an artifact's customPath, if it has one, is its path.
        """
        if self.isolated:
            return data
        outputs = dict(data["outputs"])
        outputs["outputFile"] = str(self.outside(outputs["outputFile"]))
        outputs["parameters"] = {
            name: {"outputFile": str(self.outside(given["outputFile"]))}
            for name, given in outputs.get("parameters", {}).items()
        }
        outputs["artifacts"] = {
            name: {
                "artifacts": [
                    given["artifacts"][0] | {"customPath": str(self.outside(local_path(given["artifacts"][0]["uri"])))}
                ]
            }
            for name, given in outputs.get("artifacts", {}).items()
        }
        return data | {"outputs": {key: value for key, value in outputs.items() if value}}

    def run(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        timeout_s: float | None = None,
        kill_when: Callable[[], bool] | None = None,
    ) -> int:
        """Run the command to its end; its exit code, or minus the signal it died of (-9 also after `timeout_s`).

        When `kill_when` is given and true, everything in the pod is killed. Raises Rejected when the image was changed.
        """
        before = self.image.state()
        home = "/tmp" if self.isolated else str(self.outside("/tmp"))
        variables = {**self.image.environment, "HOME": home, "TMPDIR": home, "HOSTNAME": self.name, **environment}
        with self.log.open("wb") as log:
            process = self._started(command, variables, log.fileno())
            try:
                code = self._waited(process, timeout_s, kill_when)
            finally:
                self._kill(process)
        if self.image.state() != before:
            raise reject("the_image_is_read_only", f"{self.name} wrote into its image")
        return code

    def _started(self, command: Sequence[str], variables: Mapping[str, str], log: int) -> Process:
        entering = self._entering(START if self.node is None else "")
        if self.node is not None:
            script = shutil.which(command[0], path=variables["PATH"])
            assert script is not None, command[0]
            entry = Entry(entering, USER) if entering else None
            return self.node.start([script, *command[1:]], variables, self.image.app, log, log, entry)
        return subprocess.Popen(
            [*entering, *command],
            env=variables,
            cwd=self.image.app,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def _entering(self, then: str) -> list[str]:
        """What puts a command inside the pod's namespaces, where there are some."""
        if not self.isolated:
            return []
        root = self.directory / "root"
        root.mkdir()
        mounts = [*self.own, Mount(self.image.app, "/app", writable=False)]
        mounts += [Mount(path, str(path), writable=False) for path in self.image.also]
        mounts += [mount for mount in self.mounts if mount not in self.own]
        return entering(root, self.name, mounts, then)

    def _waited(self, process: Process, timeout_s: float | None, kill_when: Callable[[], bool] | None) -> int:
        started = time.monotonic()
        while (code := process.poll()) is None:
            if timeout_s is not None and time.monotonic() - started > timeout_s:
                return -signal.SIGKILL
            if kill_when is not None and kill_when():
                return -signal.SIGKILL
            time.sleep(SMALL_POLL_S)
        return code if code < 128 else 128 - code

    def _kill(self, process: Process) -> None:
        """End everything in the pod: with the first process of its namespace all others go."""
        if process.poll() is None:
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
            first = [int(pid) for pid in children.read_text().split()] if self.isolated and children.exists() else []
            for pid in first:
                os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
