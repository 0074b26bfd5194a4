"""Steps of TFX's -> ours in their place, where ours make the same of the same settings; and for each, why not where they do not."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.io.tfx_components import component_of
from components.io.tfx_pipelines import LATEST_BLESSED_MODEL
from schemas.artifact import splits_in_order
from schemas.dotted_path import resolve
from schemas.errors import ConfigError, DataError
from schemas.input_files import expand

Steps = Mapping[str, Mapping[str, Any]]  # by id, each as pipeline.yaml has it

_EXAMPLE_GEN = "components.data.example_gen.ExampleGen"
_EVALUATOR = "components.model.evaluator.Evaluator"
_PUSHER = "components.release.pusher.Pusher"
_TF_EXAMPLE, _TFRECORD_GZIP = 6, 5  # example_gen_pb2.FORMAT_TF_EXAMPLE, FORMAT_TFRECORDS_GZIP
_SCHEMA = "schema.pbtxt"
_BY_TIME = (0, 1)  # pusher_pb2.AUTO, UNIX_TIMESTAMP
_PACKED = {".bz2", ".deflate", ".lzma", ".xz", ".zst", ".zstd"}  # what Beam unpacks besides gzip, by extension
_READS = {
    "tfx.components.example_gen.csv_example_gen.executor.Executor": "csv",
    "tfx.components.example_gen.import_example_gen.executor.Executor": "tfrecord",
    "tfx.components.example_gen.custom_executors.parquet_executor.Executor": "parquet",
}
"""What our ExampleGen calls the files that an executor reads."""


def swapped(steps: Steps) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """(the steps, ours in the place of those of TFX's for which ours make the same; of each of TFX's, what became of it).

    Only TFX's own class with TFX's own executor is swapped: one that is derived from it may do anything. A step that is wrong stays as
    it is, for whoever checks it.
    """
    known = {name: found for name, step in steps.items() if (found := _found(name, step, steps)) is not None}
    made: dict[str, dict[str, Any]] = {}
    said: dict[str, str] = {}
    for name, step in steps.items():
        made[name] = dict(step)
        if name not in known:
            continue
        try:
            uses, settings, inputs = _twin(known[name], known)
        except _Differs as why:
            said[name] = f"TFX's own: {why}"
        else:
            made[name] |= {"uses": uses, "with": settings, "inputs": inputs}
            said[name] = f"ours for TFX's {known[name].kind.__name__}"
    for name, step in made.items():
        swapped_in = name in said and step["uses"] == _PUSHER
        judge = (step["inputs"].get("blessing") or "").partition(".")[0] if swapped_in else ""
        if judge in said and made[judge]["uses"] == _EVALUATOR:
            step["inputs"]["evaluation"] = f"{judge}.evaluation"  # for the passport
    for name in [name for name, step in made.items() if step["uses"] == LATEST_BLESSED_MODEL]:
        if _consumers(name, steps) and not _consumers(name, made):
            del made[name]
            for judge in _consumers(name, steps):
                said[judge] += f", which needs no {name}"
    return made, said


@dataclass(frozen=True)
class _Step:
    """A component of TFX's, or one that is derived from it: its class, execution parameters and wires."""

    name: str
    kind: type[Any]
    parameters: Mapping[str, Any]
    inputs: Mapping[str, str | None]
    steps: Steps  # all of them

    def wires(self, ports: Mapping[str, str], *left_out: str) -> dict[str, str | None]:
        """The wires by our names for the `ports`. What is optional and not wired stays so, as in TFX, and so does what is `left_out`."""
        unknown = [port for port, wire in self.inputs.items() if wire is not None and port not in ports]
        if unknown:
            raise _Differs(f"ours has no input '{unknown[0]}'")
        optional = {port for port, one in self.kind.SPEC_CLASS.INPUTS.items() if one.optional}
        return {
            ours: self.inputs.get(port)
            for port, ours in ports.items()
            if self.inputs.get(port) is not None or port in optional
        } | dict.fromkeys(left_out)

    def needs(self, port: str) -> str:
        """The wire of an input that TFX's can do without, and ours cannot."""
        wire = self.inputs.get(port)
        if wire is None:
            raise _Differs(f"'{port}' is not wired, and ours needs it")
        return wire

    def json(self, parameter: str) -> Any:
        """What a parameter that is JSON text says; None for one that is not set."""
        text = self.parameters.get(parameter)
        return json.loads(text) if text else None

    def refuse(self, why: str, *parameters: str) -> None:
        """Ours knows none of these `parameters`, and they may not be set."""
        for parameter in parameters:
            value = self.parameters.get(parameter)
            if value and value != "null":
                raise _Differs(f"{parameter}: {why}")


class _Differs(Exception):
    """Why ours would make something else, in a sentence."""


def _found(name: str, step: Mapping[str, Any], steps: Steps) -> _Step | None:
    """A step whose component was written for TFX; None for any other, and one that cannot be read."""
    from tfx.dsl.components.base.base_component import BaseComponent

    if "." not in step["uses"]:
        return None
    try:
        kind = resolve(step["uses"])
        if not (isinstance(kind, type) and issubclass(kind, BaseComponent)):
            return None
        parameters = component_of(kind).read_settings(step.get("with", {}))
    except Exception:  # noqa: BLE001 a module of the user's raises what it likes, where the step is checked
        return None
    return _Step(name, kind, parameters, step.get("inputs", {}), steps)


def _dotted(kind: type[Any]) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _twin(step: _Step, known: Mapping[str, _Step]) -> tuple[str, dict[str, Any], dict[str, str | None]]:
    """The component of ours that makes the same, its settings and its wires. Raises _Differs."""
    found = next((_TWINS[name] for name in map(_dotted, step.kind.__mro__) if name in _TWINS), None)
    if found is None:
        raise _Differs(f"--fast swaps nothing for {step.kind.__name__}")
    if _dotted(step.kind) not in _TWINS:
        raise _Differs(f"{_dotted(step.kind)} is derived from it and may do something else")
    uses, translate = found
    settings, inputs = translate(step, known)
    try:
        resolve(uses)(**settings)
    except ConfigError as error:
        raise _Differs(f"ours would refuse it: {error.problems[0]}") from error
    return uses, settings, inputs


_Translated = tuple[dict[str, Any], dict[str, str | None]]


def _example_gen(step: _Step, known: Mapping[str, _Step]) -> _Translated:
    format_ = _READS.get(step.parameters["executor"])
    if format_ is None:
        raise _Differs(f"ours cannot read what {step.parameters['executor']} reads")
    problem = _other_payload(step)
    if problem:
        raise _Differs(problem)
    step.refuse("ours has none", "custom_config")
    read = _message(step, "input_config", "tfx.proto.example_gen_pb2.Input")
    write = _message(step, "output_config", "tfx.proto.example_gen_pb2.Output")
    if len(read.splits) != 1:
        raise _Differs(f"input_config: has {len(read.splits)} splits of files, and ours divides one set of files")
    pattern = read.splits[0].pattern
    if "**" in pattern:
        raise _Differs(f"input_config: '{pattern}' is any directory to ours and one name to TFX")
    source = os.path.join(step.parameters["input_base"], pattern)  # noqa: PTH118 as TFX joins them
    there = _there(source)
    given = Path(source).parts
    hidden = [file for file in there if any(part.startswith(".") and part not in given for part in file.parts)]
    if hidden:
        raise _Differs(f"input_config: TFX reads {hidden[0]} as well, and ours leaves hidden files out")
    packed = [file for file in there if file.suffix in _PACKED]
    if packed:
        raise _Differs(f"input_config: Beam unpacks {packed[0]} by its name, and ours does not")
    written = write.split_config
    splits = {split.name: split.hash_buckets for split in written.splits} or {read.splits[0].name: 1}
    if tuple(splits) != splits_in_order(splits):
        cut, ours = ", ".join(splits), ", ".join(splits_in_order(splits))
        raise _Differs(f"output_config: TFX cuts the hash ranges in the order {cut}, and ours always {ours}")
    settings: dict[str, Any] = {
        "source": source,
        "format": format_,
        "splits": splits,
    }
    if written.HasField("partition_feature_name"):
        settings["split_by"] = written.partition_feature_name
    spans = _message(step, "range_config", "tfx.proto.range_config_pb2.RangeConfig")
    static, rolling = spans.static_range, spans.rolling_range
    if spans.HasField("static_range"):
        settings["last_span"] = static.start_span_number
        if static.start_span_number != static.end_span_number:
            raise _Differs("range_config: begins and ends with different spans")
    elif spans.HasField("rolling_range") and (rolling.num_spans != 1 or rolling.start_span_number):
        raise _Differs("range_config: is not the newest span alone")
    return settings, {}


def _there(source: str) -> list[Path]:
    """The files that a source of TFX's names now, hidden ones too, in any span of it."""
    try:
        return expand(re.sub(r"\{[A-Z]+(:\d+)?\}", "*", source), hidden=True)
    except DataError:  # nothing is there yet, or not here
        return []


def _statistics_gen(step: _Step, known: Mapping[str, _Step]) -> _Translated:
    _check_payload(step, known)
    _check_schema(step)
    if step.parameters.get("stats_options_json"):
        import tensorflow_data_validation as tfdv

        if step.json("stats_options_json") != json.loads(tfdv.StatsOptions().to_json()):
            raise _Differs("stats_options: ours counts with TFDV's default options")
    step.refuse("ours writes one file for each split", "sharded_stats_output")
    if step.json("sample_rate_by_split"):
        raise _Differs("sample_rate_by_split: ours takes other rows for a sample than TFDV")
    skipped = tuple(step.json("exclude_splits") or ())
    unknown = [split for split in skipped if split not in (_splits_taken(step, known) or ())]
    if unknown:
        raise _Differs(
            f"exclude_splits: ours refuses a split that is not there, and of {unknown[0]} that is not known before it is made"
        )
    settings = {"skip_splits": skipped}
    return settings, step.wires({"examples": "examples", "schema": "schema"})


def _transform(step: _Step, known: Mapping[str, _Step]) -> _Translated:
    _check_payload(step, known)
    _check_schema(step)
    step.refuse("ours makes the statistics that TFX makes without one", "stats_options_updater_fn")
    step.refuse("ours takes the file itself", "module_path")
    step.refuse("ours traces with TensorFlow 2 alone", "force_tf_compat_v1")
    file = step.parameters.get("module_file")
    if file and Path(file).is_file():
        source = Path(file).read_text(encoding="utf-8")
        if "stats_options_updater_fn" in source or re.search(r"import\s+\*", source):
            raise _Differs(f"{file} has, or may have, a stats_options_updater_fn, and ours knows none")
    given = step.json("custom_config")
    if "__class__" in json.dumps(given):
        raise _Differs("custom_config: has values that are no plain data")
    splits = _message(step, "splits_config", "tfx.proto.transform_pb2.SplitsConfig")
    if step.parameters.get("splits_config") and len(splits.analyze) != 1:
        raise _Differs(f"splits_config: analyzes {len(splits.analyze)} splits, and ours one")
    if step.parameters.get("splits_config") and set(splits.transform) != _splits_taken(step, known):
        raise _Differs(
            "splits_config: transforms other splits than all there are, as far as is known before they are made"
        )
    statistics = not step.parameters.get("disable_statistics")
    materialize = "transformed_examples" not in step.parameters["left_out"]
    if statistics and not materialize:
        raise _Differs(
            "materialize: TFX transforms for the statistics alone, ours then makes none. Set disable_statistics"
        )
    settings = {
        "preprocessing_fn": file or step.parameters.get("preprocessing_fn"),
        "analyze_split": splits.analyze[0] if splits.analyze else "train",
        "custom_config": given or {},
        "statistics": statistics,
        "materialize": materialize,
    }
    return settings, step.wires({name: name for name in ("examples", "schema", "analyzer_cache")})


def _evaluator(step: _Step, known: Mapping[str, _Step]) -> _Translated:
    _check_payload(step, known)
    config = _message(step, "eval_config", "tensorflow_model_analysis.proto.config_pb2.EvalConfig")
    if not config.metrics_specs:
        raise _Differs("eval_config: has no metrics_specs, and ours needs some")
    step.refuse("ours has no functions of the user's", "module_file", "module_path")
    step.refuse("ours has none", "add_split_name")
    splits = step.json("example_splits") or ["eval"]
    if len(splits) != 1:
        raise _Differs(f"example_splits: {', '.join(splits)} are several, and ours judges by one")
    if step.inputs.get("schema") is not None:
        raise _Differs("'schema' is wired, and ours reads the examples without one")
    step.needs("model")
    if not config.model_specs or not all(spec.signature_name for spec in config.model_specs):
        raise _Differs(
            "eval_config: without a signature_name TFMA may call a Keras model itself, ours asks a signature"
        )
    written = str(config)  # protobuf's text form
    if "change_threshold {" in written and "value_threshold {" not in written:
        raise _Differs("eval_config: with bounds on change alone TFX blesses no first model, and ours does")
    settings = {
        "eval_config": step.json("eval_config"),
        "split": splits[0],
        "compare": _compares(step),
        "keras_metrics": True,
    }
    ports = {name: name for name in ("examples", "model")}
    return settings, {ours: wire for port, ours in ports.items() if (wire := step.inputs.get(port)) is not None}


def _compares(step: _Step) -> bool:
    """Whether the model is compared with the one that serves."""
    baseline = step.inputs.get("baseline_model")
    if baseline is None:
        return False
    resolver = step.steps.get(baseline.partition(".")[0], {})
    candidate = resolver.get("inputs", {}).get("candidate")
    if resolver.get("uses") != LATEST_BLESSED_MODEL or candidate != step.inputs.get("model"):
        raise _Differs(f"'baseline_model' is {baseline}, and ours compares with what serves")
    return True


def _pusher(step: _Step, known: Mapping[str, _Step]) -> _Translated:
    if step.parameters["executor"] != "tfx.components.pusher.executor.Executor":
        raise _Differs(f"{step.parameters['executor']} is an executor of its own")
    step.refuse("ours has none", "custom_config")
    step.needs("model")
    filesystem = _message(step, "push_destination", "tfx.proto.pusher_pb2.PushDestination").filesystem
    if not filesystem.base_directory:
        raise _Differs("push_destination: names no directory")
    if filesystem.versioning not in _BY_TIME:
        raise _Differs("push_destination: versioning is not by the time of the push")
    reading = [other for other in _consumers(step.name, step.steps) if other in known]
    if reading:
        raise _Differs(f"'{reading[0]}' takes its pushed_model, in which TFX keeps a copy of the model")
    settings = {
        "destination": filesystem.base_directory,
        "require_blessing": step.inputs.get("model_blessing") is not None,
        "keep": None,  # TFX removes no version, and adds nothing to the model's files
        "warmup_requests": 0,
    }
    ports = {"model": "model", "model_blessing": "blessing", "infra_blessing": "infra_blessing"}
    wires = step.wires(ports, "evaluation", "examples", "statistics")
    return settings, wires


_TWINS: Mapping[str, tuple[str, Callable[[_Step, Mapping[str, _Step]], _Translated]]] = {
    "tfx.components.example_gen.csv_example_gen.component.CsvExampleGen": (
        _EXAMPLE_GEN,
        _example_gen,
    ),
    "tfx.components.example_gen.import_example_gen.component.ImportExampleGen": (
        _EXAMPLE_GEN,
        _example_gen,
    ),
    "tfx.components.example_gen.component.FileBasedExampleGen": (
        _EXAMPLE_GEN,
        _example_gen,
    ),
    "tfx.components.statistics_gen.component.StatisticsGen": (
        "components.data.statistics_gen.StatisticsGen",
        _statistics_gen,
    ),
    "tfx.components.transform.component.Transform": ("components.features.transform.Transform", _transform),
    "tfx.components.evaluator.component.Evaluator": (_EVALUATOR, _evaluator),
    "tfx.components.pusher.component.Pusher": (_PUSHER, _pusher),
}


def _message(step: _Step, parameter: str, kind: str) -> Any:
    """A parameter that is a message of the class at `kind`, empty where it is not set."""
    from google.protobuf import json_format

    return json_format.Parse(step.parameters.get(parameter) or "{}", resolve(kind)())


def _consumers(name: str, steps: Steps) -> list[str]:
    """The steps that take something that `name` makes, or ask it whether they run."""
    return [
        other
        for other, step in steps.items()
        for wire in (*step.get("inputs", {}).values(), *(wire for one in step.get("when", ()) for wire in one["reads"]))
        if wire is not None and wire.partition(".")[0] == name
    ]


def _splits_taken(step: _Step, known: Mapping[str, _Step]) -> set[str] | None:
    """The names of the splits of the examples that a step takes; None where that is known only when they are made."""
    name = (step.inputs.get("examples") or "").partition(".")[0]
    made_by = step.steps.get(name, {})
    if made_by.get("uses") in ("ExampleGen", _EXAMPLE_GEN):
        try:
            return set(resolve(_EXAMPLE_GEN)(**made_by.get("with", {})).splits)
        except (ConfigError, TypeError):  # whoever checks the step says what is wrong with it
            return None
    producer = known.get(name)
    if producer is None or "output_config" not in producer.kind.SPEC_CLASS.PARAMETERS:
        return None
    written = _message(producer, "output_config", "tfx.proto.example_gen_pb2.Output").split_config.splits
    read = _message(producer, "input_config", "tfx.proto.example_gen_pb2.Input").splits
    return {split.name for split in (written or read)}


def _check_schema(step: _Step) -> None:
    """Raise _Differs for a schema that is imported under a name where ours does not look."""
    producer = step.steps.get((step.inputs.get("schema") or "").partition(".")[0], {})
    if producer.get("uses", "").endswith("standard_artifacts.Schema"):
        source = Path(producer.get("with", {}).get("source_uri", ""))
        if source.name != _SCHEMA and not (source / _SCHEMA).is_file():
            raise _Differs(f"'schema' is imported from {source}, and ours looks for {_SCHEMA} there")


def _check_payload(step: _Step, known: Mapping[str, _Step]) -> None:
    """Raise _Differs unless the examples are surely tf.Examples in gzipped TFRecord files, which is what ours reads."""
    from tfx.types.standard_artifacts import Examples

    wire = step.inputs.get("examples")
    made_by = [wire.partition(".")[0]] if wire else list(step.steps)
    for name in made_by:
        producer = known.get(name)
        uses = step.steps.get(name, {}).get("uses", "")
        if producer is not None and any(one.type is Examples for one in producer.kind.SPEC_CLASS.OUTPUTS.values()):
            problem = _other_payload(producer)
            if problem:
                raise _Differs(f"'{name}' makes its examples: {problem}")
        elif wire and "." in uses and not uses.startswith("components."):
            raise _Differs(f"'{name}' makes its examples, in a format that is known only when it has run")


def _other_payload(producer: _Step) -> str | None:
    """Why the examples that a step makes are none that ours reads."""
    declared = producer.kind.SPEC_CLASS.PARAMETERS
    if producer.kind.__module__.startswith("tfx.components.transform."):
        return None
    if "output_data_format" not in declared:
        return "they may be of any format"
    if producer.parameters.get("output_data_format") not in (None, _TF_EXAMPLE):
        return "output_data_format: ours knows tf.Examples alone"
    if producer.parameters.get("output_file_format") not in (None, 0, _TFRECORD_GZIP):
        return "output_file_format: ours knows gzipped TFRecord files alone"
    return None
