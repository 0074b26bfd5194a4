"""What every verb of the command shares: what it may be asked, and what it says."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any

import typer

Target = Annotated[str, typer.Argument(metavar="CONFIG", help="A pipeline.yaml, or module:object for one in Python.")]
Fast = Annotated[
    bool,
    typer.Option("--fast", help="Swap TFX's components for ours where those make the same; `plan` says which."),
]
Json = Annotated[bool, typer.Option("--json", help="Print data instead of text.")]


def overridden(overrides: Iterable[str] | None, fast: bool) -> tuple[str, ...]:
    """What replaces values of the definition: `--set`, and what `--fast` stands for."""
    return (*(overrides or ()), *(["tfx.fast=true"] if fast else []))


@dataclass(frozen=True)
class Answer:
    """What a verb says: as data, and as text unless it has said it all already. It goes to stderr when it is an error."""

    data: dict[str, Any]
    text: str | None = None
    exit_code: int = 0
