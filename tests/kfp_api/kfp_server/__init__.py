"""A small Kubeflow Pipelines API (v2beta1, and what kfp.Client and logs need of the older ones) over real HTTP.

It answers as the Go API server does (backend/src/apiserver in kubeflow/pipelines): paths, field names, error bodies, unique
names, filters, page tokens that belong to their query, checks of packages and of parameters. A new service is a `Collection`
of `KfpApi` and a file of what answers, with its `ROUTES` at the end.
"""

from kfp_server.api import KfpApi
from kfp_server.cron import fires
from kfp_server.serving import serving

__all__ = ["KfpApi", "fires", "serving"]
