"""TFX's Pusher with a destination of ours: what its executor pushes appears by one rename, with a passport, or not at all."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from components.io import tfx_executor
from components.io.tfx_artifacts import CUSTOM
from components.io.tfx_components import TfxComponent, Work
from components.release.pusher import Pusher
from schemas.artifacts import Blessing, Evaluation, InfraBlessing, Model, PushedModel, Verdict
from schemas.component import Lineage, Scratch
from schemas.errors import ArtifactError, ConfigError, NotBlessed
from schemas.location import Location
from schemas.passport import Passport

_TFX_S_OWN = "tfx.components.pusher.executor.Executor"
_NO_REASON = "whoever judged it left no reason"
_PORTS = {"model_blessing": "blessing"}  # TFX's name of an input: our Pusher's


class TfxPusher(TfxComponent):
    """What TFX's Pusher is beside its executor: it publishes outside the store, and a refusal ends the run.

    The executor pushes into the step's scratch directory. From there our own Pusher publishes the version: whole or not at all,
    numbered past every version there was, with a passport, without which no later run knew what serves. Nothing is removed.
    An executor of the user's with no directory to push to has a destination of its own, and runs as it is: what it pushes is
    nobody's baseline, and has no passport.
    """

    RUN_BY = ("components.release.tfx_pusher.TfxPusher", *TfxComponent.RUN_BY)

    def _execute(self, work: Work) -> None:
        """Push, unless a blessing says no. Raises NotBlessed, and what our Pusher raises."""
        pushed_model = work.outputs["pushed_model"]
        if not isinstance(pushed_model, PushedModel):
            raise TypeError(f"TFX's Pusher makes a PushedModel, found {type(pushed_model).__name__}")
        wired = [
            one
            for one in (work.inputs.get("model_blessing"), work.inputs.get("infra_blessing"))
            if isinstance(one, Verdict)
        ]
        if self.destination is None:
            super()._execute(work)
            _require_pushed(pushed_model, wired)
            return
        directory = work.scratch.path / "pushed"
        shutil.rmtree(directory, ignore_errors=True)
        destination = json.dumps({"filesystem": {"base_directory": str(directory)}})
        told = {**work.parameters, "push_destination": destination}
        tfx_executor.execute(self.KIND, self.executor, told, work.inputs, work.outputs, work.beam, work.scratch)
        pushed_model.properties.clear()  # where the executor pushed to is nobody's business
        versions = [child for child in directory.iterdir() if child.is_dir()] if directory.is_dir() else []
        if not versions and all(one.blessed for one in wired):
            raise ArtifactError(
                f"{self.executor} wrote no version of the model below the base_directory that it was given in push_destination. Have "
                f"it write base_directory/<version>/, which then appears in {self.destination} whole; or, where it pushes elsewhere, "
                f"leave push_destination out, and it runs as it is"
            )
        candidate = Model(work.scratch.path / "candidate")
        shutil.rmtree(candidate.path, ignore_errors=True)
        candidate.path.mkdir()
        for version in versions[:1]:
            version.rename(candidate.serving)
        blessing, infra_blessing = work.inputs.get("model_blessing"), work.inputs.get("infra_blessing")
        named = {_PORTS.get(port, port): wire for port, wire in work.lineage.inputs.items()}
        self._pusher.run(
            model=candidate,
            blessing=blessing if isinstance(blessing, Blessing) else None,
            evaluation=_evaluation(named, work.lineage, work.scratch),
            infra_blessing=infra_blessing if isinstance(infra_blessing, InfraBlessing) else None,
            lineage=replace(work.lineage, inputs=named),
            scratch=work.scratch,
            pushed_model=pushed_model,
        )

    def served(self) -> tuple[int, Passport | None, Location] | None:
        """What the destination serves now, as of our Pusher. None where the user's executor has one of its own."""
        return None if self.destination is None else self._pusher.served()

    def holds(self, pushed: PushedModel) -> bool:
        """Whether a pushed version is still there, as of our Pusher. Where only the user's executor knows, what was pushed stays."""
        return self.destination is None or self._pusher.holds(pushed)

    @property
    def _pusher(self) -> Pusher:
        return Pusher(destination=str(self.destination), require_blessing=False, keep=None, warmup_requests=0)

    @property
    def destination(self) -> str | None:
        """The directory that versions are pushed to; None where the settings name none, and the user's own executor knows where.

        Raises ConfigError where TFX's executor is to push and they name none.
        """
        written: dict[str, Any] = json.loads(self._parameters().get("push_destination", "{}"))
        filesystem = written.get("filesystem", {})
        directory = filesystem.get("base_directory") or filesystem.get("baseDirectory")
        if directory:
            return str(directory)
        if self.executor == _TFX_S_OWN:
            raise ConfigError(
                "push_destination: names no directory. Give push_destination={filesystem: {base_directory: serving/model}}"
            )
        return None


def _require_pushed(pushed_model: PushedModel, wired: list[Verdict]) -> None:
    """Raise NotBlessed where an executor says that it pushed nothing, as TFX's own does for a model that is not blessed."""
    said = pushed_model.properties.get(CUSTOM, {})
    reasons = [reason for one in wired if not one.blessed for reason in one.reasons or (_NO_REASON,)]
    if said.get("pushed") == 0 and reasons:
        listed = "".join(f"\n  {reason}" for reason in reasons)
        raise NotBlessed(
            f"the model is not blessed and is not pushed:{listed}\nImprove the model, or change the thresholds it misses."
        )


def _evaluation(named: Mapping[str, Mapping[str, Any]], lineage: Lineage, scratch: Scratch) -> Evaluation | None:
    """What is known of the evaluation that the blessing follows from, which TFX's Pusher does not take: its properties, no files."""
    judged = named.get("blessing", {}).get("step", "")
    for output in lineage.steps.get(judged, {}).get("outputs", {}).values():
        if output["type"] == Evaluation.TYPE_NAME:
            return Evaluation(scratch.path / "evaluation", dict(output["properties"]))
    return None
