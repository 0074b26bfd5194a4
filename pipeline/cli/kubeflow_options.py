"""What the verbs of `pipeline kubeflow` may all be asked, and how they warn."""

from __future__ import annotations

from typing import Annotated

import typer

Endpoint = Annotated[
    str | None,
    typer.Option(metavar="URL", help="Where Kubeflow Pipelines is. Also KFP_ENDPOINT; KFP_TOKEN is who asks."),
]
Namespace = Annotated[
    str | None,
    typer.Option("--namespace", "-n", metavar="NS", help="Of a user, where there are several. Also KFP_NAMESPACE."),
]


def warn(message: str) -> None:
    """A warning on stderr."""
    typer.secho("warning: ", fg="yellow", bold=True, nl=False, err=True)
    typer.echo(message, err=True)
