"""How a command ends: what it says, as data or as text, on which stream, and its exit code."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import typer

from pipeline.cli.answer import Answer
from schemas.errors import ConfigError, Interrupted, PenstockError


def answer_of(command: Callable[[], Any]) -> Answer:
    """What the command says, or how it ended without saying anything."""
    stopped = Interrupted("stopped; what had finished is kept, and the next run goes on from there")
    try:
        answer = command()
        if isinstance(answer, Answer):
            return answer
        # Typer turns Ctrl-C into the exit code 130; other numbers come from its own --help and --version.
        return _refused(stopped) if answer == stopped.exit_code else Answer({"outcome": "done"}, None, answer or 0)
    except (KeyboardInterrupt, typer.Abort):
        return _refused(stopped)
    except PenstockError as error:
        return _refused(error)
    except BrokenPipeError:
        _drop_output()  # the reader (head, less) had enough
        return Answer({"outcome": "done"})
    except _WRONG_USAGE as error:
        error.show()
        return Answer(_error("UsageError", [error.format_message()]), None, ConfigError.exit_code)
    except Exception as error:  # noqa: BLE001 a mistake of ours; a script that reads --json must hear of it too
        traceback.print_exc()
        return _refused(
            PenstockError(f"{type(error).__name__}: {error}. This is a mistake in Penstock: please report it")
        )


def say(answer: Answer, as_json: bool) -> int:
    """Print it as data or as text, and give its exit code. What failed or was stopped is said on stderr, if not as data."""
    try:
        if as_json:
            print(json.dumps(answer.data, indent=1, default=str), flush=True)
        elif answer.text is not None:
            print(answer.text, file=sys.stderr if answer.exit_code in (1, 130) else sys.stdout, flush=True)
    except BrokenPipeError:
        _drop_output()
    return answer.exit_code


@contextlib.contextmanager
def stdout_kept_for_the_answer() -> Iterator[None]:
    """Send to stderr what engines and users' modules print, also from C++ and from processes started here."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        sys.stderr.flush()
        os.dup2(kept, 1)
        os.close(kept)


# Typer carries its own copy of click and names only its subclasses: this is click's ClickException.
_WRONG_USAGE: Any = next(cls for cls in typer.BadParameter.__mro__ if cls.__name__ == "ClickException")


def _refused(error: PenstockError) -> Answer:
    problems = error.problems if isinstance(error, ConfigError) else (str(error),)
    for problem in problems:
        typer.secho("error: ", fg="red", bold=True, nl=False, err=True)
        typer.echo(problem, err=True)
    return Answer(_error(type(error).__name__, problems), None, error.exit_code)


def _error(name: str, problems: Sequence[str]) -> dict[str, Any]:
    outcome = "interrupted" if name == Interrupted.__name__ else "error"
    return {"outcome": outcome, "error": name, "problems": list(problems)}


def _drop_output() -> None:
    """Let nothing more fail for want of a reader, the interpreter's own flush at exit included."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)
