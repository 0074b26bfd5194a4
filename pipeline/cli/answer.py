"""What every verb of the command shares: what it may be asked, and what it says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import typer

Target = Annotated[str, typer.Argument(metavar="CONFIG", help="A pipeline.yaml, or module:object for one in Python.")]
Json = Annotated[bool, typer.Option("--json", help="Print data instead of text.")]


@dataclass(frozen=True)
class Answer:
    """What a verb says: as data, and as text unless it has said it all already. It goes to stderr when it is an error."""

    data: dict[str, Any]
    text: str | None = None
    exit_code: int = 0
