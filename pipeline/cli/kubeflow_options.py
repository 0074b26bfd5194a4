"""What the verbs of `pipeline kubeflow` may all be asked, and how they warn."""

from __future__ import annotations

from collections.abc import Sequence
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
Image = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Of the pods, as kubeflow.image: a TFX pipeline has no such section."),
]


def with_image(image: str | None, overrides: Sequence[str] | None) -> list[str]:
    """What is set, as --image and --set say it."""
    return [*([f"kubeflow.image={image}"] if image is not None else []), *(overrides or ())]


def warn(message: str) -> None:
    """A warning on stderr."""
    typer.secho("warning: ", fg="yellow", bold=True, nl=False, err=True)
    typer.echo(message, err=True)
