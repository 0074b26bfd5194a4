"""An artifact type of a user's, a component that is a function, and one that is a Beam pipeline."""

from pathlib import Path

import apache_beam as beam
import tensorflow as tf
from tfx import v1 as tfx
from tfx.dsl.component.experimental.annotations import BeamComponentParameter
from tfx.types import artifact, standard_artifacts
from tfx.utils import path_utils

InputArtifact, OutputArtifact = tfx.dsl.components.InputArtifact, tfx.dsl.components.OutputArtifact
Parameter = tfx.dsl.components.Parameter


class Tally(artifact.Artifact):
    """A number in the file `total`."""

    TYPE_NAME = "NumbersTally"
    PROPERTIES = {"factor": artifact.Property(type=artifact.PropertyType.INT)}  # noqa: RUF012 as TFX writes it


def number_of(record: bytes) -> int:
    return tf.train.Example.FromString(record).features.feature["number"].int64_list.value[0]


@tfx.dsl.components.component(use_beam=True)
def AddUp(
    examples: InputArtifact[standard_artifacts.Examples],
    tally: OutputArtifact[Tally],
    factor: Parameter[int] = 1,
    beam_pipeline: BeamComponentParameter[beam.Pipeline] = None,
):
    tally.factor = factor
    with beam_pipeline as numbers:
        (
            numbers
            | beam.io.ReadFromTFRecord(f"{examples.uri}/Split-*/*.gz")
            | beam.Map(number_of)
            | beam.CombineGlobally(sum)
            | beam.Map(lambda total: str(total * factor))
            | beam.io.WriteToText(f"{tally.uri}/total", shard_name_template="")
        )


@tfx.dsl.components.component
def Judge(
    model: InputArtifact[standard_artifacts.Model],
    blessing: OutputArtifact[standard_artifacts.ModelBlessing],
    least: Parameter[float] = 0.0,
):
    serve = tf.saved_model.load(path_utils.serving_model_path(model.uri)).signatures["serving_default"]
    blessed = float(serve(number=tf.constant([1.0]))["scaled"][0]) >= least
    blessing.set_int_custom_property("blessed", int(blessed))
    (Path(blessing.uri) / ("BLESSED" if blessed else "NOT_BLESSED")).touch()
