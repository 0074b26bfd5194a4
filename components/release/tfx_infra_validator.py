"""TFX's InfraValidator with reasons: what its model server said of a model that it could not serve is in the blessing."""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
from collections.abc import Iterator

from components.io.tfx_components import TfxComponent, Work
from components.release.tfx_serving_platform import check_reachable, is_platforms
from schemas.artifacts import InfraBlessing
from schemas.errors import StepFailed

_LONGEST = 500  # characters of one reason; the step's log has it all


class TfxInfraValidator(TfxComponent):
    """What TFX's InfraValidator is beside its executor, which only logs why it refuses a model."""

    RUN_BY = ("components.release.tfx_infra_validator.TfxInfraValidator", *TfxComponent.RUN_BY)

    def _execute(self, work: Work) -> None:
        """Validate, and keep what was raised in each attempt. A model that no server could serve is not blessed all the same, either.

        Raises ConfigError where there is nothing to start a server on, and StepFailed where none was started: TFX's executor would
        say of the model that it is not fit to be served.
        """
        check_reachable(work.parameters["serving_spec"])
        failures = _Failures()
        absl = logging.getLogger("absl")
        absl.addHandler(failures)
        try:
            with _own_handler_of_sigterm():
                super()._execute(work)
        finally:
            absl.removeHandler(failures)
        blessing = work.outputs["blessing"]
        if not isinstance(blessing, InfraBlessing):
            raise TypeError(f"TFX's InfraValidator makes an InfraBlessing, found {type(blessing).__name__}")
        if not blessing.blessed and failures.of_platform:
            raise StepFailed(f"no model server was started, so the model was not judged: {failures.of_platform[-1]}")
        if not blessing.blessed:
            said = list(dict.fromkeys(failures.reasons)) or [
                "the model server did not serve it; the step's log says more"
            ]
            blessing.write(tuple(said), servable=False)


@contextlib.contextmanager
def _own_handler_of_sigterm() -> Iterator[None]:
    """TFX's executor sets a handler that raises, and does not put back the one before where that was the default."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread() and before is not None:
            signal.signal(signal.SIGTERM, before)


class _Failures(logging.Handler):
    """The exceptions that are logged as errors, one sentence for each."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.reasons: list[str] = []
        self.of_platform: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        if error is not None:
            said = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            said = " ".join(said.split())[:_LONGEST]
            if is_platforms(error):
                self.of_platform.append(said)
            else:
                self.reasons.append(f"the model server did not serve it: {said}")
