"""Objects in a store: what is there, and what is said when the store refuses or cannot be reached."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from typing import Any

import pytest

from components.io import objects
from components.io.objects import Objects
from schemas.errors import StoreError
from schemas.location import ObjectUrl


def test_what_was_written_is_listed_and_read(bucket: Any, tmp_path: Any) -> None:
    (tmp_path / "file").write_bytes(b"weights")
    store = Objects(bucket.taxi)
    bucket.write(bucket.taxi.parent / "taxis/7", b"of a neighbour whose name begins so")
    assert store.listed() == {}

    store.write("5/empty", b"")
    store.upload(tmp_path / "file", "5/data")
    store.copy("5/data", "6/data")

    listed = store.listed()
    assert {name: entry.size for name, entry in listed.items()} == {"5/data": 7, "5/empty": 0, "6/data": 7}
    assert listed["5/data"].checksum == listed["6/data"].checksum != listed["5/empty"].checksum
    assert list(store.listed("6")) == ["6/data"]
    assert store.read("6/data") == b"weights"
    assert store.read("6/gone") is None
    assert store.sha256("5/empty", 0) == hashlib.sha256().hexdigest()


def test_a_large_object_is_read_piece_by_piece(bucket: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    content = bytes(range(256)) * 10
    bucket.write(bucket.taxi / "data", content)
    monkeypatch.setattr(objects, "_CHUNK", 1000)

    assert [len(chunk) for chunk in Objects(bucket.taxi).chunks("data", 2560)] == [1000, 1000, 560]
    assert Objects(bucket.taxi).sha256("data", 2560) == hashlib.sha256(content).hexdigest()


def test_an_object_is_created_once_and_removed_as_often_as_one_likes(bucket: Any) -> None:
    store = Objects(bucket.taxi)

    assert store.create("claim", b"ours")
    assert not store.create("claim", b"theirs")
    assert store.read("claim") == b"ours"
    store.remove("claim")
    store.remove("claim")
    assert store.create("claim", b"theirs")


def test_an_object_that_goes_while_it_is_read_is_named(bucket: Any) -> None:
    with pytest.raises(StoreError, match="5/data went away while it was read"):
        Objects(bucket.taxi).sha256("5/data", 7)


def test_a_bucket_that_does_not_exist_is_named(bucket: Any) -> None:
    store = Objects(ObjectUrl("s3", "no-such-bucket/taxi"))

    with pytest.raises(StoreError, match=r"^s3://no-such-bucket/taxi: there is no bucket 'no-such-bucket'"):
        store.listed()
    with pytest.raises(StoreError, match="there is no bucket 'no-such-bucket' .*Make it first"):
        store.write("5/data", b"")


def test_missing_credentials_are_asked_for(bucket: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")

    with pytest.raises(StoreError, match="no credentials were found .* AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"):
        Objects(bucket.taxi).listed()


def test_an_endpoint_that_does_not_answer_is_said(bucket: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")

    with pytest.raises(StoreError, match=r"cannot be reached .*127\.0\.0\.1:1.* Check the network and the endpoint"):
        Objects(bucket.taxi).listed()


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        (ObjectUrl("gs", "bucket/taxi"), None),
        (ObjectUrl("s3", "bucket"), None),
        (ObjectUrl("abfs", "bucket/taxi"), "the driver for abfs:// is not installed"),
    ],
)
def test_a_driver_that_is_not_installed_is_named(url: ObjectUrl, problem: str | None) -> None:
    found = objects.problem_with(url)

    assert (found or "").startswith(problem or "")
    assert (found is None) == (problem is None)


def test_the_extra_that_brings_a_driver_is_named() -> None:
    ask = "from components.io.objects import problem_with; from schemas.location import parse"
    code = f"import sys; sys.modules['s3fs'] = None; {ask}; print(problem_with(parse('s3://bucket/taxi')))"

    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout

    assert said.startswith("the driver for s3:// is not installed")
    assert said.endswith("Install it with this package's extra: penstock[s3]\n")


def test_no_store_is_imported_with_what_may_use_one() -> None:
    code = (
        "import sys, components.release.pusher, pipeline.cli.main; print({'fsspec', 's3fs', 'boto3'} & {*sys.modules})"
    )

    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout == "set()\n"
