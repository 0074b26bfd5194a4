"""A TFX Pipeline -> the definition that runs it: a step for each node, its parameters, wires, cache and Beam arguments."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence, Set
from pathlib import Path
from typing import Any

from components.io.tfx_components import component_of
from components.io.tfx_conditions import when
from components.io.tfx_nodes import RESULT
from components.io.tfx_resolvers import path_of
from components.io.tfx_settings import runtime_parameters, settings_of_node, stored
from schemas.component import BeamOptions, Publisher
from schemas.errors import ConfigError, did_you_mean

LATEST_BLESSED_MODEL = "components.io.tfx_nodes.LatestBlessedModel"
TO_GO_ON_FROM = "components.io.tfx_nodes.LatestBlessedModelToGoOnFrom"
_CANDIDATE = "candidate"


def as_definition(pipeline: Any, runtime: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[str, ...], dict[str, str]]:
    """(the definition as pipeline.yaml would have it, what of the pipeline is not followed, in sentences, TFX's names).

    The names are what TFX calls each step, its node's id, by what it is called here; and under '' the pipeline's. `runtime` are values for the pipeline's RuntimeParameters. Raises ConfigError with every problem found.
    """
    nodes = _nodes(pipeline)
    problems: list[str] = []
    unknown = [name for name in runtime if name not in _runtime_parameters(nodes)]
    for name in unknown:
        known = _runtime_parameters(nodes)
        problems.append(
            f"{name}: {pipeline.pipeline_name} has no such RuntimeParameter."
            + (did_you_mean(name, known) or f" It has: {', '.join(known) or 'none'}")
        )
    ids, clashes = _step_ids(nodes)
    problems.extend(clashes)
    steps: dict[str, Any] = {}
    for node in nodes:
        try:
            made = _steps(node, nodes, ids, pipeline, runtime)
        except ConfigError as error:
            problems.extend(f"{node.id}: {problem}" for problem in error.problems)
        else:
            problems.extend(
                f"{node.id}: there is another step '{name}'. Give it another id" for name in made if name in steps
            )
            steps |= made
    if problems:
        raise ConfigError(*problems)
    steps = _in_order(steps, {ids[node.id] for node in nodes if _publishes(node)})
    name = re.sub(r"[^a-z0-9]+", "-", pipeline.pipeline_name.lower()).strip("-")
    names = {"": str(pipeline.pipeline_name)} | {step: node for node, step in ids.items()}
    return {"name": name if name[:1].isalpha() else f"tfx-{name}", "steps": steps}, _notes(pipeline), names


def _nodes(pipeline: Any) -> list[Any]:
    """Every node in an order in which each comes after those it takes from, as they were listed where that leaves a choice."""
    from tfx.orchestration.pipeline import Pipeline

    inner = [node.id for node in pipeline.components if isinstance(node, Pipeline)]
    if inner:
        raise ConfigError(
            f"{', '.join(inner)}: a pipeline inside a pipeline is not followed. Put its components into the outer one's list"
        )
    return list(pipeline.components)


def _in_order(steps: Mapping[str, Any], publishing: Set[str]) -> dict[str, Any]:
    """The steps with each after those it takes from: a Resolver now waits for the model that its own is compared with.

    What stands under a Cond comes before a step that publishes whatever they say, if it can: that one's refusal ends the run, and
    what is to be done with a refused model is done before.
    """
    ordered: dict[str, Any] = {}
    waiting = dict(steps)
    while waiting:
        ready = [name for name, step in waiting.items() if not _before(step) & waiting.keys()]
        conditioned = {name for name, step in waiting.items() if "when" in step}
        last = {name for name in (publishing - conditioned) & waiting.keys() if conditioned - _below(name, waiting)}
        first = [name for name in ready if name not in last]
        for name in first[:1] or ready[:1] or list(waiting):  # a cycle is named where the steps are wired
            ordered[name] = waiting.pop(name)
    return ordered


def _before(step: Mapping[str, Any]) -> set[str]:
    """The steps that a step takes from, or whose outputs decide about it."""
    wires = [*step.get("inputs", {}).values(), *(wire for one in step.get("when", ()) for wire in one["reads"])]
    return {wire.partition(".")[0] for wire in wires}


def _below(name: str, steps: Mapping[str, Any]) -> set[str]:
    found = {name}
    while more := {other for other, step in steps.items() if other not in found and _before(step) & found}:
        found |= more
    return found


def _publishes(node: Any) -> bool:
    from tfx.dsl.components.base.base_component import BaseComponent

    return isinstance(node, BaseComponent) and issubclass(component_of(type(node)), Publisher)


def _step_ids(nodes: Sequence[Any]) -> tuple[dict[str, str], list[str]]:
    """The step's id for each node's, and what is wrong where two become one: 'CsvExampleGen' is csv_example_gen."""
    ids: dict[str, str] = {}
    problems = []
    for node in nodes:
        made = step_id(node.id)
        other = next((known for known, taken in ids.items() if taken == made), None)
        if other is not None:
            problems.append(
                f"{node.id}: is '{made}' as a step, and so is {other}. Give one another id: .with_id('...')"
            )
        ids[node.id] = made
    return ids, problems


def step_id(node: str) -> str:
    """The id of a node of TFX's as that of a step: 'CsvExampleGen' is csv_example_gen."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", node)
    made = re.sub(r"[^a-z0-9]+", "_", words.lower()).strip("_")
    return made if made[:1].isalpha() else f"step_{made}"


def _steps(
    node: Any, nodes: Sequence[Any], ids: Mapping[str, str], pipeline: Any, runtime: Mapping[str, Any]
) -> dict[str, Any]:
    """The steps of a node by their ids: one, but for a Resolver of the latest of several artifacts, which is one for each."""
    if not _is_latest(node):
        return {ids[node.id]: _step(node, nodes, ids, pipeline, runtime)}
    conditions = _conditions(node, pipeline, ids)
    latest = _latest(node, ids)
    return {_name_of_latest(node, output, ids): step | conditions for output, step in latest.items()}


def _step(
    node: Any, nodes: Sequence[Any], ids: Mapping[str, str], pipeline: Any, runtime: Mapping[str, Any]
) -> dict[str, Any]:
    from tfx.dsl.components.base.base_component import BaseComponent
    from tfx.dsl.components.common.importer import Importer
    from tfx.dsl.components.common.resolver import Resolver

    conditions = _conditions(node, pipeline, ids)
    if isinstance(node, Resolver):
        return _resolver(node, nodes, ids) | conditions
    if isinstance(node, Importer):
        (channel,) = node.outputs.values()
        return {
            "uses": f"{channel.type.__module__}.{channel.type.__qualname__}",
            "with": {
                "source_uri": stored(node.exec_properties["artifact_uri"], runtime),
                "properties": stored(dict(channel.additional_properties), runtime),
                "custom_properties": stored(dict(channel.additional_custom_properties), runtime),
            },
            **conditions,
        }
    if not isinstance(node, BaseComponent):
        raise ConfigError(
            f"{type(node).__module__}.{type(node).__qualname__} is a node that is neither a component nor an Importer or "
            f"Resolver. Make a component of it: a function with @tfx.dsl.components.component is enough"
        )
    settings = settings_of_node(node, runtime)
    step: dict[str, Any] = {
        "uses": f"{type(node).__module__}.{type(node).__qualname__}",
        "with": settings,
        "inputs": {name: _wire(f"input '{name}'", channel, ids) for name, channel in node.inputs.items()},
        **conditions,
    }
    if not pipeline.enable_cache:
        step["cache"] = False
    arguments = list(getattr(node.executor_spec, "beam_pipeline_args", ()))
    if arguments:
        step["beam"] = _beam(arguments)
    return step


def _wire(what: str, channel: Any, ids: Mapping[str, str]) -> str:
    """'step.output' of the channel that `what` is connected to. Raises ConfigError for one that is no single output."""
    from tfx.dsl.components.common.importer import Importer
    from tfx.types.channel import OutputChannel

    if not isinstance(channel, OutputChannel):
        raise ConfigError(
            f"{what} is a {type(channel).__name__}, which stands for several artifacts or asks ML Metadata. Connect "
            f"it to one output of a component: component.outputs['...']"
        )
    producer = channel.producer_component_id
    if producer not in ids:
        raise ConfigError(f"{what} comes from {producer}, which is not among the pipeline's components. Add it")
    if _is_latest(channel.producer_component):
        return f"{_name_of_latest(channel.producer_component, str(channel.output_key), ids)}.{RESULT}"
    is_import = isinstance(channel.producer_component, Importer)
    return f"{ids[producer]}.{RESULT if is_import else channel.output_key}"


def _resolver(node: Any, nodes: Sequence[Any], ids: Mapping[str, str]) -> dict[str, Any]:
    """The step of a Resolver: the latest blessed model, beside the model that it will be compared with."""
    from tfx.dsl.input_resolution.strategies.latest_blessed_model_strategy import LatestBlessedModelStrategy
    from tfx.types.standard_artifacts import Model, ModelBlessing

    strategy = _strategy(node)
    if strategy is not LatestBlessedModelStrategy:
        raise ConfigError(_not_followed(strategy))
    kinds = {"model": Model, "model_blessing": ModelBlessing}
    odd = [name for name, channel in node.outputs.items() if kinds.get(name) is not channel.type]
    if odd:
        raise ConfigError(
            f"{odd[0]}: the latest blessed model is resolved as model=Channel(type=Model) and "
            f"model_blessing=Channel(type=ModelBlessing). Name them so"
        )
    step: dict[str, Any] = {"uses": TO_GO_ON_FROM}
    for other in nodes:
        takes = [
            channel for channel in other.inputs.values() if getattr(channel, "producer_component_id", None) == node.id
        ]
        beside = other.inputs.get("model") if takes else None
        if beside is not None and beside not in takes and not _takes_from(beside, node.id, nodes):
            step = {"uses": LATEST_BLESSED_MODEL, "inputs": {_CANDIDATE: _wire("input 'model'", beside, ids)}}
    return step


def _not_followed(strategy: Any) -> str:
    """Why a Resolver cannot be followed, and what to do instead."""
    from tfx.dsl.input_resolution.strategies.span_range_strategy import SpanRangeStrategy

    name = strategy.__name__ if isinstance(strategy, type) else "a resolver function"
    if isinstance(strategy, type) and issubclass(strategy, SpanRangeStrategy):
        return (
            f"{name} gives the artifacts of several spans, and an input here is one artifact. Have one step read the spans "
            f"together: ExampleGen, with: {{source: 'data/span-{{SPAN}}/*', window: 3}}"
        )
    return (
        f"{name} asks ML Metadata, and here LatestArtifactStrategy and LatestBlessedModelStrategy are followed, as they are. "
        f"Connect the output itself where this pipeline makes the artifact; import one that another made: tfx.dsl.Importer"
    )


def _is_latest(node: Any) -> bool:
    """Whether a node resolves the newest artifacts that earlier runs made."""
    from tfx.dsl.components.common.resolver import Resolver
    from tfx.dsl.input_resolution.strategies.latest_artifact_strategy import LatestArtifactStrategy

    return isinstance(node, Resolver) and _strategy(node) is LatestArtifactStrategy


def _strategy(node: Any) -> Any:
    """The strategy of a Resolver by its own class, whatever older name it was called by; None for a resolver function."""
    from tfx.dsl.components.common.resolver import RESOLVER_STRATEGY_CLASS
    from tfx.utils.deprecation_utils import get_first_nondeprecated_class

    strategy = node.exec_properties.get(RESOLVER_STRATEGY_CLASS)
    return get_first_nondeprecated_class(strategy) if isinstance(strategy, type) else None


def _name_of_latest(node: Any, output: str, ids: Mapping[str, str]) -> str:
    return ids[node.id] if len(node.outputs) == 1 else f"{ids[node.id]}_{output.lower()}"


def _latest(node: Any, ids: Mapping[str, str]) -> dict[str, Any]:
    """For each output of a Resolver the step that finds the newest artifact, if there is one for every output."""
    from tfx.dsl.components.common.resolver import RESOLVER_CONFIG
    from tfx.types.channel import Channel, OutputChannel

    number = node.exec_properties[RESOLVER_CONFIG].get("desired_num_of_artifacts", 1)
    if number != 1:
        raise ConfigError(
            f"desired_num_of_artifacts is {number}, and an input here is one artifact. Leave it out, or have one step read what "
            f"there is together"
        )
    sought: dict[str, dict[str, str]] = {}
    for output, channel in node.raw_inputs.items():
        if not isinstance(channel, Channel) or isinstance(channel, OutputChannel):
            raise ConfigError(
                f"{output} is a {type(channel).__name__}, an output of this very run or several. Connect that itself where it is "
                f"wanted; to look for what earlier runs made: Channel(type=..., producer_component_id='...')"
            )
        producer = channel.producer_component_id
        sought[output] = {
            "type": channel.type.TYPE_NAME,
            **({"step": ids.get(producer) or step_id(producer)} if producer else {}),
            **({"output": channel.output_key} if channel.output_key else {}),
        }
    return {
        output: {
            "uses": path_of(channel.type),
            "with": {"looks_for": [sought[output], *(one for other, one in sought.items() if other != output)]},
        }
        for output, channel in node.raw_inputs.items()
    }


def _takes_from(channel: Any, producer: str, nodes: Sequence[Any]) -> bool:
    """Whether what a channel brings was made of something of `producer`'s: a candidate that goes on from the served model."""
    by_id = {node.id: node for node in nodes}
    waiting, seen = [getattr(channel, "producer_component_id", None)], set()
    while waiting:
        found = waiting.pop()
        if found == producer:
            return True
        if found in by_id and found not in seen:
            seen.add(found)
            waiting += [getattr(one, "producer_component_id", None) for one in by_id[found].inputs.values()]
    return False


def _conditions(node: Any, pipeline: Any, ids: Mapping[str, str]) -> dict[str, Any]:
    """What decides whether a node under `Cond` runs: every predicate of those around it, the outermost first."""
    from tfx.dsl.experimental.conditionals.conditional import get_predicates

    predicates = get_predicates(node, pipeline.dsl_context_registry)
    asked = [when(predicate, lambda channel: _wire("its Cond", channel, ids)) for predicate in predicates]
    return {"when": asked} if asked else {}


def _beam(arguments: Iterable[Any]) -> dict[str, Any]:
    """Beam arguments with the runner apart, as a step of ours has them."""
    runner = BeamOptions.runner
    rest: list[str] = []
    for argument in arguments:
        if not isinstance(argument, str):
            raise ConfigError(
                f"a Beam argument is {type(argument).__name__}, known only while the pipeline runs. Write it out"
            )
        name, _, value = argument.partition("=")
        if name == "--runner":
            runner = runner if value in ("", "DirectRunner") else value
        else:
            rest.append(argument)
    return {"runner": runner, "args": rest}


def _runtime_parameters(nodes: Iterable[Any]) -> list[str]:
    values = [value for node in nodes for value in node.exec_properties.values()]
    return list(dict.fromkeys(str(found.name) for value in values for found in runtime_parameters(value)))


def _notes(pipeline: Any) -> tuple[str, ...]:
    notes = []
    if pipeline.pipeline_info.pipeline_root:
        notes.append("pipeline_root is not used: artifacts lie under the root of the store, --root or .penstock")
    if pipeline.metadata_connection_config is not None:
        file = getattr(getattr(pipeline.metadata_connection_config, "sqlite", None), "filename_uri", "")
        in_the_image = bool(file) and (not Path(file).is_absolute() or Path(file).is_relative_to(Path.cwd()))
        notes.append(
            "metadata_connection_config is not used: the store's own ledger has the runs, --ledger or PENSTOCK_LEDGER"
            + (
                f". TFX makes the directory of {file} all the same, which it cannot in an image: for Kubeflow, name one below /tmp"
                if in_the_image
                else ""
            )
        )
    if not pipeline.enable_cache:
        notes.append("enable_cache is not set, so that every step runs each time: TFX's default. Set enable_cache=True")
    return tuple(notes)
