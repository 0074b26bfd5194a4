"""Gates: which tasks of a package wait for which verdicts."""

from __future__ import annotations

from pipeline.contract import read_contract
from pipeline.graph import Graph
from schemas.dotted_path import resolve


def gated(graph: Graph) -> dict[str, tuple[str, ...]]:
    """The steps that publish and all that come after them, each with the steps whose blessing it waits for.

    What a step's own conditions say of a blessing, which may be that there is none, is asked when its task is there.
    """
    contracts = {step.id: read_contract(resolve(step.component)) for step in graph.steps}
    found: dict[str, tuple[str, ...]] = {}
    for step in graph.steps:
        before = graph.ancestors(step.id)
        wanted = {verdict for other in before for verdict in found.get(other, ())}
        publishes = contracts[step.id].publishes
        if publishes:
            asked = {wire.step for wire in step.asked}
            wanted |= {other for other in before - asked if contracts[other].blesses}
        if publishes or any(other in found for other in before):
            found[step.id] = tuple(other.id for other in graph.steps if other.id in wanted)
    return found
