"""What a pushed model's passport says: lineage, verdicts and metrics, gathered from what a step is given."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from schemas.artifacts import Anomalies, Blessing, Evaluation, InfraBlessing
from schemas.component import Lineage
from schemas.passport import Passport

MOST_SLICES = 1000  # in a passport; the evaluation has them all


def make(
    version: int,
    digest: str,
    files: Mapping[str, str],
    gates: tuple[Mapping[str, Any], ...],
    slices: tuple[Mapping[str, Any], ...],
    warmup_requests: int,
    evaluation: Evaluation | None,
    lineage: Lineage,
) -> Passport:
    """The passport of a model that is pushed now. `digest` is the Model artifact's."""
    baseline = lineage.baseline
    return Passport(
        pipeline=lineage.pipeline,
        run=lineage.run,
        graph_digest=lineage.graph_digest,
        git_commit=lineage.git_commit,
        pushed_at=now(),
        version=version,
        model_digest=digest,
        files=files,
        baseline=None if baseline.version is None else {"version": baseline.version, "digest": baseline.digest},
        metrics=evaluation.properties.get("metrics", {}) if evaluation is not None else {},
        slices=slices,
        gates=gates,
        steps=dict(lineage.steps),
        libraries=dict(lineage.libraries),
        warmup_requests=warmup_requests,
    )


def now() -> str:
    """The time as passports have it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def gates(
    blessing: Blessing | None, evaluation: Evaluation | None, infra_blessing: InfraBlessing | None, lineage: Lineage
) -> tuple[dict[str, Any], ...]:
    """The verdict of each step before the push that judged the data or the model, in the order of the pipeline."""
    found: list[dict[str, Any]] = []
    for step, record in lineage.steps.items():
        for output in record.get("outputs", {}).values():
            counts: Mapping[str, int] = output.get("properties", {}).get("anomalies", {})
            if output.get("type") == Anomalies.TYPE_NAME and counts:  # Transform's may be empty: nobody looked
                reasons = [f"{split}: {count} with anomalies" for split, count in sorted(counts.items()) if count]
                drift = output["properties"].get("drift")
                if (
                    drift is not None and drift["on_drift"] != "retrain"
                ):  # where it is the reason to train, it is not against it
                    reasons += drift["over"]
                gate = {"gate": step, "blessed": not reasons, "reasons": reasons, "anomalies": dict(counts)}
                found.append(gate | ({"drift": drift} if drift is not None else {}))
    if blessing is not None:
        name = lineage.inputs.get("blessing", {}).get("step", "evaluator")
        judged = dict(evaluation.properties) if evaluation is not None else {}
        judged.pop("metrics", None)
        found.append({"gate": name, "blessed": blessing.blessed, "reasons": [], **blessing.properties, **judged})
    if infra_blessing is not None:
        name = lineage.inputs.get("infra_blessing", {}).get("step", "infra_validator")
        said = infra_blessing.properties
        found.append({"gate": name, "blessed": infra_blessing.blessed, "reasons": [], **said})
    return tuple(found)


def slices(evaluation: Evaluation | None) -> tuple[dict[str, Any], ...]:
    """The candidate's metrics on each slice but the whole: {"slice", "examples", "metrics"}, in reading order.

    A metric that is not a finite number is None. One with a confidence interval has it in "intervals", as [lower, upper].
    Beyond MOST_SLICES those with the fewest examples are left out.
    """
    if evaluation is None or not any(evaluation.path.glob("metrics-*")):
        return ()
    from components.model.metrics import EXAMPLE_COUNT
    from components.model.verdict import CrossKey, Results, in_reading_order, key_name

    baselines = _baselines(evaluation)
    found: list[dict[str, Any]] = []
    for key, numbers in Results.read(evaluation.path, candidate="").values.items():
        if not key or isinstance(key, CrossKey):
            continue  # all examples together; a comparison of two slices, each of which is there by itself
        metrics: dict[str, float | None] = {}
        intervals: dict[str, list[float]] = {}
        for (model, metric, is_change), number in sorted(numbers.items(), key=lambda item: item[0]):
            if model in baselines or is_change:
                continue
            metrics[metric] = number.value if math.isfinite(number.value) else None
            if number.interval is not None and math.isfinite(number.interval.low + number.interval.high):
                intervals[metric] = [number.interval.low, number.interval.high]
        intervals.pop(EXAMPLE_COUNT, None)
        examples = int(metrics.pop(EXAMPLE_COUNT, None) or 0)
        entry = {"slice": key_name(key), "examples": examples, "metrics": metrics}
        found.append(entry | ({"intervals": intervals} if intervals else {}))
    kept = sorted(found, key=lambda entry: -entry["examples"])[:MOST_SLICES]
    return tuple(sorted(kept, key=lambda entry: in_reading_order((True, entry["slice"], ""))))


def _baselines(evaluation: Evaluation) -> set[str]:
    """The names of the models that the candidate was compared with, as the evaluation's own configuration has them."""
    run = json.loads((evaluation.path / "eval_config.json").read_text(encoding="utf-8"))
    return {spec.get("name", "") for spec in run["evalConfig"].get("modelSpecs", ()) if spec.get("isBaseline")}
