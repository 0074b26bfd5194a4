"""TFX's ExampleValidator with words of ours: what it found in each split is counted and named, as ours does."""

from __future__ import annotations

from components.data.example_validator import reasons_of
from components.io.tfx_components import TfxComponent, Work
from schemas.artifacts import Anomalies, FeatureSchema


class TfxExampleValidator(TfxComponent):
    """What TFX's ExampleValidator is beside its executor: the anomalies in its files are properties too. As in TFX, they end nothing."""

    RUN_BY = ("components.data.tfx_example_validator.TfxExampleValidator", *TfxComponent.RUN_BY)

    def _execute(self, work: Work) -> None:
        """Validate, then read what was found in each split. What an executor of the user's wrote otherwise is neither read nor said."""
        super()._execute(work)
        anomalies, schema = work.outputs["anomalies"], work.inputs["schema"]
        if not (isinstance(anomalies, Anomalies) and isinstance(schema, FeatureSchema)):
            raise TypeError(
                f"TFX's ExampleValidator makes Anomalies of a schema, found {work.outputs} and {work.inputs}"
            )
        import tensorflow_data_validation as tfdv
        from google.protobuf.message import DecodeError
        from tensorflow_metadata.proto.v0 import anomalies_pb2
        from tfx.utils import io_utils

        try:
            found = {
                split: anomalies_pb2.Anomalies.FromString(anomalies.file(split).read_bytes())
                for split in anomalies.splits
            }
        except (OSError, DecodeError):
            return
        if not found:
            return
        expected = tfdv.load_schema_text(io_utils.get_only_uri_in_dir(str(schema.path)))  # whatever the file is called
        reasons = {split: reasons_of(one, expected) for split, one in found.items()}
        anomalies.properties.update(anomalies={split: len(one) for split, one in reasons.items()}, reasons=reasons)
