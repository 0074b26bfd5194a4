"""What Kubeflow's UI shows of a step: a summary in Markdown, a table of metrics, a ROC curve and a confusion matrix."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pipeline.contract import Contract
from pipeline.execute import open_output
from pipeline.fingerprint import is_ours
from pipeline.log import duration
from pipeline.store import Execution
from schemas.artifacts import Evaluation, Model
from schemas.dotted_path import resolve

if TYPE_CHECKING:
    from pipeline.notifications.ended_run import EndedRun

_SAID_OF_AN_ARTIFACT = ("span", "version", "blessed", "destination")  # properties that are worth a column
_LONGEST = 20_000  # characters of a refusal or error in a summary


def artifact_metadata(execution: Execution, output: str, contract: Contract | None = None) -> dict[str, Any]:
    """What the UI and later tasks are told of an output: scalar metrics, our type, where it is in the store, who made it.

    Of a type that is not ours, by the step's `contract`, every scalar property is told.
    """
    record, manifest = execution.manifest.outputs[output], execution.manifest
    ours = contract is None or is_ours(contract.outputs[output].__module__)
    told = _SAID_OF_AN_ARTIFACT if ours else tuple(record.properties)
    return {
        **_numbers(record.properties.get("metrics")),
        **{name: record.properties[name] for name in told if _is_scalar(record.properties.get(name))},
        "type": record.type,
        "path": str(execution.output(output)),
        "digest": record.digest,
        "step": manifest.step,
        "key": manifest.key,
        "run": manifest.run,
    }


def metrics(execution: Execution, contract: Contract) -> dict[str, float]:
    """The scalar metrics of a step that evaluates or makes a model, with the baseline's, and the ends of intervals.

    A metric that is not defined on this data is left out.
    """
    for kind in (Evaluation, Model):
        for output, made in contract.outputs.items():
            if issubclass(made, kind) and output in execution.manifest.outputs:
                properties = execution.manifest.outputs[output].properties
                found = _numbers(properties.get("metrics"))
                for name, ends in (properties.get("intervals") or {}).items():
                    found |= _numbers({f"{name} (95 % from)": ends[0], f"{name} (95 % to)": ends[1]})
                baseline = properties.get("baseline_metrics") or {}
                return found | _numbers({f"{name} (baseline)": value for name, value in baseline.items()})
    return {}


def curves(execution: Execution, contract: Contract) -> dict[str, Any]:
    """The metadata of KFP's ClassificationMetrics: `confidenceMetrics` and `confusionMatrix`, where the evaluation has plots."""
    for output, made in contract.outputs.items():
        if not issubclass(made, Evaluation) or not execution.manifest.outputs[output].properties.get("plots"):
            continue
        plots = resolve("components.model.evaluation_plots.read")(execution.output(output))
        found: dict[str, Any] = {}
        if plots.roc:
            found["confidenceMetrics"] = [
                {"confidenceThreshold": threshold, "falsePositiveRate": false_positives, "recall": recall}
                for threshold, false_positives, recall in plots.roc
            ]
        if plots.classes:
            found["confusionMatrix"] = {
                "annotationSpecs": [{"displayName": name} for name in plots.classes],
                "rows": [{"row": list(row)} for row in plots.matrix],
            }
        return found
    return {}


def summary(
    step: str,
    outcome: str,
    *,
    run: str,
    reason: str = "",
    message: str = "",
    seconds: float | None = None,
    notes: Sequence[str] = (),
    execution: Execution | None = None,
    contract: Contract | None = None,
) -> str:
    """A page in Markdown: how the step ended and why, what it made and where that is, a refusal in full."""
    lines = [f"# {_plain(step)}: {outcome}", ""]
    took = f", after {duration(seconds)}" if seconds else ""
    why = f": {_plain(reason)}" if reason else ""
    lines += [f"{outcome.capitalize()}{took}{why}.", ""]
    if message:
        lines += [*_block(message), ""]
    lines += [f"* {_plain(note)}" for note in notes]
    if notes:
        lines.append("")
    if execution is not None and contract is not None:
        lines += ["| output | type | what it holds |", "|---|---|---|"]
        for output, kind in contract.outputs.items():
            if output in execution.manifest.outputs:
                what = open_output(execution, output, kind).describe()
                cells = (output, execution.manifest.outputs[output].type, what)
                lines.append(f"| {' | '.join(_cell(cell) for cell in cells)} |")
        table = _numbers(metrics(execution, contract))
        if table:
            lines += ["", "| metric | value |", "|---|---|"]
            lines += [f"| {_cell(name)} | {value:.4g} |" for name, value in table.items()]
        made = execution.manifest
        lines += [
            "",
            f"* in the store: `{execution.path}`",
            f"* key: `{made.key}`",
            f"* made by run `{made.run}` in {duration(made.seconds)}",
        ]
    lines.append(f"* this run: `{run}`")
    return "\n".join(lines) + "\n"


def run_summary(ended: EndedRun) -> str:
    """A page in Markdown: how a run ended, each of its steps, what was made and where it is."""
    took = f", after {duration(ended.seconds)}" if ended.seconds is not None else ""
    lines = [f"# {_plain(ended.pipeline)}: {ended.outcome}", "", f"Run `{ended.run}`: {ended.outcome}{took}.", ""]
    for text in (ended.error, *ended.reasons):
        lines += [*_block(text), ""] if text else []
    lines += ["| step | outcome | seconds | why |", "|---|---|---|---|"]
    for step, outcome in zip(ended.steps, ended.outcomes, strict=True):
        first = (step.message or step.reason).partition("\n")[0]
        lines.append(f"| {_cell(step.step)} | {outcome} | {step.seconds:.1f} | {_cell(first)} |")
    table = _numbers(ended.metrics)
    if table:
        lines += ["", "| metric | value |", "|---|---|"]
        lines += [f"| {_cell(name)} | {value:.4g} |" for name, value in table.items()]
    lines += ["", *(f"* {_plain(name)}: `{path}`" for name, path in ended.paths.items())]
    lines += [f"* {_plain(warning)}" for warning in ended.warnings]
    return "\n".join(lines) + "\n"


def _block(text: str) -> list[str]:
    """Text as it is, whatever it has in it."""
    shown = text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."
    return [f"    {line}" for line in shown.expandtabs(4).splitlines()]


def _cell(text: str) -> str:
    return _plain(text).replace("|", "\\|")


def _plain(text: str) -> str:
    return " ".join(text.split()).replace("_", "\\_").replace("*", "\\*").replace("<", "&lt;")


def _numbers(found: Mapping[str, Any] | None) -> dict[str, float]:
    return {
        name: value
        for name, value in (found or {}).items()
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    }


def _is_scalar(value: Any) -> bool:
    return isinstance(value, str | bool | int) or (isinstance(value, float) and math.isfinite(value))
