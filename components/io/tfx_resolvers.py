"""-> an artifact: the newest one that earlier runs made, as TFX's Resolver finds it with LatestArtifactStrategy."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from components.io.tfx_artifacts import artifact_of, out
from components.io.tfx_nodes import RESULT, link_tree
from schemas.artifact import ABSENT, Artifact
from schemas.component import Earlier, Sought
from schemas.dotted_path import resolve
from schemas.errors import ConfigError

_STANDARD = "tfx.types.standard_artifacts"
_PREFIX = "Latest__"
_PASS_ON = ("components.io.tfx_resolvers.", "components.io.tfx_nodes.LatestBlessedModel")


class LatestArtifact:
    """What every class for an artifact type has: `looks_for` says by type, step and output what it looks for.

    The first of these is what it gives, and it gives one only where there is one of each: a Resolver of TFX's that finds no artifact
    for one channel gives none for any. Where it gives none, the output is there and empty.
    """

    PASSES_ON: ClassVar[bool] = True

    looks_for: tuple[Mapping[str, str], ...]

    def sought(self) -> Sequence[Sought]:
        """As the definition says it, but for what other Resolvers passed on."""
        return [
            Sought(type=one["type"], step=one.get("step"), output=one.get("output"), besides=_PASS_ON)
            for one in self.looks_for
        ]

    def run(self, earlier: Earlier, *, result: Artifact) -> None:
        """Put a second name to the artifact's files, with its properties."""
        if earlier.path is None:
            result.properties[ABSENT] = True
            return
        link_tree(earlier.path, result.path)
        result.properties.update(earlier.properties)


def path_of(kind: type[Any]) -> str:
    """The dotted path of the component for TFX's class `kind`. Raises ConfigError for a class that no path can name."""
    parts = [kind.__qualname__] if kind.__module__ == _STANDARD else [*kind.__module__.split("."), kind.__qualname__]
    if any("__" in part or "." in part for part in parts):
        raise ConfigError(
            f"{kind.__module__}.{kind.__qualname__} is looked for by its name. Define it at the top of a module that can be "
            f"imported, without a double underscore in either name"
        )
    return f"{__name__}.{_PREFIX}{'__'.join(parts)}"


def __getattr__(name: str) -> Any:
    if not name.startswith(_PREFIX):
        raise AttributeError(f"module {__name__} has no attribute {name}")
    *module, qualname = name.removeprefix(_PREFIX).split("__")
    return _latest_of(resolve(".".join([*(module or [_STANDARD]), qualname])), name)


@functools.cache
def _latest_of(kind: type[Any], name: str) -> type[Any]:
    import dataclasses

    def run(self: Any, earlier: Earlier, *, result: Artifact) -> None:
        LatestArtifact.run(self, earlier, result=result)

    run.__annotations__ = {"earlier": Earlier, RESULT: out(artifact_of(kind))}
    made = dataclasses.make_dataclass(
        name,
        [("looks_for", tuple[dict[str, str], ...])],
        bases=(LatestArtifact,),
        frozen=True,
        kw_only=True,
        namespace={"run": run, "__doc__": f"-> {kind.__name__}: the newest one that earlier runs made."},
    )
    made.__module__, made.__qualname__ = __name__, name
    return made
