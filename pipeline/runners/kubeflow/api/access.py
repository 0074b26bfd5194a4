"""Where Kubeflow Pipelines is, and as whom to ask it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from schemas.config import KubeflowConfig


@dataclass(frozen=True)
class Access:
    """Where Kubeflow Pipelines is, and as whom. What is None is left to kfp.Client: its environment, the cluster, kubeconfig."""

    endpoint: str | None = None
    namespace: str | None = None
    token: str | None = None
    token_file: str | None = None  # read again for every request, since the kubelet renews it
    certificates: str | None = None  # file of the authorities to trust

    @classmethod
    def found(
        cls,
        endpoint: str | None = None,
        namespace: str | None = None,
        *,
        section: KubeflowConfig | None = None,
        environ: Mapping[str, str] = os.environ,
    ) -> Access:
        """What was given on the command line, else in the environment, else in the definition's `kubeflow` section."""
        return cls(
            endpoint=endpoint or environ.get("KFP_ENDPOINT") or (section.endpoint if section else None),
            namespace=namespace or environ.get("KFP_NAMESPACE") or (section.namespace if section else None),
            token=environ.get("KFP_TOKEN") or environ.get("KFP_EXISTING_TOKEN") or None,
            token_file=environ.get("KF_PIPELINES_SA_TOKEN_PATH") or None,
            certificates=environ.get("KFP_SSL_CA_CERT") or None,
        )
