"""Objects in an object store, through fsspec: what a push asks of a store, with the store's errors in our words."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from schemas.dotted_path import resolve
from schemas.errors import StoreError
from schemas.location import ObjectUrl

_CHUNK = 32 << 20  # bytes that one request reads at most

_EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs"}
"""The extra of this package that brings a protocol's driver."""

_ERRORS: dict[str, tuple[str, ...]] = {
    "s3fs": ("botocore.exceptions.BotoCoreError", "botocore.exceptions.ClientError"),
    "gcsfs": (
        "gcsfs.retry.HttpError",
        "gcsfs.retry.ChecksumError",
        "google.auth.exceptions.GoogleAuthError",
        "aiohttp.ClientError",
    ),
}
"""What a driver raises besides OSError."""

_NO_CREDENTIALS = {"NoCredentialsError", "PartialCredentialsError", "TokenRetrievalError", "DefaultCredentialsError"}
_UNREACHABLE = {
    "EndpointConnectionError",
    "ConnectTimeoutError",
    "ReadTimeoutError",
    "ConnectionClosedError",
    "HTTPClientError",
    "ProxyConnectionError",
    "ResponseParserError",
    "SSLError",
    "TransportError",
}
"""The drivers' errors, by name: neither driver need be installed to tell them apart."""


@dataclass(frozen=True)
class Entry:
    """An object as a listing shows it."""

    size: int  # bytes
    checksum: (
        str | None
    )  # the store's own of the content, to compare with another's in the same store; None: it tells none
    modified: datetime | None  # by the store's clock


def problem_with(url: ObjectUrl) -> str | None:
    """Why nothing can be pushed to `url`, as far as can be told without asking the store; None when nothing is wrong."""
    import fsspec
    from fsspec.implementations.local import LocalFileSystem

    if not url.bucket:
        return f"{url} names no bucket. Expected {url.protocol}://bucket/models/taxi, for example"
    try:
        kind = fsspec.get_filesystem_class(url.protocol)
    except ImportError as error:
        extra = _EXTRAS.get(url.protocol)
        install = f"Install it with this package's extra: penstock[{extra}]" if extra else "Install it"
        return f"the driver for {url.protocol}:// is not installed ({error}). {install}"
    except ValueError:
        return f"nobody knows what {url.protocol}:// is. Object stores are s3:// and gs://, for example"
    if issubclass(kind, LocalFileSystem):
        return f"{url} is a directory on this machine. Write its path alone"
    return None


class Objects:
    """The objects below one address, by their names relative to it.

    Endpoint and credentials are the environment's and those of fsspec's and the store's own configuration files. Every
    method raises StoreError, with what to do, when the store refuses or cannot be reached.
    """

    def __init__(self, root: ObjectUrl) -> None:
        self.root = root

    def listed(self, below: str = "") -> dict[str, Entry]:
        """Every object whose name begins with `below`/, or all of them; one request for a thousand."""
        place = self._place(below) if below else self.root.path
        with self._told():
            self._store.invalidate_cache()
            found = self._store.find(place, detail=True)
        entries = {}
        for path, info in found.items():
            inside, _, name = path.lstrip("/").partition(f"{self.root.path}/")
            if not inside and name and info.get("type") != "directory":
                entries[name] = Entry(int(info["size"]), info.get("ETag") or info.get("md5Hash"), _modified(info))
        return entries

    def read(self, name: str) -> bytes | None:
        """The content of an object; None when there is none of that name."""
        with self._told():
            try:
                found: bytes = self._store.cat_file(self._place(name))
            except FileNotFoundError:
                return None
            return found

    def chunks(self, name: str, size: int) -> Iterator[bytes]:
        """The content of an object of `size` bytes, piece by piece."""
        for start in range(0, size, _CHUNK) or (0,):
            # No range where there is one chunk: that of an empty object is an error.
            part = {"start": start, "end": min(start + _CHUNK, size)} if size > _CHUNK else {}
            with self._told(name):
                chunk: bytes = self._store.cat_file(self._place(name), **part)
            yield chunk

    def sha256(self, name: str, size: int) -> str:
        """The sha256 of an object of `size` bytes, in hexadecimal; every byte is read."""
        digest = hashlib.sha256()
        for chunk in self.chunks(name, size):
            digest.update(chunk)
        return digest.hexdigest()

    def upload(self, file: Path, name: str) -> None:
        """Write a file's content, in place of what is there."""
        with self._told():
            self._store.put_file(str(file), self._place(name))

    def write(self, name: str, content: bytes) -> None:
        """Write an object, in place of what is there."""
        with self._told():
            self._store.pipe_file(self._place(name), content)

    def create(self, name: str, content: bytes) -> bool:
        """Write an object unless there is one of that name, which the store decides; gives whether it was written."""
        with self._told():
            try:
                self._store.pipe_file(self._place(name), content, mode="create")
            except FileExistsError:
                return False
            return True

    def copy(self, name: str, to: str) -> None:
        """Have the store copy an object, in place of what is there."""
        with self._told(name):
            self._store.cp_file(self._place(name), self._place(to))

    def remove(self, name: str) -> None:
        """Remove an object; one that is gone already is no error."""
        with self._told():
            try:
                self._store.rm_file(self._place(name))
            except FileNotFoundError:
                return

    def _place(self, name: str) -> str:
        return f"{self.root.path}/{name}"

    @cached_property
    def _store(self) -> Any:
        import fsspec

        problem = problem_with(self.root)
        if problem:
            raise StoreError(problem)
        # fsspec keeps one per process. It is to remember no listing, since other processes change what is there.
        return fsspec.filesystem(self.root.protocol, use_listings_cache=False)

    @cached_property
    def _raised(self) -> tuple[type[Exception], ...]:
        """What the driver raises besides OSError."""
        driver = type(self._store).__module__.partition(".")[0]
        return tuple(resolve(error) for error in _ERRORS.get(driver, ()))

    @contextmanager
    def _told(self, name: str = "") -> Iterator[None]:
        """Turn the store's errors into StoreError. `name` is an object that has to be there."""
        known: tuple[type[Exception], ...] = (OSError, *self._raised)
        try:
            yield
        except known as error:
            raise StoreError(f"{self.root}: {_explained(error, self.root, name)}") from error


def _modified(info: Mapping[str, Any]) -> datetime | None:
    """When an object was written, under whichever name and in whichever form its driver tells it."""
    told = info.get("LastModified") or info.get("mtime") or info.get("created")
    if isinstance(told, (int, float)):
        return datetime.fromtimestamp(told, UTC)
    return told if isinstance(told, datetime) else None


def _explained(error: Exception, root: ObjectUrl, name: str) -> str:
    """What happened, and what to do."""
    kind = type(error).__name__
    said = " ".join(str(error).split()) or kind
    code = str(getattr(error, "code", ""))
    if kind in _NO_CREDENTIALS:
        return (
            f"no credentials were found ({said}). Give them by the environment, such as AWS_ACCESS_KEY_ID and "
            f"AWS_SECRET_ACCESS_KEY, AWS_PROFILE or GOOGLE_APPLICATION_CREDENTIALS, or by the machine's role"
        )
    if isinstance(error, PermissionError) or code in ("401", "403"):
        return (
            f"access is refused ({said}). The credentials have to be right, and to allow listing, reading, writing and "
            f"removing objects there"
        )
    if isinstance(error, FileNotFoundError) or code == "404":
        if name and "bucket" not in said.lower():
            return f"{name} went away while it was read ({said}). Somebody else removes objects there"
        return f"there is no bucket '{root.bucket}' ({said}). Make it first, or correct its name"
    if kind in _UNREACHABLE or isinstance(error, (ConnectionError, TimeoutError)):
        return f"cannot be reached ({said}). Check the network and the endpoint, and run again"
    return f"{said}. See what its owner allows, and run again"
