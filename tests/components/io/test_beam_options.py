from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from components.io.beam_options import check, parsed, unknown
from schemas.component import BeamOptions
from schemas.errors import ConfigError


def checked(runner: str, *args: str) -> None:
    options = BeamOptions(runner, args)
    check(options, parsed(options))


@pytest.fixture
def listening() -> Iterator[str]:
    """The address of something that accepts connections."""
    with socket.create_server(("localhost", 0)) as server:
        yield f"localhost:{server.getsockname()[1]}"


@pytest.fixture
def silent() -> str:
    """An address where nothing listens."""
    with socket.create_server(("localhost", 0)) as server:
        return f"localhost:{server.getsockname()[1]}"


def test_a_runner_that_beam_does_not_know_is_refused() -> None:
    with pytest.raises(
        ConfigError, match="beam.runner: Beam has no runner 'DirectRuner'. Did you mean 'DirectRunner'?"
    ):
        checked("DirectRuner")


@pytest.mark.parametrize("runner", ["InMemoryRunner", "direct", "apache_beam.runners.direct.DirectRunner"])
def test_names_that_beam_takes_are_taken(runner: str) -> None:
    checked(runner)


def test_a_misspelt_argument_is_refused_with_the_right_one() -> None:
    with pytest.raises(ConfigError, match="no argument '--enviroment_type'. Did you mean '--environment_type'?"):
        checked("DirectRunner", "--enviroment_type=EXTERNAL")


def test_every_problem_is_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        checked("Flik", "--flink_mastr=x:1", "--runner=DirectRunner")

    assert len(caught.value.problems) == 3


def test_an_argument_unlike_any_is_passed_on_and_told(capfd: pytest.CaptureFixture[str]) -> None:
    checked("InMemoryRunner", "--xyzzy=1")

    assert "beam.args: --xyzzy is unknown to Beam here; a job service may know it" in capfd.readouterr().err


def test_a_value_of_the_wrong_type_is_refused() -> None:
    with pytest.raises(ConfigError, match="^beam.args: argument --direct_num_workers: invalid int value: 'two'$"):
        checked("DirectRunner", "--direct_num_workers=two")


def test_a_job_service_that_listens_is_taken(listening: str) -> None:
    checked("PortableRunner", f"--job_endpoint={listening}")


@pytest.mark.parametrize(
    ("runner", "argument"), [("PortableRunner", "--job_endpoint"), ("FlinkRunner", "--flink_master")]
)
def test_a_service_that_is_not_there_is_told_at_once(runner: str, argument: str, silent: str) -> None:
    with pytest.raises(ConfigError, match=f"beam.args: nothing answers at {argument}={silent} "):
        checked(runner, f"{argument}={silent}")


def test_an_address_without_a_port_is_refused() -> None:
    with pytest.raises(ConfigError, match="--job_endpoint=localhost is not HOST:PORT"):
        checked("PortableRunner", "--job_endpoint=localhost")


def test_the_portable_runner_needs_a_job_service() -> None:
    with pytest.raises(ConfigError, match="PortableRunner needs --job_endpoint=HOST:PORT"):
        checked("PortableRunner")


def test_arguments_that_beam_knows_are_not_unknown() -> None:
    assert unknown(parsed(BeamOptions("X", ("--job_endpoint=a:1", "--sdk_container_image=b", "--xyzzy=2")))) == [
        "--xyzzy"
    ]
