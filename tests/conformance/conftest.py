"""Makes `kfp_backend`, the rules of Kubeflow Pipelines' backend, importable for the tests beside it, and what forks their processes."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.runners.local import WARM_MODULES

sys.path.append(str(Path(__file__).parent))


@pytest.fixture(scope="module")
def node(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A `kfp_backend.node.Node` with the libraries in memory that steps need, and TFX where the module's name begins with test_tfx."""
    from kfp_backend.node import Node
    from kfp_backend.pods import Image

    of_tfx = ["components.io.tfx_warm"] if "test_tfx" in request.module.__name__ else []
    environment = Image.environment_of(Path(__file__).parents[2])
    node = Node(environment, [*WARM_MODULES, *of_tfx], tmp_path_factory.mktemp("node") / "log.txt")
    yield node
    node.close()
