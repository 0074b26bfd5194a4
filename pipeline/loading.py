"""What a user names (a YAML file, or module:object) -> Definition: a wired graph and where it runs."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.config import Source, check_shape, override_section, read_config
from pipeline.contract import Contract, build_component, read_contract, settings_of
from pipeline.definition import Definition, Pipeline
from pipeline.graph import Condition, Declared, Graph, Step, Wire, build_graph, check_wires
from pipeline.lint import lint
from pipeline.quiet_imports import quiet_imports
from pipeline.raised import raised
from pipeline.release import gate_settings
from schemas.component import BeamOptions, JsonScalar
from schemas.config import ConditionConfig, KubeflowConfig, PipelineConfig, StepConfig, TfxConfig
from schemas.dotted_path import dotted_path_of, make_importable, resolve
from schemas.errors import ConfigError, did_you_mean
from schemas.memory import parse_memory

COMPONENTS: Mapping[str, str] = {
    "ExampleGen": "components.data.example_gen.ExampleGen",
    "StatisticsGen": "components.data.statistics_gen.StatisticsGen",
    "SchemaGen": "components.data.schema_gen.SchemaGen",
    "ImportSchema": "components.data.schema_gen.ImportSchema",
    "ExampleValidator": "components.data.example_validator.ExampleValidator",
    "Transform": "components.features.transform.Transform",
    "Tuner": "components.model.tuner.Tuner",
    "ImportHyperparameters": "components.model.import_hyperparameters.ImportHyperparameters",
    "Trainer": "components.model.trainer.Trainer",
    "Optimizer": "components.model.optimizer.Optimizer",
    "Evaluator": "components.model.evaluator.Evaluator",
    "Exporter": "components.model.exporter.Exporter",
    "InfraValidator": "components.release.infra_validator.InfraValidator",
    "Pusher": "components.release.pusher.Pusher",
}
"""The short names `uses` knows. Anything else is a dotted path."""


def load(target: str, overrides: Iterable[str] = (), root: str | None = None) -> Definition:
    """The definition that `target` names: a YAML file, or `module:object` with a Pipeline or a callable that makes one.

    `overrides` are `a.b=value`; for `module:object` only `parameters.x=value`, passed to the callable as x, what begins with
    `kubeflow.`, the section that it may lack, and `tfx.fast=true` for a TFX pipeline. `root` replaces the definition's own. Raises
    ConfigError with every problem found.
    """
    make_importable(Path.cwd())
    importlib.invalidate_caches()  # in a notebook, modules may have been written since
    if ":" in target and not target.endswith((".yaml", ".yml")):
        definition = _load_object(target, list(overrides))
    else:
        config, source = read_config(Path(target), overrides)
        config, notes, names = _with_tfx(config, source)
        config, fast = _with_twins(config, source.at) if config.tfx and config.tfx.fast else (config, {})
        definition = replace(definition_of(config, source), notes=notes, fast=fast, names=names)
    definition = replace(definition, target=target)
    return replace(definition, root=Path(root)) if root else definition


def definition_of(config: PipelineConfig, source: Source) -> Definition:
    """Components found, settings checked, wires filled. Raises ConfigError with every problem."""
    problems: list[str] = []
    declared: list[Declared] = []
    sound: list[Declared] = []  # those without a wrong setting
    places: dict[str, str] = {}
    gates, wrong_gates = gate_settings(config, COMPONENTS)
    problems.extend(f"{source.at(('release', gate))}: {problem}" for gate, problem in wrong_gates.items())
    for step_id, step in config.steps.items():
        places[step_id] = source.at(("steps", step_id))
        places.update({f"{step_id}.{port}": source.at(("steps", step_id, "inputs", port)) for port in step.inputs})
        places[f"{step_id}.when"] = source.at(("steps", step_id, "when"))
        try:
            step_declared, wrong = _declare(step_id, step, gates.get(step_id, {}), source)
        except ConfigError as error:
            problems.extend(error.problems)
        else:
            problems.extend(wrong)
            declared.append(step_declared)
            if not wrong:
                sound.append(step_declared)
    graph: Graph | None = None
    unknown = set(config.steps) - {step.id for step in declared}
    if unknown:
        problems.extend(check_wires(declared, unknown, places))
    else:
        try:
            graph = build_graph(config.name, config.seed, declared, places)
        except ConfigError as error:
            problems.extend(error.problems)
    if problems or graph is None:
        unwired = tuple(
            Step(d.id, d.component, d.settings, {}, {port: kind.TYPE_NAME for port, kind in d.contract.outputs.items()})
            for d in sound
        )
        found = lint(Graph(config.name, config.seed, unwired), source)
        raise ConfigError(*problems, *(str(finding) for finding in found if finding.level == "error"))
    return Definition(
        graph=graph,
        source=source,
        root=Path(config.root),
        ledger=config.ledger,
        parallel=config.parallel,
        beam=BeamOptions(config.beam.runner, tuple(config.beam.args)),
        parameters=dict(config.parameters),
        notify=config.notify,
        kubeflow=config.kubeflow,
        tfx=config.tfx,
    )


def _declare(
    step_id: str, step: StepConfig, gates: Mapping[str, tuple[str, Any]], source: Source
) -> tuple[Declared, list[str]]:
    """The step and what is wrong with its settings, which are left out then. Raises ConfigError without a component.

    `gates` are the settings that the `release:` section has for it, with the names they have there.
    """
    at = ("steps", step_id)
    component, contract = find_component(step.uses, source.at((*at, "uses")))
    settings: dict[str, Any] = {}
    wrong = []
    try:
        asked = {setting: value for setting, (_, value) in gates.items()}
        settings = settings_of(build_component(component, {**step.with_, **asked}))
    except ConfigError as error:
        # Each problem begins with the setting's name: put the place it was written before it.
        for problem in error.problems:
            name, colon, rest = problem.partition(":")
            parts = name.split(".") if colon and name.replace(".", "").isidentifier() else []
            path = (*at, "with", *parts)
            if parts and parts[0] in gates:
                path = ("release", gates[parts[0]][0], *parts[1:])
            wrong.append(f"{source.at(path)}: {rest.strip() if parts else problem}")
    memory = None
    try:
        memory = parse_memory(step.resources.memory) if step.resources.memory is not None else None
    except ConfigError as error:
        wrong.append(f"{source.at((*at, 'resources', 'memory'))}: {error}")
    when = []
    for number, condition in enumerate(step.when):
        try:
            when.append(_condition(condition, source.at((*at, "when", number))))
        except ConfigError as error:
            wrong += error.problems
    declared = Declared(
        id=step_id,
        component=dotted_path_of(component),
        settings=settings,
        contract=contract,
        inputs={port: Wire(*wire.split(".")) for port, wire in step.inputs.items() if wire is not None},
        unwired=tuple(port for port, wire in step.inputs.items() if wire is None),
        cache=step.cache,
        beam=BeamOptions(step.beam.runner, tuple(step.beam.args)) if step.beam else None,
        memory=memory,
        when=tuple(when),
    )
    return declared, wrong


def _condition(asked: ConditionConfig, place: str) -> Condition:
    """A condition whose settings are checked. Raises ConfigError, each problem with its place."""
    try:
        with quiet_imports():
            kind: type[Any] = resolve(asked.uses)
        is_one = dataclasses.is_dataclass(kind) and callable(getattr(kind, "check", None))
        if not is_one:
            raise ConfigError(f"{asked.uses} is no condition: expected a dataclass with a method named check")
        settings = settings_of(build_component(kind, asked.with_))
    except ConfigError as error:
        raise ConfigError(*(f"{place}: {problem}" for problem in error.problems)) from error
    except (Exception, SystemExit) as error:
        raise ConfigError(f"{raised(error)}, when '{asked.uses}' was imported ({place})") from error
    reads = tuple(Wire(*wire.split(".")) for wire in asked.reads)
    return Condition(dotted_path_of(kind), settings, reads)


def find_component(uses: str, place: str) -> tuple[type[Any], Contract]:
    """The component class behind a short name or a dotted path, and its contract."""
    dotted = COMPONENTS.get(uses, uses)
    if "." not in dotted and ":" not in dotted:
        raise ConfigError(
            f"{place}: there is no component '{uses}'."
            + (did_you_mean(uses, COMPONENTS) or f" Short names: {', '.join(COMPONENTS)}; or give a dotted path")
        )
    try:
        with quiet_imports():
            contract = read_contract(resolve(dotted))
        return contract.component, contract
    except ConfigError as error:
        raise ConfigError(*(f"{place}: {problem}" for problem in error.problems)) from error
    except (Exception, SystemExit) as error:
        raise ConfigError(f"{raised(error)}, when '{dotted}' was imported ({place})") from error


_TFX_PIPELINE = "tfx.orchestration.pipeline.Pipeline"
_AS_DEFINITION = "components.io.tfx_pipelines.as_definition"
_SWAPPED = "components.io.tfx_fast.swapped"
_FAST = "tfx.fast"


def _load_object(target: str, overrides: list[str]) -> Definition:
    given: dict[str, Any] = {}
    fast = False
    of_kubeflow: list[str] = []
    for override in overrides:
        path, _, value = override.partition("=")
        if path == _FAST:
            fast = _yaml_value(value) is True
            continue
        scope, _, name = path.partition(".")
        if scope == "kubeflow" and name:
            of_kubeflow.append(override)
            continue
        if scope != "parameters" or not name:
            raise ConfigError(
                f"--set {override}: {target} is Python; it takes only parameters.NAME=value, and kubeflow.NAME=value"
            )
        given[name] = _yaml_value(value)
    found, parameters, left = _made(target, given, "Give it with --set parameters.NAME=value")
    if _is_tfx_pipeline(found):
        made = _from_tfx(found, target, parameters, left, fast)
        definition = replace(made, tfx=TfxConfig(pipeline=target, arguments=given, fast=fast))
    elif fast:
        raise ConfigError(f"--fast: {target} is no pipeline of TFX's. Leave it out: ours are the fast ones")
    elif left:
        raise ConfigError(
            f"--set parameters.{next(iter(left))}: {target} is a Pipeline, not a function with parameters"
        )
    elif isinstance(found, Pipeline):
        definition = replace(found.definition(), parameters=parameters)
    else:
        raise ConfigError(
            f"{target} is {type(found).__name__}; expected a pipeline.definition.Pipeline, a tfx.v1.dsl.Pipeline or a "
            f"function that returns one of them"
        )
    if of_kubeflow:
        section = override_section(KubeflowConfig, "kubeflow", definition.kubeflow, of_kubeflow)
        definition = replace(definition, kubeflow=section)
    return definition


def _made(target: str, given: dict[str, Any], advice: str) -> tuple[Any, dict[str, Any], dict[str, Any]]:
    """(the object at `target`, or what the function there makes, its scalar arguments, those of `given` that it does not take).

    What it does not take may be values of a TFX pipeline's RuntimeParameters. Raises ConfigError, with `advice` where an argument
    is missing.
    """
    try:
        with quiet_imports():
            found = resolve(target)
    except ConfigError:
        raise
    except (Exception, SystemExit) as error:
        raise ConfigError(f"{raised(error)}, when '{target}' was imported") from error
    if not callable(found) or isinstance(found, Pipeline):
        return found, {}, given
    signature = inspect.signature(found)
    arguments = {name: value for name, value in given.items() if _takes(signature, name)}
    left = {name: value for name, value in given.items() if name not in arguments}
    try:
        bound = signature.bind(**arguments)
    except TypeError as error:
        raise ConfigError(f"{target}: {error}. {advice}") from error
    bound.apply_defaults()
    parameters = {name: value for name, value in bound.arguments.items() if isinstance(value, JsonScalar)}
    known = ", ".join(signature.parameters) or "none"
    unexpected = [
        f"{target}: got an unexpected keyword argument '{name}'."
        + (did_you_mean(name, signature.parameters) or f" It takes: {known}")
        for name in left
    ]
    try:
        found = found(**arguments)
    except ConfigError:
        raise
    except (Exception, SystemExit) as error:
        raise ConfigError(*unexpected, f"{raised(error)}, when '{target}' was called") from error
    if left and not _is_tfx_pipeline(found):
        raise ConfigError(*unexpected)
    return found, parameters, left


def _takes(signature: inspect.Signature, name: str) -> bool:
    any_name = any(one.kind is inspect.Parameter.VAR_KEYWORD for one in signature.parameters.values())
    return any_name or name in signature.parameters


def _is_tfx_pipeline(found: Any) -> bool:
    return any(dotted_path_of(base) == _TFX_PIPELINE for base in type(found).__mro__)


def _from_tfx(
    found: Any, target: str, parameters: Mapping[str, Any], runtime: Mapping[str, Any], fast: bool
) -> Definition:
    """The definition of a TFX pipeline. `runtime` are values for its RuntimeParameters."""
    config, notes, names = _tfx_config(found, target, runtime)
    source = Source(target)
    config, swapped = _with_twins(config, source.at) if fast else (config, {})
    definition = definition_of(config, source)
    return replace(
        definition,
        source=None,
        parameters={**parameters, **runtime},
        notes=notes,
        fast=swapped,
        names=names,
    )


def _with_twins(
    config: PipelineConfig, place: Callable[[tuple[str | int, ...]], str]
) -> tuple[PipelineConfig, dict[str, str]]:
    """(`config` with ours in the place of TFX's components where ours make the same, of each of TFX's steps what became of it)."""
    steps, fast = resolve(_SWAPPED)({name: step.model_dump(by_alias=True) for name, step in config.steps.items()})
    problems: list[str] = []
    raw = {**config.model_dump(by_alias=True), "steps": steps}
    made = check_shape(PipelineConfig, raw, place, problems)
    if made is None:
        raise ConfigError(*problems)
    return made, fast


def _tfx_config(
    found: Any, target: str, runtime: Mapping[str, Any]
) -> tuple[PipelineConfig, tuple[str, ...], dict[str, str]]:
    """(a TFX pipeline as a definition has it, what of it is not followed, in sentences, TFX's names for its steps)."""
    raw, notes, names = resolve(_AS_DEFINITION)(found, runtime)
    problems: list[str] = []
    config = check_shape(PipelineConfig, raw, lambda path: f"{target}: {'.'.join(map(str, path))}", problems)
    if config is None:
        raise ConfigError(*problems)
    return config, notes, names


def _with_tfx(config: PipelineConfig, source: Source) -> tuple[PipelineConfig, tuple[str, ...], Mapping[str, str]]:
    """(`config` with the steps of the TFX pipeline that it names before its own, what of that is not followed, TFX's names).

    Raises ConfigError, each problem with its place, also for a step that is in both.
    """
    asked = config.tfx
    if asked is None or asked.pipeline is None:
        return config, (), {}
    place = source.at(("tfx", "pipeline"))
    try:
        found, _, left = _made(asked.pipeline, dict(asked.arguments), "Give it under tfx.arguments")
        if not _is_tfx_pipeline(found):
            raise ConfigError(
                f"{asked.pipeline} is {type(found).__name__}; expected a tfx.v1.dsl.Pipeline or what makes one"
            )
        theirs, notes, names = _tfx_config(found, asked.pipeline, left)
    except ConfigError as error:
        raise ConfigError(*(f"{place}: {problem}" for problem in error.problems)) from error
    both = [name for name in config.steps if name in theirs.steps]
    if both:
        raise ConfigError(
            *(
                f"{source.at(('steps', name))}: {asked.pipeline} has a step of this name as well. Give this one another"
                for name in both
            )
        )
    del names[""]  # the definition has one of its own
    return config.model_copy(update={"steps": {**theirs.steps, **config.steps}}), notes, names


def _yaml_value(text: str) -> Any:
    from ruamel.yaml import YAML

    return YAML(typ="safe").load(text)
