"""Early stopping: a metric that does not get better any more ends the training."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from schemas.errors import ConfigError, did_you_mean

MORE_IS_BETTER = ("acc", "accuracy", "auc", "precision", "recall", "score")  # last words of metrics' names


@dataclass(frozen=True, kw_only=True)
class EarlyStopping:
    """When to stop, in the terms of Keras' EarlyStopping; a validation takes place after every epoch."""

    monitor: str = "val_loss"  # a compiled metric; on the eval split with `val_`, else on the epoch's batches
    patience: int = 3  # validations without an improvement, of which the last stops the training
    min_delta: float = 0.0  # an improvement is by more than this
    restore_best: bool = True  # the model is that of the best validation, else that of the last
    direction: str | None = None  # min or max; None: as the metric's name says, min where it says nothing

    @property
    def sign(self) -> int:
        """What to multiply the metric with so that less is better."""
        named = self.monitor.removeprefix("val_").split("_")[-1] in MORE_IS_BETTER
        return -1 if self.direction == "max" or (self.direction is None and named) else 1

    def value(self, metrics: Mapping[str, float]) -> float:
        """The monitored metric. Raises ConfigError, listing what there is, when the model has no such metric."""
        if self.monitor not in metrics:
            raise ConfigError(
                f"early_stopping.monitor: the model has no metric '{self.monitor}'.{did_you_mean(self.monitor, metrics)} "
                f"It has: {', '.join(sorted(metrics))}"
            )
        return metrics[self.monitor]


@dataclass
class Stopping:
    """What early stopping has seen so far; JSON data, kept in the checkpoint."""

    best: float | None = None
    best_step: int = 0
    waited: int = 0
    seen: int = 0
    stopped: bool = False

    def see(self, value: float, step: int, rule: EarlyStopping) -> bool:
        """Take note of a validation; gives whether it is the best so far. A value that is NaN is no improvement."""
        improved = not math.isnan(value) and (
            self.best is None or rule.sign * value < rule.sign * self.best - rule.min_delta
        )
        self.seen += 1
        if improved:
            self.best, self.best_step, self.waited = value, step, 0
        else:
            self.waited += 1
            self.stopped = self.waited >= rule.patience and self.seen > 1  # as in Keras, never at the first
        return improved


def problems_of_early_stopping(settings: Mapping[str, Any] | None) -> list[str]:
    """What is wrong with the setting `early_stopping`, in one sentence each."""
    if settings is None:
        return []
    known = [field.name for field in fields(EarlyStopping)]
    problems = [
        f"early_stopping.{name}: no such setting.{did_you_mean(name, known)} There are: {', '.join(known)}"
        for name in settings
        if name not in known
    ]
    given = EarlyStopping(**{name: value for name, value in settings.items() if name in known})
    if not isinstance(given.monitor, str) or not given.monitor:
        problems.append(f"early_stopping.monitor: {given.monitor!r} is no metric's name. Give one, such as val_loss")
    if type(given.patience) is not int or given.patience < 1:
        problems.append(f"early_stopping.patience: {given.patience!r} is not a number of epochs, at least 1")
    if type(given.min_delta) not in (int, float) or not 0 <= given.min_delta < math.inf:
        problems.append(f"early_stopping.min_delta: {given.min_delta!r} is not a number of at least 0")
    if type(given.restore_best) is not bool:
        problems.append(f"early_stopping.restore_best: {given.restore_best!r} is neither true nor false")
    if given.direction not in (None, "min", "max"):
        problems.append(f"early_stopping.direction: {given.direction!r} is neither min nor max")
    return problems
