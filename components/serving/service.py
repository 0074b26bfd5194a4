"""What both interfaces ask: a model's version looked up, run, counted, and let go of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from components.serving.metrics import Metrics
from components.serving.registry import Registry
from components.serving.runner import Runner
from components.serving.servable import Servable
from components.serving.status import Code, Unanswered

LARGE = 1 << 18  # bytes: a request or answer above is taken apart in a thread, so that others need not wait for it


@dataclass(frozen=True)
class Target:
    """Which version of a model a request is for: the largest, one by its number, or one by its label."""

    model: str
    version: int | None = None
    label: str | None = None


@dataclass(frozen=True, kw_only=True)
class Service:
    """The models, the threads that run them, and what is counted of it."""

    registry: Registry
    runner: Runner
    metrics: Metrics
    max_request_bytes: int

    @contextmanager
    def using(self, target: Target) -> Iterator[Servable]:
        """The version, open until the end. Raises Unanswered when it is not served."""
        servable = self.registry.acquire(target.model, target.version, target.label)
        try:
            yield servable
        finally:
            servable.release()

    @contextmanager
    def counted(self, target: Target, api: str, entrypoint: str) -> Iterator[None]:
        """Count how a request ends. What nobody serves is counted without a name: clients could make up any number of them."""
        begin = perf_counter()
        try:
            yield
        except Unanswered as error:
            self.metrics.refused(self._known(target.model), error.code.name)
            raise
        except Exception:
            self.metrics.refused(self._known(target.model), Code.INTERNAL.name)
            raise
        self.metrics.answered(target.model, api, entrypoint, perf_counter() - begin)

    def _known(self, model: str) -> str:
        return model if self.registry.available(model) else ""


def metadata(servable: Servable) -> Mapping[str, Any]:
    """The signatures of a version as a SignatureDefMap, in JSON's types."""
    from google.protobuf import json_format

    message = signature_def_map(servable)
    return json_format.MessageToDict(message, preserving_proto_field_name=True, including_default_value_fields=True)


def signature_def_map(servable: Servable) -> Any:
    """The signatures of a version as they are in the SavedModel."""
    from tensorflow_serving.apis import get_model_metadata_pb2

    message = get_model_metadata_pb2.SignatureDefMap()
    for name, definition in servable.signature_defs.items():
        message.signature_def[name].CopyFrom(definition)
    return message
