"""Copying out of sight and appearing by one rename."""

from __future__ import annotations

import fcntl
import hashlib
from pathlib import Path

import pytest

from components.release import staging
from schemas.errors import ArtifactError


def test_a_copy_has_every_file_and_its_digest(tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "variables").mkdir(parents=True)
    (source / "empty").mkdir()
    (source / "saved_model.pb").write_bytes(b"graph")
    (source / "variables" / "data").write_bytes(b"weights" * 400_000)  # more than one chunk
    (source / "passport.json").write_text("another version's")

    digests = staging.copy(source, tmp_path / "copy", leave_out=["passport.json"])

    assert digests == {
        "saved_model.pb": hashlib.sha256(b"graph").hexdigest(),
        "variables/data": hashlib.sha256(b"weights" * 400_000).hexdigest(),
    }
    assert (tmp_path / "copy" / "variables" / "data").read_bytes() == b"weights" * 400_000
    assert (tmp_path / "copy" / "empty").is_dir()
    assert not (tmp_path / "copy" / "passport.json").exists()


def test_a_link_is_copied_as_what_it_points_at(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "vocabulary").write_text("cash")
    source = tmp_path / "source"
    source.mkdir()
    (source / "assets").symlink_to(tmp_path / "elsewhere")

    assert list(staging.copy(source, tmp_path / "copy")) == ["assets/vocabulary"]
    assert not (tmp_path / "copy" / "assets").is_symlink()


def test_a_file_that_cannot_be_read_is_the_models_fault(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "saved_model.pb").symlink_to(tmp_path / "gone")

    with pytest.raises(ArtifactError, match="saved_model.pb: the model cannot be read"):
        staging.copy(source, tmp_path / "copy")


@pytest.mark.parametrize("content", [[], ["file"]])
def test_a_rename_takes_nobodys_place(tmp_path: Path, content: list[str]) -> None:
    (tmp_path / "staged").mkdir()
    (tmp_path / "7").mkdir()
    for name in content:
        (tmp_path / "7" / name).touch()

    with pytest.raises(FileExistsError):
        staging.rename_new(tmp_path / "staged", tmp_path / "7")

    assert (tmp_path / "staged").is_dir()


def test_what_is_left_staged_is_removed(tmp_path: Path) -> None:
    def fail() -> None:
        with staging.staged(tmp_path) as staged:
            staged.mkdir()
            raise RuntimeError("stopped")

    with pytest.raises(RuntimeError):
        fail()

    assert [child.name for child in tmp_path.iterdir()] == [staging.LOCK]


def test_a_dead_pushers_leftover_is_removed_and_a_living_ones_is_not(tmp_path: Path) -> None:
    dead, killed_early, alive = (tmp_path / f"{staging.PREFIX}{name}" for name in ("dead", "early", "alive"))
    for directory in (dead, alive):
        (directory / "version").mkdir(parents=True)
        (directory / "owner").touch()
    killed_early.mkdir()

    with (alive / "owner").open("a") as owner:
        fcntl.flock(owner, fcntl.LOCK_EX)
        with staging.staged(tmp_path):
            pass

    assert alive.is_dir()
    assert not dead.exists()
    assert not killed_early.exists()
