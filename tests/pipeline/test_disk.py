"""Whether other machines may write to a directory is read from the list of mounts."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.disk import is_shared

MOUNTS = """\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 22 0:40 / /mnt/team rw,relatime shared:2 - nfs4 server:/export rw,vers=4.2
31 30 8:17 / /mnt/team/local rw - xfs /dev/sdb1 rw
32 22 0:41 / /mnt/two\\040words rw - cifs //server/share rw
33 22 0:42 / /mnt/bucket rw - fuse.gcsfuse bucket rw
34 22 0:43 / /mnt/hidden rw - nfs server:/old rw
35 34 0:44 / /mnt/hidden rw - tmpfs none rw
"""


@pytest.mark.parametrize(
    ("path", "shared"),
    [
        ("/home/me/.penstock", False),
        ("/mnt/team", True),
        ("/mnt/team/.penstock/ledger.sqlite", True),
        ("/mnt/teams", False),
        ("/mnt/team/local/.penstock", False),
        ("/mnt/two words/x", True),
        ("/mnt/bucket/x", True),
        ("/mnt/hidden/x", False),
    ],
)
def test_it_is_what_the_mount_that_holds_it_says(tmp_path: Path, path: str, shared: bool) -> None:
    (tmp_path / "mountinfo").write_text(MOUNTS)

    assert is_shared(Path(path), tmp_path / "mountinfo") is shared


def test_it_is_not_where_the_system_does_not_say(tmp_path: Path) -> None:
    assert not is_shared(tmp_path, tmp_path / "nothing")
    assert not is_shared(Path("/proc/self"))
