"""TFX's ExampleValidator with words of ours: what it found in each split is counted and named, as ours does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from components.data.example_validator import reasons_of
from schemas.artifact import Artifact
from schemas.artifacts import Anomalies, FeatureSchema
from schemas.component import BeamOptions, Lineage, Scratch

if TYPE_CHECKING:
    from components.io.tfx_components import TfxComponent as _Adapted
else:
    _Adapted = object


class TfxExampleValidator(_Adapted):
    """What TFX's ExampleValidator is beside its executor: the anomalies in its files are properties too. As in TFX, they end nothing."""

    RUN_BY = (
        "components.data.tfx_example_validator.TfxExampleValidator",
        "components.io.tfx_components.TfxComponent",
        "tfx.dsl.components.base.base_component.BaseComponent",
    )

    def _execute(
        self,
        parameters: Mapping[str, Any],
        inputs: Mapping[str, Artifact],
        outputs: Mapping[str, Artifact],
        beam: BeamOptions,
        scratch: Scratch,
        lineage: Lineage,
    ) -> None:
        """Validate, then read what was found in each split that was looked at."""
        super()._execute(parameters, inputs, outputs, beam, scratch, lineage)
        anomalies, schema = outputs["anomalies"], inputs["schema"]
        if not (isinstance(anomalies, Anomalies) and isinstance(schema, FeatureSchema)):
            raise TypeError(f"TFX's ExampleValidator makes Anomalies of a schema, found {outputs} and {inputs}")
        import tensorflow_data_validation as tfdv
        from tensorflow_metadata.proto.v0 import anomalies_pb2
        from tfx.utils import io_utils

        expected = tfdv.load_schema_text(io_utils.get_only_uri_in_dir(str(schema.path)))  # whatever the file is called
        reasons = {
            split: reasons_of(anomalies_pb2.Anomalies.FromString(anomalies.file(split).read_bytes()), expected)
            for split in anomalies.splits
        }
        anomalies.properties.update(anomalies={split: len(found) for split, found in reasons.items()}, reasons=reasons)
