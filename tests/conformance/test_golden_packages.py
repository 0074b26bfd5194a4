"""The example pipelines' packages, by the rules of the oldest backend and of the newest."""

from pathlib import Path

import pytest
from kfp_backend.package import NEWEST, OLDEST, parse_package, problems_of

GOLDEN = Path(__file__).parents[1] / "pipeline" / "runners" / "kubeflow" / "golden"


@pytest.mark.parametrize("backend", [OLDEST, NEWEST], ids=["oldest", "newest"])
@pytest.mark.parametrize("name", ["taxi", "taxi-edge", "housing", "digits"])
def test_an_examples_package_breaks_no_rule_and_leaves_kubeflows_cache_alone(
    name: str, backend: tuple[int, int]
) -> None:
    package = parse_package((GOLDEN / f"{name}.yaml").read_text(encoding="utf-8"))

    assert problems_of(package, backend) == []
    assert package.cached_tasks() == []
