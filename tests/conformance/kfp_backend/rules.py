"""What breaks a rule, by the rule's name."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """One thing the backend refuses: the name of the function that is the rule, and what it found."""

    rule: str
    message: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.message}"


class Rejected(Exception):
    """The backend refuses the package, the run or what a task wrote."""

    def __init__(self, *problems: Problem) -> None:
        self.problems = problems
        super().__init__("\n".join(map(str, problems)))

    @property
    def rules(self) -> set[str]:
        """The names of the rules that were broken."""
        return {problem.rule for problem in self.problems}


def reject(rule: str, message: str) -> Rejected:
    """One broken rule, to be raised."""
    return Rejected(Problem(rule, message))
