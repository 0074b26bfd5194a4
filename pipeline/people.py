"""Who gives the command, as far as the system tells."""

from __future__ import annotations

import getpass
import os
import socket


def who() -> str:
    """`user@host`; the user's number where it has no name, as in many containers."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"
