"""Object publication: killed before any change to the store, refused by it, cut off from it, and what a poller sees."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import IO, Any
from urllib.parse import unquote, urlsplit

import pytest

from components.release import destinations
from components.release.object_versions import CLAIMS, MARKER, PUSHING, Listing
from components.release.versions import MODEL
from schemas.errors import ArtifactError, StoreError
from schemas.location import ObjectUrl
from schemas.passport import Passport

REPOSITORY = Path(__file__).parents[3]

PUSHERS = """
import json
import os
import sys
import traceback
from pathlib import Path

import s3fs  # before forking, to do it once

from components.release import destinations, object_store
from schemas.location import parse
from schemas.passport import Passport


def push(source, destination):
    there = destinations.at(parse(destination))
    there.publish(
        Path(source),
        lambda version, files: Passport(
            pipeline="", run="", pushed_at="", version=version, model_digest="", files=files
        ),
    )
    there.retire(2)


for line in sys.stdin:
    endpoint, source, destination = json.loads(line)
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.environ["AWS_ENDPOINT_URL"] = endpoint
            push(source, destination)
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    print(pid, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""
"""What Pusher does to an object store, each time in a process of its own."""


class Proxy(ThreadingHTTPServer):
    """Passes requests on to a server. `answer` may refuse one, by giving an HTTP status, or 0 to hang up."""

    daemon_threads = True

    def __init__(self, endpoint: str) -> None:
        super().__init__(("127.0.0.1", 0), Passing)
        self.behind = urlsplit(endpoint).netloc
        self.endpoint = f"http://127.0.0.1:{self.server_address[1]}"
        self.answer: Callable[[str, str], int | None] = lambda method, path: None
        self.leaves_out = ""  # a header's name
        self.seen: list[str] = []  # "PUT 17/saved_model.pb", what was let through


class Passing(BaseHTTPRequestHandler):
    """One connection to the proxy."""

    protocol_version = "HTTP/1.1"
    server: Proxy

    def do_any(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        status = self.server.answer(self.command, unquote(self.path))
        if status == 0:
            self.close_connection = True
            return
        if status is not None:
            self._reply(status, [], b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>")
            return
        self.server.seen.append(f"{self.command} {unquote(self.path).partition('/models/taxi/')[2]}")
        headers = {name: value for name, value in self.headers.items() if name != self.server.leaves_out}
        connection = http.client.HTTPConnection(self.server.behind)
        connection.request(self.command, self.path, body, headers)
        answer = connection.getresponse()
        content = answer.read()
        self._reply(answer.status, answer.getheaders(), content)
        connection.close()

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = do_any  # noqa: N815 the names that the library looks for

    def _reply(self, status: int, headers: list[tuple[str, str]], content: bytes) -> None:
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in ("transfer-encoding", "connection"):
                self.send_header(name, value)
        if not any(name.lower() == "content-length" for name, _ in headers):
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *arguments: Any) -> None:
        """Not on stderr."""


@pytest.fixture
def proxy(bucket: Any) -> Iterator[Proxy]:
    """In front of the bucket's server."""
    made = Proxy(bucket.endpoint)
    threading.Thread(target=made.serve_forever, daemon=True).start()
    yield made
    made.shutdown()
    made.server_close()


@pytest.fixture
def pushers(bucket: Any) -> Iterator[subprocess.Popen[str]]:
    """A process that forks pushers."""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "AWS_MAX_ATTEMPTS": "1"}
    with subprocess.Popen(
        [sys.executable, "-c", PUSHERS],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
    ) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A directory to publish."""
    for name in (MODEL, "variables/data"):
        (tmp_path / "source" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "source" / name).write_text(f"content of {name}")
    return tmp_path / "source"


def passport_of(version: int, files: dict[str, str]) -> Passport:
    return Passport(pipeline="", run="", pushed_at="", version=version, model_digest="", files=files)


def complete(bucket: Any, version: ObjectUrl) -> bool:
    """Whether every file that a version's passport names is there, with its digest."""
    try:
        files = json.loads(bucket.read(version / Passport.FILE))["files"]
        return MODEL in files and all(
            hashlib.sha256(bucket.read(version / name)).hexdigest() == digest for name, digest in files.items()
        )
    except bucket.client.exceptions.NoSuchKey:
        return False


def loadable(bucket: Any, destination: ObjectUrl) -> list[int]:
    """The numbers with a SavedModel, asked for as a server does: the children's names first, then one file of each."""
    names = bucket.names(destination)
    children = sorted({int(name.partition("/")[0]) for name in names if name.partition("/")[0].isdigit()})
    return [version for version in children if f"{version}/{MODEL}" in names]


@contextmanager
def polled(bucket: Any, destination: ObjectUrl) -> Iterator[list[str]]:
    """Look at what could be loaded again and again; gives what was not complete.

    A version that goes while it is looked at was removed, as a server may find it too.
    """
    broken: list[str] = []
    whole: set[int] = set()
    stop = threading.Event()

    def look() -> None:
        while not stop.wait(0.02):
            for version in loadable(bucket, destination):
                if version not in whole:
                    if complete(bucket, destination / str(version)):
                        whole.add(version)
                    elif version in loadable(bucket, destination):
                        broken.append(f"{destination}/{version}")

    poller = threading.Thread(target=look)
    poller.start()
    try:
        yield broken
    finally:
        stop.set()
        poller.join()


class Killer:
    """Lets a pusher make so many changes, and kills it before the next."""

    def __init__(self, allowed: int) -> None:
        self.left = allowed
        self.kept_back: list[str] = []
        self._pid = 0
        self._known = threading.Event()

    def kill(self, pid: int) -> None:
        """Which process it is."""
        self._pid = pid
        self._known.set()

    def answer(self, method: str, path: str) -> int | None:
        """See Proxy."""
        if method in ("GET", "HEAD"):
            return None
        self.left -= 1
        if self.left >= 0:
            return None
        self.kept_back.append(f"{method} {path}")
        self._known.wait()
        os.kill(self._pid, signal.SIGKILL)
        return 0


def say(stream: IO[str] | None, *words: str) -> None:
    assert stream is not None
    stream.write(json.dumps(words) + "\n")
    stream.flush()


@pytest.mark.slow
def test_a_push_killed_before_any_change_shows_no_incomplete_version_and_the_next_one_succeeds(
    bucket: Any, proxy: Proxy, pushers: subprocess.Popen[str], source: Path
) -> None:
    there = destinations.at(bucket.taxi)
    there.publish(source, passport_of)
    there.publish(source, passport_of)
    changes: list[str] = []
    killed_with = []
    assert pushers.stdout is not None

    with polled(bucket, bucket.taxi) as broken:
        for allowed in range(200):
            before = there.listed()
            killer = Killer(allowed)
            proxy.answer = killer.answer
            say(pushers.stdin, proxy.endpoint, str(source), str(bucket.taxi))
            killer.kill(int(pushers.stdout.readline()))
            status = int(pushers.stdout.readline())
            changes += killer.kept_back
            left_over = loadable(bucket, bucket.taxi)
            killed_with.append(len(left_over))
            assert all(complete(bucket, bucket.taxi / str(version)) for version in left_over), changes[-1:]

            version = there.publish(source, passport_of)
            there.retire(2)

            assert version > before[-1], changes[-1:]
            assert complete(bucket, bucket.taxi / str(version)), changes[-1:]
            listing = Listing(dict.fromkeys(bucket.names(bucket.taxi)))  # type: ignore[arg-type]
            finished = [number for number in listing.versions if listing.has_model(number)]
            assert len(finished) == 2, changes[-1:]
            assert all(listing.is_marked(number) for number in finished), changes[-1:]
            # Numbers without a model stay claimed until no request of their pushes can be under way.
            assert listing.claims[-1:] == [version]
            assert {*listing.versions} - {*finished} <= {*listing.claims}, changes[-1:]
            assert listing.pushes == [], changes[-1:]
            if status == 0:
                break
            assert status == -signal.SIGKILL

    assert broken == []
    assert status == 0
    assert {change.partition(" ")[0] for change in changes} == {"PUT", "DELETE"}
    # Killed before the version was there, between that and the removal of the oldest, and during that removal.
    assert killed_with.count(2) > 7
    assert killed_with.count(3) > 3


@pytest.fixture
def behind(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> Proxy:
    """The proxy, to which the environment leads."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    return proxy


def test_the_saved_model_comes_after_everything_else_was_compared_and_the_marker_after_it(
    bucket: Any, behind: Proxy, source: Path
) -> None:
    version = destinations.at(bucket.taxi).publish(source, passport_of)

    seen = behind.seen
    visible = [at for at, request in enumerate(seen) if request.startswith(f"PUT {version}/")]
    assert [seen[at].removeprefix(f"PUT {version}/") for at in visible] == [
        "variables/data",
        Passport.FILE,
        MODEL,
        MARKER,
    ]
    appears = visible[2]
    staged = {request.partition("/version/")[2] for request in seen[:appears] if request.startswith(f"GET {PUSHING}")}
    assert staged == {"variables/data", MODEL}  # read back
    assert f"GET {version}/{Passport.FILE}" in seen[visible[1] : appears]
    # Two listings, of what was uploaded and of the copies, before and after.
    assert sum(request == "GET " for request in seen[visible[1] : appears]) == 2
    assert sum(request == "GET " for request in seen[appears : visible[3]]) == 2


def when(part: str, then: Callable[[], int | None]) -> Callable[[str, str], int | None]:
    """An `answer` that does something at the first request ("PUT /bucket/key") that has `part` in it."""
    done = False

    def answer(method: str, path: str) -> int | None:
        nonlocal done
        if done or part not in f"{method} {path}":
            return None
        done = True
        return then()

    return answer


def changes_from(part: str, status: int) -> Callable[[str, str], int | None]:
    """An `answer` that refuses every request from the first that has `part` in it."""
    refusing = False

    def answer(method: str, path: str) -> int | None:
        nonlocal refusing
        refusing = refusing or part in f"{method} {path}"
        return status if refusing else None

    return answer


def newest(bucket: Any) -> ObjectUrl:
    """The version with the largest number, whatever it holds."""
    return bucket.taxi / str(
        max(int(name.partition("/")[0]) for name in bucket.names(bucket.taxi) if name[0].isdigit())
    )


def staged(bucket: Any) -> ObjectUrl:
    """The files of the push that is going on, if one is."""
    push = next((name.partition("/")[0] for name in bucket.names(bucket.taxi) if PUSHING in name), "")
    return bucket.taxi / push / "version"


@pytest.mark.parametrize(("where", "at"), [(staged, "GET {}/variables/data"), (newest, "PUT {}/" + Passport.FILE)])
def test_a_file_that_the_store_does_not_have_as_it_was_written_is_never_served(
    bucket: Any, behind: Proxy, source: Path, where: Callable[[Any], ObjectUrl], at: str
) -> None:
    there = destinations.at(bucket.taxi)
    before = there.publish(source, passport_of)

    def answer(method: str, path: str) -> None:
        """Between the writing of the file and the look at it, another content of the same size."""
        if f"{method} {path}" == at.format(f"/{where(bucket).path}"):
            bucket.write(where(bucket) / "variables/data", b"c0ntent of variables/data")

    behind.answer = answer

    with pytest.raises(ArtifactError, match="variables/data differs from what was written to it"):
        there.publish(source, passport_of)

    assert there.listed() == [before]
    assert [name for name in bucket.names(bucket.taxi) if name.startswith(PUSHING)] == []


def test_a_network_that_is_gone_midway_leaves_what_was_served_and_a_later_push_succeeds(
    bucket: Any, behind: Proxy, source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    there = destinations.at(bucket.taxi)
    before = there.publish(source, passport_of)
    behind.answer = changes_from(f"{Passport.FILE}", 0)

    with pytest.raises(StoreError, match="cannot be reached .*Check the network"):
        there.publish(source, passport_of)
    assert "is left for a later push to remove" in capsys.readouterr().err
    assert loadable(bucket, bucket.taxi) == [before]

    behind.answer = lambda method, path: None
    assert there.publish(source, passport_of) == there.served()


def test_access_that_is_refused_midway_leaves_what_was_served(bucket: Any, behind: Proxy, source: Path) -> None:
    there = destinations.at(bucket.taxi)
    before = there.publish(source, passport_of)
    behind.answer = lambda method, path: 403 if method == "PUT" and path.endswith(MARKER) else None

    with pytest.raises(
        StoreError, match="access is refused .*have to be right, and to allow listing, reading, writing"
    ):
        there.publish(source, passport_of)

    assert there.listed() == [before]


def test_a_copy_of_the_model_that_may_be_under_way_finds_its_other_files(
    bucket: Any, behind: Proxy, source: Path
) -> None:
    there = destinations.at(bucket.taxi)
    before = there.publish(source, passport_of)
    behind.answer = lambda method, path: 0 if method == "PUT" and is_copy_of_model(path) else None

    with pytest.raises(StoreError, match="cannot be reached"):
        there.publish(source, passport_of)

    assert loadable(bucket, bucket.taxi) == [before]
    late = newest(bucket)
    bucket.write(late / MODEL, (source / MODEL).read_bytes())
    assert complete(bucket, late)


def is_copy_of_model(path: str) -> bool:
    return path.endswith(f"/{MODEL}") and PUSHING not in path


def test_a_store_that_overwrites_what_it_should_create_is_refused(bucket: Any, behind: Proxy, source: Path) -> None:
    behind.leaves_out = "If-None-Match"

    with pytest.raises(StoreError, match="two pushes could take one number. Nothing was pushed"):
        destinations.at(bucket.taxi).publish(source, passport_of)

    assert loadable(bucket, bucket.taxi) == []


def test_a_number_that_another_push_takes_first_is_left_to_it(bucket: Any, behind: Proxy, source: Path) -> None:
    bucket.write(bucket.taxi / "9999999998/saved_model.pb", b"theirs")
    behind.answer = when(f"{CLAIMS}/", lambda: bucket.write(bucket.taxi / CLAIMS / "9999999999", b"theirs"))

    assert destinations.at(bucket.taxi).publish(source, passport_of) == 10_000_000_000


def test_a_number_below_one_that_was_taken_meanwhile_is_given_up(bucket: Any, behind: Proxy, source: Path) -> None:
    """It may have been another push's, whose version was removed since."""
    bucket.write(bucket.taxi / "9999999998/saved_model.pb", b"theirs")
    behind.answer = when(f"{CLAIMS}/", lambda: bucket.write(bucket.taxi / CLAIMS / "10000000005", b"theirs"))

    assert destinations.at(bucket.taxi).publish(source, passport_of) == 10_000_000_006

    assert not any("9999999999" in name for name in bucket.names(bucket.taxi))
