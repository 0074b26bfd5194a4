"""A runner and its arguments, checked before Beam starts: Beam itself only warns, or waits."""

from __future__ import annotations

import contextlib
import io
import socket
import sys
from typing import TYPE_CHECKING, Any

from schemas.component import BeamOptions
from schemas.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from apache_beam.options.pipeline_options import PipelineOptions

IN_MEMORY = "InMemoryRunner"
_ANSWER_S = 10.0  # how long a job service may take to accept a connection


def parsed(options: BeamOptions) -> PipelineOptions:
    """`options.args` as Beam reads them. Raises ConfigError for a value that an argument does not take."""
    from apache_beam.options.pipeline_options import PipelineOptions

    # TFDV's own transforms fail Beam's type check with a label feature. The flags are given, even when empty, because Beam
    # otherwise reads this process's command line.
    given = PipelineOptions(["--no_pipeline_type_check", *options.args])
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            given.get_all_options()
    except SystemExit as error:  # argparse's way; what it prints ends with what is wrong
        raise ConfigError(f"beam.args: {said.getvalue().strip().rpartition('error: ')[2]}") from error
    return given


def check(options: BeamOptions, given: PipelineOptions) -> None:
    """Raise ConfigError for an unknown runner, a misspelt argument, and a job service that does not answer."""
    problems = [*_runner_problems(options.runner), *_argument_problems(options, given)]
    if problems:
        raise ConfigError(*problems)
    every = given.get_all_options()
    runner = options.runner.lower().removesuffix("runner")
    if runner == "portable" and not every["job_endpoint"]:
        raise ConfigError("beam.args: PortableRunner needs --job_endpoint=HOST:PORT, where its job service listens")
    if runner in ("portable", "flink", "spark") and every["job_endpoint"] not in (None, "embed"):
        _reach("--job_endpoint", every["job_endpoint"])
    elif runner == "flink" and every["flink_master"] not in ("[auto]", "[local]"):
        _reach("--flink_master", every["flink_master"])


def unknown(given: PipelineOptions) -> list[str]:
    """The arguments that Beam's Python SDK does not know, as they are written. A runner's job service may know more."""
    known = given.get_all_options()
    return [f"--{name}" for name in given.get_all_options(retain_unknown_options=True) if name not in known]


def _runner_problems(runner: str) -> list[str]:
    from apache_beam.options.pipeline_options import StandardOptions

    known = (IN_MEMORY, *StandardOptions.KNOWN_RUNNER_NAMES)
    # Beam also takes 'flink' for FlinkRunner, and the dotted path of a runner class.
    if "." in runner or runner.lower().removesuffix("runner") in {
        name.lower().removesuffix("runner") for name in known
    }:
        return []
    return [f"beam.runner: Beam has no runner '{runner}'.{did_you_mean(runner, known)} It has {', '.join(known)}"]


def _argument_problems(options: BeamOptions, given: PipelineOptions) -> list[str]:
    problems = []
    if any(argument.partition("=")[0] == "--runner" for argument in options.args):
        problems.append("beam.args: --runner has a setting of its own: beam.runner")
    known = [f"--{name}" for name in given.get_all_options()]
    for argument in unknown(given):
        meant = did_you_mean(argument, known)
        if meant:
            problems.append(f"beam.args: Beam has no argument '{argument}'.{meant}")
        else:
            print(f"beam.args: {argument} is unknown to Beam here; a job service may know it", file=sys.stderr)
    return problems


def _reach(argument: str, address: Any) -> None:
    """Connect once: Beam waits five minutes for a job service that is not there."""
    host, colon, port = str(address).rpartition("//")[2].partition("/")[0].rpartition(":")
    if not colon or not port.isdigit():
        raise ConfigError(f"beam.args: {argument}={address} is not HOST:PORT")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_ANSWER_S).close()
    except OSError as error:
        raise ConfigError(
            f"beam.args: nothing answers at {argument}={address} ({error}). Start the service, or correct the address"
        ) from error
