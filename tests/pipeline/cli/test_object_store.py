"""The verbs that look at what is served, asked of an object store."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import pytest

from schemas.passport import Passport

Command = Callable[..., Any]


@pytest.fixture
def taxi(bucket: Any) -> str:
    """An address with two models, versions 1 and 2."""
    for version in (1, 2):
        content = f"model {version}".encode()
        bucket.write(bucket.taxi / f"{version}/saved_model.pb", content)
        digests = {"saved_model.pb": hashlib.sha256(content).hexdigest()}
        passport = Passport(
            pipeline="taxi", run="r", pushed_at="then", version=version, model_digest=f"digest {version}", files=digests
        )
        bucket.write(bucket.taxi / f"{version}/{Passport.FILE}", passport.to_bytes())
    return str(bucket.taxi)


def test_why_answers_from_the_store_alone(command: Command, taxi: str) -> None:
    served, first = command("why", taxi), command("why", f"{taxi}/1", "--json")

    assert served.code == 0
    assert served.out.startswith(f"{taxi}/2\npushed      then, version 2\n            made by run r of taxi\n")
    assert (first.data["path"], first.data["passport"]["model_digest"]) == (f"{taxi}/1", "digest 1")


def test_verify_reads_every_object(command: Command, taxi: str, bucket: Any) -> None:
    whole = command("verify", taxi)
    bucket.write(bucket.taxi / "1/saved_model.pb", b"other")
    differs = command("verify", f"{taxi}/1")

    assert (whole.code, whole.out) == (0, f"{taxi}/2  served, whole, files: 1\n{taxi}/1  whole, files: 1\n")
    assert differs.code == 1
    assert f"{taxi}/1  differs from what was pushed:\n  saved_model.pb differs" in differs.err


def test_rollback_says_what_serves_and_how_to_undo_it(command: Command, taxi: str, bucket: Any) -> None:
    said = command("rollback", taxi)

    (newest,) = {name.partition("/")[0] for name in bucket.names(bucket.taxi) if name[0].isdigit()} - {"1", "2"}
    assert said.out == (
        f"{taxi}/{newest} serves the model of version 1 again, in place of version 2\n"
        f"which is not pushed again; to undo this: pipeline rollback {taxi} --to 2\n"
    )
    assert bucket.read(bucket.taxi / f"{newest}/saved_model.pb") == b"model 1"


def test_a_version_that_is_not_in_the_store_is_wrong_usage(command: Command, taxi: str) -> None:
    said = command("verify", f"{taxi}/3")

    assert said.code == 2
    assert f"{taxi}/3: there is no such directory. There are: 1, 2" in said.err


def test_a_store_that_refuses_is_said_with_exit_code_1(
    command: Command, taxi: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from s3fs import S3FileSystem

    S3FileSystem.clear_instance_cache()
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")

    said = command("why", taxi)

    assert said.code == 1
    assert "credentials" in said.err


def test_serving_from_a_store_is_refused_with_what_does(command: Command, taxi: str) -> None:
    said = command("serve", f"taxi={taxi}")

    assert said.code == 2
    assert f"{taxi}: `pipeline serve` reads directories" in said.err
