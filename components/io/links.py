"""A file under a second name: a hard link where the file system allows one, else a copy."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

# Another file system; one without hard links, or that forbids them (FUSE, SMB, a protected file of another user's); the most
# names that a file may have.
_REFUSED = {errno.EXDEV, errno.EPERM, errno.EACCES, errno.EMLINK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}


def link(source: Path, target: Path) -> None:
    """Give the file `source` the name `target` too, which must be free. Neither may be written to afterwards, only removed.

    Raises FileExistsError when there is a `target`, and OSError when it cannot be written.
    """
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in _REFUSED:
            raise
    else:
        return
    try:
        with source.open("rb") as content, target.open("xb") as copied:
            shutil.copyfileobj(content, copied, 1 << 20)
    except FileExistsError:
        raise
    except BaseException:
        target.unlink(missing_ok=True)  # a half copy would be taken for the whole
        raise
