"""`pipeline check`: every mistake in a definition, without running anything."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pipeline.lint import lint
from pipeline.loading import load
from schemas.errors import ConfigError


@dataclass(frozen=True)
class CheckResult:
    """What was found. `digest` is the graph's, None when there is no graph; `fast` what --fast made of each step of TFX's."""

    target: str
    errors: tuple[str, ...]
    warnings: tuple[str, ...]
    digest: str | None
    steps: int
    fast: Mapping[str, str] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether it can run."""
        return not self.errors

    def as_json(self) -> dict[str, Any]:
        """What `--json` prints."""
        return {
            "outcome": "ok" if self.ok else "wrong",
            "errors": list(self.errors),
            "warnings": list(self.warnings),
            "graph_digest": self.digest,
            "steps": self.steps,
            **({"fast": dict(self.fast)} if self.fast else {}),
        }

    def as_text(self) -> str:
        """One line per finding, then the verdict."""
        lines = [*(f"error: {error}" for error in self.errors), *(f"warning: {warning}" for warning in self.warnings)]
        lines += [f"{step}: {what}" for step, what in self.fast.items()]
        if self.ok:
            lines.append(f"{self.target}: {self.steps} steps, ready to run")
        else:
            count = len(self.errors)
            lines.append(f"{self.target}: {count} {'mistake' if count == 1 else 'mistakes'} to mend")
        return "\n".join(lines)


def check_pipeline(target: str, *, overrides: Iterable[str] = ()) -> CheckResult:
    """Load and lint a definition, also as it would run on Kubeflow if it says how. Mistakes are in the result, not raised."""
    overrides = tuple(overrides)
    try:
        definition = load(target, overrides)
    except ConfigError as error:
        return CheckResult(target, error.problems, (), None, 0)
    graph = definition.graph
    findings = lint(graph, definition.source)
    errors = [str(finding) for finding in findings if finding.level == "error"]
    warnings = [
        *definition.notes,
        *definition.idle_fast,
        *(str(finding) for finding in findings if finding.level == "warning"),
    ]
    if definition.kubeflow is not None:
        from pipeline.runners.kubeflow.checks import check_on_cluster

        try:
            checked = check_on_cluster(target, overrides)
        except ConfigError as error:
            errors += error.problems
        else:
            errors += checked.errors
            warnings += checked.warnings
    unique = tuple(dict.fromkeys(errors)), tuple(dict.fromkeys(warnings))
    return CheckResult(target, *unique, graph.digest, len(graph.steps), definition.fast)
