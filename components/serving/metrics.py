"""What monitoring reads: TensorFlow Serving's names, at its path, in Prometheus' text format."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

PATH = "/monitoring/prometheus/metrics"
_BUCKETS_MICROS = tuple(10 * 1.8**n for n in range(33))  # TensorFlow Serving's, to about 20 minutes


class Metrics:
    """Counts and latencies of one server. To be used from its event loop."""

    def __init__(self) -> None:
        from prometheus_client import CollectorRegistry, Gauge, Histogram, disable_created_metrics

        disable_created_metrics()  # a time of birth beside each series, which TensorFlow Serving does not have
        self._registry = CollectorRegistry()
        requests = Gauge(  # prometheus_client puts _total behind a Counter's name, and dashboards ask for this one
            ":tensorflow:serving:request_count",
            "The total number of requests.",
            ("model_name", "status"),
            registry=self._registry,
        )
        latency = Histogram(
            ":tensorflow:serving:request_latency",
            "Wall time of answered requests, in microseconds.",
            ("model_name", "API", "entrypoint"),
            registry=self._registry,
            buckets=_BUCKETS_MICROS,
        )
        runtime = Histogram(
            ":tensorflow:serving:runtime_latency",
            "Wall time of calls of the model, in microseconds; a call may answer several requests.",
            ("model_name",),
            registry=self._registry,
            buckets=_BUCKETS_MICROS,
        )
        # Looking a child up takes longer than counting with it.
        self._requests = lru_cache(1024)(requests.labels)
        self._latency = lru_cache(1024)(latency.labels)
        self._runtime = lru_cache(1024)(runtime.labels)

    def answered(self, model: str, api: str, entrypoint: str, seconds: float) -> None:
        """A request ended well. `api` is Predict, Classify or Regress, `entrypoint` REST or GRPC."""
        self._requests(model, "OK").inc()
        self._latency(model, api, entrypoint).observe(seconds * 1e6)

    def refused(self, model: str, status: str) -> None:
        """A request ended with an error, `status` the name of its code."""
        self._requests(model, status).inc()

    def called(self, model: str, seconds: float) -> None:
        """A model was called."""
        self._runtime(model).observe(seconds * 1e6)

    def page(self) -> tuple[bytes, str]:
        """The page and its content type."""
        from prometheus_client import exposition

        registry: Any = self._registry
        return exposition.generate_latest(registry), exposition.CONTENT_TYPE_PLAIN_0_0_4
