"""A second name for a file is the file itself where that can be, and a copy of it where not."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from components.io.links import link


def test_a_link_shares_the_files_content(tmp_path: Path) -> None:
    (tmp_path / "one").write_bytes(b"content")

    link(tmp_path / "one", tmp_path / "other")

    assert (tmp_path / "other").read_bytes() == b"content"
    assert (tmp_path / "other").samefile(tmp_path / "one")


@pytest.mark.parametrize("code", [errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP])
def test_where_the_file_system_refuses_it_is_a_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def refuse(source: Path, target: Path) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "link", refuse)
    (tmp_path / "one").write_bytes(bytes(range(256)) * 9000)

    link(tmp_path / "one", tmp_path / "other")

    assert (tmp_path / "other").read_bytes() == (tmp_path / "one").read_bytes()
    assert not (tmp_path / "other").samefile(tmp_path / "one")
    with pytest.raises(FileExistsError):
        link(tmp_path / "one", tmp_path / "other")
    assert (tmp_path / "other").stat().st_size == 256 * 9000


def test_a_name_that_is_taken_is_an_error_and_stays(tmp_path: Path) -> None:
    (tmp_path / "one").write_bytes(b"content")
    (tmp_path / "other").write_bytes(b"another's")

    with pytest.raises(FileExistsError):
        link(tmp_path / "one", tmp_path / "other")

    assert (tmp_path / "other").read_bytes() == b"another's"


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        link(tmp_path / "one", tmp_path / "other")
