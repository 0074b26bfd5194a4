"""What things are called in a package: a step's own names in Kubeflow's spelling, and the names that are taken."""

from __future__ import annotations

RUN = "penstock_run"
FROM = "penstock_from_"
RESERVED = "penstock_"  # beginning of the inputs that are ours
STATUS = "penstock_status"  # of the exit task: how everything before it ended

OUTCOME = "outcome"
EXECUTIONS = "executions"
BLESSED = "blessed"
SUMMARY = "summary"
METRICS = "metrics"
ROC = "roc"
OURS = (OUTCOME, EXECUTIONS, BLESSED, SUMMARY, METRICS, ROC)
"""Outputs of a task besides the component's own."""


def kebab(name: str) -> str:
    """The name of a step's task and component in the package: 'example_gen' is 'example-gen'."""
    return "-".join(part for part in name.split("_") if part)


def came_from(parent: str) -> str:
    """The input of a task by which a parent's executions come."""
    return FROM + parent
