"""What earlier runs made: the newest artifact of a kind, as steps are given it that look back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.contract import Contract, build_component
from pipeline.graph import Graph, Step
from pipeline.manifest import Manifest
from pipeline.store import Store
from schemas.artifact import ABSENT
from schemas.component import Earlier, LooksBack, Sought
from schemas.errors import StoreError


def find_earlier(
    graph: Graph, step: Step, contract: Contract, store: Store, digest: str, run: str | None
) -> dict[str, Any]:
    """The newest artifact that `step` is to be given, as part of its key: {"of", "step", "key", "output", "digest", "run"}.

    `digest` is of all that a run begun now would be made of, which is kept as "of"; without an artifact that is all there is.
    What `run`, which is under way, has made does not count. Where the newest was made out of what this step gave in a run of the
    same digest, it gives that again, unless a step that takes from it runs each time.
    """
    asked: LooksBack = build_component(contract.component, step.settings)
    executions = [found for found in store.executions() if found.manifest.pipeline == graph.name]
    earlier = [found.manifest for found in executions if run is None or found.manifest.run != run]
    newest = [_newest(sought, earlier) for sought in asked.sought()]
    found = newest[0] if newest and all(newest) else None
    before = next(
        (
            manifest
            for manifest in reversed(earlier)
            if manifest.step == step.id and (manifest.key_parts.get("earlier") or {}).get("of") == digest
        ),
        None,
    )
    made_from_it = before is not None and found is not None and _is_made_from(found, before, earlier)
    if before is not None and made_from_it and not _runs_each_time(graph, step):
        return dict(before.key_parts["earlier"])
    return {"of": digest, **(found or {})}


def open_earlier(store: Store, found: Mapping[str, Any]) -> Earlier:
    """The artifact that `find_earlier` found, every byte of it checked. Raises StoreError where it is gone since."""
    if "key" not in found:
        return Earlier()
    execution = store.find(found["step"], found["key"])
    if execution is None:
        raise StoreError(
            f"{store.directory(found['step'], found['key'])} is gone, the newest there was when this step was planned. Run again"
        )
    store.verify(execution, found["output"])
    properties = execution.manifest.outputs[found["output"]].properties
    return Earlier(execution.output(found["output"]), dict(properties), execution.manifest.run)


def _newest(sought: Sought, oldest_first: Sequence[Manifest]) -> dict[str, Any] | None:
    for manifest in reversed(oldest_first):
        passes_on = any(manifest.component.startswith(prefix) for prefix in sought.besides)
        if passes_on or manifest.refusal is not None or sought.step not in (None, manifest.step):
            continue
        for output, record in manifest.outputs.items():
            fits = record.type == sought.type and sought.output in (None, output)
            if fits and not record.properties.get(ABSENT):
                of_it = {"output": output, "digest": record.digest, "run": manifest.run}
                return {"step": manifest.step, "key": manifest.key, **of_it}
    return None


def _is_made_from(found: Mapping[str, Any], before: Manifest, manifests: Sequence[Manifest]) -> bool:
    """Whether the execution of `before` is among those that the artifact found was made from."""
    by_key = {(manifest.step, manifest.key): manifest for manifest in manifests}
    waiting, seen = [(found["step"], found["key"])], set()
    while waiting:
        one = waiting.pop()
        if one == (before.step, before.key):
            return True
        if one in by_key and one not in seen:
            seen.add(one)
            waiting += [(record.step, record.key) for record in by_key[one].inputs.values()]
    return False


def _runs_each_time(graph: Graph, step: Step) -> bool:
    below = graph.descendants(step.id)
    return any(other.cache is False for other in graph.steps if other.id in below)
