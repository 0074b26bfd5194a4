"""Definition: a wired pipeline and where it runs; Pipeline writes one in Python, where steps are objects and wires attributes.

taxi = Pipeline(name="chicago-taxi", seed=13)
example_gen = taxi.step("example_gen", ExampleGen(source="trips.csv"))
statistics_gen = taxi.step("statistics_gen", StatisticsGen(), examples=example_gen.examples)
schema_gen = taxi.step("schema_gen", tfx.v1.components.SchemaGen, with_={"infer_feature_shape": True})
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.config import Source, check_shape
from pipeline.contract import adapted, build_component, read_contract, settings_of
from pipeline.graph import Declared, Graph, Wire, build_graph
from schemas.component import BeamOptions
from schemas.config import Cache, KubeflowConfig, NotificationConfig, PipelineConfig, TfxConfig
from schemas.dotted_path import dotted_path_of
from schemas.errors import ConfigError, did_you_mean
from schemas.memory import parse_memory


@dataclass(frozen=True)
class Definition:
    """A pipeline that can be planned and run."""

    graph: Graph
    root: Path
    ledger: str | None = None
    parallel: int | None = None
    beam: BeamOptions = field(default_factory=BeamOptions)
    parameters: Mapping[str, Any] = field(default_factory=dict)
    notify: NotificationConfig | None = None
    kubeflow: KubeflowConfig | None = None
    tfx: TfxConfig | None = None  # the TFX pipeline that steps are of, and what it was made with
    target: str = ""  # what the user named, for messages and for commands to repeat
    names: Mapping[str, str] = field(default_factory=dict)  # what that one calls the steps, and '' the pipeline itself
    notes: tuple[str, ...] = ()  # what of another framework's pipeline is not followed, in sentences
    fast: Mapping[str, str] = field(default_factory=dict)  # what --fast made of each step of TFX's, in words
    source: Source | None = None  # where each value was written; None for a pipeline in Python

    @property
    def idle_fast(self) -> tuple[str, ...]:
        """A sentence where --fast is asked for and nothing is TFX's; else none."""
        asked = self.tfx is not None and self.tfx.fast
        return () if self.fast or not asked else ("--fast has nothing to swap: no step is a component of TFX's",)

    def place(self, *path: str | int) -> str:
        """Where a value was written, for messages: 'pipeline.yaml:12: kubeflow.root', or the path alone of one in Python."""
        return self.source.at(path) if self.source else ".".join(map(str, path))


class StepHandle:
    """A declared step; each of its outputs is an attribute to wire into a later step."""

    def __init__(self, id: str, outputs: tuple[str, ...]) -> None:  # noqa: A002 the definition's own word
        self._id = id
        self._outputs = outputs

    def __getattr__(self, output: str) -> Wire:
        if output.startswith("_") or output not in self._outputs:
            raise AttributeError(
                f"step '{self._id}' has no output '{output}'."
                + (did_you_mean(output, self._outputs) or f" Its outputs: {', '.join(self._outputs) or 'none'}")
            )
        return Wire(self._id, output)


class Pipeline:
    """A definition in the making. The arguments are those of pipeline.yaml, with the same defaults and checks."""

    def __init__(
        self,
        *,
        name: str,
        root: str | Path = ".penstock",
        seed: int | None = None,
        ledger: str | None = None,
        parallel: int | None = None,
        beam: BeamOptions | None = None,
        notify: NotificationConfig | Mapping[str, Any] | None = None,
        kubeflow: KubeflowConfig | Mapping[str, Any] | None = None,
    ) -> None:
        self._options = {
            "name": name,
            "root": str(root),
            "seed": seed,
            "ledger": ledger,
            "parallel": parallel,
            "notify": notify,
            "kubeflow": kubeflow,
        }
        self._beam = beam or BeamOptions()
        self._steps: list[Declared] = []
        self._objects: list[tuple[Any, str]] = []  # components of another framework, and the step that each became

    def step(
        self,
        id: str,  # noqa: A002
        component: Any,
        *,
        with_: Mapping[str, Any] | None = None,
        cache: Cache = True,
        beam: BeamOptions | None = None,
        memory: str | int | None = None,
        **inputs: Wire,
    ) -> StepHandle:
        """Add a step. `inputs` are wires by port; those left out are filled as in pipeline.yaml. `memory` is written as there.

        `component` is a component object; or a component class, TFX's and ones that are written for TFX among them, whose settings
        are `with_`, as `with` in pipeline.yaml; or a component object of TFX's, whose channels are wires where they come from
        objects that are steps of this pipeline.

        Raises ConfigError when the id is taken, `component` is not a component, a setting is wrong, or `memory` is no amount.
        """
        if any(declared.id == id for declared in self._steps):
            raise ConfigError(f"steps.{id}: there are two steps of this name; rename one")
        kind = adapted(component if isinstance(component, type) else type(component))
        contract = read_contract(kind)
        settings, wires = self._read(id, kind, component, with_, inputs)
        inputs = wires | inputs
        wrong = [
            f"steps.{id}.inputs.{port}: expected an output of a step, found {wire!r}"
            for port, wire in inputs.items()
            if not isinstance(wire, Wire)
        ]
        if wrong:
            raise ConfigError(*wrong)
        try:
            amount = parse_memory(memory) if memory is not None else None
        except ConfigError as error:
            raise ConfigError(f"steps.{id}.memory: {error}") from error
        self._steps.append(
            Declared(
                id,
                dotted_path_of(kind),
                settings,
                contract,
                dict(inputs),
                cache,
                beam,
                amount,
            )
        )
        self._objects.append((component, id))
        return StepHandle(id, tuple(contract.outputs))

    def _read(
        self,
        step_id: str,
        kind: type[Any],
        component: Any,
        written: Mapping[str, Any] | None,
        wired: Mapping[str, Wire],
    ) -> tuple[dict[str, Any], dict[str, Wire]]:
        """The settings of a component, and the wires that it has already but to what is `wired` by hand. Raises ConfigError."""
        wires: dict[str, Wire] = {}
        try:
            if isinstance(component, type):
                return settings_of(build_component(kind, written or {})), wires
            if written is not None:
                raise ConfigError(
                    f"settings: belong to a class, and {kind.__name__}(...) is an object: give them to its constructor"
                )
            if isinstance(component, kind):
                return settings_of(component), wires
            settings, channels = kind.read_object(component)
            for port in channels.keys() - wired.keys():
                producer, output = channels[port]
                step = next((known for made, known in self._objects if made is producer), None)
                if step is None:
                    raise ConfigError(
                        f"{port}: comes from a {type(producer).__name__} that is no step of this pipeline. Add that before "
                        f"this one, or wire the input: .step('{step_id}', ..., {port}=earlier_step.{output})"
                    )
                wires[port] = Wire(step, output)
            return settings_of(build_component(kind, settings)), wires
        except ConfigError as error:
            raise ConfigError(*(f"steps.{step_id}.with.{problem}" for problem in error.problems)) from error

    def definition(self) -> Definition:
        """The wired definition. Raises ConfigError with every problem."""
        raw = {**self._options, "steps": {step.id: {"uses": step.component} for step in self._steps}}
        problems: list[str] = []
        config = check_shape(PipelineConfig, raw, lambda path: ".".join(map(str, path)), problems)
        if config is None:
            raise ConfigError(*problems)
        return Definition(
            graph=build_graph(config.name, config.seed, self._steps),
            root=Path(config.root),
            ledger=config.ledger,
            parallel=config.parallel,
            beam=self._beam,
            notify=config.notify,
            kubeflow=config.kubeflow,
        )
