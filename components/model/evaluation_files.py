"""The files of an Evaluation: written from results as TFMA writes them, and put into one order where TFMA wrote them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from components.io import tfrecord
from components.model.verdict import in_reading_order, key_name, slice_key


def write(
    results: list[tuple[Any, dict[Any, Any]]],
    config: Any,
    locations: dict[str, str],
    output: Path,
    rubber_stamp: bool,
) -> None:
    """Validate `results`, (slice key, {MetricKey: value}), and write them into the files that TFMA's writers make."""
    from google.protobuf import json_format
    from tensorflow_model_analysis import version
    from tensorflow_model_analysis.evaluators import metrics_validator
    from tensorflow_model_analysis.proto import config_pb2
    from tensorflow_model_analysis.writers import metrics_plots_and_validations_writer as writer

    run = config_pb2.EvalRun(
        eval_config=config,
        version=version.VERSION,
        data_location="<user provided PCollection>",
        file_format="<unknown>",
        model_locations=locations,
    )
    (output / "eval_config.json").write_text(json_format.MessageToJson(run) + "\n", encoding="utf-8")
    for name, messages in (
        ("metrics", [writer.convert_slice_metrics_to_proto(result, []) for result in results]),
        ("plots", [writer.convert_slice_plots_to_proto((key, {}), []) for key, _ in results]),
        ("attributions", [writer.convert_slice_attributions_to_proto((key, {})) for key, _ in results]),
    ):
        tfrecord.write(output / f"{name}-00000-of-00001.tfrecord", map(_bytes, messages))
    validations = writer.CombineValidations(config, rubber_stamp)
    verdict = validations.create_accumulator()
    for result in results:
        verdict = validations.add_input(verdict, metrics_validator.validate_metrics(result, config))
    tfrecord.write(output / "validations.tfrecord", [_bytes(validations.extract_output(verdict))])


def settle(directory: Path) -> None:
    """Put what TFMA wrote into one order and one shard per file.

    It writes slices in the order of Python's sets, which for text is another one in every process.
    """
    from tensorflow_model_analysis.proto import metrics_for_slice_pb2, validation_result_pb2

    def settled(message: Any) -> bytes:
        for described, value in message.ListFields():
            if described.label == described.LABEL_REPEATED and described.message_type:  # none of them is a map
                value.sort(key=_bytes)
        return _bytes(message)

    for prefix, kind in (
        ("metrics", metrics_for_slice_pb2.MetricsForSlice),
        ("plots", metrics_for_slice_pb2.PlotsForSlice),
        ("attributions", metrics_for_slice_pb2.AttributionsForSlice),
    ):
        shards = sorted(directory.glob(f"{prefix}-*-of-*.tfrecord"))
        messages = [kind.FromString(record) for shard in shards for record in tfrecord.read(shard)]
        messages.sort(key=_place)
        for shard in shards:
            shard.unlink()
        tfrecord.write(directory / f"{prefix}-00000-of-00001.tfrecord", map(settled, messages))
    file = directory / "validations.tfrecord"
    verdicts = [validation_result_pb2.ValidationResult.FromString(record) for record in tfrecord.read(file)]
    for verdict in verdicts:
        for of_slice in verdict.metric_validations_per_slice:
            of_slice.failures.sort(key=_bytes)
        verdict.validation_details.slicing_details.sort(key=_bytes)
    tfrecord.write(file, map(settled, verdicts))


def _place(message: Any) -> tuple[Any, ...]:
    key = slice_key(message)
    order = in_reading_order((key != (), key_name(key), ""))
    return order, _bytes(message.slice_key), _bytes(message.cross_slice_key)


def _bytes(message: Any) -> bytes:
    serialized: bytes = message.SerializeToString(deterministic=True)
    return serialized
