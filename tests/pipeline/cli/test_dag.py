"""`pipeline dag` shows the steps and what flows between them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.cli.dag import draw, graph_json
from pipeline.loading import load
from schemas.errors import ConfigError


def test_the_text_says_of_every_step_what_it_is_and_takes(project: Path) -> None:
    assert draw("pipeline.yaml").splitlines() == [
        "read   Read",
        "count  Count  <- read.examples",
        "judge  Judge  <- count.statistics",
        "apply  Apply  <- read.examples",
        "fit    Fit    <- apply.transformed_examples as examples",
    ]


def test_mermaid_and_dot_have_every_step_and_wire(project: Path) -> None:
    mermaid, dot = draw("pipeline.yaml", "mermaid"), draw("pipeline.yaml", "dot")

    assert mermaid.splitlines()[0] == "flowchart LR"
    assert "    apply -- transformed_examples --> fit" in mermaid.splitlines()
    assert dot.splitlines()[0] == 'digraph "toy" {'
    assert '  apply -> fit [label="transformed_examples"];' in dot.splitlines()
    assert mermaid.count("-->") == dot.count("->") == 4


def test_json_is_what_the_digest_covers(project: Path) -> None:
    found = json.loads(draw("pipeline.yaml", "json"))

    assert found == graph_json("pipeline.yaml")
    assert found["digest"] == load("pipeline.yaml").graph.digest
    assert [step["id"] for step in found["steps"]] == ["read", "count", "judge", "apply", "fit"]


def test_another_form_is_refused_with_a_suggestion(project: Path) -> None:
    with pytest.raises(ConfigError, match="--as mermade: there is no such form. Did you mean 'mermaid'"):
        draw("pipeline.yaml", "mermade")
