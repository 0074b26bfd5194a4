"""Settings -> TFMA's EvalConfig: made from an Evaluator's own settings, or taken whole as it is known from TFX."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from components.model.metrics import COUNT, EXAMPLE_COUNT, Metric
from components.model.slices import CrossSlice, Slice
from components.model.thresholds import Threshold, bounds_of
from components.model.verdict import cross_slice_of, metric_name, slice_of
from schemas.errors import ConfigError, did_you_mean

FIELDS = ("model_specs", "slicing_specs", "cross_slicing_specs", "metrics_specs", "options")


def problems(setting: Mapping[str, Any]) -> list[str]:
    """What can be said against an EvalConfig without TFMA, which takes seconds to import."""
    known = {**{name: name for name in FIELDS}, **{_camel(name): name for name in FIELDS}}
    found = [
        f"eval_config.{key}: TFMA's EvalConfig has no such field.{did_you_mean(str(key), FIELDS)} It has {', '.join(FIELDS)}"
        for key in setting
        if key not in known
    ]
    if not found and not any(known[key] == "metrics_specs" for key in setting):
        found.append("eval_config: without metrics_specs there is nothing to compute")
    return found


def made(
    model_specs: list[dict[str, Any]],
    metrics: Iterable[Metric],
    slices: Iterable[Slice],
    thresholds: Iterable[Threshold],
    confidence_intervals: str | None,
) -> Any:
    """The EvalConfig that an Evaluator's own settings ask for. `model_specs` are as protobuf's JSON has them.

    Raises ConfigError for a metric whose class does not take its config.
    """
    by_options: dict[str, dict[str, Any]] = {}  # metrics with the same options share a MetricsSpec
    thresholds = list(thresholds)
    for metric in metrics:
        spec = by_options.setdefault(
            json.dumps(metric.options, sort_keys=True),
            {"modelNames": [model.get("name", "") for model in model_specs], **metric.options, "metrics": []},
        )
        called = (metric.name, metric.in_results)
        bounds = [threshold.to_json() for threshold in thresholds if threshold.metric in called]
        spec["metrics"].append({**metric.to_json(), **({"perSliceThresholds": bounds} if bounds else {})})
    options: dict[str, Any] = {"includeDefaultMetrics": False}
    if confidence_intervals:
        options["computeConfidenceIntervals"] = True
        options["confidenceIntervals"] = {"method": confidence_intervals.upper()}
    config = _parsed(
        {
            "modelSpecs": model_specs,
            "slicingSpecs": [which.to_json() for which in slices],
            "metricsSpecs": list(by_options.values()),
            "options": options,
        },
        "metrics",
    )
    _check_metrics(config, "metrics")
    return config


def read(setting: Mapping[str, Any] | None, file: Path | None) -> Any:
    """An EvalConfig given whole: as YAML has it, or in a file in protobuf's text form or in JSON.

    The JSON may also be what TFMA writes as eval_config.json. In YAML a metric's `config` may be a mapping. Raises
    ConfigError for what TFMA does not know, with its place.
    """
    if file is None:
        config = _parsed(_with_texts(setting or {}), "eval_config")
        _check_metrics(config, "eval_config")
        return config
    from google.protobuf import text_format
    from tensorflow_model_analysis.proto import config_pb2

    text = file.read_text(encoding="utf-8")
    try:
        if text.lstrip().startswith("{"):
            found = json.loads(text)
            return read(found.get("evalConfig", found), None)
        config = text_format.Parse(text, config_pb2.EvalConfig())
    except (text_format.ParseError, json.JSONDecodeError) as error:
        raise ConfigError(f"eval_config_file: {file}: {error}") from error
    _check_metrics(config, "eval_config_file")
    return config


def written(directory: Path) -> Any:
    """The EvalConfig that TFMA wrote beside its results, with the defaults that it filled in."""
    found = json.loads((directory / "eval_config.json").read_text(encoding="utf-8"))
    return _parsed(found["evalConfig"], "eval_config")


def of_json(text: str) -> Any:
    """An EvalConfig in protobuf's JSON, as TFX's components keep theirs. Raises ConfigError."""
    return _parsed(json.loads(text), "eval_config")


def completed(config: Any, signature: str, *, has_baseline: bool) -> Any:
    """`config` as TFX's Evaluator completes it for one model, or for two, and with what a model spec left out.

    Without a baseline, bounds on change are removed. Added are the signature to ask, and the number of examples as a metric
    where no MetricsSpec has it. Raises ConfigError for model specs that do not go together.
    """
    from tensorflow_model_analysis.utils import config_util

    if not config.model_specs:
        raise ConfigError("eval_config: model_specs is missing. Write model_specs: [{label_key: ...}]")
    try:
        config = config_util.update_eval_config_with_defaults(config, has_baseline=has_baseline, rubber_stamp=True)
        config_util.verify_eval_config(config)
    except ValueError as error:
        raise ConfigError(f"eval_config: {str(error).splitlines()[0]}") from error
    if len(config.model_specs) > 2:
        raise ConfigError(
            f"eval_config: model_specs has {len(config.model_specs)} models. There is the one to judge and the one that "
            f"serves now"
        )
    for spec in config.model_specs:
        spec.signature_name = spec.signature_name or signature
    if not any(
        metric.class_name == COUNT.class_name and f'"{EXAMPLE_COUNT}"' in (metric.config or f'"{EXAMPLE_COUNT}"')
        for spec in config.metrics_specs
        for metric in spec.metrics
    ):
        counting = config.metrics_specs.add(model_names=[spec.name for spec in config.model_specs])
        counting.metrics.add(class_name=COUNT.class_name, config=json.dumps({"name": EXAMPLE_COUNT}))
        counting.example_weights.unweighted = True
    return config


def thresholds_of(config: Any) -> list[Threshold]:
    """The bounds that an EvalConfig sets, each once."""
    from tensorflow_model_analysis.metrics import metric_specs
    from tensorflow_model_analysis.proto import config_pb2

    found: list[Threshold] = []
    limits = metric_specs.metric_thresholds_from_metrics_specs(config.metrics_specs, eval_config=config)
    for key, of_key in limits.items():
        name = metric_name(key.to_proto())
        for spec, threshold in of_key:
            where: Slice | CrossSlice | None = None
            if isinstance(spec, config_pb2.CrossSlicingSpec):
                where = cross_slice_of(spec)
            elif spec is not None:
                where = slice_of(spec)
            found += [Threshold(name, bound, limit, where) for bound, limit in bounds_of(threshold)]
    return list(dict.fromkeys(found))


def sliced_by(config: Any) -> set[str]:
    """Every feature that an EvalConfig slices by, but those in SQL."""
    specs = [*config.slicing_specs]
    for cross in config.cross_slicing_specs:
        specs += [cross.baseline_spec, *cross.slicing_specs]
    return {feature for spec in specs for feature in slice_of(spec).named}


def _parsed(config: Mapping[str, Any], setting: str) -> Any:
    from google.protobuf import json_format
    from tensorflow_model_analysis.proto import config_pb2

    try:
        return json_format.ParseDict(dict(config), config_pb2.EvalConfig())
    except json_format.ParseError as error:
        raise ConfigError(f"{setting}: {error}") from error


def _check_metrics(config: Any, setting: str) -> None:
    from tensorflow_model_analysis.metrics import metric_specs, metric_types

    found = []
    for metric in (metric for spec in config.metrics_specs for metric in spec.metrics):
        try:
            metric_specs.metric_instance(metric, metric_types.registered_metrics())
        except (TypeError, ValueError, ImportError, AttributeError, NotImplementedError) as error:
            lines = [line for line in str(error).splitlines() if line.strip()]
            hint = f". Write {{name: {metric.class_name}, config: {{...}}}}" if setting == "metrics" else ""
            found.append(
                f"{setting}: {metric.class_name} cannot be made with {metric.config or 'no config'}: "
                f"{lines[-1] if lines else type(error).__name__}{hint}"
            )
    if found:
        raise ConfigError(*found)


def _with_texts(config: Mapping[str, Any]) -> dict[str, Any]:
    """`config` with every metric's `config` as the JSON text that TFMA wants it to be."""
    written = dict(config)
    for name in ("metrics_specs", "metricsSpecs"):
        specs = written.get(name)
        if isinstance(specs, list):
            written[name] = [_with_metric_texts(spec) if isinstance(spec, Mapping) else spec for spec in specs]
    return written


def _with_metric_texts(spec: Mapping[str, Any]) -> dict[str, Any]:
    metrics = spec.get("metrics")
    if not isinstance(metrics, list):
        return dict(spec)
    return {
        **spec,
        "metrics": [
            {**metric, "config": json.dumps(metric["config"], sort_keys=True)}
            if isinstance(metric, Mapping) and isinstance(metric.get("config"), Mapping)
            else metric
            for metric in metrics
        ],
    }


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)
