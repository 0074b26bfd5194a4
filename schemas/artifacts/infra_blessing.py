"""InfraBlessing: whether a model server serves a model, as it was trained and fast enough."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from schemas.artifacts.blessing import Verdict

WARMUP_REQUESTS = "assets.extra/tf_serving_warmup_requests"  # inside a SavedModel's directory


@dataclass(frozen=True)
class InfraBlessing(Verdict):
    """
    ```
    INFRA_BLESSED        or
    INFRA_NOT_BLESSED    exactly one of them; its content is a JSON list of reasons against the model
    anyway.json          {"by", "at", "reason"} where somebody had it blessed all the same; absent otherwise
    assets.extra/tf_serving_warmup_requests    what the server replayed when it loaded the model; absent where it had no requests
    ```
    The files are TFX's, which writes them empty, and keeps warm-up requests in a copy of the model, `stamped_model/`. What is
    measured anew each time is not in the files of a blessed model but in the properties: who takes the blessing is reused when
    the verdict is the same.

    Properties: those of a Verdict; `servable`, False for a model that no server could serve, which nobody blesses all the
    same; `server`, who was asked; `warmup_requests`, how many; `asked`, why nothing was asked, where nothing was; `parity`, for
    each signature {"rows", "differ", "largest_difference"}, with the bounds `absolute` and `relative` and what the answers were
    `compared_with`; `latency`, {"p50_ms", "p99_ms", "requests"} and `max_p50_ms`, `max_p99_ms` where there are bounds.
    """

    TYPE_NAME: ClassVar[str] = "InfraBlessing"
    YES: ClassVar[str] = "INFRA_BLESSED"
    NO: ClassVar[str] = "INFRA_NOT_BLESSED"

    @property
    def servable(self) -> bool:
        """Whether a server loaded the model at all. TFX says nothing more than yes or no, and means this."""
        return bool(self.properties.get("servable", self.blessed))

    @property
    def requests(self) -> Path | None:
        """The warm-up requests that the server replayed, ours or TFX's; None where there were none."""
        places = (self.path / WARMUP_REQUESTS, self.path / "stamped_model" / WARMUP_REQUESTS)
        return next((file for file in places if file.is_file()), None)

    @property
    def requests_path(self) -> Path:
        """Where the warm-up requests are or will be written."""
        return self.path / WARMUP_REQUESTS

    def write(self, reasons: tuple[str, ...], *, servable: bool = True) -> None:
        """Bless when there are no reasons against the model. One that is not `servable` is not blessed all the same, either."""
        super().write(reasons)
        self.properties["servable"] = servable

    def bless_anyway(self, by: str, at: str, reason: str) -> None:
        """As for every verdict, but for a model that no server could serve: that stays refused."""
        if self.servable:
            super().bless_anyway(by, at, reason)

    def describe(self) -> str:
        if not self.properties.get("blessed", False):
            return super().describe()
        parity, latency = self.properties.get("parity") or {}, self.properties.get("latency") or {}
        compared = [f"{found['rows']} answers as in process" for found in parity.get("signatures", {}).values()][:1]
        timed = [f"p50 {latency['p50_ms']:.3g} ms, p99 {latency['p99_ms']:.3g} ms"] if latency else []
        return ", ".join((super().describe(), *compared, *timed))
