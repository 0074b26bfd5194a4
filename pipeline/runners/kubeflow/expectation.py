"""What a package was compiled from, which the pod's image has to hold too: version, graph, and the user's code of a step."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import version

from pipeline.contract import read_contract
from pipeline.definition import Definition
from pipeline.fingerprint import OURS, code_closure, find_module, fingerprint_module
from pipeline.graph import canonical_json
from schemas.dotted_path import resolve
from schemas.errors import ConfigError

_SHOWN = (
    8  # hexadecimal digits of a module's digest: enough to tell an edit by, and a package holds them for every step
)


@dataclass(frozen=True, kw_only=True)
class Expectation:
    """What a task of a compiled package expects to find in its image."""

    penstock: str  # version
    graph: str  # digest of the graph, with the parameters' defaults of the package
    code: Mapping[str, str] = field(default_factory=dict)  # the user's modules behind the step, with the digest of each

    def to_json(self) -> str:
        """The text after `--expect`: one for equal expectations."""
        return canonical_json(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Expectation:
        """The expectation in such a text. Raises ConfigError for any other text."""
        try:
            found = json.loads(text)
            expectation = cls(penstock=found["penstock"], graph=found["graph"], code=found["code"])
            if set(found) != set(asdict(expectation)) or not isinstance(expectation.code, dict):
                raise ValueError("it has other keys")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ConfigError(
                f"--expect {text}: not what `pipeline kubeflow compile` writes ({error}). Compile the package again, "
                f"with the version of Penstock that is in the image: {version('penstock')}"
            ) from error
        return expectation


def expected(definition: Definition, step: str | None = None) -> Expectation:
    """What the package expects of the image that runs `step` of a definition; of any image without a step.

    `definition` has the package's parameters (load_on_cluster). Raises ConfigError for code that does not exist.
    """
    return Expectation(
        penstock=version("penstock"),
        graph=definition.graph.digest,
        code={
            name: module.digest[:_SHOWN]
            for name, module in sorted(code_closure(_user_code(definition, step)).modules.items())
            if name.partition(".")[0] not in OURS
        },
    )


def _user_code(definition: Definition, step: str | None) -> list[str]:
    """Dotted paths of the user's functions in a step's settings, and of the component itself when it is the user's."""
    if step is None:
        return []
    found = definition.graph[step]
    contract = read_contract(resolve(found.component))
    paths = contract.paths(found.settings, contract.user_code)
    return [*paths, *([found.component] if found.component.partition(".")[0] not in OURS else [])]


def problems(expectation: Expectation, definition: Definition, step: str | None = None) -> tuple[str, ...]:
    """Where the package and the image that this runs in differ, both sides named; nothing when the image is the right one.

    `definition` is the image's, loaded with the package's parameters (load_on_cluster without any).
    """
    return tuple(_differences(expectation, definition, step))


def _differences(expectation: Expectation, definition: Definition, step: str | None) -> Iterator[str]:
    what = f"{definition.target}{f', step {step}' if step else ''}"
    if expectation.penstock != version("penstock"):
        yield (
            f"{what}: the package was compiled by Penstock {expectation.penstock}, and the image holds Penstock "
            f"{version('penstock')}. Compile and build with the same version"
        )
    if expectation.graph != definition.graph.digest:
        yield (
            f"{what}: the package was compiled from the graph {_short(expectation.graph)}, and the definition in the image gives "
            f"{_short(definition.graph.digest)}. Build the image from the files that the package is compiled from, or compile it again"
        )
    for module, digest in expectation.code.items():
        file = find_module(module)
        if file is None or file.suffix != ".py":
            yield (
                f"{what}: {module} is not in the image, and the package expects it ({digest}): build the image from the "
                f"same files as the package"
            )
            continue
        here = fingerprint_module(file, module).digest[:_SHOWN]
        if here != digest:
            yield (
                f"{what}: {module} is {digest} in the package and {here} in the image ({file}): build the image from the "
                f"same files as the package, or compile the package again"
            )


def _short(digest: str) -> str:
    return digest[: len("sha256:") + 12]
