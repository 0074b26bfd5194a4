"""The general way to evaluate: TFMA's own pipeline, example by example, for every metric and option that it has."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.io import beam as beam_io
from components.io import tf_example, tfrecord
from components.io.workers import Packed
from components.model.judged import Judged
from schemas.component import BeamOptions
from schemas.errors import ConfigError

if TYPE_CHECKING:
    import pyarrow as pa


def evaluate(
    files: list[Path],
    judged: list[Judged],
    config: Any,
    count: beam_io.RowCount,
    beam: BeamOptions,
    output: Path,
    *,
    batch_size: int,
    rubber_stamp: bool,
) -> None:
    """Let TFMA compute, validate and write. Raises ConfigError for what `config` asks and TFMA cannot compute."""
    import tensorflow_model_analysis as tfma
    from apache_beam import Create, FlatMap

    models = [
        tfma.default_eval_shared_model(
            eval_saved_model_path=str(model.path),
            model_name=model.name,
            eval_config=config,
            rubber_stamp=rubber_stamp,
        )
        for model in judged
    ]
    try:
        with beam_io.pipeline(beam, [output, *files, *(model.path for model in judged)]) as pipeline:
            _ = (
                pipeline
                | "Files" >> Create([str(file) for file in files])
                | "ReadBatches" >> FlatMap(Packed(_ReadBatches(batch_size, count)))
                | "Evaluate"
                >> tfma.ExtractEvaluateAndWriteResults(
                    eval_shared_model=models if len(models) > 1 else models[0],
                    eval_config=config,
                    output_path=str(output),
                )
            )
    except (TypeError, ValueError, KeyError, NotImplementedError, RuntimeError) as error:
        if type(error) is RuntimeError and " failed on " not in str(error):  # not of a combiner of TFMA's
            raise
        cause: BaseException = error
        # Beneath what a worker raised is the text of its stacks, which says less.
        while (deeper := cause.__cause__ or cause.__context__) is not None and "Traceback (most recent" not in str(
            deeper
        ):
            cause = deeper
        lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
        raise ConfigError(
            f"metrics: TFMA cannot compute what is asked: {type(cause).__name__}: {lines[0] if lines else ''}"
        ) from error


@dataclass(frozen=True)
class _ReadBatches:
    """A file of serialized tf.Examples -> Arrow batches that carry the records themselves in one more column.

    Always the same batches for the same file, so that sums are added in the same order.
    """

    size: int
    count: beam_io.RowCount

    def __call__(self, file: str) -> Iterator[pa.RecordBatch]:
        import tensorflow_model_analysis as tfma
        from tfx_bsl.tfxio.record_based_tfxio import AppendRawRecordColumn

        for records in tfrecord.read_batches(Path(file), self.size):
            yield AppendRawRecordColumn(tf_example.decode(records), tfma.ARROW_INPUT_COLUMN, records)
            self.count(len(records))
