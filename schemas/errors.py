"""Every error Penstock raises on purpose, as one tree.

    PenstockError
    ├── ConfigError          the definition or a setting is wrong; all problems at once        exit 2
    ├── DataError            an input file, row, column or feature is not usable               exit 1
    ├── ArtifactError        an artifact in the store is missing, corrupt or of another type   exit 1
    │   └── UnknownSplit     a split was named that the artifact does not have
    ├── StoreError           the root cannot be written, the disk is full                      exit 1
    ├── UserCodeError        the user's own function failed; its exception is the cause        exit 1
    ├── StepFailed           a step ended without its outputs: crashed, killed                 exit 1
    ├── KubeflowError        Kubeflow Pipelines' API refuses, or answers something else        exit 1
    │   └── Unreachable      it does not answer; it may later                                  exit 1
    ├── Interrupted          Ctrl-C or SIGTERM                                                 exit 130
    └── Refused              a gate said no; this is an outcome, not a failure                 exit 3
        ├── AnomaliesFound   ExampleValidator, on_anomaly: fail
        ├── DriftFound       ExampleValidator, on_drift: fail
        ├── NotBlessed       Pusher, a model that Evaluator did not bless
        ├── TooMuchLost      Optimizer, Exporter: a smaller model that misses a threshold
        └── NotNeeded        what comes after is not needed: the run is skipped              exit 0

A message says where, what was found and what to do. Errors cross processes by their message, so every class takes one and
nothing else that is required.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import ClassVar


class PenstockError(Exception):
    """Anything Penstock refuses or fails to do, with a message for the person at the terminal."""

    exit_code: ClassVar[int] = 1


class ConfigError(PenstockError):
    """A definition or a setting is wrong. `problems` holds one sentence for each independent mistake."""

    exit_code = 2

    def __init__(self, *problems: str) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(problems))


class DataError(PenstockError):
    """An input file, row, column or feature is not usable."""


class ArtifactError(PenstockError):
    """An artifact in the store is missing, corrupt or of another type than its reader expects."""


class UnknownSplit(ArtifactError):
    """A split was named that the artifact does not have."""


class StoreError(PenstockError):
    """The store's root cannot be read or written."""


class UserCodeError(PenstockError):
    """The user's own function failed. The message opens with the user's file, line and exception."""


class StepFailed(PenstockError):
    """A step ended without its outputs."""


class KubeflowError(PenstockError):
    """The API of Kubeflow Pipelines refuses, or something else answers in its place."""


class Unreachable(KubeflowError):
    """The API of Kubeflow Pipelines does not answer, or says that it cannot now. Asking again later may help."""


class Interrupted(PenstockError):
    """The run was stopped from outside; what had finished is kept."""

    exit_code = 130


class Refused(PenstockError):
    """A gate said no.

    `keep_outputs` is True when the step's outputs are complete and worth publishing (a validation report), so that an
    unchanged second run refuses again without repeating the work.
    """

    exit_code = 3
    keep_outputs: ClassVar[bool] = False


class AnomaliesFound(Refused):
    """The data does not fit the schema. The anomalies are kept."""

    keep_outputs = True


class DriftFound(Refused):
    """The data is further from what it was than the thresholds allow. The distances are kept."""

    keep_outputs = True


class NotBlessed(Refused):
    """The model was not blessed, so it is not pushed."""


class TooMuchLost(Refused):
    """A smaller form of a model lost too much, or is not small or quick enough. It is kept, with its figures."""

    keep_outputs = True


class NotNeeded(Refused):
    """Nothing asks for what comes after: no step begins any more, and the run is skipped. What the step found is kept."""

    exit_code = 0
    keep_outputs = True


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """' Did you mean 'x'?' when one of `known` is close to `name`, else an empty string."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f" Did you mean '{close[0]}'?" if close else ""
