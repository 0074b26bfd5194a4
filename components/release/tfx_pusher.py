"""TFX's Pusher with a destination of ours: what its executor pushes appears by one rename, with a passport, or not at all."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from components.io import tfx_executor
from components.release.pusher import Pusher
from schemas.artifact import Artifact
from schemas.artifacts import Blessing, Evaluation, InfraBlessing, Model, PushedModel
from schemas.component import BeamOptions, Lineage, Scratch
from schemas.errors import ConfigError
from schemas.location import Location
from schemas.passport import Passport

if TYPE_CHECKING:
    from components.io.tfx_components import TfxComponent as _Adapted
else:
    _Adapted = object

_PORTS = {"model_blessing": "blessing"}  # TFX's name of an input: our Pusher's


class TfxPusher(_Adapted):
    """What TFX's Pusher is beside its executor: it publishes outside the store, and a refusal ends the run.

    The executor pushes into the step's scratch directory. From there our own Pusher publishes the version: whole or not at all,
    numbered past every version there was, with a passport, without which no later run knew what serves. Nothing is removed.
    """

    RUN_BY = (
        "components.release.tfx_pusher.TfxPusher",
        "components.io.tfx_components.TfxComponent",
        "tfx.dsl.components.base.base_component.BaseComponent",
    )

    def _execute(
        self,
        inputs: Mapping[str, Artifact],
        outputs: Mapping[str, Artifact],
        beam: BeamOptions,
        scratch: Scratch,
        lineage: Lineage,
    ) -> None:
        """Push, unless a blessing says no. Raises NotBlessed, and what our Pusher raises."""
        pushed_model = outputs["pushed_model"]
        if not isinstance(pushed_model, PushedModel):
            raise TypeError(f"TFX's Pusher makes a PushedModel, found {type(pushed_model).__name__}")
        directory = scratch.path / "pushed"
        shutil.rmtree(directory, ignore_errors=True)
        destination = json.dumps({"filesystem": {"base_directory": str(directory)}})
        parameters = {**self._parameters(), "push_destination": destination}
        tfx_executor.execute(self.KIND, self.executor, parameters, inputs, outputs, beam, scratch)
        pushed_model.properties.clear()  # where the executor pushed to is nobody's business
        versions = [child for child in directory.iterdir() if child.is_dir()] if directory.is_dir() else []
        candidate = Model(scratch.path / "candidate")
        shutil.rmtree(candidate.path, ignore_errors=True)
        candidate.path.mkdir()
        for version in versions[:1]:
            version.rename(candidate.serving)
        blessing, infra_blessing = inputs.get("model_blessing"), inputs.get("infra_blessing")
        named = {_PORTS.get(port, port): wire for port, wire in lineage.inputs.items()}
        self._pusher.run(
            model=candidate,
            blessing=blessing if isinstance(blessing, Blessing) else None,
            evaluation=_evaluation(named, lineage, scratch),
            infra_blessing=infra_blessing if isinstance(infra_blessing, InfraBlessing) else None,
            lineage=replace(lineage, inputs=named),
            scratch=scratch,
            pushed_model=pushed_model,
        )

    def served(self) -> tuple[int, Passport | None, Location] | None:
        """What the destination serves now, as of our Pusher."""
        return self._pusher.served()

    def holds(self, pushed: PushedModel) -> bool:
        """Whether a pushed version is still there, as of our Pusher."""
        return self._pusher.holds(pushed)

    @property
    def _pusher(self) -> Pusher:
        return Pusher(destination=self.destination, require_blessing=False, keep=None, warmup_requests=0)

    @property
    def destination(self) -> str:
        """The directory that versions are pushed to. Raises ConfigError where the settings name none."""
        written: dict[str, Any] = json.loads(self._parameters().get("push_destination", "{}"))
        filesystem = written.get("filesystem", {})
        directory = filesystem.get("base_directory") or filesystem.get("baseDirectory")
        if not directory:
            raise ConfigError(
                "push_destination: names no directory. Give push_destination={filesystem: {base_directory: serving/model}}"
            )
        return str(directory)


def _evaluation(named: Mapping[str, Mapping[str, Any]], lineage: Lineage, scratch: Scratch) -> Evaluation | None:
    """What is known of the evaluation that the blessing follows from, which TFX's Pusher does not take: its properties, no files."""
    judged = named.get("blessing", {}).get("step", "")
    for output in lineage.steps.get(judged, {}).get("outputs", {}).values():
        if output["type"] == Evaluation.TYPE_NAME:
            return Evaluation(scratch.path / "evaluation", dict(output["properties"]))
    return None
