"""TFX's Evaluator with a verdict of ours: what TFMA found against a model is said in sentences, and its metrics are where ours are."""

from __future__ import annotations

from typing import Any

from components.io.tfx_components import TfxComponent, Work
from components.model import eval_config, verdict
from components.model.verdict import BASELINE
from schemas.artifacts import Blessing, Evaluation


class TfxEvaluator(TfxComponent):
    """What TFX's Evaluator is beside its executor: the reasons and metrics in TFMA's files are properties of what it makes.

    Whether the model is blessed is what the executor says.
    """

    RUN_BY = ("components.model.tfx_evaluator.TfxEvaluator", *TfxComponent.RUN_BY)

    def _execute(self, work: Work) -> None:
        """Evaluate, then read what was found. A configuration of the time before EvalConfig has no thresholds to read."""
        super()._execute(work)
        evaluation, blessing = work.outputs["evaluation"], work.outputs["blessing"]
        if not (isinstance(evaluation, Evaluation) and isinstance(blessing, Blessing)):
            raise TypeError(f"TFX's Evaluator makes an Evaluation and a Blessing, found {work.outputs}")
        if not (evaluation.path / "eval_config.json").is_file():  # an executor of the user's that evaluates otherwise
            return
        config = eval_config.written(evaluation.path)
        judged = [spec.name for spec in config.model_specs if not spec.is_baseline]
        compared = [spec.name for spec in config.model_specs if spec.is_baseline]
        # With a single model TFMA leaves its name out of the results.
        candidate = judged[0] if judged and len(config.model_specs) > 1 else ""
        results = verdict.Results.read(evaluation.path, candidate=candidate, baseline=(compared or [BASELINE])[0])
        evaluation.properties.update(verdict.described(results, compared=bool(compared)))
        applied = eval_config.thresholds_of(config)
        if blessing.blessed:
            reasons: list[str] = []
        elif applied:
            reasons = verdict.reasons(results, tuple(applied), applied, evaluation.path)
        else:
            reasons = [self._nothing_to_keep()]
        if reasons:
            blessing.write(tuple(reasons))
        blessing.properties["thresholds"] = [threshold.describe() for threshold in applied]

    def _nothing_to_keep(self) -> str:
        """Why nothing was blessed where no threshold was checked."""
        given: Any = self._parameters().get("eval_config")
        left_out = eval_config.thresholds_of(eval_config.of_json(given)) if given else []
        if left_out:
            bounds = ", ".join(f"{one.bound} {one.limit:g} of {one.metric}" for one in left_out)
            return (
                f"{bounds} compares with a baseline, and there is none yet; TFX's Evaluator blesses nothing without a threshold "
                f"that it can check. Give eval_config a value_threshold besides, or push the first model by a Pusher without "
                f"model_blessing"
            )
        return (
            "eval_config sets no thresholds, and TFX's Evaluator blesses nothing without. Give a metric one: "
            "MetricThreshold(value_threshold=GenericValueThreshold(lower_bound={'value': 0.7}))"
        )
