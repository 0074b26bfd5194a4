"""What makes a network smaller while it is trained on: the settings of pruning, clustering and quantisation."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, get_type_hints

from schemas.errors import did_you_mean

CENTROIDS = ("kmeans_plus_plus", "linear", "random", "density_based")


@dataclass(frozen=True, kw_only=True)
class Pruning:
    """Weights of small magnitude become zero, more and more of them as `schedule` has it.

    `polynomial` rises from `initial_sparsity` at `begin_step` to `final_sparsity` at `end_step`; `constant` has
    `final_sparsity` from `begin_step` on. `end_step` left out is the last update within three quarters of the steps, so
    that the rest can mend what the last pruning broke.
    """

    steps: int  # batches of fine-tuning
    schedule: Literal["polynomial", "constant"] = "polynomial"
    initial_sparsity: float = 0.0  # 0 <= sparsity < 1, the fraction of zeros
    final_sparsity: float = 0.8
    begin_step: int = 0
    end_step: int | None = None
    frequency: int = 10  # steps from one update of what is zero to the next
    layers: tuple[str, ...] = ()  # none named: all that TFMOT can prune

    @property
    def last_update(self) -> int:
        """The last step at which the polynomial schedule says what is zero."""
        end = self.end_step if self.end_step is not None else self.steps * 3 // 4
        return self.begin_step + max(end - self.begin_step, 0) // self.frequency * self.frequency

    def problems(self) -> list[str]:
        """What is wrong, each beginning with the setting's name."""
        found = [f"steps: {self.steps} is not at least 1"] if self.steps < 1 else []
        for name in ("initial_sparsity", "final_sparsity"):
            if not 0 <= getattr(self, name) < 1:
                found.append(f"{name}: {getattr(self, name)} is no fraction of zeros: 0 <= {name} < 1")
        if self.begin_step < 0:
            found.append(f"begin_step: {self.begin_step} is below 0")
        if self.frequency < 1:
            found.append(f"frequency: {self.frequency} is not at least 1")
        if found:
            return found
        if self.schedule == "constant":
            first = self.begin_step or self.frequency
            if first > self.steps:
                found.append(f"frequency: the first update would be at step {first}, and there are {self.steps} steps")
            return found
        if self.end_step is not None and not self.begin_step < self.end_step <= self.steps:
            found.append(
                f"end_step: {self.end_step} is not between begin_step {self.begin_step} and steps {self.steps}"
            )
        elif self.end_step is not None and self.last_update != self.end_step:
            found.append(
                f"end_step: {self.end_step} is no update, so that final_sparsity would not be reached: updates are at "
                f"begin_step {self.begin_step} and every {self.frequency} steps after it. Set {self.last_update}"
            )
        elif self.last_update == self.begin_step:
            found.append(
                f"steps: {self.steps} are too few for an update every {self.frequency} steps from step {self.begin_step} "
                f"on within three quarters of them. Set more steps, or a lower frequency"
            )
        return found


@dataclass(frozen=True, kw_only=True)
class Clustering:
    """Every tensor of weights has at most `number_of_clusters` different values.

    Of a network that was pruned before, the zeros stay zero and count as one of the values.
    """

    steps: int  # batches of fine-tuning
    number_of_clusters: int = 16
    centroids: Literal["kmeans_plus_plus", "linear", "random", "density_based"] = "kmeans_plus_plus"  # where they begin
    layers: tuple[str, ...] = ()  # none named: all that TFMOT can cluster

    def problems(self) -> list[str]:
        """What is wrong, each beginning with the setting's name."""
        found = [f"steps: {self.steps} is not at least 1"] if self.steps < 1 else []
        if self.number_of_clusters < 3:  # TFMOT's own least where zeros are kept
            found.append(f"number_of_clusters: {self.number_of_clusters} is not at least 3")
        return found


@dataclass(frozen=True, kw_only=True)
class Quantization:
    """The network is trained as if its weights and activations had 8 bits, so that it loses little when they have.

    What pruning and clustering reached before is preserved. The weights stay 32-bit numbers in the SavedModel; Exporter's
    TFLite models are what gets four times smaller.
    """

    steps: int  # batches of fine-tuning
    layers: tuple[str, ...] = ()  # none named: all that TFMOT can quantise

    def problems(self) -> list[str]:
        """What is wrong, each beginning with the setting's name."""
        return [f"steps: {self.steps} is not at least 1"] if self.steps < 1 else []


Technique = TypeVar("Technique", Pruning, Clustering, Quantization)


def parse(kind: type[Technique], where: str, given: Mapping[str, Any]) -> tuple[Technique | None, list[str]]:
    """The technique with the settings `given` as JSON data, and what is wrong with them; `where` is the setting's name."""
    from pydantic import TypeAdapter, ValidationError

    hints = get_type_hints(kind)
    problems: list[str] = []
    values: dict[str, Any] = {}
    for name, value in given.items():
        if name not in hints:
            hint = did_you_mean(name, hints) or f" There are: {', '.join(hints)}"
            problems.append(f"{where}.{name}: no such setting.{hint}")
            continue
        try:
            values[name] = TypeAdapter(hints[name]).validate_json(json.dumps(value), strict=True)
        except ValidationError as error:
            said = error.errors(include_url=False)[0]["msg"]
            problems.append(f"{where}.{name}: {value!r} is not valid here: {said[:1].lower()}{said[1:]}")
    required = [field.name for field in dataclasses.fields(kind) if field.default is dataclasses.MISSING]
    problems += [f"{where}.{name}: missing, and it has no default" for name in required if name not in given]
    if problems:
        return None, problems
    technique = kind(**values)
    problems = [f"{where}.{problem}" for problem in technique.problems()]
    return (None if problems else technique), problems
