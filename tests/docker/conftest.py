"""The image of docker/Dockerfile without a Docker engine: its COPY instructions applied to a directory, and commands run in there."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
DOCKERFILE = CHECKOUT / "docker" / "Dockerfile"

BASE_PATH = "/usr/local/bin:/usr/bin:/bin"  # PATH in the images that the stages begin with


def read_instructions(dockerfile: str) -> Iterator[tuple[str, str]]:
    """(keyword, the rest) of every instruction, continued lines joined, comments left out."""
    lines = [line for line in dockerfile.splitlines() if not line.lstrip().startswith("#")]
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        if line.strip():
            keyword, _, rest = line.strip().partition(" ")
            yield keyword.upper(), rest.strip()


def left_out(dockerignore: str) -> Callable[[str], bool]:
    """Whether a path below the context, with slashes, is kept from the builder: itself, or a directory above it, is named."""
    patterns = [line.strip() for line in dockerignore.splitlines() if line.strip() and not line.startswith("#")]
    assert not [pattern for pattern in patterns if pattern.startswith("!")], "exceptions are not read here"

    def expression(pattern: str) -> str:
        parts = re.split(r"(\*\*/|\*|\?)", pattern)
        return "".join({"**/": "(?:.*/)?", "*": "[^/]*", "?": "[^/]"}.get(part, re.escape(part)) for part in parts)

    named = re.compile("|".join(f"(?:{expression(pattern)})(?:/.*)?" for pattern in patterns))
    return lambda path: named.fullmatch(path) is not None


@dataclass
class Stage:
    """A stage's files, where its COPY instructions put them, and what its other instructions set. RUN is not done."""

    root: Path
    environment: dict[str, str] = field(default_factory=lambda: {"PATH": BASE_PATH})
    directory: str = "/"
    user: str = "0:0"
    entrypoint: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)

    def path(self, inside: str) -> Path:
        """Where a path of the image lies here."""
        return self.root / os.path.normpath(os.path.join(self.directory, inside)).lstrip("/")  # noqa: PTH118 - as in the image


def assemble(directory: Path, given: Mapping[str, Path]) -> Stage:
    """docker/Dockerfile's last stage in `directory`. `given` are paths that images from elsewhere and RUN instructions make."""
    ignored = left_out(DOCKERFILE.with_name("Dockerfile.dockerignore").read_text(encoding="utf-8"))
    stages: dict[str, Stage] = {}
    stage = Stage(directory)
    for keyword, rest in read_instructions(DOCKERFILE.read_text(encoding="utf-8")):
        if keyword == "FROM":
            name = rest.partition(" AS ")[2] or str(len(stages))
            stage = stages[name] = Stage(directory / name)
            stage.root.mkdir()
        elif keyword == "ENV":
            pairs = dict(word.split("=", 1) for word in shlex.split(rest))
            stage.environment |= {
                name: value.replace("$PATH", stage.environment["PATH"]) for name, value in pairs.items()
            }
        elif keyword == "WORKDIR":
            stage.directory = rest
            stage.path(rest).mkdir(parents=True, exist_ok=True)
        elif keyword == "COPY":
            words = rest.split()
            options = dict(word.removeprefix("--").split("=") for word in words if word.startswith("--"))
            *sources, target = [word for word in words if not word.startswith("--")]
            for source in sources:
                origin = stages[options["from"]].path(source) if "from" in options else CHECKOUT / source
                if "from" in options and not origin.exists():
                    origin = given[source]
                copied = _copy(origin, stage.path(target), into=target.endswith("/"), ignored=ignored)
                if "chmod" in options:
                    copied.chmod(int(options["chmod"], 8))
        elif keyword == "USER":
            stage.user = rest
        elif keyword in ("ENTRYPOINT", "CMD"):
            words = re.findall(r'"([^"]*)"', rest)
            setattr(stage, {"ENTRYPOINT": "entrypoint", "CMD": "command"}[keyword], words)
        else:
            assert keyword in ("ARG", "LABEL", "RUN"), f"{keyword} is not read here"
    return stage


def _copy(origin: Path, target: Path, *, into: bool, ignored: Callable[[str], bool]) -> Path:
    """What COPY does: a directory's contents, or a file, by its own name where the target is a directory."""
    in_context = origin.is_relative_to(CHECKOUT)

    def without(directory: str, names: list[str]) -> list[str]:
        here = Path(directory)
        return [name for name in names if in_context and ignored(str((here / name).relative_to(CHECKOUT)))]

    if origin.is_dir():
        shutil.copytree(origin, target, ignore=without, dirs_exist_ok=True)
        return target
    assert not (in_context and ignored(str(origin.relative_to(CHECKOUT)))), f"{origin.name} is kept from the builder"
    target = target / origin.name if into else target
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(origin, target)
    return target


# Its own mounts, so that the root is this layout, read-only, and nothing else of this machine is to be seen but what stands in for the
# base image: /usr, and the environment with its interpreter. No capabilities, and no way to get any.
INSIDE = """
set -eu
root=$1 volume=$2 user=$3; shift 3
bind() { mkdir -p "$root$2"; mount --bind "$1" "$root$2"; mount -o remount,bind,ro "$root$2"; }
mount --bind "$root" "$root"
mkdir -p "$root/tmp" "$root/dev/shm" "$root/proc" "$root/mnt/penstock" "$root/etc"
echo "127.0.0.1 localhost $(uname -n)" > "$root/etc/hosts" # an engine writes this; there is no /etc/passwd
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
mount --rbind /proc "$root/proc"
for name in null zero random urandom; do touch "$root/dev/$name"; mount --bind "/dev/$name" "$root/dev/$name"; done
bind /usr /usr
for name in bin lib lib64 sbin; do [ ! -L "/$name" ] || ln -sfn "$(readlink "/$name")" "$root/$name"; done
for name in $READ_ONLY; do bind "${name%%=*}" "${name#*=}"; done # after /tmp, since this environment may lie there
mount --bind "$volume" "$root/mnt/penstock"
mount -o remount,bind,ro "$root"
exec chroot "$root" /usr/bin/setpriv --reuid="${user%:*}" --regid="${user#*:}" --clear-groups --no-new-privs \
  --bounding-set=-all --inh-caps=-all --ambient-caps=-all /usr/bin/env -i "$@"
"""


@dataclass(frozen=True)
class Container:
    """The image's layout, and a volume that its user may write to."""

    image: Stage
    volume: Path

    def run(self, *arguments: str, entrypoint: bool = True) -> subprocess.CompletedProcess[str]:
        """What `docker run --read-only --tmpfs /tmp --volume VOLUME:/mnt/penstock IMAGE ARGUMENTS` does."""
        image = self.image
        command = [*(image.entrypoint if entrypoint else ()), *(arguments or image.command)]
        # In the image a path to /app lies among the libraries; here they are this environment's, with another path.
        environment = image.environment | {"PYTHONPATH": "/app"}
        return subprocess.run(
            [
                "unshare", "--mount", "--propagation", "private", "--", "/bin/sh", "-c", INSIDE, "sh",
                str(image.root), str(self.volume), image.user,
                f"--chdir={image.directory}", *(f"{name}={value}" for name, value in environment.items()), *command,
            ],
            env={"PATH": BASE_PATH + ":/usr/sbin:/sbin", "READ_ONLY": " ".join(f"{a}={b}" for a, b in _libraries())},
            capture_output=True,
            text=True,
        )  # fmt: skip


def _libraries() -> Iterator[tuple[Path | str, Path | str]]:
    """What stands in for `uv sync`, and where: this environment as /opt/venv and where its scripts expect it, its interpreter."""
    yield sys.prefix, "/opt/venv"
    yield sys.prefix, sys.prefix
    if not sys.base_prefix.startswith("/usr"):
        yield sys.base_prefix, sys.base_prefix


def _may_mount() -> bool:
    tried = ["unshare", "--mount", "--propagation", "private", "--", "mount", "--bind", "/usr", "/usr"]
    try:
        return os.geteuid() == 0 and subprocess.run(tried, capture_output=True).returncode == 0
    except OSError:
        return False


@pytest.fixture(scope="session")
def instructions() -> Callable[[str], Iterator[tuple[str, str]]]:
    """A Dockerfile's text -> its instructions, each by keyword and the rest."""
    return read_instructions


@pytest.fixture(scope="session")
def ignored() -> Callable[[str], bool]:
    """Whether docker/Dockerfile.dockerignore keeps a path of the checkout from the builder."""
    return left_out(DOCKERFILE.with_name("Dockerfile.dockerignore").read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> Stage:
    """docker/Dockerfile's last stage, with a program that says what it was given for Beam's boot, and no libraries."""
    directory = tmp_path_factory.mktemp("image")
    beam = tmp_path_factory.mktemp("beam")
    (beam / "boot").write_text('#!/bin/sh\necho "boot $*"\n')
    libraries = tmp_path_factory.mktemp("libraries")
    for path in (beam, beam / "boot", libraries):
        path.chmod(0o755)
    return assemble(directory, {"/opt/apache/beam": beam, "/opt/venv": libraries})


@pytest.fixture(scope="session")
def container(image: Stage, tmp_path_factory: pytest.TempPathFactory) -> Container:
    """The image on a read-only root file system, as its own user, with a volume at /mnt/penstock."""
    if not _may_mount():
        pytest.skip("needs root, and a system that lets it make mounts of its own")
    volume = tmp_path_factory.mktemp("volume")
    uid, gid = map(int, image.user.split(":"))
    os.chown(volume, uid, gid)
    return Container(image, volume)
