"""Manifests survive JSON; a digest is that of names and content, and of nothing else."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from pipeline.manifest import ArtifactRecord, FileDigest, InputRecord, Manifest, RefusalRecord, digest_tree
from schemas.errors import ArtifactError

KEY = "ab" * 32
OTHER_KEY = "cd" * 32


class TestManifest:
    def test_survives_json(self) -> None:
        manifest = Manifest(
            step="evaluator",
            key=KEY,
            key_parts={"settings": "12", "inputs": {"model": "sha256:3"}},
            component="components.model.evaluator.Evaluator",
            pipeline="taxi",
            run="run-1",
            created_at="2026-11-21T20:00:00.000000+00:00",
            seconds=2.25,
            inputs={"model": InputRecord("trainer", OTHER_KEY, "model", "Model", "sha256:3")},
            outputs={
                "blessing": ArtifactRecord("Blessing", "sha256:4", {"blessed": False}, {"a": FileDigest(0, "e3")})
            },
            refusal=RefusalRecord("NotBlessed", "accuracy 0.41 is below 0.60"),
            peak_bytes=2**30,
            parts=("ab-12", "ab-34"),
        )

        assert Manifest.from_json(json.loads(json.dumps(manifest.to_json()))) == manifest

    def test_of_an_earlier_version_knows_no_peak_of_memory_and_no_parts(self) -> None:
        written = Manifest(
            step="fit", key=KEY, component="c", pipeline="p", run="run-1", created_at="2026-11-21", seconds=1.0
        ).to_json()
        del written["peak_bytes"], written["parts"]

        assert Manifest.from_json(written).peak_bytes is None
        assert Manifest.from_json(written).parts == ()


class TestDigestTree:
    def test_depends_on_content_alone(self, tmp_path: Path) -> None:
        for name in ("one", "other"):
            (tmp_path / name / "sub").mkdir(parents=True)
            (tmp_path / name / "sub" / "file").write_text("content")
        (tmp_path / "other" / "sub" / "file").chmod(0o600)
        os.utime(tmp_path / "other" / "sub" / "file", (1, 1))

        assert digest_tree(tmp_path / "one") == digest_tree(tmp_path / "other")

    @pytest.mark.parametrize("change", ["content", "name", "new file", "empty directory"])
    def test_changes_with_content_names_and_empty_directories(self, tmp_path: Path, change: str) -> None:
        (tmp_path / "sub").mkdir()
        file = tmp_path / "sub" / "file"
        file.write_text("content")
        before, _ = digest_tree(tmp_path)

        match change:
            case "content":
                file.write_text("CONTENT")
            case "name":
                file.rename(tmp_path / "sub" / "elif")
            case "new file":
                (tmp_path / "sub" / "another").touch()
            case "empty directory":
                (tmp_path / "sub" / "directory").mkdir()

        assert digest_tree(tmp_path)[0] != before

    def test_lists_every_file_with_its_size_and_hash(self, tmp_path: Path) -> None:
        (tmp_path / "a" / "b").mkdir(parents=True)
        (tmp_path / "a" / "b" / "c").write_bytes(b"abc")
        sha256_of_abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"

        digest, files = digest_tree(tmp_path)

        assert files == {"a/b/c": FileDigest(3, sha256_of_abc)}
        assert digest.startswith("sha256:")

    def test_counts_a_link_inside_as_the_file_it_points_to(self, tmp_path: Path) -> None:
        for name in ("linked", "copied"):
            (tmp_path / name).mkdir()
            (tmp_path / name / "file").write_text("content")
        (tmp_path / "linked" / "link").symlink_to("file")
        (tmp_path / "copied" / "link").write_text("content")

        assert digest_tree(tmp_path / "linked") == digest_tree(tmp_path / "copied")

    def test_does_not_follow_a_directory_that_links_to_its_parent(self, tmp_path: Path) -> None:
        (tmp_path / "sub").mkdir()
        (tmp_path / "sub" / "up").symlink_to("..")

        assert digest_tree(tmp_path)[1] == {}

    @pytest.mark.parametrize(
        ("target", "said"),
        [
            ("/etc/hostname", "outside the artifact"),
            ("../secret", "outside the artifact"),
            ("nowhere", "there is nothing"),
        ],
    )
    def test_refuses_a_link_that_would_not_survive_a_copy(self, tmp_path: Path, target: str, said: str) -> None:
        (tmp_path / "secret").write_text("secret")
        (tmp_path / "artifact").mkdir()
        (tmp_path / "artifact" / "link").symlink_to(target)

        with pytest.raises(ArtifactError, match=f"link is a link to {target}.*{said}"):
            digest_tree(tmp_path / "artifact")

    def test_refuses_a_pipe(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe")

        with pytest.raises(ArtifactError, match="pipe is neither a file nor a directory"):
            digest_tree(tmp_path)
