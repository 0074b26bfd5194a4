"""Kubeflow Pipelines' API as the verbs of `pipeline kubeflow` use it: `kfp.Client`, with errors that can be acted on."""

from pipeline.runners.kubeflow.api.access import Access
from pipeline.runners.kubeflow.api.endpoint import Api, connect
from pipeline.runners.kubeflow.api.errors import AlreadyThere, NotThere, PackageRefused

__all__ = ["Access", "AlreadyThere", "Api", "NotThere", "PackageRefused", "connect"]
